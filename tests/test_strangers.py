"""What strangers bring: layouts, junk, faults and parquet files of other writers. Read rightly, or one line that
says what is unclear."""

import inspect
import json
import os
import pickle
import random
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_data import class_folder, encoded, parquet_file, pixels, refused
from PIL import Image

import dans
import dans.data.images
import dans.data.survey
from dans.data.catalogue import check_source, open_source, source, wake_scenes
from dans.data.folders import folder
from dans.data.images import FAULTS, BadImages, bad, bad_images, checked, decode, ends_well, option
from dans.data.parquet import parquet
from dans.data.prepared import prepare
from dans.data.splits import WORDS, digest, split_names, split_word
from dans.data.tfds import wake_vision
from dans.data.tiny_imagenet import tiny_imagenet
from dans.house import DansError


def holds(path, *names):
    "Class folders below `path`/each of `names`, all images different."
    for k, name in enumerate(names):
        class_folder(path / name, n=6, first=10_000 * k)
    return path


def said(found, *parts):
    notes = "\n".join(found.notes)
    assert all(part in notes for part in parts), notes


# --- split names


@pytest.mark.parametrize(
    "name",
    [
        "train",
        "Train",
        "TRAINING",
        "training_set",
        "train-images",
        "TrainImages",
        "trainset",
        "images_train",
        "01_train",
        "train2017",
        "Training Data",
        "trainval",
    ],
)
def test_names_of_train(name):
    assert split_word(name) == "train"


@pytest.mark.parametrize(
    "name",
    [
        "trains",
        "train station",
        "testament",
        "invalid",
        "valley",
        "data",
        "images",
        "",
        "2017",
        "ä",
        "latest",
        "protest",
        "bullet train",
    ],
)
def test_names_of_no_split(name):
    assert not split_word(name)


def test_names_with_something_more_are_splits_together_only():
    assert split_names(["seg_train", "seg_test", "seg_pred"]) == dict(seg_train="train", seg_test="test")
    assert not split_names(["train_station", "bus_station", "test_tube"]) and not split_names(
        ["train_interior", "train_station"]
    )
    assert split_names(["asl_alphabet_train", "asl_alphabet_test"]) == dict(
        asl_alphabet_train="train", asl_alphabet_test="test"
    )


# --- layouts


@pytest.mark.parametrize(
    "train, val, test",
    [
        ("Training", "", "Testing"),
        ("Train", "Valid", "Test"),
        ("training_set", "", "test_set"),
        ("TRAIN", "DEV", "EVAL"),
        ("train_images", "val_images", "test_images"),
        ("seg_train/seg_train", "", "seg_test/seg_test"),
        ("dataset/train", "dataset/validation", "dataset/test"),
        ("a/b/training", "", "a/b/testing"),
        ("birds_train", "birds_val", "birds_test"),
        ("dataset/train/train", "", "dataset/test/test"),
    ],
)
def test_given_splits_of_any_spelling(tmp_path, train, val, test):
    holds(tmp_path, *filter(None, (train, val, test)))
    found = folder(tmp_path)
    assert found.classes == ("cat", "dog") and found.sizes["test"] == 12
    assert found.sizes["val"] == (12 if val else 2)
    names = {split: name for split, name, *_ in found.rows()}
    assert names["test"].startswith(test + "/") and names["train"].startswith(train + "/")


