"Files from strangers: none is unpickled or executed, none writes outside its folder, and none fills the memory."

import ast
import json
import os
import pickle
import struct
import sys
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_data import class_folder, encoded, refused, wake_vision_tfds

from dans.board.convert import loaded
from dans.board.export import export_model
from dans.cost.tflite import read
from dans.data.folders import folder
from dans.data.images import MAX_PIXELS, decode
from dans.data.parquet import parquet
from dans.data.prepared import prepare
from dans.data.tfds import wake_vision
from dans.net.state import State
from dans.net.supernet import Supernet
from dans.paper.store import Store

MODULES = sorted((Path(__file__).parent.parent / "dans").rglob("*.py"))


# What the code calls

UNSAFE = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "tarfile",
    "zipfile",
    "shutil.unpack_archive",
    "eval",
    "exec",
    "compile",
    "os.system",
    "pd.read_pickle",
    "pd.eval",
    "pandas.read_pickle",
    "torch.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "keras.config.enable_unsafe_deserialization",
}


def names_used(tree):
    "Dotted names of everything that is imported, read or called."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (name for alias in node.names for name in (node.module or "", f"{node.module}.{alias.name}"))
        elif isinstance(node, (ast.Name, ast.Attribute)):
            yield ast.unparse(node)


def unsafe_calls(source):
    "What `source` uses that could run what a file says, unpack it, or load it without safe mode."
    tree = ast.parse(source)
    found = {name for name in names_used(tree) if name in UNSAFE or name.partition(".")[0] in UNSAFE}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given, name = {k.arg: ast.unparse(k.value) for k in call.keywords}, ast.unparse(call.func)
        found |= {
            f"{k}={v}"
            for k, v in given.items()
            if (k, v) in (("allow_pickle", "True"), ("shell", "True"), ("safe_mode", "False"))
        }
        if name.endswith("load_model") and given.get("safe_mode") != "True":
            found.add(f"{name} without safe_mode=True")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_module_runs_what_a_file_says(path):
    assert unsafe_calls(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import zipfile as z",
        "from shutil import unpack_archive",
        "eval(text)",
        "yaml.load(file)",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path)",
        "keras.models.load_model(path, safe_mode=False)",
        "subprocess.run(text, shell=True)",
        "pd.read_pickle(path)",
        "os.system(text)",
    ],
)
def test_the_check_finds_each_of_these(line):
    assert unsafe_calls(line)


# Files that carry code


class Bomb:
    "Unpickled, it makes a file."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    "What a bomb would make; it must not be there in the end."
    path = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(path)))  # it does explode
    path.rmdir()
    yield path
    assert not path.exists()


def objects(mark):
    return np.array([Bomb(mark)], dtype=object)


def as_npy(path, mark):
    with open(path, "wb") as file:  # np.save adds an ending to a name
        np.save(file, objects(mark), allow_pickle=True)


def as_npz(path, mark):
    with open(path, "wb") as file:
        np.savez(file, about=objects(mark), **{"weight/stem/kernel": objects(mark)})


def as_pickle(path, mark):
    path.write_bytes(pickle.dumps(Bomb(mark)))


def as_member(path, mark):
    about = np.frombuffer(json.dumps(dict(step=0, history=[], settings={}, slot=0, average=0)).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, about=about, **{"weight/stem/kernel": objects(mark)})


@pytest.mark.parametrize("write", [as_npy, as_npz, as_pickle, as_member])
@pytest.mark.parametrize("load", [State.load, Supernet.load])
def test_a_checkpoint_with_a_pickle_is_refused(tmp_path, mark, write, load):
    path = tmp_path / "supernet.npz"
    write(path, mark)
    refused(lambda: load(path), "supernet.npz is not a readable checkpoint", "delete it")


