"dans-search: what it says before it begins, what it refuses, and one small search from a folder to firmware."

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from make_data import class_folder, refused

from dans.cost.boards import board_of
from dans.cost.limits import Limits
from dans.front.command import main, wish_of
from dans.front.preflight import _batch, preflight, sizes_for
from dans.front.simple import logistic, logits_of
from dans.front.wish import limits_for, minutes_of

TINY = ["--widths", "0.1", "--depths", "10000", "--resolutions", "16", "--colors", "mono", "--budget", "42 s"]
LIMITS = ["--limits", "RAM 32 KiB, flash 64 KiB"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folder(tmp_path_factory.mktemp("front") / "photos", ("cat", "dog", "no pet"), n=20)


# What is asked for


def test_of_a_board_and_words_the_lower_bound_counts():
    board = board_of("nrf52840")
    held = limits_for(board)
    assert held.bounds() == dict(arena_bytes=224 * 1024, flash_bytes=896 * 1024)
    tighter = limits_for(board, "RAM 1 MiB, flash 100 KiB, MACs 2 M")
    assert tighter.bounds() == dict(arena_bytes=224 * 1024, flash_bytes=100 * 1024, macs=2_000_000)
    assert limits_for(board, reserve="RAM 100 KiB").arena_bytes == 156 * 1024
    assert held.both(Limits(macs=5, kernels="reference")).kernels == "cmsis-nn"
    assert limits_for(board, latency_ms=50, kernels="tflm+cmsis-nn").cycles
    assert limits_for(None, "MACs 2 M") == Limits(macs=2_000_000)


def test_times_have_units():
    assert [minutes_of(text) for text in ("5", "5 min", "1.5h", "30 s")] == [5, 5, 90, 0.5]
    for text in ("", "soon", "0", "5 weeks"):
        refused(lambda text=text: minutes_of(text), "30 min")


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere", *LIMITS], "'nowhere' is not known and is no path"),
        (["{photos}"], 'there are no limits: name a board, such as --board nrf52840, or write --limits "RAM'),
        (["{photos}", "--board", "nrf5284"], "did you mean nrf52840 (nRF52840 DK)?"),
        (["{photos}", "--limits", "RAM 4 KiB"], "no system of this space meets the RAM limit of 4 KiB"),
        (["{photos}", "--limits", "memory 4 KiB"], "cannot be read"),
        (["{photos}", "--latency", "30", *LIMITS], "a latency and kernels are those of a board"),
        (["{photos}", "--budget", "1 s", *LIMITS], "a budget of 1 s is too little"),
        (["{photos}", "--resolutions", "64", *LIMITS], "32 px on its short side, and 64 are needed"),
        (["{photos}", "--resolutions", "small", *LIMITS], "write it like 24,32,48"),
        (["{photos}", "--metric", "auc", *LIMITS], "metric auc is for two classes, and there are 3"),
        (["{photos}", "--out", "{photos}/found", *LIMITS], "lies among the images"),
        (["{photos}", "-p", "source.splitz=none", *LIMITS], "has no option 'splitz'"),
        (["{photos}", "-p", "splits=none", *LIMITS], "write -p source.NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(photos, capsys, words, said):
    words = [word.format(photos=photos) for word in words]
    assert main([*words, "--dry-run", "--json"]) == 2
    out, err = capsys.readouterr()
    *_, line = err.strip().splitlines()
    assert line.startswith("dans-search: ") and said in line
    record = json.loads(out)
    assert (
        record["status"] == 2 and record["error"] and record["remedy"] and said in ": ".join(list(record.values())[1:])
    )


def test_bad_images_are_all_named(photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("cat/0.png", "dog/3.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    assert main([str(tmp_path / "photos"), *LIMITS, "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert "cat/0.png" in err and "dog/3.png" in err
    assert main([str(tmp_path / "photos"), *LIMITS, "-p", "source.skip_bad=True", "--dry-run"]) == 0
    assert "left out" in capsys.readouterr().out


# What is said before it begins


def test_a_dry_run_says_what_there_is_and_what_fits(photos, tmp_path, capsys):
    words = [str(photos), *LIMITS, "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in ("3 classes", "no pet: 14 + 2 + 4", "32 px on its short side", "5 folds", "of one core", "16px-mono"):
        assert part in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == dict(train=42, val=6, test=12) and found["status"] == 0
    assert found["images_by_class"]["test"] == {"cat": 4, "dog": 4, "no pet": 4}
    assert found["systems_that_fit"] == sum(found["fit_by_data"].values()) < found["systems"]
    assert main([*words, "--quiet"]) == 0 and capsys.readouterr() == ("", "")
    assert not (tmp_path / "out").exists()


def test_counts_are_those_of_the_limits(photos):
    flight = preflight(wish_of(str(photos), limits="RAM 24 KiB, MACs 0.2 M", widths="0.1,0.25"))
    admitted = [s for s in flight.space if flight.wish.limits.admits(flight.wish.limits.cost(s, 3))]
    assert flight.systems == len(admitted) > 0
    assert all(system.data == data for data, systems in flight.fitting.items() for system in systems)
    source = flight.source
    assert sizes_for(wish_of(str(photos), limits="MACs 40 k", widths="0.1"), source)[0] == (16, 24)


def test_images_larger_than_all_that_is_tried_need_no_note(photos):
    wish = wish_of(str(photos), limits="MACs 1 M", widths="0.1")
    source = preflight(wish).source
    for side, left in ((40, "48 px and more"), (64, ""), (160, "")):
        resolutions, note = sizes_for(wish, replace(source, side=side))
        assert max(resolutions) <= side and (left in note if left else note == "")


def test_a_plan_counts_the_steps_that_will_be_made(photos):
    from dans.net.supernet import shared_recipe
    from dans.net.train import MANY, batch_for

    assert all(_batch(n) == batch_for(n) for n in (1, MANY - 1, MANY, 10**6))
    flight = preflight(wish_of(str(photos), limits="RAM 64 KiB"))
    assert flight.folded
    plan, sizes = flight.plan, flight.source.sizes
    learnt = (sizes["train"] + sizes["val"]) * 4 // 5
    assert plan.supernet.steps == 5 * shared_recipe(learnt, plan.supernet.epochs).steps(learnt) >= 2000
    assert plan.alone.steps >= 1000 and plan.few == 24
    shorter = preflight(wish_of(str(photos), limits="RAM 64 KiB", budget="2 min")).plan
    assert shorter.minutes < 2 < plan.minutes and shorter.supernet.steps < plan.supernet.steps


# Beside a network


def test_a_class_that_training_images_lack_is_never_the_answer():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    images = (rng.normal(100, 10, (60, 4, 4, 1)) + 60 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)
    found = logits_of(logistic(images, labels, 0.03), images, 3)
    assert (found.argmax(1) == labels).all() and np.isneginf(found[:, 2]).all()


# From a folder to firmware


def test_a_search_that_is_stopped_goes_on_and_ends_in_a_folder(photos, tmp_path, capfd, monkeypatch):
    from dans.front.find import Finding

    def stop(*_, **__):
        raise KeyboardInterrupt

    words = [str(photos), *LIMITS, *TINY, "--out", str(tmp_path / "out"), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(Finding, "exported", stop)
        assert main(words) == 130
        out, err = capfd.readouterr()
        assert json.loads(out) == dict(status=130) and "the same command goes on from there" in err
        assert not [
            line for line in err.splitlines() if line.startswith(("WARNING: All log", "I0000", "E0000", "2026"))
        ]
    for trained in ("dans.paper.experiment.train_alone", "dans.net.supernet.Supernet.train"):
        monkeypatch.setattr(trained, lambda *_, **__: pytest.fail("trained again"))
    assert main(words) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["system"] in err and "beside" in err and "[4/4]" in err
    assert set(found["logistic_regression"]) > {"accuracy", "recall"} and len(found["test"]["recall"]) == 3
    assert all(found["takes"][axis] <= bound for axis, bound in found["limits"].items())
    names = {path.name for path in (tmp_path / "out/firmware").iterdir()}
    assert {"model.tflite", "model.keras", "model_data.cc", "preprocess.h", "model_card.md", "example"} <= names
    kept = json.loads((tmp_path / "out/found.json").read_text())
    assert kept["accuracy"] == found["accuracy"] == found["test"]["accuracy"]
