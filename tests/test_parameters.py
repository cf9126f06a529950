"""Parameters: what is typed, what a notebook can be told, and the one line for what it cannot; for the command and
in a kernel."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dans.data.catalogue import check_source
from dans.house import DansError
from dans.paper.manifest import load_manifest
from dans.paper.parameters import RULES, Parameter, check_kernel, check_values, described, filled, image_options
from dans.paper.reproduce import _across, _changes, reproduce
from dans.paper.study import Study

ROOT = Path(__file__).parent.parent
CELL = """preset:str = "quick"          # of which size
out_dir:str = ""              # where rows go
seed:int = 0                  # of everything
data:str = "wake_scenes"      # your images # or ours
source_options:dict = {}      # how they are read
images:int = 100              # for training
resolutions:list = []         # pixels
memory_kib:list = [48, 256]   # RAM and flash
million_macs:list = [0.2]     # MACs
evaluations:int = 60          # of each search
epochs:list = [8, 10]         # passes
board:str = ""                # instead of memory_kib
rate:float = 1                # of learning
share:list = [0, 1]           # which pieces
quiet:bool = False            # no bars"""
RUN = """
open("kernel_started", "w")
from dans.paper.study import Study
study = Study(preset, out_dir)
open("work_began", "w")
import pandas as pd
study.write("toy/log", pd.DataFrame({"x": [1]}));
"""
LIST = """
items:
  run_toy:
    {notebook: nbs/run_toy.ipynb, title: A toy, writes: [toy/log], parameters: {own: {source_options: {fit: squash}}}}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "paper.yml").write_text(LIST)
    (tmp_path / "nbs").mkdir()
    (tmp_path / "2024").mkdir()
    cells = [new_code_cell(CELL, metadata={"tags": ["parameters"]}), new_code_cell(RUN)]
    spec = {"name": "python3", "language": "python", "display_name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), tmp_path / "nbs/run_toy.ipynb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.fixture
def known(checkout):
    return described(checkout / "nbs/run_toy.ipynb")


def test_the_cell_is_read_with_types_and_meanings(known):
    assert known["rate"].kind == "float" and known["rate"].default == 1 and known["rate"].help == "of learning"
    assert known["data"].help == "your images # or ours"


@pytest.mark.parametrize(
    "typed, value",
    [
        ("seed=7", 7),
        ("data=2024", "2024"),
        ("data='a b'", "a b"),
        ("data=[1]", "[1]"),
        ("resolutions=16,24", [16, 24]),
        ("resolutions=(16, 24)", [16, 24]),
        ("resolutions=16", [16]),
        ("resolutions=[]", []),
        ("epochs=1,.5", [1, 0.5]),
        ("rate=1e-3", 1e-3),
        ("quiet=true", True),
        ("source.image=img", {"image": "img"}),
        ("source_options.image=img", {"image": "img"}),
        ("source.upscale=true", {"upscale": True}),
        ("source.label=7", {"label": 7}),
        ("source_options={'image': 'img'}", {"image": "img"}),
    ],
)
def test_a_parameter_s_type_says_how_its_text_is_read(known, typed, value):
    found = filled(known, _changes([typed]))
    assert list(found.values()) == [value] and set(found) <= set(known)
    assert [type(v) for v in found.values()] == [type(value)]
    check_values(known, {name: v for name, v in found.items() if name != "data"})


def test_lists_of_names_need_no_quotes(known):
    assert filled(known, {"resolutions": "[a, b]"}) == {"resolutions": ["a", "b"]}


WRONG = {
    "memory_kib": ["[64]", "[1, 2, 3]", "[0, 64]", "[64, -1]", "64", "[]", "big", "['a', 'b']", "[True, 1]"],
    "million_macs": ["[]", "[0]", "[1, -1]", "[1e999]", "x"],
    "epochs": ["[0, 0]", "[1]", "[1, 0]", "[-1, 4]", "3", "[1, 1, 1]", "many"],
    "evaluations": ["0", "-3", "1.5", "many", "True"],
    "images": ["-1", "1e3", "all"],
    "seed": ["abc", "-1", "0.5", "[0]"],
    "resolutions": ["[0]", "[7]", "[16.5]", "16,x", "[-16]"],
    "data": ["nowhere", "collage:nowhere", "wake_vision:nowhere", "", "x" * 5000],
    "board": ["no such board"],
    "rate": ["fast", "True", "1e999"],
    "share": ["[1, 1]", "[0]", "[-1, 2]", "[0, 0]"],
    "quiet": ["1", "maybe"],
    "source_options": ["img", "[1]"],
}


@pytest.mark.parametrize("name, text", [(name, text) for name, texts in WRONG.items() for text in texts])
def test_what_a_parameter_cannot_be_is_one_line_with_both_ways(known, name, text):
    with pytest.raises(DansError) as err:
        check_values(known, filled(known, {name: text}), "-p")
    said = str(err.value)
    assert "\n" not in said
    if name != "board":  # has a line of its own
        assert (
            f"-p: parameter {name} is " in said
            and (f": -p {name}=" in said or f": -p '{name}=" in said)
            and f"(papermill: -{'r' if known[name].kind == 'str' else 'y'} " in said
        )


@pytest.mark.parametrize(
    "spec", ["wake_scenes", "collage", "collage:2024", "collage:2024:cat,dog", "wake_vision:2024", "2024", "nbs"]
)
def test_every_form_of_data_passes_where_its_path_exists(known, spec):
    check_values(known, {"data": spec})


def test_the_examples_of_the_rules_hold_and_each_notebook_s_defaults_and_presets_do():
    assert all(rule.holds(rule.example) for rule in RULES.values())
    for item in load_manifest(ROOT / "paper.yml").values():
        parameters = described(ROOT / item.notebook)
        check_values(parameters, {name: p.default for name, p in parameters.items()}, item.id, ROOT)
        for preset, values in item.parameters.items():
            check_values(parameters, values, f"{item.id} at {preset}", ROOT)


def test_no_run_has_a_number_or_list_without_a_rule():
    for item in load_manifest(ROOT / "paper.yml").values():
        for name, p in described(ROOT / item.notebook).items():
            assert (
                p.kind not in ("int", "float", "list")
                or (name, p.kind) in RULES
                or name in ("data", "positive", "recipes")
            ), (item.id, name)


# The command


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"memory_kib": "[64]"}, r"-p: parameter memory_kib is \[64\]: give two numbers above 0"),
        ({"rat": "1"}, "'rat' is unknown: did you mean rate"),
        ({"preset": "smoke"}, "it is given by --preset"),
        ({"sorce.image": "img"}, r"did you mean source.image\?"),
        ({"images.all": "1"}, "'images.all' is unknown"),
        ({"data": "nowhere"}, "parameter data is 'nowhere': .*a path that exists"),
    ],
)
def test_the_command_refuses_before_any_kernel(checkout, changes, says):
    with pytest.raises(DansError, match=says) as err:
        reproduce(["run_toy"], changes=changes)
    assert (
        "\n" not in str(err.value) and not (checkout / "kernel_started").exists() and not (checkout / "runs").exists()
    )


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"data": "2024", "source.imgae": "img"}, "source 2024 has no option 'imgae': it has"),
        ({"data": "2024", "source.val": "much"}, "val='much' is not a number"),
        ({"data": "2024", "source.fit": "pad"}, "fit='pad' is not possible: use crop or squash"),
        (
            {"data": "2024", "source.native": "8", "resolutions": "16,24"},
            "native size 8 px is below the largest resolution, 24 px",
        ),
        ({"source.native": "8", "resolutions": "24"}, "native size 8 px is below"),
        ({"data": "2024", "source.native": "8"}, "native size 8 px is below the largest resolution, 64 px"),
        ({"data": "collage"}, "collage needs photographs"),
        ({"data": "collage:photos:birb"}, "photos has no class 'birb': it has cat, dog"),
        ({"data": "wake_vision:photos"}, "holds no wake_vision/1.0.0"),
        ({"data": "tiny_imagenet:photos"}, "photos is not the folder tiny-imagenet-200"),
    ],
)
def test_the_source_and_its_options_are_refused_before_any_kernel(checkout, monkeypatch, changes, says):
    monkeypatch.delenv("DANS_PHOTOS", raising=False)
    for name in ("cat", "dog"):
        (checkout / "photos" / name).mkdir(parents=True)
    with pytest.raises(DansError, match=says) as err:
        reproduce(["run_toy"], changes=changes)
    assert (
        "\n" not in str(err.value) and not (checkout / "kernel_started").exists() and not (checkout / "runs").exists()
    )


def test_paths_of_images_start_from_the_checkout_and_a_folder_may_forbid_to_look(checkout, known, monkeypatch):
    (checkout / "elsewhere").mkdir()
    monkeypatch.chdir(checkout / "elsewhere")
    check_values(known, {"data": "2024"}, folder=checkout)
    assert check_source("2024", {}, folder=checkout)[1] == (checkout / "2024",)

    def forbidden(path):
        raise PermissionError

    monkeypatch.setattr(Path, "exists", forbidden)
    for spec in ("2024/cats", "collage:2024/cats", "wake_vision:2024/cats"):
        with pytest.raises(DansError, match="there is no permission"):
            check_values(known, {"data": spec}, folder=checkout)


def test_a_file_of_a_board_starts_from_the_checkout_too(checkout, known, monkeypatch):
    (checkout / "elsewhere").mkdir()
    (checkout / "board.yml").write_text("ram: 256 KiB\nflash: 1 MiB\nclock: 64 MHz\n")
    monkeypatch.chdir(checkout / "elsewhere")
    for board in ("board.yml", str(checkout / "board.yml"), "nrf52840", ""):
        check_values(known, {"board": board}, folder=checkout)
    (checkout / "half.yml").write_text("ram: 256 KiB\n")
    for board in ("half.yml", "nowhere.yml"):
        with pytest.raises(DansError):
            check_values(known, {"board": board}, folder=checkout)


def test_entries_are_added_to_what_the_list_says(checkout, capsys):
    assert reproduce(["run_toy"], "own", changes={"source.image": "img", "data": "2024"}, parameters=True) == 0
    said = capsys.readouterr().out
    assert reproduce(["run_toy"], "own", changes={"image": "img", "data": "2024"}, parameters=True) == 0
    assert capsys.readouterr().out == said  # an option of the images is known without `source.`, too
    assert "{'fit': 'squash', 'image': 'img'}" in said and "str    '2024'" in said and "# or ours" in said
    assert f"KEY one of {', '.join(image_options())}" in said and {"image", "label", "upscale"} <= set(image_options())
    assert not (checkout / "runs").exists()


def test_preset_own_wants_images_at_once_and_only_where_it_would_search(checkout):
    with pytest.raises(DansError, match="preset own has no images: name yours: -p data=FOLDER"):
        reproduce(preset="own")
    assert reproduce(preset="own", dry_run=True) == 0
    assert not (checkout / "runs").exists()
    assert reproduce(preset="own", changes={"data": "2024"}) == 0
    record = json.loads((checkout / "runs/own/results/toy/log.json").read_text())
    assert record["made_of"]["parameters"]["data"] == "2024"


def test_a_table_turned_on_its_side_has_a_line_for_each_column(tmp_path):
    (tmp_path / "t.md").write_text("a note\n\n| limit | RAM (KiB) |\n|:--|:--|\n| 0.30 | 15.0 |\n| 10.00 | 8.0 |\n")
    assert _across(tmp_path / "t.md") == ["limit       0.30  10.00", "RAM (KiB)   15.0    8.0"]


def test_the_command_ends_with_the_systems(checkout, capsys):
    table = "| limit | RAM (KiB) |\\n|:--|:--|\\n| 0.30 | 15.0 |\\n"
    write = (
        'for e in ("csv", "tex"):\n    (study.figures / f"tab_systems.{e}").write_text("x")\n'
        f'(study.figures / "tab_systems.md").write_text("{table}")'
    )
    code = (
        "from dans.files import write_json; from dans.paper.study import Study\nstudy = Study(preset, out_dir)\n"
        f"write_json(study.figures / 'tab_systems.json', {{}})\n{write}"
    )
    cells = [new_code_cell(CELL, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells), checkout / "nbs/tab.ipynb")
    (checkout / "paper.yml").write_text("items:\n  tab_systems: {notebook: nbs/tab.ipynb, title: The systems}\n")
    assert reproduce() == 0
    assert capsys.readouterr().out.endswith(
        "limit      0.30\nRAM (KiB)  15.0\nfigures and tables are in runs/quick/figures/\n"
    )


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("epochs", [0, 0], "-p 'epochs=[8,10]' (papermill: -y 'epochs: [8, 10]')"),
        ("data", ["x"], "-p 'data=["),
        ("seed", -1, "-p seed=0 (papermill: -y 'seed: 0')"),
    ],
)
def test_a_shell_takes_a_remedy_as_it_stands(known, name, value, says):
    with pytest.raises(DansError) as err:
        check_values(known, {name: value})
    assert says in str(err.value) and shlex.split(str(err.value).partition("papermill: ")[2].rstrip(")"))[0] in (
        "-y",
        "-r",
    )


def test_a_metric_may_be_written_as_it_is_read():
    known = {"metric": Parameter("metric", "str", "accuracy", "")}
    check_values(known, {"metric": "macro F1"})
    with pytest.raises(DansError, match="metric 'f2' is unknown: use one of accuracy"):
        check_values(known, {"metric": "f2"})


def test_options_of_images_are_listed_only_where_there_are_images(checkout, capsys):
    cells = [
        new_code_cell(CELL.replace("source_options:dict = {}", "others:dict = {}"), metadata={"tags": ["parameters"]})
    ]
    nbformat.write(new_notebook(cells=cells), checkout / "nbs/run_toy.ipynb")
    assert reproduce(["run_toy"], parameters=True) == 0
    assert capsys.readouterr().out.endswith("change one: -p NAME=VALUE\n")


# In a kernel


def kernel(cell=CELL, injected="", **values):
    names = {}
    for source in (cell, injected):
        exec(source, names)
    return {
        **names,
        **values,
        "In": ["", cell, *([f"# Parameters\n{injected}"] if injected else []), "from dans.paper.study import Study"],
    }


@pytest.mark.parametrize(
    "injected, says",
    [
        ("presett = 'smoke'", "'presett' is unknown: did you mean preset"),
        ("epochs = '[1, 1]'", r"epochs is '\[1, 1\]', which is text: .*papermill: -y 'epochs: \[8, 10\]'"),
        ("seed = 'abc'", "seed is 'abc', which is text"),
        ("data = 2024", "parameter data is 2024: .*papermill: -r data 2024"),
        ("epochs = [0, 0]", "two numbers above 0"),
        ("images = -1", "a whole number from 0 on"),
        ("memory_kib = None", "parameter memory_kib is None"),
        ("board = None", "parameter board is None"),
    ],
)
def test_a_kernel_refuses_what_papermill_has_put_in(injected, says):
    check_kernel(kernel(injected="seed = 3"))
    with pytest.raises(DansError, match=says):
        check_kernel(kernel(injected=injected))


def test_a_kernel_takes_the_cell_that_ran_last_and_no_name_that_code_has_taken_over():
    wrong = CELL.replace("[48, 256]", "[64]")
    with pytest.raises(DansError, match="two numbers above 0"):
        check_kernel(kernel(wrong))
    names = kernel(wrong)
    names["In"].append(CELL)
    exec(CELL, names)
    check_kernel(names)
    check_kernel(kernel(board=object()))
    check_kernel({"In": ["x = 1", "%timeit x"]})
    check_kernel({})


def test_papermill_by_hand_is_refused_before_any_work(checkout):
    env = {name: value for name, value in os.environ.items() if not name.startswith("DANS_")}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "papermill",
            "nbs/run_toy.ipynb",
            "out.ipynb",
            "-k",
            "python3",
            "--no-progress-bar",
            "-p",
            "presett",
            "smoke",
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode and "DansError: parameter 'presett' is unknown: did you mean preset?" in done.stderr
    assert (checkout / "kernel_started").exists() and not (checkout / "work_began").exists()


def test_a_study_outside_of_a_kernel_checks_nothing(checkout):
    assert Study("quick", root=checkout).preset == "quick"
