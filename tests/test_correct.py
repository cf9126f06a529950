"Corrections: what a few trainings mend, the closed form, records, refits, and what it all costs."

import io

import numpy as np
import pandas as pd
import pytest
from make_study import CHOOSING, JUDGING, SCORES, TRUTH, study
from scipy.stats import kendalltau

from dans.choose.correct import FEATURES, Corrector, corrected, costs_of, refitted
from dans.choose.rank import Judged, judge, statistics
from dans.choose.resampled import resample
from dans.house import DansError


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
    ends, logs = [s.arch.ending for s in CHOOSING], [(s.arch.width, s.data.resolution) for s in CHOOSING]
    short, mono = [end <= 3 for end in ends], [s.data.color == "mono" for s in CHOOSING]
    x = np.column_stack([np.ones(16), scores, ends, short, np.log2(logs), mono])
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


def costed(scores):
    return scores.assign(net=scores["maker"].where(scores["maker"] != "largest_only", scores["resolution"].astype(str)))


def test_a_run_costs_all_its_networks_and_the_tuning_of_what_it_ranks():
    rows = costed(SCORES).assign(cost_macs=100.0, tuning_macs=lambda df: (df["maker"] == "largest_only") * 2)
    found = costs_of(rows, judge(TRUTH, SCORES))
    nets = SCORES["resolution"].nunique()
    assert found[["shared", "largest_only"]].tolist() == [100, 100 * nets + 40 * 2]
    assert found[["macs", "parameters"]].tolist() == [0, 0] and found.name == "cost_macs"


def test_a_correction_costs_its_trainings_and_the_tuning_of_their_systems():
    rows = costed(SCORES).assign(cost_macs=100.0, tuning_macs=lambda df: (df["maker"] == "largest_only") * 2)
    fitted = judge(TRUTH, SCORES, of="choosing", accuracy="val")
    found = costs_of(rows, judge(TRUTH, SCORES), {"by val": fitted})
    assert found["shared, by val"] == 100 + fitted.cost_macs == 100 + 16 * 2 * 10
    assert found["largest_only, by val"] - found["largest_only"] == 16 * 2 + fitted.cost_macs
    assert found["no score, by val"] == fitted.cost_macs


def test_what_rows_do_not_say_of_costs_is_nan_not_zero():
    fitted = judge(TRUTH, SCORES, of="choosing", accuracy="val")
    found = costs_of(SCORES, judge(TRUTH, SCORES), {"corrected": fitted})
    assert found[["shared", "shared, corrected"]].isna().all()
    assert found["no score, corrected"] == fitted.cost_macs and found["macs"] == 0
