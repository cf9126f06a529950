"Tiny ImageNet: the public folder gives the list's rows, in its order, and says what is wrong with it."

import importlib.util
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_data import animals, class_folder, encoded, refused

from dans.data.catalogue import check_source, source
from dans.data.parquet import parquet
from dans.data.prepared import prepare
from dans.data.splits import SPLITS, digest
from dans.data.tiny_imagenet import DOUBTFUL, LIST, animal, list_text, read_list, sha256_of, tiny_imagenet

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("tiny_imagenet_list", ROOT / "tools/tiny_imagenet.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

WNIDS = ("n01443537", "n02504458", "n02666196", "n04275548")  # goldfish, elephant, abacus; a spider web is in doubt
# in no order of names or classes
DRAWN = [(split, WNIDS[c], i) for split, numbers in dict(train=(7, 2, 5), val=(0,), test=(3,)).items() for i in numbers
         for c in (2, 0, 1)]  # fmt: skip


def jpeg(c, i):
    return encoded(100 * c + i, 64, 64, "JPEG")


def write(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def public(tmp_path):
    "The public layout with 8 images of 4 classes in train, 2 of each in val."
    root = tmp_path / "tiny-imagenet-200"
    said = []
    for c, wnid in enumerate(WNIDS):
        for i in range(8):
            write(root, f"train/{wnid}/images/{wnid}_{i}.JPEG", jpeg(c, i))
        for i in range(2):
            write(root, f"val/images/val_{2 * c + i}.JPEG", jpeg(c, 50 + i))
            said.append(f"val_{2 * c + i}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    write(root, "val/val_annotations.txt", "".join(said).encode())
    write(root, "wnids.txt", "\n".join(reversed(WNIDS)).encode())
    return root


@pytest.fixture
def drawn(tmp_path):
    "A list of 15 of these images, with their SHA-256."
    sums = sha256_of(digest(jpeg(WNIDS.index(wnid), i)) for _, wnid, i in DRAWN)
    (tmp_path / "drawn.csv").write_text(list_text(DRAWN, sums, ["drawn"]))
    return str(tmp_path / "drawn.csv")


def as_parquet(folder):
    "The images of the list in parquet files, as others pass them on."
    folder.mkdir()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in SPLITS:
        rows = [(wnid, i) for s, wnid, i in DRAWN if s == split]
        images = [dict(bytes=jpeg(WNIDS.index(wnid), i), path=f"{wnid}_{i}.JPEG") for wnid, i in rows]
        columns = dict(label=[animal(wnid) for wnid, _ in rows], wnid=[wnid for wnid, _ in rows])
        pq.write_table(pa.table(dict(image=pa.array(images, kind), **columns)), folder / f"{split}-0.parquet")
    return folder


def told(found):
    return [(split, digest(content), label, values) for split, _, content, label, values in found.rows()]


def same_arrays(one, other, resolutions, cache):
    "Are all arrays and attributes that are prepared of two sources the same, row by row?"
    a, b = (prepare(found, resolutions, cache) for found in (one, other))
    return all(
        np.array_equal(getattr(a, what)(split), getattr(b, what)(split))
        for split in SPLITS
        for what in ("images", "labels", "attributes")
    )


def test_a_list_gives_its_rows_in_its_order(public, drawn):
    found = tiny_imagenet(public, rows=drawn)
    assert [row[:2] for row in found.rows()] == [
        (split, f"train/{wnid}/images/{wnid}_{i}.JPEG") for split, wnid, i in DRAWN
    ]
    assert [(label, values["wnid"]) for _, _, _, label, values in found.rows()] == [
        (int(wnid != "n02666196"), wnid) for _, wnid, _ in DRAWN
    ]
    assert (found.classes, found.side, found.notes) == (("no animal", "animal"), 64, ())
    assert list(found.names()) == [row[:2] for row in found.rows()]
    assert source(f"tiny_imagenet:{public}", rows=drawn).key == found.key


def test_a_folder_of_that_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folder(tmp_path / "tiny_imagenet")
    assert source("tiny_imagenet").classes == ("cat", "dog")


def test_the_same_images_in_parquet_files_give_the_same_arrays(public, drawn, tmp_path):
    "The keys differ, as they hold where each image comes from; pixels, labels, attributes and their order do not."
    files = as_parquet(tmp_path / "files")
    for limit in (dict(), dict(max_train=4, max_val=2)):
        one, other = tiny_imagenet(public, rows=drawn, **limit), parquet(files, **limit)
        assert told(one) == told(other) and one.sizes == other.sizes
        assert same_arrays(one, other, [32], tmp_path / "cache")


def test_the_program_writes_the_list_of_parquet_files(drawn, tmp_path):
    tool.main(as_parquet(tmp_path / "files"), tmp_path / "again.csv")
    assert read_list(tmp_path / "again.csv") == read_list(drawn)
    assert read_list(drawn)[0] == DRAWN and "train-0.parquet, SHA-256" in (tmp_path / "again.csv").read_text()


def test_all_images_of_the_folder(public):
    found = tiny_imagenet(public, rows="all", val=0.25)
    assert found.sizes == dict(train=18, val=6, test=6)
    assert found.notes == (
        "classes left out because they may be taken for either: 1 (n04275548 spider web)",
        "test is the part that Tiny ImageNet calls val",
        "val (25%) cut from train by content, seed 0",
    )
    for split, name, content, label, values in found.rows():
        c, i = WNIDS.index(values["wnid"]), int(name.split("_")[-1][:-5])
        assert label == (c < 2) and content == jpeg(c, 50 + i - 2 * c if split == "test" else i)


def test_splits_that_a_list_lacks_are_cut_and_limits_hold(public, tmp_path):
    (tmp_path / "pool.csv").write_text(list_text([("train", wnid, i) for wnid in WNIDS[:3] for i in range(8)]))
    found = tiny_imagenet(public, rows=tmp_path / "pool.csv", max_train=10)
    assert found.sizes == dict(train=10, val=3, test=5) and "cut from the images" in found.notes[0]


def test_other_bytes_than_those_of_the_list_are_noticed(public, drawn):
    keys = {tiny_imagenet(public, rows=drawn).key}
    write(public, f"train/{WNIDS[0]}/images/{WNIDS[0]}_7.JPEG", jpeg(9, 9))
    found = tiny_imagenet(public, rows=drawn)
    assert any("byte for byte" in note for note in found.notes) and found.key not in keys
    write(public, f"train/{WNIDS[0]}/images/{WNIDS[0]}_7.JPEG", b"")
    refused(lambda: tiny_imagenet(public, rows=drawn), f"train/{WNIDS[0]}/images/{WNIDS[0]}_7.JPEG is not a readable")
    assert tiny_imagenet(public, rows=drawn, skip_bad=True).sizes["train"] == 8


def test_what_is_no_public_folder_is_said_with_its_remedy(public, tmp_path):
    for path in (tmp_path, public / "train", public / "train" / WNIDS[0] / "images"):
        refused(lambda: tiny_imagenet(path), f"{path} is not the folder tiny-imagenet-200", f": name {public}")
    refused(lambda: tiny_imagenet(tmp_path / "no"), "no does not exist", "cs231n.stanford.edu/tiny-imagenet-200.zip")
    (tmp_path / "tiny.zip").touch()
    for call in (tiny_imagenet, lambda path: check_source(f"tiny_imagenet:{path}")):
        refused(lambda: call(tmp_path / "tiny.zip"), "is a file", "unzip tiny.zip, and name the folder")
    files = as_parquet(tmp_path / "files")
    refused(lambda: tiny_imagenet(files), "no train and no wnids.txt", f"by their path alone: {files}")
    (public / "wnids.txt").unlink()
    refused(lambda: tiny_imagenet(public), "or not all of it: it has no wnids.txt", "unpack the archive again")


def test_an_archive_that_was_not_unpacked_whole(public, drawn):
    (public / f"train/{WNIDS[2]}/images/{WNIDS[2]}_5.JPEG").unlink()
    whole = "unpack all of tiny-imagenet-200.zip again"
    refused(
        lambda: tiny_imagenet(public, rows=drawn), "lacks 1 of the 15 images of the list", f"{WNIDS[2]}_5.JPEG", whole
    )
    refused(lambda: tiny_imagenet(public), "of the 30,000 images of the list", "-p source.rows=all")
    for name in (f"train/{WNIDS[1]}", "val"):
        (public / name).rename(public / "elsewhere")
        refused(lambda: tiny_imagenet(public, rows="all"), name, whole)
        (public / "elsewhere").rename(public / name)
    write(public, "val/val_annotations.txt", b"../../secret.JPEG\tn01443537\t0")
    refused(lambda: tiny_imagenet(public, rows="all"), "val_annotations.txt is missing or damaged", whole)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "names no image"),
        ("split,images\ntrain,0 1\n", "line 2 of"),
        ("wnids,n01443537\ntrain,0 500\n", "line 2 of"),
        ("wnids,../../etc\ntrain,0\n", "line 1 of"),
        ("wnids,n01443537\ntest,3\ntrain,3\n", "names images twice"),
        ("wnids,n04275548\ntrain,3\n", "names images of n04275548, which the rule leaves out"),
    ],
)
def test_a_list_that_is_none_is_refused(public, tmp_path, text, says):
    (tmp_path / "bad.csv").write_text(text)
    refused(lambda: tiny_imagenet(public, rows=tmp_path / "bad.csv"), says, "bad.csv")
    refused(lambda: tiny_imagenet(public, rows=tmp_path / "none.csv"), "none.csv is not a readable list of images")


