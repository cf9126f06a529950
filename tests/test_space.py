"The search space: counts, round trips, and steps that never leave it."

import dataclasses
import json
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dans.families import FULL_DEPTHS, ROUNDINGS, STAGES, Architecture, depth_tuples, network, round_channels
from dans.frontends import COLORS, ImageConfig
from dans.house import DansError
from dans.space import SPACES, SearchSpace, System

settings.register_profile("dans", deadline=None)  # a busy machine is not a failure
settings.load_profile("dans")

widths = st.integers(1, 10).map(lambda i: i / 10)
depths = st.sampled_from(depth_tuples(FULL_DEPTHS))
datas = st.builds(ImageConfig, st.integers(8, 512), st.sampled_from(COLORS))
archs = st.builds(Architecture, depths, widths, st.sampled_from(ROUNDINGS))
systems = st.builds(System, datas, archs)
spaces = st.builds(
    SearchSpace,
    resolutions=st.lists(st.integers(8, 256), min_size=1, max_size=4),
    colors=st.sampled_from([("rgb",), ("mono",), ("rgb", "mono"), ("mono", "rgb")]),
    widths=st.lists(widths, min_size=1, max_size=4),
    max_depths=depths,
    rounding=st.sampled_from(ROUNDINGS),
)
seeds = st.integers(0, 2**32)


# -- counts ----------------------------------------------------------------------------------------


def test_paper_space_counts():
    paper = SearchSpace.preset("paper")
    assert (len(paper), len(paper.depths), len(paper.architectures), len(paper.data_configs)) == (
        37_520,
        268,
        2_680,
        14,
    )
    assert paper.resolutions == (32, 64, 96, 128, 160, 192, 224)
    assert paper.widths == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert len(set(paper)) == 37_520


@pytest.mark.parametrize("name,n", [("paper", 37_520), ("cpu", 8_040), ("quick", 4_824), ("smoke", 88), ("bench", 440)])
def test_presets(name, n):
    assert len(SearchSpace.preset(name)) == n
    assert name in SPACES


@pytest.mark.parametrize("rounding,n", [("even", 2_680), ("eight", 2_664)])
def test_distinct_networks(rounding, n):
    space = SearchSpace(32, rounding=rounding)
    assert len({network(a) for a in space.architectures}) == n


# -- rounding and networks -------------------------------------------------------------------------


@given(st.integers(1, 2000), st.floats(0.05, 2))
def test_even_is_the_nearest_even_number(channels, width):
    n = round_channels(channels, width)
    assert n % 2 == 0 and n >= 2
    assert n == 2 or abs(n - channels * width) <= 1 + 1e-5


