"The committed models: files, records, and what is measured of them again."

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dans.board.runtime import arena, predict
from dans.cost.footprint import footprint
from dans.cost.tflite import footprint_of
from dans.data.scenes import draw
from dans.space import System

ROOT = Path(__file__).parent.parent
RECORDS = sorted((ROOT / "models").glob("*.json"))
SOME = 100  # scenes, of 1,500: `python tools/models.py measure` takes all


@pytest.fixture(scope="module")
def scenes():
    drawn = [draw(0, "test", i, native=128)[:2] for i in range(SOME)]
    return [image for image, _ in drawn], np.array([label for _, label in drawn])


def test_there_are_some_each_with_a_record():
    assert len(RECORDS) >= 2
    assert {p.stem for p in RECORDS} == {p.stem for p in (ROOT / "models").glob("*.tflite")}
    assert sum(p.stat().st_size for p in (ROOT / "models").iterdir()) < 1_000_000


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_model_is_what_its_record_says(path, scenes):
    record, tflite = json.loads(path.read_text()), path.with_suffix(".tflite").read_bytes()
    system = System.from_dict(record["system"])
    assert str(system) == path.stem and path.stem in record["command"]
    assert hashlib.sha256(tflite).hexdigest() == record["sha256"] and len(tflite) == record["file_bytes"]
    found = arena(tflite)
    assert dict(head=found.head, tail=found.tail, total=found.total) == record["arena_64_bit"]
    predicted = footprint(system, len(record["classes"]))
    assert (predicted.macs, predicted.arena_bytes) == (record["macs"], record["arena_bytes_32_bit"])
    assert footprint_of(tflite).arena_bytes == record["arena_bytes_32_bit"]
    right = np.unpackbits(np.frombuffer(bytes.fromhex(record["right"]), np.uint8))[: record["images"]].astype(bool)
    assert right.mean() == pytest.approx(record["int8_accuracy"])
    images, labels = scenes
    seen = np.stack([system.data.see(image) for image in images])
    assert (predict(tflite, seen).argmax(1) == labels).tolist() == right[:SOME].tolist()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_has_the_row_that_the_model_is_of(path):
    record = json.loads(path.read_text())
    rows = pd.read_csv(ROOT / record["row"]["file"], dtype={"depths": str}).to_dict("records")
    [row] = [row for row in rows if str(System.from_dict(row)) == path.stem]
    assert {name: row[name] for name in record["row"] if name != "file"} == {
        name: value for name, value in record["row"].items() if name != "file"
    }
    assert record["data"]["hash"] == json.loads((ROOT / "results/search/systems.json").read_text())["data"]["hash"]
    if record["sha256"] == row["sha256"]:
        assert record["int8_accuracy"] == row["int8_accuracy"]
