"The dry run of preset `paper`: its first steps on a tiny data set with Wake Vision's features, and what it says."

import json
import os
import sys
from pathlib import Path

import pytest
from make_data import refused, wake_vision_tfds

from dans.front.preflight import FINALISTS
from dans.paper.dry import COMPARED
from dans.paper.reproduce import main, reproduce
from dans.space import SPACES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wake_vision_tfds(tmp_path_factory.mktemp("tfds"), dict(train_quality=28, validation=14, test=14))


@pytest.fixture
def asked(tmp_path, monkeypatch):
    "The run on a small space of two data configurations; only its work folder is elsewhere."
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("DANS_WAKE_VISION", raising=False)
    space = dict(resolutions=(16,), widths=(0.1, 0.2), max_depths=(2, 1, 1, 0, 0))
    monkeypatch.setitem(SPACES, "paper", space)
    changes = {"source.native": "16", "million_macs": "[0.5]"}
    return dict(ids=["run_search"], preset="paper", out=tmp_path / "out", changes=changes, dry_run=True)


def test_without_wake_vision_it_lists_and_says_how_to_get_it(asked, capsys):
    assert reproduce(**asked, trying=True) == 0
    said = capsys.readouterr().out
    assert "run_search       to do" in said and not asked["out"].exists()
    assert "run_search is not tried" in said and "DANS_WAKE_VISION" in said and "tfds build wake_vision" in said
    assert "tools/tiny_wake_vision.py" in said and (ROOT / "tools/tiny_wake_vision.py").is_file()


def test_what_is_missing_is_named_with_the_remedy(asked, tmp_path, built, monkeypatch):
    monkeypatch.setenv("DANS_WAKE_VISION", str(tmp_path / "nowhere"))
    refused(lambda: reproduce(**asked, trying=True), f"{tmp_path}/nowhere holds no wake_vision/1.0.0", "tfds build")
    (file,) = (built / "wake_vision/1.0.0").glob("*-validation.tfrecord*")
    monkeypatch.setenv("DANS_WAKE_VISION", str(built))
    file.rename(tmp_path / file.name)
    try:
        refused(lambda: reproduce(**asked, trying=True), f"{file} is missing", "tfds build wake_vision --data_dir=")
    finally:
        os.replace(tmp_path / file.name, file)


def test_every_data_configuration_takes_its_first_steps(asked, built, capsys, monkeypatch):
    monkeypatch.setenv("DANS_WAKE_VISION", str(built))
    words = [f"-p{name}={value}" for name, value in asked["changes"].items()]
    command = ["dans-reproduce", "run_search", "--preset=paper", f"--out={asked['out']}", *words, "--dry-run", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    told, said = capsys.readouterr()
    told = json.loads(told)["tried"]["run_search"]
    assert [row["data"] for row in told["checked"]] == ["16px-rgb", "16px-mono"]
    for row in told["checked"]:
        file = asked["out"] / "dry" / row["file"]
        assert file.read_bytes()[4:8] == b"TFL3" and file.stat().st_size == row["file_bytes"]
        assert row["ram_bytes"] == row["predicted_bytes"] and row["step_seconds"] > 0 and 0 <= row["score"] <= 1
    assert sorted(p.suffix for p in (asked["out"] / "dry").iterdir()) == [".tflite"] * 2  # images are gone
    assert not (asked["out"] / "store").exists() and not (asked["out"] / "results").exists()
    # the whole is counted for the public data set: by hand, the finalists and the disk
    images = 1_248_230 + 18_582 + 55_763
    assert told["disk_bytes"] == images * (3 * 16**2 + 8)
    assert COMPARED == FINALISTS == 3  # the latter is what the run takes
    assert told["macs"]["finalists, trained"] == 3 * 3 * 10 * (1_248_230 // 64) * 64 * 0.5e6
    assert set(told["macs"]) < set(told["hours_here"]) and told["peak_bytes"]["process"] > 1e8
    for words in ("checked at 2 data configurations", "EXTRAPOLATED", "an assumption", "peak memory", "not checked"):
        assert words in said
