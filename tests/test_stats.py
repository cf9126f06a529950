"Statistics: beside scipy, known values, and studies that are played many times."

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from dans.choose.stats import (
    EXACT,
    bootstrap,
    intervals,
    kendall_tau,
    paired_bootstrap,
    sign_flip,
    signs,
    spearman,
    times_drawn,
    visible_effect,
    wilson,
)
from dans.house import DansError

# Drawing again


def test_the_first_row_is_the_sample_and_a_seed_gives_the_same_draws():
    draws = bootstrap(7, 50, [3, 1])
    assert draws.shape == (51, 7) and draws[0].tolist() == list(range(7)) and draws.max() == 6 and draws.min() == 0
    assert np.array_equal(draws, bootstrap(7, 50, [3, 1])) and not np.array_equal(draws, bootstrap(7, 50, [3, 2]))


def test_draws_are_those_that_committed_rows_were_made_with():
    rng = np.random.default_rng([0, 1, 3])
    assert np.array_equal(bootstrap(3, 5, [0, 1, 3])[1:], rng.integers(3, size=(5, 3)))


def test_members_are_counted():
    counts = times_drawn(np.array([[0, 0, 2], [1, 1, 1]]), 4)
    assert counts.tolist() == [[2, 0, 1, 0], [0, 3, 0, 0]]


# Intervals


def test_an_interval_holds_the_middle_of_the_draws_and_leaves_nan_out():
    draws = np.r_[7.0, np.arange(101.0), np.nan]
    (row,) = intervals(pd.DataFrame({"x": draws}), level=0.9).to_dict("records")
    assert (row["value"], row["low"], row["high"]) == pytest.approx((7, 5, 95))


def test_levels_of_columns_stand_in_front():
    columns = pd.MultiIndex.from_tuples([("a", "tau"), ("b", "tau")], names=["maker", "statistic"])
    found = intervals(pd.DataFrame(np.zeros((5, 2)), columns=columns))
    assert found.columns.tolist() == ["maker", "statistic", "value", "low", "high"] and found.maker.tolist() == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("right, n", [(0, 10), (3, 10), (10, 10), (1, 2), (2711, 3000)])
def test_wilson_is_scipy_s(right, n):
    level = 1 - 2 * oracle.norm.sf(1.96)
    expected = oracle.binomtest(right, n).proportion_ci(level, method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_takes_columns():
    low, high = wilson(pd.Series([0.5, 1.0]), pd.Series([100, 30]))
    assert low.tolist() == pytest.approx([wilson(0.5, 100)[0], wilson(1.0, 30)[0]])
    assert (high - low).gt(0).all() and high[1] == pytest.approx(1)


# Two orders

values = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=20)


@settings(deadline=None)
@given(values, st.integers(0, 99))
def test_tau_and_spearman_are_scipy_s_ties_and_repeated_members_included(pairs, seed):
    x, y = np.array(pairs, float).T
    draws = bootstrap(len(x), 5, seed)
    counts = times_drawn(draws, len(x)).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        taus, rhos = (of(signs(x), signs(y), counts) for of in (kendall_tau, spearman))
    for draw, tau, rho in zip(draws, taus, rhos):
        a, b = x[draw], y[draw]
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert tau == pytest.approx(oracle.kendalltau(a, b)[0])
            assert rho == pytest.approx(oracle.spearmanr(a, b)[0])
        else:
            assert np.isnan(tau) and np.isnan(rho)


def test_a_matrix_of_signs_for_each_draw_is_taken_draw_by_draw():
    rng = np.random.default_rng(0)
    x, y = rng.random((3, 8)), rng.random(8)
    counts = times_drawn(bootstrap(8, 2), 8).astype(float)
    for of in (kendall_tau, spearman):
        each = [of(signs(x[i]), signs(y), counts[i : i + 1])[0] for i in range(3)]
        assert of(signs(x), signs(y), counts) == pytest.approx(each)


# Is a difference luck?


def by_hand(differences):
    "Every way of turning signs, one after the other."
    d = np.array(differences, float)
    sums = [abs(np.dot(s, d)) for s in itertools.product((-1, 1), repeat=len(d))]
    return np.mean([s >= abs(d.sum()) - 1e-9 for s in sums])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=10))
def test_all_ways_of_turning_signs_are_counted(differences):
    assert sign_flip(differences) == pytest.approx(by_hand(differences))


