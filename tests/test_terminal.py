"""What a notebook and the terminal that its kernel was started from show: each line once, bars on one line, no
greetings of libraries."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dans.house import EXITS, DansError, progress_bar, quietly, run_command

RUN = """
import json, sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
print(json.dumps(notebook.cells[0].outputs))
"""


def executed(code):
    "What a notebook shows of `code`, and what the terminal shows."
    # ipykernel looks at it
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run([sys.executable, "-c", RUN, code], capture_output=True, text=True, check=True, env=env)
    return json.loads(done.stdout), done.stderr


def test_stopped_work_says_what_is_kept_once_in_the_notebook_and_once_in_the_terminal():
    shown, terminal = executed("""
from dans.house import stoppable, to_terminal
to_terminal("the terminal alone")
with stoppable(lambda: "2 of 3 are kept"):
    raise KeyboardInterrupt
""")
    stream, error = shown
    assert stream["name"] == "stderr" and stream["text"] == "\nstopped: 2 of 3 are kept\n"
    assert error["ename"] == "KeyboardInterrupt" and error["traceback"] == ["KeyboardInterrupt"]
    assert terminal.count("stopped: 2 of 3 are kept\n") == 1 and terminal.count("the terminal alone\n") == 1


def test_bars_within_bars_share_one_line_of_a_notebook():
    shown, _ = executed("""
import time
from dans.house import progress_bar
for piece in progress_bar(range(2), desc="pieces"):
    with progress_bar(total=3, desc="steps", mininterval=0) as bar:
        for _ in range(3):
            time.sleep(.15)
            bar.update()
""")
    assert {output["name"] for output in shown} == {"stderr"}
    text = "".join(output["text"] for output in shown)
    assert "pieces:  50%" in text and "steps: 100%" in text
    assert "\n" not in text and "\x1b" not in text
    assert not text.rstrip("\r").rpartition("\r")[2].strip(), "the last bar stays"


def test_every_bar_of_the_library_is_such_a_bar(capsys):
    rooms = (Path(__file__).parent.parent / "dans").rglob("*.py")
    assert {path.name for path in rooms if "tqdm(" in path.read_text(encoding="utf-8")} == {"house.py"}
    assert list(progress_bar("ab", disable=True)) == ["a", "b"] and capsys.readouterr().err == ""


@pytest.mark.parametrize("module", ["dans.net.elastic", "dans.net.supernet", "dans.net.score"])
def test_no_greeting_of_tensorflow(module):
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "", "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_ends_with_its_block_and_lets_errors_pass(capfd, monkeypatch):
    with pytest.raises(ZeroDivisionError), quietly():
        os.write(2, b"hidden\n")
        raise ZeroDivisionError
    os.write(2, b"shown\n")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quietly():
        os.write(2, b"asked for\n")
    assert capfd.readouterr().err == "shown\nasked for\n"


def test_quiet_where_there_is_no_stderr():
    "As under pythonw, cron or `2>&-`."
    code = "import os\nfrom dans.house import quietly\nos.close(2)\nwith quietly():\n    print('works')"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stdout == "works\n"


# Console programs


def program(work):
    code = (
        "import sys, os, signal, time\nfrom dans.house import *\n"
        f"def work():\n    {work}\nsys.exit(run_command('toy', work))"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    "work,status,says",
    [
        ("pass", 0, ""),
        ("return 1", 1, ""),
        ("raise DansError('photos/ is empty', 'add images')", 2, "toy: photos/ is empty: add images\n"),
        ("raise Diverged('no number', 'lower the rate')", 2, "toy: no number: lower the rate\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 130, ""),
        (
            "with stoppable(lambda: 'all is kept'): os.kill(os.getpid(), signal.SIGTERM)",
            130,
            "\nstopped: all is kept\n",
        ),
    ],
)
def test_a_console_program_ends_as_all_do(work, status, says):
    done = subprocess.run(program(work), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", says)


def test_a_program_is_quiet_or_speaks_json_where_asked(capsys):
    def work(ends=None):
        print("for people")
        print("a bar", file=sys.stderr)
        if ends:
            raise ends
        return dict(images=3, status=1)

    assert run_command("toy", work) == 1 and capsys.readouterr() == ("for people\n", "a bar\n")
    assert run_command("toy", work, quiet=True) == 1 and capsys.readouterr() == ("", "")
    assert run_command("toy", work, as_json=True) == 1
    assert capsys.readouterr() == ('{"images": 3, "status": 1}\n', "for people\na bar\n")
    assert run_command("toy", lambda: work(DansError("no images", "add some")), quiet=True, as_json=True) == 2
    out, err = capsys.readouterr()
    assert (
        json.loads(out) == dict(status=2, error="no images", remedy="add some") and err == "toy: no images: add some\n"
    )
    assert run_command("toy", lambda: work(KeyboardInterrupt()), quiet=True, as_json=True) == 130
    assert capsys.readouterr() == ('{"status": 130}\n', "")
    assert all(re.search(rf"^  {status} ", EXITS, re.M) for status in (0, 1, 2, 130, 141))


def test_a_reader_who_leaves_early_ends_a_program_without_a_word():
    running = subprocess.Popen(
        program("time.sleep(1); [print('x' * 1000) for _ in range(1000)]"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    running.stdout.close()
    assert running.stderr.read() == b"" and running.wait() == 141


def test_other_errors_of_a_program_keep_their_traceback():
    done = subprocess.run(program("raise RuntimeError('a fault of ours')"), capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr
