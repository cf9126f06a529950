"What data-awareness can buy at best: choices against brute force, intervals against what they cover, the figure."

import json
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dans.choose.benchmark import FRESH, SEARCHED, invented_table, load_benchmark
from dans.choose.rank import KEYS, systems_of
from dans.choose.truth import (
    ALONE,
    AWARE,
    MACS,
    Fresh,
    Noise,
    _chi2,
    best_within,
    contrast,
    deviation_of_images,
    gains,
    gains_over_grid,
    grid,
    judges,
    noise,
    noise_by,
    pooled,
    rival,
    systems_chosen,
    told,
    within,
)
from dans.cost.limits import Limits
from dans.files import sha256
from dans.house import DansError
from dans.paper.reproduction import Reproduction

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return invented_table(tmp_path_factory.mktemp("whole"), each=3)


@pytest.fixture(scope="module")
def table(folder):
    return load_benchmark(folder=folder)


@pytest.fixture(scope="module")
def judged(folder):
    return load_benchmark(reveal="test", folder=folder)


@pytest.fixture(scope="module")
def who(judged):
    return judges(judged, np.arange(300) % 7)


@pytest.fixture(scope="module")
def chosen(table):
    return best_within(table)


# Fresh seeds have a file of their own


def test_fresh_seeds_stand_below_the_table_for_those_who_judge(folder, table, judged):
    own = pd.read_csv(folder / f"{FRESH.format('animals')}.csv", dtype={"depths": str})
    assert set(own["seed"]) == set(range(2, 8)) and len(own) == 6 * 136
    assert set(pd.read_csv(folder / "animals.csv")["seed"]) == set(SEARCHED) == set(table.table["seed"])
    assert judged.table["key"].tolist() == table.table["key"].tolist() + own["key"].tolist()
    assert judged.table["test_accuracy"].notna().all() and "fresh" not in table.about
    for found in (judged.curves(), judged.correct().reset_index()):
        assert set(found["key"]) == set(judged.table["key"])
    with pytest.raises(DansError, match="there is animals;"):
        load_benchmark("birds", folder=folder)


def test_a_table_without_fresh_seeds_loads_and_what_determines_a_score_says_so(folder, judged, tmp_path):
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    for path in bare.glob("fresh-*"):
        path.unlink()
    found = load_benchmark(reveal="test", folder=bare)
    assert len(found.table) == 1224 and found.correct().shape == (1224, 300)
    assert judges(found).means == {}
    of = [b.score(seed=seed, gaps=True).what for b in (judged, found) for seed in ("fresh", 0)]
    assert of[1] == of[3] and of[0] != of[2]


# Choices


def test_the_grid_goes_from_class_to_class():
    assert len(grid()) == 3 * len(MACS) and [one.macs for one in grid()[: len(MACS)]] == list(MACS)
    assert {within(one) for one in grid()} == {ALONE, "RAM 32 KiB", "flash 32 KiB"}
    assert len(set(grid())) == len(grid())


def test_the_best_within_a_limit_is_that_of_a_look_at_every_system(table, chosen):
    full = table.table[table.table["fidelity"] == "full"]
    mean = full.groupby(KEYS)["val_accuracy"].mean().reset_index().merge(table.systems, on=KEYS)
    assert len(mean) == 408
    for limits in grid():
        meets = mean
        for axis, bound in limits.bounds().items():
            meets = meets[meets[axis] <= bound]
        rows = chosen[(chosen["within"] == within(limits)) & (chosen["bound"] == limits.macs)].set_index("arm")
        arms = meets.groupby(["resolution", "color"])["val_accuracy"]
        assert set(rows.index) == {AWARE} | {f"{r}px-{c}" for r, c in arms.groups}
        for (r, c), best in arms.max().items():
            assert rows.loc[f"{r}px-{c}", "score"] == best
        assert rows.loc[AWARE, "score"] == meets["val_accuracy"].max() == rows["score"].max()
        assert rows.loc[AWARE, "among"] == len(meets) and (rows["macs"] <= limits.macs).all()


def test_whom_fresh_seeds_must_judge_is_named_once_and_the_data_aware_first(chosen):
    systems = systems_chosen(chosen, chosen[:5])
    aware = list(dict.fromkeys(systems_of(chosen[chosen["arm"] == AWARE])))
    assert systems[: len(aware)] == aware and len(set(systems)) == len(systems)
    assert set(systems) == set(systems_of(chosen))


def test_a_part_of_a_table_has_choices_and_none_is_an_error(table, tmp_path):
    part = load_benchmark(folder=invented_table(tmp_path, share=0.1))
    found = best_within(part)
    assert found["score"].notna().all() and set(found["trainings"]) <= {1, 2}
    with pytest.raises(DansError, match="no system of benchmark animals"):
        best_within(table, [Limits(macs=10)])


# Noise