@pytest.mark.parametrize("n, shift", [(5, 0.5), (9, 0.0), (12, 0.4)])
def test_sign_flips_are_scipy_s_permutations_of_samples(n, shift):
    ours, theirs = np.random.default_rng(n).normal(size=(2, n)) + [[shift], [0]]
    expected = oracle.permutation_test(
        (ours, theirs),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert sign_flip(ours - theirs) == pytest.approx(expected.pvalue)


def test_of_ranks_with_signs_the_test_is_wilcoxon_s():
    d = np.random.default_rng(2).normal(0.3, 1, 11)
    ranks = oracle.rankdata(np.abs(d)) * np.sign(d)
    assert sign_flip(ranks) == pytest.approx(oracle.wilcoxon(d, method="exact").pvalue)


def test_darwin_s_maize():
    "Fisher's example: 15 pairs of plants, crossed against self-fertilised; 1,726 of 32,768 ways are as far."
    d = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip(d) == 1726 / 32768


@pytest.mark.parametrize("n", [EXACT, EXACT + 1])
def test_a_sample_of_the_ways_says_what_all_of_them_say(n):
    d = np.random.default_rng(5).normal(0.35, 1, n)
    sums = np.zeros(1)
    for x in d:
        sums = np.concatenate([sums + x, sums - x])
    assert sign_flip(d) == pytest.approx((np.abs(sums) >= abs(d.sum()) - 1e-9).mean(), abs=0.01)


def test_sampled_p_is_never_zero_and_follows_the_seed():
    d = np.ones(40)
    assert sign_flip(d, draws=99) == 1 / 100
    noisy = np.random.default_rng(0).normal(0.2, 1, 40)
    assert sign_flip(noisy, seed=1) == sign_flip(noisy, seed=1) != sign_flip(noisy, seed=2)


def test_without_a_difference_five_percent_of_studies_are_below_five_percent():
    rng = np.random.default_rng(0)
    p = np.array([sign_flip(rng.normal(size=9)) for _ in range(1000)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("bad", [[], [1, np.inf], [[1, 2]], [np.nan]])
def test_numbers_that_cannot_be_compared_are_one_line(bad):
    with pytest.raises(DansError, match="numbers can be compared: give finite numbers, one for each pair"):
        sign_flip(bad)


@pytest.mark.parametrize("ratio", [False, True])
def test_the_paired_bootstrap_is_scipy_s(ratio):
    rng = np.random.default_rng(3)
    theirs = rng.gamma(5, 1, 30)
    ours = theirs * 1.2 + rng.normal(0, 0.3, 30)

    def of(a, b, axis):
        return a.mean(axis=axis) / b.mean(axis=axis) if ratio else (a - b).mean(axis=axis)

    expected = oracle.bootstrap(
        (ours, theirs), of, paired=True, vectorized=True, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    found = paired_bootstrap(ours, theirs, ratio, draws=20_000)
    assert found["value"] == pytest.approx(of(ours, theirs, 0))
    width = expected.high - expected.low
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=0.04 * width)


def test_what_pairs_share_does_not_widen_the_interval():
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 1, 20)
    theirs, ours = luck, luck + 0.5
    found = paired_bootstrap(ours, theirs)
    assert (found["low"], found["value"], found["high"]) == pytest.approx((0.5, 0.5, 0.5))
    assert paired_bootstrap(2 * (luck + 9), luck + 9, ratio=True)["high"] == pytest.approx(2)


def test_an_interval_of_a_difference_holds_it_in_most_studies():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        theirs = rng.normal(size=25)
        found = paired_bootstrap(theirs + 0.3 + rng.normal(0, 0.5, 25), theirs, draws=500)
        held += found["low"] <= 0.3 <= found["high"]
    assert held / 200 == pytest.approx(0.93, abs=0.05)


def test_pairs_that_are_not_pairs_are_one_line():
    with pytest.raises(DansError, match="3 numbers are compared with 2: give both of every pair"):
        paired_bootstrap([1, 2, 3], [1, 2])
    with pytest.raises(DansError, match="1 of 1 numbers .* at least 2"):
        paired_bootstrap([1], [1])


@pytest.mark.parametrize("n", [6, 8, 10, 16])
def test_the_smallest_visible_effect_is_seen_in_the_wanted_share_of_studies(n):
    effect = visible_effect(n, 2.0, power=0.8)
    studies = np.random.default_rng(9).normal(effect, 2.0, (400, n))
    assert np.mean([sign_flip(d) <= 0.05 for d in studies]) == pytest.approx(0.8, abs=0.06)


def test_with_many_pairs_the_smallest_visible_effect_is_that_of_a_t_test():
    "Power 0.8 at 5 %: 0.6604 standard deviations with 20 pairs, 0.4042 with 50 (noncentral t)."
    for n, known in ((20, 0.6604), (50, 0.4042)):
        power = oracle.nct.sf(oracle.t.isf(0.025, n - 1), n - 1, known * n**0.5)
        assert power == pytest.approx(0.8, abs=0.002)
        assert visible_effect(n, 1.0) == pytest.approx(known, rel=0.08)


def test_no_effect_is_visible_with_too_few_pairs():
    assert visible_effect(5, 1.0) == visible_effect(7, 1.0, level=0.01) == np.inf
    assert np.isfinite([visible_effect(6, 1.0), visible_effect(8, 1.0, level=0.01)]).all()
    assert visible_effect(8, 3.0) == pytest.approx(3 * visible_effect(8, 1.0))
