"Model files of a folder: what the reader says of each, beside what TensorFlow Lite Micro takes for it."

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import ROOT, Sizes
from dans.board.runtime import arena
from dans.cost.tflite import footprint_of
from dans.house import DansError


def _by_hand(folder):
    "Graphs made by hand for the tests, as files of `folder`."
    sys.path.insert(0, str(ROOT / "tests"))
    from made import GRAPHS

    for name, data in GRAPHS.items():
        (folder / f"{name.replace(', ', '-').replace(' ', '_')}.tflite").write_bytes(data)
    return folder


def _row(path):
    "Head and whole tail of one file, read and measured; `refused` or `failed` say why there is none."
    row = dict(file=path.name, bytes=path.stat().st_size)
    try:
        found = footprint_of(path, bits=64)
        row |= dict(head=found.ram_bytes, total=found.ram_bytes + found.tail_bytes)
    except DansError as error:
        row |= dict(refused=str(error).removeprefix(f"{path}: "))
    try:
        measured = arena(path.read_bytes())
        row |= dict(measured_head=measured.head, measured_total=measured.total)
    except DansError as error:
        row |= dict(failed=str(error))
    return row


def model_files(sizes: Sizes):
    """The folder that `DANS_MODELS` names, or else graphs made by hand, of which a quick run takes a few. Records keep
    names and numbers, no path."""
    with tempfile.TemporaryDirectory() as scratch:
        given = os.environ.get("DANS_MODELS")
        folder = Path(given) if given else _by_hand(Path(scratch))
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".tflite", ".lite"))
        if not files:
            raise DansError(f"{folder} holds no .tflite file", "name a folder of model files in DANS_MODELS")
        rows = []
        for path in files if sizes.model_files is None else files[: sizes.model_files]:
            rows.append(_row(path))
            both = [row for row in rows if "head" in row and "measured_head" in row]
            near = [abs(row["total"] - row["measured_total"]) for row in both]
            record = dict(
                rows=rows,
                by_hand=not given,
                loaded=sum("measured_head" in row for row in rows),
                read=len(both),
                heads_equal=sum(row["head"] == row["measured_head"] for row in both),
                totals_near=sum(n <= max(0.005 * row["measured_total"], 256) for n, row in zip(near, both)),
                largest_difference=max(near, default=0),
            )
            done = "{loaded} loaded, {read} of these read, {heads_equal} heads equal".format(**record)
            yield record, f"{len(rows)} files, {done}"
