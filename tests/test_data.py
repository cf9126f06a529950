"Data: one filter, crops, and a cache that is whole or not there."

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_data import class_folder, drawn, encoded, parquet_file, photos, pixels, refused, wake_vision_parquet
from PIL import Image

import dans.data
import dans.data.catalogue
import dans.data.prepared
from dans.data.catalogue import collage, source, wake_scenes
from dans.data.folders import folder
from dans.data.images import decode
from dans.data.parquet import parquet
from dans.data.prepared import Prepared, RowFile, prepare
from dans.files import mine
from dans.frontends import ImageConfig, crops, draw_boxes, reduce
from dans.house import DansError


def nothing_left(cache):
    return not cache.exists() or not any(cache.iterdir())


# --- the filter


def test_mono_is_luma_of_the_reduced_colours():
    image = pixels(0, 96, 96)
    luma = reduce(image, 32).astype(float) @ [0.299, 0.587, 0.114]
    assert reduce(image, 32, "mono").shape == (32, 32, 1)
    assert np.abs(reduce(image, 32, "mono")[..., 0] - luma).max() <= 0.51


@pytest.mark.parametrize("angle", ["columns", "rows", "diagonal"])
def test_texture_finer_than_the_grid_does_not_come_back(angle):
    y, x = np.mgrid[:128, :128]
    phase = dict(columns=x, rows=y, diagonal=x + y)[angle] * 2 * np.pi / 2.9  # finest grid after reduction: 8 pixels
    image = np.repeat((127.5 + 127.5 * np.sin(phase))[..., None], 3, -1).astype(np.uint8)
    small = reduce(image, 32)[2:-2, 2:-2]
    picked = image[2::4, 2::4][2:-2, 2:-2]
    assert image.std() > 80 and picked.std() > 80
    assert small.std() < 4


def test_broad_pattern_is_kept():
    wave = 127.5 + 100 * np.sin(np.arange(128) * 2 * np.pi / 64)
    image = np.repeat(np.repeat(wave[None], 128, 0)[..., None], 3, -1).astype(np.uint8)
    assert abs(reduce(image, 32).std() - image.std()) < 3
    assert abs(reduce(image, 32).mean() - image.mean()) < 1


def test_reduce_takes_arrays_and_pillow_images_alike():
    image = pixels(1, 64, 64)
    assert (reduce(image, 24) == reduce(Image.fromarray(image), 24)).all()
    assert (reduce(image, 64) == image).all()


# --- crops


def test_a_crop_of_everything_is_what_evaluation_sees():
    images = np.stack([pixels(i, 48, 48) for i in range(6)])
    whole, still = np.tile([0.0, 0.0, 48.0, 48.0], (6, 1)), np.zeros(6, bool)
    for color in ("rgb", "mono"):
        for r in (8, 31, 48, 64):
            found = crops(images, whole, still, ImageConfig(r, color))
            assert found.dtype == np.uint8
            assert all((a == reduce(b, r, color)).all() for a, b in zip(found, images))
            assert (crops(images, whole, ~still, ImageConfig(r, color)) == found[:, :, ::-1]).all()


def test_a_crop_shows_its_box():
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 16:48, 32:64, 0] = 200
    assert (crops(image, [[32, 16, 64, 48]], [False], ImageConfig(16))[0, 1:-1, 1:-1, 0] == 200).all()
    assert crops(image, [[0, 0, 30, 64]], [False], ImageConfig(16)).max() == 0
    with pytest.raises(ValueError):
        crops(image, [[0, 0, 30, 64]] * 2, [False] * 2, ImageConfig(16))


def test_boxes_stay_inside_and_keep_area_and_aspect():
    boxes, flips = draw_boxes(np.random.default_rng(0), 5000, 128)
    again, _ = draw_boxes(np.random.default_rng(0), 5000, 128)
    assert (boxes == again).all()
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 128
    assert (w * h / 128**2).min() > 0.599 and (w * h / 128**2).max() <= 1
    assert (w / h).min() > 0.749 and (w / h).max() < 1.334
    assert 0.47 < flips.mean() < 0.53 and np.ptp(boxes[:, 0]) > 20
    small, _ = draw_boxes(np.random.default_rng(0), 100, 128, area=(0.1, 0.2))
    assert (np.prod(small[:, 2:] - small[:, :2], axis=1) < 0.21 * 128**2).all()


