"Sources: what is read, how splits are cut, and what bad input says."

import io
import os
import shutil
import struct
import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_data import (
    LABELS,
    class_folder,
    encoded,
    parquet_file,
    persons,
    photos,
    pixels,
    refused,
    wake_vision_parquet,
    wake_vision_rows,
    wake_vision_tfds,
)
from PIL import Image

from dans.data import scenes
from dans.data.catalogue import collage
from dans.data.columns import PERSON
from dans.data.folders import folder
from dans.data.images import MAX_PIXELS, decode
from dans.data.parquet import parquet
from dans.data.scenes import draw_collage
from dans.data.splits import cut, digest, limited
from dans.data.tfds import wake_vision
from dans.net.metrics import f1, report


def by_split(source):
    "split -> set of digests, and a check that all rows are what `sizes` says."
    found = {split: [] for split in source.sizes}
    for split, _, content, _, _ in source.rows():
        found[split].append(digest(content))
    assert {split: len(rows) for split, rows in found.items()} == source.sizes
    return {split: set(rows) for split, rows in found.items()}


def disjoint(source):
    a, b, c = by_split(source).values()
    return not (a & b or a & c or b & c)


# --- splits

rows = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=0, max_size=60)


@given(rows, st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_cutting_keeps_equal_images_together_and_serves_every_class(rows, seed):
    base = [(100 * label + i, label) for label in range(3) for i in range(3)]  # three different images for each class
    contents, labels = zip(*(base + rows))
    digests = [digest(bytes([c % 256, c // 256])) for c in contents]
    splits = cut(["train"] * len(labels), labels, digests, "abc", dict(test=0.2, val=0.1), seed)
    assert len({(d, s) for d, s in zip(digests, splits)}) == len(set(digests))
    owner = {}
    for d, label in zip(digests, labels):
        owner.setdefault(d, label)
    served = {(owner[d], s) for d, s in zip(digests, splits)}
    assert all((label, s) in served for label in set(owner.values()) for s in ("train", "val", "test"))


def test_a_cut_depends_on_content_and_seed_alone(tmp_path):
    class_folder(tmp_path / "a", n=20)
    for i, p in enumerate(sorted((tmp_path / "a").rglob("*.png"))):  # other names, another order
        (tmp_path / "b" / p.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(p, tmp_path / "b" / p.parent.name / f"{zlib.crc32(p.name.encode()):x}-{i}.png")
    a, b = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert by_split(a) == by_split(b)
    assert a.key != b.key == folder(tmp_path / "b").key
    assert by_split(folder(tmp_path / "a", seed=1)) != by_split(a)
    assert a.sizes == dict(train=28, val=4, test=8) and disjoint(a)


def test_limits_draw_nested_random_rows():
    digests = [digest(bytes([i])) for i in range(200)]
    splits = ["train"] * 150 + ["test"] * 50
    kept = {
        n: {i for i, s in enumerate(limited(splits, digests, dict(train=n), 0)) if s == "train"} for n in (10, 60, 500)
    }
    assert kept[10] < kept[60] < kept[500]
    assert [len(k) for k in kept.values()] == [10, 60, 150]
    assert max(kept[10]) > 60  # not the first rows
    assert Counter(limited(splits, digests, dict(train=10), 0))["test"] == 50


# --- folders


def test_given_splits_are_kept_and_missing_ones_cut_from_train(tmp_path):
    class_folder(tmp_path / "train", n=20)
    class_folder(tmp_path / "test", n=5, first=500)
    source = folder(tmp_path)
    assert source.sizes == dict(train=36, val=4, test=10)
    assert "val (10%) cut from train" in source.notes[0] and disjoint(source)
    class_folder(tmp_path / "validation", n=3, first=700)
    assert folder(tmp_path).sizes == dict(train=40, val=6, test=10)
    assert not folder(tmp_path).notes


def test_what_is_no_image_is_counted(tmp_path):
    class_folder(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("a cat")
    (tmp_path / "cat" / "._0.png").write_bytes(b"resource fork")
    (tmp_path / ".hidden").mkdir()
    source = folder(tmp_path)
    assert sum(source.sizes.values()) == 20
    assert source.notes[:2] == (
        "hidden files and folders left out: 2 (.hidden, cat/._0.png)",
        "files left out because they are no images: 1 (.txt 1)",
    )


def test_key_follows_content(tmp_path):
    class_folder(tmp_path)
    keys = {folder(tmp_path).key, folder(tmp_path, seed=1).key, folder(tmp_path, max_train=8).key}
    (tmp_path / "cat" / "3.png").write_bytes(encoded(77))
    keys.add(folder(tmp_path).key)
    (tmp_path / "cat" / "3.png").rename(tmp_path / "cat" / "33.png")
    keys.add(folder(tmp_path).key)
    assert len(keys) == 5


def test_rows_notice_a_file_that_changed(tmp_path):
    class_folder(tmp_path)
    source = folder(tmp_path)
    (tmp_path / "dog" / "9.png").write_bytes(encoded(77))
    refused(lambda: list(source.rows()), "dog/9.png has changed", "start again")
    (tmp_path / "dog" / "9.png").unlink()
    refused(lambda: list(source.rows()), "dog/9.png is not a readable image")


def overlap(path):
    class_folder(path / "train", n=5)
    class_folder(path / "test", n=5, first=500)
    shutil.copy(path / "train" / "dog" / "2.png", path / "test" / "dog" / "same.png")


def one_bad(content):
    def change(path):
        class_folder(path)
        (path / "dog" / "4.png").write_bytes(content)

    return change


def bomb(width, height):
    "A PNG of a few bytes that claims a size."

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )


BAD_FOLDERS = {
    "missing": (lambda p: None, ["photos does not exist", "check the path"]),
    "a file": (lambda p: p.write_text(""), ["photos does not exist", "check the path"]),
    "nothing in it": (lambda p: p.mkdir(), ["photos has no class folders", "cat/1.png"]),
    "images without classes": (
        lambda p: (p.mkdir(), (p / "1.png").write_bytes(encoded(0))),
        ["photos has no class folders"],
    ),
    "one class": (lambda p: class_folder(p, ["cat"]), ["photos has one class ('cat')", "add a folder"]),
    "empty class": (
        lambda p: (class_folder(p), (p / "owl").mkdir()),
        ["photos/owl holds no image", "add images or delete the folder"],
    ),
    "too few": (lambda p: class_folder(p, n=2), ["class 'cat' has too few different images (2)", "add images"]),
    "unreadable": (one_bad(b"GIF89a but no more"), ["dog/4.png is not a readable image", "replace or delete it"]),
    "empty file": (one_bad(b""), ["dog/4.png is not a readable image"]),
    "postscript": (
        one_bad(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ["dog/4.png is not a readable image"],
    ),
    "large": (one_bad(bomb(10_000, 10_000)), [f"dog/4.png has more than {MAX_PIXELS:,} pixels", "reduce it"]),
    "bomb": (one_bad(bomb(60_000, 60_000)), [f"dog/4.png has more than {MAX_PIXELS:,} pixels", "reduce it"]),
    "overlap": (overlap, ["train/dog/2.png (train) and test/dog/same.png (test) are the same image", "delete one"]),
    "other classes": (
        lambda p: (class_folder(p / "train"), class_folder(p / "val", ("cat", "owl"), first=500)),
        ["class 'dog' is in only one of train and val", "same class folders"],
    ),
    "no train": (
        lambda p: (class_folder(p / "val"), class_folder(p / "test", first=500)),
        ["photos has the folders test, val", "train always there"],
    ),
    "train and more": (
        lambda p: (class_folder(p / "train"), class_folder(p / "extra", first=500)),
        ["photos has the folder extra beside train"],
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_bad_folders(tmp_path, name):
    make, parts = BAD_FOLDERS[name]
    make(tmp_path / "photos")
    refused(lambda: folder(tmp_path / "photos"), *parts)


@pytest.mark.parametrize("shares", [dict(val=0), dict(test=1.2), dict(val=0.5, test=0.5), dict(val=-0.1)])
def test_shares_must_leave_images_to_train_on(tmp_path, shares):
    class_folder(tmp_path)
    refused(
        lambda: folder(tmp_path, **shares),
        "leave nothing to train on",
        "val=0.1 (on the command line: -p source.val=0.1; ",
        ") and test=0.2 (on",
    )


# --- decoding


def test_every_mode_becomes_upright_rgb():
    image = Image.fromarray(pixels(0))
    for mode, format in [
        ("L", "PNG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("RGB", "WEBP"),
    ]:
        file = io.BytesIO()
        image.convert(mode).save(file, format)
        assert decode(file.getvalue()).mode == "RGB" and decode(file.getvalue()).size == (40, 32)
    grey = (pixels(0)[..., 0].astype(np.uint16) << 8) + 7  # 16 bits keep their upper 8
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    assert (np.asarray(decode(file.getvalue()))[..., 1] == pixels(0)[..., 0]).all()


def test_exif_orientation_is_respected():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, "PNG", exif=exif)
    assert (np.asarray(decode(file.getvalue())) == np.rot90(pixels(0), -1)).all()


def test_a_truncated_file_and_32_bits_are_refused():
    refused(lambda: decode(encoded(0, format="JPEG")[:-200], "a.jpg"), "a.jpg is not a readable image")
    file = io.BytesIO()
    Image.fromarray(pixels(0)[..., 0].astype(np.float32)).save(file, "TIFF")
    refused(lambda: decode(file.getvalue(), "a.tif"), "a.tif has 32 bits per channel", "8 bits")


# --- parquet


def test_a_single_file_is_cut_and_named_by_its_metadata(tmp_path):
    path = parquet_file(tmp_path / "train-0.parquet", [0, 1, 2] * 20, names=["ant", "bee", "cow"])
    source = parquet(path)
    assert source.classes == ("ant", "bee", "cow")
    assert source.sizes == dict(train=42, val=6, test=12) and disjoint(source)
    assert all(content == encoded(int(name.split()[-1])) for _, name, content, _, _ in source.rows())
    assert parquet(tmp_path).key == source.key
    parquet_file(tmp_path / "other.parquet", [0, 1] * 5)
    assert parquet(tmp_path / "other.parquet").classes == ("0", "1")


def test_duplicates_across_files_stay_together(tmp_path):
    parquet_file(tmp_path / "a.parquet", [0, 1] * 20)
    parquet_file(tmp_path / "b.parquet", [0, 1] * 20)  # the same images again
    source = parquet(tmp_path)
    assert sum(source.sizes.values()) == 80 and disjoint(source)


def test_wake_vision_columns(tmp_path):
    for first, (name, n) in enumerate(dict(train_quality=42, validation=14, test=21).items()):
        wake_vision_parquet(tmp_path / f"{name}-00000-of-00001.parquet", n, 1000 * first)
    source = parquet(tmp_path)
    assert source.classes == PERSON
    assert source.sizes == dict(train=36, val=12, test=18)  # one row in seven has person = -1
    assert "rows dropped because they have no label: 11" in source.notes
    rows = list(source.rows())
    assert set(rows[0][4]) == {*LABELS, "filename"}
    frame = wake_vision_rows(21, 2000).set_index("filename")
    for split, _, content, label, attributes in rows:
        if split == "test":
            row = frame.loc[attributes["filename"]]
            assert (label, attributes["far"]) == (row.person, row.far) and content == encoded(
                int(attributes["filename"][:5])
            )
    limited = parquet(tmp_path, max_train=10, max_val=4)
    assert limited.sizes == dict(train=10, val=4, test=18) and limited.key != source.key


def test_attributes_are_part_of_the_key(tmp_path):
    keys = [
        parquet(parquet_file(tmp_path / "x.parquet", [0, 1] * 5, columns=dict(far=pa.array([far] * 10)))).key
        for far in (1, 2, 1)
    ]
    assert keys[0] == keys[2] != keys[1]


def broken(path):
    parquet_file(path, [0, 1] * 20)
    path.write_bytes(path.read_bytes()[:-40])


def damaged(path):
    parquet_file(path, [0, 1] * 20)
    content = bytearray(path.read_bytes())
    content[4 : len(content) * 2 // 3] = bytes(len(content) * 2 // 3 - 4)
    path.write_bytes(bytes(content))


def table(**columns):
    return lambda p: pq.write_table(pa.table(columns), p)


PNG = encoded(0)
BAD_PARQUETS = {
    "missing": (lambda p: None, {}, ["x.parquet is no parquet file and holds none"]),
    "no label": (
        table(image=[dict(bytes=PNG, path="")], animal=[0], owner=[1]),
        {},
        [
            "columns image (struct<bytes: binary, path: string>), animal (int64), owner (int64), but no 'label'",
            'label="animal"',
        ],
    ),
    "no image": (table(picture=[PNG], mask=[PNG], label=[0]), {}, ["picture", "but no 'image'", 'image="picture"']),
    "named column": (table(image=[dict(bytes=PNG, path="")], label=[0]), dict(label="breed"), ["but no 'breed'"]),
    "lists of labels": (
        table(image=[dict(bytes=PNG, path="")], label=[["cat"]]),
        {},
        ["label (list<", "'label' must hold one class for each row"],
    ),
    "image of numbers": (table(image=[3, 4], label=[0, 1]), {}, ["image (int64)", "'image' must hold files"]),
    "no bytes": (
        table(
            image=pa.array(
                [dict(bytes=None, path="a.png")] * 2, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            ),
            label=[0, 1],
        ),
        {},
        ["2 without bytes (x.parquet row 0, x.parquet row 1)", "not paths alone"],
    ),
    "unreadable": (
        table(image=[dict(bytes=PNG, path=""), dict(bytes=b"no", path="")], label=[0, 1]),
        {},
        ["x.parquet row 1 is not a readable image"],
    ),
    "one class": (lambda p: parquet_file(p, [0] * 9), {}, ["x.parquet has one class"]),
    "label above the names": (
        lambda p: parquet_file(p, [0, 1, 2] * 9, names=["ant", "bee"]),
        {},
        ["x.parquet row 2 has label 2", "from 0 to 1"],
    ),
    "no class numbers": (
        lambda p: pq.write_table(pa.table(dict(image=[PNG] * 10_001, label=range(10_001))), p),
        {},
        ["has more than 10,000 different labels", "label="],
    ),
    "no rows": (lambda p: parquet_file(p, [], names=["ant", "bee"]), {}, ["train has no image"]),
    "not parquet": (lambda p: p.write_text("label,image"), {}, ["x.parquet is not a readable parquet file"]),
    "cut off": (broken, {}, ["x.parquet is not a readable parquet file"]),
    "damaged": (damaged, {}, ["x.parquet is not a readable parquet file", "download"]),
    "nothing left": (lambda p: parquet_file(p, [0, 1] * 9), dict(max_val=0), ["val has no image", "raise max_val"]),
}


@pytest.mark.parametrize("name", BAD_PARQUETS)
def test_bad_parquets(tmp_path, name):
    make, options, parts = BAD_PARQUETS[name]
    make(tmp_path / "x.parquet")
    refused(lambda: parquet(tmp_path / "x.parquet", **options), *parts)


def test_bad_folders_of_parquets(tmp_path):
    refused(lambda: parquet(tmp_path), "holds none")
    wake_vision_parquet(tmp_path / "test-0.parquet", 14)
    refused(lambda: parquet(tmp_path), "has no files to train on")
    wake_vision_parquet(tmp_path / "train_large-0.parquet", 14, 100)
    wake_vision_parquet(tmp_path / "train_quality-0.parquet", 14, 200)
    refused(lambda: parquet(tmp_path), "train_large- and train_quality- files to train on", "keep one kind")
    (tmp_path / "train_quality-0.parquet").rename(tmp_path / "more.parquet")
    refused(lambda: parquet(tmp_path), "more.parquet has no split in its name")
    (tmp_path / "more.parquet").unlink()
    wake_vision_parquet(tmp_path / "validation-0.parquet", 14, 105)
    refused(
        lambda: parquet(tmp_path),
        "train_large-0.parquet row 5 (train) and validation-0.parquet row 0 (val) are the same image",
    )


# --- TensorFlow Datasets


def test_wake_vision_from_tfds(tmp_path):
    refused(lambda: wake_vision(tmp_path), "holds no wake_vision/1.0.0", "tfds build wake_vision --data_dir=")
    sizes = dict(train_quality=28, validation=14, test=21)
    wake_vision_tfds(tmp_path, sizes)
    refused(lambda: wake_vision(tmp_path, train="train_large"), "no split 'train_large'", "train_quality")
    source = wake_vision(tmp_path)
    assert source.classes == PERSON and source.sizes == dict(train=24, val=12, test=18) and source.side == 32
    assert "rows dropped because they have no label: 9" in source.notes and disjoint(source)
    frame = wake_vision_rows(21, 2000).set_index("filename")
    for split, _, content, label, attributes in source.rows():
        assert set(attributes) == {*LABELS, "filename"} and label >= 0
        if split == "test":
            number = int(attributes["filename"][:5])
            assert label == frame.person[attributes["filename"]] and content == encoded(number, format="JPEG")
    assert wake_vision(tmp_path).key == source.key
    assert wake_vision(tmp_path, max_train=5).sizes["train"] == 5


# --- collages

SMALL = dict(n_train=12, n_val=6, n_test=6, native=48)


def flat(path, n=30, classes=("cat", "dog", "emu")):
    "Folders of photographs of one colour each, which says class and number."
    for c, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (40, 32), (i, c, 7)).save(path / name / f"{i}.png")
    return path


def seen(monkeypatch, source):
    "split -> (class, number) of the photographs that `source` hands on, without and with an object."
    found = {}

    def spy(subjects, clutter, seed, split, *rest):
        found[split] = [{(int(p[0, 0, 1]), int(p[0, 0, 0])) for p in some} for some in (clutter, subjects[1])]
        assert {(int(p[0, 0, 1]), int(p[0, 0, 0])) for p in subjects[0]} <= found[split][0]
        return draw_collage(subjects, clutter, seed, split, *rest)

    monkeypatch.setattr(scenes, "draw_collage", spy)
    list(source.rows())
    return found


def test_photographs_of_splits_never_meet(tmp_path, monkeypatch):
    source = collage(flat(tmp_path / "photos"), ("dog", "emu"), **SMALL)
    found = seen(monkeypatch, source)
    used = [p for split in found.values() for some in split for p in some]
    assert len(used) == len(set(used)) and {split: len(some[0]) for split, some in found.items()} == dict(
        train=18, val=6, test=6
    )
    even = seen(monkeypatch, collage(tmp_path / "photos", ("dog", "emu"), **SMALL, match_edges=True))
    assert all({c for c, _ in present} == {1, 2} and len(present) == len(absent) for absent, present in even.values())
    for absent, present in found.values():
        assert len(present) == 2 * len(absent)
        assert {c for c, _ in absent} == {0} and {c for c, _ in present} == {1, 2}
    assert seen(monkeypatch, collage(tmp_path / "photos", ("dog", "emu"), **SMALL, seed=5)) == found


def test_collages_by_key(tmp_path):
    path = flat(tmp_path / "photos")
    parquet_file(tmp_path / "x.parquet", [0, 1, 2] * 40)
    made = [
        collage(path, "cat", **SMALL),
        collage(path, ["dog"], **SMALL),
        collage(path, "cat", **SMALL, seed=1),
        collage(path, "cat", **SMALL, far=0.6),
        collage(path, "cat", **SMALL, label_noise=0),
        collage(path, "cat", **SMALL, max_photos=40),
        collage(path, "cat", **SMALL, match_edges=True),
        collage(path, "cat", **SMALL | dict(native=64)),
        collage(path, "cat", **SMALL | dict(n_val=7)),
        collage(tmp_path / "x.parquet", "1", **SMALL),
    ]
    assert len({source.key for source in made}) == len(made)
    assert collage(path, ("emu", "dog"), **SMALL).key == collage(path, ("dog", "emu"), **SMALL).key
    assert collage(path, **SMALL).key == collage(path, "emu", **SMALL).key  # the second half of three classes
    Image.new("RGB", (40, 32), (200, 0, 0)).save(path / "cat" / "0.png")
    assert collage(path, "cat", **SMALL).key != made[0].key
    rows, again = (list(made[-1].rows()) for _ in range(2))
    assert all((a[2] == b[2]).all() and a[3:] == b[3:] for a, b in zip(rows, again))
    assert Counter(row[0] for row in rows) == made[-1].sizes == dict(train=12, val=6, test=6)
    assert rows[0][2].shape == (48, 48, 3) and made[-1].side == 48 and made[-1].classes == ("absent", "present")


def test_labels_of_collages_are_noisy_in_train_and_val_only(tmp_path):
    source = collage(flat(tmp_path / "photos"), n_train=300, n_val=300, n_test=300, native=16, label_noise=0.2)
    wrong = Counter(split for split, _, _, label, values in source.rows() if label != values["present"])
    assert 30 < wrong["train"] < 90 and 30 < wrong["val"] < 90 and not wrong["test"]


def test_given_splits_of_photographs_are_kept(tmp_path, monkeypatch):
    for first, split in enumerate(("train", "val", "test")):
        for c, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(6):
                Image.new("RGB", (32, 32), (20 * first + i, c, 0)).save(tmp_path / split / name / f"{i}.png")
    found = seen(monkeypatch, collage(tmp_path, **SMALL))
    assert [min(present)[1] for _, present in found.values()] == [0, 20, 40]


def test_large_photographs_are_cut_and_reduced(tmp_path, monkeypatch):
    class_folder(tmp_path, n=30, width=200, height=90)
    sides = []
    monkeypatch.setattr(
        scenes,
        "draw_collage",
        lambda subjects, clutter, *rest: (
            sides.extend(p.shape for p in (*subjects[1], *clutter))
            or (np.zeros((48, 48, 3), np.uint8), 0, dict(present=0))
        ),
    )
    list(collage(tmp_path, **SMALL).rows())
    assert set(sides) == {(48, 48, 3)}


@pytest.mark.parametrize(
    "options, parts",
    [
        (dict(positive="cow"), ["photos has no class 'cow'", "it has cat, dog, emu"]),
        (
            dict(positive=("cat", "dog", "emu")),
            ["photos has 0 photographs of negative classes in train", "other positive classes"],
        ),
        (dict(max_photos=12), ["photographs of", "5 are needed"]),
        (dict(n_val=0), ["number of images 0", "at least 1"]),
        (dict(far=2), ["share of far subjects 2"]),
        (dict(label_noise=0.9), ["label noise 0.9"]),
        (dict(native=4), ["native size 4"]),
    ],
)
def test_bad_collages(tmp_path, options, parts):
    flat(tmp_path / "photos")
    refused(lambda: collage(tmp_path / "photos", **SMALL | options), *parts)


def test_collages_of_too_few_or_no_photographs(tmp_path):
    refused(lambda: collage(tmp_path / "none"), "none does not exist", "check the path")
    flat(tmp_path / "photos", n=10)
    refused(lambda: collage(tmp_path / "photos"), "photos has 2 photographs of positive classes in val", "5 are needed")


# --- photographs


@photos
def test_photographs():
    source = parquet(os.environ["DANS_PHOTOS"], max_train=2000, max_val=300, max_test=500)
    assert source.sizes == dict(train=2000, val=300, test=500) and disjoint(source)
    assert len(source.classes) == 10 and "cat" in source.classes and source.side == 32
    labels = Counter(label for split, _, _, label, _ in source.rows() if split == "train")
    assert min(labels.values()) > 120


@photos
@pytest.mark.parametrize("match, most", [(False, 0.65), (True, 0.6)])
def test_collages_of_photographs(match, most):
    """What pixels at 16 px, colours, edges and file size say of animals among vehicles: at most 0.60, and 0.55 once
    edges are matched; three standard errors of 1,000 canvases on top."""
    from test_scenes import features, shortcut

    animals = ("bird", "cat", "deer", "dog", "frog", "horse")
    source = collage(
        os.environ["DANS_PHOTOS"],
        animals,
        n_train=2000,
        n_val=1000,
        n_test=1,
        native=64,
        label_noise=0,
        max_photos=5000,
        match_edges=match,
    )
    rows = list(source.rows())  # once: every canvas is composed anew
    (a, labels_a), (b, labels_b) = (
        (np.stack(images), np.array(labels))
        for images, labels in (zip(*(row[2:4] for row in rows if row[0] == split)) for split in ("train", "val"))
    )
    fa, fb = features(a), features(b)
    found = {name: shortcut(name, fa, labels_a, fb, labels_b) for name in fa}
    assert max(found.values()) < most, found


@persons
def test_photographs_of_persons_are_read_with_their_distances():
    "F1 of persons at each distance, of a pretended network that is surer the more of the image a person fills."
    source = parquet(os.environ["DANS_PERSON"])
    assert (source.classes, source.sizes, source.side) == (PERSON, dict(train=3556, val=274, test=414), 160)
    rows = [(label, values) for split, _, _, label, values in source.rows() if split == "test"]
    labels = np.array([label for label, _ in rows])
    assert set(rows[0][1]) == {"near", "medium_distance", "far", "dark", "normal_lighting", "bright"} | {
        "person_area",
        "photo",
        "source",
    }
    logits = np.stack([np.full(len(rows), 0.3), [values["person_area"] for _, values in rows]], 1)
    found = {}
    for distance in ("near", "medium_distance", "far"):
        at = np.array([values[distance] == 1 for _, values in rows])
        assert labels[at].all()
        said = report(labels[at | (labels == 0)], logits[at | (labels == 0)], source.classes)
        found[distance] = said["images"] - 207, f1(np.array(said["confusion"]))[1]
    assert [n for n, _ in found.values()] == [28, 143, 36]
    assert found["near"][1] == 1 > found["medium_distance"][1] > 0.5 and not found["far"][1] > 0
