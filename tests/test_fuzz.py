"""Whatever comes in: it works, or ends in one line of ours. At least 150 cases of each kind (DANS_FUZZ_CASES:
another number)."""

import contextlib
import copy
import io
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from graphs import convert, gate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_data import encoded

from dans.board.export import main as export_command
from dans.cost.limits import Limits
from dans.cost.tflite import footprint_of, ports
from dans.data.folders import folder
from dans.data.images import decode
from dans.data.parquet import parquet
from dans.house import DansError
from dans.paper.manifest import load_manifest
from dans.paper.reproduce import _changes, _parser, reproduce
from dans.space import SearchSpace, System

fuzz = settings(
    max_examples=int(os.environ.get("DANS_FUZZ_CASES", 150)), deadline=None, suppress_health_check=list(HealthCheck)
)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
plain = st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | words
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12)


def ours(call, *args, **kwargs):
    "The result, or None for an error of ours, which is one line with a remedy."
    try:
        return call(*args, **kwargs)
    except DansError as error:
        assert "\n" not in str(error) and len(str(error)) > 10
        return None


def damaged(data, edits, keep=1.0):
    data = bytearray(data)
    for where, value in edits:
        data[int(where * len(data))] = value
    return bytes(data[: int(keep * len(data)) + 1])


@pytest.fixture(scope="module")
def model():
    return convert(gate)


@fuzz
@given(edits, st.just(1.0) | st.floats(0, 1))
def test_model_files(model, edits, keep):
    data = damaged(model, edits, keep)
    found = ours(footprint_of, data)
    assert found is None or found.ram_bytes > 0
    ours(ports, data)


@fuzz
@given(st.binary(max_size=200))
def test_any_bytes_as_a_model(data):
    assert ours(footprint_of, b"\x1c\0\0\0TFL3" + data) is None or data


@fuzz
@given(edits, st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]), st.just(1.0) | st.floats(0, 1))
def test_image_files(edits, format, keep):
    image = ours(decode, damaged(encoded(1, 24, 20, format), edits, keep), "picture")
    assert image is None or (image.mode in ("RGB", "L") or np.asarray(image).ndim >= 2)


names = st.sampled_from(
    [
        "a",
        "b",
        "train",
        "val",
        "test",
        "Training",
        "valid",
        "seg_train",
        "seg_test",
        "x.png",
        "y.jpg",
        "z.txt",
        "i.HEIC",
        ".hidden",
        "ä ö",
    ]
)


@fuzz
@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join),
        st.sampled_from(["image", "other", "empty", "text", "link"]),
        max_size=8,
    ),
    st.sampled_from(["auto", "auto", "none", "names"]),
    st.booleans(),
)
def test_folders(tmp_path_factory, files, splits, skip_bad):
    root = tmp_path_factory.getbasetemp() / "fuzz-folder"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for i, (name, kind) in enumerate(files.items()):
        path = root / name
        with contextlib.suppress(OSError):  # a file where another needs a folder
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(root / "a", target_is_directory=True)
            else:
                path.write_bytes(
                    {"image": encoded(i, 20, 20), "other": encoded(99, 20, 20), "empty": b"", "text": b"hello"}[kind]
                )
    source = ours(folder, root, splits=splits, skip_bad=skip_bad)
    assert source is None or (len(source.classes) > 1 and sum(source.sizes.values()) > 0)


column = st.sampled_from(["image", "label", "person", "far", "note"])
cells = st.sampled_from(["image", "bytes", "number", "text", "float", "null", "list"])


@fuzz
@given(st.dictionaries(column, cells, max_size=4), st.integers(0, 8), edits, st.sampled_from([None, None, 0.5, 1.0]))
def test_parquet_files(tmp_path_factory, columns, n, edits, damage):
    path = tmp_path_factory.getbasetemp() / "fuzz.parquet"
    make = {
        "image": lambda i: {"bytes": encoded(i, 20, 20), "path": None},
        "bytes": lambda i: encoded(i, 20, 20),
        "number": lambda i: i % 3 - 1 + (i > 5),
        "text": lambda i: "ab"[i % 2],
        "float": lambda i: i / 2,
        "null": lambda i: None,
        "list": lambda i: [i],
    }
    pq.write_table(
        pa.Table.from_pandas(pd.DataFrame({name: [make[kind](i) for i in range(n)] for name, kind in columns.items()})),
        path,
    )
    if damage:
        path.write_bytes(damaged(path.read_bytes(), edits, damage))
    source = ours(parquet, path)
    assert source is None or sum(source.sizes.values()) > 0


