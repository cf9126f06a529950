"Rewritten runs are signed again where pieces and rows are those of before, and only there."

import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import dans.paper.proof as room
import dans.paper.reproduce  # noqa: F401 (it can execute)
from dans.house import DansError
from dans.paper.proof import prove, signed_at
from dans.paper.reproduction import Reproduction

GIVEN = 'preset: str = "quick"\nout_dir: str = ""\nseed: int = 0\nsteps: int = 2\n'
LIST = """
items:
  run_toy: {notebook: nbs/run_toy.ipynb, title: A toy, writes: [toy/rows], versions: [search],
            parameters: {smoke: {steps: 2}, cpu: {steps: 5}}, presets: [smoke, cpu]}
"""
OLD = """
study = Study(preset, out_dir)
whats = {i: dict(step=i, seed=seed) for i in range(steps)}
found = study.pieces("search", whats, lambda i: dict(square=i * i))
study.write("toy/rows", pd.DataFrame(found.values()));
"""
EQUAL = """
study = Study(preset, out_dir)
wanted = {step: dict(seed=seed, step=step) for step in range(steps)}
found = study.pieces("search", wanted, lambda i: dict(square=i**2))
study.write("toy/rows", pd.DataFrame(found.values()));
"""
IMPORTS = "import pandas as pd\nfrom dans.paper.study import Study"


def write(root, code):
    cells = [new_code_cell(GIVEN, metadata={"tags": ["parameters"]}), new_code_cell(IMPORTS), new_code_cell(code)]
    (root / "nbs").mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), root / "nbs/run_toy.ipynb")


def commit(root):
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "commit", "-qm", "toy"], cwd=root, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def study(tmp_path):
    "A checkout with rows at preset cpu that are signed, and another commit behind them."
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "paper.yml").write_text(LIST)
    shutil.copy(Path(__file__).parent.parent / "settings.ini", tmp_path)
    (tmp_path / "note").write_text("one")
    write(tmp_path, OLD)
    commit(tmp_path)
    (tmp_path / "note").write_text("two")
    study = Reproduction("cpu", root=tmp_path)
    study.execute(study.items["run_toy"])
    commit(tmp_path)
    return study


def test_a_rewritten_run_is_signed_again_and_one_that_asks_for_other_work_is_not(study, monkeypatch):
    run, said = study.items["run_toy"], []
    assert not prove(study, [run], said.append) and said == ["run_toy is current: nothing to sign"]
    rows = study.results("toy/rows").read_bytes()
    (study.root / "note").write_text("three")
    before = commit(study.root)
    write(study.root, EQUAL)
    commit(study.root)
    assert signed_at(study, run) == before, "the last commit with that notebook, not the first"
    assert study.why_not(run) == "its notebook has changed"
    assert prove(study, [run], said.append) == [run] and study.why_not(run) == ""
    record = json.loads(study.results("toy/rows").with_suffix(".json").read_text())
    parts = {"pieces at preset smoke": 2, "rows at preset smoke": 1, "pieces at preset cpu": 5}
    assert record["proved"] == {"commit": before, **parts} and study.results("toy/rows").read_bytes() == rows
    write(study.root, EQUAL + "\nmore = 1")
    found = {"pieces at preset smoke": [1], "rows at preset smoke": [b"1"], "pieces at preset cpu": [1]}
    for part, other in (
        ("pieces at preset smoke", [2]),
        ("rows at preset smoke", [b"2"]),
        ("pieces at preset cpu", []),
    ):
        two = iter([found, {**found, part: other}])
        monkeypatch.setattr(room, "_found", lambda *_, two=two: next(two))
        with pytest.raises(DansError, match=f"{part} are not those of"):
            prove(study, [run], said.append)
    assert study.why_not(run) == "its notebook has changed"


def test_what_is_stale_for_another_reason_is_not_signed(study):
    run = study.items["run_toy"]
    study.results("toy/rows").write_text("square\n1\n")
    with pytest.raises(DansError, match="was changed by hand"):
        prove(study, [run])
