"Ranks: statistics as scipy gives them, intervals and ceilings with a known answer, the proxy."

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_study import JUDGING, SCORES, TRUTH, made
from scipy.stats import kendalltau, spearmanr

from dans.choose.ceiling import ceiling, components, plateau
from dans.choose.proxy import proxy
from dans.choose.rank import KEYS, Judged, bias, invented, judge, matched, ram_class, statistics, systems_of
from dans.choose.resampled import difference, resample, unbiased
from dans.choose.stats import intervals
from dans.cost.footprint import macs
from dans.house import DansError

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


def test_rows_name_their_systems():
    assert systems_of(TRUTH[TRUTH["set"] == "judging"].drop_duplicates(KEYS)) == JUDGING


def test_an_invented_study_is_known():
    truth, scores, true = invented(JUDGING[:3], JUDGING[3:10], np.random.default_rng(0), bias=0.1, noise=0.0)
    judged = judge(truth, scores)
    assert judged.systems == tuple(JUDGING[3:10]) and np.allclose(judged.truth, true)
    low = np.array([max(0, 5 - s.arch.ending) for s in judged.systems])
    assert np.allclose(judged.scores["shared"], true - 0.1 * low) and judged.scores["shared"].shape == (3, 7)


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


def test_the_bias_correction_shifts_draws_by_what_refits_lose_and_writes_into_nothing():
    judged = judge(TRUTH, SCORES)
    rng = np.random.default_rng(0)
    score = np.vstack([judged.truth, judged.truth + rng.normal(0, 0.02, (200, 40))])  # refits that rank worse
    draws = np.vstack([np.arange(40), rng.integers(40, size=(200, 40))])
    found = statistics(score, judged.truth, judged.rows, draws=draws)
    before = {name: values.copy() for name, values in found.items()}
    shifted = unbiased(found, score, judged)
    assert all(np.array_equal(found[name], values, equal_nan=True) for name, values in before.items())
    refits = np.mean([kendalltau(s, judged.truth)[0] for s in score[1:]])
    assert shifted["tau", ""][0] == found["tau", ""][0] == pytest.approx(1)
    expected = np.clip(found["tau", ""][1:] + 1 - refits, -1, 1)
    assert np.allclose(shifted["tau", ""][1:], expected)
    assert set(shifted) == {("tau", ""), ("matched_tau", ""), ("spearman", "")}


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


# The proxy


def test_the_proxy_is_the_determinant_of_shared_bits(tmp_path):
    import keras

    from dans.data.catalogue import wake_scenes
    from dans.data.prepared import prepare
    from dans.net.elastic import initial_weights, keras_model

    system = next(s for s in JUDGING if s.arch.ending == 3 and s.data.color == "rgb")
    prepared = prepare(wake_scenes(n_train=8, n_val=4, n_test=4, seed=0), [system.data.resolution], tmp_path)
    batch = prepared.view("train", system.data).images
    model, weights = keras_model(system, 2), initial_weights(system.arch, 2, 0)
    for layer in model.layers:
        if f"{layer.name}/kernel" in weights and not layer.name.startswith("head"):
            layer.set_weights([weights[f"{layer.name}/kernel"]])
    codes = keras.Model(model.input, [layer.output for layer in model.layers if layer.name.endswith("_relu6")])
    on = np.concatenate(
        [np.asarray(out).reshape(8, -1) > 0 for out in codes(batch.astype("float32") / 127.5 - 1, training=True)], 1
    )
    kernel = np.array([[(a == b).sum() for b in on] for a in on])
    assert proxy(system, batch, 2) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-3)
    assert proxy(system, batch, 2, seed=1) != proxy(system, batch, 2)


@pytest.mark.parametrize(
    "room", ["choose.stats", "choose.rank", "choose.resampled", "choose.ceiling", "choose.correct", "paper.claims"]
)
def test_importing_a_room_loads_no_backend(room):
    code = f"import sys, dans.{room}; print({{'tensorflow', 'keras', 'jax', 'scipy', 'sklearn'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
