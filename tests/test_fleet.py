"A system ends with the same bits in any fleet, on any number of threads, stopped or not; who diverges stops alone."

from dataclasses import replace

import numpy as np
import pytest
from make_data import refused
from numpy.testing import assert_allclose

from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import Diverged
from dans.net.elastic import initial_weights
from dans.net.fleet import Fleet
from dans.net.fused import Fused, columns
from dans.net.train import Recipe, batch_at
from dans.space import System

DATA = ImageConfig(16, "mono")
SYSTEMS = [
    System(DATA, Architecture(d, w)) for d, w in (((0,) * 5, 0.1), ((1, 1, 0, 0, 0), 0.1), ((2, 0, 0, 0, 0), 0.2))
]
RECIPE = Recipe(epochs=3, batch=16, average=0.4, decay=0.01)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(wake_scenes(70, 24, 20, native=32, far=0.0), [16], tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def together(prepared):
    return Fleet(SYSTEMS, prepared, RECIPE, threads=3).train()


def same(fleet, other, system):
    "Are weights, statistics, what is said and the history (without seconds) of a system the same bits?"
    a, b = fleet.members[system], other.members[system]
    assert (a.net.vector == b.net.vector).all() and a.step == b.step
    assert all((a.net.moments[name] == b.net.moments[name]).all() for name in a.net.moments)
    assert (fleet.outputs("test")[system] == other.outputs("test")[system]).all()
    for one, two in zip(a.history, b.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in two.items() if k != "seconds"}


def test_a_fleet_takes_the_steps_that_are_told(prepared, together):
    member, steps = together.members[SYSTEMS[1]], RECIPE.steps(70)
    net, mean = Fused(SYSTEMS[1], 2, 16), []
    net.load(initial_weights(SYSTEMS[1].arch, 2, RECIPE.seed))
    for t in range(steps):
        [(_, images)], labels = batch_at(prepared, RECIPE, t, lambda rng: [SYSTEMS[1]])
        net.step(columns(images[..., :1]), labels, RECIPE.rate_at(t, steps), RECIPE.deep, RECIPE.decay)
        mean += [net.vector.copy()] if t >= steps - round(RECIPE.average * steps) else []
    assert member.step == steps == 12 and [record["step"] for record in member.history] == [4, 8, 12]
    assert_allclose(member.net.vector, np.mean(mean, 0), rtol=1e-4, atol=1e-6)
    assert all(record["seconds"] > 0 and 0 <= record["val"] <= 1 for record in member.history)


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_depend_neither_on_threads_nor_on_neighbours(prepared, together, threads):
    for some in (SYSTEMS[1:], SYSTEMS[:1], [SYSTEMS[2], SYSTEMS[0]])[:: 1 if threads == 1 else 2]:
        fleet = Fleet(some, prepared, RECIPE, threads=threads).train()
        for system in some:
            same(fleet, together, system)


class Stop(Exception):
    pass


def test_a_stopped_fleet_goes_on_with_the_same_bits(prepared, together, tmp_path):
    files = {system: tmp_path / f"{system}.npz" for system in SYSTEMS}

    def failing(labels, outputs, calls=[]):  # noqa: B006
        calls.append(1)
        if len(calls) == 5:  # while the second record of the second system is made: the first one is a record ahead
            raise Stop
        return dict(val=float((outputs.argmax(-1) == labels).mean()))

    with pytest.raises(Stop):
        Fleet(SYSTEMS, prepared, RECIPE, files.get, threads=2).train(failing)
    on = Fleet(SYSTEMS[::-1], prepared, RECIPE, files.get, threads=2)
    assert sorted(member.step for member in on.members.values()) == [4, 4, 8]
    on.train()
    again = Fleet(SYSTEMS, prepared, RECIPE, files.get).train()  # nothing is left to train
    for system in SYSTEMS:
        same(on, together, system)
        same(again, together, system)
    refused(
        lambda: Fleet(SYSTEMS, prepared, replace(RECIPE, rate=1e-3), files.get), "belongs to another training", "recipe"
    )


@pytest.mark.parametrize("name", ["stem/kernel", "stage2_block0_depthwise/kernel", "head2/kernel"])
def test_one_that_diverges_stops_alone(prepared, together, name):
    fleet = Fleet(SYSTEMS, prepared, RECIPE, threads=2)
    net = fleet.members[SYSTEMS[0]].net
    weights, slots = net.state()
    weights[name][:] = np.nan
    net.load(weights, slots)
    fleet.train()
    assert fleet.members[SYSTEMS[0]].step == 1 and list(fleet.outputs("val")) == sorted(SYSTEMS[1:])
    with pytest.raises(Diverged, match="at step 0"):
        fleet.model(SYSTEMS[0])
    for system in SYSTEMS[1:]:
        same(fleet, together, system)


def test_weights_that_are_no_numbers_after_the_last_loss_are_seen(prepared):
    fleet = Fleet(SYSTEMS[:1], prepared, RECIPE)
    net = fleet.members[SYSTEMS[0]].net
    step = net.step

    def spoilt(*args):
        loss = step(*args)
        net.vector[-1] = np.nan if net.steps == 12 else net.vector[-1]
        return loss

    net.step = spoilt
    assert "after step 11" in str(fleet.train().members[SYSTEMS[0]].error)


def test_a_rate_without_measure_diverges(prepared):
    fleet = Fleet(SYSTEMS, prepared, Recipe(epochs=3, batch=16, rate=1e30)).train()
    assert all(isinstance(member.error, Diverged) for member in fleet.members.values())
    assert fleet.outputs("test") == {}


def test_what_is_no_fleet_is_refused(prepared):
    other = System(ImageConfig(16, "rgb"), SYSTEMS[0].arch)
    refused(lambda: Fleet([SYSTEMS[0], other], prepared), "2 systems", "2 inputs", "one data configuration")
    refused(lambda: Fleet([SYSTEMS[0]] * 2, prepared), "1 of them different")
    refused(lambda: Fleet([], prepared), "0 systems")
    refused(lambda: Fleet(SYSTEMS, prepared, Recipe(precision="bfloat16")), "precision bfloat16", "float32")
    refused(lambda: Fleet(SYSTEMS, prepared, Recipe(batch=71)), "batches of 71 images", "at most 70")
