"Ranks within bands: each number against the plainest way to count it, and what must hold whatever the scores are."

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest

from dans.choose.bandrank import (
    band_ceiling,
    band_resample,
    band_statistics,
    bands_best,
    by_band,
    choose_rule,
    drawn_in_bands,
    fresh_losses,
    means_of,
    rank_mean,
    seed_noise,
    top_loss,
    truth_of,
)
from dans.choose.benchmark import SEARCHED, invented_table, load_benchmark
from dans.choose.rank import KEYS
from dans.house import DansError


def tau_b(x, y):
    s = t = both = 0
    for i, j in combinations(range(len(x)), 2):
        a, b = (int(v[i] > v[j]) - int(v[i] < v[j]) for v in (x, y))
        s, t, both = s + a * a, t + b * b, both + a * b
    return both / (s * t) ** 0.5 if s and t else np.nan


def loss_by_hand(score, truth, k, value):
    "Mean over all orders in which the score leaves equals."
    filled, losses = np.where(np.isnan(score), -np.inf, score), []
    best = value[max(range(len(truth)), key=lambda i: (truth[i], i))]
    for order in permutations(range(len(truth))):
        if all(filled[a] >= filled[b] for a, b in zip(order, order[1:])):
            losses.append(best - value[max(order[:k], key=lambda i: (truth[i], i))])
    return np.mean(losses)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_the_loss_is_the_mean_over_all_orders_of_equal_scores(seed, k):
    rng = np.random.default_rng([seed, k])
    score = rng.integers(3, size=6).astype(float)
    score[rng.random(6) < 0.2] = np.nan
    truth, value = rng.integers(5, size=6) / 10, rng.random(6)
    assert top_loss(score, truth, k, value=value) == pytest.approx(loss_by_hand(score, truth, k, value))
    assert top_loss(score, truth, k) == pytest.approx(loss_by_hand(score, truth, k, truth))


def test_a_value_that_nobody_knows_matters_only_where_it_is_asked_for():
    truth = np.array([0.1, 0.2, 0.3])
    assert np.isnan(top_loss(np.array([3.0, 2, 1]), truth, value=np.array([np.nan, 0.5, 0.6])))
    assert np.isnan(top_loss(np.array([1.0, 2, 3]), truth, value=np.array([0.5, 0.5, np.nan])))
    assert top_loss(np.array([1.0, 2, 0]), truth, value=np.array([np.nan, 0.5, 0.6])) == pytest.approx(0.1)


def some(seed=0, bands=(4, 6, 1, 5), outside=3):
    rng = np.random.default_rng(seed)
    band = pd.array([b for b, n in enumerate(bands, 1) for _ in range(n)] + [None] * outside, dtype="Int64")
    n = len(band)
    frame = pd.DataFrame(dict(band=band, truth=rng.integers(8, size=n) / 10, macs=rng.integers(1, 99, size=n) * 1e4))
    return frame.assign(trainings=2).sample(frac=1, random_state=seed), rng.integers(6, size=n).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_statistics_are_those_of_each_band_by_itself(seed):
    frame, score = some(seed)
    truth, taus, pairs, losses = frame["truth"].to_numpy(), [], [], []
    for band in (1, 2, 4):
        at = np.flatnonzero((frame["band"] == band).fillna(False).to_numpy(bool))
        taus.append(tau_b(score[at], truth[at]))
        pairs.append(len(at) * (len(at) - 1) / 2)
        losses.append(loss_by_hand(score[at], truth[at], 1, truth[at]))
    told = ~np.isnan(taus)
    found = band_statistics(score, frame)
    assert found["tau", ""][0] == pytest.approx(tau_b(score, truth))
    assert found["band_tau", ""][0] == pytest.approx(np.average(np.array(taus)[told], weights=np.array(pairs)[told]))
    assert found["loss", "top 1"][0] == pytest.approx(np.mean(losses))
    each = by_band(score, frame).set_index("band")
    assert list(each.index) == [1, 2, 4] and list(each["pairs"]) == pairs
    assert each["tau"].to_numpy() == pytest.approx(taus, nan_ok=True)
    assert each["loss"].to_numpy() == pytest.approx(losses)


