"A model as a folder: its card, its C array, the command, and what happens to bad input."

import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastcore.docments import docments
from untrained import SYSTEMS, build

from dans.board.card import card_text, must_fit
from dans.board.carray import bytes_of, c_array, c_name
from dans.board.deploy import Deployed, Measured, deploy
from dans.board.ends import End, answers, outline
from dans.board.export import export, export_model, main
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
        "example",
        "example_input.bin",
        "example_output.bin",
        "model.tflite",
        "model_card.json",
        "model_card.md",
        "model_data.cc",
        "model_data.h",
        "preprocess.h",
    ]
    assert sorted(p.name for p in (folder / "example").iterdir()) == ["build.sh", "main.cc"]
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


def card_of(folder):
    return json.loads((folder / "model_card.json").read_text())


def test_any_range_shape_and_number_of_ends_is_exported(tmp_path):
    from graphs import convert, gate, two_inputs, two_outputs

    image = np.zeros((16, 16, 3), np.uint8)
    two = export(tmp_path / "two", convert(two_inputs))
    card = card_of(two)
    assert len(card["inputs"]) == 2 and card["image"] is None and card["how_made"] is None
    assert {"example_input_0.bin", "example_input_1.bin"} <= {p.name for p in two.iterdir()}
    assert not (two / "preprocess.h").exists() and "to fill in" in (two / "model_card.md").read_text()
    assert "kTwoExampleInput1" in (two / "model_data.h").read_text()
    outs = card_of(export(tmp_path / "outs", convert(two_outputs), image))
    assert len(outs["outputs"]) == 2 and outs["image"]["divisor"] == [127.5]
    card = card_of(export(tmp_path / "gate", convert(gate), image))
    assert "real value" in card["output"]["meaning"]  # it ends in a dense layer
    unit = card_of(export(tmp_path / "unit", ports_changed(convert(gate), 1 / 255, -128), image))
    assert unit["image"]["divisor"] == [255.0] and unit["input"]["table"][255] == 127
    odd = ports_changed(convert(gate), 0.05, 3)
    told = card_of(export(tmp_path / "odd", odd, preprocessing="pixels of a thermal camera, in kelvin"))
    assert told["image"] is None and told["how_made"].startswith("pixels of a thermal camera")
    with pytest.raises(DansError, match="takes int8"):
        export(tmp_path / "none", odd, image)
    assert not (tmp_path / "none").exists()


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


STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic"]


def compilers():
    "A C and a C++ compiler."
    found = [
        next((p for name in names if (p := shutil.which(name))), None) for names in (("cc", "gcc"), ("c++", "g++"))
    ]
    if None in found:
        pytest.skip("no C and C++ compiler here")
    return found


def run(*command, cwd, **options):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, **options)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def test_the_c_array_compiles_and_holds_the_model(small, tmp_path):
    _, _, images, tflite = small
    folder = export(tmp_path / "holds", tflite, images[0])
    assert bytes_of((folder / "model_data.cc").read_text()) == tflite
    cc, cxx = compilers()
    program = """#include <stdio.h>
#include "model_data.h"
static uint8_t arena[kHoldsArenaSize];
int main(void) {
  if ((uintptr_t)kHoldsData % 16 || sizeof arena < 16) return 1;
  fwrite(kHoldsData, 1, kHoldsSize, stdout);
  fwrite(kHoldsExampleInput, 1, kHoldsInputSize, stdout);
  fwrite(kHoldsExampleOutput, 1, kHoldsOutputSize, stdout);
  return 0;
}
"""
    held = tflite + (folder / "example_input.bin").read_bytes() + (folder / "example_output.bin").read_bytes()
    (folder / "main.c").write_text(program)
    (folder / "main2.cc").write_text(program)
    run(cc, "-std=c99", *STRICT, "-c", "main.c", "-o", "main.o", cwd=folder)
    run(cc, "-std=c99", *STRICT, "-x", "c", "-c", "model_data.cc", "-o", "as_c.o", cwd=folder)
    run(cxx, "-std=c++11", *STRICT, "-c", "model_data.cc", "-o", "data.o", cwd=folder)
    for name, parts in (("c", ["main.o", "as_c.o"]), ("mixed", ["main.o", "data.o"]), ("cpp", ["main2.cc", "data.o"])):
        run(cxx, "-std=c++11", *STRICT, *parts, "-o", name, cwd=folder)
        assert run(folder / name, cwd=folder) == held


