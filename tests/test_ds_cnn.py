"DS-CNN, by what the protocol of families offers: cost to the byte, training, a tree of scores, and models cut out."

from dataclasses import dataclass, replace

import numpy as np
import pytest

from dans.board.quantise import quantise
from dans.board.runtime import arena
from dans.cost.footprint import footprint, macs
from dans.cost.memory import operators, records_of
from dans.cost.tflite import footprint_of, read
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.ds_cnn import DSCNN
from dans.frontends import ImageConfig, scaled
from dans.net.elastic import calibrate, keras_model, subnet_logits, tensors
from dans.net.score import subnet_outputs
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.space import Space, System


@dataclass(frozen=True, order=True)
class Map(ImageConfig):
    "A map of 49 rows and 10 columns, as MLPerf Tiny's network sees."

    @property
    def shape(self):
        return 49, 10, 1


@dataclass(frozen=True)
class Chains(Space):
    "Images, seen by DS-CNN."

    family = DSCNN

    resolutions: tuple = (16, 24)
    colors: tuple = ("rgb", "mono")
    widths: tuple = (0.1, 0.2)
    max_depths: tuple = (2,)


@pytest.mark.parametrize("arch", [DSCNN((3,), 1.0), DSCNN((0,), 0.3)], ids=str)
@pytest.mark.parametrize("data", [Map(16, "mono"), ImageConfig(24)], ids=["49x10", "24px"])
def test_what_it_costs_is_what_its_file_has(arch, data):
    system = System(data, arch)
    rng = np.random.default_rng(0)
    images, model = rng.integers(0, 256, (8, *data.shape), dtype=np.uint8), keras_model(system, 12)
    model.set_weights([w + rng.uniform(0.01, 0.3, w.shape) for w in model.get_weights()])  # equal ones share a tensor
    tflite = quantise(model, images)
    file, found = footprint_of(tflite), footprint(system, 12)
    ours, theirs = operators(system, 12), read(tflite).ops
    assert [(op.kind, op.nbytes, op.macs, op.kernel) for op in ours] == [
        (op.kind, op.nbytes, op.macs, op.kernel) for op in theirs
    ]
    assert (found.ram_bytes, found.macs) == (file.ram_bytes, file.macs) and macs(system, 12) == file.macs
    assert records_of(ours, 64).tail == footprint_of(tflite, bits=64).tail_bytes == arena(tflite).tail
    assert 0.9 < found.flash_bytes / len(tflite) < 1.15


def test_the_small_one_of_the_paper():
    system = System(Map(16, "mono"), DSCNN((3,), 1.0))
    places, blocks = 25 * 5, 4
    assert macs(system, 12) == places * (40 * 64 + blocks * (9 * 64 + 64 * 64)) + 64 * 12


def test_a_supernet_of_it_learns_is_scored_as_a_tree_and_cut_out(tmp_path):
    prepared, space = prepare(wake_scenes(64, 24, 8, native=32), [16, 24], tmp_path), Chains()
    recipe = Recipe(epochs=1, batch=16, zero_last=True, own_scale=True)
    net = Supernet(space, 2).train(prepared, recipe, check_images=0)
    assert len(space) == 2 * 2 * 2 * 3 and net.state.step == 4
    systems = [s for s in space if s.data == ImageConfig(24, "mono")]
    for system, seen in zip(systems, subnet_outputs(net, systems, prepared, calibration=32, chunk=20)):
        train, val = (prepared.view(split, system.data).images for split in ("train", "val"))
        weights = tensors(net.weights_for(system.data))
        np.testing.assert_allclose(
            seen, subnet_logits(weights, system, val, calibrate(weights, system, train[:32])), atol=1e-4
        )
        model = net.extract(system, train[:32])
        np.testing.assert_allclose(model(scaled(val), training=False), seen, atol=1e-4)
    assert replace(systems[0].arch, depths=(8,)).depths == (8,)
