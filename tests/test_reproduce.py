"The runner: what it runs, skips, reports and refuses, in a toy checkout with a run and a figure."

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import dans.paper.reproduce as room
from dans.files import RESULT_VERSIONS
from dans.house import DansError
from dans.paper.reproduce import main, reproduce
from dans.paper.reproduction import Reproduction

GIVEN = 'preset:str = "quick"\nout_dir:str = "runs/quick"\nseed:int = 0\n'
RUN = """
from tqdm import tqdm
import pandas as pd
from dans.paper.study import Study
study = Study(preset, out_dir)
log = [{"step": i, "score": i/10} for i in tqdm(range(steps), desc="searching", unit="step")]
study.write("toy/log", pd.DataFrame(log), data={"name": "none"});
"""
FIGURE = """
from dans.files import atomic, write_json; from dans.paper.study import Study
study = Study(preset, out_dir)
rows = study.rows("toy/log")
for ending in ("png", "pdf", "csv"):
    with atomic(study.figures/f"fig_toy.{ending}") as tmp:
        rows.to_csv(tmp)
write_json(study.figures/"fig_toy.json", {**study.provenance(), "stamp": study.stamp});
"""
LIST = """
items:
  run_toy: {notebook: nbs/run_toy.ipynb, title: A toy search, writes: [toy/log], versions: [search],
            parameters: {quick: {steps: 5}, cpu: {steps: 4}}, seconds: {quick: 2}}
  fig_toy: {notebook: nbs/fig_toy.ipynb, title: Its score, needs: [run_toy], seconds: {quick: 3}}
  run_big: {notebook: nbs/run_toy.ipynb, title: Not for small presets, writes: [big/log],
            presets: [paper]}
"""


def notebook(root, name, parameters, *code):
    cells = [
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, code),
    ]
    (root / "nbs").mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), root / f"nbs/{name}.ipynb")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "paper.yml").write_text(LIST)
    notebook(tmp_path, "run_toy", GIVEN + "steps:int = 3", RUN)
    notebook(tmp_path, "fig_toy", GIVEN, FIGURE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(room.__file__).parent.parent))
    return tmp_path


def steps(log):
    return len(Path(log).read_text().splitlines()) - 1


def signed():
    "A study with a run that looks finished, and the run."
    study = Reproduction()
    run = study.items["run_toy"]
    for path in run.files(study.out):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    study.sign(run, study.made_of(run), 1)
    return study, run


def test_a_parameter_added_with_its_default_is_no_change(checkout):
    study, run = signed()
    assert study.why_not(run) == ""
    notebook(checkout, "run_toy", GIVEN + "steps:int = 3\nextra:int = 1\nwords:list = ['a']", RUN)
    assert study.why_not(run) == ""
    study.changes = {"extra": "2"}
    assert study.why_not(run) == "parameters changed: extra"
    study.changes = {}
    notebook(checkout, "run_toy", GIVEN, RUN)
    assert study.why_not(run) == "parameters changed: there are fewer"


def test_a_run_that_the_preset_does_not_have_is_not_needed(checkout):
    text = (checkout / "paper.yml").read_text().replace("needs: [run_toy]", "needs: [run_toy, run_big]")
    (checkout / "paper.yml").write_text(text)
    needed = {preset: [item.id for item in Reproduction(preset).chosen(["fig_toy"])] for preset in ("quick", "paper")}
    assert needed == {"quick": ["run_toy", "fig_toy"], "paper": ["run_toy", "run_big", "fig_toy"]}
    study = Reproduction()
    assert list(study.inputs(study.items["fig_toy"])) == ["toy/log"]


@pytest.mark.parametrize("made", [[], "x", {}, {"parameters": []}, {"parameters": None}, {"notebook": 1}])
def test_a_damaged_signature_is_told(checkout, made):
    study, run = signed()
    path = study.out / "results/toy/log.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_of": made}))
    assert study.why_not(run)


