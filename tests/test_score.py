"Scoring: the tree against the list, and what scoring must never do."
import numpy as np
import pytest

from dans.data import prepare, wake_scenes
from dans.score import Scorer, branches, children, parent, score_subnets, tree_logits
from dans.elastic import calibrate, subnet_logits, tensors
from dans.space import Architecture, DansError, DataConfig, SearchSpace, System
from dans.supernet import Recipe, Supernet

SPACE = SearchSpace(resolutions=(16, 24), widths=(0.1, 0.2))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(wake_scenes(n_train=128, n_val=96, n_test=32, seed=1, native=48), SPACE.resolutions,
                   tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def net(prepared):
    return Supernet(SPACE).train(prepared, Recipe(epochs=1, batch=64), check_images=0)


def test_the_tree_holds_every_depth_tuple_once():
    wanted = set(SPACE.depths)
    assert branches(wanted) == wanted
    reached, frontier = set(), [(0,) * 5]
    while frontier:
        depths = frontier.pop()
        assert depths not in reached
        reached.add(depths)
        frontier += children(depths, wanted)
    assert reached == wanted
    assert all(sum(d) - 1 == sum(parent(d)) for d in wanted if any(d))


@pytest.mark.parametrize("color", ["rgb", "mono"])
def test_tree_equals_list(net, prepared, color):
    data = DataConfig(24, color)
    wanted = {(0, 0, 0, 0, 0), (1, 2, 0, 0, 0), (3, 4, 1, 0, 0), (2, 1, 1, 1, 1), (3, 4, 3, 3, 1)}
    calibration, val = prepared.view("train", data).images, prepared.view("val", data).images
    found = tree_logits(net, data, 0.2, wanted, calibration, val, chunk=40)
    weights = tensors(net.weights)
    for depths in wanted:
        system = System(data, Architecture(depths, 0.2))
        alone = subnet_logits(weights, system, val, calibrate(weights, system, calibration))
        np.testing.assert_allclose(found[depths], alone, atol=1e-4)
        assert (found[depths].argmax(-1) == np.argmax(alone, -1)).all()


def test_scores_do_not_depend_on_order_or_company(net, prepared):
    rng = np.random.default_rng(0)
    systems = [SPACE.sample(rng) for _ in range(12)]
    before = {k: v.copy() for k, v in net.weights.items()}
    scores = score_subnets(net, systems, prepared, calibration=64, chunk=32)
    assert len(set(scores.tolist())) > 1
    order = rng.permutation(12)
    np.testing.assert_array_equal(score_subnets(net, [systems[i] for i in order], prepared, 64, chunk=32), scores[order])
    for i in (0, 5):
        assert score_subnets(net, [systems[i]], prepared, 64, chunk=32)[0] == scores[i]
    for name, value in before.items():
        np.testing.assert_array_equal(net.weights[name], value)


def test_only_validation_images_score_and_only_training_images_calibrate(net, prepared, monkeypatch):
    asked = []
    view = type(prepared).view
    monkeypatch.setattr(type(prepared), "view", lambda self, split, data, n=None: asked.append(split) or view(self, split, data, n))
    score_subnets(net, [SPACE[0]], prepared, calibration=64)
    assert set(asked) == {"train", "val"}


def test_scorer_is_what_a_search_takes(net, prepared):
    scorer = Scorer(net, prepared, calibration=64, images=32)
    systems = [SPACE[0], SPACE[-1]]
    assert scorer(systems).shape == (2,)
    assert scorer.cost(SPACE[-1]) > scorer.cost(SPACE[0]) > 0


def test_a_system_outside_the_space_is_refused(net, prepared):
    with pytest.raises(DansError, match="not in the supernet's space"):
        score_subnets(net, [System(DataConfig(32, "rgb"), Architecture((0,) * 5, 0.1))], prepared)
