"A system as a file: what the real interpreters say of it, and what happens to bad input."

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace

import keras
import numpy as np
import pytest

from dans import boards
from dans.boards import DEVICES
from dans.deploy import Deployed, Measured, c_array, card_text, deploy, export, export_model, main
from dans.elastic import keras_model
from dans.footprint import footprint
from dans.metrics import report
from dans.quantise import pixel_table, quantise, scaled
from dans.runtime import (
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
from dans.space import Architecture, DansError, DataConfig, System
from dans.tflite import Port, footprint_of, ports, slim

SYSTEMS = [  # both colours, every ending stage, odd sizes, all roundings, several numbers of classes
    ("8px-mono", "00000", 0.3, "even", 2),
    ("17px-rgb", "20000", 0.2, "even", 3),
    ("33px-mono", "12000", 0.5, "even", 2),
    ("24px-rgb", "11200", 0.1, "even", 10),
    ("40px-mono", "11110", 0.3, "eight", 2),
    ("16px-rgb", "12321", 0.2, "even", 2),
    ("48px-rgb", "11100", 0.1, "expansion", 2),
    ("8px-mono", "11111", 0.4, "even", 2),
]


def build(data, depths, width, rounding, classes, seed=0):
    "A system, a network of it whose outputs vary, and images. (An untrained network gives one output for all images.)"
    resolution, color = data.split("px-")
    system = System(DataConfig(int(resolution), color), Architecture(depths, width, rounding))
    rng = np.random.default_rng(seed)
    model = keras_model(system, classes)
    noise = rng.integers(0, 256, (120, 4, 4, system.data.channels)).repeat(-(-system.data.resolution // 4), 1)
    images = noise.repeat(-(-system.data.resolution // 4), 2)[:, : system.data.resolution, : system.data.resolution]
    images = np.ascontiguousarray(images * rng.uniform(0.2, 1, (120, 1, 1, 1))).astype(np.uint8)
    model(scaled(images), training=False)
    for layer in model.layers:  # statistics of the images themselves, as training would leave them
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.gamma.assign(rng.uniform(0.7, 1.4, layer.gamma.shape))
            layer.beta.assign(rng.uniform(-0.3, 0.6, layer.beta.shape))
    for _ in range(3):
        model(scaled(images), training=True)
    logits = np.asarray(model(scaled(images), training=False))
    kernel, bias = model.layers[-1].get_weights()
    kernel = kernel * 2 / logits.std(0).clip(1e-3)
    model.layers[-1].set_weights([kernel, bias - (logits * 2 / logits.std(0).clip(1e-3)).mean(0)])
    return system, model, images


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
    other = keras_model(system)  # other layer names in the graph, the same weights
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
    import dans.runtime as runtime

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


def test_deploy_and_export(small, tmp_path):
    system, model, images, tflite = small
    labels = np.arange(len(images)) % 2
    found, deployed = deploy(system, model, images, images, labels, progress=False)
    assert found == tflite and isinstance(deployed, Deployed)
    assert deployed.arena.head == deployed.predicted.ram_bytes and deployed.file_bytes == len(tflite)
    assert deployed.drop == deployed.float_accuracy - deployed.int8_accuracy
    folder = export(
        tmp_path / "a" / "b",
        tflite,
        images[3],
        deployed,
        ("no", "yes"),
        DEVICES["stm32l4r5"],
        "x-cube-ai-7.3",
        "ethos-u55-64",
    )
    assert sorted(p.name for p in folder.iterdir()) == [
        "example_input.bin",
        "example_output.bin",
        "model.tflite",
        "model_card.json",
        "model_card.md",
        "model_data.cc",
        "model_data.h",
    ]
    card = json.loads((folder / "model_card.json").read_text())
    assert card["sha256"] == hashlib.sha256((folder / "model.tflite").read_bytes()).hexdigest()
    assert (
        System.from_dict(card["system"]) == system
        and card["classes"] == ["no", "yes"]
        and card["macs"] == footprint(system, 2).macs
    )
    assert (
        card["input"]["scale"] == ports(tflite)[0].scale
        and card["input"]["table"] == pixel_table(ports(tflite)[0]).tolist()
    )
    assert card["ram"]["arena_bytes"] >= max(
        smallest_arena(tflite), footprint_of(tflite, "cmsis-nn-mve", 64).arena_bytes - 32
    )
    assert card["ram"]["head_bytes"]["reference"] == arena(tflite).head and "CONV_2D" in card["operators"]
    assert "not recorded" in card["preprocessing"][0] and "probability" in card["output"]["meaning"]
    assert card["accuracy"]["int8"] == deployed.int8_accuracy and card["accuracy"]["test_images"] == len(images)
    assert (
        0 < card["latency"]["low_ms"] < card["latency"]["ms"]
        and card["latency"]["worst_error"] > 0
        and card["latency"]["sources"]
    )
    assert card["npu"]["accelerator"] == "ethos-u55-64" and card["npu"]["ms"] > 0 and "Vela" in card_text(card)
    assert card["energy"]["low_mj"] > 0 and "33px-mono" in card_text(card) == (folder / "model_card.md").read_text()
    answer = np.frombuffer((folder / "example_output.bin").read_bytes(), np.int8)
    assert (answer == predict(tflite, images[3:4], "micro", progress=False)[0]).all()


def test_the_smallest_arena_loads_and_less_does_not(small):

    tflite = small[-1]
    n = smallest_arena(tflite)
    assert n % 16 == 0 and n >= arena(tflite).total
    code = (
        "import sys; from dans.runtime import _load; _load('micro', open(sys.argv[1], 'rb').read(), int(sys.argv[2]))"
    )
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite)
        file.flush()
        assert [
            subprocess.run([sys.executable, "-c", code, file.name, str(size)], capture_output=True).returncode == 0
            for size in (n - 16, n)
        ] == [False, True]


def test_what_is_no_classifier_of_pixels_is_not_exported(tmp_path):
    from graphs import convert, gate, two_inputs, two_outputs

    image = np.zeros((16, 16, 3), np.uint8)
    for make, words in ((two_inputs, "2 inputs and 1 outputs"), (two_outputs, "1 inputs and 2 outputs")):
        with pytest.raises(DansError, match=words):
            export(tmp_path / "out", convert(make), image)
    card = json.loads((export(tmp_path / "gate", convert(gate), image) / "model_card.json").read_text())
    assert "real value" in card["output"]["meaning"]  # it ends in a dense layer
    unit = ports_changed(convert(gate), 1 / 255, -128)
    with pytest.raises(DansError, match="covers 0 to 1, not -1 to 1"):
        export(tmp_path / "out", unit, image)
    assert not (tmp_path / "out").exists()


def ports_changed(tflite, scale, zero_point):
    "The same file with another input range."
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite))
    q = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]].quantization
    q.scale, q.zeroPoint = [scale], [zero_point]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_the_c_array_compiles_and_holds_the_model(small, tmp_path):
    _, _, images, tflite = small
    folder = export(tmp_path, tflite, images[0])
    text = (folder / "model_data.cc").read_text()
    array = text[text.index("kModelData[kModelSize] = {") : text.index("};")]
    assert bytes(int(b, 16) for b in array.split("{")[1].replace("\n", " ").split(",")) == tflite
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "main.cc").write_text("""#include <stdio.h>
#include "model_data.h"
int main() {
  if (reinterpret_cast<uintptr_t>(kModelData) % 16) return 1;
  fwrite(kModelData, 1, kModelSize, stdout);
  fwrite(kModelExampleInput, 1, kModelInputSize, stdout);
  fwrite(kModelExampleOutput, 1, kModelOutputSize, stdout);
}
""")
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-std=c++11", "main.cc", "model_data.cc", "-o", "main"], cwd=tmp_path, check=True
    )
    printed = subprocess.run([tmp_path / "main"], stdout=subprocess.PIPE, check=True).stdout
    assert (
        printed == tflite + (folder / "example_input.bin").read_bytes() + (folder / "example_output.bin").read_bytes()
    )


