"What runs share is found again under keys that stay: those that kept rows and pieces have, whatever a run looks like."

from dataclasses import replace

import numpy as np
import pytest

from dans.choose.bandrank import by_maker
from dans.files import canonical, key_of, keyed
from dans.house import DansError
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.paper.experiment import Experiment, Sharing, Training
from dans.paper.scored import known_scores, scored, weights_of, write_scores
from dans.paper.study import Study, whole
from dans.space import SearchSpace

SPACE = SearchSpace((16, 24), ("mono",), (0.1,), (1, 1, 0, 0, 0))
RECIPE = Recipe(epochs=1, batch=16)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    (root / "paper.yml").write_text("items: {}")
    return Experiment.drawn(Study("smoke", root=root), SPACE, "wake_scenes", 48)


@pytest.fixture(scope="module")
def trained(experiment):
    return experiment.supernet(RECIPE)


def test_a_training_has_the_key_that_kept_rows_have(experiment):
    piece = Training(SPACE[0], RECIPE)
    what = dict(
        system=SPACE[0].to_dict(),
        data=experiment.prepared.key,
        recipe=keyed(RECIPE),
        largest=experiment.largest.to_dict(),
        asked="truth",
    )
    assert experiment.key("truth", piece) == key_of("standalone", what)
    assert experiment.key("way", piece) == key_of("standalone", dict(what, asked="alone"))
    weighted = experiment.training(piece, class_weights="balanced")
    assert canonical(weighted) != canonical(experiment.training(piece))
    assert "largest" not in experiment.training(piece, largest=False)


def test_trainings_are_judged_once(experiment):
    wanted, calls = [Training(system, RECIPE) for system in (SPACE[0], SPACE[-1])], []

    def judge(system, model, state):
        calls.append(system)
        return dict(loss=state.history[-1]["loss"])

    half = experiment.alone("truth", wanted, judge, share=(0, 2), check_images=0)
    assert [row is None for row in half.values()] == [False, True]
    with pytest.raises(DansError, match="1 of 2 trainings are missing"):
        whole(half, "training")
    found = experiment.alone("truth", wanted, judge, check_images=0)
    assert list(found) == wanted and calls == [piece.system for piece in wanted]
    assert experiment.alone("way", wanted, lambda *_: dict(other=1), check_images=0) != found
    known = {experiment.key("truth", wanted[0])[:16]: dict(loss=-1)}
    assert experiment.alone("truth", wanted, judge, known=known)[wanted[0]] == dict(loss=-1)
    with pytest.raises(DansError, match="'truht' is unknown"):
        experiment.alone("truht", wanted, judge)


def test_a_supernet_is_found_by_whoever_asks_for_the_same(experiment, trained):
    again = Experiment(experiment.study, SPACE, experiment.prepared).supernet(RECIPE)
    assert again.what == trained.what and again.history == trained.history
    what = dict(space=keyed(SPACE), data=experiment.prepared.key, recipe=keyed(RECIPE), classes=2)
    assert canonical(trained.what) == canonical(what)
    assert trained.cost_macs == sum(record["cost_macs"] for record in trained.history) > 0


def test_scores_and_subnets_are_those_of_their_systems(experiment, trained):
    scores = experiment.scores(trained, calibration=32, images=16)
    assert list(scores) == list(SPACE) and all(0 <= score <= 1 for score in scores.values())
    found = experiment.subnets("int8", trained, [SPACE[0]], lambda system: dict(system=str(system)))
    assert found == {SPACE[0]: dict(system=str(SPACE[0]))}
    answers = experiment.outputs([trained], [SPACE[0], SPACE[1]], 1000)
    assert [part.shape for part in answers] == [(2, 24, 2)]


def test_supernets_that_are_compared_leave_their_scores(experiment):
    wanted = [Sharing(RECIPE, SPACE, (SPACE[0],), 16, mode) for mode in ("", "shared")]

    def judge(piece, net):
        return dict(mode=piece.mode, systems=len(piece.systems))

    found = experiment.shared("maker", wanted, judge)
    assert [row["mode"] for row in found.values()] == ["", "shared"]
    assert experiment.shared("maker", wanted, None) == found


