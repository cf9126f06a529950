"The house: one lock, rooms in order, nothing of one machine, make and the licences."

import ast
import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from configparser import ConfigParser
from functools import cache, reduce
from importlib.metadata import distributions, entry_points, version
from pathlib import Path

import pytest
import yaml
from conftest import DEAREST
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
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
NBS = ROOT / "nbs"
# In reading order, which is that of their paths: the ground floor (nbs/NN_x.ipynb), then a folder for each wing.
ROOMS = sorted(
    p
    for p in NBS.rglob("*.ipynb")
    if re.match(r"^[0-9][0-9][a-z]?_", p.name) and p.relative_to(NBS).parts[0] not in ("paper", "tutorials")
    if not any(part.startswith((".", "_")) for part in p.relative_to(NBS).parts)
)


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


def test_what_is_locked_runs_on_every_python_of_its_line():
    "Debian's is 3.11.2; a version that wants a later one is refused by pip there."
    for found in distributions():
        wanted = found.metadata["Requires-Python"] or ""
        if canonicalize_name(found.metadata["Name"]) in lock():
            assert SpecifierSet(wanted).contains("3.11.0"), f"{found.metadata['Name']} {found.version} wants {wanted}"


EXTRAS = [name for name in settings() if name.endswith("_requirements")]


@pytest.mark.parametrize("name", ["requirements", *EXTRAS])
def test_every_requirement_is_locked(name):
    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}
    for requirement in requirements(name):
        if not requirement.marker or requirement.marker.evaluate(linux):
            assert canonicalize_name(requirement.name) in lock(), f"{requirement} is not in constraints.txt"
            assert not requirement.specifier, f"{requirement}: versions stand in constraints.txt"


def told_to_pip(monkeypatch):
    "What setup.py hands to pip."
    import setuptools

    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: told.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    return told


def test_the_base_is_small_and_dev_brings_everything(monkeypatch):
    told = told_to_pip(monkeypatch)
    names = {extra: {Requirement(line).name for line in lines} for extra, lines in told["extras_require"].items()}
    extras = "tensorflow jax deploy wake-vision sound optuna ray paper docs dev"
    assert set(names) == set(extras.split())
    assert set.union(*names.values()) == names["dev"]
    base = {Requirement(line).name for line in told["install_requires"]}
    assert len(base) <= 8 and not base & {"keras", "tensorflow", "jax", "papermill", "matplotlib", "numba"}
    code = "import sys, dans.front.command, dans.choose.search, dans.choose.exhaustive, dans.data, dans.board.card\n"
    code += "print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {line.partition(";")[0].strip() for extra in told["extras_require"].values() for line in extra}
    assert not {*loaded} & (ours - base), "what the base loads, it must bring"