def test_c_array_of_signed_values():
    header, source = c_array(b"\x00\xff", 48, b"\x80\x7f", b"\xff")
    assert "kModelArenaSize = 48;" in header and "kModelSize = 2;" in header
    header, _ = c_array(b"\x00", 48, b"\x80", b"\xff", 64, "cmsis-nn")
    assert (
        "kModelArenaSize = 64;" in header.split("#else")[0]
        and "kModelArenaSize = 48;" in header.split("#else")[1]
        and "with cmsis-nn kernels" in header
    )
    assert "0x00, 0xff" in source and "-128, 127" in source and "-1\n" in source


def test_nothing_is_written_where_something_is_wrong(small, tmp_path):
    _, _, images, tflite = small
    for wrong in (
        dict(image=images[0][:-1]),
        dict(classes=("one",)),
        dict(device=DEVICES["rp2040"], kernels="tflm+cmsis-nn"),
        dict(device=replace(DEVICES["nrf52840"], block_bytes=2048)),
        dict(kernels="tflm+cmsis-nn"),
        dict(tflite=tflite[:3000]),
    ):
        with pytest.raises(DansError):
            export(**dict(folder=tmp_path / "out", tflite=tflite, image=images[0]) | wrong)
        assert not (tmp_path / "out").exists()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DansError, match="file"):
        export(blocked / "sub", tflite, images[0])