def test_the_order_of_rows_and_a_monotonic_change_of_scores_are_nothing():
    frame, score = some(3)
    order = np.random.default_rng(0).permutation(len(frame))
    first = band_statistics(score, frame)
    for other in (band_statistics(score[order], frame.iloc[order]), band_statistics(np.exp(score), frame)):
        assert {k: v[0] for k, v in other.items()} == pytest.approx({k: v[0] for k, v in first.items()})
    perfect = band_statistics(frame["truth"].to_numpy(), frame)
    assert perfect["tau", ""][0] == pytest.approx(1) and perfect["band_tau", ""][0] == pytest.approx(1)
    assert not any(abs(v[0]) > 1e-12 for (name, _), v in perfect.items() if name == "loss")


def test_bands_without_a_pair_give_no_number():
    frame, score = some(bands=(1, 1), outside=4)
    found = band_statistics(score, frame)
    assert np.isnan(found["band_tau", ""][0]) and np.isnan(found["loss", "top 1"][0])
    assert np.isfinite(found["tau", ""][0]) and by_band(score, frame).empty


def test_draws_keep_the_size_of_each_band_and_are_as_if_systems_stood_there_twice():
    frame, score = some(1)
    counts = drawn_in_bands(frame, 30, 5)
    bands = frame["band"].to_numpy(dtype=float, na_value=-1)
    for band in np.unique(bands):
        assert set(counts[:, bands == band].sum(1)) == {(bands == band).sum()}
    assert (counts[0] == 1).all()
    found = band_statistics(score, frame, counts)
    for i in (0, 7, 19):
        at = np.repeat(np.arange(len(frame)), counts[i].astype(int))
        again = band_statistics(score[at], frame.iloc[at])
        assert found["tau", ""][i] == pytest.approx(again["tau", ""][0])
        assert found["band_tau", ""][i] == pytest.approx(again["band_tau", ""][0], nan_ok=True)


def test_a_loss_of_drawn_bands_is_the_mean_of_theirs():
    frame, score = some(1)
    each = by_band(score, frame)["loss"].to_numpy()
    weights = np.array([[1, 1, 1], [3, 0, 0], [0, 1, 2]])
    found = band_statistics(score, frame, weights=weights, tops=(1,))["loss", "top 1"]
    assert found == pytest.approx(weights @ each / 3)
    drawn = band_resample({"a": score[None]}, frame, 200, 3)["a", "loss", "top 1"]
    assert drawn[0] == pytest.approx(each.mean()) and drawn.between(each.min() - 1e-9, each.max() + 1e-9).all()


def test_supernets_count_alike_and_draws_are_shared_by_makers():
    frame, score = some(2)
    other = np.random.default_rng(1).random(len(frame))
    found = band_resample({"a": np.array([score, other]), "b": score[None], "same": score[None]}, frame, 20, 3)
    mean = (band_statistics(score, frame)["tau", ""] + band_statistics(other, frame)["tau", ""]) / 2
    assert found["a", "tau", ""][0] == pytest.approx(mean[0])
    assert (found["b"] == found["same"]).all(axis=None) and len(found) == 21


def test_without_noise_a_perfect_score_is_perfect_and_with_it_the_ceiling_falls():
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(dict(band=np.repeat(range(6), 10), macs=np.linspace(1e5, 2e6, n), trainings=2))
    frame["band"] = frame["band"].astype("Int64")
    frame["truth"] = 0.6 + 0.02 * np.log2(frame["macs"] / 1e5) + rng.normal(0, 0.02, n)
    still = band_ceiling(frame, 0.0, 50, draws=3)
    assert still["perfect", "tau", ""][0] == pytest.approx(1) == still["again", "band_tau", ""][0]
    loud = band_ceiling(frame, 0.02**2, 50, draws=30)
    perfect, again = (loud[maker, "band_tau", ""][0] for maker in ("perfect", "again"))
    assert 0.1 < again < perfect < 0.9 and loud["perfect", "loss", "top 1"][0] > 0
    with pytest.raises(DansError, match="too few for a ceiling"):
        band_ceiling(frame[:4], 0.0, 50)


def table(seeds, noise, rng, n=200):
    rows = [
        dict(zip(KEYS, (24 + i, "rgb", "00000", 0.1, "even"))) | dict(seed=s, fidelity="full", acc=i / 1000 + s)
        for i in range(n)
        for s in seeds
    ]
    df = pd.DataFrame(rows)
    return df.assign(acc=df["acc"] + rng.normal(0, noise, len(df)))


