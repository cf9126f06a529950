"The reader of model files against TensorFlow Lite Micro: a graph or more of every operator, made by hand."

import csv
import os
import re
from pathlib import Path

import pytest
from made import GRAPHS, MAP, Made, autoencoder, person_detect, svdf, taken

from dans.cost.memory import KERNELS, RECORDS
from dans.cost.tflite import OPERATORS, buffers_of, footprint_of, read
from dans.house import DansError

SMALLEST = (
    "SVDF",
    "TRANSPOSE_CONV",
    "FULLY_CONNECTED, five",
    "MIRROR_PAD",
    "UNPACK, int8",
    "QUANTIZE, float32 to float32",
)


@pytest.fixture(scope="module")
def measured():
    return dict(zip(GRAPHS, taken(list(GRAPHS.values()), [GRAPHS[name] for name in SMALLEST])))


def test_heads_and_tails_to_the_byte(measured):
    said = {name: found for name, found in measured.items() if isinstance(found, str)}
    assert said == {}  # the interpreter loads each
    for name, (head, tail, smallest) in measured.items():
        found = footprint_of(GRAPHS[name], bits=64)
        assert (name, found.ram_bytes, found.tail_bytes) == (name, head, tail)
        assert smallest is None or 0 <= found.arena_bytes - smallest <= 640, name


def test_every_operator_is_there():
    assert {op.kind for data in GRAPHS.values() for op in read(data).ops} == set(OPERATORS)
    assert set(OPERATORS) <= set(RECORDS)
    for data in GRAPHS.values():
        for kernels in KERNELS:
            assert footprint_of(data, kernels).arena_bytes > footprint_of(data, kernels).ram_bytes


def scratch(name, kernels, operator=0):
    return [b.nbytes for b in buffers_of(read(GRAPHS[name]), kernels) if b.name == f"scratch {operator}"]


def test_scratch_memory_of_libraries_by_hand():
    assert scratch("CONV_2D", "cmsis-nn-mve") == [4 * 48]
    # 16 pixels, a filter of 3: one is padded on each side, and the filter lies in one buffer with what is padded
    assert scratch("CONV_2D, along a row", "cmsis-nn-mve") == [4 * (3 + 1)]
    assert scratch("CONV_2D, along a row", "cmsis-nn") == [4 * 12]
    assert scratch("TRANSPOSE_CONV", "cmsis-nn") == [4 * ((4 - 1) * 2 + 3) * 6 * 3, 0]
    assert scratch("TRANSPOSE_CONV", "reference") == [4 * 8 * 8 * 6]
    assert scratch("DEPTHWISE_CONV_2D, two each", "cmsis-nn-mve") == []


def test_state_lies_in_the_tail():
    short, long = (footprint_of(svdf(memory=n)) for n in (4, 40))
    assert long.tail_bytes - short.tail_bytes == 2 * 2 * 6 * 36 and long.ram_bytes == short.ram_bytes


def graph(kind, **more):
    g = Made()
    x, y = g.tensor(MAP), g.tensor(MAP)
    g.op(kind, [x], [y], **more)
    return g.file([x], [y], more.get("graphs", 1))


def test_what_cannot_be_read_is_called_by_its_name(tmp_path):
    for data, words in (
        (graph("COS"), "the operator COS is not known here: known are CONV_2D"),
        (graph("CUSTOM", custom="ethos-u"), "compiled for an Arm Ethos-U"),
        (graph("CUSTOM", custom="edgetpu-custom-op"), "compiled for a Coral Edge TPU"),
        (
            graph("CUSTOM", custom="TFLite_Detection_PostProcess"),
            "operator TFLite_Detection_PostProcess is not known",
        ),
        (graph("VAR_HANDLE"), r"keeps values from one inference to the next \(VAR_HANDLE\)"),
    ):
        path = tmp_path / "mine.tflite"
        path.write_bytes(data)
        with pytest.raises(DansError, match=f"mine.tflite: .*{words}"):
            footprint_of(path)
        with pytest.raises(DansError, match=f"theirs.tflite: .*{words}"):
            footprint_of(data, name="theirs.tflite")


# the smallest arena that loads on emulated boards (QEMU: Cortex-M4, and M55 for MVE), measured beside this project
@pytest.mark.parametrize(
    "make, kernels, smallest",
    [
        (person_detect, "reference", 82_304),
        (person_detect, "cmsis-nn", 82_320),
        (person_detect, "cmsis-nn-mve", 82_368),
        (autoencoder, "reference", 3_024),
    ],
)
def test_an_arena_for_a_32_bit_board_is_enough_and_no_more_than_a_kib_too_much(make, kernels, smallest):
    assert 0 <= footprint_of(make(), kernels).arena_bytes - smallest <= 1024


@pytest.mark.skipif("DANS_MODELS" not in os.environ, reason="DANS_MODELS names no folder of model files")
def test_other_peoples_files():
    """Files as other people made them, with what TensorFlow Lite Micro was seen to take for each (index.csv beside
    them: file, operators, head_bytes, total_bytes_64_bit)."""
    folder, refused = Path(os.environ["DANS_MODELS"]), {}
    rows = list(csv.DictReader((folder / "index.csv").open(encoding="utf-8")))
    for row in rows:
        path, total = folder / row["file"], int(float(row["total_bytes_64_bit"]))
        try:
            found = footprint_of(path, bits=64)
        except DansError as error:
            refused[path] = str(error)
            continue
        assert (path.name, found.ram_bytes) == (path.name, int(float(row["head_bytes"])))
        assert abs(found.ram_bytes + found.tail_bytes - total) <= max(0.005 * total, 256), path.name
    stateless = {folder / row["file"] for row in rows if not re.search("SVDF|LSTM|VAR_HANDLE", row["operators"])}
    assert len(stateless - set(refused)) >= 0.95 * len(stateless) > 0
    for path, why in refused.items():  # by name, and for the true reason: state, or weights that are not int8
        assert why.startswith(f"{path}: ")
        true = "not int8 .* has UINT8" if path in stateless else r"keeps values .*LSTM"
        assert re.search(true, why), why