def test_first_run_computes_second_skips_change_recomputes(checkout, capsys, monkeypatch):
    assert reproduce() == 0
    said = capsys.readouterr().out
    assert "[1/2] run_toy: A toy search (2 s expected; runs/quick/results/toy/log.csv is missing)" in said
    assert re.search(r"run_toy: done in \d+ s \(2 s expected\), some 3 s left", said)
    assert said.endswith("figures and tables are in runs/quick/figures/\n")
    assert steps("runs/quick/results/toy/log.csv") == 5  # the preset's parameter, not the default

    assert reproduce() == 0
    said = capsys.readouterr().out
    assert "run_toy: current, skipped" in said and "fig_toy: current, skipped" in said and "2 current" in said

    # a comment and a new text cell change nothing; code does, and only downwards
    notebook(checkout, "run_toy", GIVEN + "steps:int = 3", "# a comment\n" + RUN)
    assert Reproduction().why_not(Reproduction().items["run_toy"]) == ""
    notebook(checkout, "fig_toy", GIVEN, FIGURE + "\nx = 1")
    assert [a for _, a, _ in Reproduction().plan(Reproduction().chosen())] == ["skip", "run"]

    # a raised result version makes rows and figure anew, unless they do not rest on it
    monkeypatch.setitem(RESULT_VERSIONS, "deploy", 9)
    assert Reproduction().plan(Reproduction().chosen())[0][1] == "skip"
    monkeypatch.setitem(RESULT_VERSIONS, "search", 9)
    plan = Reproduction().plan(Reproduction().chosen())
    assert [(a, why) for _, a, why in plan] == [
        ("run", "result versions changed: search"),
        ("run", "after run_toy"),
    ]

    # changed parameters do too, and the figure is drawn only if its rows have changed
    assert reproduce(["run_toy"], changes={"steps": 7}) == 0
    assert steps("runs/quick/results/toy/log.csv") == 7
    copy = json.loads(Path("runs/quick/notebooks/run_toy.ipynb").read_text())
    streams = [o.get("name") for c in copy["cells"] for o in c.get("outputs", [])]
    assert "stderr" not in streams


def test_signature_says_what_it_was_made_of(checkout):
    reproduce()
    rows = json.loads(Path("runs/quick/results/toy/log.json").read_text())
    assert rows["item"] == "run_toy" and rows["preset"] == "quick" and rows["seconds"] >= 0
    assert rows["made_of"]["parameters"] == {"preset": "quick", "seed": 0, "steps": 5}
    assert rows["result_versions"] == {"search": RESULT_VERSIONS["search"]} and rows["data"] == {"name": "none"}
    figure = json.loads(Path("runs/quick/figures/fig_toy.json").read_text())
    assert figure["rows"]["toy/log"]["sha256"] == figure["made_of"]["rows"]["toy/log"]
    assert str(checkout) not in json.dumps([rows, figure])


def test_committed_rows_that_are_stale_are_kept_reported_and_marked(checkout, capsys):
    assert reproduce(preset="cpu") == 0
    assert steps("results/toy/log.csv") == 4 and Path("runs/cpu/notebooks/fig_toy.ipynb").exists()
    assert json.loads(Path("figures/fig_toy.json").read_text())["stamp"] == ""
    shutil.rmtree("runs")  # as in a fresh clone
    capsys.readouterr()
    assert reproduce(preset="cpu") == 0
    assert "2 current" in capsys.readouterr().out

    notebook(checkout, "run_toy", GIVEN + "steps:int = 3", RUN + "\nx = 1")
    before = Path("results/toy/log.csv").stat().st_mtime_ns
    assert reproduce(preset="cpu") == 0
    said = capsys.readouterr().out
    assert "run_toy: STALE, its notebook has changed" in said and "--force" in said and "1 stale" in said
    assert Path("results/toy/log.csv").stat().st_mtime_ns == before
    assert json.loads(Path("figures/fig_toy.json").read_text())["stamp"] == "drawn from stale rows"

    assert reproduce(["run_toy"], preset="cpu", force=True) == 0
    assert reproduce(preset="cpu") == 0
    assert json.loads(Path("figures/fig_toy.json").read_text())["stamp"] == ""


def test_redraw_never_computes_rows(checkout, capsys):
    assert reproduce(redraw=True) == 0
    assert "fig_toy: no rows yet, runs/quick/results/toy/log.csv is missing" in capsys.readouterr().out
    assert reproduce(["fig_toy"], redraw=True) == 1  # asked for by name, and not to be had
    with pytest.raises(DansError, match="--redraw only draws"):
        reproduce(["run_toy"], redraw=True)
    reproduce(["run_toy"])
    rows = Path("runs/quick/results/toy/log.csv").stat().st_mtime_ns
    assert reproduce(redraw=True) == 0 and Path("runs/quick/figures/fig_toy.png").exists()
    assert Path("runs/quick/results/toy/log.csv").stat().st_mtime_ns == rows


