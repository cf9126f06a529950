"A second front end and a second family, by what the protocols offer: nothing of ours is changed for them."

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image

from dans.board.deploy import Deployed
from dans.board.export import export
from dans.board.quantise import quantise
from dans.cost.footprint import footprint, macs
from dans.cost.memory import operators
from dans.cost.prefixes import list_macs, tree_macs
from dans.cost.tflite import footprint_of, read
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture, Block, Family, Network, network, round_channels
from dans.frontends import DataConfig, FrontEndCost, ImageConfig, scaled
from dans.house import DansError
from dans.net.elastic import calibrate, keras_model, subnet_logits, tensors
from dans.net.score import Scorer, subnet_outputs
from dans.net.supernet import Supernet, extremes
from dans.net.train import Recipe
from dans.space import SearchSpace, Space, System


@dataclass(frozen=True, order=True)
class Strip(DataConfig):
    "A grey strip of 12 rows, from the upper or the lower half of an image; a table and a buffer make it on the board."

    choices, units = {"half": ("upper", "lower")}, {"length": "long"}
    own_cost = FrontEndCost(ram_bytes=512, flash_bytes=256, macs=1000)
    how_made = "the upper or lower half, grey, as 12 rows"

    length: int
    half: str = "upper"

    @property
    def shape(self):
        return 12, self.length, 1

    def __str__(self):
        return f"{self.length}x12-{self.half}"

    def see(self, recording):
        middle = len(recording) // 2
        half = recording[:middle] if self.half == "upper" else recording[middle:]
        return np.asarray(Image.fromarray(np.asarray(half)).convert("L").resize((self.length, 12)))[..., None]

    @staticmethod
    def draw(rng, n, native, area):
        return (rng.uniform(size=n) < 0.5,)

    def see_drawn(self, recordings, flips):
        return np.stack([self.see(r)[:, ::-1] if flip else self.see(r) for r, flip in zip(recordings, flips)])


@dataclass(frozen=True, order=True)
class Chain(Family):
    "Depthwise-separable blocks one after the other, in three stages."

    always, full = (1,), (2, 1)

    depths: tuple
    width: float

    def layers(self):
        blocks, c_in = [], round_channels(8, self.width)
        for stage, (depth, channels) in enumerate(zip(self.always + self.depths, (8, 16, 24)), start=1):
            for i in range(depth):
                c_out = round_channels(channels, self.width)
                new = dict(stride=2 if stage > 1 and i == 0 else 1, residual=i > 0)
                blocks.append(Block(stage, i, c_in, c_in, c_out, expands=False, active=True, **new))
                c_in = c_out
        return Network(round_channels(8, self.width), tuple(blocks))


@dataclass(frozen=True)
class Strips(Space):
    "Strips of some lengths, seen by chains."

    front, family = Strip, Chain

    lengths: tuple
    halfs: tuple = ("upper", "lower")
    widths: tuple = (0.5, 1.0)
    max_depths: tuple = Chain.full


@dataclass(frozen=True)
class ImageChains(Space):
    "Images, seen by chains."

    family = Chain

    resolutions: tuple
    colors: tuple = ("rgb", "mono")
    widths: tuple = (0.5, 1.0)
    max_depths: tuple = Chain.full


SPACE = Strips((24, 16))
SHORT = Recipe(epochs=2, batch=16, zero_last=True, own_scale=True)


@pytest.fixture(scope="module")
def strips(tmp_path_factory):
    prepared = prepare(wake_scenes(64, 24, 8, native=32), [16], tmp_path_factory.mktemp("strips"))
    return replace(prepared, front=Strip)


@pytest.fixture(scope="module")
def net(strips):
    return Supernet(SPACE, 2).train(strips, SHORT, check_images=8)


# Spaces


def test_a_space_of_another_front_end_and_family_is_counted_drawn_and_walked():
    systems, rng = list(SPACE), np.random.default_rng(0)
    assert len(SPACE) == len(set(systems)) == 2 * 2 * 2 * 5 and SPACE.lengths == (16, 24)
    assert [SPACE.index(s) for s in systems] == list(range(40)) and [SPACE[i] for i in range(40)] == systems
    drawn = Counter(SPACE.sample(rng) for _ in range(1000))
    assert set(drawn) == set(systems)
    for s in systems:
        assert all(s in SPACE.neighbours(n) for n in SPACE.neighbours(s)) and SPACE.mutate(s, rng) in SPACE
        assert SPACE.crossover(s, systems[7], rng) in SPACE
        assert System.from_dict(s.to_dict(), Strip, Chain) == s
    assert str(systems[-1]) == "24x12-lower-w1-d21" and set(SPACE.fix(Strip(24)).data_configs) == {Strip(24)}
    assert systems[-1].to_dict() == dict(length=24, half="lower", depths="21", width=1.0)
    assert {name: part.lengths for name, part in SPACE.parts.items()} == {"16long": (16,), "24long": (24,)}
    assert len(SPACE.spread(20, rng, lambda s: macs(s, 2))) == 20 and str(SPACE).startswith(
        "40 systems (16, 24 long, upper and lower, widths 0.5, 1, 5 depths)"
    )
    largest, smallest = extremes(SPACE)
    assert (largest.data.length, largest.arch) == (24, Chain((2, 1), 1.0))
    assert (smallest.data.length, smallest.arch) == (16, Chain((0, 0), 0.5))


