"The benchmarks: they run at a tiny size, count work rightly, and the page shows the committed results."
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import contest, one_in, subnets, work_of
from dans.hardware import macs
from dans.space import DataConfig, SearchSpace

ROOT = Path(__file__).parent.parent
SPACE = SearchSpace(resolutions=(16,), colors=("rgb",), widths=(0.2,))


def bench(*words, **env):
    return subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    done = bench("--quick", "--threads", "1", "--out", str(folder / "results.json"), DANS_CACHE=str(folder / "cache"))
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


def test_a_contest_takes_turns():
    turns = []
    found = contest(lambda: turns.append("ours"), lambda: turns.append("theirs"), 2, scale=3)
    assert turns == ["ours", "theirs", "theirs", "ours"]
    pairs = sorted(3 * b / a for a, b in zip(found["ours_seconds"], found["theirs_seconds"]))
    assert [found["ratio_low"], found["ratio_high"]] == pairs


def test_a_sample_stands_for_all():
    systems = subnets(SPACE, DataConfig(16), 0.2)
    assert len(systems) == 268 and one_in(1, systems)[1] == 1
    part, scale = one_in(8, systems)
    assert len(set(part)) in (33, 34)
    assert scale * sum(map(macs, part)) == pytest.approx(sum(map(macs, systems)))
    assert scale == pytest.approx(268 / len(part), rel=0.02)


def test_work_is_counted_as_scoring_counts_it():
    from dans.score import list_macs, tree_macs
    systems = subnets(SPACE, DataConfig(16), 0.2)
    for some in (systems, systems[::7]):
        work = work_of(some)
        assert work["list_macs"] == list_macs(some) and work["tree_macs"] == tree_macs(some)
    alone = work_of(systems[:1])
    assert alone["list_macs"] == alone["tree_macs"]


@pytest.mark.parametrize("words, said", [
    (["--only", "speed"], "invalid choice: 'speed'"), (["--threads", "0"], "whole numbers from 1"),
    (["--quick", "--out", "Makefile"], "delete it, or name another file: --out FILE")])
def test_bad_input_is_refused_in_one_line(words, said):
    before = (ROOT / "Makefile").read_bytes()
    done = bench(*words)
    assert done.returncode and said in done.stderr.splitlines()[-1]
    assert (ROOT / "Makefile").read_bytes() == before


def test_the_page_is_drawn_from_the_committed_results():
    page = nbformat.read(ROOT / "nbs/benchmarks.ipynb", as_version=4)
    fresh = nbformat.from_dict(page)
    NotebookClient(fresh, kernel_name="python3", resources={"metadata": {"path": ROOT / "nbs"}}).execute()

    def text(notebook):
        return [o["data"].get("text/markdown") for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    assert text(fresh) == text(page), "run 'make bench ARGS=--page'"
