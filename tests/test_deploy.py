"A system as a file: what the real interpreters say of it, and what happens to bad input."

import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
from untrained import SYSTEMS, build

from dans.board.deploy import deploy
from dans.board.quantise import pixel_table, quantise
from dans.board.runtime import (
    INTERPRETERS,
    accuracy,
    arena,
    float_accuracy,
    float_measure,
    float_outputs,
    measure,
    predict,
    smallest_arena,
)
from dans.cost.footprint import footprint
from dans.cost.tflite import Port, ports, slim
from dans.frontends import ImageConfig, scaled
from dans.house import DansError
from dans.net.elastic import keras_model
from dans.net.metrics import report
from dans.space import System


@pytest.fixture(scope="module")
def small():
    system, model, images = build(*SYSTEMS[2])
    return system, model, images, quantise(model, images)


@pytest.mark.parametrize("case", SYSTEMS, ids=lambda c: "-".join(map(str, c)))
def test_planner_and_interpreter_agree_to_the_byte(case):
    system, model, images = build(*case)
    tflite = quantise(model, images)
    predicted, measured = footprint(system, case[-1]), arena(tflite)
    assert measured.head == predicted.ram_bytes
    assert measured.total == measured.head + measured.tail
    assert abs(len(tflite) - predicted.flash_bytes) <= max(0.01 * len(tflite), 512)


def test_the_file_decides_as_the_float_model_does(small):
    _, model, images, tflite = small
    expected = np.asarray(keras.ops.softmax(model(scaled(images), training=False)))
    found = (predict(tflite, images, progress=False) + 128.0) / 256
    assert min((expected.argmax(1) == k).mean() for k in (0, 1)) > 0.2  # else agreement would mean nothing
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.9
    assert np.abs(found - expected).mean() < 0.08


def cut_before_dense(tflite):
    "The same model up to the mean, with the mean as its output; and the scale of the logits."
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite))
    graph = model.subgraphs[0]
    logits = graph.tensors[graph.operators[-2].outputs[0]]
    graph.operators, graph.outputs = graph.operators[:-2], graph.operators[-3].outputs
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return slim(bytes(builder.Output())), float(logits.quantization.scale[0])


def test_both_interpreters_compute_the_same_up_to_the_rounding_of_the_dense_layer(small):
    _, _, images, tflite = small
    features, scale = cut_before_dense(tflite)
    reference, micro = (predict(features, images, interpreter, progress=False) for interpreter in INTERPRETERS)
    assert len(np.unique(reference)) > 20 and (reference == micro).all()
    reference, micro = (
        predict(tflite, images, interpreter, progress=False).astype(int) for interpreter in INTERPRETERS
    )
    assert len(np.unique(reference)) > 20
    assert (reference != micro).any(1).mean() <= 0.05
    assert np.abs(reference - micro).max() <= np.ceil(256 / 4 * 2 * scale) + 1  # two logits, one step each


def test_order_and_workers_do_not_matter(small):
    _, _, images, tflite = small
    outputs = predict(tflite, images, workers=2, progress=False)
    assert (outputs[::-1] == predict(tflite, images[::-1], workers=1, progress=False)).all()
    assert (outputs[:1] == predict(tflite, images[:1], progress=False)).all()


def test_names_and_process_history_leave_no_trace(small):
    system, model, images, tflite = small
    other = keras_model(system, 2)  # other layer names in the graph, the same weights
    other.set_weights(model.get_weights())
    assert quantise(other, images) == tflite
    named = quantise(model, images, names=True)
    assert slim(named) == tflite and slim(tflite) == tflite and len(named) > len(tflite)
    assert arena(named).head == arena(tflite).head


def test_weights_are_aligned(small):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(small[-1])
    held = [b for b in map(model.Buffers, range(model.BuffersLength())) if b.DataLength()]
    assert len(held) > 10 and all(b._tab.Vector(b._tab.Offset(4)) % 16 == 0 for b in held)


