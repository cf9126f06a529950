"A model as a folder: its card, its C array, the command, and what happens to bad input."

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from fastcore.docments import docments
from untrained import SYSTEMS, build

from dans.board.card import card_text, must_fit
from dans.board.deploy import Deployed, Measured, deploy
from dans.board.export import c_array, export, export_model, main
from dans.board.quantise import pixel_table, quantise
from dans.board.runtime import arena, predict, smallest_arena
from dans.cost import boards
from dans.cost.boards import DEVICES
from dans.cost.footprint import footprint
from dans.cost.tflite import footprint_of, ports
from dans.house import DansError
from dans.space import System


@pytest.fixture(scope="module")
def small():
    system, model, images = build(*SYSTEMS[2])
    return system, model, images, quantise(model, images)


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
    assert main([str(tmp_path / "model.tflite"), str(tmp_path / "out"), "--device", name]) == 0
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
        main([str(folder / "model.tflite"), str(tmp_path / "again")]) == 0 and "written to" in capsys.readouterr().out
    )
    again = json.loads((tmp_path / "again" / "model_card.json").read_text())
    # the card beside the file says it
    assert again["sha256"] == card["sha256"] and again["accuracy"] == card["accuracy"]
    command = [str(tmp_path / "net.keras"), str(tmp_path / "asked"), "--data", str(tmp_path / "photos"), "-p"]
    assert main([*command, "source.fit=squash"]) == 0
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


def test_a_board_is_asked_once_whether_it_holds_the_model(small, tmp_path, monkeypatch):
    import dans.board.export as room

    asked = []
    monkeypatch.setattr(room, "must_fit", lambda *a: asked.append(a) or must_fit(*a))
    (tmp_path / "model.tflite").write_bytes(small[-1])
    export_model(str(tmp_path / "model.tflite"), str(tmp_path / "out"), device="nrf52840")
    export(tmp_path / "too", small[-1], small[2][0], device=DEVICES["nrf52840"])
    assert len(asked) == 2


def test_each_option_is_explained_once(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    about = docments(export_model)
    assert all(words in said for name, words in about.items() if name != "return")
    assert "(default 300)" in said and "dans-export model.tflite firmware/model" in said
