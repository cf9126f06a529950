"What a system costs: numbers by hand, numbers that tflite-micro printed, and how they grow."

import pytest
from systems import system

from dans.cost.footprint import footprint, macs, show_bytes, show_macs
from dans.cost.memory import operators
from dans.families import network
from dans.space import SearchSpace


def test_macs_and_weights_of_a_network_by_hand():
    s = system(16, (0, 0, 0, 0, 0), 0.5, "mono")  # stem 16, blocks 16-16-8, 8-48-12, 12-72-12
    assert network(s.arch).stem == 16
    conv = (
        8 * 8 * 9 * 1 * 16
        + 8 * 8 * (9 * 16 + 16 * 8)
        + 8 * 8 * 8 * 48
        + 4 * 4 * (9 * 48 + 48 * 12)
        + 4 * 4 * (12 * 72 + 9 * 72 + 72 * 12)
    )
    assert macs(s, 3) == conv + 12 * 3
    weights = 9 * 16 + 9 * 16 + 16 * 8 + 8 * 48 + 9 * 48 + 48 * 12 + 12 * 72 + 9 * 72 + 72 * 12 + 12 * 3
    assert sum(op.weights for op in operators(s, 3)) == weights


@pytest.mark.parametrize(
    "resolution, depths, width, color, classes, expected",
    [  # printed by tflite-micro
        (8, "14320", 0.7, "mono", 100, 1456),
        (16, "31310", 0.4, "mono", 10, 2880),
        (24, "34000", 0.7, "rgb", 2, 12960),
        (33, "23000", 0.2, "rgb", 2, 8896),
        (48, "34300", 1.0, "rgb", 10, 69120),
        (75, "33221", 0.9, "mono", 2, 151632),
        (192, "24210", 0.4, "rgb", 10, 414720),
    ],
)
def test_golden_heads(resolution, depths, width, color, classes, expected):
    assert footprint(system(resolution, depths, width, color), classes).ram_bytes == expected


def test_footprint_grows_along_each_axis():
    base = system(48, (1, 1, 1, 0, 0), 0.3)
    for larger in (system(64, (1, 1, 1, 0, 0), 0.3), system(48, (1, 1, 1, 0, 0), 0.4)):
        assert footprint(larger, 2).ram_bytes > footprint(base, 2).ram_bytes and macs(larger, 2) > macs(base, 2)
    deeper = system(48, (1, 1, 2, 0, 0), 0.3)
    assert footprint(deeper, 2).flash_bytes > footprint(base, 2).flash_bytes and macs(deeper, 2) > macs(base, 2)
    mono = system(48, (1, 1, 1, 0, 0), 0.3, "mono")
    assert (
        footprint(mono, 2).ram_bytes == footprint(base, 2).ram_bytes
        and macs(mono, 2) < macs(base, 2)
        and footprint(mono, 2).flash_bytes < footprint(base, 2).flash_bytes
    )


def test_no_two_systems_of_the_quick_space_cost_the_same():
    space = SearchSpace.preset("quick")
    costs = {footprint(s, 2) for s in space}
    assert len({c.ram_bytes for c in costs}) >= 8 and len({(c.flash_bytes, c.macs) for c in costs}) == len(space)


def test_units():
    assert [show_bytes(n) for n in (96, 1024, 138240, 3 * 2**19)] == ["96 B", "1 KiB", "135 KiB", "1.5 MiB"]
    assert [show_macs(n) for n in (12, 45_060, 7_489_664)] == ["12", "45.06 k", "7.49 M"]
