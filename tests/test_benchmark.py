"The table of trainings: what it says is what stands in its files, and what judges is hidden from searches."

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dans
from dans.choose.benchmark import (
    COLUMNS,
    PLANNED,
    SEARCHED,
    Benchmark,
    invented_table,
    load_benchmark,
    packed,
    unpacked,
)
from dans.choose.exhaustive import ExhaustiveSearch
from dans.choose.rank import systems_of
from dans.choose.search import evolution, random_search
from dans.choose.task import Budget, check_score
from dans.cost.limits import Limits
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.space import SearchSpace, System

ROOT = Path(__file__).parent.parent
LARGE = System(ImageConfig(64, "rgb"), Architecture((2, 1, 1, 1, 1), 0.5))  # beyond 2 million MACs
ELSEWHERE = System(ImageConfig(96, "rgb"), Architecture((2, 1, 1, 1, 1), 0.1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return invented_table(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def table(folder):
    return load_benchmark(folder=folder)


@pytest.fixture(scope="module")
def judged(folder):
    return load_benchmark(reveal="test", folder=folder)


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    return load_benchmark(folder=invented_table(tmp_path_factory.mktemp("part"), share=0.3))


# Loading


def test_a_table_has_no_test_column_and_no_fresh_seed_unless_these_are_revealed(table, judged):
    assert list(table.table) == COLUMNS and set(table.table["seed"]) == set(SEARCHED)
    assert {"test_accuracy", "test_auc", "int8_test_accuracy"} <= set(judged.table)
    assert len(table.table) == PLANNED["animals"] < len(judged.table)
    assert set(judged.table["seed"]) == set(range(8)) and judged.trained == table.trained == table.planned


@pytest.mark.parametrize("name", ["animals", "wake_scenes"])
def test_the_noise_that_the_card_tells_is_that_of_the_table(name):
    from dans.choose.truth import noise, noise_by

    cards = (ROOT / "results/benchmark/README.md").read_text(encoding="utf-8").split("\nOf `")
    (card,) = (part for part in cards if part.startswith(f"{name}`, with "))
    table = load_benchmark(name, reveal="test", folder=ROOT / "results/benchmark")
    of = noise(table)
    numbers = [f"{100 * value:.2f}" for value in (of.deviation, of.low, of.high)]
    assert "{} points of test accuracy (95 % interval {} to {}, `noise(benchmark)`)".format(*numbers) in card
    assert f"with {of.freedom} degrees of freedom" in card
    assert f"and {100 * noise(table, 'val_accuracy').deviation:.2f} of validation accuracy" in card
    assert "{}, {} and {} points (`noise_by".format(*(f"{100 * d:.2f}" for d in noise_by(table)["deviation"])) in card


@pytest.mark.parametrize("name", ["animals", "wake_scenes"])
def test_what_int8_changes_is_what_the_card_tells(name):
    card = (ROOT / "results/benchmark/README.md").read_text(encoding="utf-8")
    rows = load_benchmark(name, reveal="test", folder=ROOT / "results/benchmark").table
    rows = rows[rows["seed"].isin(SEARCHED)].dropna(subset="int8_test_accuracy")
    change = 100 * (rows["int8_test_accuracy"] - rows["test_accuracy"])
    said = f"{change.mean():.2f} points on average (standard deviation {change.std():.2f})"
    assert set(rows["fidelity"]) == {"full"} and f"of `{name}`, {len(rows)} trainings, by {said}" in card


def test_seconds_are_those_of_one_processor_where_several_have_trained(folder, tmp_path):
    "Half as fast elsewhere: a score says what it took on the processor of most trainings, `query` what was measured."
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "animals.csv"
    rows = pd.read_csv(path, dtype=dict(depths=str))
    rows.loc[rows["seed"] == 1, "processor"] = "slow"
    rows.loc[rows["seed"] == 1, "seconds"] *= 2
    rows.to_csv(path, index=False)
    table = load_benchmark(folder=tmp_path)
    system = table.score().systems[7]
    assert table.score(seed=1).seconds(system) == pytest.approx(table.score(seed=0).seconds(system))
    assert table.score(seed=1).pace == pytest.approx(table.score(seed=0).pace)
    assert table.query(system, seed=1)["seconds"] == 2 * table.query(system, seed=0)["seconds"]
    alone = load_benchmark(folder=folder).score(seed=1)
    assert alone.seconds(system) == alone.benchmark.query(system, seed=1)["seconds"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda b: b.score(metric="test_accuracy"),
        lambda b: b.score(seed=5),
        lambda b: b.score(seed="fresh", gaps=True),
        lambda b: b.task(metric="int8_test_accuracy"),
        lambda b: b.query(systems_of(b.systems)[0], seed=2),
        lambda b: b.correct(),
    ],
)
def test_what_judges_is_hidden_from_a_search(table, ask):
    with pytest.raises(DansError, match='reveal="test"'):
        ask(table)


def test_how_much_is_there_is_said_while_a_table_grows(part, table, capsys):
    load_benchmark(folder=part.folder)
    assert capsys.readouterr().err == f"benchmark animals: {part.trained} of 1,224 trainings are there\n"
    load_benchmark(folder=table.folder)
    assert capsys.readouterr().err == "" and 300 < part.trained < 450


@pytest.mark.parametrize(
    "wrong,said",
    [
        (dict(data="animal"), "there is animals"),
        (dict(reveal="val"), "reveal 'val' is unknown"),
        (dict(folder="no-such-folder"), "there is none yet"),
    ],
)
def test_what_cannot_be_loaded_is_an_error(folder, wrong, said):
    with pytest.raises(DansError, match=said):
        load_benchmark(**{"folder": folder, **wrong})


def test_damaged_files_are_errors(folder, tmp_path):
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "animals-curves.parquet").write_bytes(b"PAR1")
    with pytest.raises(DansError, match="animals-curves.parquet cannot be read"):
        load_benchmark(folder=broken).curves()
    record = json.loads((broken / "animals.json").read_text())
    (broken / "animals.json").write_text(json.dumps(record | {"data": {}}))
    with pytest.raises(DansError, match="how many test images"):
        load_benchmark(folder=broken, reveal="test").correct()
    (broken / "animals.json").write_text("{")
    with pytest.raises(DansError, match="animals.json cannot be read"):
        load_benchmark(folder=broken)
    (broken / "animals.csv").write_text("resolution,color\n24,rgb\n")
    with pytest.raises(DansError, match="has no column 'depths'"):
        load_benchmark(folder=broken)


def test_the_committed_files_load_where_trainings_are_there():
    "Each table that is committed has the columns that its data card names, and every system of it is in `systems.csv`."
    shipped, card = ROOT / "results/benchmark", (ROOT / "results/benchmark/README.md").read_text(encoding="utf-8")
    for name in [name for name in PLANNED if (shipped / f"{name}.csv").is_file()]:
        judged = load_benchmark(name, reveal="test", folder=shipped)
        assert all(s in judged for s in systems_of(judged.table)) and judged.table["key"].is_unique
        assert set(judged.curves()["key"]) <= set(judged.table["key"])
    for name in ("systems", "bands"):
        columns = pd.read_csv(shipped / f"{name}.csv", nrows=0).columns
        assert not [c for c in columns if c not in card and not c.startswith("px_")]
    assert not [c for c in COLUMNS if c not in card]


# Questions


def test_the_search_of_someone_else_that_the_card_shows_runs():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    card = (ROOT / "results/benchmark/README.md").read_text(encoding="utf-8")
    code = card.split("## A search of someone else's")[1].split("## ")[0]
    code = "\n".join(line[4:] for line in code.splitlines() if line.startswith("    "))
    exec(code.replace("n_trials=100", "n_trials=20"), names := {})
    assert len(names["study"].trials) == 20 and 0.5 < names["study"].best_value < 1
    assert 0.5 < names["judge"]["test_accuracy"] < 1, "of the first training in full"


def test_a_question_is_answered_by_a_row_of_the_file(table, folder):
    rows = pd.read_csv(folder / "animals.csv", dtype={"depths": str}).query("seed < 2")
    assert rows["key"].tolist() == table.table["key"].tolist()
    for row in rows.sample(30, random_state=0).to_dict("records"):
        found = table.query(row, row["fidelity"], row["seed"])
        assert {name: found[name] for name in COLUMNS} == row
        assert found["macs"] == dans.footprint(System.from_dict(row), 2).macs


def test_axes_may_be_written_as_a_search_has_them(table):
    system = System(ImageConfig(48, "mono"), Architecture((1, 1, 0, 0, 0), 0.3))
    axes = dict(resolution=np.int64(48), color="mono", width=0.1 * 3)
    keys = {table.query({**axes, "depths": d})["key"] for d in ("11000", 11000, (1, 1, 0, 0, 0), [1, 1, 0, 0, 0])}
    assert keys == {table.query(system)["key"]} and {**axes, "depths": "11000"} in table


def test_what_is_no_system_of_the_table_is_an_error_that_says_why(table):
    for ask in (table.query, lambda s: table.score([s]), table.score().cost):
        with pytest.raises(DansError, match="the table ends at 2 M: search within Benchmark.limits"):
            ask(LARGE)
        with pytest.raises(DansError, match="is not in the space"):
            ask(ELSEWHERE)
    assert [s in table for s in (LARGE, ELSEWHERE, dict(resolution=3), "words")] == [False] * 4
    with pytest.raises(DansError, match="lacks 'width'"):
        table.query(dict(resolution=48, color="mono", depths="00000"))
    for wrong in (dict(fidelity="half"), dict(metric="loss")):
        with pytest.raises(DansError, match="unknown"):
            table.score(**wrong)


def test_a_missing_training_is_an_error_or_a_gap(part):
    there = set(part.score()._known)
    gone = next(s for s in systems_of(part.systems) if s not in there)
    for ask in (part.query, part.score().cost, lambda s: part.score([s])):
        with pytest.raises(DansError, match="has no full training with seed 0 .*of 1,224"):
            ask(gone)
    gappy = part.score(gaps=True)
    assert math.isnan(gappy([gone])[0]) and gappy.cost(gone) == 0
    log = random_search(part.task(gaps=True), Budget(evaluations=60), seed=0)
    assert log["score"].isna().any() and log["score"].notna().any() and log["cost_macs"].notna().all()
    with pytest.raises(DansError, match="Benchmark.limits"):
        gappy([LARGE])


# Scores


def test_a_score_with_systems_is_the_score_asked_about_them(table):
    systems = systems_of(table.systems)[::17]
    for how in (dict(), dict(fidelity="quarter"), dict(seed=1, metric="val_auc"), dict(seed=None)):
        score = check_score(table.score(**how))
        assert np.array_equal(table.score(systems, **how), score(systems))
        if score.seed is not None:
            rows = [table.query(s, score.fidelity, score.seed) for s in systems]
            assert score(systems).tolist() == [row[score.metric] for row in rows]
    both = [table.score(systems, "full", seed) for seed in SEARCHED]
    assert np.allclose(table.score(systems, seed=None), np.mean(both, 0))
    s, costs = systems[0], [table.query(systems[0], seed=seed)["cost_macs"] for seed in SEARCHED]
    assert table.score(seed=None).cost(s) == sum(costs) and table.score(fidelity="quarter").cost(s) == costs[0] / 4


def test_what_determines_a_score_differs_where_scores_may(table, part):
    how = [dict(), dict(fidelity="quarter"), dict(seed=1), dict(seed=None), dict(metric="val_auc")]
    told = [json.dumps(b.score(**one).what) for b in (table, part) for one in how]
    assert len(set(told)) == len(told)


def test_fresh_seeds_judge_by_their_mean(judged):
    fresh = judged.table[~judged.table["seed"].isin(SEARCHED)]
    by_fresh = judged.score(seed="fresh", metric="test_accuracy", gaps=True)
    values = by_fresh(systems_of(judged.systems))
    assert np.isfinite(values).sum() == len(fresh) / 6
    assert np.nanmean(values) == pytest.approx(fresh["test_accuracy"].mean())


@pytest.mark.parametrize("search", [evolution, random_search])
def test_every_search_runs_on_the_table_and_pays_for_its_trainings(table, search):
    log = search(table.task(fidelity="quarter"), Budget(evaluations=40), seed=3)
    systems = systems_of(log)
    assert all(s in table for s in systems) and (log["score"] == table.score(systems, "quarter")).all()
    assert log["cost_macs"].iloc[-1] == pytest.approx(sum(table.query(s, "quarter")["cost_macs"] for s in systems))


def test_limits_of_a_task_are_those_of_the_table_besides_its_own(table):
    log = ExhaustiveSearch(table.task(Limits(arena_bytes=32 * 1024))).log
    assert len(log) == (table.systems["arena_bytes"] <= 32 * 1024).sum() == 282
    several = table.task((Limits(macs=10**9), Limits(macs=300_000))).limits
    assert [one.macs for one in several] == [2_000_000, 300_000]
    assert table.space == SearchSpace.preset("bench")


# Curves and answers


def test_bits_are_answers():
    for n in (1, 7, 8, 9, 300):
        answers = np.random.default_rng(n).random(n) < 0.5
        assert np.array_equal(unpacked(packed(answers), n), answers) and len(packed(answers)) == -(-n // 8)


def test_answers_and_curves_are_those_of_the_trainings(table, judged):
    answers = table.correct(reveal="test")
    assert answers.index.tolist() == table.table["key"].tolist() and len(judged.correct()) > len(answers)
    by_key = judged.table.set_index("key")["test_accuracy"]
    assert np.allclose(answers.mean(axis=1), by_key[answers.index])
    assert set(table.curves()["key"]) == set(table.table["key"])


# In a checkout and in a wheel


def test_the_door_finds_it():
    assert dans.load_benchmark is load_benchmark
    assert repr(Benchmark("a", None, None, None, {}, Path("b"))).startswith("Benchmark(data='a', folder=")


def test_a_wheel_holds_the_tables_and_reads_them(folder, tmp_path):
    source, made = tmp_path / "source", tmp_path / "made"
    source.mkdir()
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "dans", source / "dans", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(folder, source / "results/benchmark")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", made, source], check=True, capture_output=True)
    (wheel,) = made.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = "import dans; b = dans.load_benchmark(reveal='test')\n"
    code += "print(b.folder, b.trained, len(b.curves()), b.correct().shape)"
    alone = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=alone)
    found = load_benchmark(reveal="test", folder=folder)
    where = tmp_path / "installed/dans/results/benchmark"
    assert done.stdout == f"{where} 1224 {len(found.curves())} {found.correct().shape}\n", done.stderr