GOOD = {
    "claims": {"C1": "a claim"},
    "items": {
        "run_a": {
            "notebook": "nbs/a.ipynb",
            "title": "A run",
            "writes": ["a/log"],
            "parameters": {"quick": {"n": 1}},
            "seconds": {"quick": 2.5},
        },
        "fig_a": {
            "notebook": "nbs/b.ipynb",
            "title": "A figure",
            "claim": ["C1"],
            "needs": ["run_a"],
            "presets": ["cpu"],
        },
    },
}
places = [
    ("claims",),
    ("items",),
    ("items", "run_a"),
    ("items", "fig_a"),
    *[("items", "run_a", k) for k in GOOD["items"]["run_a"]],
    *[("items", "fig_a", k) for k in GOOD["items"]["fig_a"]],
    ("items", "run_a", "parameters", "quick"),
    ("items", "new"),
    ("new",),
]


@fuzz
@given(st.lists(st.tuples(st.sampled_from(places), values), min_size=1, max_size=3), st.just("") | words)
def test_lists_of_items(tmp_path_factory, changes, behind):
    content, path = copy.deepcopy(GOOD), tmp_path_factory.getbasetemp() / "fuzz.yml"
    for (*above, last), value in changes:
        inner = content
        for key in above:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[last] = value
    path.write_text(yaml.safe_dump(content, allow_unicode=True) + behind, encoding="utf-8")
    items = ours(load_manifest, path)
    assert items is None or all(item.notebook for item in items.values())


flags = st.sampled_from(
    [
        "run_search",
        "fig_time",
        "--preset",
        "quick",
        "smoke",
        "cpu",
        "--out",
        "--dry-run",
        "--redraw",
        "--force",
        "-p",
        "seed=1",
        "seed=x",
        "=",
        "data=no",
        "images=-3",
        "epochs=[1,",
        "--list",
    ]
) | words.filter(lambda w: not w.startswith("-h"))


@fuzz
@given(st.lists(flags, max_size=5))
def test_command_lines(tmp_path_factory, args):
    args = [a for a in args if a not in ("--help", "-h", "--list")] + [
        "--dry-run",
        "--out",
        str(tmp_path_factory.getbasetemp() / "fuzz-out"),
    ]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            asked = _parser().parse_args(args)
        except SystemExit as stop:  # argparse: one line, status 2
            assert stop.code in (0, 2)
            return
        ours(lambda: reproduce(asked.ids, asked.preset, asked.out, _changes(asked.parameter), dry_run=True))


@fuzz
@given(
    st.lists(
        st.sampled_from(
            [
                "--device",
                "nrf52840",
                "rp2040",
                "--kernels",
                "tflm+cmsis-nn",
                "--calibration",
                "x",
                "-1",
                "--classes",
                "a,b",
                "--npu",
                "--data",
                "nowhere",
                "wake_vision:",
                "collage:",
                "model.tflite",
                "a.keras",
                ".",
            ]
        )
        | words,
        max_size=5,
    )
)
def test_command_lines_of_export(args):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            assert export_command(["missing.tflite", *args]) == 2 and said.getvalue().startswith("dans-export: ")
        except SystemExit as stop:
            assert stop.code in (0, 2)


numbers = st.one_of(
    plain,
    st.lists(plain, max_size=4),
    st.lists(st.integers(1, 256), min_size=1, max_size=4),
    st.lists(st.floats(0.05, 1.2), max_size=3),
)


@fuzz
@given(
    numbers,
    numbers | st.sampled_from(["rgb", "mono", ("rgb", "mono")]),
    numbers,
    numbers | st.just((1, 1, 1, 0, 0)),
    words | st.sampled_from(["even", "eight"]),
)
def test_search_spaces(resolutions, colors, widths, depths, rounding):
    space = ours(SearchSpace, resolutions, colors, widths, depths, rounding)
    assert space is None or len(space) == 0 or isinstance(space[0], System)


@fuzz
@given(
    words
    | st.lists(
        st.sampled_from(["RAM", "flash", "MACs", "64", "KiB", "2 M", "=", ",", "-1", "1e9", "nan"]), max_size=6
    ).map(" ".join)
)
def test_limits(text):
    limits = ours(Limits.parse, text)
    assert limits is None or all(bound > 0 for bound in limits.bounds().values())
