"Ranks: statistics as scipy gives them, intervals and ceilings with a known answer, corrections, verdicts."

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from dans.footprint import footprint, macs
from dans.rank import (
    FEATURES,
    KEYS,
    Corrector,
    Judged,
    bias,
    ceiling,
    components,
    corrected,
    difference,
    intervals,
    judge,
    matched,
    plateau,
    proxy,
    ram_class,
    rank_table,
    refitted,
    resample,
    statistics,
    summary,
    targets,
)
from dans.space import DansError, SearchSpace

SPACE = SearchSpace.preset("cpu")
CHOOSING = SPACE.spread(16, np.random.default_rng(0), lambda s: macs(s, 2))
JUDGING = SPACE.spread(40, np.random.default_rng(1), lambda s: macs(s, 2), without=CHOOSING)
COSTS = {s: footprint(s, 2) for s in CHOOSING + JUDGING}


def study(seed=0, slope=0.03, noise=0.01, trainings=2, supernets=3):
    "Rows of trainings and scores; accuracies rise with MACs, scores are `slope` too low for each stage before 5."
    rng = np.random.default_rng(seed)
    truth, scores = [], []
    for system, cost in COSTS.items():
        kind = "choosing" if system in CHOOSING else "judging"
        t = 0.7 + 0.02 * (np.log2(cost.macs) - 19) + rng.normal(0, 0.012)
        about = {"data": "invented", "set": kind, **system.to_dict(), **vars(cost), "parameters": cost.flash_bytes}
        truth += [
            about | {"seed": i, "cost_macs": 10.0, "val": t + rng.normal(0, noise), "test": t + rng.normal(0, noise)}
            for i in range(trainings)
        ]
        low = max(0, 5 - system.arch.ending)
        for maker, by in (("shared", slope), ("per_config", slope), ("largest_only", 3 * slope)):
            scores += [
                {"maker": maker, "supernet": i, "score": t - by * low + rng.normal(0, noise), **system.to_dict()}
                for i in range(supernets)
            ]
    return pd.DataFrame(truth), pd.DataFrame(scores)


TRUTH, SCORES = study()


def made(truth, scores=None, macs_=None, ram=None):
    "`Judged` of bare arrays: `truth` (n, trainings)."
    n = len(truth)
    rows = pd.DataFrame(
        {
            "macs": np.geomspace(1e5, 1e7, n) if macs_ is None else macs_,
            "ram_bytes": np.full(n, 8192) if ram is None else ram,
            "ending": 2,
            "resolution": 32,
            "width": 0.1,
        }
    )
    return Judged(tuple(JUDGING[:n]), rows, np.asarray(truth, float), scores or {}, 0.0)


# Statistics

values = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=5, max_size=20)


@settings(deadline=None)
@given(values, st.integers(0, 99))
def test_tau_and_spearman_are_scipy_s_ties_and_repeated_systems_included(pairs, seed):
    x, y = np.array(pairs, float).T
    n = len(x)
    rows = pd.DataFrame({"macs": np.ones(n), "ram_bytes": 4096})
    draws = np.vstack([np.arange(n), np.random.default_rng(seed).integers(n, size=(5, n))])
    found = statistics(x, y, rows, draws=draws)
    for i, draw in enumerate(draws):
        a, b = x[draw], y[draw]
        if len(set(a)) > 1 and len(set(b)) > 1:
            assert found["tau", ""][i] == pytest.approx(kendalltau(a, b)[0])
            assert found["spearman", ""][i] == pytest.approx(spearmanr(a, b)[0])
            assert found["matched_tau", ""][i] == pytest.approx(found["tau", ""][i]), "all cost the same"
        else:
            assert np.isnan(found["tau", ""][i])


def test_matched_pairs_are_near_in_macs_and_equal_in_ram_class():
    rows = pd.DataFrame({"macs": [100, 120, 121, 120], "ram_bytes": [5000, 8192, 8192, 8193]})
    assert ram_class(rows.ram_bytes.to_numpy()).tolist() == [8192, 8192, 8192, 16384]
    near = matched(rows)
    assert (near == near.T).all() and not near.diagonal().any()
    assert [tuple(p) for p in np.argwhere(np.triu(near))] == [(0, 1), (1, 2)]


