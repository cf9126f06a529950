"""models/: winners of results/search/systems.csv as files, each with a record of what it is and how it came about.

    python tools/models.py SYSTEM ...    trains them again as run_search did: some two minutes of one core for each

A file with the sha256 of its row is the one that the row was measured on. Another processor rounds sums otherwise and
ends in another file; the record has both.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from dans.board.deploy import deploy
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.files import atomic, keyed, versions, write_json
from dans.net.alone import train_alone
from dans.net.train import Recipe, batch_for
from dans.paper.study import commit, processor
from dans.space import SearchSpace, System

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "results" / "search" / "systems.csv"
KEPT = ("int8_accuracy", "float_accuracy", "images", "file_bytes", "sha256")


def how():
    "Images and recipe of the rows, from the record beside them."
    said = json.loads(ROWS.with_suffix(".json").read_text(encoding="utf-8"))
    sizes, [seed] = said["data"]["sizes"], said["seeds"]
    drawn = dict({f"n_{split}": n for split, n in sizes.items()}, seed=seed)
    batch = max(32, batch_for(sizes["train"]))
    recipe = Recipe(epochs=said["parameters"]["epochs"][1], batch=batch, average=0.3, seed=seed)
    return said["data"], drawn, recipe


def trained(row, work):
    "The file of a row's system, and its record."
    data, drawn, recipe = how()
    system = System.from_dict(row)
    images = prepare(wake_scenes(**drawn), SearchSpace.preset("cpu").resolutions, work / "cache")
    if images.key != data["hash"]:
        sys.exit(f"these images have the hash {images.key[:8]}, and the rows are of {data['hash'][:8]}")
    model, _ = train_alone(system, images, recipe, checkpoint=work / "models" / f"{system}.npz", check_images=0)
    test = images.view("test", system.data)
    seen = images.view("train", system.data, 1024).images
    tflite, found = deploy(system, model, seen, test.images, test.labels, names=images.classes)
    known = found.to_dict()
    return tflite, dict(
        system=system.to_dict(),
        classes=list(images.classes),
        data=dict(name=data["name"], options=drawn, hash=images.key),
        recipe=keyed(recipe),
        **{name: known[name] for name in KEPT},
        report=found.report,
        macs=found.predicted.macs,
        arena_bytes_32_bit=found.predicted.arena_bytes,
        arena_64_bit=asdict(found.arena),
        row={"file": str(ROWS.relative_to(ROOT)), **{name: row[name] for name in KEPT}},
        command=f"python tools/models.py {system}",
        commit=commit(ROOT),
        versions=versions(),
        processor=processor(),
    )


def main(asked):
    rows = {str(System.from_dict(row)): row for row in pd.read_csv(ROWS, dtype={"depths": str}).to_dict("records")}
    if not asked or set(asked) - set(rows):
        sys.exit(f"{__doc__}\nwinners: {', '.join(rows)}")
    for name in asked:
        tflite, record = trained(rows[name], ROOT / "runs")
        with atomic(ROOT / "models" / f"{name}.tflite") as part:
            part.write_bytes(tflite)
        write_json(ROOT / "models" / f"{name}.json", record)
        said = "the file of the row" if record["sha256"] == record["row"]["sha256"] else "another file than the row's"
        print(f"{name}: {record['int8_accuracy']:.1%} of {record['images']:,} test images, {said}")


if __name__ == "__main__":
    main(sys.argv[1:])
