"Relaxed search: it goes on where it was stopped, keeps what it is told to keep, and refuses what cannot be."

from dataclasses import replace

import numpy as np
import pytest

import dans.choose.relaxed as room
from dans.choose.relaxed import Choices, Relaxation, beginning, excess, most_probable, relax, relaxed_search
from dans.choose.task import Budget, Plain, Task
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.house import DansError
from dans.net.supernet import Supernet
from dans.net.train import Recipe, Records
from dans.space import SearchSpace

SPACE = SearchSpace((16, 24), widths=(0.1, 0.2), max_depths=(1, 1, 0, 0, 0))
TASK = Task(SPACE, Plain(lambda systems: [s.arch.width for s in systems], lambda s: 1.0), Limits(macs=30_000), 2)
SHORT = Recipe(epochs=3, batch=16, zero_last=True, own_scale=True, engine="loops")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(wake_scenes(64, 24, 8, native=32), SPACE.resolutions, tmp_path_factory.mktemp("relaxed"))


def stop_at_second(seen):
    seen.append(1)
    if len(seen) == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("engine", ["loops", "keras"])
def test_a_stopped_search_goes_on_with_the_same_bits(prepared, tmp_path, monkeypatch, engine):
    recipe = replace(SHORT, engine=engine)
    whole, cost = relax(Supernet(SPACE, 2), prepared, TASK, recipe)
    file, seen = tmp_path / "search.npz", []
    monkeypatch.setattr(room, "Records", lambda file: Records(file, on_epoch=lambda record: stop_at_second(seen)))
    with pytest.raises(KeyboardInterrupt):
        relax(Supernet(SPACE, 2), prepared, TASK, recipe, checkpoint=file)
    monkeypatch.undo()
    again, paid = relax(Supernet(SPACE, 2), prepared, TASK, recipe, checkpoint=file)
    assert len(seen) == 2 and (again.logits == whole.logits).all() and whole.logits.any() and paid == cost


def test_what_is_proposed_is_within_the_limits_and_paid_for(prepared):
    log = relaxed_search(Supernet(SPACE, 2), prepared, TASK, Budget(cost_macs=1e12), SHORT, finalists=3)
    assert len(log) == 3 and (log["macs"] <= 30_000).all() and set(log["operator"]) == {"relaxed"}
    spent = log["cost_macs"] - np.arange(1, 4)
    assert spent.nunique() == 1 and spent.iloc[0] > 12 * 16 * 5 * 3 * 10_000  # steps, images, networks, passes, MACs
    with pytest.raises(DansError, match="budget is spent before"):
        relaxed_search(Supernet(SPACE, 2), prepared, TASK, Budget(cost_macs=1e6), SHORT)


def test_pressure_alone_leads_within_the_limits():
    choices, above = Choices(SPACE), excess(TASK)
    assert ((above == 0) == [TASK.admits(s) for s in SPACE]).all()
    for _ in range(300):
        choices.logits -= choices.slope_of_mean(above)
    assert choices.of_systems[above == 0].sum() > 0.95
    assert len(most_probable(choices, TASK, 1000)) == (above == 0).sum()


@pytest.mark.parametrize(
    "change, says",
    [(dict(drawn=1), "draw 2 or more"), (dict(rate=0), "rate above 0"), (dict(begin=1), "is not possible")],
)
def test_what_is_not_possible_is_said(change, says):
    with pytest.raises(DansError, match=says):
        Relaxation(**change)


def test_a_supernet_of_another_space_is_refused(prepared):
    with pytest.raises(DansError, match="of another space"):
        relax(Supernet(SearchSpace(16), 2), prepared, TASK, SHORT)


def test_searches_within_several_limits_share_their_beginning(prepared, tmp_path):
    relaxation, file = Relaxation(begin=0.5), tmp_path / "beginning.npz"
    wide = replace(TASK, limits=Limits(macs=60_000))
    for task in (TASK, wide):
        start = beginning(Supernet(SPACE, 2), prepared, SHORT, relaxation, file)
        assert start.step == 6 and not start.slots[-3].any()
        shared = relax(Supernet(SPACE, 2), prepared, task, SHORT, relaxation, start=start)
        alone = relax(Supernet(SPACE, 2), prepared, task, SHORT, relaxation)
        assert (shared[0].logits == alone[0].logits).all() and shared[1] == alone[1] and shared[0].logits.any()
