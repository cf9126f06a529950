"paper.yml and the notebooks' parameters cells: what is accepted, and the one line for what is not."

import copy
import json
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dans.house import DansError
from dans.paper.manifest import check_parameters, code_hash, load_manifest
from dans.paper.parameters import GIVEN, parameters_of
from dans.paper.reproduction import Reproduction
from dans.paper.study import PRESETS

ROOT = Path(__file__).parent.parent
GOOD = {
    "claims": {"C1": "a claim"},
    "items": {
        "fig_a": {
            "notebook": "nbs/fig_a.ipynb",
            "title": "A figure",
            "claim": ["C1"],
            "needs": ["run_a"],
        },
        "run_a": {
            "notebook": "nbs/run_a.ipynb",
            "title": "A run",
            "writes": ["a/log", "a/log-end"],
            "parameters": {"quick": {"n": 1}},
            "seconds": {"quick": 2.5},
        },
        "tab_a": {
            "notebook": "nbs/tab_a.ipynb",
            "title": "A table",
            "needs": ["run_a"],
            "presets": ["cpu"],
        },
    },
}


def written(tmp_path, content):
    path = tmp_path / "paper.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_good_list(tmp_path):
    items = load_manifest(written(tmp_path, GOOD))
    assert list(items)[0] == "run_a" and set(items) == set(GOOD["items"])
    assert items["tab_a"].presets == ("cpu",) and items["fig_a"].presets == tuple(PRESETS)
    names = {i: {str(p) for p in item.files(Path("o"))} for i, item in items.items()}
    assert names["run_a"] == {f"o/results/a/{n}.{e}" for n in ("log", "log-end") for e in ("csv", "json")}
    assert names["fig_a"] == {f"o/figures/fig_a.{e}" for e in ("png", "pdf", "csv", "json")}
    assert names["tab_a"] == {f"o/figures/tab_a.{e}" for e in ("csv", "md", "tex", "json")}


@pytest.mark.parametrize(
    "where, value, says",
    [
        ("run_a.titel", "x", "field 'titel' is unknown: did you mean title"),
        ("run_a.title", None, "run_a: has no title"),
        ("run_a.notebook", 3, "run_a: has no notebook"),
        ("run_a.writes", [], r"run_a: writes is \[\]: name its rows"),
        ("run_a.writes", "a/log", "write a list"),
        ("run_a.writes", ["../x"], "cannot write '../x'"),
        ("run_a.writes", ["log"], "STUDY/NAME"),
        ("fig_a.writes", ["a/b"], "leave it out: it writes figures/fig_a"),
        ("fig_a.needs", ["run_b"], "did you mean run_a"),
        ("fig_a.needs", ["tab_a"], "'tab_a' is unknown"),
        ("fig_a.claim", ["C9"], "claim: 'C9' is unknown: there is C1"),
        ("run_a.versions", ["scores"], "did you mean score"),
        ("run_a.presets", ["quik"], "did you mean quick"),
        ("run_a.parameters", {"quik": {}}, "did you mean quick"),
        ("run_a.parameters", {"quick": 3}, "parameters at quick are 3"),
        ("run_a.parameters", {"quick": {"out_dir": "x"}}, "given by the runner"),
        ("run_a.parameters", [1], "write {PRESET: VALUE}"),
        ("run_a.seconds", {"quick": "long"}, "seconds at quick are 'long': write a number"),
        ("run_a.seconds", {"quick": -1}, "write a number"),
        ("run_a.needs", ["run_a"], "need each other"),
    ],
)
def test_a_slip_is_one_line_that_names_it(tmp_path, where, value, says):
    wrong = copy.deepcopy(GOOD)
    id, name = where.split(".")
    wrong["items"][id][name] = value
    with pytest.raises(DansError, match=says) as err:
        load_manifest(written(tmp_path, wrong))
    assert "paper.yml" in str(err.value) and "\n" not in str(err.value)