def test_matched_tau_counts_matched_pairs_only():
    rows = pd.DataFrame({"macs": [100, 110, 1000, 1100], "ram_bytes": 4096})
    found = statistics(np.array([1, 2, 4, 3.0]), np.array([1, 2, 3, 4.0]), rows)
    assert found["matched_tau", ""] == 0 and found["tau", ""] == pytest.approx(4 / 6)


def test_no_matched_pair_is_nan_not_zero():
    rows = pd.DataFrame({"macs": [1, 10, 100], "ram_bytes": 4096})
    assert np.isnan(statistics(np.arange(3.0), np.arange(3.0), rows)["matched_tau", ""][0])


def test_precision_shares_ties_out():
    rows = pd.DataFrame({"macs": np.ones(10), "ram_bytes": 4096})
    truth = np.arange(10.0)
    assert statistics(truth, truth, rows)["precision", ""] == 1
    assert statistics(-truth, truth, rows)["precision", ""] == 0
    # 9 first; four systems, 8 among them, tie for the second place
    assert statistics(np.array([0, 0, 0, 0, 0, 5, 5, 5, 5, 9]), truth, rows)["precision", ""] == (1 + 1 / 4) / 2


def test_decision_loss_is_the_price_of_the_pick_within_each_limit():
    rows = pd.DataFrame({"macs": [1, 2, 3], "ram_bytes": 4096})
    found = statistics(np.array([3, 1, 9.0]), np.array([0.6, 0.7, 0.9]), rows, limits=[0, 2, 3])
    assert np.isnan(found["loss", "macs<=0"][0])
    assert found["loss", "macs<=2"] == found["loss", "worst"] == pytest.approx(0.1) and found["loss", "macs<=3"] == 0
    tied = statistics(np.ones(3), np.array([0.6, 0.7, 0.9]), rows, limits=[2])
    assert tied["loss", "macs<=2"] == pytest.approx(0.05)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_score_of_minus_infinity_is_worse_than_all_and_spoils_nothing(lost):
    judged = judge(TRUTH, SCORES)
    score = judged.scores["shared"][0].copy()
    score[:lost] = -np.inf
    finite = np.where(np.isinf(score), -1, score)
    found, expected = (statistics(s, judged.truth, judged.rows, [1e6]) for s in (score, finite))
    assert found == expected


def test_one_score_for_each_draw_is_judged_draw_by_draw():
    judged = judge(TRUTH, SCORES)
    draws = np.random.default_rng(0).integers(40, size=(3, 40))
    scores = np.random.default_rng(1).random((3, 40))
    found = statistics(scores, judged.truth, judged.rows, [1e6], draws) | bias(scores, judged.truth, judged.rows, draws)
    for d in range(3):
        one = statistics(scores[d], judged.truth, judged.rows, [1e6], draws[d : d + 1]) | bias(
            scores[d], judged.truth, judged.rows, draws[d : d + 1]
        )
        assert {k: v[0] for k, v in one.items()} == pytest.approx({k: v[d] for k, v in found.items()}, nan_ok=True)


def test_bias_is_centred_and_by_group():
    judged = judge(TRUTH, SCORES)
    low = (judged.rows["ending"] == 2).to_numpy()
    found = bias(judged.truth - 0.1 * low + 0.4, judged.truth, judged.rows)
    assert found["bias", "ending=2"] == pytest.approx(-0.1 * (1 - low.mean()))
    assert found["bias", "ending=6"] == pytest.approx(0.1 * low.mean())
    groups = judged.rows.groupby("resolution").size()
    by = [found["bias", f"resolution={r}"][0] * n for r, n in groups.items()]
    assert sum(by) == pytest.approx(0, abs=1e-12)


# Rows