# --- preparing


def test_prepared_rows_are_the_sources_rows(tmp_path):
    path = parquet_file(tmp_path / "x.parquet", [0, 1, 2] * 20, size=(40, 32))
    found = parquet(path)
    prepared = prepare(found, [8, 16], tmp_path / "cache")
    assert prepared.native == 32 and prepared.sizes == found.sizes and prepared.classes == ("0", "1", "2")
    wanted = {split: Counter() for split in found.sizes}
    for split, _name, content, label, _ in found.rows():
        image = decode(content).crop((4, 0, 36, 32))  # the centre, at its own size
        wanted[split][np.asarray(image).tobytes(), label] += 1
    for split in found.sizes:
        rows = zip(prepared.images(split), prepared.labels(split).tolist())
        assert Counter((image.tobytes(), label) for image, label in rows) == wanted[split]
        assert prepared.attributes(split) is None
    order = [label for split, _, _, label, _ in found.rows() if split == "train"]
    assert prepared.labels("train").tolist() != order  # shuffled


def test_attributes_stay_with_their_images(tmp_path):
    for first, (name, n) in enumerate(dict(train=42, validation=14, test=14).items()):
        wake_vision_parquet(tmp_path / f"{name}-0.parquet", n, 1000 * first)
    prepared = prepare(source(tmp_path), [16], tmp_path / "cache")
    rows = prepared.attributes("train")
    assert len(rows) == 36 and rows.far.tolist() == prepared.labels("train").tolist()
    i = 5
    assert (
        prepared.images("train")[i] == reduce(decode(encoded(int(rows.filename[i][:5]))), 32, box=(4, 0, 36, 32))
    ).all()
    some = prepared.view("train", ImageConfig(16), n=7)
    assert len(some) == len(some.attributes) == len(some.images) == 7
    assert some.attributes.equals(rows[:7]) and (some.labels == prepared.labels("train")[:7]).all()


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_squares(tmp_path, fit):
    class_folder(tmp_path / "photos", n=5, width=90, height=60)
    prepared = prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache", fit=fit)
    assert prepared.native == 32
    wanted = [reduce(pixels(i, 90, 60), 32, box=(15, 0, 75, 60) if fit == "crop" else None).tobytes() for i in range(5)]
    found = {image.tobytes() for split in prepared.sizes for image in prepared.images(split)}
    assert found.issuperset(wanted)


def test_native_size(tmp_path):
    def native(resolutions, side=40, **options):
        return prepare(drawn(side=side), resolutions, tmp_path, **options).native

    assert native([8, 16]) == 32  # twice the largest
    assert native([8, 24]) == 40  # the shortest side
    assert native([8, 16], native=20) == 20
    assert native([64], upscale=True) == 64
    assert native([8, 16], native=64, upscale=True) == 64
    for call, parts in {
        (lambda: native([48])): ["every image of drawn is 40 px on its short side, smaller than 48 px", "upscale=True"],
        (lambda: native([16], native=48)): ["smaller than 48 px"],
        (lambda: native([32], native=16)): ["native size 16 px is below the largest resolution, 32 px", "native=32"],
        (lambda: native([4])): ["resolution 4", "at least 8"],
        (lambda: native([])): ["0 resolutions", "at least one resolution"],
        (lambda: native([16], fit="stretch")): ["fit='stretch'", "crop or squash"],
    }.items():
        refused(call, *parts)


def test_the_smallest_image_is_named(tmp_path):
    class_folder(tmp_path / "photos", n=8, width=64, height=64)
    (tmp_path / "photos" / "dog" / "5.png").write_bytes(encoded(0, 64, 20))
    refused(
        lambda: prepare(folder(tmp_path / "photos"), [32], tmp_path / "cache"),
        "dog/5.png is 20 px on its short side, smaller than 32 px",
        "upscale=True",
        'skip_bad="small"',
        "min_side=32",
    )
    assert nothing_left(tmp_path / "cache")


