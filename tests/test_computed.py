"The compute statement: each clock, and what is not finished."

import json
from pathlib import Path

import pandas as pd
import pytest

from dans.files import write_json
from dans.paper.computed import computed, statement
from dans.paper.manifest import load_manifest

ROOT = Path(__file__).parent.parent
PAPER = """items:
  run_a: {notebook: a.ipynb, title: A, writes: [a/rows, a/more], presets: [cpu], seconds: {cpu: 1800}}
  run_b: {notebook: b.ipynb, title: B, writes: [b/rows], presets: [cpu], seconds: {cpu: 7200}}
  run_c: {notebook: c.ipynb, title: C, writes: [c/rows], presets: [smoke]}
  fig_a: {notebook: f.ipynb, title: F, needs: [run_a]}
"""


def write(root, name, record, seconds=None):
    stem = root / "results" / name
    stem.parent.mkdir(parents=True, exist_ok=True)
    rows = dict(x=[1, 2]) | (dict(seconds=seconds) if seconds else {})
    pd.DataFrame(rows).to_csv(stem.with_suffix(".csv"), index=False)
    write_json(stem.with_suffix(".json"), record)


@pytest.mark.parametrize(
    "last_call, seconds, hours",
    [(36, None, 0.5), (7200, None, 2), (36, [3600, 7200], 3), (36, [36, 36], 0.5)],
    ids=["measured", "last call", "rows", "rows of less"],
)
def test_the_longest_clock_counts(tmp_path, last_call, seconds, hours):
    (tmp_path / "paper.yml").write_text(PAPER)
    record = dict(made_of={}, seconds=last_call, processor="a processor", commit="0123456789abc")
    write(tmp_path, "a/rows", record, seconds)
    write(tmp_path, "a/more", record)
    found = computed(tmp_path).set_index("run")
    assert list(found.index) == ["run_a", "run_b"], "runs of the preset, no figures"
    assert found.loc["run_a", "hours"] == pytest.approx(hours)
    assert found.loc["run_a", ["state", "processor", "commit"]].tolist() == ["complete", "a processor", "01234567"]
    assert found.loc["run_b", ["state", "hours"]].tolist() == ["to come", 0]
    assert f"took at least {hours:.1f} hours (a processor), in 1 runs of 2" in statement(found.reset_index())


def test_rows_computed_elsewhere_are_told(tmp_path):
    (tmp_path / "paper.yml").write_text(PAPER)
    write(tmp_path, "a/rows", dict(made_of={}, seconds=36, processor="a processor"))
    pd.DataFrame(dict(x=[1, 2, 3], computed_on=["jax on a GPU", None, "jax on a GPU"])).to_csv(
        tmp_path / "results/a/rows.csv", index=False
    )
    found = computed(tmp_path)
    assert found.set_index("run").loc["run_a", "elsewhere"] == "2 rows by jax on a GPU"
    assert "Elsewhere were computed 2 rows by jax on a GPU of run_a." in statement(found)


def test_seconds_of_searches_that_were_looked_up_are_not_counted(tmp_path):
    (tmp_path / "paper.yml").write_text(PAPER)
    write(tmp_path, "b/rows", dict(made_of={}, seconds=36))
    pd.DataFrame(dict(searches=[50], seconds=[90_000])).to_csv(tmp_path / "results/b/rows.csv", index=False)
    assert computed(tmp_path).set_index("run").loc["run_b", "hours"] == 2


def test_rows_that_no_finished_run_signed_are_begun_and_count_what_they_say(tmp_path):
    (tmp_path / "paper.yml").write_text(PAPER)
    write(tmp_path, "b/rows", dict(processor="a", planned=5, trained=2), [1800, 1800])
    found = computed(tmp_path).set_index("run")
    assert found.loc["run_b", ["state", "hours"]].tolist() == ["begun", 1], "not what a whole run would take"
    assert "run_b is begun and not finished; run_a is still to come" in statement(found.reset_index())


def test_the_committed_records_are_all_read():
    found = computed(ROOT).set_index("run")
    items = [item for item in load_manifest(ROOT / "paper.yml").values() if item.kind == "run"]
    assert set(found.index) == {item.id for item in items if "cpu" in item.presets}
    for item in items:
        files = [stem.with_suffix(".json") for stem in item.stems(ROOT)]
        if item.id in found.index and all(path.exists() for path in files):
            seconds = max(json.loads(path.read_text()).get("seconds", 0) for path in files)
            assert found.loc[item.id, "hours"] >= seconds / 3600
            assert found.loc[item.id, "processor"] and found.loc[item.id, "state"] != "to come"