def test_judged_rows_keep_order_and_pair_systems_with_their_scores():
    judged = judge(TRUTH.sample(frac=1, random_state=0), SCORES.sample(frac=1, random_state=1))
    assert set(judged.systems) == set(JUDGING) and judged.accuracies.shape == (40, 2)
    system, row = judged.systems[7], SCORES[(SCORES["maker"] == "shared") & (SCORES.supernet == 2)]
    row = row[(row[KEYS].astype(str) == pd.Series(system.to_dict())[KEYS].astype(str)).all(axis=1)]
    assert judged.scores["shared"][2, 7] == row.score.iloc[0]
    assert judged.scores["macs"][0, 7] == macs(system, 2) == judged.rows["macs"][7]
    assert judged.cost_macs == 800 and judged.rows["ending"][7] == system.arch.ending


def test_rows_survive_csv():
    def through(df):
        return pd.read_csv(io.StringIO(df.to_csv(index=False)))

    a, b = judge(TRUTH, SCORES), judge(through(TRUTH), through(SCORES))
    assert a.systems == b.systems and np.allclose(a.scores["shared"], b.scores["shared"])


@pytest.mark.parametrize(
    "truth, scores, said",
    [
        (TRUTH.drop(columns="macs"), SCORES, "trainings have no column 'macs'"),
        (TRUTH, SCORES.drop(columns="rounding"), "scores have no column 'rounding'"),
        (TRUTH[TRUTH["set"] == "choosing"], SCORES, "no trainings of the set 'judging': there are choosing"),
        (pd.concat([TRUTH, TRUTH.assign(data="b")]), SCORES, "invented, b: judge one data set"),
        (pd.concat([TRUTH, TRUTH]), SCORES, "test of .* is missing or there twice"),
        (TRUTH, pd.concat([SCORES, SCORES.iloc[-1:]]), "score of .* is missing or there twice"),
        (TRUTH, SCORES.iloc[:-1], "score every system with every supernet"),
        (TRUTH.assign(test=np.nan), SCORES, "test of .* is missing or there twice"),
    ],
)
def test_bad_rows_are_one_line(truth, scores, said):
    with pytest.raises(
        DansError,
        match=said.replace("trainings have", "rows of trainings have").replace("scores have", "rows of scores have"),
    ):
        judge(truth, scores)


def test_scores_of_another_data_set_are_left_out():
    both = pd.concat([SCORES.assign(data="invented"), SCORES.assign(data="other", score=0.0)])
    assert np.array_equal(judge(TRUTH, both).scores["shared"], judge(TRUTH, SCORES).scores["shared"])


# Intervals


def test_the_first_row_is_the_estimate_and_a_seed_gives_the_same_draws():
    judged = judge(TRUTH, SCORES)
    drawn = resample(judged, [1e6], draws=50)
    each = [kendalltau(s, judged.truth)[0] for s in judged.scores["shared"]]
    assert drawn["shared", "tau", ""][0] == pytest.approx(np.mean(each)) and len(drawn) == 51
    pd.testing.assert_frame_equal(drawn, resample(judged, [1e6], draws=50))
    assert not drawn.equals(resample(judged, [1e6], draws=50, seed=1))
    assert "bias" not in drawn["macs"].columns.get_level_values(0)


def test_makers_are_resampled_together():
    judged = judge(TRUTH, SCORES)
    same = judged.scores | {"copy": judged.scores["shared"] * 2 + 1}
    drawn = resample(Judged(judged.systems, judged.rows, judged.accuracies, same, 0.0), draws=50, proxies=["copy"])
    gap = difference(drawn, "shared", "copy")
    assert np.allclose(gap["shared - copy", "tau", ""], 0)
    assert set(gap.columns.get_level_values("statistic")) == {"tau", "matched_tau", "spearman", "precision"}


