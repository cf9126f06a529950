"The benchmarks: they run at a tiny size, count work rightly, and the page shows the committed results."

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import contest, one_in, subnets, work_of
from benchmarks.scaling import finish
from dans.cost.footprint import macs
from dans.frontends import ImageConfig
from dans.space import SearchSpace

ROOT = Path(__file__).parent.parent
SPACE = SearchSpace(resolutions=(16,), colors=("rgb",), widths=(0.2,))


def bench(*words, **env):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    "All benchmarks at a tiny size; here XLA may make slow code, which it compiles in less time."
    folder = tmp_path_factory.mktemp("bench")
    words = "--quick", "--threads", "1", "--out", str(folder / "results.json")
    done = bench(*words, DANS_CACHE=str(folder / "cache"), XLA_FLAGS="--xla_backend_optimization_level=0")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


def test_every_benchmark_runs_and_says_what_it_measured(results):
    assert list(results) == list(BENCHMARKS)
    for record in results.values():
        assert record["rows"] and record["what"] and record["sizes"]["repeats"] == 2
        assert {"processor", "threads", "load_before", "versions", "commit"} == set(record["machine"])
    for name in ("tree_against_list", "tree_against_models", "step_against_fit"):
        for row in results[name]["rows"]:
            assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
            assert len(row["ours_seconds"]) == len(row["theirs_seconds"]) == 2
    for name in ("tree_against_list", "tree_against_models"):
        assert all(row["predictions"] > 0 for row in results[name]["rows"])
    assert len(results["paper_space"]["extrapolated"]) == 6
    assert results["kills"]["kills"] == 20 and results["kills"]["differences"] == []


def test_a_fleet_is_measured_beside_fit_and_one_by_one(results):
    record = results["fleet"]
    assert [row["at"] for row in record["rows"]] == [
        "Keras' fit",
        "Keras' fit, crops not counted",
        "one by one, a trace for each",
    ]
    assert all(row["systems"] == 2 and row["steps"] == 3 and row["ratio"] > 0 for row in record["rows"])
    assert len(record["alone"]) == 2 and all(row["macs_per_second"] > 0 for row in record["alone"])


def test_two_nodes_lose_a_worker_and_a_node_and_no_piece(results):
    record = results["nodes"]
    assert [row["event"] for row in record["rows"]] == ["worker_killed", "node_lost"]
    for row in record["rows"]:
        assert row["in_order"] == row["different"] == row["stored"] == row["pieces"] == 6 and row["begun"] > 6
        assert row["nodes"] == 2 and (row["lost"], row["twice"]) == (0, 0)
    assert record["bits"]["equal"] == record["bits"]["pieces"] == ["alone", "supernet", "tree"]
    assert record["wrong"] == ["DansError", "piece 0 is wrong: mend it"]
    assert record["large"][0] == "DansError" and "no machine of the cluster has 64 cores" in record["large"][1]


def test_scaling_is_simulated_from_what_was_measured(results):
    rows = results["scaling"]["rows"]
    assert results["scaling"]["simulated"] and all(0 < row["speedup"] <= row["workers"] * 1.001 for row in rows)


@pytest.mark.parametrize("workers, hours", [(1, 10), (2, 6), (9, 6)])
def test_a_schedule_keeps_the_order_and_takes_the_longest_first(workers, hours):
    assert finish([4, 2, 2, 2], [[], [], [], [0]], workers) == hours


def test_memory_is_measured_by_stage_and_along_evaluations(results):
    record = results["memory"]
    assert [row["stage"] for row in record["rows"]] == [
        "preparation",
        "supernet",
        "scoring",
        "search",
        "standalone",
        "quantisation",
    ]
    assert all(row["before_bytes"] > 0 and row["peak_bytes"] >= 0 for row in record["rows"])
    assert [curve["after"][-1] for curve in record["curves"]] == [100, 10, 4]
    for curve in record["curves"]:
        assert len(curve["after"]) == len(curve["resident_bytes"]) and min(curve["resident_bytes"]) > 0


def test_memory_does_not_grow_with_evaluations_in_the_committed_results():
    scored = next(
        c
        for c in json.loads((ROOT / "benchmarks/results.json").read_text())["memory"]["curves"]
        if c["evaluation"] == "scored"
    )
    assert scored["after"][-1] == 2000 and abs(scored["resident_bytes"][-1] - scored["resident_bytes"][0]) < 32 * 2**20


def test_cases_of_broken_input_are_counted(results):
    rows = results["fuzz"]["rows"]
    assert len({row["input"] for row in rows}) == len(rows) >= 10 and all(
        row["cases"] >= 5 and not row["failed"] for row in rows
    )


def test_a_contest_takes_turns():
    turns = []
    found = contest(lambda: turns.append("ours"), lambda: turns.append("theirs"), 2, scale=3)
    assert turns == ["ours", "theirs", "theirs", "ours"]
    pairs = sorted(3 * b / a for a, b in zip(found["ours_seconds"], found["theirs_seconds"]))
    assert [found["ratio_low"], found["ratio_high"]] == pairs


def test_a_sample_stands_for_all():
    systems = subnets(SPACE, ImageConfig(16), 0.2)
    assert len(systems) == 268 and one_in(1, systems)[1] == 1
    part, scale = one_in(8, systems)
    assert len(set(part)) in (33, 34)
    assert scale * sum(macs(s, 2) for s in part) == pytest.approx(sum(macs(s, 2) for s in systems))
    assert scale == pytest.approx(268 / len(part), rel=0.02)


def test_work_is_counted_as_scoring_counts_it():
    from dans.cost.prefixes import list_macs, tree_macs

    systems = subnets(SPACE, ImageConfig(16), 0.2)
    for some in (systems, systems[::7]):
        work = work_of(some)
        assert work["list_macs"] == list_macs(some, 2) and work["tree_macs"] == tree_macs(some, 2)
    alone = work_of(systems[:1])
    assert alone["list_macs"] == alone["tree_macs"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--only", "speed"], "invalid choice: 'speed'"),
        (["--threads", "0"], "whole numbers from 1"),
        (["--quick", "--out", "Makefile"], "delete it, or name another file: --out FILE"),
    ],
)
def test_bad_input_is_refused_in_one_line(words, said):
    before = (ROOT / "Makefile").read_bytes()
    done = bench(*words)
    assert done.returncode and said in done.stderr.splitlines()[-1]
    assert (ROOT / "Makefile").read_bytes() == before


@pytest.mark.parametrize("name", ["benchmarks", "robustness"])
def test_the_page_is_drawn_from_the_committed_results(name):
    page = nbformat.read(ROOT / f"nbs/{name}.ipynb", as_version=4)
    fresh = nbformat.from_dict(page)
    NotebookClient(fresh, kernel_name="python3", resources={"metadata": {"path": ROOT / "nbs"}}).execute()

    def text(notebook):
        return [
            o["data"].get("text/markdown")
            for c in notebook.cells
            if c.cell_type == "code"
            for o in c.outputs
            if "data" in o
        ]

    assert text(fresh) == text(page), "run 'make bench ARGS=--page'"