def test_two_models_in_one_program_each_with_its_own_names(small, tmp_path):
    from graphs import convert, gate

    _, _, images, tflite = small
    out = tmp_path / "firmware"
    export(tmp_path / "a", tflite, images[0], name="person")
    export(tmp_path / "b", convert(gate), name="gate_2")
    cc, cxx = compilers()
    out.mkdir()
    for folder in "ab":
        for path in (tmp_path / folder).iterdir():
            if path.suffix in (".h", ".cc"):
                assert not (out / path.name).exists()
                shutil.copy(path, out)
    names = {"person_data.cc", "person_data.h", "person_preprocess.h"}
    assert names | {n.replace("person", "gate_2") for n in names} == {p.name for p in out.iterdir()}
    (out / "main.c").write_text("""#include "gate_2_data.h"
#include "gate_2_preprocess.h"
#include "person_data.h"
#include "person_preprocess.h"
int main(void) { return kPersonSize == kGate2Size || kPersonData[100] == 1 || kGate2Data[100] == 1; }
""")
    shutil.copy(out / "main.c", out / "main.cc")
    for compiler, kind in ((cc, "c99"), (cxx, "c++11")):
        main = "main.c" if kind == "c99" else "main.cc"
        run(compiler, f"-std={kind}", *STRICT, "-c", main, "-o", f"{kind}.o", cwd=out)
        run(cxx, "-std=c++11", *STRICT, f"{kind}.o", "person_data.cc", "gate_2_data.cc", "-o", kind, cwd=out)


# of public files: what a person detector, a keyword network, an autoencoder's layer and a float classifier are called
PUBLIC = {
    "person": "stm32ai-nota__mobilenet*",
    "keyword": "mlonmcu-models__micro_kws_m*",
    "machine": "mlonmcu-models__toycar_layer0*",
    "motion": "ML_M460*cnn-s*",
}


@pytest.mark.skipif("DANS_MODELS" not in os.environ, reason="DANS_MODELS names no folder of model files")
def test_public_files_of_four_kinds_stand_in_one_program_and_answer(tmp_path):
    cc, cxx = compilers()
    for name, pattern in PUBLIC.items():
        (path,) = Path(os.environ["DANS_MODELS"]).glob(pattern)
        folder = export_model(str(path), str(tmp_path / name), name=name)
        card, found = card_of(folder), outline(path.read_bytes())
        given = np.frombuffer((folder / "example_input.bin").read_bytes(), found.inputs[0].type)
        answer = answers(path.read_bytes(), [given[None]], "micro")[0]
        assert answer.tobytes() == (folder / "example_output.bin").read_bytes()
        assert (card["image"] is not None) == (name == "person") == (folder / f"{name}_preprocess.h").exists()
        assert card["ram"]["arena_bytes"] >= card["ram"]["head_bytes"]["reference"] > 0
    includes = "".join(f'#include "{name}/{name}_data.h"\n' for name in PUBLIC)
    sizes = " + ".join(f"k{name.title()}Data[0] * 0 + k{name.title()}ArenaSize * 0" for name in PUBLIC)
    main = f"{includes}int main(void) {{ return {sizes}; }}\n"
    (tmp_path / "main.c").write_text(main)
    (tmp_path / "main.cc").write_text(main)
    run(cc, "-std=c99", *STRICT, "-c", "main.c", "-o", "main.o", cwd=tmp_path)
    sources = [f"{name}/{name}_data.cc" for name in PUBLIC]
    run(cxx, "-std=c++11", *STRICT, "main.cc", *sources, "-o", "all", cwd=tmp_path)
    run(tmp_path / "all", cwd=tmp_path)


STANDS_IN = """#pragma once
#include <stdint.h>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
struct TfLiteTensor { union { char *raw; float *f; } data; };
namespace tflite {
struct Model {};
inline const Model *GetModel(const void *) { return nullptr; }
template <unsigned int N> struct MicroMutableOpResolver {
CALLS
};
struct MicroInterpreter {
  template <class R> MicroInterpreter(const Model *, const R &, uint8_t *, unsigned long) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  TfLiteStatus Invoke() { return kTfLiteOk; }
  TfLiteTensor *input(unsigned long i) { return tensors + i; }
  TfLiteTensor *output(unsigned long i) { return tensors + i; }
  static char memory[1 << 20];
  TfLiteTensor tensors[4] = {{{memory}}, {{memory}}, {{memory}}, {{memory}}};
};
char MicroInterpreter::memory[1 << 20];
}  // namespace tflite
"""


def test_the_example_compiles_up_to_the_missing_library(small, tmp_path):
    """The library cannot be had here, so headers stand in for its own: they show that the example compiles, registers
    as many operators as it counts and notices a wrong answer, not that the library spells its names so."""
    _, _, images, tflite = small
    folder = export(tmp_path / "person", tflite, images[0]) / "example"
    card, text = card_of(folder.parent), (folder / "main.cc").read_text()
    calls = card["resolver"]["calls"]
    assert card["resolver"]["type"] in text and text.count("resolver.Add") == card["resolver"]["count"] == len(calls)
    assert "AddConv2D()" in calls and "AddDepthwiseConv2D()" in calls and "AddFullyConnected()" in calls
    assert set(card["operator_versions"]) == set(card["operators"]) and card["operator_versions"]["CONV_2D"] == 3
    _, cxx = compilers()
    micro = folder / "tensorflow/lite/micro"
    (folder / "tensorflow/lite/schema").mkdir(parents=True)
    micro.mkdir()
    adds = "\n".join(f"  TfLiteStatus {call} {{ return kTfLiteOk; }}" for call in calls)
    (micro / "micro_interpreter.h").write_text(STANDS_IN.replace("CALLS", adds))
    (micro / "micro_mutable_op_resolver.h").write_text("")
    (folder / "tensorflow/lite/schema/schema_generated.h").write_text("")
    run(cxx, "-std=c++17", *STRICT, "-I.", "main.cc", "../model_data.cc", "-o", "example", cwd=folder)
    done = subprocess.run([folder / "example"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "mismatch: 1 outputs differ\n"  # what stands in answers nothing
    assert len((folder / "build.sh").read_text().strip().splitlines()) == 4
    run("sh", "-n", "build.sh", cwd=folder)


def test_c_array_of_signed_values():
    ends = [(End("", (2,), "int8"), b"\x80\x7f")], [(End("", (1,), "int8"), b"\xff")]
    header, source = c_array(b"\x00\xff", 48, *ends)
    assert "kModelArenaSize 48 " in header and "kModelSize 2 " in header
    header, _ = c_array(b"\x00", 48, *ends, 64, "with cmsis-nn kernels", "a_b")
    assert (
        "kABArenaSize 64 " in header.split("#else")[0]
        and "kABArenaSize 48 " in header.split("#else")[1]
        and "with cmsis-nn kernels" in header
        and "#ifndef A_B_DATA_H_" in header
    )
    assert "0x00, 0xff" in source and "-128, 127" in source and "-1\n" in source
    real = c_array(b"\x00", 48, [(End("", (2,), "float32"), np.float32([1, -1e-9]).tobytes())], ends[1])[1]
    assert "const float kModelExampleInput[2]" in real and "1.00000000f, -9.99999972e-10f" in real


def test_a_name_that_c_does_not_take_is_refused(small, tmp_path):
    _, _, images, tflite = small
    for wrong in ("2nd", "a-b", "", "a__b", "ä"):
        with pytest.raises(DansError, match="no name in C"):
            export(tmp_path / "out", tflite, images[0], name=wrong)
    assert not (tmp_path / "out").exists()
    assert c_name(None, "x/96px rgb/") == "model_96px_rgb" and c_name(None, "ä") == "model"


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
    assert (
        a | dict(name="b") == b
        and b["accuracy"]["int8"] == 0.75
        and b["classes"] == ["no", "yes"]
        and b["fit"] == "squash"
    )
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
    assert main([str(folder / "model.tflite"), str(tmp_path / "again"), "--json", "--quiet"]) == 0
    told, err = capsys.readouterr()
    told = json.loads(told)
    assert err == "" and told["card"] == again and "model_data.cc" in told["files"]
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
        ([str(tmp_path / "nowhere.tflite"), "x"], "is not there"),
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
    assert (
        "exit codes: 0 done" in said and "(default 300)" in said and "dans-export model.tflite firmware/model" in said
    )