def test_a_board_that_does_not_hold_the_model_is_refused_by_how_much(small, tmp_path, capsys, monkeypatch):
    _, _, images, tflite = small
    (tmp_path / "model.tflite").write_bytes(tflite)
    need = footprint_of(tflite)
    tight = replace(
        DEVICES["nrf52840"], board="Tight", block_bytes=need.arena_bytes - 16, flash_bytes=need.file_bytes - 1
    )
    monkeypatch.setitem(boards.DEVICES, "tight", tight)
    assert main([str(tmp_path / "model.tflite"), str(tmp_path / "out"), "--device", "tight"]) == 2
    said = capsys.readouterr().err
    assert (
        "does not fit Tight" in said
        and "16 B too much RAM" in said
        and "1 B too much flash" in said
        and "it fits rp2040" not in said.split("it fits")[0]
    )
    assert "stm32f446" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["rp2040", "Raspberry Pi Pico", "esp32s3", "stm32g0b1", "Arduino Nano 33 BLE Sense", "corstone300"]
)
def test_a_board_without_published_latencies_is_a_board(small, tmp_path, capsys, name):
    _, _, images, tflite = small
    (tmp_path / "model.tflite").write_bytes(tflite)
    assert main([str(tmp_path / "model.tflite"), str(tmp_path / "out"), "--device", name]) is None
    card, text = (
        json.loads((tmp_path / "out/model_card.json").read_text()),
        (tmp_path / "out/model_card.md").read_text(),
    )
    assert "holds it" in capsys.readouterr().out and card["latency"] is None
    assert (
        card["board"]["arena_bytes"] == footprint_of(tflite).arena_bytes
        and f"| Board | {card['board']['name']} holds it" in text
    )
    assert main([str(tmp_path / "model.tflite"), str(tmp_path / "no"), "--device", "rasberry"]) == 2
    assert "did you mean rp2040" in capsys.readouterr().err


def test_a_card_shows_what_accuracy_hides(small, tmp_path):
    "Beside accuracy: what always answering the larger class gives, recall of each class, and the matrix."
    system, model, images, _ = small
    labels = (np.arange(len(images)) % 10 == 0).astype(int)
    tflite, found = deploy(system, model, images, images, labels, progress=False, names=("background", "person"))
    assert found.report["majority"] == 0.9 and found.report["classes"] == ["background", "person"]
    row = found.to_dict()
    assert (
        row["majority"] == 0.9
        and row["int8_balanced_accuracy"] == found.report["balanced_accuracy"]
        and row["int8_auc"] == found.report["auc"]
    )
    text = (export(tmp_path / "out", tflite, images[0], found, ("background", "person")) / "model_card.md").read_text()
    assert "always answering 'background'" in text and "balanced accuracy" in text and "recall: background" in text
    assert "| true class | as background | as person | recall |" in text
    card = json.loads((tmp_path / "out/model_card.json").read_text())
    assert card["accuracy"]["report"]["confusion"] == found.report["confusion"] and np.sum(
        found.report["confusion"]
    ) == len(images)