@pytest.mark.parametrize(
    "content, says",
    [
        ("items: [", "cannot be read"),
        ("", "has no items"),
        ("items: 3", "has no items"),
        ("[]", "has no items"),
        ("items: {}\nclaim: {}", "did you mean claims"),
        ("items: {run_a: }", "has no fields"),
        ("items: {plot_a: {}}", "begin it with run_, fig_ or tab_"),
        ("items: {3: {}}", "id 3 is not possible"),
        ("items: {Run_a: {}}", "in small letters"),
        ("a: !!python/object:os.system {}", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, content, says):
    with pytest.raises(DansError, match=says) as err:
        load_manifest(written(tmp_path, content))
    assert "\n" not in str(err.value)


def test_two_runs_cannot_write_the_same_rows(tmp_path):
    wrong = copy.deepcopy(GOOD)
    wrong["items"]["run_b"] = dict(wrong["items"]["run_a"])
    with pytest.raises(DansError, match="writes a/log, and so does another run"):
        load_manifest(written(tmp_path, wrong))


# Notebooks

CELL = """preset:str = "quick"  # which
out_dir:str = "runs/quick"
seed:int = 0
rate:float = 1e-3
sizes:list = [1, 2]"""


def notebook(path, parameters=CELL, *code, tags=("parameters",)):
    cells = [
        new_markdown_cell("# x"),
        new_code_cell(parameters, metadata={"tags": list(tags)}),
        *map(new_code_cell, code),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_parameters_are_read_without_running(tmp_path):
    assert parameters_of(notebook(tmp_path / "a.ipynb")) == {
        "preset": "quick",
        "out_dir": "runs/quick",
        "seed": 0,
        "rate": 1e-3,
        "sizes": [1, 2],
    }


@pytest.mark.parametrize(
    "cell, tags, says",
    [
        (CELL, [], "0 cells tagged parameters"),
        (CELL + "\nimport os", ["parameters"], "more than literals"),
        (CELL + "\nx = seed + 1", ["parameters"], "more than literals"),
        (CELL + "\nx:int", ["parameters"], "more than literals"),
        (CELL + "\nx[0] = 1", ["parameters"], "more than literals"),
        ("seed = = 1", ["parameters"], "more than literals"),
    ],
)
def test_a_wrong_parameters_cell_is_one_line(tmp_path, cell, tags, says):
    with pytest.raises(DansError, match=says):
        parameters_of(notebook(tmp_path / "a.ipynb", cell, tags=tags))


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "a.ipynb is missing"),
        ("{", "not a notebook"),
        ("[]", "not a notebook"),
        ('{"cells": [1]}', "not a notebook"),
    ],
)
def test_what_is_no_notebook_is_one_line(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.ipynb").write_text(content)
    with pytest.raises(DansError, match=says):
        parameters_of(tmp_path / "a.ipynb")


@pytest.mark.parametrize(
    "values, says",
    [
        ({"rtae": 1.0}, "did you mean rate"),
        ({"rate": "1e-3"}, "write 1.0e-3"),
        ({"seed": 1.5}, "like its default, 0"),
        ({"seed": True}, "like its default"),
        ({"sizes": 3}, "like its default"),
        ({"rate": False}, "like its default"),
    ],
)
def test_wrong_parameters_are_one_line(tmp_path, values, says):
    with pytest.raises(DansError, match=says):
        check_parameters(notebook(tmp_path / "a.ipynb"), values, "-p")


def test_right_parameters_pass(tmp_path):
    check_parameters(notebook(tmp_path / "a.ipynb"), {"rate": 1, "sizes": (3,), "seed": 4}, "-p")


def test_the_given_parameters_must_be_there(tmp_path):
    with pytest.raises(DansError, match="has no parameter seed"):
        check_parameters(notebook(tmp_path / "a.ipynb", 'preset = "quick"\nout_dir = ""'), {}, "-p")


def test_code_hash_follows_what_is_computed(tmp_path):
    first = code_hash(notebook(tmp_path / "a.ipynb", CELL, "x = 1"))
    assert code_hash(notebook(tmp_path / "a.ipynb", CELL + "\nnew:int = 3", "x  =  1   # a comment")) == first
    assert code_hash(notebook(tmp_path / "a.ipynb", CELL, "x = 2")) != first
    assert code_hash(notebook(tmp_path / "a.ipynb", CELL, "%timeit x")) != first


# The real list

ITEMS = load_manifest(ROOT / "paper.yml")


@pytest.mark.parametrize("item", ITEMS.values(), ids=list(ITEMS))
def test_each_notebook_takes_its_parameters_at_every_preset(item):
    path, known = ROOT / item.notebook, parameters_of(ROOT / item.notebook)
    for preset in item.presets:
        check_parameters(path, item.parameters.get(preset, {}), f"{item.id} at {preset}")
    assert len(set(known) - {"executor"}) <= 15, (
        "a parameters cell has at most fifteen lines, besides the one that says where pieces are computed"
    )
    cell = next(
        "".join(c["source"])
        for c in json.loads(path.read_text())["cells"]
        if "parameters" in c["metadata"].get("tags", [])
    )
    for line in cell.strip().splitlines():
        assert ":" in line.split("=")[0] and " # " in line, f"{line!r} wants a type and a meaning"
    assert set(GIVEN) <= set(known)


@pytest.mark.parametrize("item", ITEMS.values(), ids=list(ITEMS))
def test_paper_notebooks_export_nothing_and_are_all_listed(item):
    text = (ROOT / item.notebook).read_text()
    assert "#| export" not in text and "default_exp" not in text
    listed = {Path(i.notebook).name for i in ITEMS.values()}
    assert {p.name for p in (ROOT / "nbs/paper").glob("*.ipynb")} <= listed


@pytest.mark.parametrize("item", [i for i in ITEMS.values() if i.kind != "run"], ids=lambda i: i.id)
def test_figures_and_tables_import_no_backend(item):
    text = (ROOT / item.notebook).read_text()
    for word in (
        "tensorflow",
        "keras",
        "jax",
        "dans.net.supernet",
        "dans.net.score",
        "dans.board.deploy",
        "dans.board.card",
        "dans.board.export",
    ):
        assert f"import {word}" not in text and f"from {word}" not in text, f"{item.id} imports {word}"


def test_a_run_may_name_what_keras_runs_on_at_a_preset(monkeypatch):
    cpu, smoke = Reproduction("cpu"), Reproduction("smoke")
    item = cpu.items["run_2023"]
    assert item.backends == {"cpu": "jax"}
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert (cpu.backend_of(item), smoke.backend_of(item)) == ("jax", "tensorflow")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert cpu.backend_of(item) == "tensorflow"
