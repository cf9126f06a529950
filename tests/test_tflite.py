"What the reader of model files promises: the runtime's memory to the byte, and a clear error for everything else."

import numpy as np
import pytest
from graphs import GRAPHS, branches, convert
from made import taken

from dans.board.runtime import arena, npu_estimate, smallest_arena
from dans.cost.memory import KERNELS, layers
from dans.cost.tflite import buffers_of, footprint_of, read, slim
from dans.house import DansError


@pytest.fixture(scope="module")
def files():
    return {make.__name__: convert(make) for make in GRAPHS}


@pytest.mark.parametrize("name", [make.__name__ for make in GRAPHS])
def test_head_and_tail_to_the_byte(files, name):
    measured, found = arena(files[name]), footprint_of(files[name], bits=64)
    assert (found.ram_bytes, found.tail_bytes) == (measured.head, measured.tail)
    assert 0 <= found.arena_bytes - smallest_arena(files[name]) <= 256
    assert footprint_of(files[name]).tail_bytes < found.tail_bytes  # 32-bit pointers are shorter
    assert footprint_of(slim(files[name])).ram_bytes == measured.head


def test_macs_by_hand(files):
    assert [step.macs for step in read(files["multiplier"]).ops] == [8 * 8 * 8 * 9, 4 * 4 * 4 * 9 * 8, 0, 64 * 2]
    assert footprint_of(files["multiplier"]).macs == 8 * 8 * 8 * 9 + 4 * 4 * 4 * 9 * 8 + 64 * 2


def test_layers_show_where_the_peak_is(files):
    graph = read(files["branches"])
    live = buffers_of(graph)
    rows = layers(graph.ops, live)
    assert [row["kind"] for row in rows] == [step.kind for step in graph.ops]
    assert max(row["ram_in_use_bytes"] for row in rows) <= footprint_of(files["branches"]).ram_bytes
    assert any(row["peak"] for row in rows) and sum(row["macs"] for row in rows) == graph.macs
    assert rows[0]["weights_bytes"] == 8 * 27 + 8 * 4 and rows[0]["ram_in_use_bytes"] == live[0].nbytes + 12 * 12 * 8


def test_scratch_memory_of_kernel_libraries_by_hand(files):
    graph = read(files["branches"])  # 3x3 of 3 channels, 1x1, 3x3 depthwise of 8, concatenation, mean of 22, dense

    def scratch(kernels):
        return {
            b.name: b.nbytes
            for b in buffers_of(graph, kernels)
            if b.name.startswith("scratch") and b.name != "scratch 4"
        }

    assert scratch("reference") == {}
    assert scratch("cmsis-nn") == {"scratch 0": 2 * 28 * 2}
    assert scratch("cmsis-nn-mve") == {"scratch 0": 4 * 32, "scratch 2": 4 * 124 * 9, "scratch 5": 4 * 3}
    assert set(KERNELS) == {"reference", "cmsis-nn", "cmsis-nn-mve"}
    with pytest.raises(DansError, match="use one of reference, cmsis-nn, cmsis-nn-mve"):
        footprint_of(files["branches"], "mine")


def test_every_cut_is_an_error_and_none_is_a_guess(files):
    data, whole = files["branches"], footprint_of(files["branches"])
    for n in [*range(0, len(data), 61), len(data) - 1]:
        try:
            assert footprint_of(data[:n]).ram_bytes == whole.ram_bytes  # only the padding at the end was cut
            assert n > len(data) - 16
        except DansError as error:
            assert "not a whole .tflite file" in str(error)


def test_float_ends_are_read_and_float_layers_are_not(files):
    ends = convert(branches, integer=False)
    (head, tail, _), found = taken([ends])[0], footprint_of(ends, bits=64)
    kinds = [step.kind for step in read(ends).ops]
    assert (kinds[0], kinds[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert found.ram_bytes == head > footprint_of(files["branches"]).ram_bytes and abs(found.tail_bytes - tail) <= 16

    def floats(model, schema):
        for tensor in model.subgraphs[0].tensors:
            tensor.type, model.buffers[tensor.buffer].data = schema.TensorType.FLOAT32, None

    with pytest.raises(DansError, match=r"not int8 throughout: CONV_2D \(operator 0\)"):
        footprint_of(changed(files["branches"], floats))


def changed(data, change):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    change(model, schema)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_what_is_not_understood_is_refused(files):
    data = files["gate"]

    def unknown(model, schema):
        model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.COS

    def dynamic(model, schema):
        model.subgraphs[0].tensors[0].shape = np.array([-1, 16, 16, 3], np.int32)

    def two(model, schema):
        model.subgraphs.append(model.subgraphs[0])

    def one_float(model, schema):
        model.subgraphs[0].tensors[model.subgraphs[0].operators[2].outputs[0]].type = schema.TensorType.FLOAT32

    def state(model, schema):
        model.subgraphs[0].tensors[0].isVariable = True

    for change, words in (
        (unknown, "operator COS is not known"),
        (dynamic, "shape that is only known when it runs"),
        (two, "2 graphs instead of one"),
        (one_float, r"not int8 throughout: \w+ \(operator 2\)"),
        (state, "keeps its value"),
    ):
        with pytest.raises(DansError, match=words):
            footprint_of(changed(data, change))


def test_an_open_batch_in_the_signature_changes_nothing(files):
    "What TensorFlow's own recipe, `from_keras_model`, writes."

    def opened(model, schema):
        for tensor in model.subgraphs[0].tensors:
            if tensor.shape is not None and len(tensor.shape):
                tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)

    data = changed(files["gate"], opened)
    assert read(data).ops == read(files["gate"]).ops
    assert taken([data])[0][0] == footprint_of(data).ram_bytes

    def any_size(model, schema):
        model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].shapeSignature = np.array([-1, -1, 16, 3], np.int32)

    with pytest.raises(DansError, match="shape that is only known when it runs"):
        read(changed(data, any_size))


def test_a_path_is_read_and_named(files, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(files["gate"])
    assert footprint_of(path) == footprint_of(str(path)) == footprint_of(files["gate"])
    path.write_bytes(files["gate"][:300])
    with pytest.raises(DansError, match="model.tflite: not a whole"):
        read(path)
    with pytest.raises(DansError, match="is not there"):
        read(tmp_path / "other.tflite")


def test_records_are_longer_where_pointers_are(files):
    for data in files.values():
        short, long = (footprint_of(data, bits=bits).tail_bytes for bits in (32, 64))
        assert 500 < short < long < 2 * short + 512


def test_an_npu_runs_what_it_can(files):
    found = npu_estimate(files["branches"])
    assert found.cycles > 0 and found.ms == pytest.approx(found.cycles / found.clock_mhz / 1000, rel=0.01)
    assert (
        npu_estimate(files["branches"], "ethos-u55-32").cycles > npu_estimate(files["branches"], "ethos-u55-256").cycles
    )
    with pytest.raises(DansError, match="took longer"):
        npu_estimate(files["branches"], limit_s=0.01)