def test_what_is_not_in_a_space_or_possible_is_said():
    image = System(ImageConfig(16), Architecture((0,) * 5, 0.5))
    assert image not in SPACE and System(Strip(16), image.arch) not in SPACE and SPACE[0] not in SearchSpace(16)
    for make, says in (
        (lambda: Chain((1, 2), 1.0), "2 numbers up to (2, 1)"),
        (lambda: Chain((0, 1), 1.0), "only zeros after the first zero"),
        (lambda: Strips(()), "a space without lengths is empty"),
        (lambda: SPACE.fix(Strip(8)), "16x12-upper"),
        (lambda: System.from_dict({"length": 16}, Strip, Chain), "'half'"),
    ):
        with pytest.raises(DansError) as error:
            make()
        assert says in str(error.value)


# Cost


@pytest.mark.parametrize("arch", [Chain((2, 1), 1.0), Architecture((1, 1, 2, 0, 0), 0.3)], ids=str)
def test_memory_and_macs_of_oblong_inputs_are_those_of_the_file(arch):
    system = System(Strip(40), arch)
    images = np.random.default_rng(0).integers(0, 256, (8, *system.data.shape), dtype=np.uint8)
    tflite = quantise(keras_model(system, 3), images)
    file, found, own = footprint_of(tflite), footprint(system, 3), system.data.own_cost
    ours, theirs = operators(system, 3), read(tflite).ops  # with an addition of maps of 1 x 3
    assert [(op.kind, op.nbytes, op.macs) for op in ours] == [(op.kind, op.nbytes, op.macs) for op in theirs]
    assert (found.ram_bytes - own.ram_bytes, found.macs - own.macs) == (file.ram_bytes, file.macs)
    assert macs(system, 3) == file.macs
    assert 0.9 < (found.flash_bytes - own.flash_bytes) / len(tflite) < 1.1  # untrained, so that some parts are equal
    for kernels in ("cmsis-nn", "cmsis-nn-mve"):
        assert footprint(system, 3, kernels).ram_bytes == found.ram_bytes < found.arena_bytes


def test_an_export_says_what_the_front_end_does(tmp_path):
    system = System(Strip(24), Chain((0, 0), 0.5))
    images = np.random.default_rng(0).integers(0, 256, (8, *system.data.shape), dtype=np.uint8)
    tflite = quantise(keras_model(system, 2), images)
    known = Deployed(system, 2, footprint(system, 2), None, len(tflite), 0.5, 0.5, 8, "", None)
    export(tmp_path, tflite, (images[0].astype(int) - 128).astype(np.int8), known)
    said = (tmp_path / "model_card.md").read_text()
    assert f"How the values are made: {Strip.how_made}" in said and not (tmp_path / "preprocess.h").exists()
    assert "length" in (tmp_path / "model_card.json").read_text()


# Weights


def test_a_supernet_of_the_second_family_learns_is_scored_as_a_tree_and_cut_out(net, strips):
    assert all(np.isfinite(value).all() for value in net.weights.values()) and net.state.step == 8
    systems = [s for s in SPACE if s.data == Strip(24, "lower")]
    logits = subnet_outputs(net, systems, strips, calibration=32, chunk=20)
    for system, seen in zip(systems, logits):
        train, val = (strips.view(split, system.data).images for split in ("train", "val"))
        weights = tensors(net.weights_for(system.data))
        alone = subnet_logits(weights, system, val, calibrate(weights, system, train[:32]))
        np.testing.assert_allclose(seen, alone, atol=1e-4)
        model = net.extract(system, train[:32])
        np.testing.assert_allclose(model(scaled(val), training=False), alone, atol=1e-4)
    assert 1 < list_macs(systems, 2) / tree_macs(systems, 2) < len(systems)
    assert Scorer(net, strips, calibration=32)(systems).shape == (10,)


def test_a_supernet_of_the_second_family_is_kept(net, tmp_path):
    net.save(tmp_path / "net.npz")
    again = Supernet.load(tmp_path / "net.npz", Strips)
    assert again.space == SPACE and again.what == net.what


def test_images_can_be_seen_by_the_second_family(strips):
    space = ImageChains((16, 24))
    net = Supernet(space, 2).train(replace(strips, front=ImageConfig), replace(SHORT, epochs=0.5), check_images=0)
    assert Scorer(net, replace(strips, front=ImageConfig), calibration=16)(list(space)[::7]).min() >= 0
    assert {len(network(s.arch).blocks) for s in space} == {1, 2, 3, 4}
