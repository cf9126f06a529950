"A network of loops says, and learns, what TensorFlow's does; its loops are held against plain numpy."

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from dans.families import Architecture
from dans.frontends import ImageConfig, scaled
from dans.net import fused, loops
from dans.net.elastic import Calibrated, initial_weights, subnet_logits, tensors
from dans.net.fused import Fused, columns
from dans.net.step import Layout, Trainer, as_rgb
from dans.space import System

EVEN, ODD = Architecture((2, 1, 1, 1, 1), 0.2), Architecture((2, 1, 0, 0, 0), 0.1, "expansion")
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def without_traces():
    "Each function of TensorFlow is called a few times: that is quicker than to trace it."
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def theirs():
    return {largest: Trainer(Layout(largest, 3)) for largest in (EVEN, ODD)}


def photographs(side, color, n=6):
    return RNG.integers(0, 256, (n, side, side, ImageConfig(side, color).channels), np.uint8)


def some_weights(arch, largest):
    "Weights of `arch` that are no first weights, out of those of `largest`."
    start = initial_weights(largest, 3, 0)
    start = {k: v + 0.1 * normal(*v.shape) for k, v in start.items()}
    return {k: start[k] for k in initial_weights(arch, 3, 0)}, start


CASES = [  # resolution, colour, depths, deep, weighted, largest
    (17, "rgb", (0, 0, 0, 0, 0), 1.0, False, EVEN),
    (24, "mono", (1, 0, 0, 0, 0), 0.0, False, EVEN),
    (17, "mono", (2, 1, 0, 0, 0), 0.5, True, EVEN),
    (24, "rgb", (1, 1, 1, 0, 0), 1.0, True, EVEN),
    (31, "mono", (2, 1, 1, 1, 0), 0.0, True, EVEN),
    (33, "rgb", (2, 1, 1, 1, 1), 1.0, False, EVEN),
    (24, "mono", (2, 1, 1, 1, 1), 0.0, True, EVEN),
    (17, "rgb", (2, 1, 0, 0, 0), 1.0, True, ODD),
    (22, "mono", (2, 0, 0, 0, 0), 0.0, False, ODD),
]


@pytest.mark.parametrize("side, color, depths, deep, weighted, largest", CASES)
def test_loss_and_gradients_are_those_of_tensorflow(theirs, side, color, depths, deep, weighted, largest):
    arch = Architecture(depths, largest.width, largest.rounding)
    images, labels = photographs(side, color), np.arange(6) % 3
    counts = np.array([0.5, 2.0, 1.0], np.float32)[labels] if weighted else None
    own, shared = some_weights(arch, largest)
    net, system, trainer = (
        Fused(System(ImageConfig(side, color), arch), 3, 6),
        System(ImageConfig(side, color), arch),
        theirs[largest],
    )
    net.load(own)
    trainer.load(shared)
    targets = np.eye(3, dtype=np.float32)[labels]
    found = net.forward(columns(images), learn=True, heads=True)
    net.gradient[:] = np.nan  # what is not written shows, but for heads that nothing is asked of
    loss = net.back(columns(images), found, targets.T, deep, 1.0 if counts is None else counts)
    other, logits, gradient = trainer.gradients(system, as_rgb(images), targets, deep, counts=counts)
    assert loss == pytest.approx(float(other), rel=1e-4)
    assert_allclose(found[arch.ending][1].T, logits, rtol=1e-3, atol=1e-3)
    gradient = trainer.layout.unpack(np.array(gradient))
    little = 1e-5 * np.linalg.norm(net.gradient)  # a shift before a normalisation has no gradient but rounding
    for name, ours in net.unpacked(net.gradient).items():
        assert np.linalg.norm(ours - gradient[name]) <= 2e-3 * np.linalg.norm(gradient[name]) + little, name


def test_odd_channels_are_among_the_cases():
    assert any(shape[-1] % 2 for name, shape in Layout(ODD, 4).shapes.items() if name.endswith("expand/kernel"))