@pytest.mark.parametrize("write", [as_npy, as_pickle])
@pytest.mark.parametrize("name", ["train.npy", "train-labels.npy"])
def test_prepared_data_with_a_pickle_is_not_read(tmp_path, mark, write, name):
    class_folder(tmp_path / "photos")
    prepared = prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache")
    write(prepared.folder / name, mark)
    with pytest.raises(ValueError):
        prepared.labels("train") if "labels" in name else prepared.images("train")
    # its size is not what meta.json says: made anew
    again = prepare(folder(tmp_path / "photos"), [16], tmp_path / "cache")
    assert again.images("train").dtype == np.uint8 and again.labels("train").max() == 1


def test_parquet_columns_with_pickles_stay_bytes(tmp_path, mark):
    code = pickle.dumps(Bomb(mark))
    pq.write_table(
        pa.table(
            dict(image=[dict(bytes=encoded(i), path=".") for i in range(40)], label=[0, 1] * 20, note=[code] * 40)
        ).replace_schema_metadata({"huggingface": code, "pandas": code}),
        tmp_path / "x.parquet",
    )
    prepared = prepare(parquet(tmp_path / "x.parquet"), [16], tmp_path / "cache")
    assert prepared.attributes("train") is None
    pq.write_table(pa.table(dict(image=[dict(bytes=code, path=".")] * 40, label=[0, 1] * 20)), tmp_path / "y.parquet")
    refused(
        lambda: parquet(tmp_path / "y.parquet"),
        "y has 40 images that cannot be used: 40 not readable (y.parquet row 0,",
    )


def test_a_store_with_pickles_gives_none_back(tmp_path, mark):
    store = Store(tmp_path)
    store.record("score", {}, dict(score=1))
    store._sql("update pieces set row = ?", [pickle.dumps(Bomb(mark))])
    refused(lambda: store.find("score", {}), "store.sqlite is damaged", "delete it")
    refused(lambda: store.rows("score"), "store.sqlite is damaged", "delete it")


def config_of(path, change):
    "Write a `.keras` file again with its configuration changed."
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    members["config.json"] = change(members["config.json"])
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)


def harmless(path):
    import keras

    image = keras.Input((16, 16, 3))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image))).save(path)


def test_a_keras_file_with_code_is_refused(tmp_path, mark):
    import keras

    path, made = tmp_path / "model.keras", str(mark)
    image = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    x = keras.layers.Lambda(lambda x: (__import__("os").makedirs(made, exist_ok=True), x)[1])(x)
    keras.Model(image, keras.layers.Dense(2)(x)).save(path)
    mark.rmdir()
    keras.models.load_model(path, compile=False, safe_mode=False)  # it does run, where it is let
    mark.rmdir()
    refused(lambda: loaded(path), "model.keras is not a Keras model that can be loaded safely")
    refused(lambda: export_model(path, tmp_path / "out", data="wake_scenes"), "loaded safely", "model.save")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module, name", [("os", "mkdir"), ("builtins", "eval"), ("subprocess", "run")])
def test_a_keras_file_that_names_other_code_is_refused(tmp_path, mark, module, name):
    path = tmp_path / "model.keras"
    harmless(path)
    assert loaded(path).output_shape == (None, 2)
    call = dict(module=module, class_name=name, config=str(mark), registered_name=name)

    def change(text):
        config = json.loads(text)
        config["config"]["layers"][-1] |= dict(call, config=dict(name="dense", path=str(mark)))
        return json.dumps(config).encode()

    config_of(path, change)
    refused(lambda: loaded(path), "loaded safely")


@pytest.mark.parametrize("write", [as_pickle, as_npy])
def test_a_model_file_that_is_a_pickle_is_refused(tmp_path, mark, write):
    for name in ("model.keras", "model.tflite"):
        write(tmp_path / name, mark)
    refused(lambda: loaded(tmp_path / "model.keras"), "loaded safely")
    refused(lambda: read(tmp_path / "model.tflite"), "not a whole .tflite file")