def test_second_call_neither_decodes_nor_writes(tmp_path, monkeypatch):
    class_folder(tmp_path / "photos")
    first = prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache")
    before = first.images("train").copy()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}

    def never(*args, **kwargs):
        raise AssertionError("decoded again")

    monkeypatch.setattr(dans.data.prepared, "decode", never)
    second = prepare(folder(tmp_path / "photos"), [8, 16], tmp_path / "cache")
    assert second == first and second.key == first.key
    assert (second.images("train") == before).all()
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")} == stamps
    with pytest.raises(AssertionError):
        prepare(folder(tmp_path / "photos", seed=1), [16], tmp_path / "cache")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    class_folder(tmp_path / "photos")
    a, b = (prepare(folder(tmp_path / "photos"), [16], tmp_path / cache) for cache in "ab")
    for p in a.folder.iterdir():
        assert p.read_bytes() == (b.folder / p.name).read_bytes(), p.name


def test_keys_tell_settings_apart(tmp_path):
    found = drawn()
    keys = [
        prepare(found, [8], tmp_path).key,
        prepare(found, [16], tmp_path).key,
        prepare(found, [16], tmp_path, fit="squash").key,
        prepare(drawn(dict(train=4, val=2, test=2)), [16], tmp_path).key,
    ]
    assert len(set(keys)) == 4
    assert keys[0] == prepare(found, [8], tmp_path, native=16).key


# --- the cache is whole or not there


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("power"), DansError("row", "remedy")])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        prepare(drawn(fail_at=45, error=error), [16], tmp_path / "cache")
    assert nothing_left(tmp_path / "cache")
    assert prepare(drawn(), [16], tmp_path / "cache").sizes["train"] == 40