def test_noise_is_that_of_trainings_whatever_all_of_a_seed_share():
    trained = table((0, 1), 0.01, np.random.default_rng(0))
    variance, free = seed_noise(trained, "acc")
    assert free == 199 and variance == pytest.approx(1e-4, rel=0.25)
    few = trained[(trained["seed"] == 0) | (trained["resolution"] < 44)]
    assert seed_noise(few, "acc")[1] == 19
    with pytest.raises(DansError, match="second training"):
        seed_noise(trained[trained["seed"] == 0], "acc")


def test_the_truth_is_the_mean_of_the_trainings_that_are_asked_for():
    trained = table((0, 1, 2, 3), 0, np.random.default_rng(0), n=2)
    quarter = trained.assign(fidelity="quarter", acc=0.0)
    both = pd.concat([trained, quarter])
    assert truth_of(both, "acc")["truth"].tolist() == pytest.approx([0.5, 0.501])
    fresh = truth_of(both, "acc", None)
    assert fresh["truth"].tolist() == pytest.approx([2.5, 2.501]) and set(fresh["trainings"]) == {2}


def test_means_in_a_circle_count_every_supernet_alike():
    scores = np.random.default_rng(0).random((5, 7))
    assert means_of(scores, 1) == pytest.approx(scores)
    for size in range(1, 6):
        assert means_of(scores, size).mean(0) == pytest.approx(scores.mean(0))
    assert means_of(scores, 6).shape == (0, 7)


def test_ranks_do_not_depend_on_units_and_the_worst_is_last():
    scores, proxy = np.random.default_rng(0).random((2, 6)), np.array([-np.inf, 1, 2, 3, 4, 5.0])
    assert rank_mean(scores, proxy) == pytest.approx(rank_mean(9 * scores**3, np.r_[-99, proxy[1:]]))
    assert rank_mean(proxy[None], proxy)[0] == pytest.approx(np.arange(1, 7) / 6)


def test_the_rule_takes_the_least_loss_that_is_affordable():
    rows = pd.DataFrame(dict(loss=[0.3, 0.2, np.nan, 0.1], band_tau=[0.9, 0.1, 1, 1], cost=[1, 1.05, 1, 1.06]))
    assert choose_rule(rows).name == 1 and choose_rule(rows, most=2).name == 3


# Fresh seeds


def test_the_best_of_each_band_is_named_for_fresh_seeds(tmp_path):
    benchmark = load_benchmark(folder=invented_table(tmp_path), reveal="test")
    best, table = bands_best(benchmark), benchmark.table
    seen = table[(table["fidelity"] == "full") & table["seed"].isin(SEARCHED)]
    means = seen.groupby(KEYS)["val_accuracy"].mean()
    assert best["band"].tolist() == sorted(benchmark.systems["band"].dropna().unique())
    for row in best.to_dict("records"):
        among = benchmark.systems[benchmark.systems["band"] == row["band"]]
        assert row["truth"] == pytest.approx(max(means[tuple(each)] for each in among[KEYS].to_numpy()))
        assert tuple(row[key] for key in KEYS) in {tuple(each) for each in among[KEYS].to_numpy()}


def test_fresh_seeds_judge_the_best_of_a_band_and_the_table_judges_the_choice():
    frame = pd.DataFrame(
        dict(band=[1, 1, 1, 2, 2], truth=[0.5, 0.7, 0.6, 0.8, 0.9], value=[0.4, 0.6, 0.5, 0.7, 0.8])
    ).assign(fresh=[np.nan, 0.58, np.nan, 0.75, np.nan])
    losses = fresh_losses(np.array([0.0, 1, 2, 4, 3]), frame)["loss"]
    assert losses[0] == pytest.approx(0.58 - 0.5) and np.isnan(losses[1])  # nobody knows the best of band 2


def test_fresh_seeds_take_away_what_the_best_owes_to_luck():
    "Equal systems: by the trainings that chose the best a choice at random loses, by fresh seeds nothing."
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        truth, fresh = rng.normal(0, 0.01, 14), rng.normal(0, 0.01, 14)
        frame = pd.DataFrame(dict(band=1, truth=truth, value=truth, fresh=fresh))
        score = rng.random(14)
        found.append((by_band(score, frame)["loss"][0], fresh_losses(score, frame)["loss"][0]))
    flattered, honest = np.mean(found, 0)
    assert flattered > 0.012 and abs(honest) < 0.003