def test_the_version_stands_in_one_place(monkeypatch):
    told, version_ = told_to_pip(monkeypatch), settings()["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    record = json.loads((ROOT / ".zenodo.json").read_text())
    assert told["version"] == version_ == citation["version"] and "version" not in record
    assert record["title"] == citation["title"] and record["license"] == citation["license"]
    assert [one["name"] for one in record["creators"]] == [one["name"] for one in citation["authors"]]
    assert record["related_identifiers"][0]["identifier"] == citation["preferred-citation"]["doi"]
    assert "](nbs/" not in told["long_description"] and "](https://" in told["long_description"]


def test_the_image_is_made_from_the_lock():
    lines_ = (ROOT / "Dockerfile").read_text().splitlines()
    steps = [line for line in lines_ if line and not line.startswith("#")]
    assert len(steps) == 6 and steps[0] == "FROM python:3.11-slim" and any("make install" in line for line in steps)
    assert {".venv", "runs"} <= set((ROOT / ".dockerignore").read_text().split())


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

# What a subnet computes is Keras; so is what stands on it.
KERAS = {"elastic", "step", "experiment", "train", "supernet", "alone", "tree", "score", "deploy", "kit", "export"} | {
    "fused",
    "turns",
    "relaxed",
    "relaxations",
    "stages",
    "dry",
    "fleet",
    "judged",
    "scored",
    "plain",
    "bugs",
    "pace",
    "find",
    "finding",
    "hearing",
    "oblong",
    "keywords",
    "spoken",
}


@cache
def exported(room):
    "The module of a room, such as data.images, and the tree of its exported code."
    cells = json.loads(room.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    name = next(m[1] for s in sources if (m := re.match(r"#\| *default_exp ([\w.]+)", s)))
    return name, ast.parse("\n".join(s for s in sources if re.match(r"#\| *exporti?\b", s)))


def modules():
    "The modules of all rooms, in reading order."
    return [exported(room)[0] for room in ROOMS]


def wing_of(module):
    "The wing of a module; the ground floor has none."
    return module.rpartition(".")[0]


def imported(tree, known):
    "What `tree` imports of ours: modules that are `known`, and others, such as a wing as a whole, by name."
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("dans.") for a in node.names if a.name.startswith("dans.")}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dans":
            base = node.module.removeprefix("dans").removeprefix(".")
            found |= {base} if base in known else {f"{base}.{a.name}".strip(".") for a in node.names}
    return found


def test_rooms_import_only_from_lower_rooms():
    known = modules()
    for n, room in enumerate(ROOMS):
        above = imported(exported(room)[1], known) - set(known[:n])
        assert not above, f"{room.name} imports {above}, which do not stand before it"


def test_imports_are_seen_in_all_their_forms():
    code = """import dans
import OURS.low
from OURS import hall
from OURS.wing import door
from OURS.wing.stair import step
def f():
    from OURS.loft.desk import Lamp"""
    tree = ast.parse(code.replace("OURS", "dans"))
    known = ["low", "hall", "wing.door", "wing.stair", "loft.desk"]
    assert imported(tree, known) == set(known)
    assert imported(ast.parse("from OURS.wing import door, step".replace("OURS", "dans")), known) == {
        "wing.door",
        "wing.step",
    }


def test_a_rooms_place_is_its_number_its_name_and_its_wing():
    assert [room.name for room in ROOMS] == sorted(room.name for room in ROOMS), "numbers go on from wing to wing"
    numbers = [room.name.partition("_")[0] for room in ROOMS]
    assert len(set(numbers)) == len(numbers)
    for room, module in zip(ROOMS, modules()):
        folder = room.parent.relative_to(NBS).as_posix()
        assert re.sub(r"^[0-9]_|^\.$", "", folder) == wing_of(module), f"{folder} is not the wing of {module}"
        name = room.stem.partition("_")[2]
        assert module.endswith("__init__") or module.rpartition(".")[2] == name, f"{room.name} exports {module}"


def test_wings_are_read_one_after_the_other():
    order = [wing_of(module) for module in modules()]
    assert order == sorted(order, key=order.index), "the rooms of a wing stand together"
    assert order[0] == "", "first the ground floor"
    folders = {wing_of(module): room.parent.name for room, module in zip(ROOMS, modules())}
    assert [f[0] for wing, f in folders.items() if wing] == [str(n) for n in range(1, len(folders))]


def test_every_module_is_exported_from_a_room():
    of_rooms = {f"{module.replace('.', '/')}.py" for module in modules()}
    made = {p.relative_to(ROOT / "dans").as_posix() for p in (ROOT / "dans").rglob("*.py")}
    wings = {f"{wing_of(module).replace('.', '/')}/__init__.py" for module in modules() if wing_of(module)}
    assert made == of_rooms | wings | {"_modidx.py"}
    assert all("def " not in (ROOT / "dans" / wing).read_text() for wing in wings - of_rooms), "else a folder"


def test_one_import_brings_what_a_first_use_needs_and_loads_nothing():
    loaded = "{'numpy', 'pandas', 'matplotlib', 'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)"
    ours = "[m for m in sys.modules if m.startswith('dans.')]"
    code = f"""import sys, time
began = time.perf_counter()
import dans
took = time.perf_counter() - began
print(took < 1, {loaded}, {ours}, dans.__version__)
dans.SearchSpace, dans.footprint, dans.Limits
print({{'tensorflow', 'keras', 'jax', 'torch'}} & set(sys.modules))
for name, home in dans._HOMES.items():
    found = getattr(dans, name)
    assert found is vars(sys.modules[home])[name] and found.__module__ == home, (name, found)
assert {{*dans.__all__}} <= {{*dir(dans)}} and len(dans.__all__) >= 12"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"True set() [] {settings()['version']}\nset()\n"), done.stderr


def test_the_wing_of_images_brings_what_those_need_who_only_bring_images():
    code = "import sys\nfrom dans.data import Prepared, Source, decode, open_source, prepare, source\n"
    code += "print({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules), prepare.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set() dans.data.prepared\n"), done.stderr


def test_a_name_that_dans_has_not_is_an_attribute_error():
    import dans

    with pytest.raises(AttributeError, match="has no attribute 'Serchspace'; it has .*SearchSpace"):
        dans.__getattr__("Serchspace")
    assert not hasattr(dans, "__wrapped__")


def test_most_rooms_need_no_backend():
    last = {module.rpartition(".")[2]: module for module in modules() if not module.endswith("__init__")}
    free = sorted(f"dans.{module}" for name, module in last.items() if name not in KERAS)
    assert {f"dans.{last[name]}" for name in ("space", "search", "study", "plot")} <= set(free)
    backends = "{'tensorflow', 'keras', 'jax', 'torch'}"
    code = f"import sys, {', '.join(free)}; print({backends} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.stem)
def test_exported_cells_are_read_in_one_glance(room):
    cells = json.loads(room.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    exported = [source.splitlines() for source in sources if re.match(r"#\| *exporti?\b", source)]
    assert [lines[1:3] for lines in exported if len(lines) > 45] == []


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.stem)
def test_a_room_begins_as_agreed(room):
    cells = json.loads(room.read_text(encoding="utf-8"))["cells"]
    assert "".join(cells[0]["source"]).startswith("#| default_exp ")
    assert re.match(r"# [^\n]+\n\n?> [^\n]+", "".join(cells[1]["source"])), "a title and one line"
    module = ROOT / "dans" / f"{exported(room)[0].replace('.', '/')}.py"
    assert module.read_text().count("\n") < 500, "one question a room"
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


# What is named in texts


def texts():
    "(where, text) of all that is read or run: notebooks cell by cell, tests, tools, benchmarks, guides."
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if IGNORED.isdisjoint(path.parts):
            for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
                yield f"{path.relative_to(ROOT)} cell {i}", "".join(cell["source"])
    for path in sorted(p for folder in ("tests", "tools", "benchmarks") for p in (ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "Makefile", ".ci/run"):
        yield name, (ROOT / name).read_text(encoding="utf-8")


def named(text):
    "Dotted names below `dans` in `text`, those that an import there asks for, too."
    yield from re.findall(r"(?<![\w./-])dans(?:\.[A-Za-z_]\w*)+(?![\w/-])", text)
    for module, names in re.findall(r"from (dans[\w.]*) import (\([^)]*\)|[\w, ]+)", text):
        words = (
            word.split()[0] for word in re.sub(r"#.*|[()]", "", names).replace("\n", " ").split(",") if word.split()
        )
        yield from (f"{module}.{word}" for word in words)


def there(name):
    "Is `name` a module of ours, or something in one?"
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        try:
            reduce(getattr, parts[n:], found)
        except AttributeError:
            return False
        return True
    return False


FILES = {"dans.mplstyle", "dans.egg"}
INVENTED = {"dans.bords.Device", "dans.board.quantise.quantize"}  # by the tests of remedies


def test_every_name_of_ours_in_a_text_is_there():
    found = {(where, name) for where, text in texts() for name in named(text)}
    unknown = {name for name in {name for _, name in found} - FILES - INVENTED if not there(name)}
    gone = sorted(f"{where}: {name}" for where, name in found if name in unknown)
    assert len(found) > 300 and not gone, "\n".join(gone)


def test_a_name_that_has_moved_is_noticed():
    moved = "from dans" + ".house import DansError, System  # once\nsee `dans" + ".space.stoppable`, dans.space.System"
    assert [name.removeprefix("dans.") for name in named(moved) if not there(name)] == [
        "space.stoppable",
        "house.System",
    ]


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
