"What footprints, plans, limits and boards guarantee."

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dans.hardware import (
    KERNELS,
    Buffer,
    Footprint,
    Limits,
    buffers,
    check_limits,
    flash_bytes,
    footprint,
    layers,
    layout,
    macs,
    operators,
    plan,
    ram_bytes,
    records_of,
    show_bytes,
    show_macs,
    whole_arena,
)
from dans.space import Architecture, DansError, DataConfig, SearchSpace, System, network


def system(resolution, depths, width, color="rgb", rounding="even"):
    return System(DataConfig(resolution, color), Architecture(depths, width, rounding))


def live_bytes(live, alignment=16):
    "Largest sum of the buffers that live at one time."
    end = max(b.last for b in live)
    return max(
        sum(-(-b.nbytes // alignment) * alignment for b in live if b.first <= t <= b.last) for t in range(end + 1)
    )


def slow_plan(live, alignment=16):
    "The planner's rule in its plainest form: try every address, lowest first."
    sizes = [-(-b.nbytes // alignment) * alignment for b in live]
    offsets = {}
    for i in sorted(range(len(live)), key=lambda i: (-sizes[i], -i)):
        rivals = [j for j in offsets if live[j].first <= live[i].last and live[i].first <= live[j].last]
        offsets[i] = next(
            o
            for o in range(0, sum(sizes) + 1, alignment)
            if all(o + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= o for j in rivals)
        )
    return [offsets[i] for i in range(len(live))]


lives = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=14).map(
    lambda rows: [Buffer(str(i), n, first, first + span) for i, (n, first, span) in enumerate(rows)]
)
depths = st.sampled_from(SearchSpace.preset("paper").depths)
systems = st.builds(
    system,
    st.integers(8, 240),
    depths,
    st.sampled_from([0.1, 0.2, 0.3, 0.35, 0.5, 0.8, 1.0]),
    st.sampled_from(["rgb", "mono"]),
    st.sampled_from(["even", "eight", "expansion"]),
)


@given(lives)
def test_plan_is_the_plain_rule_and_never_overlaps(live):
    offsets, arena = plan(live)
    assert offsets == slow_plan(live)
    for (a, i), (b, j) in combinations(zip(live, offsets), 2):
        if a.first <= b.last and b.first <= a.last:
            assert i + a.nbytes <= j or j + b.nbytes <= i
    assert all(o % 16 == 0 for o in offsets)
    assert arena >= live_bytes(live) and arena >= max(o + b.nbytes for b, o in zip(live, offsets))


def test_equal_sizes_are_placed_last_first():
    assert plan([Buffer("a", 16, 0, 1), Buffer("b", 16, 0, 1), Buffer("c", 16, 1, 1)]) == ([32, 16, 0], 48)


def test_plan_of_nothing_is_empty():
    assert plan([]) == ([], 0)


@settings(deadline=None, max_examples=60)
@given(systems)
def test_operators_follow_the_network(s):
    ops, net = operators(s, 5), network(s.arch)
    assert [op.kind for op in ops[-3:]] == ["MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert sum(op.kind == "DEPTHWISE_CONV_2D" for op in ops) == len(net.blocks)
    assert sum(op.kind == "ADD" for op in ops) == sum(b.residual for b in net.blocks)
    assert all(t <= i for i, op in enumerate(ops) for t in op.inputs)  # reads only what is written
    assert ops[-3].channels == net.features and ops[-1].channels == 5
    assert ops[0].height == (s.data.resolution + 1) // 2
    cost = footprint(s, 5)
    assert cost.ram_bytes >= live_bytes(buffers(ops, s.data.resolution**2 * s.data.channels))
    assert cost.flash_bytes > sum(op.weights + 4 * op.scales for op in ops)


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
    assert ram_bytes(system(resolution, depths, width, color), classes) == expected


def test_footprint_grows_along_each_axis():
    base = system(48, (1, 1, 1, 0, 0), 0.3)
    for larger in (system(64, (1, 1, 1, 0, 0), 0.3), system(48, (1, 1, 1, 0, 0), 0.4)):
        assert ram_bytes(larger, 2) > ram_bytes(base, 2) and macs(larger, 2) > macs(base, 2)
    deeper = system(48, (1, 1, 2, 0, 0), 0.3)
    assert flash_bytes(deeper, 2) > flash_bytes(base, 2) and macs(deeper, 2) > macs(base, 2)
    mono = system(48, (1, 1, 1, 0, 0), 0.3, "mono")
    assert (
        ram_bytes(mono, 2) == ram_bytes(base, 2)
        and macs(mono, 2) < macs(base, 2)
        and flash_bytes(mono, 2) < flash_bytes(base, 2)
    )


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


def test_units():
    assert [show_bytes(n) for n in (96, 1024, 138240, 3 * 2**19)] == ["96 B", "1 KiB", "135 KiB", "1.5 MiB"]
    assert [show_macs(n) for n in (12, 45_060, 7_489_664)] == ["12", "45.06 k", "7.49 M"]


def test_layout_says_where_and_when():
    rows = layout([Buffer("a", 32, 0, 1), Buffer("b", 64, 1, 2)])
    assert rows == [
        dict(name="a", nbytes=32, first=0, last=1, offset=64),
        dict(name="b", nbytes=64, first=1, last=2, offset=0),
    ]


def test_layers_add_up():
    s = system(32, (1, 1, 1, 0, 0), 0.3)
    ops = operators(s, 2)
    rows = layers(ops, 32 * 32 * 3)
    assert sum(r["macs"] for r in rows) == macs(s, 2) and len(rows) == len(ops)
    assert max(r["ram_in_use_bytes"] for r in rows) <= ram_bytes(s, 2) and any(r["peak"] for r in rows)
    assert rows[0]["output"] == f"16x16x{ops[0].channels}" and rows[0]["ram_in_use_bytes"] == 3072 + ops[0].nbytes


def test_no_two_systems_of_the_quick_space_cost_the_same():
    space = SearchSpace.preset("quick")
    costs = {footprint(s, 2) for s in space}
    assert len({c.ram_bytes for c in costs}) >= 8 and len({(c.flash_bytes, c.macs) for c in costs}) == len(space)


# bytes, by halving the arena of tflite-micro on 64 bits
@pytest.mark.parametrize(
    "resolution, color, depths, width, smallest",
    [
        (16, "rgb", "10000", 0.1, 7584),
        (16, "mono", "20000", 0.1, 9376),
        (16, "rgb", "34331", 0.1, 39632),
        (32, "rgb", "34331", 0.2, 51632),
        (16, "rgb", "11111", 1.0, 80160),
        (16, "rgb", "34331", 0.5, 93872),
        (24, "mono", "11100", 0.6, 27584),
        (64, "rgb", "21000", 0.1, 24112),
    ],
)
def test_golden_arenas(resolution, color, depths, width, smallest):
    "Small systems need more while they are loaded than head and tail; 64-bit pointers can be measured here."
    s = system(resolution, tuple(map(int, depths)), width, color)
    found = whole_arena(ram_bytes(s, 2), records_of(operators(s, 2), 64), 64)
    assert 0 <= found - smallest <= 32


@settings(deadline=None, max_examples=60)
@given(systems, st.sampled_from(sorted(KERNELS)))
def test_an_arena_holds_head_and_tail_of_each_library(s, kernels):
    cost, ops = footprint(s, 3, kernels), operators(s, 3, kernels)
    head, needs = plan(buffers(ops, s.data.resolution**2 * s.data.channels))[1], records_of(ops)
    assert cost.arena_bytes >= head + needs.tail + 80 and cost.arena_bytes % 16 == 0
    assert cost.ram_bytes == ram_bytes(s, 3) <= head  # the paper's measure knows no library
    assert cost.arena_bytes >= footprint(s, 3).arena_bytes
    assert records_of(ops, 64).tail > needs.tail


def test_unknown_kernels_are_refused():
    for call in (lambda: Limits(kernels="fast"), lambda: footprint(system(16, (1, 0, 0, 0, 0), 0.1), 2, "fast")):
        with pytest.raises(DansError, match="use one of reference, cmsis-nn, cmsis-nn-mve"):
            call()
