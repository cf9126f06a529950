"Networks that share weights take the steps of `Trainer` without a framework (room 43c)."

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.net.alone import fine_tuned, inherited, train_alone
from dans.net.elastic import Calibrated, initial_weights
from dans.net.fleet import Fleet
from dans.net.fused import Fused, columns
from dans.net.step import Layout, as_rgb, trainer
from dans.net.supernet import Supernet, shared_recipe
from dans.net.train import Recipe
from dans.net.turns import Seat, TurnTrainer, slices, trainer_by
from dans.space import SearchSpace, System

LARGEST = Architecture((2, 1, 1, 0, 0), 0.3)
LAYOUT = Layout(LARGEST, 3, scales=4)
SPACE = SearchSpace((16, 24), ("mono", "rgb"), (0.1, 0.3), (2, 1, 1, 0, 0))


@pytest.fixture(scope="module")
def networks():
    rng = np.random.default_rng(0)
    seen = {r: rng.integers(0, 256, (16, r, r, 3), dtype=np.uint8) for r in (16, 24)}
    mono = as_rgb(seen[16][..., :1])
    return [
        (System(ImageConfig(24, "rgb"), LARGEST), seen[24], 3),
        (System(ImageConfig(16, "mono"), Architecture((0,) * 5, 0.1)), mono, 0),
        (System(ImageConfig(24, "rgb"), Architecture((1, 1, 0, 0, 0), 0.2)), seen[24], 3),
        (System(ImageConfig(16, "mono"), Architecture((1, 0, 0, 0, 0), 0.3)), mono, 0),
    ]


LABELS = np.arange(16) % 3
STEPS = {
    "plain": dict(),
    "taught": dict(deep=1.0, distil=True),
    "counted": dict(deep=0.5, distil=True, counts=np.linspace(0.5, 2, 16).astype(np.float32)),
    "ranked": dict(deep=0.5, rank=0.7),
    "ranked and taught": dict(deep=0.0, distil=True, rank=0.7),
    "decayed": dict(decay=0.1),
}


@pytest.mark.parametrize("options", STEPS.values(), ids=STEPS)
def test_a_step_is_that_of_keras(networks, options):
    start = initial_weights(LARGEST, 3, 1)
    keras, loops = trainer(LAYOUT), TurnTrainer(LAYOUT)
    found = []
    for engine in (keras, loops):
        engine.load(start)
        found.append(engine.step(networks, LABELS, 1e-3, **options))
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    other, own = np.asarray(keras.optimizer.variables[2]).ravel(), loops.first
    assert np.linalg.norm(own - other) < 2e-3 * np.linalg.norm(other)  # Adam's mean of gradients after one step


def test_a_turn_is_a_network_of_its_own(networks):
    system, images, row = networks[2]
    engine = TurnTrainer(LAYOUT, threads=1)
    engine.load(initial_weights(LARGEST, 3, 1))
    net = Fused(system, 3, 16)
    net.vector[:] = np.concatenate([part.ravel() for part in slices(engine.weights, net, row)])
    loss = engine.step([networks[2]], LABELS, 1e-3, deep=0.5)
    assert net.step(columns(images), LABELS, 1e-3, deep=0.5) == loss
    parts = slices(engine.gradients, net, row)
    assert np.array_equal(np.concatenate([part.ravel() for part in parts]), net.gradient)
    for part in parts:
        part[:] = 0
    assert not engine.gradient.any()  # nothing outside the network


def test_bits_depend_neither_on_threads_nor_on_earlier_steps(networks):
    found = []
    for threads, before in ((1, []), (2, networks[::-1]), (3, networks[:2])):
        engine = TurnTrainer(LAYOUT, threads)
        engine.load(initial_weights(LARGEST, 3, 1))
        if before:
            engine.step(before, LABELS, 1e-3, deep=1.0)
        engine.load(initial_weights(LARGEST, 3, 1))
        for t in range(2):
            engine.step(networks[t:] + networks[:t], LABELS, 1e-2, deep=1.0, distil=True, rank=1.0)
        found.append(engine.vector.copy())
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