def test_intervals_hold_the_tau_of_the_population_and_are_as_wide_as_its_spread():
    rng, taus = np.random.default_rng(0), []
    for _ in range(60):
        x, e = rng.normal(size=(2, 40))
        judged = made((0.8 * x + 0.6 * e)[:, None], {"maker": x[None]})
        df = intervals(resample(judged, draws=300, proxies=["maker"])).set_index("statistic")
        taus.append(df.loc["tau", ["value", "low", "high"]].astype(float))
    taus, population = pd.DataFrame(taus), 2 / np.pi * np.arcsin(0.8)
    assert ((taus.low <= population) & (population <= taus.high)).mean() >= 0.85
    assert (taus.high - taus.low).mean() / (2 * 1.96 * taus.value.std()) == pytest.approx(1, abs=0.3)


def test_supernets_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    alike = np.stack([truth + rng.normal(0, 0.5, 40)] * 3)
    unlike = np.stack([truth + rng.normal(0, sd, 40) for sd in (0.1, 0.5, 3)])
    df = intervals(resample(made(truth[:, None], {"alike": alike, "unlike": unlike}), draws=300))
    width = df[df.statistic == "tau"].set_index("maker").eval("high - low")
    assert width["unlike"] > 1.5 * width["alike"]


# The ceiling


def test_components_find_the_variances_that_were_put_in():
    rng = np.random.default_rng(0)
    n, k = 400, 3
    cost = np.geomspace(1e5, 1e7, n)
    true = 0.05 * np.log10(cost) + rng.normal(0, 0.02, n)
    # a shift of a whole supernet is no noise
    scores = true + rng.normal(0, 0.03, (4, n)) + np.array([[0], [1], [2], [3]])
    truth = true[:, None] + rng.normal(0, 0.01, (n, k))
    rows = pd.DataFrame({"macs": cost, "ram_bytes": 4096})
    found = components(Judged((None,) * n, rows, truth, {"shared": scores, "macs": cost[None]}, 0.0))
    sd = found.set_index(["of", "source"])["sd"]
    assert sd["accuracy", "training"] == pytest.approx(0.01, rel=0.1)
    assert sd["accuracy", "system"] == pytest.approx(0.02, rel=0.1)
    assert sd["shared", "supernet"] == pytest.approx(0.03, rel=0.1)
    assert sd["shared", "system"] == pytest.approx(true.std(), rel=0.1)
    assert found.groupby("of")["share"].sum().tolist() == pytest.approx([1, 1])


def test_the_ceiling_is_what_the_true_means_reach():
    rng, tops, known = np.random.default_rng(1), [], []
    cost = np.repeat(np.geomspace(1e5, 1e7, 20), 2) * np.tile([1, 1.1], 20)
    for _ in range(8):
        true = 0.7 + 0.05 * np.log10(cost / 1e6) + rng.normal(0, 0.015, 40)
        judged = made(true[:, None] + rng.normal(0, 0.012, (40, 2)), macs_=cost)
        top = ceiling(judged, draws=100).iloc[0]
        again = [statistics(true, true + rng.normal(0, 0.012 / 2**0.5, 40), judged.rows) for _ in range(100)]
        tops.append([top["ceiling", s, ""] for s in ("tau", "matched_tau")])
        known.append([np.mean([a[s, ""] for a in again]) for s in ("tau", "matched_tau")])
    assert np.allclose(np.mean(tops, 0), np.mean(known, 0), atol=0.05)
    assert np.mean(known, 0)[1] < np.mean(known, 0)[0] - 0.05, "matched pairs are the harder ones"


def test_without_noise_the_ceiling_is_one_and_without_repeats_unknown():
    truth = np.tile(np.random.default_rng(0).random((20, 1)), 2)
    assert ceiling(made(truth), draws=20)["ceiling", "tau", ""].min() == pytest.approx(1)
    for call in (ceiling, components):
        with pytest.raises(DansError, match="noise of training is unknown: train some with two seeds"):
            call(made(truth[:, :1]))
    truth[1:, 1] = np.nan  # one system with two trainings is enough to go on
    assert ceiling(made(truth), draws=5).notna().any(axis=None)