def test_scores_of_supernets_are_written_and_known_again(experiment):
    study, prepared = experiment.study, experiment.prepared
    parts = [SPACE.fix(data) for data in SPACE.data_configs]
    wanted = [Sharing(RECIPE, among, tuple(among), 0, "metrics") for among in (SPACE, *parts)]

    def judge(piece, net):
        return dict(scores=scored(net, piece.systems, prepared), cost_macs=9, tuning_macs=0, finals_macs=0), weights_of(
            net
        )

    def rows(found):
        for piece, row in found.items():
            whole = piece.among == SPACE
            about = dict(maker="shared" if whole else "per_config", supernet=100, epochs=1)
            about |= dict(net="all" if whole else str(piece.among.data_configs[0]), systems=piece.systems)
            yield about | row | dict(key=experiment.key_of_sharing("maker", piece)[:16])

    found = experiment.shared("maker", wanted, judge)
    kept = study.store.file("maker", experiment.sharing(wanted[0]), "supernet.npz")
    assert scored(Supernet.load(kept), list(SPACE), prepared) == found[wanted[0]]["scores"]
    write_scores(study, "some", list(rows({piece: found[piece] for piece in wanted[:2]})), list(SPACE))
    assert list(by_maker(study.rows("scores/some-auc"))) == ["shared"], "half of per_config is missing"
    write_scores(study, "some", list(rows(found)), list(SPACE))
    first = study.results("scores/some-auc").read_bytes()
    known = known_scores(study, "some")
    elsewhere = Experiment(Study("smoke", "other", study.root), SPACE, prepared)
    again = elsewhere.shared("maker", wanted, None, known=known)
    write_scores(study, "some", list(rows(again)), list(SPACE))
    assert study.results("scores/some-auc").read_bytes() == first
    assert list(by_maker(study.rows("scores/some-auc"))) == ["shared", "per_config"]


def test_drawn_systems_follow_their_seeds(experiment):
    assert experiment.spread(3, 0, 1) == experiment.spread(3, 0, 1) != experiment.spread(3, 0, 2)
    first = experiment.spread(2, 0)
    assert not set(first) & set(experiment.spread(3, 1, without=first))
    assert experiment.macs_of_a_step(RECIPE, SPACE.fix(SPACE.data_configs[0])) < experiment.macs_of_a_step(RECIPE)


def test_trainings_go_as_fleets_and_are_found_again(experiment):
    recipes = RECIPE, replace(RECIPE, seed=1)
    wanted, calls = [Training(system, recipe) for system in (SPACE[0], SPACE[1], SPACE[-1]) for recipe in recipes], []

    def judge(piece, fleet, outputs):
        calls.append((piece, len(fleet.members)))
        assert outputs.shape == (experiment.prepared.sizes["test"], 2) and np.isfinite(outputs).all()
        return dict(loss=fleet.members[piece.system].history[-1]["loss"]), {"outputs.bin": outputs.tobytes()}

    assert {piece.system.data.resolution for piece in wanted} == {16, 24}
    key = experiment.key("truth", wanted[0], largest=False)[:16]
    none = experiment.fleets("truth", wanted, judge, minutes=1e-9, known={key: dict(loss=-1)})
    assert list(none) == wanted and none[wanted[0]] == dict(loss=-1)  # known, and not trained
    assert list(none.values())[1:] == [None] * 5 and calls == []
    found = experiment.fleets("truth", wanted[:2], judge, check=None)
    assert [size for _, size in calls] == [1, 1]
    found |= experiment.fleets("truth", wanted, judge, size=2, check=None)
    assert [piece for piece, _ in calls] == [wanted[i] for i in (0, 1, 2, 3, 4, 5)] and None not in found.values()
    assert experiment.fleets("truth", wanted[::-1], None, minutes=1e-9) == found
    assert experiment.file("truth", wanted[2], "outputs.bin", largest=False).stat().st_size > 0


def test_a_fleet_that_was_trained_and_not_judged_is_judged_as_it_would_have_been(experiment):
    wanted, said = [Training(SPACE[0], replace(RECIPE, seed=seed)) for seed in (2, 3)], []

    def failing(piece, fleet, outputs):
        said.append(outputs)
        raise RuntimeError("a full disk")

    def judge(piece, fleet, outputs):
        said.append(outputs)
        return dict(test=float(outputs[0, 0]))

    with pytest.raises(RuntimeError, match="a full disk"):
        experiment.fleets("truth", wanted[:1], failing)
    experiment.fleets("truth", wanted[:1], judge)
    assert (said[0] == said[1]).all()