def test_a_truncated_photograph_is_named_and_nothing_is_left(tmp_path):
    class_folder(tmp_path / "photos")
    whole = encoded(99, 200, 200, "JPEG")
    (tmp_path / "photos" / "dog" / "7.jpg").write_bytes(whole[: len(whole) // 2])  # its header is fine
    refused(lambda: prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache"), "dog/7.jpg is not a readable image")
    assert nothing_left(tmp_path / "cache")


KILLED = """
import os, sys
from dataclasses import replace
from dans.data.prepared import prepare
from make_data import drawn
source = drawn(dict(train=200, val=10, test=10))
def rows():
    for i, row in enumerate(source.rows()):
        if i == 150:
            os._exit(9)
        yield row
prepare(replace(source, rows=rows), [16], sys.argv[1])
"""


def test_a_killed_process_leaves_nothing_that_is_used(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    assert subprocess.run([sys.executable, "-c", KILLED, tmp_path], env=env, capture_output=True).returncode == 9
    left = list(tmp_path.iterdir())
    assert len(left) == 1 and left[0].name.startswith(".")
    prepared = prepare(drawn(dict(train=200, val=10, test=10)), [16], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [prepared.key[:16]]
    assert prepared.images("train")[150:].any()


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "meta.json").unlink(),
        lambda f: (f / "meta.json").write_text('{"files": {'),
        lambda f: (f / "train.npy").write_bytes((f / "train.npy").read_bytes()[:-1]),
        lambda f: (f / "val-labels.npy").unlink(),
        lambda f: [p.unlink() for p in f.iterdir()],
    ],
)
def test_a_torn_folder_is_made_anew(tmp_path, harm):
    first = prepare(drawn(), [16], tmp_path)
    wanted = (first.folder / "train.npy").read_bytes()
    harm(first.folder)
    second = prepare(drawn(), [16], tmp_path)
    assert second == first and (second.folder / "train.npy").read_bytes() == wanted


def test_a_second_process_that_finishes_first_wins(tmp_path):
    found = drawn()

    def rows():  # while these are read, the other process prepares the same source
        yield from list(found.rows())[:-1]
        prepare(found, [16], tmp_path)
        yield list(found.rows())[-1]

    prepared = prepare(replace(found, rows=rows), [16], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [prepared.folder.name]
    assert prepared.images("test").shape == (10, 32, 32, 3)


def test_temporary_folders_of_living_processes_stay(tmp_path):
    host = mine().split(".")[0]
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (os.getpid(), os.getppid(), dead.pid):
        (tmp_path / f".0123456789abcdef.{host}.{pid}.00000000").mkdir()
    prepare(drawn(), [16], tmp_path)
    left = {int(p.name.split(".")[3]) for p in tmp_path.iterdir() if p.name.startswith(".")}
    assert left == {os.getpid(), os.getppid()}


# --- disks


def test_space_is_counted_before_anything_is_written(tmp_path, monkeypatch):
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(
        dans.data.prepared.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 2 * 10**6, 2 * 10**6)
    )
    refused(
        lambda: prepare(drawn(dict(train=1000, val=10, test=10)), [16], tmp_path / "cache"),
        "needs 3 MB, its disk has 2 MB free",
        "free some space",
    )
    assert nothing_left(tmp_path / "cache")


@pytest.mark.parametrize(
    "code,part", [(errno.ENOSPC, "No space left"), (errno.EDQUOT, "quota exceeded"), (errno.EROFS, "Read-only")]
)
def test_a_disk_that_fills_up_in_the_middle(tmp_path, monkeypatch, code, part):
    plain, count = RowFile.__setitem__, iter(range(100))

    def fails(self, i, pixels):
        if next(count) == 30:
            raise OSError(code, os.strerror(code))
        plain(self, i, pixels)

    monkeypatch.setattr(RowFile, "__setitem__", fails)
    refused(lambda: prepare(drawn(), [16], tmp_path / "cache"), part, "choose another cache folder")
    assert nothing_left(tmp_path / "cache")


def test_a_real_limit_on_the_size_of_files(tmp_path):
    script = (
        "import resource, sys; from dans.data.prepared import prepare; from make_data import drawn\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: prepare(drawn(), [16], sys.argv[1])\n"
        "except ValueError as e: print(type(e).__name__, e)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    out = subprocess.run([sys.executable, "-c", script, tmp_path / "cache"], env=env, capture_output=True, text=True)
    assert out.stdout.startswith("DansError") and "cannot write" in out.stdout and "free some space" in out.stdout, (
        out.stderr
    )
    assert nothing_left(tmp_path / "cache")


def test_a_cache_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    refused(lambda: prepare(drawn(), [16], tmp_path / "file" / "cache"), "cannot write")


# --- views


def test_views_are_reduced_native_images(tmp_path):
    prepared = prepare(drawn(), [16, 24], tmp_path)
    for data in (ImageConfig(16), ImageConfig(24, "mono"), ImageConfig(32, "mono"), ImageConfig(32)):
        view = prepared.view("val", data)
        assert (
            view.images.shape == (10, data.resolution, data.resolution, data.channels) and view.images.dtype == np.uint8
        )
        assert all(
            (a == reduce(b, data.resolution, data.color)).all() for a, b in zip(view.images, prepared.images("val"))
        )
        assert (view.labels == prepared.labels("val")).all()
    with pytest.raises(ValueError):
        prepared.images("val")[0] = 0  # read only


def test_views_are_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    prepared = prepare(drawn(), [16], tmp_path)
    first = prepared.view("train", ImageConfig(16), n=12)
    (path,) = (prepared.folder / "views").iterdir()
    assert (prepared.view("train", ImageConfig(16)).images[:12] == first.images).all()
    plain = dans.frontends.reduce
    calls = []
    monkeypatch.setattr(dans.frontends, "reduce", lambda *a, **k: calls.append(1) or plain(*a, **k))
    prepared.view("train", ImageConfig(16), n=20)  # the whole view is there: its first rows
    prepared.view("train", ImageConfig(16), n=10**6)
    assert not calls
    (prepared.folder / "views" / "train-16px-rgb-40.npy").unlink()
    path.write_bytes(path.read_bytes()[:100])  # torn
    assert (
        prepared.view("train", ImageConfig(16), n=12).images == [plain(x, 16) for x in prepared.images("train")[:12]]
    ).all()
    assert len(calls) == 12

    def stops(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(dans.frontends, "reduce", stops)
    with pytest.raises(KeyboardInterrupt):
        prepared.view("val", ImageConfig(16))
    assert [p.name for p in (prepared.folder / "views").iterdir()] == [path.name]


def test_views_do_not_enlarge_unless_asked(tmp_path):
    prepared = prepare(drawn(), [16], tmp_path)
    refused(lambda: prepared.view("val", ImageConfig(48)), "48px-rgb is larger than the prepared images, 32 px", "48")
    refused(lambda: prepared.view("dev", ImageConfig(16)), "no split 'dev'", "train, val, test")
    refused(lambda: prepared.view("val", ImageConfig(16), 0), "0 images of a split", "None for all")
    assert prepare(drawn(), [16], tmp_path, upscale=True).view("val", ImageConfig(48)).images.shape[1] == 48


# --- the way back


def forget_names(prepared):
    "`prepared` as before names were kept: without their files, and not a word on these in meta.json."
    files = {name: n for name, n in prepared.meta["files"].items() if not name.endswith("-names.json")}
    for path in prepared.folder.glob("*-names.json"):
        path.unlink()
    meta = prepared.meta | dict(files=files)
    (prepared.folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return Prepared(prepared.folder, prepared.upscale, meta)


def leads_back(found, cache, content_of):
    "Prepare `found`: each name leads to the very image, also where names were not kept. Gives the names."
    prepared = prepare(found, [8, 16], cache)
    names = {split: prepared.names(split) for split in prepared.sizes}
    for split, of in names.items():
        assert len(of) == prepared.sizes[split] == len(set(of))
        for name, image, label in zip(of, prepared.images(split), prepared.labels(split)):
            seen = decode(content_of(name)).crop((4, 0, 36, 32))
            assert (np.asarray(seen) == image).all(), name
            assert " row " in name or prepared.classes[label] in name.split("/")
    key, arrays = prepared.key, {p.name: p.read_bytes() for p in prepared.folder.glob("*.npy")}
    older = forget_names(prepared)
    assert prepare(found, [8, 16], cache) == older and older.key == key  # still whole: not prepared anew
    assert {p.name: p.read_bytes() for p in older.folder.glob("*.npy")} == arrays
    assert not list(older.folder.glob("*-names.json"))
    for split, of in names.items():
        refused(lambda split=split: older.names(split), "before names were kept", f"names('{split}', source)")
        assert older.names(split, found).tolist() == of.tolist()
    return names


@pytest.mark.parametrize(
    "options", [{}, dict(seed=3, max_train=20, max_test=4), dict(val=0.3, test=0.3, max_val=4), dict(min_side=32)]
)
def test_a_name_leads_to_the_file_of_a_folder(tmp_path, options):
    path = class_folder(tmp_path / "photos", ("cat", "dog", "owl"), n=12)
    (path / "dog" / "small.png").write_bytes(encoded(1, 40, 20))
    options = dict(skip_bad="small") | options if "min_side" in options else options
    if "min_side" not in options:
        (path / "dog" / "small.png").unlink()
    (path / "owl" / "copy of 3.png").write_bytes((path / "owl" / "3.png").read_bytes())
    names = leads_back(folder(path, **options), tmp_path / "cache", lambda name: (path / name).read_bytes())
    assert names["train"].tolist() != sorted(names["train"])
    assert "dog/small.png" not in {name for of in names.values() for name in of}


def test_a_name_leads_to_the_file_where_copies_were_dropped(tmp_path):
    path = class_folder(tmp_path / "photos" / "Training", n=10)
    class_folder(tmp_path / "photos" / "Testing", n=5, first=500)
    for i in range(3):
        (tmp_path / "photos" / "Testing" / "cat" / f"seen{i}.png").write_bytes((path / "cat" / f"{i}.png").read_bytes())
    (path / "dog" / "cut.png").write_bytes(encoded(77)[:-30])
    found = folder(tmp_path / "photos", duplicates="drop", skip_bad="truncated", max_train=12)
    root = tmp_path / "photos"
    names = leads_back(found, tmp_path / "cache", lambda name: (root / name).read_bytes())
    assert {name for name in names["test"] if "seen" in name} == {f"Testing/cat/seen{i}.png" for i in range(3)}
    assert not {f"Training/cat/{i}.png" for i in range(3)} & {*names["train"], *names["val"]}


def test_a_name_of_any_bytes_comes_back(tmp_path):
    path = class_folder(tmp_path / "photos", n=9)
    for odd in (b"caf\xe9.png", "\u65e5\u672c\n.png".encode()):
        (path / "cat" / os.fsdecode(odd)).write_bytes(encoded(len(odd) + 70))
    found = folder(path)
    names = leads_back(found, tmp_path / "cache", lambda name: (path / name).read_bytes())
    assert {os.fsencode(n).count(b"caf\xe9") for of in names.values() for n in of} == {0, 1}


@pytest.mark.parametrize("options", [{}, dict(max_train=8, seed=2), dict(splits="none", val=0.3)])
def test_a_name_leads_to_the_row_of_a_parquet_file(tmp_path, options):
    for sub, first in (("a", 0), ("b", 100)):  # two files of one name
        (tmp_path / "pq" / sub).mkdir(parents=True)
        parquet_file(tmp_path / "pq" / sub / "part.parquet", [0, 1, -1, 1, 0] * 5, first)
    first_of = dict(a=0, b=100)

    def content(name):
        file, _, number, path = name.split(" ")
        assert file.endswith("/part.parquet") and path == f"({number}.png)" and int(number) % 5 != 2
        return encoded(first_of[file[0]] + int(number))

    names = leads_back(parquet(tmp_path / "pq", **options), tmp_path / "cache", content)
    assert {name[0] for name in names["train"]} == {"a", "b"}


def test_a_name_leads_to_the_row_where_a_column_says_the_split(tmp_path):
    said = ["train", "test", "extra", "validation", None] * 8
    path = parquet_file(tmp_path / "x.parquet", [0, 1] * 20, columns=dict(split=pa.array(said)))
    names = leads_back(parquet(path, splits="names"), tmp_path / "cache", lambda name: encoded(int(name.split(" ")[2])))
    for i, place in enumerate(("train", "test", None, "val")):
        if place:
            assert sorted(int(name.split(" ")[2]) for name in names[place]) == list(range(i, 40, 5))


def test_rows_without_a_path_have_file_and_number(tmp_path):
    said = pa.array(["train", "train", "test", "none"] * 10)
    table = pa.table(dict(image=[encoded(i) for i in range(40)], label=[0, 1] * 20, split=said))
    pq.write_table(table, tmp_path / "x.parquet")
    for options in (dict(splits="none"), dict(splits="names")):
        found = parquet(tmp_path / "x.parquet", **options)
        names = leads_back(found, tmp_path / "cache", lambda name: encoded(int(name.split(" ")[2])))
        assert all(re.fullmatch(r"x\.parquet row \d+", name) for of in names.values() for name in of)


def test_drawn_images_are_named_by_split_and_number(tmp_path):
    people = prepare(wake_scenes(12, 4, 4, seed=5, native=32), [16], tmp_path)
    for split in people.sizes:
        for name, image in zip(people.names(split), people.images(split)):
            number, of = re.fullmatch(r"scene (\d+) of (\w+)", name).groups()
            assert of == split and (dans.data.catalogue.scenes.draw(5, split, int(number), 32)[0] == image).all()
    class_folder(tmp_path / "photos", n=30)
    found = collage(tmp_path / "photos", n_train=9, n_val=4, n_test=4, native=32)
    made, canvas = prepare(found, [16], tmp_path), {(s, n): image for s, n, image, *_ in found.rows()}
    for name, image in zip(made.names("val"), made.images("val")):
        assert (canvas["val", name.removesuffix(" of val")] == image).all()
    older = forget_names(made)
    assert older.names("val", found).tolist() == made.names("val", found).tolist()


def test_a_source_that_knows_no_places_is_asked_row_by_row(tmp_path):
    prepared = prepare(drawn(), [16], tmp_path)
    for name, image in zip(prepared.names("val"), prepared.images("val")):
        assert (image == pixels(1000 + int(name.split()[1]), 32, 32)).all()
    older = forget_names(prepared)
    assert older.names("val", drawn()).tolist() == [f"val {i}" for i in older.attributes("val")["index"]]


def test_names_of_another_source_are_refused(tmp_path):
    class_folder(tmp_path / "photos")
    older = forget_names(prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache"))
    refused(lambda: older.names("val", folder(tmp_path / "photos", seed=1)), "another source than this photos")
    refused(lambda: older.names("dev"), "no split 'dev'", "train, val, test")


# --- sources


def test_wake_scenes_by_seed(tmp_path):
    sizes = dict(n_train=24, n_val=8, n_test=8, native=32)
    a = prepare(wake_scenes(**sizes), [16], tmp_path / "a")
    b = prepare(source("wake_scenes", **sizes), [16], tmp_path / "b")
    c = prepare(wake_scenes(**sizes, seed=1), [16], tmp_path / "a")
    assert a.key == b.key != c.key
    assert (a.images("train") == b.images("train")).all() and (a.images("train") != c.images("train")).any()
    assert a.sizes == dict(train=24, val=8, test=8) and a.classes == ("no person", "person")
    assert {"near", "medium_distance", "far", "dark", "bright", "depiction"} <= set(a.attributes("val"))
    refused(lambda: wake_scenes(n_val=0), "0 images in val", "n_val")


def test_a_source_that_draws_one_image_twice_is_refused(tmp_path, monkeypatch):
    def stream(n, split, seed, native, far, label_noise):
        return ((np.full((native, native, 3), 7, np.uint8), i % 2, dict(far=0)) for i in range(n))

    monkeypatch.setattr(dans.data.catalogue.scenes, "stream", stream)
    refused(lambda: prepare(wake_scenes(4, 4, 4, native=32), [16], tmp_path / "cache"), "the same image in two splits")
    assert nothing_left(tmp_path / "cache")


def test_a_source_that_gives_too_little(tmp_path):
    found = drawn()
    short = replace(found, rows=lambda: iter(list(found.rows())[:-3]))
    refused(lambda: prepare(short, [16], tmp_path / "cache"), "fewer images in test")
    assert nothing_left(tmp_path / "cache")


def test_sources_by_name(tmp_path):
    class_folder(tmp_path / "photos")
    parquet_file(tmp_path / "x.parquet", [0, 1] * 10)
    assert source(tmp_path / "photos", val=0.2).sizes["val"] == 4
    assert source(str(tmp_path / "x.parquet")).name == "x"
    assert source(tmp_path, max_train=5).sizes["train"] == 5
    class_folder(tmp_path / "more:photos", n=30)
    for spec, positive in ((f"{tmp_path}/more:photos", "dog"), (f"{tmp_path}/more:photos:cat", "cat")):
        made = source(f"collage:{spec}", n_train=9, n_val=4, n_test=4)
        assert made.key == collage(tmp_path / "more:photos", positive, 9, 4, 4).key
    assert prepare(made, [32], tmp_path / "cache").attributes("train").present.sum() > 0
    refused(lambda: source(f"collage:{tmp_path}/more:photos:cat,cow"), "no class 'cow'", "it has cat, dog")
    refused(lambda: source("collage:nowhere"), "nowhere does not exist")
    refused(
        lambda: source("imagenet"),
        "data source 'imagenet' is not known",
        "wake_scenes, wake_vision:DIR, tiny_imagenet:PATH",
    )
    refused(lambda: source(f"wake_vision:{tmp_path}"), "holds no wake_vision/1.0.0")
    refused(lambda: source(tmp_path / "photos", n_train=4), "folder has no option 'n_train'", "max_train")


def test_a_prepared_set_says_what_it_holds(tmp_path):
    class_folder(tmp_path / "photos", ("cat", "dog"), n=20)
    prepared = prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache")
    summary = prepared.summary()
    assert summary.loc["cat"].tolist() == [14, 2, 4, 0.5]
    assert all(
        part in repr(prepared) for part in ("photos: 40 images of 32 px", "dog", "cut from the images by content")
    )
    meta = json.loads((prepared.folder / "meta.json").read_text())
    assert meta["source_key"] == folder(tmp_path / "photos").key and "pillow" in meta["versions"]
    assert str(tmp_path) not in json.dumps(meta)
    assert Prepared(prepared.folder, False, meta) == prepared


@photos
def test_photographs_are_prepared(tmp_path):
    found = source(os.environ["DANS_PHOTOS"], max_train=400, max_val=100, max_test=100)
    prepared = prepare(found, [16, 24, 32], tmp_path)
    assert prepared.native == 32 and prepared.sizes == found.sizes
    wanted = {np.asarray(decode(content)).tobytes(): (split, label) for split, _, content, label, _ in found.rows()}
    for split in found.sizes:
        for image, label in zip(prepared.images(split), prepared.labels(split)):
            assert wanted[image.tobytes()] == (split, label)
    assert prepared.view("test", ImageConfig(16, "mono")).images.std() > 30


def test_collage_alone_takes_the_photographs_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DANS_PHOTOS", raising=False)
    refused(lambda: source("collage"), "collage needs photographs", "set the environment variable DANS_PHOTOS")
    monkeypatch.setenv("DANS_PHOTOS", str(tmp_path / "nowhere"))
    refused(lambda: source("collage"), "nowhere does not exist")
