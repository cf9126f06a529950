"""The kill harness: it catches a stage that is not safe, and counts only kills that struck. What it finds in the
package is in test_bench.py."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import kills as harness
from benchmarks.harness import QUICK, Sizes
from benchmarks.kill_stages import STAGES, WITH_BACKEND
from benchmarks.kills import Run, Undisturbed, chain, end_session, trial, trials, undisturbed
from dans.house import DansError

SCRIPT = """
import os, sys
from benchmarks.killable import main

def torn(folder):
    "Trusts a file that a killed run may have left half-written."
    path = folder / "numbers"
    if not path.exists():
        with path.open("w") as file:
            for i in range(5):
                print(i, file=file, flush=True)
                (folder / "step").write_text(str(i))
    return dict(numbers=path.read_text(), steps=5)

def whole(folder):
    "Writes aside first, and removes what was left aside."
    path, aside = folder / "numbers", folder / ".aside"
    aside.unlink(missing_ok=True)
    if not path.exists():
        aside.write_text("0 1 2 3 4")
        aside.rename(path)
    return dict(numbers=path.read_text())

def untidy(folder):
    "Leaves two files if it is killed."
    (folder / "store").mkdir(exist_ok=True)
    files = [folder / f".aside{os.getpid()}", folder / "store" / str(os.getpid())]
    for path in files:
        path.write_text("")
    for path in files:
        path.unlink()
    return {}

def stuck(folder):
    "Refuses to go on."
    if (folder / "begun").exists():
        sys.exit("it was begun before")
    (folder / "begun").write_text("")
    (folder / "ended").write_text("")
    return {}

main(dict(torn=torn, whole=whole, untidy=untidy, stuck=stuck))
"""
COMMAND = sys.executable, "-c", SCRIPT


@pytest.fixture
def one_kill(monkeypatch):
    "A trial of a stage above, killed once before one of its file operations, at `place` in [0, 1) of them."

    def run(stage, place):
        monkeypatch.setattr(harness, "chain", lambda *_: [("operation", place)])
        [(_, done)] = trials(stage, 1, COMMAND)
        return done[0]

    return run


def test_what_a_torn_file_changes_is_named(monkeypatch):
    monkeypatch.setattr(harness, "chain", lambda *_: [("operation", 0.5)])
    monkeypatch.setattr(harness, "trials", partial(trials, command=COMMAND))
    found = list(harness.kills(SimpleNamespace(kills=dict(torn=1))))
    (record, said), (last, _) = found
    assert said.startswith("DIFFERENT: torn, trial 0, seed [") and said.endswith("]: numbers")
    assert record == last and last["kills"] == last["rows"][0]["kills_operation"] == last["rows"][0]["differences"] == 1
    assert [d["differences"] for d in last["differences"]] == [["numbers"]]


def test_a_file_written_aside_is_the_same(one_kill):
    done = one_kill("whole", 0.99)  # before the file takes its name
    assert done.kills == ["operation"] and not done.differences


def test_what_stays_behind_is_told(one_kill):
    done = one_kill("untidy", 0.7)  # before the first of two files is removed
    [left] = done.differences
    assert left.startswith("temporary .aside") and done.useless_files == 1


def test_a_run_that_cannot_go_on_is_told(one_kill):
    assert one_kill("stuck", 0.99).differences == ["the run that goes on fails: it was begun before"]


def test_a_stage_that_fails_by_itself_stops_the_benchmark(tmp_path):
    with pytest.raises(DansError, match="stage unknown fails without any kill .KeyError: 'unknown'.: mend it first"):
        undisturbed("unknown", tmp_path, COMMAND)


def test_only_kills_that_strike_count(tmp_path):
    assert Run("whole", tmp_path / "moment", COMMAND)(at=0)
    assert not (tmp_path / "moment" / "numbers").exists()
    assert Run("whole", tmp_path / "operation", COMMAND)(before=3)
    assert [p.name for p in (tmp_path / "operation").iterdir()] == [".aside"]
    assert not Run("whole", tmp_path / "late", COMMAND)(at=60, before=100)
    whole = Undisturbed(
        Run("whole", tmp_path / "late", COMMAND).found()["result"], operations=1000, seconds=600.0, work=600.0, files=0
    )
    late = trial("whole", 0, whole, tmp_path / "trial", command=COMMAND)  # its first kill would come after minutes
    assert late.kills == late.differences == []


def test_helpers_of_a_killed_run_are_found_and_ended():
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc")
    killed = subprocess.Popen(["sh", "-c", "sleep 60 & kill -9 $$"], start_new_session=True)
    assert killed.wait() == -9
    assert end_session(killed.pid) == 1
    for _ in range(100):  # until the system has ended it, too
        if not end_session(killed.pid):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the helper runs on")


def test_a_chain_is_that_of_its_seed():
    plans = [chain([1, number], number, 3) for number in range(6)]
    assert [len(plan) for plan in plans] == [3, 2, 1] * 2
    kinds = [kind for plan in plans for kind, _ in plan]
    assert kinds == ["moment", "operation"] * 6
    assert plans == [chain([1, number], number, 3) for number in range(6)] and plans != [
        chain([2, number], number, 3) for number in range(6)
    ]
    assert all(0 <= place < 1 for plan in plans for _, place in plan) and len(chain([1, 0], 0, 2)) == 2


def test_sizes():
    full, quick = Sizes().kills, QUICK.kills
    assert list(full) == list(STAGES) and set(quick) <= set(STAGES)
    assert sum(full.values()) >= 100 and 25 <= sum(full[stage] for stage in WITH_BACKEND) <= 35
    assert sum(quick.values()) == 20 and 3 <= sum(n for stage, n in quick.items() if stage in WITH_BACKEND) <= 4