# Images that would fill the memory


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height):
    "A whole PNG of one colour, one bit a pixel: black squares compress a thousandfold."
    rows, line = zlib.compressobj(9), bytes(1 + -(-width // 8))
    data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def gif(width, height):
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\2\1\0\0;"
    )


def bmp(width, height):
    return (
        b"BM"
        + struct.pack("<IHHI", 60, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("make", [png, gif, bmp])
@pytest.mark.parametrize("size", [(30_000, 30_000), (9500, 9500)])
def test_an_image_bomb_is_refused_before_its_pixels_are_there(make, size):
    content = make(*size)
    assert len(content) < 250_000
    tracemalloc.start()
    start = time.perf_counter()
    refused(lambda: decode(content, "bomb"), f"bomb has more than {MAX_PIXELS:,} pixels", "reduce it")
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1 and peak < 1_000_000


# Names that lead elsewhere


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def test_names_in_a_parquet_file_are_not_paths(tmp_path):
    outside, cache = tmp_path / "outside", tmp_path / "work/cache"
    outside.mkdir()
    for name in ("../../outside/x.png", "/etc/x.png", str(outside / "x.png")):
        pq.write_table(
            pa.table(
                dict(
                    image=[dict(bytes=encoded(i), path=name) for i in range(40)],
                    label=[0, 1] * 20,
                    filename=[name] * 40,
                )
            ),
            tmp_path / "x.parquet",
        )
        before = tree(tmp_path) | tree(outside)
        prepared = prepare(parquet(tmp_path / "x.parquet"), [16], cache)
        assert prepared.attributes("train").filename[0] == name  # text
        assert all(path in before or path.startswith("work") for path in tree(tmp_path)) and not list(outside.iterdir())


@pytest.mark.parametrize("named", ["..", "../../outside", "a/../../../outside", "\0", "/"])
def test_class_names_of_a_parquet_file_are_not_paths(tmp_path, named):
    (tmp_path / "outside").mkdir()
    features = json.dumps(dict(info=dict(features=dict(label=dict(names=[named, "other"])))))
    table = pa.table(dict(image=[dict(bytes=encoded(i), path="") for i in range(40)], label=[0, 1] * 20))
    pq.write_table(table.replace_schema_metadata(dict(huggingface=features)), tmp_path / "x.parquet")
    prepared = prepare(parquet(tmp_path / "x.parquet"), [16], tmp_path / "work/cache")
    assert prepared.classes == (named, "other") and prepared.folder.parent == tmp_path / "work/cache"
    assert not list((tmp_path / "outside").iterdir()) and {p.name for p in tmp_path.iterdir()} == {
        "outside",
        "work",
        "x.parquet",
    }


def test_links_in_class_folders_are_read_at_most(tmp_path):
    outside = class_folder(tmp_path / "outside")
    photos = class_folder(tmp_path / "photos", n=10, first=500)
    (photos / "cat" / "link.png").symlink_to(outside / "cat" / "3.png")
    (photos / "cat" / "up.png").symlink_to("../../outside/cat/4.png")
    (photos / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (photos / "cat" / "round").symlink_to(photos)
    before = tree(outside)
    source = folder(photos)
    assert sum(source.sizes.values()) == 22  # links to files count as files, those to folders above are not followed
    prepare(source, [16], tmp_path / "cache")
    assert tree(outside) == before


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type", "jsonFeature"])
def test_a_tfds_folder_does_not_name_code_to_import(tmp_path, monkeypatch, mark, key):
    wake_vision_tfds(tmp_path / "data", dict(train_quality=14, validation=7, test=7))
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)  # as where it lies in the folder that one works in
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    path = tmp_path / "data/wake_vision/1.0.0/features.json"
    features = json.loads(path.read_text())
    inner = {"json": json.dumps({"type": "evil.Feature"})}
    features["featuresDict"]["features"]["young"] = {key: inner if key == "jsonFeature" else "evil.Feature"}
    path.write_text(json.dumps(features))
    refused(
        lambda: wake_vision(tmp_path / "data"),
        f"features.json names {key if key == 'jsonFeature' else 'evil.Feature'}",
        "tfds build",
    )