def test_figures_that_are_only_drawn_are_drawn_side_by_side(checkout, monkeypatch, capsys):
    monkeypatch.setattr(room, "cores", lambda: 2)
    reproduce()
    rows, more = Path("runs/quick/results/toy/log.csv").stat().st_mtime_ns, ""
    for name in ("fig_a", "fig_b"):
        notebook(checkout, name, GIVEN, FIGURE.replace("fig_toy", name))
        more += f"  {name}: {{notebook: nbs/{name}.ipynb, title: Another, needs: [run_toy]}}\n"
    (checkout / "paper.yml").write_text(
        LIST + more + "  fig_c: {notebook: nbs/fig_a.ipynb, title: C, needs: [run_c]}\n"
        "  run_c: {notebook: nbs/run_toy.ipynb, title: Not there, writes: [c/log]}\n"
    )
    assert reproduce(redraw=True) == 0
    said = capsys.readouterr().out
    assert "[3/3]" in said and "fig_c: no rows yet" in said and "3 done, 1 without rows" in said
    assert all(Path(f"runs/quick/figures/{name}.png").exists() for name in ("fig_toy", "fig_a", "fig_b"))
    assert Path("runs/quick/results/toy/log.csv").stat().st_mtime_ns == rows and Path.cwd() == checkout
    notebook(checkout, "fig_b", GIVEN, "1 / 0")
    with pytest.raises(DansError, match="fig_b failed: ZeroDivisionError"):
        reproduce(redraw=True)


def test_figures_share_a_kernel_and_see_nothing_of_each_other(checkout):
    again = LIST + "  fig_too: {notebook: nbs/fig_too.ipynb, title: After it, needs: [run_toy]}\n"
    (checkout / "paper.yml").write_text(again)
    seen = """
import os, matplotlib.pyplot as plt
(study.figures / "NAME.txt").write_text(f"{os.getpid()} {left} {len(plt.get_fignums())} {plt.rcParams['font.size']}")
plt.rcParams["font.size"] = 3; plt.figure(); left = "something"
"""
    for name in ("fig_toy", "fig_too"):
        notebook(
            checkout,
            name,
            GIVEN,
            "left = globals().get('left', 'nothing')",
            FIGURE.replace("fig_toy", name),
            seen.replace("NAME", name),
        )
    reproduce()
    first, second = (Path(f"runs/quick/figures/{name}.txt").read_text() for name in ("fig_toy", "fig_too"))
    assert first == second and " nothing 0 " in first
    with pytest.raises(ProcessLookupError):
        os.kill(int(first.split()[0]), 0)


@pytest.mark.parametrize(
    "code, says",
    [
        (
            "import dans.space\nraise dans.space.DansError('photos/cat is empty', 'add images')",
            r"^run_toy failed: photos/cat is empty: add images: look into .*/run_toy.ipynb$",
        ),
        (
            "1/0",
            r"^run_toy failed: ZeroDivisionError: division by zero: look into runs/quick/",
        ),
        ("import os\nos._exit(1)", r"^run_toy failed: its kernel died"),
        (
            "x = 1",
            r"^run_toy has not written runs/quick/results/toy/log.csv: make its notebook write",
        ),
    ],
)
def test_a_failing_notebook_is_one_line_and_is_not_taken_for_finished(checkout, code, says):
    notebook(checkout, "run_toy", GIVEN + "steps:int = 3", *([RUN] if code != "x = 1" else []), code)
    with pytest.raises(DansError, match=says) as err:
        reproduce()
    assert "\n" not in str(err.value) and Path("runs/quick/notebooks/run_toy.ipynb").exists()
    assert Reproduction().why_not(Reproduction().items["run_toy"])
    assert not Path("runs/quick/figures/fig_toy.png").exists()


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"ids": ["fig_tyo"]}, "id 'fig_tyo' is unknown: did you mean fig_toy"),
        ({"preset": "quik"}, "did you mean quick"),
        ({"ids": ["run_big"]}, "run_big is not part of preset quick: use paper"),
        ({"changes": {"stesp": 1}}, "did you mean steps"),
        ({"changes": {"out_dir": "x"}}, "parameter 'out_dir' is unknown"),
        ({"changes": {"steps": "many"}}, "like its default, 3"),
        ({"changes": {"steps": 1}, "preset": "cpu"}, "would replace committed rows.*--out DIR"),
        ({"out": "."}, "preset quick would replace committed rows"),
    ],
)
def test_bad_input_is_one_line_before_any_work(checkout, asked, says):
    with pytest.raises(DansError, match=says) as err:
        reproduce(**asked)
    assert "\n" not in str(err.value) and not Path("runs").exists()


def test_a_wrong_parameter_in_the_list_is_one_line_before_any_work(checkout):
    (checkout / "paper.yml").write_text(LIST.replace("{steps: 5}", "{stpes: 5}"))
    with pytest.raises(DansError, match="paper.yml: run_toy: parameter 'stpes' is unknown: did you mean steps"):
        reproduce()
    assert not Path("runs").exists()


def test_no_room_is_one_line_before_any_work(checkout, monkeypatch):
    monkeypatch.setattr(room, "FREE_BYTES", 10**18)
    with pytest.raises(DansError, match=r"only \d+ MB are free for runs/quick.*--out DIR"):
        reproduce()
    (checkout / "file").write_text("")
    with pytest.raises(DansError, match="cannot write"):
        reproduce(out="file/below")


