"What a recipe may ask of a supernet besides: more networks a step, a rank loss, weights for each resolution."

from dataclasses import replace

import numpy as np
import pytest

from dans.cost.footprint import macs
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.files import canonical, keyed
from dans.house import DansError
from dans.net.alone import fine_tuned
from dans.net.elastic import calibrate as statistics_of
from dans.net.elastic import ops, subnet_logits, tensors
from dans.net.score import FineTuned, Scorer
from dans.net.state import State
from dans.net.step import Layout, as_rgb, pair_weights, trainer
from dans.net.supernet import Supernet
from dans.net.train import Recipe, batch_at
from dans.space import SearchSpace

SPACE = SearchSpace(resolutions=(16, 24), widths=(0.1, 0.2), max_depths=(1, 1, 0, 0, 0))
SHORT = Recipe(epochs=2, batch=32)
SPLIT = replace(SHORT, split_at=0.5, average=0.25, own_scale=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    source = wake_scenes(n_train=128, n_val=48, n_test=16, seed=1, native=48)
    return prepare(source, SPACE.resolutions, tmp_path_factory.mktemp("cache"))


def trained(prepared, recipe=SHORT, checkpoint=None, **kwargs):
    return Supernet(SPACE, 2).train(prepared, recipe, checkpoint, **(dict(check_images=0) | kwargs))


def same(a, b):
    assert set(a) == set(b)
    return all(np.array_equal(value, b[name]) for name, value in a.items())


# Which recipes there are


def test_what_came_later_is_silent_at_its_default_and_speaks_else():
    told = set(keyed(Recipe()))
    assert {"drawn", "rank", "split_at"}.isdisjoint(told) and {"networks", "deep"} <= told
    changes = dict(drawn=6), dict(rank=0.5), dict(split_at=0.5), dict(mirror=False)
    changed = [replace(Recipe(), **change) for change in changes]
    assert len({canonical(keyed(recipe)) for recipe in [Recipe(), *changed]}) == 5


def test_without_mirrors_the_same_crops_are_drawn_and_none_is_mirrored(prepared):
    (boxes, flips), (same_boxes, none) = (
        prepared.front.draw(np.random.default_rng(0), 64, 48, (0.6, 1.0), **how) for how in ({}, dict(mirror=False))
    )
    assert np.array_equal(boxes, same_boxes) and flips.any() and not none.any()

    def first(recipe):
        return batch_at(prepared, recipe, 0, lambda rng: [SPACE[0]])[0][0][1]

    usual, plain = first(SHORT), first(replace(SHORT, mirror=False))
    as_drawn = [np.array_equal(a, b) for a, b in zip(usual, plain)]
    mirrored = [np.allclose(a[:, ::-1].astype(int), b, atol=2) for a, b in zip(usual, plain)]
    assert any(as_drawn) and not all(as_drawn) and all(a or m for a, m in zip(as_drawn, mirrored))


@pytest.mark.parametrize(
    "bad",
    [
        dict(drawn=-1),
        dict(drawn=6, networks="drawn"),
        dict(rank=-1.0),
        dict(rank=float("nan")),
        dict(split_at=1.5),
        dict(split_at=-0.5),
    ],
)
def test_what_no_recipe_can_be(bad):
    with pytest.raises(DansError, match="drawn is from 0 on"):
        Recipe(**bad)


def test_more_networks_a_step():
    net, rng = Supernet(SPACE, 2), np.random.default_rng
    eight = net.draw(rng(3), Recipe(drawn=6))
    assert len(eight) == 8 and eight[:2] == [net.largest, net.smallest]
    assert eight[:4] == net.draw(rng(3)) and len(net.draw(rng(3), Recipe(drawn=0))) == 2
    small = net.draw(rng(3), Recipe(drawn=6), replace(SPACE, resolutions=(16,)))
    assert {s.data.resolution for s in small} == {16}
    fixed = net.draw(rng(3), Recipe(drawn=6, across=False))
    assert len(fixed) == 8 and len({s.data for s in fixed}) == 1


# The rank loss


def rank_loss(costs, losses):
    "As its formula says it."
    k = len(costs)
    pairs = [(a, b) for a in range(k) for b in range(k) if costs[a] > costs[b]]
    return sum(max(0.0, losses[a] - losses[b]) for a, b in pairs) / max(1, k - 1)


@pytest.mark.parametrize("seed", range(5))
def test_pair_weights_are_the_slope_of_the_rank_loss(seed):
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 9))
    costs, losses = rng.integers(1, 5, k), rng.normal(size=k)
    steps = 1e-6 * np.eye(k)
    slope = [(rank_loss(costs, losses + d) - rank_loss(costs, losses - d)) / 2e-6 for d in steps]
    np.testing.assert_allclose(pair_weights(costs, losses), slope, atol=1e-6)
    assert np.abs(pair_weights(costs, losses)).max() <= 1