def test_plateau_compares_the_same_systems_only():
    longer = TRUTH[TRUTH["set"] == "judging"].iloc[:20].assign(set="long")
    rows = pd.concat([TRUTH, longer])
    found = plateau(rows, draws=50).set_index("maker")
    assert found.loc["trained longer", "value"] == 1 and found.loc["the same again", "value"] < 1
    quiet = rows.assign(
        test=rows.test.where(
            (rows["set"] != "judging") | rows.index.isin(longer.index), rows.groupby(KEYS).test.transform("mean")
        )
    )
    assert (
        plateau(quiet, draws=50).set_index("maker").loc["the same again", "value"]
        > found.loc["the same again", "value"]
    ), "noise is that of all"
    turned = plateau(pd.concat([TRUTH, longer.assign(test=1 - longer.test)]), draws=50)
    assert turned.set_index("maker").loc["trained longer", "value"] == -1


@pytest.mark.parametrize("systems", [1, 2, 4])
def test_a_plateau_of_few_systems_leaves_all_else_as_it_is(systems):
    longer = TRUTH[TRUTH["set"] == "judging"].iloc[: 2 * systems].assign(set="long")
    found = summary(pd.concat([TRUTH, longer]), SCORES, draws=20).targets.set_index("maker")
    assert found.loc["trained longer", "met"] is (True if systems > 1 else None)
    assert found.loc["the same again", "met"] is None and found.loc["shared", "value"].notna().all()


# The corrected score


def models(slope, seed):
    fitted, judged = judge(*study(seed, slope), of="choosing", accuracy="val"), judge(*study(seed, slope))
    return kendalltau(judged.scores["shared"][0], judged.truth)[0], kendalltau(
        corrected(fitted, judged, "shared")[0], judged.truth
    )[0]


def test_correction_raises_tau_where_there_is_a_bias_and_costs_little_where_there_is_none():
    biased, fair = ([models(slope, seed) for seed in range(10)] for slope in (0.03, 0.0))
    raw, better = np.mean(biased, 0)
    assert better > raw + 0.1
    raw, kept = np.mean(fair, 0)
    assert kept > raw - 0.04


def test_scores_that_are_right_stay_as_they_are():
    accuracies = np.random.default_rng(0).uniform(0.5, 0.9, 16)
    corrector = Corrector.fit(CHOOSING, accuracies, accuracies)
    assert np.allclose(corrector.predict(CHOOSING, accuracies), accuracies, atol=1e-6) and corrector.error < 1e-6
    halved = Corrector.fit(CHOOSING, accuracies / 2 - 0.1, accuracies)
    assert np.allclose(halved.predict(CHOOSING, accuracies / 2 - 0.1), accuracies, atol=1e-6)


def test_leaving_one_out_is_what_the_closed_form_says():
    rng = np.random.default_rng(3)
    scores = rng.uniform(0.5, 0.8, 16)
    accuracies = scores + rng.normal(0, 0.03, 16) + 0.1 * np.array([s.arch.ending == 2 for s in CHOOSING])
    whole = Corrector.fit(CHOOSING, scores, accuracies)
    x = np.array([[1, sc, s.arch.ending, s.arch.ending <= 3, np.log2(s.arch.width), np.log2(s.data.resolution), s.data.color == "mono"]
                  for s, sc in zip(CHOOSING, scores)], float)  # fmt: skip
    x[:, 1:] = (x[:, 1:] - x[:, 1:].mean(0)) / x[:, 1:].std(0)
    penalty, errors = whole.strength * np.diag([0, 0, 1, 1, 1, 1, 1]), []
    for i in range(16):
        a, b = np.delete(x, i, 0), np.delete(accuracies, i)
        errors.append(accuracies[i] - x[i] @ np.linalg.solve(a.T @ a + penalty, a.T @ b))
    assert whole.error == pytest.approx(np.sqrt(np.mean(np.square(errors))))


def test_a_corrector_is_a_dozen_numbers_that_survive_csv():
    corrector = Corrector.fit(CHOOSING, np.linspace(0.5, 0.8, 16), np.linspace(0.6, 0.7, 16) ** 2)
    record = corrector.to_dict()
    assert len(record) <= 12 and set(FEATURES) < set(record)
    back = pd.read_csv(io.StringIO(pd.DataFrame([record]).to_csv(index=False))).iloc[0]
    assert Corrector.from_dict(back) == Corrector.from_dict(record) == corrector
    with pytest.raises(DansError, match="a record of Corrector lacks 'mono'"):
        Corrector.from_dict({k: v for k, v in record.items() if k != "mono"})