def test_noise_is_the_deviation_within_systems():
    rng = np.random.default_rng(0)
    systems = np.repeat(range(60), rng.integers(1, 5, 60))
    values = rng.normal(size=len(systems)) + 10 * systems
    within_ = pd.Series(values) - pd.Series(values).groupby(systems).transform("mean")
    found = pooled(values, systems)
    assert found.freedom == len(systems) - 60
    assert found.deviation == pytest.approx(np.sqrt((within_**2).sum() / found.freedom))
    assert pooled([1.0, 2.0], ["a", "b"]).freedom == 0 and np.isnan(pooled([1.0], ["a"]).deviation)


@pytest.mark.parametrize("freedom,close", [(10, 0.01), (40, 0.002), (408, 0.0002)])
def test_its_interval_is_that_of_chi_squared(freedom, close):
    for q in (0.025, 0.975):
        assert _chi2(q, freedom) == pytest.approx(stats.chi2.ppf(q, freedom), rel=close)


def test_noise_by_parts_adds_up(judged):
    whole = noise(judged, "val_accuracy")
    assert whole.low < 0.01 < whole.high and whole.freedom == 408  # not those of the fresh ones
    for by in ("macs", "width", "resolution"):
        parts = noise_by(judged, by, metric="val_accuracy")
        assert parts["systems"].sum() == 408 and parts["freedom"].sum() == whole.freedom and len(parts) >= 2
        squares = (parts["deviation"] ** 2 * parts["freedom"]).sum()
        assert squares / whole.freedom == pytest.approx(whole.deviation**2)
        assert (parts["at_least"].iloc[1:].to_numpy() > parts["at_most"].iloc[:-1].to_numpy()).all()
    for wrong in (lambda: noise(judged, "seed"), lambda: noise_by(judged, "depths")):
        with pytest.raises(DansError, match="unknown"):
            wrong()


def test_images_are_resampled_within_their_classes():
    rng = np.random.default_rng(1)
    groups = np.repeat(range(4), (40, 80, 120, 160))
    values = groups + rng.normal(size=400)
    where = [np.flatnonzero(groups == g) for g in range(4)]
    means = [values[np.concatenate([rng.choice(w, len(w)) for w in where])].mean() for _ in range(3000)]
    assert deviation_of_images(values, groups) == pytest.approx(np.std(means), rel=0.05)
    assert deviation_of_images(values) == pytest.approx(values.std() / 20)
    with pytest.raises(DansError, match="400 images have 3 classes"):
        deviation_of_images(values, [0, 1, 2])


# Differences


def test_a_difference_of_a_system_from_itself_is_nothing(who, judged):
    a, b = list(who.means)[:2]
    assert contrast(who, {a: 0})["gain"] == contrast(who, {a: 0})["high"] == 0
    found, back = contrast(who, {a: 1, b: -1}), contrast(who, {a: -1, b: 1})
    assert found["gain"] == pytest.approx(who.means[a] - who.means[b]) == -back["gain"]
    assert found["seeds"] == pytest.approx(who.noise.deviation * (2 / 6) ** 0.5)
    other = next(s for s in systems_of(judged.systems) if s not in who.means)
    with pytest.raises(DansError, match="run_fresh"):
        contrast(who, {a: 1, other: -1})
    with pytest.raises(DansError, match='reveal="test"'):
        judges(load_benchmark(folder=judged.folder))


