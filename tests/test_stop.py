"Work that is stopped, by Ctrl-C or by SIGTERM, ends within seconds and says what is kept and how to go on."

import signal
import subprocess
import sys
import textwrap
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dans.choose.search import random_search
from dans.choose.task import Budget, Plain, Task
from dans.cost.limits import Limits
from dans.data.prepared import prepare
from dans.data.survey import Source
from dans.space import SearchSpace

PIECES = """
    import time
    from dans.paper.study import Study

    def compute(i):
        if i:
            open("second", "w").close()
            time.sleep(60)
        return {"n": i}
    Study("quick").pieces("search", {i: {"n": i} for i in range(3)}, compute, "searches")
"""
SAID = "stopped: 1 of 3 searches are kept in runs/quick/store; the same run goes on from there"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "paper.yml").write_text("items: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stopped(folder, command, how):
    "Exit status, seconds from the signal on, and what was said, of a command that is stopped in its second piece."
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (folder / "second").exists():
        assert running.poll() is None, running.stdout.read()
        time.sleep(0.05)
    start = time.monotonic()
    running.send_signal(how)
    said, _ = running.communicate(timeout=30)
    return running.returncode, time.monotonic() - start, said


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_script(checkout, how):
    (checkout / "program.py").write_text(textwrap.dedent(PIECES))
    status, seconds, said = stopped(checkout, [sys.executable, "program.py"], how)
    assert status == -how and seconds < 10 and said.count(SAID) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_papermill(checkout, how):
    "SIGTERM ends papermill at once, and its kernel with it; so what is kept is said before."
    nbformat.write(new_notebook(cells=[new_code_cell(textwrap.dedent(PIECES))]), checkout / "run.ipynb")
    status, seconds, said = stopped(
        checkout, [sys.executable, "-m", "papermill", "run.ipynb", "out.ipynb", "-k", "python3"], how
    )
    assert status and seconds < 20
    assert (
        "searches: each is kept in runs/quick/store when it is finished; "
        "if you stop this run, the same run goes on from there" in said
    )
    assert how == signal.SIGTERM or SAID in said


def test_a_search(capsys):
    def score(systems):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return [0.5] * len(systems)

    calls = []
    with pytest.raises(KeyboardInterrupt):
        random_search(Task(SearchSpace.preset("smoke"), Plain(score), Limits(), 2), Budget(evaluations=30))
    assert (
        "stopped: random search after 10 systems; wrap `score` in `Kept` to go on from where you stop"
        in capsys.readouterr().err
    )


def test_preparation(tmp_path, capsys):
    def rows():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Source("photographs", ("a", "b"), "0" * 64, dict(train=2, val=1, test=1), 32, rows), [16], tmp_path)
    assert "stopped: nothing of photographs is prepared yet; the same call starts it again" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