def test_the_list_is_what_its_room_says():
    rows, sums = read_list()
    assert LIST.stat().st_size < 200_000 and len(sums) == 64
    assert Counter((split, animal(wnid)) for split, wnid, _ in rows) == {
        (split, label): n for split, n in dict(train=10_000, val=2_000, test=3_000).items() for label in (0, 1)
    }
    wnids = {wnid for _, wnid, _ in rows}
    assert len(wnids | set(DOUBTFUL)) == 200 and sum(map(animal, wnids)) == 56


@animals
def test_the_public_folder_gives_the_rows_of_the_parquet_files(tmp_path):
    "All 30,000 rows in order; the program writes the committed list from these files."
    files, root, wanted = parquet(os.environ["DANS_ANIMALS"]), tmp_path / "tiny-imagenet-200", []
    for wnid in {wnid for _, wnid, _ in read_list()[0]}:
        (root / "train" / wnid / "images").mkdir(parents=True)
    (root / "wnids.txt").touch()
    for (split, place), (_, _, content, label, values) in zip(files.names(), files.rows()):
        (root / "train" / values["wnid"] / "images" / place.rpartition("(")[2][:-1]).write_bytes(content)
        wanted.append((split, digest(content), label, values))
    found = tiny_imagenet(root)
    assert (found.notes, found.classes, told(found)) == ((), files.classes, wanted)
    about = tool.about(Path(os.environ["DANS_ANIMALS"]), files)
    assert list_text(tool.rows_of(files), read_list()[1], about) == LIST.read_text()
