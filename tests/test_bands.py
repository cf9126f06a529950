"Bands of equal cost: the rule, and what it gives in the space whose every system is trained."

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dans.choose.bands import ARENA_KIB, BAND_SYSTEMS, arena_class, arena_words, banded, bands, costed, resolutions_in
from dans.cost.footprint import footprint
from dans.cost.limits import Limits
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.space import SearchSpace, System

ROOT = Path(__file__).parent.parent
BENCH = SearchSpace.preset("bench")
TABLE = costed(BENCH, Limits(macs=2_000_000), 2)
BANDS = banded(TABLE)

many = st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 2)), max_size=60)


@given(many, st.floats(1, 2), st.integers(1, 5))
@settings(deadline=None)
def test_bands_share_no_system_hold_to_the_ratio_and_leave_out_small_ones_alone(drawn, ratio, fewest):
    costs, kinds = [c for c, _ in drawn], [k for _, k in drawn]
    found = bands(range(len(drawn)), costs, ratio, fewest, kinds)
    whole = bands(range(len(drawn)), costs, ratio, 1, kinds)
    assert sorted(i for band in whole for i in band) == list(range(len(drawn)))
    assert found == [band for band in whole if len(band) >= fewest]
    for band in whole:
        assert max(costs[i] for i in band) <= ratio * min(costs[i] for i in band)
        assert len({kinds[i] for i in band}) == 1
    firsts = [(kinds[band[0]], costs[band[0]]) for band in whole]
    assert firsts == sorted(firsts)
    for a, b in zip(whole, whole[1:]):  # as greedy as can be
        assert kinds[a[0]] != kinds[b[0]] or costs[b[0]] > ratio * costs[a[0]]


def test_the_order_of_systems_decides_nothing():
    systems, costs = list(BENCH), [footprint(s, 2).macs for s in BENCH]
    order = np.random.default_rng(0).permutation(len(systems))
    mixed = bands([systems[i] for i in order], [costs[i] for i in order])
    assert [set(band) for band in mixed] == [set(band) for band in bands(systems, costs)]


def test_a_resolution_counts_in_a_band_from_four_systems_on():
    band = [System(ImageConfig(24), Architecture((0,) * 5, w / 10)) for w in range(1, 5)]
    assert resolutions_in(band) == (24,) and resolutions_in(band[1:]) == ()


def test_classes_of_arenas_include_their_bounds():
    assert arena_class([1, 32 * 1024, 32 * 1024 + 1, 64 * 1024, 128 * 1024, 128 * 1024 + 1]).tolist() == [
        0,
        0,
        1,
        1,
        2,
        3,
    ]
    assert [arena_words(n) for n in (0, len(ARENA_KIB))] == ["at most 32 KiB", "more than 128 KiB"]


@pytest.mark.parametrize("wrong", [dict(ratio=0.5), dict(ratio=float("nan")), dict(kinds=[1])])
def test_impossible_questions_are_errors(wrong):
    with pytest.raises(DansError):
        bands("ab", [1, 2], **wrong)


# What the rule gives in the space `bench`


def test_408_systems_of_the_space_have_at_most_2_million_macs():
    assert (len(BENCH), len(BENCH.depths), len(TABLE)) == (440, 11, 408)
    assert TABLE["macs"].between(25_348, 1_980_440).all()
    assert [System.from_dict(row) for row in TABLE.to_dict("records")] == [
        s for s in BENCH if footprint(s, 2).macs <= 2e6
    ]


def test_seventeen_bands_of_equal_macs_eleven_with_three_or_four_resolutions():
    of_macs = BANDS[BANDS["by"] == "macs"]
    assert len(of_macs) == 17 and (of_macs["resolutions"] >= 3).sum() == 11 and of_macs["resolutions"].max() == 4
    assert of_macs["systems"].sum() == TABLE["band"].notna().sum() == 317
    assert (of_macs["macs_to"] <= 1.15 * of_macs["macs_from"]).all() and of_macs["systems"].min() >= BAND_SYSTEMS
    assert of_macs["band"].tolist() == list(range(1, 18))


def test_bands_of_equal_arena_hold_one_class():
    per = TABLE.dropna(subset="arena_band").groupby("arena_band")
    assert (per["arena"].nunique() == 1).all() and (per["macs"].max() <= 1.15 * per["macs"].min()).all()
    of_both = BANDS[BANDS["by"] == "macs and arena"]
    assert len(of_both) == per.ngroups and of_both["systems"].sum() == TABLE["arena_band"].notna().sum()
    assert TABLE["arena"].value_counts().to_dict() == {
        "at most 32 KiB": 282,
        "at most 64 KiB": 124,
        "at most 128 KiB": 2,
    }


def test_parameters_are_those_of_the_keras_model():
    s = System(ImageConfig(48, "rgb"), Architecture("31230", 0.2))  # 56,014 by Keras, in results/truth
    truth = pd.read_csv(ROOT / "results/truth/accuracy.csv", dtype={"depths": str}).drop_duplicates("parameters")
    from dans.choose.bands import _parameters

    assert _parameters(s, 2) == 56_014
    assert [_parameters(System.from_dict(row), 2) for row in truth.to_dict("records")] == truth["parameters"].tolist()


def test_the_committed_rows_are_what_the_rule_gives():
    "No row of `results/benchmark` may drift from the rule that was fixed before any training."
    for name, frame in (("systems", TABLE), ("bands", BANDS)):
        assert (ROOT / f"results/benchmark/{name}.csv").read_text() == frame.to_csv(index=False)