def test_splits_below_classes(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        for i, split in enumerate(("Train", "Test")):
            class_folder(tmp_path / name, [split], n=5, first=5000 * k + 500 * i)
    found = folder(tmp_path)
    assert found.classes == ("cat", "dog") and found.sizes == dict(train=8, val=2, test=10)
    class_folder(tmp_path / "owl", ["more"], n=5, first=99_000)
    refused(lambda: folder(tmp_path), "has the folder more beside Test, Train", 'splits="none"')
    shutil.rmtree(tmp_path / "owl")
    (tmp_path / "cat/Train/day").mkdir()
    (tmp_path / "cat/Train/0.png").rename(tmp_path / "cat/Train/day/0.png")
    refused(lambda: folder(tmp_path), "in each of cat, dog", 'splits="names"')
    assert folder(tmp_path, splits="names").sizes == found.sizes


UNCLEAR = {
    "a class named valid": (
        ("invalid", "valid"),
        ["invalid beside valid", "rename", 'splits="none"', 'splits="names"', "-p source.splits=none"],
    ),
    "a class named train": (("bus", "car", "train"), ["bus, car beside train", "rename", 'splits="none"']),
    "a class named Test": (("Test", "control"), ["control beside Test", "rename"]),
    "no train": (
        ("val/cat", "val/dog", "test/cat"),
        ["the folders test, val, and none for train", "train always there", 'splits="none"'],
    ),
    "two for one split": (("train/cat", "train/dog", "training/cat", "test/cat"), ["two for one split", "rename"]),
    "two for test": (("train/cat", "train/dog", "test/cat", "eval/cat"), ["two for one split"]),
    "more beside splits": (("train/cat", "train/dog", "test/cat", "pred/cat"), ["the folder pred beside test, train"]),
    "seg_pred": (("seg_train/cat", "seg_test/cat", "seg_pred"), ["the folder seg_pred beside seg_test, seg_train"]),
    "in one class alone": (("cat/test", "cat", "dog"), ["cat, dog beside test", 'splits="none"']),
    "sets of their own": (
        ("a/train/cat", "a/test/cat", "b/train/cat", "b/test/cat"),
        ["in each of a, b", "sets of their own"],
    ),
    "splits in splits": (
        ("train/train/cat", "train/val/cat", "test/cat"),
        ["train has the folders train, val, named for splits inside of one"],
    ),
    "joined names": (("train_cat", "train_dog", "test_cat", "test_dog"), ["two for one split"]),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_can_be_read_in_two_ways_is_asked(tmp_path, name):
    places, parts = UNCLEAR[name]
    for k, place in enumerate(places):
        class_folder(tmp_path / place.rpartition("/")[0], [place.rpartition("/")[2]], n=5, first=5000 * k) if not (
            tmp_path / place
        ).exists() else ((tmp_path / place / "0.png").write_bytes(encoded(5000 * k)))
    message = refused(lambda: folder(tmp_path), *parts)
    assert 'splits="none"' in message and "rename" in message


def test_answers_to_the_question(tmp_path):
    class_folder(tmp_path, ("invalid", "valid"))
    assert folder(tmp_path, splits="none").classes == source(tmp_path, splits=None).classes == ("invalid", "valid")
    refused(lambda: folder(tmp_path, splits="names"), "none for train")
    refused(lambda: folder(tmp_path, splits="yes"), "option splits='yes' is not possible", "auto, none, names")
    class_folder(tmp_path / "b/train", n=8)
    class_folder(tmp_path / "b/test", n=5, first=500)
    class_folder(tmp_path / "b/extra", n=5, first=900)
    found = folder(tmp_path / "b", splits="names")
    assert found.sizes == dict(train=14, val=2, test=10)
    said(found, "folders left out because they are named for no split: 2 (extra/cat, extra/dog)")


def test_classes_named_for_splits_below_splits_are_said(tmp_path):
    for k, split in enumerate(("train", "test")):
        class_folder(tmp_path / split, ("invalid", "valid"), n=6, first=5000 * k)
    found = folder(tmp_path)
    assert found.classes == ("invalid", "valid") and found.sizes["test"] == 12
    said(found, "class 'valid' is named for a split, and read as a class")


def test_an_empty_split_and_empty_classes_are_named(tmp_path):
    holds(tmp_path, "train", "test")
    for name in ("val", "annotations", "train/owl", "train/emu"):
        (tmp_path / name).mkdir()
    refused(lambda: folder(tmp_path), "class folders", "train/emu", "train/owl", "/val", "hold no image")
    for name in ("val", "train/owl", "train/emu"):
        (tmp_path / name).rmdir()
    assert folder(tmp_path).sizes["test"] == 12
    class_folder(tmp_path / "one/photos", n=6)
    refused(lambda: folder(tmp_path / "one"), "has one class ('photos')", "name the folder", "one/photos")


# --- any mixture of words, cases, wrappers and junk: an expected reading, or a question

SPELLINGS = {split: [w for w, s in WORDS.items() if s == split] for split in ("train", "val", "test")}


def spelt(r, split):
    word = r.choice(SPELLINGS[split])
    word = r.choice([str, str.upper, str.title])(word)
    return r.choice(["{}", "{}", "{}_set", "{} images", "01-{}", "{}2017"]).format(word)


def file(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (number // 256, number % 256, 50)).save(path)


@pytest.mark.parametrize("seed", range(60))
def test_random_trees(tmp_path, seed):
    """`meant` is how a person who made the tree means it. What comes out is that, or one error of ours; and where
    the tree holds a trap, such as a class named for a split, it is an error that names the choice, or it is said."""
    r = random.Random(seed)
    root, number = tmp_path / "photos", iter(range(9999))
    classes = r.sample(["cat", "dog", "__background__", "train station", "Rotkehlchen ä", "7"], r.randint(2, 3))
    splits = r.choice([["train"], ["train", "test"], ["train", "val", "test"], []])
    names = {split: spelt(r, split) for split in splits}
    form = r.choice(["SPLIT/CLASS", "SPLIT/SPLIT/CLASS", "CLASS/SPLIT", "WRAP/SPLIT/CLASS"]) if splits else "CLASS"
    trap = r.choice(["", "", "class", "extra", "inside"])
    if trap == "class":
        classes.append(spelt(r, r.choice(["train", "val", "test"])))
    wanted = {}
    for split in splits or [""]:
        for name in classes:
            parts = [
                names[split] if part == "SPLIT" else name if part == "CLASS" else "dataset" for part in form.split("/")
            ]
            for i in range(5):
                deeper = ["session 1"] if i == 4 and form != "CLASS/SPLIT" else []
                file(root.joinpath(*parts, *deeper, f"{i}.png"), next(number))
                wanted["/".join((*parts, *deeper, f"{i}.png"))] = split, name
    if trap == "extra" and splits:
        file(root.joinpath(*form.split("/")[:1] if form[0] == "W" else [], "leftovers", "cat", "1.png"), next(number))
    elif trap == "inside":
        file(root / next(iter(wanted)).rpartition("/")[0] / spelt(r, "test") / "x.png", next(number))
    hidden = 0
    for junk in r.sample(
        [
            ".hidden/1.png",
            "__MACOSX/cat/._1.png",
            "cat/.ipynb_checkpoints/1.png",
            ".DS_Store",
            "README.md",
            "dog/notes.txt",
        ],
        3,
    ):
        if junk.split("/")[0] in ("cat", "dog") and not (root / junk.split("/")[0]).exists():
            continue
        hidden += "/." in f"/{junk}" or "__" in junk
        file((root / junk).with_suffix(".png"), 7)
        (root / junk).with_suffix(".png").rename(root / junk)
    try:
        found = folder(root)
    except DansError as error:
        assert trap, f"{form} {names} {classes}: {error}"
        assert "\n" not in str(error) and ("split" in str(error) or "in only one of" in str(error))
        return
    if trap == "class":
        said(found, f"class '{classes[-1]}' is named for a split")
    assert trap not in ("extra", "inside") or not splits and trap == "extra", f"{form} {names}: a trap without a word"
    rows = {name: (split, found.classes[label]) for split, name, _, label, _ in found.rows()}
    assert set(rows) == set(wanted) and set(found.classes) == set(classes)
    for name, (split, of) in wanted.items():
        assert rows[name][1] == of and (rows[name][0] == split if split in ("val", "test") else split or True)
        assert split != "train" or rows[name][0] not in splits or rows[name][0] == "train"
    said(found, *(["hidden files and folders left out"] if hidden else []))


# --- junk, links, other formats


def test_what_is_left_out_of_folders_is_said(tmp_path):
    path = class_folder(tmp_path / "photos", ("cat", "dog", "__background__"))
    class_folder(path / "cat", [".ipynb_checkpoints", "__MACOSX", "__pycache__"], n=2, first=7000)
    for i in range(3):
        (path / "dog" / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (path / "dog/a.nef").write_bytes(b"II*\0")
    (path / "dog/labels.csv").write_text("1,2")
    (path / "loose.png").write_bytes(encoded(999))
    found = folder(path)
    assert found.classes == ("__background__", "cat", "dog") and sum(found.sizes.values()) == 30
    said(
        found,
        "hidden files and folders left out: 3 (cat/.ipynb_checkpoints, cat/__MACOSX, cat/__pycache__)",
        "convert them to JPEG): 4 (.heic 3, .nef 1)",
        "no images: 1 (.csv 1)",
        "lie in no class folder: 1",
    )
    for p in (path / "dog").glob("*.png"):
        p.unlink()
    refused(
        lambda: folder(path),
        "class folder",
        "dog holds no image",
        ".heic 3",
        "other files: 1 (.csv 1)",
        "convert images to JPEG",
    )


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".pjpeg"])
def test_jpegs_by_other_names(tmp_path, suffix):
    class_folder(tmp_path)
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / name / f"web{suffix}").write_bytes(encoded(5000 + k, format="JPEG"))
    assert sum(folder(tmp_path).sizes.values()) == 22


def test_links_are_followed_once_and_said(tmp_path):
    store = class_folder(tmp_path / "store", ("x", "y"), n=10, first=4000)
    path = class_folder(tmp_path / "photos", n=3)
    class_folder(path / "dog", ["own"], n=2, first=8000)
    for link, to in {
        "cat/session": store / "x",
        "dog/session": store / "y",
        "cat/round": path,
        "cat/again": store / "x",
        "cat/gone.png": "/nowhere.png",
        "cat/self": path / "cat/self",
        "dog/0": path / "dog/own",
    }.items():
        (path / link).symlink_to(to)
    (store / "x/back").symlink_to(store / "x")
    (path / "owl").symlink_to(class_folder(tmp_path / "owls", ["owl"], n=5, first=9000) / "owl")
    found = folder(path)
    assert sum(found.sizes.values()) == 33 and found.classes == ("cat", "dog", "owl")
    said(
        found,
        "links to folders followed: 3",
        "above or one that was read before: 4 (cat/again/back, cat/round, cat/session, ...)",
        "lead nowhere: 2 (cat/gone.png, cat/self)",
    )


def test_deep_folders_end_without_a_recursion_error(tmp_path):
    path, deep = class_folder(tmp_path / "photos"), tmp_path / "photos/cat"
    for _ in range(400):
        deep = deep / "x"
    os.makedirs(deep)
    assert sum(folder(path).sizes.values()) == 20


# --- faults


def spoil(path):
    "One fault of each kind that a file can have, in class cat."
    jpeg = encoded(77, 200, 160, "JPEG")
    deep = Image.fromarray(pixels(0)[..., 0].astype(np.float32))
    for name, content in {
        "empty.png": b"",
        "page.jpg": b"\n<!DOCTYPE html><html>404",
        "json.jpg": b'{"error": 404}',
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\n",
        "heic.jpg": b"\0\0\0\x18ftypheic" + bytes(50),
        "noise.png": b"\x89PNG\r\n...",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": encoded(78)[:-200],
        "cut.webp": encoded(79, format="WEBP")[:-20],
        "cut.gif": encoded(80, format="GIF")[:-200],
        "cut.bmp": encoded(81, format="BMP")[:-200],
    }.items():
        (path / "cat" / name).write_bytes(content)
    deep.save(path / "cat/deep.tif")
    return dict(empty=1, webpage=2, pointer=1, format=1, unreadable=2, truncated=4, bits=1)


def test_all_faults_in_one_error(tmp_path):
    path = class_folder(tmp_path / "photos")
    wanted = spoil(path)
    flipped = bytearray(encoded(82))
    flipped[len(flipped) // 2] ^= 255  # inside: seen only when it is decoded
    (path / "dog/flipped.png").write_bytes(flipped)
    (path / "dog/thumb.png").write_bytes(encoded(83, 10, 10))
    with pytest.raises(BadImages) as error:
        open_source(path, [16], tmp_path / "cache")
    found = error.value.found
    assert {kind: sum(f.kind == kind for f in found) for kind in {f.kind for f in found}} == wanted | dict(
        truncated=5, small=1
    )
    message = str(error.value)
    assert (
        "photos has 14 images that cannot be used: 5 cut off or damaged (" in message
        and "1 too small (dog/thumb.png)" in message
    )
    listed = (tmp_path / "cache/faults-photos.txt").read_text().splitlines()
    assert (
        str(tmp_path / "cache/faults-photos.txt") in message
        and len(listed) == 14
        and any("truncated\tdog/flipped.png" in line for line in listed)
    )
    kinds = message.partition('skip_bad="')[2].partition('"')[0]  # the remedy, as it is printed
    opened, ready = open_source(path, [16], tmp_path / "cache", dict(skip_bad=kinds))
    assert sum(opened.sizes.values()) == 20 and ready.sizes == opened.sizes
    said(
        opened,
        "images left out, cut off or damaged: 5",
        "images left out, too small: 1 (dog/thumb.png)",
        "images left out, empty: 1 (cat/empty.png)",
    )
    assert opened.key != folder(class_folder(tmp_path / "other")).key
    assert open_source(path, [16], tmp_path / "cache", dict(skip_bad=True))[0].key == opened.key
    assert not list(tmp_path.glob("cache/*/faults*"))


def test_many_faults_name_the_first_ten(tmp_path):
    path = class_folder(tmp_path / "photos", n=30)
    for p in sorted((path / "cat").iterdir())[:13]:
        p.write_bytes(b"")
    message = refused(lambda: folder(path), "13 images", "13 empty (cat/0.png", ", ...)")
    assert message.count("cat/") == 10
    error = pickle.loads(pickle.dumps(bad_images("x", [bad("empty", "a"), bad("empty", "b")])))
    assert len(error.found) == 2 and error.found[0].kind == "empty" and str(error).startswith("x has 2 images")


def test_a_remedy_keeps_what_is_left_out_already(tmp_path):
    path = class_folder(tmp_path / "photos")
    (path / "cat/0.png").write_bytes(b"")
    (path / "cat/1.png").write_bytes(b"<html>")
    refused(lambda: folder(path, skip_bad="empty"), "cat/1.png", 'skip_bad="empty,webpage"')
    refused(lambda: folder(path, skip_bad="blurred"), "skip_bad='blurred' is not possible", *FAULTS)


def test_damage_inside_is_found_in_preparing_all_at_once(tmp_path):
    path = class_folder(tmp_path / "photos")
    for i in (2, 3):
        content = bytearray((path / f"dog/{i}.png").read_bytes())
        content[len(content) // 2] ^= 255
        (path / f"dog/{i}.png").write_bytes(content)
    found = folder(path)
    refused(
        lambda: prepare(found, [16], tmp_path / "cache"),
        "photos has 2 images",
        "dog/2.png, dog/3.png",
        "faults-photos.txt",
    )
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["faults-photos.txt"]
    assert sum(prepare(folder(path, skip_bad="truncated"), [16], tmp_path / "cache").sizes.values()) == 18


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_cut_off_files_of_all_formats_are_seen_by_their_end(format):
    whole = encoded(5, 90, 70, format)
    assert checked(whole, "x").size == (90, 70)
    for keep in (0.4, 0.7, 0.95):
        with pytest.raises(DansError):
            checked(whole[: int(keep * len(whole))], "x")
            decode(whole[: int(keep * len(whole))], "x")


def test_a_jpeg_with_a_thumbnail_or_a_film_behind_is_whole():
    thumb, whole = encoded(1, 16, 16, "JPEG"), encoded(2, 300, 200, "JPEG")
    app = b"\xff\xe1" + (len(thumb) + 2).to_bytes(2, "big") + thumb
    inside = whole[:2] + app + whole[2:]
    assert ends_well(whole + bytes(range(256)) * 9, "JPEG") and ends_well(inside, "JPEG")
    assert not ends_well(inside[: len(app) + 300], "JPEG") and not ends_well(whole[:20], "JPEG")


def test_whole_files_are_not_decoded(tmp_path, monkeypatch):
    "A set is looked at in every run: headers and ends of files only."
    class_folder(tmp_path)
    for k, format in enumerate(("JPEG", "WEBP", "GIF")):
        (tmp_path / f"cat/x.{format.lower()}").write_bytes(encoded(5000 + k, format=format))

    def never(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(dans.data.images, "decode", never)
    monkeypatch.setattr(dans.data.survey, "decode", never)
    assert sum(folder(tmp_path).sizes.values()) == 23


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv where tests run as root")
def test_without_permission(tmp_path):
    path = class_folder(tmp_path / "photos", ("cat", "dog", "owl"))
    (path / "cat/3.png").chmod(0)
    (path / "dog").chmod(0)
    (path / "cat/4.png").write_bytes(b"")
    code = (
        "import sys\nfrom dans.data.folders import folder; from dans.data.parquet import parquet\n"
        "try: (parquet if sys.argv[1].endswith('t') else folder)(sys.argv[1])\nexcept ValueError as e: print(e)"
    )
    run = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []

    def heard(what):
        return subprocess.run([*run, sys.executable, "-c", code, what], capture_output=True, text=True).stdout

    message = heard(path)
    (path / "dog").chmod(0o755)
    assert (
        "2 without permission to read (folder dog, cat/3.png)" in message
        and "1 empty (cat/4.png)" in message
        and "chmod" in message
    )
    parquet_file(tmp_path / "x.parquet", [0, 1] * 9).chmod(0)
    assert "x.parquet cannot be read: there is no permission" in heard(tmp_path / "x.parquet")
    path.chmod(0)
    assert "photos cannot be read: there is no permission: allow it: chmod" in heard(path)
    assert "photos/cat cannot be read: there is no permission" in heard(path / "cat")
    path.chmod(0o755)


# --- one picture twice


def test_contradictions_are_said_and_can_be_left_out(tmp_path):
    path = class_folder(tmp_path / "photos")
    for i in range(4):
        shutil.copy(path / f"cat/{i}.png", path / f"dog/copy{i}.png")
    found = folder(path)
    said(found, "the same image in two classes: 4 (cat/0.png = dog/copy0.png", 'skip_bad="contradiction"')
    without = folder(path, skip_bad="contradiction")
    assert sum(without.sizes.values()) == 16
    said(without, "in two classes, left out: 4")


def test_images_in_two_splits_are_counted_and_can_be_dropped(tmp_path):
    holds(tmp_path, "train", "val", "test")
    for i in range(3):
        shutil.copy(tmp_path / f"train/cat/{i}.png", tmp_path / f"test/cat/same{i}.png")
    shutil.copy(tmp_path / "val/dog/1.png", tmp_path / "test/dog/same.png")
    refused(
        lambda: folder(tmp_path),
        "train/cat/0.png (train) and test/cat/same0.png (test) are the same image in two splits, one of 4",
        'duplicates="drop"',
    )
    found = folder(tmp_path, duplicates="drop")
    assert found.sizes == dict(train=9, val=11, test=16)
    said(found, "left out because they are in a later split, too: 4 (train/cat/0.png")
    assert len({digest(content) for _, _, content, _, _ in found.rows()}) == 36


# --- 16 bits


def png_of_16(values):
    "A colour PNG of 16 bits a channel, which Pillow reads and does not write."

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_images_of_16_bits(tmp_path):
    class_folder(tmp_path / "a")
    for p in (tmp_path / "a").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(p).convert("L")).astype(np.uint16) * 16).save(p)
    said(folder(tmp_path / "a"), "images of 16 bits use only 12 of them")
    class_folder(tmp_path / "c")
    for p in (tmp_path / "c").rglob("*.png"):
        p.write_bytes(png_of_16(pixels(int(p.stem), 12, 9).astype(np.uint16) * 16))
    said(folder(tmp_path / "c"), "images of 16 bits use only 12 of them")
    class_folder(tmp_path / "b")
    for p in (tmp_path / "b").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(p).convert("L")).astype(np.uint16) * 256).save(p)
    assert not any("16 bits" in note for note in folder(tmp_path / "b").notes)
    grey = np.asarray(Image.open(tmp_path / "b/cat/0.png")).astype(">u2")
    content = b"P5\n%d %d\n65535\n" % grey.shape[::-1] + grey.tobytes()
    assert (np.asarray(decode(content))[..., 0] == grey >> 8).all() and checked(content, "x.pgm")


# --- parquet


def write(path, images=None, metadata=None, n=40, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {"image": images or [dict(bytes=encoded(hash(path.name) % 10**6 + i), path="") for i in range(n)], **columns}
    )
    features = dict(info=dict(features={name: dict(names=names) for name, names in (metadata or {}).items()}))
    pq.write_table(table.replace_schema_metadata(dict(huggingface=json.dumps(features)) if metadata else None), path)
    return path


@pytest.mark.parametrize(
    "train, test",
    [
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("birds-train.parquet", "birds-test.parquet"),
        ("train.parquet", "test.parquet"),
        ("Train_00.parquet", "Testing_00.parquet"),
        ("training/a.parquet", "eval/a.parquet"),
        ("x_train_0.parquet", "x_test_0.parquet"),
        ("train/train-0.parquet", "test/test-0.parquet"),
        ("data.parquet/train/part-0.parquet", "data.parquet/test/part-0.parquet"),
        ("trainset-0.parquet", "testset-0.parquet"),
    ],
)
def test_splits_of_parquet_files(tmp_path, train, test):
    for k, name in enumerate((train, test)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        parquet_file(tmp_path / name, [0, 1] * (10 - k), first=500 * k)
    found = source(tmp_path)
    assert found.sizes == dict(train=18, val=2, test=18)
    assert len({name for _, name, *_ in found.rows()}) == 38


def test_parquet_files_that_can_be_read_in_two_ways(tmp_path):
    for k, name in enumerate(("train-0", "test-0", "more")):
        parquet_file(tmp_path / f"{name}.parquet", [0, 1] * 10, first=500 * k)
    refused(lambda: parquet(tmp_path), "more.parquet has no split in its name", 'splits="none"', 'splits="names"')
    assert sum(parquet(tmp_path, splits="none").sizes.values()) == 60
    found = parquet(tmp_path, splits="names")
    assert found.sizes["test"] == 20 and sum(found.sizes.values()) == 40
    said(found, "named for no split: 1 (more.parquet)")
    (tmp_path / "more.parquet").rename(tmp_path / "train_test.parquet")
    refused(lambda: parquet(tmp_path), "train_test.parquet is named for test and train")
    for config in ("coarse", "fine"):
        (tmp_path / "c" / config / "train").mkdir(parents=True)
        parquet_file(tmp_path / "c" / config / "train/0.parquet", [0, 1] * 10)
    refused(lambda: parquet(tmp_path / "c"), "coarse/train/ and fine/train/ files to train on", "name the folder")


def test_a_folder_that_spark_wrote(tmp_path):
    for i in range(2):
        write(tmp_path / f"data.parquet/part-0000{i}-abc.snappy.parquet", label=[0, 1] * 20)
    for name in ("_SUCCESS", "_metadata", "._SUCCESS.crc"):
        (tmp_path / "data.parquet" / name).write_bytes(b"")
    write(tmp_path / "data.parquet/_temporary/0.parquet", label=[0, 1] * 20)
    for path in (tmp_path, tmp_path / "data.parquet"):
        found = source(path)
        assert sum(found.sizes.values()) == 80
        said(found, "names begin with _: 1")
    class_folder(tmp_path, n=2)
    said(source(tmp_path), "lie beside the parquet files: 4 (.png 4)")


def test_labels_in_names_of_folders_are_refused(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        write(tmp_path / f"d/label={name}/part-{k}.parquet", owner=["a", "b"] * 20)
    refused(lambda: source(tmp_path / "d"), "has its label in the name of a folder", "into a column")


LABELS = {
    "from 1": ([1, 2], pa.int64(), ("1", "2")),
    "gaps": ([0, 2_000_000], pa.int64(), ("0", "2000000")),
    "text": (["dog", "cat"], pa.string(), ("cat", "dog")),
    "large text": (["dog", "cat"], pa.large_string(), ("cat", "dog")),
    "category": (["dog", "cat"], pa.dictionary(pa.int8(), pa.string()), ("cat", "dog")),
    "bool": ([True, False], pa.bool_(), ("False", "True")),
    "float": ([0.0, 1.0], pa.float64(), ("0", "1")),
    "tens": ([2, 10], pa.int8(), ("2", "10")),
    "bytes": ([b"dog", b"cat"], pa.binary(), ("cat", "dog")),
    "unsigned": ([0, 1], pa.uint8(), ("0", "1")),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_all_kinds(tmp_path, name):
    values, kind, classes = LABELS[name]
    found = parquet(write(tmp_path / "x.parquet", label=pa.array(values * 20, kind)))
    assert found.classes == classes and sum(found.sizes.values()) == 40
    text = [v.decode() if isinstance(v, bytes) else str(int(v)) if isinstance(v, float) else str(v) for v in values]
    assert all(found.classes[label] == text[int(row.split()[-1]) % 2] for _, row, _, label, _ in found.rows())


def test_rows_without_a_label_are_counted(tmp_path):
    for values, kind in (
        ([0.0, 1.0, float("nan")], pa.float64()),
        (["a", "b", None], pa.string()),
        ([0, 1, -1], pa.int64()),
        ([0, 1, None], pa.int32()),
    ):
        found = parquet(write(tmp_path / "x.parquet", label=pa.array(values * 14, kind), n=42))
        assert len(found.classes) == 2
        said(found, "no label: 14")
    refused(
        lambda: parquet(write(tmp_path / "x.parquet", label=[0.5, 1.0] * 20)),
        "column 'label' of",
        "holds 0.5",
        "whole numbers or text",
    )


def test_class_names_in_another_order_are_read_by_name(tmp_path):
    write(tmp_path / "train-0.parquet", label=[0, 1] * 20, metadata=dict(label=["cat", "dog"]))
    write(tmp_path / "test-0.parquet", label=[0, 1] * 20, metadata=dict(label=["dog", "cat"]))
    found = parquet(tmp_path)
    assert found.classes == ("cat", "dog")
    for split, name, _, label, _ in found.rows():
        assert label == (int(name.split()[-1]) + (split == "test")) % 2
    said(found, "in another order: labels are read by name")
    write(tmp_path / "test-0.parquet", label=["dog", "cat"] * 20)  # text in one file, numbers with names in the other
    assert [row[3] for row in parquet(tmp_path).rows() if row[0] == "test"][:2] == [1, 0]
    write(tmp_path / "test-0.parquet", label=[0, 1] * 20)
    said(parquet(tmp_path), "class numbers are read by the names of the first file: 1 (test-0.parquet)")
    write(tmp_path / "train-0.parquet", label=[0, 1] * 20)
    write(tmp_path / "test-0.parquet", label=["dog", "cat"] * 20)
    refused(lambda: parquet(tmp_path), "class numbers without names in train-0.parquet, and text in test-0.parquet")


def test_class_names_without_rows_are_dropped_and_said(tmp_path):
    found = parquet(write(tmp_path / "x.parquet", label=[0, 2] * 20, metadata=dict(label=["ant", "bee", "cow", "dog"])))
    assert found.classes == ("ant", "cow") and {row[3] for row in found.rows()} == {0, 1}
    said(found, "classes left out because no row has them: 2 (bee, dog)")
    write(tmp_path / "train-0.parquet", label=[0, 0] * 20, metadata=dict(label=["ant", "bee"]))
    write(tmp_path / "test-0.parquet", label=[0, 1] * 20, metadata=dict(label=["ant", "bee"]))
    (tmp_path / "x.parquet").unlink()
    refused(lambda: parquet(tmp_path), "class 'bee' has no image in train")


@pytest.mark.parametrize(
    "columns, image, label",
    [
        (dict(img="file", label=1), "img", None),
        (dict(picture="bytes", fine_label=1), "picture", "fine_label"),
        (dict(image="file", labels=1, owner=2), None, "labels"),
        (dict(image="large", breed="text"), None, "breed"),
        (dict(image="file", mask="file", label=1), None, None),
    ],
)
def test_columns_that_can_be_meant_alone_are_found_and_said(tmp_path, columns, image, label):
    images = [encoded(i) for i in range(40)]
    make = {
        "file": lambda: [dict(path="", bytes=b) for b in images],
        "bytes": lambda: images,
        "large": lambda: pa.array(images, pa.large_binary()),
        1: lambda: [0, 1] * 20,
        2: lambda: [0, 0, 1, 1] * 10,
        "text": lambda: ["a", "b"] * 20,
    }
    pq.write_table(pa.table({name: make[kind]() for name, kind in columns.items()}), tmp_path / "x.parquet")
    found = parquet(tmp_path / "x.parquet")
    assert sum(found.sizes.values()) == 40 and [row[3] for row in found.rows()] == [0, 1] * 20
    for name, usual in ((image, "image"), (label, "label")):
        assert any(f"column '{name}' is read as {usual}" in note for note in found.notes) is (name is not None)


def test_two_label_columns_are_asked(tmp_path):
    names = dict(fine_label=["a", "b"], coarse_label=["x", "y"])
    path = write(tmp_path / "x.parquet", fine_label=[0, 1] * 20, coarse_label=[0, 0, 1, 1] * 10, metadata=names)
    refused(lambda: parquet(path), "but no 'label'", "label=", "-p source.label=")
    assert parquet(path, label="fine_label").classes == ("a", "b")


def test_bad_rows_of_parquet_files_are_one_error(tmp_path):
    rows = [encoded(i) for i in range(40)]
    rows[3], rows[5], rows[7] = b"", None, b"<html>"
    path = write(tmp_path / "x.parquet", images=pa.array(rows, pa.binary()), label=[0, 1] * 20)
    refused(
        lambda: parquet(path),
        "x has 3 images",
        "1 empty (x.parquet row 3)",
        "1 without bytes (x.parquet row 5)",
        "x.parquet row 7",
    )
    assert sum(parquet(path, skip_bad=True).sizes.values()) == 37
    for name in ("a", "b", "c"):
        (tmp_path / f"d/{name}.parquet").parent.mkdir(exist_ok=True)
        (tmp_path / f"d/{name}.parquet").write_bytes(b"PAR1")
    refused(lambda: parquet(tmp_path / "d"), "3 files are no readable parquet files", "a.parquet, ", "c.parquet")
    (tmp_path / "photos.zip").write_bytes(b"PK\3\4")
    refused(lambda: source(tmp_path / "photos.zip"), "photos.zip is an archive", "unpack it")


def test_attributes_that_not_all_files_have(tmp_path):
    write(tmp_path / "train-0.parquet", label=[0, 1] * 20, far=[1] * 40, near=[0] * 40)
    write(tmp_path / "test-0.parquet", label=[0, 1] * 20, far=[1] * 40)
    found = parquet(tmp_path)
    assert {tuple(row[4]) for row in found.rows()} == {("far",)}
    said(found, "not all files have them: 1 (near)")


def test_a_file_is_read_in_small_parts(tmp_path):
    r = np.random.default_rng(0)
    images = [r.bytes(60_000) for _ in range(1000)]
    pq.write_table(
        pa.table(dict(image=images, label=[0, 1] * 500)), tmp_path / "x.parquet", row_group_size=100, compression="none"
    )
    del images
    before, most = pa.total_allocated_bytes(), 0
    from dans.data.parquet import file_rows

    for _ in file_rows(tmp_path / "x.parquet", "x", "label", "image", ()):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 30_000_000


# --- options


def test_options_reach_the_reader_and_prepare(tmp_path):
    path = class_folder(tmp_path / "photos")
    found, ready = open_source(
        path, [16], tmp_path / "cache", dict(val=0.2, fit="squash", native=20), seed=3, n_train=7, max_train=10
    )
    assert found.sizes == dict(train=10, val=4, test=4) and ready.native == 20 and ready.meta["fit"] == "squash"
    assert found.key == folder(path, val=0.2, seed=3, max_train=10).key
    small, up = open_source(path, [48], tmp_path / "cache", dict(upscale=True))
    assert up.native == 48 and small.key == folder(path).key
    refused(
        lambda: open_source(path, [48], tmp_path / "cache"),
        "20 too small (cat/0.png",
        'skip_bad="small"',
        "-p source.upscale=True",
        "faults-photos.txt",
    )
    scenes, _ = open_source(
        "wake_scenes", [16], tmp_path / "cache", dict(n_train=6), n_train=9, n_val=4, n_test=4, max_train=3, native=32
    )
    assert scenes.sizes == dict(train=6, val=4, test=4) and scenes.side == 32


@pytest.mark.parametrize(
    "options, parts",
    [
        (dict(colour="red"), ["has no option 'colour'", "splits", "skip_bad", "upscale", "fit"]),
        (dict(val="a"), ["val='a' is not a number", "-p source.val=0.1"]),
        (dict(seed=0.5), ["seed=0.5 is not a whole number"]),
        (dict(upscale="maybe"), ["upscale='maybe' is not True or False"]),
        (dict(max_train=True), ["max_train=True"]),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path, options, parts):
    path = class_folder(tmp_path / "photos", n=1)
    refused(lambda: check_source(path, options), *parts)
    refused(lambda: open_source(path, [16], tmp_path / "cache", options), *parts)
    assert not (tmp_path / "cache").exists()


def test_a_folder_named_by_a_number_is_a_folder(tmp_path, monkeypatch):
    class_folder(tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert source(2024).name == "2024"
    refused(lambda: check_source(2025, {}), "data source '2025' is not known")
    refused(lambda: check_source("x" * 5000, {}), "is not known")
    refused(lambda: check_source("~nobody/x", {}), "is not known")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source("~/2024").name == "2024"


def test_options_of_photographs_reach_a_collage(tmp_path):
    class_folder(tmp_path / "photos", ("invalid", "valid"), n=30)
    (tmp_path / "photos/valid/0.png").write_bytes(b"")
    refused(lambda: source(f"collage:{tmp_path}/photos", n_train=4), "splits=")
    refused(lambda: source(f"collage:{tmp_path}/photos", splits="none", n_train=4), "valid/0.png", "skip_bad=")
    assert (
        source(f"collage:{tmp_path}/photos", splits="none", skip_bad=True, n_train=4, n_val=2, n_test=2).sizes["train"]
        == 4
    )


def test_notes_are_said_once_where_a_source_is_prepared(tmp_path, capsys):
    path = class_folder(tmp_path / "photos")
    (path / "cat/notes.txt").write_text("")
    prepare(folder(path), [16], tmp_path / "cache")
    assert capsys.readouterr().err.count("photos: files left out because they are no images: 1 (.txt 1)\n") == 1


def test_a_remedy_is_given_for_all_ways_of_use():
    assert (
        option("image", "img")
        == 'image="img" (on the command line: -p source.image=img; in a notebook: source_options = {"image": "img"})'
    )
    assert (
        option("val", 0.1)
        == 'val=0.1 (on the command line: -p source.val=0.1; in a notebook: source_options = {"val": 0.1})'
    )
    assert "-p 'source.label=my class'" in option("label", "my class")


def test_every_option_that_a_remedy_names_is_one():
    "Of a reader, of `prepare`, or of the embedded scenes; the command line takes the same names."
    known = {
        name
        for make in (folder, parquet, wake_scenes, wake_vision, tiny_imagenet, prepare)
        for name in inspect.signature(make).parameters
    }
    named = set()
    for path in Path(dans.__file__).parent.rglob("*.py"):
        named |= set(re.findall(r"option\([\"'](\w+)[\"'],", path.read_text()))
    assert len(named) >= 10 and named <= known, named - known


# --- what was read by guess


def test_class_numbers_without_names_beside_names_in_two_orders_are_refused(tmp_path):
    orders = [None, ["cat", "dog"], ["dog", "cat"]]
    for bare in range(3):
        for i, split in enumerate(("train", "val", "test")):
            names = orders[(i - bare) % 3]
            write(tmp_path / f"{split}-0.parquet", label=[0, 1] * 20, metadata=names and dict(label=names))
        refused(
            lambda: parquet(tmp_path),
            f"without names in {('train', 'val', 'test')[bare]}-0.parquet",
            "cat, dog",
            "dog, cat",
            "write the class names into all files",
        )
    names = dict(label=["cat", "dog", "owl"])  # the longer names say the same
    write(tmp_path / "train-0.parquet", label=[0, 1] * 20, metadata=names)
    write(tmp_path / "val-0.parquet", label=[0, 1] * 20, metadata=dict(label=["cat", "dog"]))
    write(tmp_path / "test-0.parquet", label=[0, 1] * 20)
    assert parquet(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize("column", ["split", "Subset", "partition"])
def test_a_column_of_splits_is_the_split(tmp_path, column):
    values = ["train", "train", "Validation", "test", "test"] * 8
    for kind in (pa.string(), pa.dictionary(pa.int8(), pa.string())):
        path = write(tmp_path / "x.parquet", label=[0, 1] * 20, **{column: pa.array(values).cast(kind)})
        found = parquet(path)
        assert found.sizes == dict(train=16, val=8, test=16)
        assert all(values[int(name.split()[-1])].lower().startswith(split) for split, name, *_ in found.rows())
        said(found, f"column '{column}' says the split of each row", 'splits="none"')
        assert parquet(path, splits="none").sizes["train"] == 28
    path = write(tmp_path / "x.parquet", label=[0] * 20 + [1] * 20, **{column: ["train", "test", "extra", None] * 10})
    refused(lambda: parquet(path), "holds extra, no value beside test, train", 'splits="none"', 'splits="names"')
    assert parquet(path, splits="names").sizes["test"] == 10
    # what is shown, not a split
    path = write(tmp_path / "x.parquet", label=[0] * 20 + [1] * 20, **{column: ["train", "bus"] * 20})
    assert sum(parquet(path).sizes.values()) == 40


@pytest.mark.parametrize("name", ["{}_{}.png", "img{1}-{0}.png"])
def test_splits_in_names_of_files_are_asked(tmp_path, name):
    class_folder(tmp_path, n=12)
    for p in sorted(tmp_path.rglob("*.png")):
        p.rename(p.with_name(name.format("test" if int(p.stem) < 4 else "train", p.stem)))
    refused(lambda: folder(tmp_path), "names of all 24 images", 'splits="none"', 'splits="names"')
    found = folder(tmp_path, splits="names")
    assert found.sizes["test"] == 8 and all(("test" in name) == (split == "test") for split, name, *_ in found.rows())
    assert sum(folder(tmp_path, splits="none").sizes.values()) == 24
    (tmp_path / "cat/other.png").write_bytes(encoded(99))
    assert sum(folder(tmp_path).sizes.values()) == 25  # not all names say one


def test_folders_that_repeat_the_same_classes_are_asked(tmp_path):
    holds(tmp_path / "a", "fold1", "fold2", "fold3")
    refused(lambda: folder(tmp_path / "a"), "folders fold1, fold2, fold3, each with cat, dog", 'splits="none"')
    assert folder(tmp_path / "a", splits="none").classes == ("fold1", "fold2", "fold3")
    holds(tmp_path / "b", "cup", "bowl")
    assert folder(tmp_path / "b").classes == ("bowl", "cup")


def test_blank_labels_are_none_and_words_for_none_are_said(tmp_path):
    found = parquet(write(tmp_path / "x.parquet", label=["cat", "dog", "", " "] * 10))
    assert found.classes == ("cat", "dog")
    said(found, "no label: 20")
    found = parquet(write(tmp_path / "x.parquet", label=["cat", "dog", "NaN", "null"] * 10))
    assert found.classes == ("NaN", "cat", "dog", "null")
    said(found, "may mean that there is none", "2 (NaN, null)")


def test_images_with_another_class_in_a_later_split_are_said(tmp_path):
    holds(tmp_path, "train", "test")
    shutil.copy(tmp_path / "train/cat/0.png", tmp_path / "test/dog/same.png")
    shutil.copy(tmp_path / "train/cat/1.png", tmp_path / "test/cat/same.png")
    said(folder(tmp_path, duplicates="drop"), "a later split, too: 2", "in another class: 1 (train/cat/0.png)")


def test_parquet_files_in_the_way_of_images_are_said(tmp_path):
    class_folder(tmp_path, n=12)
    write(tmp_path / "x.parquet", label=[0, 1] * 20)
    shutil.move(tmp_path / "x.parquet", tmp_path.parent / "whole.parquet")
    pq.write_table(pa.table(dict(file=["cat/0.png"], label=[0])), tmp_path / "metadata.parquet")
    refused(
        lambda: source(tmp_path),
        "holds 24 images, too",
        "metadata.parquet has no column of images",
        "move it out of the folder",
    )
    (tmp_path / "metadata.parquet").unlink()
    assert sum(source(tmp_path).sizes.values()) == 24
    (tmp_path / "d").mkdir()
    shutil.move(tmp_path.parent / "whole.parquet", tmp_path / "d/whole.pq")
    assert sum(source(tmp_path / "d").sizes.values()) == 40


def test_names_of_classes_are_composed(tmp_path):
    for split, name, first in (("train", "cafe\u0301", 0), ("test", "caf\u00e9", 100)):
        class_folder(tmp_path / split, (name, "bar"), n=6, first=first)
    assert folder(tmp_path).classes == ("bar", "caf\u00e9")
    class_folder(tmp_path / "train", ("owl", "pub", "zoo"), n=1, first=9000)
    refused(lambda: folder(tmp_path), "class 'owl' is in only one of train and test; so are pub, zoo")


def test_the_remedy_for_a_side_that_is_too_short_works(tmp_path):
    class_folder(tmp_path, n=10, width=24, height=24)
    refused(
        lambda: folder(tmp_path, min_side=100),
        "20 too small",
        "use smaller resolutions (or a lower min_side, where one was given), or enlarge them: upscale=True",
    )
    options = dict(min_side=None, upscale=True)
    assert open_source(tmp_path, [100], tmp_path.parent / "out", options)[1].native == 100
    refused(
        lambda: prepare(folder(tmp_path), [100], tmp_path.parent / "out"),
        "use smaller resolutions, or enlarge them: upscale=True",
    )


def test_splits_that_lead_to_one_folder_are_said(tmp_path):
    class_folder(tmp_path / "all")
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        (tmp_path / "set" / split).symlink_to(tmp_path / "all")
    refused(lambda: folder(tmp_path / "set"), "test and train in", "lead to one folder", "a folder of its own")


def test_remedies_for_several_kinds_are_told_apart():
    message = str(bad_images("x", [bad("truncated", "a"), bad("unreadable", "b"), bad("truncated", "c")]))
    assert "truncated: replace or delete them; unreadable: replace or delete them (formats" in message
    assert "truncated: " not in str(bad_images("x", [bad("truncated", "a"), bad("truncated", "c")]))


def test_a_source_says_which_splits_were_cut(tmp_path):
    "A given validation split, as by camera, is never mixed with others; one that was cut may be."
    class_folder(tmp_path / "plain")
    for split, first in (("train", 0), ("val", 5000)):
        class_folder(tmp_path / "given" / split, first=first)
    assert source(tmp_path / "plain").cut == ("test", "val") and source(tmp_path / "given").cut == ("test",)
