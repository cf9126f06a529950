"The house: one lock, rooms in order, nothing of one machine, make and the licences."

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml
from conftest import DEAREST
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
IGNORED = {
    ".git",
    ".venv",
    "runs",
    "_proc",
    "_docs",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".ipynb_checkpoints",
}
ROOMS = sorted(p for p in (ROOT / "nbs").glob("*.ipynb") if re.match(r"^[0-9][0-9][a-z]?_.*", p.name))


def files():
    for folder, below, names in os.walk(ROOT):
        below[:] = [b for b in below if b not in IGNORED and not b.endswith(".egg-info")]
        yield from (Path(folder) / name for name in names)


def settings():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def lock():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line).groups() for line in lines)  # no index, no URL
    return {canonicalize_name(name): pin for name, pin in pins.items()}


def requirements(name):
    return [Requirement(line) for line in settings()[name].splitlines() if line.strip()]


# One lock


def test_environment_yml_agrees_with_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(d["pip"] for d in environment if isinstance(d, dict))
    assert "python=3.11" in environment and "pip" in environment
    assert pip[0] == "-c constraints.txt" and pip[-1] == "-e .[dev]"
    pins = dict(line.split("==") for line in pip[1:-1])
    assert pins == {name: lock()[canonicalize_name(name)] for name in pins}
    assert {
        "nbdev",
        "papermill",
        "jupyterlab",
        "tensorflow-cpu",
        "keras",
        "numpy",
        "matplotlib",
    } <= set(pins)


@pytest.mark.parametrize("name", ["requirements", "dev_requirements", "jax_requirements", "ray_requirements"])
def test_every_requirement_is_locked(name):
    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}
    for requirement in requirements(name):
        if not requirement.marker or requirement.marker.evaluate(linux):
            assert canonicalize_name(requirement.name) in lock(), f"{requirement} is not in constraints.txt"
            assert not requirement.specifier, f"{requirement}: versions stand in constraints.txt"


def test_this_environment_is_the_lock():
    assert {name: version(name) for name in lock()} == lock()
    assert sys.version_info[:2] == (3, 11)


def test_nbdev_and_what_it_does_not_cap_are_pinned():
    assert lock()["nbdev"] == "2.4.14" and {
        "execnb",
        "fastcore",
        "ghapi",
        "setuptools",
        "wheel",
    } <= set(lock())


def test_the_console_command_is_there():
    (command,) = (e for e in entry_points(group="console_scripts") if e.name == "dans-reproduce")
    assert callable(command.load())


# Rooms


def exported(room):
    cells = json.loads(room.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    name = next(m[1] for s in sources if (m := re.match(r"#\| *default_exp (\w+)", s)))
    return name, ast.parse("\n".join(s for s in sources if re.match(r"#\| *export\b", s)))


def test_rooms_import_only_from_lower_rooms():
    names = [exported(room)[0] for room in ROOMS]
    for n, room in enumerate(ROOMS):
        imports = {
            m
            for node in ast.walk(exported(room)[1])
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for m in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        of_ours = {m.split(".")[1] for m in imports if m.startswith("dans.")}
        assert of_ours <= set(names[:n]), f"{room.name} imports {of_ours - set(names[:n])}"


def test_most_rooms_need_no_backend():
    names = {exported(room)[0] for room in ROOMS}
    free = sorted(f"dans.{name}" for name in names - {"elastic", "supernet", "score", "deploy"})
    assert {"dans.space", "dans.search", "dans.study", "dans.plot"} <= set(free)
    backends = "{'tensorflow', 'keras', 'jax', 'torch'}"
    code = f"import sys, {', '.join(free)}; print({backends} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("room", ROOMS, ids=lambda r: r.stem)
def test_a_room_begins_as_agreed(room):
    cells = json.loads(room.read_text(encoding="utf-8"))["cells"]
    assert "".join(cells[0]["source"]).startswith("#| default_exp ")
    assert re.match(r"# [^\n]+\n\n?> [^\n]+", "".join(cells[1]["source"])), "a title and one line"
    assert (ROOT / "dans" / f"{exported(room)[0]}.py").read_text().count("\n") <= 800, "one question a room"
    for text in ("".join(cell["source"]).strip() for cell in cells[2:] if cell["cell_type"] == "markdown"):
        if re.search(r"^#+ ", text, re.M):
            assert "\n" not in text, "a heading has a cell of its own"


def test_cleaning_keeps_the_parameters_tag(tmp_path):
    (tmp_path / "nbs").mkdir()
    shutil.copy(ROOT / "settings.ini", tmp_path)
    cell = {
        "cell_type": "code",
        "execution_count": 3,
        "id": "a",
        "metadata": {"tags": ["parameters"], "x": 1},
        "outputs": [],
        "source": "seed:int = 0",
    }
    path = tmp_path / "nbs/a.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], cwd=tmp_path, check=True)
    assert json.loads(path.read_text())["cells"][0]["metadata"] == {"tags": ["parameters"]}


# Nothing of one machine


def test_no_file_names_this_machine_or_what_lies_beside_the_checkout():
    words = [w for w in (str(ROOT), str(Path.home()) + "/", os.environ.get("PIP_FIND_LINKS")) if w and len(w) > 4]
    beside = "../" + "shared"
    for path in files():
        text = path.read_text(encoding="utf-8", errors="ignore")
        assert not [w for w in words if w in text], f"{path.relative_to(ROOT)} names a path of this machine"
        assert beside not in text or path == ROOT / ".ci/run", f"{path.relative_to(ROOT)} names {beside}"
        assert not re.search(r"^\s*--(extra-)?index-url", text, re.M), f"{path.relative_to(ROOT)} names a registry"


def test_no_file_is_large():
    assert [p for p in files() if p.stat().st_size > 1_000_000] == []


def test_the_files_that_come_first_are_there():
    assert set(DEAREST) <= {path.stem for path in (ROOT / "tests").glob("test_*.py")}


# Make


def make(*words, cwd=ROOT):
    return subprocess.run(["make", "--no-print-directory", *words], cwd=cwd, capture_output=True, text=True)


def test_make_alone_lists_every_target():
    said = make().stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert {"reproduce", "test", "lab", "docs", "figures", "readme"} <= set(targets)
    assert all(re.search(rf"^  {target} ", said, re.M) for target in targets)


def test_make_lab_shows_the_whole_checkout_and_takes_arguments():
    said = make("--dry-run", "lab", "ARGS=--no-browser --port 8890").stdout
    assert "--ServerApp.root_dir=. --no-browser --port 8890 nbs/index.ipynb" in said
    assert re.search(r"^  lab .*ARGS=", make().stdout, re.M)


@pytest.mark.parametrize("python", ["no-such-python", "false"])
def test_make_without_python_3_11_says_what_to_do(tmp_path, python):
    for name in ("Makefile", "constraints.txt", "settings.ini", "setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = make("reproduce", f"PYTHON={python}", cwd=tmp_path)
    assert done.returncode and f"{python} is not Python 3.11: install Python 3.11" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_parts_of_the_house_are_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text() and "END OF TERMS" in (ROOT / "LICENSE").read_text()
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    assert paper["doi"] == "10.1016/j.iot.2025.101688" and "2502.12690" in str(paper["identifiers"])
    assert [a["family-names"] for a in paper["authors"]] == ["Njor", "Banbury", "Fafoutis"]
    assert any("bash .ci/run" in path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    assert os.access(ROOT / ".ci/run", os.X_OK)
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text())["jobs"]