def test_eight_equals_keras_make_divisible():
    def make_divisible(v, divisor=8):  # keras.applications.mobilenet_v2, Keras 3.15
        new_v = max(divisor, int(v + divisor / 2) // divisor * divisor)
        return new_v + divisor if new_v < 0.9 * v else new_v

    for channels in (16, 24, 32, 64, 96, 160, 320, 1280):
        for width in np.linspace(0.05, 1.5, 30):
            assert round_channels(channels, width, "eight") == make_divisible(channels * width)


def test_full_network_is_mobilenetv2():
    net = network(Architecture(FULL_DEPTHS, 1.0))
    assert (net.stem, net.last, len(net.blocks)) == (32, 1280, 17)
    first = [b for b in net.blocks if b.index == 0]
    assert [(b.c_out, b.stride) for b in first] == [(c, s) for _, c, _, s in STAGES]
    assert [b.c_mid // b.c_in for b in net.blocks] == [1] + [6] * 16
    # Keras' MobileNetV2 without its classifier has 2,257,984 parameters, batch norm's four included
    params = 27 * 32 + 4 * 32 + net.blocks[-1].c_out * net.last + 4 * net.last
    for b in net.blocks:
        expand = (b.c_in * b.c_mid + 4 * b.c_mid) if b.stage > 1 else 0
        params += expand + 9 * b.c_mid + 4 * b.c_mid + b.c_mid * b.c_out + 4 * b.c_out
    assert params == 2_257_984


@given(archs)
def test_networks_are_well_formed(arch):
    net = network(arch)
    assert net.blocks[-1].stage == arch.ending
    assert Counter(b.stage for b in net.blocks) == Counter(
        {s: d for s, d in enumerate((1, 2) + arch.depths, start=1) if d}
    )
    assert net.blocks[0].c_in == net.stem and net.blocks[0].c_mid == net.stem
    for a, b in zip(net.blocks, net.blocks[1:]):
        assert a.c_out == b.c_in
    for b in net.blocks:
        assert b.residual == (b.index > 0)
        assert not b.residual or (b.c_in == b.c_out and b.stride == 1)
    assert (net.last > 0) == (arch.ending == 7)
    assert net.features == (net.last or net.blocks[-1].c_out)


@given(archs, st.sampled_from(("even", "eight")))
def test_a_wider_network_holds_a_narrower_one(arch, rounding):
    if arch.width < 1:
        small, large = (network(Architecture(arch.depths, w, rounding)) for w in (arch.width, arch.width + 0.1))
        for a, b in zip(small.blocks, large.blocks):
            assert a.c_in <= b.c_in and a.c_mid <= b.c_mid and a.c_out <= b.c_out


def test_expansion_rule_narrows_expansions_only():
    net, full = (network(Architecture(FULL_DEPTHS, w, "expansion")) for w in (0.3, 1.0))
    assert (net.stem, net.last) == (full.stem, full.last)
    for a, b in zip(net.blocks, full.blocks):
        assert (a.c_in, a.c_out) == (b.c_in, b.c_out)
        assert a.c_mid == (int(b.c_mid * 0.3) if a.stage > 1 else b.c_mid)


# -- values ----------------------------------------------------------------------------------------


@given(systems)
def test_round_trips(s):
    for value in (s, s.data, s.arch):
        assert type(value).from_json(value.to_json()) == value
        assert type(value).from_dict(value.to_dict()) == value
        assert json.loads(value.to_json()) == value.to_dict()
        assert hash(type(value).from_json(value.to_json())) == hash(value)
        assert pickle.loads(pickle.dumps(value)) == value
    assert System.from_dict(s.to_dict() | {"score": 0.5}) == s
    from_csv = {"depths": int(s.to_dict()["depths"])}
    assert System.from_dict(s.to_dict() | from_csv) == s
    assert System.from_dict(s.to_dict() | {"depths": list(s.arch.depths)}) == s


@given(systems, systems)
def test_equal_text_means_equal_value(a, b):
    assert (a == b) == (a.to_json() == b.to_json()) == (str(a) == str(b))
    assert (a < b) != (b < a) or a == b


@given(systems)
def test_immutable(s):
    for value in (s, s.data, s.arch, network(s.arch), SearchSpace.preset("smoke")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, 1)


def test_numpy_and_lists_are_normalised():
    arch = Architecture(np.array([1, 0, 0, 0, 0]), np.float64(0.1) * 3)
    s = System(ImageConfig(np.int64(32)), arch)
    assert s == System(ImageConfig(32), Architecture((1, 0, 0, 0, 0), 0.3))
    assert System.from_json(s.to_json()) == s
    assert SearchSpace([64, 32, 32], "mono", 0.2) == SearchSpace((32, 64), ("mono",), (0.2,))


@pytest.mark.parametrize(
    "make,says",
    [
        (lambda: ImageConfig(7), "at least 8"),
        (lambda: ImageConfig(32.5), "whole number"),
        (lambda: ImageConfig(True), "whole number"),
        (lambda: ImageConfig("32"), "whole number"),
        (lambda: ImageConfig(32, "grey"), "rgb, mono"),
        (lambda: Architecture((4, 0, 0, 0, 0), 0.1), "up to (3, 4, 3, 3, 1)"),
        (lambda: Architecture((1, 0, 1, 0, 0), 0.1), "only zeros after the first zero"),
        (lambda: Architecture((1, 0), 0.1), "5 numbers"),
        (lambda: Architecture((1.5, 0, 0, 0, 0), 0.1), "5 numbers"),
        (lambda: Architecture((-1, 0, 0, 0, 0), 0.1), "5 numbers"),
        (lambda: Architecture(None, 0.1), "5 numbers"),
        (lambda: Architecture((1, 0, 0, 0, 0), 0), "above 0"),
        (lambda: Architecture((1, 0, 0, 0, 0), float("nan")), "above 0"),
        (lambda: Architecture((1, 0, 0, 0, 0), 35), "at most 2"),
        (lambda: Architecture((1, 0, 0, 0, 0), "0.1"), "a number"),
        (lambda: Architecture((1, 0, 0, 0, 0), None), "a number"),
        (lambda: Architecture((1, 0, 0, 0, 0), 0.1, "nine"), "even, eight, expansion"),
        (lambda: round_channels(32, 0.5, "nine"), "even, eight, expansion"),
        (lambda: SearchSpace(()), "resolutions"),
        (lambda: SearchSpace(32, ()), "colors"),
        (lambda: SearchSpace(32, widths=()), "widths"),
        (lambda: SearchSpace((32, 4)), "at least 8"),
        (lambda: SearchSpace(32, ("rgb", "grey")), "rgb, mono"),
        (lambda: SearchSpace(32, max_depths=(9, 4, 3, 3, 1)), "up to"),
        (lambda: SearchSpace.preset("papr"), "paper, cpu, quick, own, smoke"),
        (lambda: SearchSpace(32).index(SearchSpace(64)[0]), "choose from"),
        (lambda: SearchSpace(32).fix(ImageConfig(64)), "32px-rgb, 32px-mono"),
        (lambda: SearchSpace(32).sample(None, by="stage"), '"ending" or "tuple"'),
        (lambda: System.from_json("{"), "not JSON"),
        (lambda: System.from_json("[]"), "'resolution'"),
        (lambda: System.from_json('{"resolution": 32}'), "'color'"),
        (lambda: ImageConfig.from_json("3"), "'resolution'"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(make, says):
    with pytest.raises(DansError) as e:
        make()
    assert says in str(e.value) and "\n" not in str(e.value) and ": " in str(e.value)
    assert str(pickle.loads(pickle.dumps(e.value))) == str(e.value)


# -- space and its steps ---------------------------------------------------------------------------


@given(spaces, st.data())
def test_index_and_system(space, data):
    i = data.draw(st.integers(0, len(space) - 1))
    s = space[i]
    assert space.index(s) == i and s in space and space[i - len(space)] == s
    with pytest.raises(IndexError):
        space[len(space)]


@settings(max_examples=20)
@given(spaces)
def test_iteration_is_the_index_order(space):
    assert len(list(space)) == len(space) == len(set(space))
    for i in range(0, len(space), max(1, len(space) // 50)):
        assert space[i] == list(space)[i]


@given(spaces, systems)
def test_membership(space, s):
    inside = (
        s.data.resolution in space.resolutions
        and s.data.color in space.colors
        and s.arch.width in space.widths
        and s.arch.rounding == space.rounding
        and all(a <= b for a, b in zip(s.arch.depths, space.max_depths))
    )
    assert (s in space) == inside
    assert "no system" not in space


@given(spaces, seeds)
def test_mutate_is_one_step_inside(space, seed):
    rng = np.random.default_rng(seed)
    s = space.sample(rng)
    if space.neighbours(s):
        m = space.mutate(s, rng, odds=(1, 1, 1))
        assert m in space and m in space.neighbours(s)
    else:
        with pytest.raises(DansError, match="no step"):
            space.mutate(s, rng)


@given(spaces, seeds)
def test_neighbours_are_symmetric_distinct_and_inside(space, seed):
    s = space.sample(np.random.default_rng(seed), by="tuple")
    near = space.neighbours(s)
    assert len(near) == len(set(near)) and s not in near
    assert all(n in space and s in space.neighbours(n) for n in near)


@settings(max_examples=30)
@given(spaces)
def test_steps_reach_the_whole_space(space):
    reached, frontier = {space[0]}, [space[0]]
    while frontier:
        frontier = list({n for s in frontier for n in space.neighbours(s)} - reached)
        reached.update(frontier)
    assert len(reached) == len(space)


@given(spaces, seeds)
def test_crossover_is_inside_and_takes_from_the_parents(space, seed):
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    c = space.crossover(a, b, rng)
    assert c in space
    assert c.arch.width in (a.arch.width, b.arch.width)
    assert c.data.resolution in (a.data.resolution, b.data.resolution)
    for x, y, z in zip(a.arch.depths, b.arch.depths, c.arch.depths):
        assert z in (x, y, 0)
    assert space.crossover(a, a, rng) == a


def test_crossover_mixes():
    space, rng = SearchSpace.preset("quick"), np.random.default_rng(0)
    a, b = space[0], space[-1]
    children = [space.crossover(a, b, rng) for _ in range(600)]
    assert len({c.data for c in children}) == 4 and len({c.arch.width for c in children}) == 2
    assert abs(np.mean([c.arch.width == a.arch.width for c in children]) - 0.5) < 0.1


def test_mutation_odds():
    space, rng = SearchSpace.preset("paper"), np.random.default_rng(1)
    s = System(ImageConfig(96), Architecture((2, 2, 1, 0, 0), 0.5))

    def shares(space, s, odds=(0.4, 0.4, 0.2), n=4_000):
        mutants = (space.mutate(s, rng, odds) for _ in range(n))
        kinds = Counter(
            (m.data != s.data, m.arch.depths != s.arch.depths, m.arch.width != s.arch.width) for m in mutants
        )
        assert all(sum(k) == 1 for k in kinds)
        return [kinds[tuple(i == j for j in range(3))] / n for i in range(3)]

    sd = 4 * (0.25 / 4_000) ** 0.5  # four standard deviations
    assert np.allclose(shares(space, s), (0.4, 0.4, 0.2), atol=sd)
    assert np.allclose(shares(space, s, (0, 0, 1)), (0, 0, 1))
    assert np.allclose(shares(space.fix(s.data), s), (0, 2 / 3, 1 / 3), atol=sd)  # odds rescaled


@pytest.mark.parametrize("by", ["ending", "tuple"])
def test_sample_distribution(by):
    space, rng, n = SearchSpace.preset("paper"), np.random.default_rng(2), 8_000
    drawn = [space.sample(rng, by) for _ in range(n)]
    assert all(s in space for s in drawn[:500])

    def close(counts, expected):
        return all(abs(counts[k] - n * p) < 5 * (n * p * (1 - p)) ** 0.5 + 1 for k, p in expected.items())

    tuples = Counter(d for d in space.depths)
    endings = Counter(Architecture(d, 1.0).ending for d in tuples)
    assert endings == {2: 1, 3: 3, 4: 12, 5: 36, 6: 108, 7: 108}
    expected = {e: 1 / 6 if by == "ending" else c / 268 for e, c in endings.items()}
    assert close(Counter(s.arch.ending for s in drawn), expected)
    assert close(Counter(s.arch.width for s in drawn), {w: 0.1 for w in space.widths})
    assert close(Counter(s.data for s in drawn), {d: 1 / 14 for d in space.data_configs})
    assert close(
        Counter(s.arch.depths for s in drawn),
        {d: (1 / 6 / endings[Architecture(d, 1.0).ending] if by == "ending" else 1 / 268) for d in space.depths},
    )


def test_a_seed_gives_the_same_systems():
    space = SearchSpace.preset("quick")
    a, b = ([space.sample(rng) for _ in range(20)] for rng in map(np.random.default_rng, (3, 3)))
    assert a == b


@given(spaces)
def test_fix(space):
    for data in space.data_configs:
        fixed = space.fix(data)
        assert fixed.data_configs == (data,) and fixed.architectures == space.architectures
        assert all(s in space and s.data == data for s in list(fixed)[:20])


def test_spread_is_even_over_data_configuration_ending_and_cost():
    space = SearchSpace.preset("cpu")
    cost = lambda s: s.data.resolution**2 * s.arch.width  # noqa: E731
    systems = space.spread(72, np.random.default_rng(0), cost)
    assert len(set(systems)) == 72 and all(s in space for s in systems)
    pairs = [(s.data, s.arch.ending) for s in systems]
    assert all(pairs.count(pair) == 2 for pair in set(pairs)) and len(set(pairs)) == 36
    widths = [s.arch.width for s in systems]
    assert all(8 <= widths.count(w) <= 21 for w in space.widths)
    again = space.spread(72, np.random.default_rng(0), cost)
    assert again == systems
    others = space.spread(50, np.random.default_rng(1), cost, without=systems)
    assert not set(others) & set(systems)


def test_spread_refuses_more_than_there_are():
    space = SearchSpace.preset("smoke")
    with pytest.raises(DansError, match="more than the space holds"):
        space.spread(len(space) + 1, np.random.default_rng(0), str)
