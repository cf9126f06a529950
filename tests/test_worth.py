"Relaxed search beside all others: what its arm pays, what is kept of it, and when it is called worth it."

import numpy as np
import pandas as pd
import pytest

import dans.paper.relaxations as room
from dans.choose.arms import mean_training, tabled
from dans.choose.benchmark import invented_table, load_benchmark
from dans.choose.relaxed import Choices
from dans.choose.supernets import FINALISTS
from dans.choose.verdict import FORGIVEN, MARGIN
from dans.cost.limits import Limits
from dans.net.train import Recipe
from dans.paper.armed import RELAXED
from dans.paper.experiment import Experiment
from dans.paper.relaxations import Relaxing, longest, options_of, relaxations, relaxed_searches
from dans.paper.searched import passes_of
from dans.paper.study import Study
from dans.paper.worth import sentence, standing, with_relaxed

LIMIT = Limits(macs=400_000)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return load_benchmark(folder=invented_table(tmp_path_factory.mktemp("table"), images=20))


@pytest.fixture(scope="module")
def unit(table):
    return mean_training(tabled(table, LIMIT, table.score(passes=passes_of(table))))


def test_each_budget_takes_the_longest_that_leaves_enough_and_pays_for_all_of_it(table, unit):
    choices = Choices(table.space)
    row = dict(zip(options_of(choices), choices.log_probabilities))
    lengths = {4 * unit: row | dict(cost_macs=3.9 * unit), 15 * unit: row | dict(cost_macs=15.2 * unit)}
    rows = relaxed_searches(table, {LIMIT: [lengths]}).set_index("budget")
    assert rows.loc[5, "trainings"] == 0 and "take more" in rows.loc[5, "why"]
    assert (rows.loc[[10, 20, 40], "trainings"] == FINALISTS).all() and (rows["arm"] == RELAXED).all()
    assert (rows["cost_macs"] <= rows.index * unit).all() and rows["macs"].dropna().le(LIMIT.macs).all()
    assert rows.loc[10, "cost_macs"] - 3.9 * unit == pytest.approx(rows.loc[20, "cost_macs"] - 15.2 * unit)
    assert longest(lengths, 18 * unit, unit) == 15 * unit and longest(lengths, 6.9 * unit, unit) is None


def test_what_was_stopped_goes_on_and_what_is_in_a_file_is_not_trained_again(table, tmp_path, monkeypatch):
    (tmp_path / "paper.yml").touch()
    recipe = Recipe(epochs=2, batch=16, zero_last=True, own_scale=True, engine="loops")
    wanted = [Relaxing(recipe, LIMIT), Relaxing(recipe, Limits(macs=90_000))]
    experiment = Experiment.drawn(Study("smoke", "a", tmp_path), table.space, "wake_scenes", 64)
    whole, relax = relaxations(experiment, table, wanted), room.relax

    def stopped(*args):
        if args[2].limits[0].macs == 90_000:
            raise KeyboardInterrupt
        return relax(*args)

    other = Experiment(Study("smoke", "b", tmp_path), table.space, experiment.prepared)
    monkeypatch.setattr(room, "relax", stopped)
    with pytest.raises(KeyboardInterrupt):
        relaxations(other, table, wanted)
    assert len([*other.study.work.glob("partial/*")]) == 1, "the common beginning stays"
    known = {room.key_of_relaxing(other, wanted[1]): whole[wanted[1]]}
    again = relaxations(other, table, wanted, known=known)
    assert [{**row, "seconds": 0} for row in again.values()] == [{**row, "seconds": 0} for row in whole.values()]
    assert not [*other.study.work.glob("partial/*")]


def rows_at(regret):
    about = [("guided", 7.0, 1.0), ("24px-rgb", 7.0, 0.0), ("random", np.nan, 3.0), (RELAXED, np.nan, regret)]
    return pd.DataFrame(
        [
            dict(arm=arm, limit=limit, budget=20, supernet=net, resolution=24, accuracy=0.8 - by / 100, searches=2)
            | dict(cost_macs=1.0, seconds=1.0, trainings=1)
            for arm, net, by in about
            for limit in ("tight", "wide")
        ]
    )


BEST = pd.DataFrame(dict(limit=["tight", "wide"], accuracy=0.8))


@pytest.mark.parametrize(
    "ahead, word",
    [(100 * MARGIN, "worth it"), (0.4, "as good"), (-100 * FORGIVEN, "as good"), (-100 * FORGIVEN - 0.01, "not")],
)
def test_the_rule_knows_its_bounds_and_leaves_fixed_configurations_out(ahead, word):
    (found,) = standing(rows_at(1.0 - ahead), BEST).itertuples()
    assert (found.word, found.rival) == (word, "guided") and found.ahead == pytest.approx(ahead)


def test_who_has_chosen_nothing_is_not_worth_it_whatever_the_others_are():
    rows = rows_at(-9.0)
    nothing = rows["arm"] == RELAXED
    says = sentence("a table", rows.assign(resolution=rows["resolution"].where(~nothing)), BEST)
    assert "is not worth it at 20 (nothing is chosen by then)" in says
    some = nothing & (rows["limit"] == "tight")
    assert "within 50% of the limits" in sentence("a", rows.assign(resolution=rows["resolution"].where(~some)), BEST)


def test_figures_are_as_before_where_there_are_no_rows(tmp_path):
    (tmp_path / "paper.yml").touch()
    rows = rows_at(0.0)
    of = {"animals": dict(rows=rows[rows["arm"] != RELAXED].reset_index(drop=True), best=BEST)}
    pd.testing.assert_frame_equal(
        with_relaxed(Study("smoke", "out", tmp_path), of)["animals"]["rows"], of["animals"]["rows"]
    )
    assert "nothing can be said" in sentence("animals", **of["animals"])
