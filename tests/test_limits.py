"What limits guarantee: they are hard, are read and written as text, and name the one that binds."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import system

from dans.cost.footprint import Footprint, footprint
from dans.cost.limits import Limits, check_limits
from dans.house import DansError
from dans.space import SearchSpace


def test_check_limits_gives_the_smallest_of_the_space():
    space = SearchSpace((32, 48), widths=(0.1, 0.3), max_depths=(2, 2, 1, 1, 1))
    costs = [footprint(s, 3) for s in space]
    least = check_limits(space, Limits(), 3)
    assert least == Footprint(**{a: min(getattr(c, a) for c in costs) for a in vars(least)})
    assert check_limits(space, Limits(**vars(least)), 3) == least
    for axis, name in (
        ("arena_bytes", "RAM"),
        ("flash_bytes", "flash"),
        ("macs", "MACs"),
        ("ram_bytes", "activations"),
    ):
        with pytest.raises(DansError, match=f"meets the {name} limit.*smallest needs.*{getattr(least, axis):,}"):
            check_limits(space, Limits(**{axis: getattr(least, axis) - 1}), 3)


def test_limits_are_hard_on_every_axis():
    cost = Footprint(1000, 2000, 3000, 4000)
    assert Limits().admits(cost) and Limits(4000, 2000, 3000, 1000).admits(cost)
    for bound in ({"ram_bytes": 999}, {"flash_bytes": 1999}, {"macs": 2999}, {"arena_bytes": 3999}):
        assert not Limits(**bound).admits(cost)


@pytest.mark.parametrize("bound", [0, -1, float("nan"), "512", True])
def test_impossible_limits_are_refused(bound):
    with pytest.raises(DansError, match="is not a limit"):
        Limits(arena_bytes=bound)


def test_limits_are_read_from_text():
    assert Limits.parse("ram 512 KiB,flash=2MiB, MACs 1.5 M") == Limits(512 * 1024, 2 * 1024**2, 1_500_000)
    assert Limits.parse("activations 64 KiB, kernels cmsis-nn") == Limits(ram_bytes=65536, kernels="cmsis-nn")
    assert Limits.parse("") == Limits()
    for wrong in ("512 KiB", "ram 512 kb", "ram lots", "watts 3", "ram 1.2.3 KiB", "kernels"):
        with pytest.raises(DansError, match="cannot be read"):
            Limits.parse(wrong)


@given(st.integers(1, 4096), st.sampled_from([1, 1024, 1024**2]))
def test_text_of_limits_round_trips(n, unit):
    limits = Limits(n * unit, None, n)
    again = Limits.parse(str(limits))
    assert again.flash_bytes is None
    assert np.allclose([again.arena_bytes, again.macs], [limits.arena_bytes, limits.macs], rtol=1e-3)


def test_unknown_kernels_are_refused():
    for call in (lambda: Limits(kernels="fast"), lambda: footprint(system(16, (1, 0, 0, 0, 0), 0.1), 2, "fast")):
        with pytest.raises(DansError, match="use one of reference, cmsis-nn, cmsis-nn-mve"):
            call()
