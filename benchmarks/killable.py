"A stage as a command that can kill itself before a file operation. Nothing but Python's own modules is loaded here."

import json
import os
import signal
import sys
import time
from pathlib import Path

# environment variable: the file operation before which the process kills itself, counted from 1; 0: none
KILL_BEFORE = "DANS_KILL_BEFORE"
OPERATIONS = {
    "os.rename",
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.truncate",
    "shutil.rmtree",
    "sqlite3.connect",
    "sqlite3.connect/handle",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def count_operations(
    last: int,  # the operation before which the process kills itself; 0: none
) -> list:  # one entry for each operation of this process from now on
    "Count file operations as Python's audit events report them, just before they happen."
    seen, process = [], os.getpid()

    def hook(event, args):
        if event in OPERATIONS or event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            if os.getpid() != process:  # a forked helper inherits the hook
                return
            seen.append(event)
            if len(seen) == last:
                os.kill(process, signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


def main(
    stages: dict,  # name -> function of a folder, which gives what must be the same: a dictionary that JSON can hold
    given=lambda name, folder: None,  # makes what a stage finds in its folder, and loads what it needs; not counted
):
    "`STAGE FOLDER` on the command line: run a stage, and write FOLDER/result.json when it ends."
    name, folder = sys.argv[1], Path(sys.argv[2])
    given(name, folder)
    seen, start = count_operations(int(os.environ.get(KILL_BEFORE, 0))), time.perf_counter()
    result = stages[name](folder)
    found = dict(operations=len(seen), seconds=time.perf_counter() - start, result=result)
    (folder / "result.json").write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