def test_intervals_cover_the_true_difference_about_as_often_as_they_say():
    "New images and new trainings each time: both are noise, and none of it counts twice."
    rng, covered, repetitions, images = np.random.default_rng(2), 0, 200, 200
    groups = np.repeat(range(4), images // 4)
    for _ in range(repetitions):
        hard = rng.normal(size=(2, images)) * 0.25 + 0.1 * groups
        right = np.clip(0.5 + hard, 0.02, 0.98)  # of each system on each image, over all trainings
        answers = rng.random((20, 2, images)) < right
        accuracies = answers.mean(2)
        means = dict(a=accuracies[:6, 0].mean(), b=accuracies[:6, 1].mean())
        of = dict(a=answers[:6, 0].mean(0), b=answers[:6, 1].mean(0))
        seeds = pooled(accuracies.T.ravel(), np.repeat(["a", "b"], 20))
        found = contrast(Fresh(means, dict(a=6, b=6), of, seeds, groups), dict(a=1, b=-1))
        covered += found["low"] <= 0 <= found["high"]
    assert 0.91 <= covered / repetitions <= 0.98, covered / repetitions


def test_a_mean_over_limits_is_the_mean_of_their_differences(chosen, who):
    by_limit, over = gains(chosen, who), gains_over_grid(chosen, who)
    assert by_limit[chosen.columns].equals(chosen)
    judged_ = by_limit[by_limit["gain"].notna()]
    assert judged_["gain"].tolist() == pytest.approx(
        [by_limit.query("within == @r.within and bound == @r.bound and arm == @AWARE")["accuracy"].iloc[0] - r.accuracy
         for r in judged_.itertuples()]
    )  # fmt: skip
    for row in over.itertuples():
        part = judged_[(judged_["within"] == row.within) & (judged_["arm"] == row.arm)]
        assert row.limits == len(part) <= row.meets <= row.of == len(MACS)
        if len(part):
            assert row.gain == pytest.approx(part["gain"].mean()) and row.differ == (~part["same"].astype(bool)).sum()
            assert row.seeds <= part["seeds"].max() + 1e-12  # what limits share is noisy once, not independent
    assert over["gain"].notna().any() and over["gain"].isna().any()


def test_the_sentence_says_it_whichever_way(chosen, judged):
    "With fresh seeds that say another thing of the data-aware choices, the sentence turns."
    systems = systems_chosen(chosen)
    aware = set(systems_of(chosen[chosen["arm"] == AWARE]))
    quiet, answers = Noise(0.001, 400, 0.001, 0.001), {s: np.ones(10) for s in systems}
    for better in (0.05, 0.0, -0.05):
        means = {s: 0.7 + better * (s in aware) for s in systems}
        who = Fresh(means, dict.fromkeys(systems, 6), answers, quiet)
        over = gains_over_grid(chosen, who)
        us = rival(over[over["within"] == ALONE])
        said = told(gains(chosen, who), over).partition(" buys ")[2]
        assert said.startswith(f"{100 * us['gain']:.1f} points" if better else "0.0 points") and us["arm"] in said
        assert us["meets"] == over["meets"].max() and np.sign(round(us["gain"], 9)) == np.sign(better)
        assert (": visible)" in said) == us["visible"] == bool(better) and (": not visible)" in said) != us["visible"]
        assert ("visibly worse" in said) == (better < 0) and ("visibly better at 0" in said) == (better <= 0)
    alike = chosen[chosen["arm"] == AWARE]  # and one fixed data configuration that chooses the same
    alike = pd.concat([alike, alike.assign(arm="24px-rgb")], ignore_index=True)
    assert "both choose the same" in told(gains(alike, who), gains_over_grid(alike, who))
    nobody = Fresh({}, {}, {}, quiet)
    assert "nothing can be said yet" in told(gains(chosen, nobody), gains_over_grid(chosen, nobody))
    unknown = replace(who, noise=Noise(np.nan, 0, np.nan, np.nan))
    assert "noise is unknown" in told(gains(chosen, unknown), gains_over_grid(chosen, unknown))


# The figure


def draw(out, tables):
    "Run the cells of the figure on the tables in `out`; what they leave behind."
    for path in (out / "results/benchmark").glob("*.csv"):
        record = path.with_suffix(".json")
        facts = json.loads(record.read_text()) if record.is_file() else {}
        about = dict(preset="smoke", result_versions={}, sha256=sha256(path.read_bytes()))
        record.write_text(json.dumps(facts | about))
    names = dict(preset="smoke", out_dir=str(out), seed=0)
    for cell in json.loads((ROOT / "nbs/paper/fig_truth.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            exec("".join(cell["source"]), names)
    assert list(names["found"]) == tables
    return names


def test_the_figure_draws_whole_tables_and_parts(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    matplotlib.use("Agg")
    monkeypatch.setenv("DANS_RUNNER", "1")
    results = tmp_path / "results/benchmark"
    shutil.copytree(folder, results)
    invented_table(results, "wake_scenes", share=0.1)
    for path in results.glob("fresh-wake_scenes*"):
        path.unlink()
    pd.DataFrame(dict(group=np.arange(300) % 5)).to_csv(results / "animals-images.csv", index=False)
    names = draw(tmp_path, ["animals", "wake_scenes"])
    drawn = pd.read_csv(tmp_path / "figures/fig_truth.csv", dtype={"depths": str, "resolution": "Int64"})
    assert set(drawn["data"]) == {"animals", "wake_scenes"} and names["found"]["animals"][1].groups is not None
    table = load_benchmark(reveal="test", folder=results)
    fresh = table.score(seed="fresh", metric="test_accuracy", gaps=True)
    rows = drawn[(drawn["data"] == "animals") & drawn["bound"].notna()]
    truth = fresh(systems_of(rows.astype({"resolution": int})))
    assert np.allclose(rows["accuracy"], truth, equal_nan=True) and np.isfinite(truth).any()
    titles = [ax.get_title(loc="left") for ax in names["axes"][:, 0]]
    assert titles[0].startswith("animals: 1,224 of 1,224 trainings, ") and " trainings, 0 of " in titles[1]
    assert capsys.readouterr().err == ""


def test_what_a_figure_needs_is_what_belongs_to_its_preset(tmp_path):
    ids = {
        preset: {item.id for item in Reproduction(preset, tmp_path / preset, ROOT).chosen(["fig_truth"])}
        for preset in ("smoke", "cpu")
    }
    on_photographs = {"run_benchmark", "run_scores", "run_arms", "run_fresh"}
    assert ids["cpu"] - ids["smoke"] == on_photographs and "run_benchmark_scenes" in ids["smoke"]
    study = Reproduction("smoke", tmp_path / "smoke", ROOT)
    assert "benchmark/animals" not in study.inputs(study.items["fig_truth"])
