"What operators, buffers, plans and records guarantee: the arena of TensorFlow Lite Micro, to the byte."

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systems import system, systems

from dans.cost.footprint import footprint, macs
from dans.cost.memory import KERNELS, Buffer, buffers, layers, operators, placed, plan, records_of, whole_arena
from dans.families import network


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
    assert ops[-3].shape[-1] == net.features and ops[-1].shape[-1] == 5
    assert ops[0].shape[1] == (s.data.resolution + 1) // 2
    cost = footprint(s, 5)
    assert cost.ram_bytes >= live_bytes(buffers(ops, s.data.resolution**2 * s.data.channels))
    assert cost.flash_bytes > sum(op.weights + 4 * op.scales for op in ops)


def test_placed_says_where_and_when():
    rows = placed([Buffer("a", 32, 0, 1), Buffer("b", 64, 1, 2)])
    assert rows == [
        dict(name="a", nbytes=32, first=0, last=1, offset=64),
        dict(name="b", nbytes=64, first=1, last=2, offset=0),
    ]


def test_layers_add_up():
    s = system(32, (1, 1, 1, 0, 0), 0.3)
    ops = operators(s, 2)
    rows = layers(ops, buffers(ops, 32 * 32 * 3))
    assert sum(r["macs"] for r in rows) == macs(s, 2) and len(rows) == len(ops)
    assert max(r["ram_in_use_bytes"] for r in rows) <= footprint(s, 2).ram_bytes and any(r["peak"] for r in rows)
    assert rows[0]["output"] == f"16x16x{ops[0].shape[-1]}" and rows[0]["ram_in_use_bytes"] == 3072 + ops[0].nbytes


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
    found = whole_arena(footprint(s, 2).ram_bytes, records_of(operators(s, 2), 64), 64)
    assert 0 <= found - smallest <= 32


@settings(deadline=None, max_examples=60)
@given(systems, st.sampled_from(sorted(KERNELS)))
def test_an_arena_holds_head_and_tail_of_each_library(s, kernels):
    cost, ops = footprint(s, 3, kernels), operators(s, 3)
    head, needs = (
        plan(buffers(ops, s.data.resolution**2 * s.data.channels, kernels))[1],
        records_of(ops, kernels=kernels),
    )
    assert cost.arena_bytes >= head + needs.tail + 80 and cost.arena_bytes % 16 == 0
    assert cost.ram_bytes == footprint(s, 3).ram_bytes <= head  # the paper's measure knows no library
    assert cost.arena_bytes >= footprint(s, 3).arena_bytes
    assert records_of(ops, 64, kernels).tail > needs.tail
