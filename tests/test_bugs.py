"Bugs of the public code, put back one at a time: each does what it is said to do, and nothing else."

import numpy as np
import pytest

from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.net.elastic import calibrate, initial_weights, ops, subnet_logits, tensors
from dans.paper.bugs import first_channels, masked, without_residuals
from dans.space import System

WIDE, NARROW = (System(ImageConfig(24), Architecture((2, 1, 0, 0, 0), width)) for width in (0.3, 0.1))
LAST = System(ImageConfig(24), Architecture((1, 1, 1, 1, 1), 0.1))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (32, 24, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(1)
    found = initial_weights(Architecture((2, 1, 1, 1, 1), 0.3), 2, seed=0)
    return {n: v + rng.normal(0, 0.3, v.shape).astype("float32") * n.endswith("beta") for n, v in found.items()}


def logits(weights, system, images, norm=None):
    norm = norm or calibrate(tensors(weights), system, images)
    return ops.convert_to_numpy(subnet_logits(tensors(weights), system, images, norm))


@pytest.mark.parametrize("system", [NARROW, LAST], ids=str)
def test_with_statistics_of_its_own_a_mask_adds_a_constant_and_no_more(weights, images, system):
    full, zeroed = masked(weights, system, 0.3, 2)
    assert full.arch.width == 0.3 and full.arch.depths == system.arch.depths
    added = logits(zeroed, full, images) - logits(weights, system, images)
    assert added.std(0).max() < 1e-4 < abs(added).max()


def test_with_statistics_of_the_largest_a_mask_does_more(weights, images):
    stale, (full, zeroed) = calibrate(tensors(weights), WIDE, images), masked(weights, NARROW, 0.3, 2)
    own = logits(weights, NARROW, images, first_channels(stale, NARROW, 2))
    assert (logits(zeroed, full, images, stale) - own).std(0).max() > 1e-3


def test_the_widest_is_not_masked(weights, images):
    full, zeroed = masked(weights, WIDE, 0.3, 2)
    assert full == WIDE and np.array_equal(logits(zeroed, full, images), logits(weights, WIDE, images))


def test_additions_are_lost_and_nothing_else(weights, images):
    bare = without_residuals(NARROW)
    blocks = [list(vars(b).values()) for s in (NARROW, bare) for b in s.arch.layers().blocks]
    assert not any(b.residual for b in bare.arch.layers().blocks)
    assert sum(a != b for a, b in zip(blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :])) == 2
    assert not np.allclose(logits(weights, bare, images), logits(weights, NARROW, images), atol=1e-3)


def test_statistics_of_the_largest_are_not_the_subnets(weights, images):
    stale = first_channels(calibrate(tensors(weights), WIDE, images), NARROW, 2)
    own = calibrate(tensors(weights), NARROW, images)
    assert {n: tuple(map(len, of)) for n, of in stale.found.items()} == {
        n: tuple(map(len, of)) for n, of in own.found.items()
    }
    assert not np.allclose(logits(weights, NARROW, images, stale), logits(weights, NARROW, images, own), atol=1e-3)