def test_input_range_is_that_of_a_pixel_whatever_the_images_show(small):
    _, model, images, tflite = small
    dark = ports(quantise(model, images // 8))[0]
    assert dark == ports(tflite)[0]
    table = pixel_table(dark).astype(int)
    assert (np.diff(table) >= 0).all() and len(set(table)) >= 255
    assert np.abs((table - dark.zero_point) * dark.scale - scaled(np.arange(256))).max() <= dark.scale * 0.51 + 1e-6


def test_pixel_table_saturates():
    assert pixel_table(Port((1,), 1 / 254, 0))[[0, 255]].tolist() == [-128, 127]


def test_accuracies(small):
    _, model, images, tflite = small
    labels = np.asarray(model(scaled(images), training=False)).argmax(1)
    assert float_accuracy(model, images, labels, batch=7) == 1
    found = predict(tflite, images, progress=False).argmax(1)
    assert accuracy(tflite, images, found, progress=False) == 1
    assert accuracy(tflite, images, 1 - found, progress=False) == 0


def test_a_report_is_made_of_the_same_predictions_made_once(small, monkeypatch):
    import dans.board.runtime as runtime

    _, model, images, tflite = small
    labels, names = np.arange(len(images)) % 4 // 3, ("no", "yes")
    outputs, asked = predict(tflite, images, progress=False), []
    monkeypatch.setattr(runtime, "predict", lambda *a, **k: asked.append(k) or predict(*a, **k))
    found = measure(tflite, images, labels, names, progress=False)
    assert len(asked) == 1 and found == report(labels, outputs, names)
    assert found["accuracy"] == accuracy(tflite, images, labels, progress=False) and found["majority"] == 0.75
    whole = float_outputs(model, images, batch=7)
    np.testing.assert_allclose(whole, np.asarray(model(scaled(images), training=False)), atol=1e-4)
    assert float_measure(model, images, labels, names)["accuracy"] == float_accuracy(model, images, labels)
    for call in (measure, float_measure):
        with pytest.raises(DansError, match="labels of shape"):
            call(tflite if call is measure else model, images, labels[1:], names)


def test_the_smallest_arena_loads_and_less_does_not(small):

    tflite = small[-1]
    n = smallest_arena(tflite)
    assert n % 16 == 0 and n >= arena(tflite).total
    code = (
        "import sys; from dans.board.runtime import load_interpreter; "
        "load_interpreter('micro', open(sys.argv[1], 'rb').read(), arena_size=int(sys.argv[2]))"
    )
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite)
        file.flush()
        assert [
            subprocess.run([sys.executable, "-c", code, file.name, str(size)], capture_output=True).returncode == 0
            for size in (n - 16, n)
        ] == [False, True]


def test_an_untrained_network_ends_in_an_error_not_in_a_dead_process():
    system, model, images = build(*SYSTEMS[0])
    model.layers[-1].set_weights([w * 0 for w in model.layers[-1].get_weights()])
    tflite = quantise(model, images)
    for interpreter in INTERPRETERS:
        with pytest.raises(DansError, match=f"{interpreter} interpreter cannot run this model.*untrained"):
            predict(tflite, images[:2], interpreter, progress=False)
    with pytest.raises(DansError, match="cannot run this model"):
        arena(tflite)


def test_an_interpreter_that_takes_too_long_is_stopped(small):
    _, _, images, tflite = small
    with pytest.raises(DansError, match="took longer than 0.01 s"):
        predict(tflite, images, limit_s=0.01, progress=False)


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:100], lambda b: b[: len(b) // 2], lambda b: b"x" * 5000]
)
def test_damaged_files_are_refused(small, damage):
    with pytest.raises(DansError, match="not a whole .tflite file"):
        predict(damage(small[-1]), small[2], progress=False)


def test_float_files_are_refused_and_their_arena_is_measured(small):
    import tensorflow as tf

    square = tf.function(lambda x: x * x, input_signature=[tf.TensorSpec((1, 4, 4, 1))]).get_concrete_function()
    tflite = tf.lite.TFLiteConverter.from_concrete_functions([square]).convert()
    with pytest.raises(DansError, match="not int8"):
        predict(tflite, small[2], progress=False)
    assert arena(tflite).head == 2 * 4 * 16  # input and output, float


def test_images_that_do_not_fit_are_refused(small):
    system, model, images, tflite = small
    for wrong in (images.astype(np.float32), images[:, :-1], images[..., [0, 0, 0]], images[:0], list(images)):
        with pytest.raises(DansError, match=r"takes uint8 images \(n, 33, 33, 1\)"):
            quantise(model, wrong)
        with pytest.raises(DansError, match=r"takes uint8 images \(n, 33, 33, 1\)"):
            predict(tflite, wrong, progress=False)
    with pytest.raises(DansError, match="one label for each image"):
        accuracy(tflite, images, np.zeros(3), progress=False)
    with pytest.raises(DansError, match="interpreter 'fast' is unknown"):
        predict(tflite, images, "fast")
    other = System(ImageConfig(64, "rgb"), system.arch)
    with pytest.raises(DansError, match=r"\(n, 64, 64, 3\)"):
        deploy(other, model, images, images, np.zeros(len(images)))