@pytest.mark.parametrize("side, color, arch", [(17, "rgb", EVEN), (24, "mono", ODD)])
def test_logits_are_those_of_tensorflow_by_given_statistics(side, color, arch):
    system, images = System(ImageConfig(side, color), arch), photographs(side, color)
    weights, _ = some_weights(arch, arch)
    net = Fused(system, 3, 6)
    net.load(weights)
    for moments in net.moments.values():
        moments[:] = np.stack([0.1 * normal(len(moments)), RNG.uniform(0.1, 1, len(moments))], 1)
    [(stage, (_, logits))] = net.forward(columns(images)).items()
    statistics = Calibrated({name: (m[:, 0].copy(), m[:, 1].copy()) for name, m in net.moments.items()})
    assert stage == arch.ending
    assert_allclose(logits.T, subnet_logits(tensors(weights), system, images, statistics), rtol=1e-3, atol=1e-3)
    other = Fused(system, 3, 2, like=net)  # another number of images, the same weights and statistics
    assert_allclose(other.forward(columns(images[:2]))[stage][1], logits[:, :2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_that_of_keras(theirs, decay):
    weights, trainer = initial_weights(ODD, 3, 0), theirs[ODD]
    net = Fused(System(ImageConfig(16, "mono"), ODD), 3, 2)
    net.load(weights)
    trainer.load(weights)
    gradients = [normal(net.vector.size) * 10.0**-t for t in range(5)]
    net.forward = lambda *_: None
    net.back = lambda *_: np.copyto(net.gradient, gradients[net.steps])
    for t, gradient in enumerate(gradients):
        net.step(None, np.array([0, 1]), 1e-2 / (t + 1), decay=decay)
        trainer.update(gradient, 1e-2 / (t + 1), decay)
        assert_allclose(net.vector, np.array(trainer.vector), rtol=1e-5, atol=1e-6)
    again = Fused(net.system, 3, 2)
    again.load(*net.state())
    assert again.steps == 5 and (again.second == net.second).all() and (again.vector == net.vector).all()


@pytest.mark.parametrize("c, m, n", [(1, 1, 1), (3, 5, 17), (4, 2, 512), (7, 3, 700), (8, 1, 1025)])
def test_mixing_is_a_product(c, m, n):
    x, kernel, y, dkernel = normal(c, n), normal(c, m), np.full((m, n), np.nan, "f"), np.full((c, m), np.nan, "f")
    loops.mix(x, kernel, y)
    assert_allclose(y, kernel.T @ x, rtol=1e-4, atol=1e-4)
    loops.mix_back(x, y, dkernel)
    assert_allclose(dkernel, x @ y.T, rtol=1e-3, atol=1e-2)


def slid(plane, kernel, stride):
    "A depthwise convolution with TensorFlow's padding, by definition."
    out = -(-len(plane) // stride)
    missing = max((out - 1) * stride + 3 - len(plane), 0)
    x = np.pad(plane.astype(float), [(missing // 2, missing - missing // 2)] * 2 + [(0, 0)])
    taps = [
        (i, j, x[i : i + stride * out : stride, j : j + stride * out : stride][:out, :out])
        for i in range(3)
        for j in range(3)
    ]
    return sum(kernel[3 * i + j] * tap for i, j, tap in taps), [tap for _, _, tap in taps]


@pytest.mark.parametrize("side", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_sliding_and_back_by_definition(side, stride):
    out, before, n = -(-side // stride), 1 if stride == 1 else side % 2, 5
    plane, d = normal(side, side, n), normal(out, out, n)
    kernel, dkernel = normal(9, 2), np.full((9, 2), np.nan, "f")  # columns, as a network has them
    frame, dframe = (np.zeros((s + 2, s + 2, n), np.float32) for s in (side, out))
    y, back = np.empty_like(d), np.empty_like(plane)
    loops.framed(plane, loops.ONE, loops.ZERO, False, before, frame)
    loops.framed(d, loops.ONE, loops.ZERO, False, 1, dframe)
    loops.slide(frame, kernel[:, 1], stride, y)
    loops.slide_kernel_back(frame, d, stride, dkernel[:, 1])
    loops.slide_back(dframe, kernel[:, 1], stride, before, back)
    said, taps = slid(plane, kernel[:, 1], stride)
    assert_allclose(y, said, rtol=1e-4, atol=1e-4)
    assert_allclose(dkernel[:, 1], [(tap * d).sum() for tap in taps], rtol=1e-3, atol=1e-3)
    for i, j in {(0, 0), (side - 1, side // 2), (side // 2, side - 1)}:  # by the definition of a gradient
        unit = np.zeros_like(plane)
        unit[i, j] = 1
        assert_allclose(back[i, j], (slid(unit, kernel[:, 1], stride)[0] * d).sum((0, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side, channels", [(17, 3), (24, 1), (5, 1)])
def test_columns_are_the_windows_of_the_first_convolution(side, channels):
    images = RNG.integers(0, 256, (3, side, side, channels), np.uint8)
    found = columns(images).reshape(3, 3, channels, -(-side // 2), -(-side // 2), 3)
    before, x = side % 2, scaled(images)
    for i, j in ((0, 0), (0, 1), (1, 2), (2, 2)):
        for h, w in ((0, 0), (1, 0), (-(-side // 2) - 1, 1)):
            u, v = 2 * h + i - before, 2 * w + j - before
            there = 0 <= u < side and 0 <= v < side
            assert_allclose(found[i, j, :, h, w], x[:, u, v].T if there else np.zeros((channels, 3)))


def test_compiled_code_is_not_that_of_other_loops():
    "Numba looks at the file that a function stands in: what `dans.net.fused` calls stands in another."
    source = hashlib.sha256(Path(loops.__file__).read_bytes()).hexdigest()
    for function in (loops.mix, fused.block_forward):
        assert source in function._cache._cache_file._source_stamp


STEPS = """
import hashlib, numpy as np
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.net import fused, loops
from dans.net.elastic import initial_weights
from dans.space import System
net, rng = fused.Fused(System(ImageConfig(24), Architecture((1, 1, 1, 1, 0), 0.2)), 2, 8), np.random.default_rng(0)
net.load(initial_weights(net.system.arch, 2, 0))
for _ in range(3):
    net.step(fused.columns(rng.integers(0, 256, (8, 24, 24, 3), np.uint8)), rng.integers(0, 2, 8), 1e-3)
compiled = [f for room in (fused, loops) for f in vars(room).values() if hasattr(f, "stats")]
print(hashlib.sha256(net.vector.tobytes()).hexdigest(), sum(sum(f.stats.cache_misses.values()) for f in compiled))
"""


def test_the_first_run_on_a_machine_ends_with_the_bits_of_all_later_ones(tmp_path):
    "A process that compiles loops links other copies of them than one that finds them on disk."

    def run():
        there = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
        return subprocess.run([sys.executable, "-c", STEPS], env=there, capture_output=True, text=True, check=True)

    first, second = run().stdout, run().stdout
    assert first == second and first.split()[1] == "0", "loops were compiled in a process that trains"