def test_features_that_do_not_vary_get_nothing():
    rgb = [s for s in CHOOSING + JUDGING if s.data.color == "rgb" and s.data.resolution == 48]
    y = np.random.default_rng(0).random(len(rgb))
    coefficients = dict(zip(FEATURES, Corrector.fit(rgb, np.zeros(len(rgb)), y).coefficients))
    assert [k for k, v in coefficients.items() if v == 0] == ["score", "log2_resolution", "mono"]


@pytest.mark.parametrize(
    "systems, scores, accuracies, said",
    [
        (CHOOSING[:5], np.ones(5), np.ones(5), "5 systems are too few .* train at least 6"),
        (CHOOSING[:3] * 4, np.ones(12), np.ones(12), "3 systems are too few"),
        (CHOOSING, np.ones(15), np.ones(16), "16 systems come with 15 scores"),
        (CHOOSING, np.ones(16), np.ones(15), "16 systems come with 15 accuracies"),
        (CHOOSING, np.full(16, np.nan), np.ones(16), "16 systems come with 0 scores"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(systems, scores, accuracies, said):
    with pytest.raises(DansError, match=said):
        Corrector.fit(systems, scores, accuracies)


def test_a_correction_is_judged_on_systems_that_it_has_not_seen():
    judged = judge(TRUTH, SCORES)
    with pytest.raises(DansError, match="judged on systems that it was fitted on"):
        corrected(judged, judged, "shared")
    fewer = SCORES[(SCORES.supernet < 2) | SCORES["maker"].ne("shared")]
    with pytest.raises(DansError, match="2 supernets on one set and 3 on the other"):
        corrected(judge(TRUTH, fewer, of="choosing", accuracy="val"), judged, "shared")


def test_a_correction_is_fitted_again_for_each_draw():
    fitted, judged = judge(TRUTH, SCORES, of="choosing", accuracy="val"), judge(TRUTH, SCORES)
    for maker in ("shared", None):
        again = refitted(fitted, judged, maker, draws=30)
        assert again.shape == (3 if maker else 1, 31, 40)
        assert np.array_equal(again[:, 0], corrected(fitted, judged, maker))
        assert np.isfinite(again).all() and again[:, 1:].std(1).min() > 0
    again = refitted(fitted, judged, "shared", draws=2000)
    assert np.allclose(again[:, 1:].mean(1), again[:, 0], atol=0.02)


def test_the_interval_of_a_corrected_score_lies_around_its_estimate():
    "Of 16 systems a draw holds about 10, so what is fitted on it ranks worse; that is taken out."
    short = TRUTH[TRUTH["set"] == "choosing"].sample(frac=1, random_state=0).depths.unique()[:4]
    truth = TRUTH[(TRUTH["set"] != "choosing") | TRUTH.depths.isin(short)]
    fitted, judged = judge(truth, SCORES, of="choosing", accuracy="val"), judge(truth, SCORES)
    again = refitted(fitted, judged, None, draws=300)
    alone = Judged(judged.systems, judged.rows, judged.accuracies, {"no score": again[:, 0]}, 0.0)
    taus = resample(alone, draws=300, refitted={"no score": again})["no score", "tau", ""]
    of_refits = statistics(again[0], judged.truth, judged.rows, draws=np.tile(np.arange(40), (301, 1)))["tau", ""]
    assert of_refits[1:].mean() < of_refits[0] - 0.01
    plain = resample(alone, draws=300)["no score", "tau", ""]
    assert abs(taus[1:].mean() - plain[1:].mean()) < 0.01 and taus[1:].std() > plain[1:].std()


def test_fewer_fitted_systems_widen_the_interval_of_a_corrected_score():
    def width(name):
        truth = TRUTH[(TRUTH["set"] != "choosing") | TRUTH.depths.isin(name)]
        table = summary(truth, SCORES[SCORES["maker"] == "shared"], draws=200).statistics
        return table[(table["maker"] == "shared, corrected") & (table.statistic == "tau")].eval("high - low").iloc[0]

    few = TRUTH[TRUTH["set"] == "choosing"].depths.unique()
    assert width(few[:5]) > width(few)


def test_corrections_on_several_sets_are_fitted_costed_and_judged_apart():
    short = TRUTH[(TRUTH["set"] == "choosing") & (TRUTH.seed == 0)].assign(set="short", cost_macs=2.0)
    both = {"corrected": "choosing", "corrected cheaply": "short"}
    found = summary(pd.concat([TRUTH, short]), SCORES, fitted_on=both, draws=20)
    alone = summary(TRUTH, SCORES, draws=20)
    value, other = (f.statistics.set_index(["maker", "statistic", "at"])["value"] for f in (found, alone))
    assert (
        value["shared, corrected", "tau", ""]
        == other["shared, corrected", "tau", ""]
        != value["shared, corrected cheaply", "tau", ""]
    )
    assert (found.costs["no score, corrected"], found.costs["no score, corrected cheaply"]) == (320, 32)
    assert len(found.targets) - len(alone.targets) == 6 and found.targets.maker.str.contains("cheaply").sum() == 6
    assert "shared, corrected - shared, corrected cheaply" in set(found.statistics["maker"])


def test_what_is_left_uncorrected_is_judged_as_it_is():
    found = summary(TRUTH, SCORES, uncorrected=["per_config"], draws=20)
    assert {m for m in found.points["maker"] if m.startswith("per_config")} == {"per_config"}


def test_costs_add_networks_tuning_and_fitted_trainings():
    rows = SCORES[SCORES["maker"].isin(["shared", "largest_only"])].assign(
        net=lambda df: np.where(df["maker"] == "shared", "all", df.resolution.astype(str)),
        cost_macs=100.0,
        tuning_macs=lambda df: np.where(df["maker"] == "shared", 0, 1),
    )
    found = summary(TRUTH, rows, draws=20)
    nets = rows.resolution.nunique()
    assert found.costs[["shared", "largest_only"]].tolist() == [100, 100 * nets + 40], "only what is ranked is tuned"
    assert found.costs["largest_only, corrected"] == 100 * nets + 56 + 16 * 2 * 10
    assert found.costs["shared, corrected"] == 100 + 16 * 2 * 10
    assert rank_table(found.statistics, found.costs).set_index("maker").loc["shared, corrected", "cost"] == "4.20"


# The proxy


def test_the_proxy_is_the_determinant_of_shared_bits(tmp_path):
    import keras

    from dans.data import prepare, wake_scenes
    from dans.elastic import initial_weights, keras_model

    system = next(s for s in JUDGING if s.arch.ending == 3 and s.data.color == "rgb")
    prepared = prepare(wake_scenes(n_train=8, n_val=4, n_test=4, seed=0), [system.data.resolution], tmp_path)
    batch = prepared.view("train", system.data).images
    model, weights = keras_model(system), initial_weights(system.arch, 2, 0)
    for layer in model.layers:
        if f"{layer.name}/kernel" in weights and not layer.name.startswith("head"):
            layer.set_weights([weights[f"{layer.name}/kernel"]])
    codes = keras.Model(model.input, [layer.output for layer in model.layers if layer.name.endswith("_relu6")])
    on = np.concatenate(
        [np.asarray(out).reshape(8, -1) > 0 for out in codes(batch.astype("float32") / 127.5 - 1, training=True)], 1
    )
    kernel = np.array([[(a == b).sum() for b in on] for a in on])
    assert proxy(system, batch) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-3)
    assert proxy(system, batch, seed=1) != proxy(system, batch)


def test_importing_the_room_loads_no_backend():
    code = "import sys, dans.rank; print({'tensorflow', 'keras', 'jax', 'scipy', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# The whole


def test_summary_has_every_maker_raw_and_corrected_and_every_verdict():
    guess = SCORES[(SCORES["maker"] == "shared") & (SCORES.supernet == 0)].assign(
        maker="proxy", score=lambda df: 1 / df.width
    )
    rows = pd.concat([TRUTH, TRUTH[TRUTH["set"] == "judging"].iloc[:20].assign(set="long")])
    found = summary(rows, pd.concat([SCORES, guess]), limits=[1e6], draws=100)
    makers = set(found.points["maker"])
    modes = {"shared", "per_config", "largest_only"}
    assert makers == modes | {f"{m}, corrected" for m in modes} | {"macs", "parameters", "proxy", "no score, corrected"}
    assert set(found.statistics["at"]) >= {"", "macs<=1000000", "ending=2", "resolution=32", "width=0.1"}
    assert found.targets.set_index("maker")["met"].drop("the same again").notna().all() and len(found.targets) == 14
    assert (
        found.costs["no score, corrected"] == 16 * 2 * 10
        and np.isnan(found.costs["shared"])
        and found.costs["macs"] == 0
    )
    value = found.statistics.set_index(["maker", "statistic", "at"])["value"]
    assert value["shared, corrected - macs", "tau", ""] == pytest.approx(
        value["shared, corrected", "tau", ""] - value["macs", "tau", ""]
    )
    assert (found.statistics.dropna()["low"] <= found.statistics.dropna()["high"]).all()
    assert len(found.points) == len(makers) * 40 and set(found.components["of"]) == modes | {"accuracy"} | {
        f"{m}, corrected" for m in modes
    }
    table = rank_table(found.statistics)
    assert set(table["maker"]) == makers | {"ceiling"} and table.shape[1] == 6


def test_summary_of_single_trainings_and_one_mode_says_what_cannot_be_told():
    truth, scores = study(trainings=1, supernets=1)
    found = summary(truth, scores[scores["maker"] == "shared"], draws=20)
    unknown = found.targets[found.targets["met"].isna()]["target"]
    assert len(found.components) == 0 and "ceiling" not in set(found.statistics["maker"])
    assert len(unknown) == 6 and unknown.str.contains("longer|noise alone|per_config|largest_only").all()


def rows_of(*found):
    df = pd.DataFrame(found, columns=["maker", "statistic", "value", "low", "high"])
    return df.assign(at=np.where(df.statistic == "loss", "worst", ""))


@pytest.mark.parametrize(
    "target, found, met",
    [
        ("tau at least 0.8", [("shared", "tau", 0.81, 0.7, 0.9)], True),
        ("tau at least 0.8", [("shared", "tau", 0.79, 0.7, 0.9)], False),
        ("tau at least 0.8", [("shared", "tau", 0.75, 0.7, 0.9), ("ceiling", "tau", 0.8, 0.74, 0.9)], True),
        ("tau at least 0.8", [("shared", "tau", 0.85, 0.7, 0.9), ("ceiling", "tau", 0.95, 0.9, 0.99)], True),
        ("matched tau", [("shared", "matched_tau", 0.49, 0.1, 0.9)], False),
        ("that of MACs", [("shared - macs", "tau", 0.16, -0.1, 0.3)], True),
        ("decision loss", [("shared", "loss", 0.02, 0, 0.03)], False),
        ("decision loss", [("shared", "loss", 0.005, 0, 0.02)], True),
        ("per_config", [("shared - per_config", "tau", -0.01, -0.1, 0.1)], False),
        ("largest_only", [("shared - largest_only", "tau", 0.2, -0.01, 0.3)], False),
        ("largest_only", [("shared - largest_only", "tau", 0.2, 0.01, 0.3)], True),
        ("longer", [("trained longer", "plateau", 0.91, 0.5, 1)], True),
    ],
)
def test_verdicts(target, found, met):
    df = targets(rows_of(*found))
    row = df[df.target.str.contains(target) & df.maker.isin([f[0] for f in found])]
    assert len(row) == 1 and row["met"].iloc[0] is met