def test_a_model_keeps_what_its_card_says(small, tmp_path):
    "Names, square and accuracy stand in the card beside the file, and hold for this file only."
    _, _, images, tflite = small
    export(tmp_path / "a", tflite, images[0], Measured(0.75, 40, 0.8), ("no", "yes"), fit="squash")
    export_model(str(tmp_path / "a/model.tflite"), str(tmp_path / "b"))
    a, b = (json.loads((tmp_path / f"{name}/model_card.json").read_text()) for name in "ab")
    assert a == b and b["accuracy"]["int8"] == 0.75 and b["classes"] == ["no", "yes"] and b["fit"] == "squash"
    for older in (
        a | dict(accuracy={k: v for k, v in a["accuracy"].items() if k != "report"}),
        {k: v for k, v in a.items() if k != "fit"},
    ):
        (tmp_path / "a/model_card.json").write_text(json.dumps(older))  # of an earlier version
        export_model(str(tmp_path / "a/model.tflite"), str(tmp_path / "older"))
    with pytest.raises(DansError, match="name them with --data"):
        export_model(str(tmp_path / "a/model.tflite"), str(tmp_path / "d"), options=dict(fit="squash"))
    (tmp_path / "a/model_card.json").write_text(json.dumps(a | dict(sha256="another file")))
    export_model(str(tmp_path / "a/model.tflite"), str(tmp_path / "c"))
    assert json.loads((tmp_path / "c/model_card.json").read_text())["classes"] == []


def test_the_command_takes_a_keras_model_and_measures_it(small, tmp_path, capsys):
    from PIL import Image

    _, model, images, _ = small
    for k, image in enumerate(images[:60]):
        folder = tmp_path / "photos" / ("even", "odd")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{k}.png")
    model.save(tmp_path / "net.keras")
    folder = export_model(str(tmp_path / "net.keras"), str(tmp_path / "out"), str(tmp_path / "photos"))
    card = json.loads((folder / "model_card.json").read_text())
    assert (
        card["classes"] == ["even", "odd"]
        and card["accuracy"]["test_images"] > 0
        and card["accuracy"]["float"] is not None
    )
    assert (
        main([str(folder / "model.tflite"), str(tmp_path / "again")]) is None
        and "written to" in capsys.readouterr().out
    )
    again = json.loads((tmp_path / "again" / "model_card.json").read_text())
    # the card beside the file says it
    assert again["sha256"] == card["sha256"] and again["accuracy"] == card["accuracy"]
    command = [str(tmp_path / "net.keras"), str(tmp_path / "asked"), "--data", str(tmp_path / "photos"), "-p"]
    assert main([*command, "source.fit=squash"]) is None
    assert json.loads((tmp_path / "asked" / "model_card.json").read_text())["fit"] == "squash"
    for wrong, words in (
        ("source.fitt=squash", "fitt"),
        ("fit=squash", "source.NAME=VALUE"),
        ("source.fit", "source.NAME=VALUE"),
    ):
        assert main([*command, wrong]) == 2 and words in capsys.readouterr().err
    (tmp_path / "bad.keras").write_bytes(b"no")
    for wrong, words in (
        ([str(tmp_path / "nowhere.tflite"), "x"], "no .tflite or .keras file"),
        ([str(tmp_path / "net.keras"), "x"], "--data"),
        ([str(tmp_path / "bad.keras"), "x", "--data", "wake_scenes"], "cannot be loaded|can be loaded safely"),
    ):
        assert main(wrong) == 2
        assert re.search(words, capsys.readouterr().err)


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


def test_float_files_are_refused(small):
    import tensorflow as tf

    square = tf.function(lambda x: x * x, input_signature=[tf.TensorSpec((1, 4, 4, 1))]).get_concrete_function()
    with pytest.raises(DansError, match="not int8"):
        arena(tf.lite.TFLiteConverter.from_concrete_functions([square]).convert())


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
    other = System(DataConfig(64, "rgb"), system.arch)
    with pytest.raises(DansError, match=r"\(n, 64, 64, 3\)"):
        deploy(other, model, images, images, np.zeros(len(images)))