def the_step(prepared, monkeypatch, **kwargs):
    "The networks of a step, the gradient that its update gets, and all gradients that were asked for."
    net, train, updates, asked = Supernet(SPACE, 2), trainer(Layout(SPACE.architectures[-1], 2)), [], []
    systems, labels = net.draw(np.random.default_rng(2), Recipe(drawn=4)), prepared.labels("train")[:16]
    networks = [(s, as_rgb(prepared.view("train", s.data, 16).images), 0) for s in systems]
    original = type(train).gradients

    def gradients(self, system, images, targets, deep, row=0, counts=None):
        found = original(self, system, images, targets, deep, row, counts)
        asked.append((system, deep, np.array(targets), float(found[0]), np.array(found[1]), np.array(found[2])))
        return found

    monkeypatch.setattr(type(train), "gradients", gradients)
    monkeypatch.setattr(type(train), "update", lambda self, gradient, *_: updates.append(np.array(gradient)))
    train.load(net.weights)
    first = train.step(networks, labels, 1e-3, **kwargs)
    assert first == asked[0][3]
    return systems, updates[0], asked


@pytest.mark.parametrize("distil", [True, False])
@pytest.mark.parametrize("deep", [0.0, 1.0])
def test_a_step_adds_the_gradient_of_the_rank_loss_at_own_endings(prepared, monkeypatch, deep, distil):
    systems, update, asked = the_step(prepared, monkeypatch, deep=deep, distil=distil, rank=0.5)
    compared = systems[distil:]
    assert len(asked) == (len(systems) + len(compared) if deep else len(systems))
    own = [a for a in asked if a[1] == 0][distil if not deep else 0 :]
    assert [a[0] for a in own] == compared
    assert all(np.array_equal(a[2], own[0][2]) for a in own)  # on the same targets
    targets = own[0][2]
    for _, _, _, loss, logits, _ in own:  # at the own ending only, or the number of heads would count
        chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert loss == pytest.approx(-(targets * np.log(chance)).sum(1).mean(), rel=1e-4)
    weights = pair_weights([macs(a[0], 2) for a in own], [a[3] for a in own])
    assert np.any(weights)
    plain = [a for a in asked if a[1] == deep]
    expected = sum(a[5] for a in plain) + 0.5 * sum(w * a[5] for w, a in zip(weights, own))
    np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)


def test_one_network_alone_is_compared_with_nobody():
    recipe = Recipe(rank=1.0)
    assert recipe.passed(["largest", "other"]) == ["largest", "other"]
    assert recipe.passed(["a", "b", "c"]) == ["a", "b", "c", "b", "c"]
    assert replace(recipe, deep=0.0).passed(["a", "b", "c"]) == ["a", "b", "c"]
    assert Recipe().passed(["a", "b", "c"]) == ["a", "b", "c"]


def test_the_rank_loss_grows_and_is_paid_for(prepared, monkeypatch):
    train, seen = trainer(Layout(SPACE.architectures[-1], 2)), []
    original = type(train).step

    def step(self, *args):
        seen.append(args[-1])
        return original(self, *args)

    monkeypatch.setattr(type(train), "step", step)
    plain, ranked = trained(prepared), trained(prepared, replace(SHORT, rank=2.0))
    assert seen == [0.0] * 8 + [2.0 * (t + 1) / 8 for t in range(8)]
    assert not same(plain.weights, ranked.weights)
    costs = [sum(epoch["cost_macs"] for epoch in net.state.history) for net in (plain, ranked)]
    assert costs[0] < costs[1] < 2 * costs[0]  # the largest is not compared: it teaches the others


# Weights for each resolution


@pytest.fixture(scope="module")
def split(prepared):
    return trained(prepared, SPLIT)


def test_a_split_training_has_a_trunk_and_parts_that_take_turns(prepared, split, tmp_path, monkeypatch):
    states, original = {}, State.save
    monkeypatch.setattr(State, "save", lambda self, path, about: states.setdefault((path.name, self.step), self))
    plain, parted = (trained(prepared, r, tmp_path / "a.npz") for r in (SHORT, replace(SHORT, split_at=0.5)))
    monkeypatch.setattr(State, "save", original)
    assert parted.state.step == 8 and parted.state.slots is None
    steps = {(e.get("part"), e["step"]) for e in parted.state.history}
    assert steps == {(None, 4), ("16px", 8), ("24px", 8)}  # 4 + 2 + 2 steps
    assert [e["epoch"] for e in plain.state.history] == [1, 2]
    for data in SPACE.data_configs:
        assert set(parted.weights_for(data)) == set(plain.weights)
        assert not same(parted.weights_for(data), plain.weights_for(data))
    by = {data.resolution: parted.weights_for(data)["stem/kernel"] for data in SPACE.data_configs}
    assert not np.array_equal(by[16], by[24])
    np.testing.assert_array_equal(states["a.npz", 4].weights["stem/kernel"], trunk_of(prepared)["stem/kernel"])


