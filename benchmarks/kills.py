"""Kill -9 at random moments, go on, compare: does every stage end with the bits of an undisturbed run?

One trial of a stage again, its folder kept: `python -m benchmarks.kills STAGE --trial N --keep FOLDER`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, Sizes
from benchmarks.kill_stages import STAGES, WITH_BACKEND
from benchmarks.killable import KILL_BEFORE
from dans.house import DansError
from dans.paper.executor import Ray

COMMAND = (sys.executable, "-m", "benchmarks.kill_stages")
QUIET = {**Ray().environment(), "KERAS_BACKEND": "tensorflow"}  # one thread, no bars
KINDS = ("moment", "operation")  # at a moment of the undisturbed run's work, or before one of its file operations
SEED = 2  # of all chains; with 2, the first chain of `training` strikes three times: CI stays fast
CHAIN = 3  # most kills in a trial: from the second on they hit a run that goes on
STORES = ("store", "runs")  # folders whose files are counted: a piece that a kill cut off may leave some behind


class Failed(Exception):
    "The last line of what a stage said before it failed."


@dataclass
class Run:
    "One start of a stage's command, in a session of its own, until it ends or is killed."

    stage: str
    folder: Path
    command: tuple = COMMAND
    session: int = 0  # of its last start

    def __call__(
        self,
        at: float = None,  # seconds after which it is killed
        before: int = 0,  # file operation before which it kills itself
    ) -> bool:  # whether a kill struck
        "Raises `Failed` where the command ends by itself, but not well."
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as said:
            env = {**os.environ, **QUIET, KILL_BEFORE: str(before)}
            process = subprocess.Popen(
                [*self.command, self.stage, str(self.folder)],
                cwd=ROOT,
                env=env,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            self.session = process.pid
            try:
                process.wait(at)
            except subprocess.TimeoutExpired:
                pass
            finally:  # also where the harness itself is interrupted
                process.kill()
                process.wait()
            struck = process.returncode == -signal.SIGKILL
            if process.returncode and not struck:
                said.seek(0)
                raise Failed(
                    (
                        said.read().decode(errors="replace").strip().splitlines()
                        or [f"exit status {process.returncode}"]
                    )[-1]
                )
        return struck

    def found(self) -> dict:
        "What the stage wrote when it ended: result, operations, seconds of its work."
        return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))


@dataclass
class Undisturbed:
    "What a stage gives when nothing happens to it, and how long it is."

    result: dict
    operations: int
    seconds: float  # of the whole command
    work: float  # of these, after all modules are loaded: the last ones
    files: int  # in the folders of `STORES`


@dataclass
class Trial:
    "A chain of kills, the run that ends, and what was then not as it should be."

    number: int
    seed: list  # of the chain
    kills: list = field(default_factory=list)  # kind of each kill that struck
    differences: list = field(default_factory=list)  # what differs from the undisturbed run
    useless_files: int = 0  # more than the undisturbed run has
    processes: int = 0  # helpers of killed runs that were still there at the end


def undisturbed(stage: str, folder: Path, command=COMMAND) -> Undisturbed:
    "Run `stage` once from an empty folder. Raises `DansError` where it fails."
    run, start = Run(stage, folder, command), time.perf_counter()
    try:
        run()
    except Failed as failed:
        raise DansError(
            f"stage {stage} fails without any kill ({failed})",
            "mend it first: python -m benchmarks.kill_stages STAGE FOLDER",
        ) from None
    seconds, found = time.perf_counter() - start, run.found()
    return Undisturbed(found["result"], found["operations"], seconds, found["seconds"], files_of_stores(folder))


def chain(seed: list, number: int, most: int) -> list[tuple[str, float]]:
    "(kind, place in [0, 1)) of the kills of a trial: 3, 2, 1, 3, ... of them, the kinds by turns over all trials."
    rng = np.random.default_rng(seed)
    return [
        (KINDS[(i + (number % CHAIN > 0)) % 2], float(rng.random())) for i in range(min(most, CHAIN - number % CHAIN))
    ]


def left_behind(folder: Path) -> list[str]:
    "Temporary files that the next run should have removed."
    return [p.relative_to(folder).as_posix() for p in sorted(folder.rglob(".*"))]


def files_of_stores(folder: Path) -> int:
    "Number of files in the folders of `STORES`."
    return sum(p.is_file() for name in STORES for p in (folder / name).rglob("*"))


def end_session(session: int) -> int:
    "End what is left of a killed run; how many processes that was. Only Linux tells."
    left = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ends just now
            state, _, _, found = stat.read_text().rpartition(")")[2].split()[:4]
            left += int(found) == session and state != "Z"
    if left:
        os.killpg(session, signal.SIGKILL)
    return left


def trial(
    stage: str,
    number: int,  # of the trial, which with the stage determines the chain
    whole: Undisturbed,  # what to compare with
    folder: Path,  # a new folder
    most: int = CHAIN,  # kills at most
    command=COMMAND,  # what runs the stage
) -> Trial:
    "Kill, start again, perhaps kill again, let it end, compare. A kill that comes too late is none."
    seed = [SEED, zlib.crc32(stage.encode()), number]
    done, run, sessions = Trial(number, seed), Run(stage, folder, command), []
    try:
        for kind, place in chain(seed, number, most):
            struck = (
                run(at=whole.seconds - (1 - place) * whole.work)
                if kind == "moment"
                else run(before=1 + int(place * whole.operations))
            )
            sessions.append(run.session)
            if not struck:
                break
            done.kills.append(kind)
        else:
            run()
        result = run.found()["result"]
        done.differences = [
            name for name in sorted({*result, *whole.result}) if result.get(name) != whole.result.get(name)
        ]
    except Failed as failed:
        done.differences = [f"the run that goes on fails: {failed}"]
    done.differences += [f"temporary {path} is left" for path in left_behind(folder)]
    done.useless_files, done.processes = files_of_stores(folder) - whole.files, sum(map(end_session, sessions))
    return done


def trials(
    stage: str,
    kills: int,  # that must strike
    command=COMMAND,  # what runs the stage
):  # yields (the undisturbed run, trials so far)
    "Trials of one stage until so many kills have struck, or after so many trials that kills hardly strike."
    done = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = undisturbed(stage, Path(scratch) / "undisturbed", command)
        while (struck := sum(len(t.kills) for t in done)) < kills and len(done) < 3 * kills:
            folder = Path(scratch) / str(len(done))
            done.append(trial(stage, len(done), whole, folder, kills - struck, command))
            shutil.rmtree(folder)
            yield whole, done


def row_of(stage: str, whole: Undisturbed, done: list) -> dict:
    "What a stage's trials came to."
    kinds = [kind for t in done for kind in t.kills]
    return dict(
        stage=stage,
        backend=stage in WITH_BACKEND,
        seconds=whole.seconds,
        work_seconds=whole.work,
        operations=whole.operations,
        trials=len(done),
        kills=len(kinds),
        **{f"kills_{kind}": kinds.count(kind) for kind in KINDS},
        kills_of_resumed=sum(max(0, len(t.kills) - 1) for t in done),
        differences=sum(bool(t.differences) for t in done),
        useless_files=sum(t.useless_files for t in done),
        processes_left=sum(t.processes for t in done),
    )


def kills(sizes: Sizes):
    "Every stage of `sizes.kills`; `differences` names each trial that did not end as the undisturbed run."
    rows, differences = [], []

    def record(*last):
        table = [*rows, *last]
        return dict(
            rows=table,
            kills=sum(r["kills"] for r in table),
            trials=sum(r["trials"] for r in table),
            differences=differences,
        )

    for stage, n in sizes.kills.items():
        for whole, done in trials(stage, n):
            last = done[-1]
            if last.differences:
                differences.append(
                    dict(stage=stage, trial=last.number, seed=last.seed, kills=last.kills, differences=last.differences)
                )
                what = "; ".join(last.differences)
                yield (
                    record(row_of(stage, whole, done)),
                    f"DIFFERENT: {stage}, trial {last.number}, seed {last.seed}: {what}",
                )
        rows.append(row := row_of(stage, whole, done))
        kinds = f"{row['kills_moment']} at a moment, {row['kills_operation']} before a file operation"
        trials_said = f"{row['trials']} trials, {row['differences']} differences"
        yield record(), f"{stage}: {row['kills']} kills ({kinds}) in {trials_said}; undisturbed {row['seconds']:.1f} s"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--trial", type=int, default=0, metavar="N", help="its number in the record")
    parser.add_argument(
        "--keep",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="new folder, with the undisturbed run beside the trial",
    )
    args = parser.parse_args()
    keep = args.keep.resolve()
    keep.mkdir(parents=True)
    print(trial(args.stage, args.trial, undisturbed(args.stage, keep / "undisturbed"), keep / "trial"))


if __name__ == "__main__":
    main()
