"""models/: winners of results/search/systems.csv as files, each with a record of what it is and how it came about.

    python tools/models.py train SYSTEM ...    trains them again as run_search did: minutes of one core for each
    python tools/models.py measure             measures all files again, on all test images

A file with the sha256 of its row is the one that the row was measured on. Another processor, or another number
of threads, rounds sums otherwise and ends in another file; the record has both.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from dans.board.deploy import deploy
from dans.board.runtime import arena
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.files import atomic, keyed, sha256, versions, write_json
from dans.front.mistakes import answers_of
from dans.net.alone import train_alone
from dans.net.train import Recipe, batch_for
from dans.paper.study import commit, processor
from dans.space import SearchSpace, System

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "results" / "search" / "systems.csv"
MODELS = ROOT / "models"
KEPT = ("int8_accuracy", "float_accuracy", "images", "file_bytes", "sha256")


def images_and_recipe():
    "Of the rows, from the record beside them."
    said = json.loads(ROWS.with_suffix(".json").read_text(encoding="utf-8"))
    sizes, [seed] = said["data"]["sizes"], said["seeds"]
    drawn = dict({f"n_{split}": n for split, n in sizes.items()}, seed=seed)
    images = prepare(wake_scenes(**drawn), SearchSpace.preset("cpu").resolutions, ROOT / "runs" / "cache")
    if images.key != said["data"]["hash"]:
        sys.exit(f"these images have the hash {images.key[:8]}, and the rows are of {said['data']['hash'][:8]}")
    batch = max(32, batch_for(sizes["train"]))
    recipe = Recipe(epochs=said["parameters"]["epochs"][1], batch=batch, average=0.3, seed=seed)
    return images, dict(name=said["data"]["name"], options=drawn, hash=images.key), recipe


def in_order(answers):
    "Which test images are answered rightly, by the number of the scene: four in a hexadecimal digit."
    numbers = answers["image"].str.extract(r"(\d+)", expand=False).astype(int)
    return np.packbits(answers["right"].to_numpy()[np.argsort(numbers)]).tobytes().hex()


def measured(tflite, system, images):
    "What can be measured of a file at any time."
    answers = answers_of(tflite, images, system.data)
    return dict(
        int8_accuracy=float(answers["right"].mean()),
        images=len(answers),
        right=in_order(answers),
        file_bytes=len(tflite),
        arena_64_bit=asdict(arena(tflite)),
        sha256=sha256(tflite),
    )


def trained(row, images, data, recipe):
    "The file of a row's system, and its record."
    system = System.from_dict(row)
    checkpoint = ROOT / "runs" / "models" / f"{system}.npz"
    model, _ = train_alone(system, images, recipe, checkpoint=checkpoint, check_images=0)
    test = images.view("test", system.data)
    seen = images.view("train", system.data, 1024).images
    tflite, found = deploy(system, model, seen, test.images, test.labels, names=images.classes)
    return tflite, dict(
        system=system.to_dict(),
        classes=list(images.classes),
        data=data,
        recipe=keyed(recipe),
        **measured(tflite, system, images),
        float_accuracy=found.float_accuracy,
        macs=found.predicted.macs,
        arena_bytes_32_bit=found.predicted.arena_bytes,
        row={"file": str(ROWS.relative_to(ROOT)), **{name: row[name] for name in KEPT}},
        command=f"python tools/models.py train {system}",
        commit=commit(ROOT),
        versions=versions(),
        processor=processor(),
    )


def train(names):
    "Train these winners, and write files and records."
    rows = {str(System.from_dict(row)): row for row in pd.read_csv(ROWS, dtype={"depths": str}).to_dict("records")}
    if not names or set(names) - set(rows):
        sys.exit(f"{__doc__}\nwinners: {', '.join(rows)}")
    for name in names:
        tflite, record = trained(rows[name], *images_and_recipe())
        with atomic(MODELS / f"{name}.tflite") as part:
            part.write_bytes(tflite)
        write_json(MODELS / f"{name}.json", record)
        said = "the file of the row" if record["sha256"] == record["row"]["sha256"] else "another file than the row's"
        print(f"{name}: {record['int8_accuracy']:.1%} of {record['images']:,} test images, {said}")


def measure():
    "Measure all files again; ends in an error where a record says something else."
    images, differ = images_and_recipe()[0], []
    for path in sorted(MODELS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found = measured(path.with_suffix(".tflite").read_bytes(), System.from_dict(record["system"]), images)
        differ += [f"{path.stem}: {name}" for name, value in found.items() if record.get(name) != value]
        print(f"{path.stem}: {found['int8_accuracy']:.1%} of {found['images']:,} test images")
    sys.exit(f"the records say something else: {', '.join(differ)}" if differ else 0)


if __name__ == "__main__":
    what, *names = sys.argv[1:] or ["help"]
    measure() if what == "measure" else train(names if what == "train" else ())