def test_dry_run_changes_nothing(checkout, capsys):
    assert reproduce(dry_run=True) == 0
    said = capsys.readouterr().out
    assert "run_toy          to do" in said and "after run_toy" in said and "5 s expected" in said
    assert not Path("runs").exists()


def test_a_program_can_read_what_would_be_done(checkout, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dans-reproduce", "--list", "--json", "--quiet"])
    assert main() == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["action"] for item in told["items"]] == ["run"] * len(told["items"]) and told["preset"] == "quick"
    monkeypatch.setattr(sys, "argv", ["dans-reproduce", "run_toy", "--parameters", "--json"])
    assert main() == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)["parameters"]["run_toy"]["steps"]) == {"kind", "value", "help"} and "steps" in err
    monkeypatch.setattr(sys, "argv", ["dans-reproduce", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "exit codes:" in capsys.readouterr().out


def command(*words):
    return [
        sys.executable,
        "-c",
        "import sys; from dans.paper.reproduce import main; sys.exit(main())",
        *words,
    ]


def test_the_command_prints_one_line_and_no_traceback(checkout):
    done = subprocess.run(command("fig_tyo"), capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    says = r"dans-reproduce: id 'fig_tyo' is unknown: did you mean fig_toy\? there is run_toy, .*\n"
    assert re.fullmatch(says, done.stderr)
    done = subprocess.run(command(), capture_output=True, text=True, cwd="/")
    assert done.returncode == 2 and "git clone" in done.stderr and done.stderr.count("\n") == 1
    done = subprocess.run(command("-p", "steps"), capture_output=True, text=True)
    assert done.returncode == 2 and "write -p NAME=VALUE" in done.stderr


def test_bars_reach_the_terminal_while_the_notebook_runs(checkout):
    notebook(
        checkout,
        "run_toy",
        GIVEN + "steps:int = 3",
        RUN.replace("tqdm(range(steps)", "tqdm(slow(steps), total=steps").replace(
            "from tqdm",
            """import time
def slow(n):
    for i in range(n):
        time.sleep(.3)
        yield i
from tqdm""",
        ),
    )
    master, terminal = pty.openpty()
    running = subprocess.Popen(command("run_toy", "-p", "steps=8", "--out", "o"), stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen, pieces = b"", []
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        try:
            piece = os.read(master, 4096) if ready else b""
        except OSError:  # the terminal is closed
            piece = b""
        if not piece:
            break
        seen += piece
        pieces += [time.monotonic()] if b"searching" in piece else []
    assert running.wait() == 0
    assert seen.count(b"\rsearching") >= 3 and re.search(rb"searching: +\d+%.*<00:0\d", seen)  # with time left
    assert pieces[-1] - pieces[0] > 1, "the bar came in one lump"
    assert b"WARNING" not in seen and b"Traceback" not in seen


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_what_is_kept_and_goes_on_from_there(checkout, how):
    notebook(
        checkout,
        "fig_toy",
        GIVEN,
        "import time, os\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)",
    )
    running = subprocess.Popen(command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if Path("pid").exists() and Path("pid").read_text():
            break
        time.sleep(0.1)
    begin = time.monotonic()
    running.send_signal(how)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130 and time.monotonic() - begin < 20
    assert "stopped. Finished and kept: run_toy;" in out and "The same command goes on from there." in out
    assert "Traceback" not in err
    kernel = int(Path("pid").read_text())
    for _ in range(100):  # and its kernel is gone
        if not Path(f"/proc/{kernel}").exists() or "zombie" in Path(f"/proc/{kernel}/status").read_text():
            break
        time.sleep(0.1)
    else:
        pytest.fail("the kernel lives on")
    notebook(checkout, "fig_toy", GIVEN, FIGURE)
    assert reproduce() == 0


def test_where_pieces_are_computed_reaches_the_notebook_and_decides_nothing(checkout):
    notebook(
        checkout,
        "run_toy",
        GIVEN + 'steps:int = 3\nexecutor:str = "local"',
        RUN.replace("Study(preset, out_dir)", "Study(preset, out_dir, executor=executor)"),
    )
    assert reproduce(["run_toy"]) == 0
    moved = Reproduction("quick", root=checkout, executor="ray:cpus=2")
    assert moved.parameters(moved.items["run_toy"])["executor"] == "ray:cpus=2"
    assert moved.why_not(moved.items["run_toy"]) == ""
    listed = LIST.replace("quick: {steps: 5}", "quick: {steps: 5, executor: ray}")
    (checkout / "paper.yml").write_text(listed)
    same = Reproduction("quick", root=checkout)
    assert same.parameters(same.items["run_toy"])["executor"] == "ray" and same.why_not(same.items["run_toy"]) == ""
    with pytest.raises(DansError, match="executor 'slurm' is unknown"):
        reproduce(["run_toy"], executor="slurm")