def test_networks_of_a_seat_share_its_memory(networks):
    seat = Seat(networks[0][0], 3, 16)
    large, small = (seat.network(system) for system, *_ in networks[:2])
    for array in (*large.features, large.vector, *small.dfeatures, small.gradient):
        assert np.shares_memory(array, seat.memory.place)
    assert seat.network(networks[0][0]) is large
    assert all(not frame[0].any() for frame in seat.memory.frames.values())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    images = wake_scenes(n_train=128, n_val=32, n_test=8, native=24)
    return prepare(images, (16, 24), tmp_path_factory.mktemp("prepared"))


def test_a_supernet_trains_stops_and_goes_on_by_loops(prepared, tmp_path):
    recipe = replace(shared_recipe(128, epochs=2), engine="loops")
    whole = Supernet(SPACE, 2).train(prepared, recipe, check_images=16)
    file = tmp_path / "half.npz"

    class Stop(Exception):
        pass

    def stop(record):
        if record["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        Supernet(SPACE, 2).train(prepared, recipe, file, check_images=16, on_epoch=stop)
    again = Supernet(SPACE, 2).train(prepared, recipe, file, check_images=16)
    assert again.what == whole.what
    other = Supernet(SPACE, 2).train(prepared, replace(recipe, engine="keras"), check_images=0)
    for name, value in other.weights.items():
        assert_allclose(whole.weights[name], value, atol=0.05)


def test_one_system_alone_by_loops(prepared):
    recipe = Recipe(epochs=1, batch=32, engine="loops", deep=0.5)
    system = System(ImageConfig(16, "rgb"), Architecture((1, 0, 0, 0, 0), 0.2))
    _, state = train_alone(system, prepared, recipe, check_images=0)
    _, other = train_alone(system, prepared, replace(recipe, engine="keras"), check_images=0)
    assert state.history[-1]["loss"] == pytest.approx(other.history[-1]["loss"], rel=1e-3)


def test_what_loops_cannot_do_is_refused():
    for wrong in (dict(engine="torch"), dict(engine="loops", precision="bfloat16")):
        with pytest.raises(DansError, match="engine"):
            Recipe(**wrong)
    engine = trainer_by("loops", LAYOUT)
    with pytest.raises(DansError, match="another engine"):
        engine.load(initial_weights(LARGEST, 3, 1), trainer(LAYOUT).state()[1])


def test_a_fleet_goes_on_from_a_supernet(prepared):
    net = Supernet(SPACE, 2).train(prepared, replace(shared_recipe(128, epochs=1), engine="loops"), check_images=0)
    systems = [
        System(ImageConfig(16, "mono"), Architecture(d, w)) for d, w in (((2, 1, 0, 0, 0), 0.1), ((0,) * 5, 0.3))
    ]
    recipe = Recipe(epochs=0.5, batch=32, rate=1e-3, deep=0.0, seed=3)
    fleet = Fleet(systems, prepared, recipe, start=lambda system: inherited(net, system, fresh_head=3)).train(None)
    for system in systems:
        own, other = fleet.members[system].net.state()[0], fine_tuned(net, system, prepared, recipe, steps=2)
        for name, value in own.items():
            assert_allclose(value, other[name][tuple(slice(n) for n in value.shape)], atol=2e-4)
        found = fleet.statistics(system)
        shifted = Calibrated({name: (mean + 1, variance) for name, (mean, variance) in found.found.items()})
        before = fleet.outputs("val")[system]
        fleet.normalise_by(system, shifted)
        assert not np.array_equal(fleet.outputs("val")[system], before)
        fleet.normalise_by(system, found)
        assert np.array_equal(fleet.outputs("val")[system], before)


def test_a_fleet_does_not_go_on_from_other_weights(prepared, tmp_path):
    system, file = System(ImageConfig(16, "mono"), Architecture((0,) * 5, 0.1)), tmp_path / "one.npz"
    recipe = Recipe(epochs=0.5, batch=32, deep=0.0)
    first, other = (initial_weights(system.arch, 2, seed) for seed in (1, 2))
    for _ in range(2):  # the second one is done already
        Fleet([system], prepared, recipe, lambda system: file, start=lambda system: first).train(None)
    with pytest.raises(DansError, match="belongs to another training"):
        Fleet([system], prepared, recipe, lambda system: file, start=lambda system: other)