def trunk_of(prepared):
    "The weights of an unsplit training at half its steps."
    kept = {}

    def keep(epoch):
        if epoch["epoch"] == 1:
            kept.update(trainer(Layout(SPACE.architectures[-1], 2)).state()[0])

    trained(prepared, on_epoch=keep)
    return kept


@pytest.mark.parametrize("after", [1, 2, 3])  # checkpoints: the trunk, a part, the other
def test_a_split_training_goes_on_with_the_same_bits(prepared, split, tmp_path, monkeypatch, after):
    recipe, file, saves, original = SPLIT, tmp_path / "n.npz", [], State.save

    def save(self, path, settings):
        original(self, path, settings)
        saves.append(path.name)
        if len(saves) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(State, "save", save)
    with pytest.raises(KeyboardInterrupt):
        trained(prepared, recipe, file)
    assert saves == ["n.npz", "n-16px.npz", "n-24px.npz"][:after]
    again = trained(prepared, recipe, file)
    assert same(again.weights, split.weights) and again.state.history == split.state.history
    assert [path.name for path in tmp_path.iterdir()] == ["n.npz"]
    done = len(saves)
    assert same(trained(prepared, recipe, file).weights, split.weights) and len(saves) == done  # nothing is left to do
    assert same(Supernet.load(file).weights, split.weights)
    with pytest.raises(DansError, match="belongs to another training"):
        trained(prepared, replace(recipe, split_at=0.25), file)


def test_whoever_scores_or_extracts_gets_the_weights_of_the_resolution(prepared, split, tmp_path):
    systems = [SPACE[0], SPACE[-1]]
    split.save(tmp_path / "net.npz")
    again = Supernet.load(tmp_path / "net.npz")
    assert again.what == split.what
    outputs = Scorer(again, prepared, 64).outputs(systems)
    for system, found in zip(systems, outputs):
        part = {n.removeprefix(f"{system.data.resolution}px/"): v for n, v in split.weights.items()}
        train, val = (prepared.view(name, system.data, 64).images for name in ("train", "val"))
        row = SPACE.data_configs.index(system.data)
        own = tensors({n: v[row] if n.endswith(("gamma", "beta")) else v for n, v in part.items() if "px/" not in n})
        alone = ops.convert_to_numpy(subnet_logits(own, system, val, statistics_of(own, system, train)))
        np.testing.assert_allclose(found, alone, atol=1e-4)
        model = split.extract(system, train)
        np.testing.assert_allclose(model(val / np.float32(127.5) - 1, training=False), alone, atol=1e-4)
    tuned = fine_tuned(split, systems[0], prepared, Recipe(batch=32, rate=0.0), steps=1, fresh_head=False)
    assert same(tuned, {n: np.asarray(v) for n, v in split.weights_for(systems[0].data).items()})


def test_what_was_split_is_trained_to_its_end(prepared, split):
    with pytest.raises(DansError, match="split by resolution is trained to its end"):
        split.train(prepared, SHORT, check_images=0)


# Fine-tuning


def test_fine_tuning_may_keep_the_head(prepared):
    net, system, recipe = trained(prepared), SPACE[-1], Recipe(batch=32, rate=0.0)
    kept, fresh = (fine_tuned(net, system, prepared, recipe, 1, fresh_head=f) for f in (False, True))
    changed = {name for name in kept if not np.array_equal(kept[name], fresh[name])}
    assert changed == {f"head{system.arch.ending}/{part}" for part in ("kernel", "bias")}
    assert same(kept, dict(net.weights))


def test_fine_tuned_finalists_are_a_score(prepared, split, monkeypatch):
    systems, still = [SPACE[0], SPACE[-1]], Recipe(batch=32, rate=0.0)
    for metric in ("accuracy", "likelihood"):
        unmoved = FineTuned(split, prepared, still, steps=1, calibration=64, metric=metric)
        np.testing.assert_allclose(unmoved(systems), Scorer(split, prepared, 64, metric=metric)(systems), atol=1 / 48)
    score = FineTuned(split, prepared)
    assert score.what["tuning"]["steps"] == 4 == 128 // 32 and "metric" not in score.what
    assert score.what != FineTuned(split, prepared, steps=5).what != FineTuned(split, prepared, fresh_head=True).what
    assert score.cost(systems[0]) == (3 * 4 * 32 + 128 + 48) * macs(systems[0], 2)
    assert np.isnan(FineTuned(split, prepared, Recipe(batch=32, rate=1e30), calibration=64)(systems[:1]))
    with pytest.raises(DansError, match="not in the supernet's space"):
        score([replace(SPACE[0], arch=replace(SPACE[0].arch, width=0.5))])
