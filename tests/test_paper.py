"The notebooks of the paper as a new user runs them: Run All, or papermill, with no parameters, in a fresh clone."

import json
import os
import shutil
from pathlib import Path

import pytest
from papermill.cli import papermill

from dans.paper.manifest import WRITES, load_manifest
from dans.paper.parameters import parameters_of

ROOT = Path(__file__).parent.parent
ITEMS = load_manifest(ROOT / "paper.yml")
DRAWN = [item for item in ITEMS.values() if item.kind != "run"]


def contents(*folders):
    return {path: path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    "What a fresh clone has of data, and no `runs/`."
    clone = tmp_path_factory.mktemp("clone")
    shutil.copy(ROOT / "paper.yml", clone)
    for name in ("results", "figures"):
        shutil.copytree(ROOT / name, clone / name)
    shutil.copytree(ROOT / "nbs/paper", clone / "nbs/paper", ignore=shutil.ignore_patterns(".*"))
    return clone


@pytest.fixture
def by_papermill(clone, monkeypatch):
    """The command `papermill` in the folder of the notebooks; a kernel of its own, as in a new user's terminal, is
    what counts."""
    for name in os.environ:
        if name.startswith("DANS_") or name in ("MPLBACKEND", "PYTEST_CURRENT_TEST"):  # ipykernel looks at it
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(clone / "nbs/paper")
    return lambda *words: papermill(words, standalone_mode=False)


@pytest.mark.parametrize("item", DRAWN, ids=lambda item: item.id)
def test_papermill_with_no_parameters_draws_the_committed_rows(clone, item, by_papermill):
    committed = contents(clone / "results", clone / "figures")
    by_papermill(Path(item.notebook).name, f"../../{item.id}.ipynb", "-k", "python3", "--no-progress-bar")
    assert contents(clone / "results", clone / "figures") == committed
    for ending in WRITES[item.kind]:
        assert (clone / f"runs/cpu/figures/{item.id}.{ending}").is_file()
    assert json.loads((clone / f"runs/cpu/figures/{item.id}.json").read_text())["preset"] == "cpu"
    drawn, kept = (clone / folder / f"{item.id}.csv" for folder in ("runs/cpu/figures", "figures"))
    assert drawn.read_bytes() == kept.read_bytes()
    cells = json.loads((clone / f"{item.id}.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) or "text/html" in o.get("data", {}) for o in outputs)
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


@pytest.mark.parametrize("item", ITEMS.values(), ids=list(ITEMS))
def test_the_folder_follows_the_preset(item):
    "`-p preset smoke` alone must not write into another preset's folder; what is drawn by hand are the committed rows."
    known = parameters_of(ROOT / item.notebook)
    assert known["out_dir"] == ""
    assert known["preset"] == ("quick" if item.kind == "run" else "cpu")


COMMITTED = [i for i in ITEMS.values() if i.kind == "run" and "cpu" in i.presets]


@pytest.mark.parametrize("item", COMMITTED, ids=lambda i: i.id)
def test_a_run_says_which_preset_its_saved_outputs_are_of(item):
    cells = json.loads((ROOT / item.notebook).read_text(encoding="utf-8"))["cells"]
    (at,) = (i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", []))
    said = "".join(cells[at + 1]["source"])
    assert "saved below are those of preset `cpu`" in said
    for name in item.writes:
        folder = name.split("/")[0]
        assert f"`results/{folder}/`" in said
        assert json.loads((ROOT / f"results/{name}.json").read_text())["preset"] == "cpu"
