"dans-search on sounds: what it says of a folder of WAV files, what it refuses, and one small search to firmware."

import json
import wave

import numpy as np
import pandas as pd
import pytest

from dans.board.runtime import predict
from dans.cost.audio import AudioConfig, AudioSpace
from dans.cost.footprint import show_bytes
from dans.data.features import features
from dans.data.sound import RATE, resampled
from dans.data.sounds import place_of_sound
from dans.data.words import words
from dans.front.command import main, wish_of
from dans.front.preflight import preflight
from dans.space import System

LIMITS = ["--limits", "RAM 24 KiB, flash 64 KiB"]
TINY = ["--widths", "0.1", "--depths", "10000", "--sample-rates", "8000", "--representations", "log-mel"]


def wav(path, samples, rate=RATE):
    "A WAV file; `samples` int16 (n,) or (n, channels)."
    samples = np.asarray(samples, "<i2").reshape(len(samples), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def recorded(folder, n=72, rate=RATE):
    "A folder of drawn words, its files named for their speakers as in Speech Commands."
    for i, (_, _, sound, label, values) in enumerate(words(n, 1, 1, of=("sa", "fi"), each=4).rows()):
        if i < n:
            who = int(values["speaker"].split()[-1])
            wav(folder / ("sa", "fi")[label] / f"{who:08x}_nohash_{i}.wav", resampled(sound, RATE, rate), rate)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("front") / "sounds")


# What is said before it begins


def test_a_dry_run_says_who_speaks_how_long_and_what_fits(sounds, tmp_path, capsys):
    asked = [str(sounds), *LIMITS, "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    for part in ("sounds    sounds: 2 classes", "16,000 samples a second; 1 s; speakers: 12 train, 2 val, 4 test"):
        assert part in said
    assert "cut by speaker" in said and "by keras" in said and "folds" not in said and "image" not in said
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["sounds"].values()) == 72 and found["lowest_rate"] == RATE and found["engine"] == "keras"
    assert found["systems_that_fit"] == sum(found["fit_by_data"].values()) < found["systems"]
    assert not (tmp_path / "out").exists()


def test_faults_are_all_named_and_what_is_lost_is_noted(tmp_path, capsys):
    folder, noise = recorded(tmp_path / "sounds"), np.random.default_rng(0).integers(-99, 99, 2 * RATE)
    wav(folder / "sa/000000f0_nohash_0.wav", noise.reshape(-1, 2))
    wav(folder / "sa/000000f1_nohash_0.wav", noise[: RATE // 2])
    wav(folder / "sa/000000f2_nohash_0.wav", noise[: RATE // 20])
    wav(folder / "fi/000000f3_nohash_0.wav", noise[:8_000], 8_000)
    (folder / "fi/000000f4_nohash_0.wav").write_bytes(b"RIFF, or not")
    assert main([str(folder), *LIMITS, "--dry-run"]) == 2
    said = capsys.readouterr().err
    for part in ("2 recordings that cannot be used", "f4_nohash_0.wav is not a readable", "f2_nohash_0.wav is 0.05 s"):
        assert part in said
    assert main([str(folder), *LIMITS, "-p", "source.skip_bad=True", "--dry-run"]) == 0
    said = capsys.readouterr().out
    for part in (
        "recordings of several channels, which are averaged: 1 (sa/000000f0",
        "shorter than a second, with silence around them: 1 (sa/000000f1",
        "left out, since they cannot be used: 2",
        "at least 8,000 samples a second; 0.5 to 1 s",
        "fi/000000f3_nohash_0.wav has 8,000 samples a second, so 16,000 and more are left out",
    ):
        assert part in said
    assert "4kHz" in said and "8kHz" in said and "16kHz" not in said


@pytest.mark.parametrize(
    "asked, said",
    [
        (["--sample-rates", "16000"], "every recording of low has 8,000 samples a second, and 16,000 are needed"),
        (["--resolutions", "32"], "--resolutions is for images"),
        (["--no-mirror"], "--no-mirror is for images"),
        (["--engine", "loops"], "Keras trains what hears"),
        (["--representations", "wavelet"], "representation 'wavelet' is unknown"),
        (["-p", "source.image=img"], "has no option 'image'"),
        (["--out", "{low}/found"], "lies among the sounds"),
    ],
)
def test_what_cannot_be_heard_is_said_in_one_line(low, capsys, asked, said):
    assert main([str(low), *LIMITS, *(word.format(low=low) for word in asked), "--dry-run"]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("front") / "low", rate=8_000)


def test_images_have_no_sample_rates_and_words_are_drawn(sounds, tmp_path, capsys):
    assert main(["wake_scenes", *LIMITS, "--sample-rates", "8000"]) == 2
    assert "wake_scenes holds none" in capsys.readouterr().err
    flight = preflight(wish_of("words", limits="RAM 64 KiB"))
    assert isinstance(flight.space, AudioSpace) and len(flight.space) == 1_320 and flight.unsure == ""
    (sounds / "cover.png").touch()
    assert place_of_sound(str(sounds)) is None
    (sounds / "cover.png").unlink()


def test_the_limits_hold_for_front_end_and_network_together(sounds):
    flight = preflight(wish_of(str(sounds), limits="RAM 24 KiB"))
    for data, systems in flight.fitting.items():
        for system in systems[::20]:
            cost = flight.wish.limits.cost(system, 2)
            assert data.own_cost.ram_bytes < cost.arena_bytes <= 24 * 1024


# From a folder to firmware


def test_a_folder_of_recordings_becomes_a_folder_for_firmware(sounds, tmp_path, capfd):
    out, board = tmp_path / "out", ["--board", "nrf52840", "--budget", "52 s"]
    assert main([str(sounds), *board, *LIMITS, *TINY, "--out", str(out), "--json"]) == 0
    told, err = capfd.readouterr()
    found, said = json.loads(told), err.partition("\nwinner")[2]
    assert "[4/4]" in err and "for the front end" in said and "hearing.h" in said and "image" not in said
    assert all(found["takes"][axis] <= bound for axis, bound in found["limits"].items())
    system = System.from_dict(found, AudioConfig)
    card = json.loads((out / "firmware/model_card.json").read_text())
    own, network = system.data.own_cost.ram_bytes, card["ram"]["arena_bytes_32_bit"]
    assert found["takes"]["arena_bytes"] == own + network["cmsis-nn"]
    assert f"{show_bytes(own + found['card']['arena_bytes'])} of 256 KiB of RAM" in said
    wrong = pd.read_csv(out / "mistakes.csv")
    assert len(wrong) == round((1 - found["accuracy"]) * found["test"]["images"]) and wrong.columns[0] == "sound"
    assert all((sounds / name).is_file() for name in wrong["sound"])
    assert {"seen.png", "confusion.png"} <= {path.name for path in (out / "pictures").iterdir()}
    read = {path.name: path.read_bytes() for path in (out / "firmware").iterdir() if path.is_file()}
    assert {"hearing.h", "model.tflite", "model.keras", "example_features.bin"} <= set(read)
    heard = features(np.frombuffer(read["example_recording.bin"], np.int16), system.data.chain, system.data.hop)
    answer = predict(read["model.tflite"], heard[None, ..., None], "micro", progress=False)
    assert answer.tobytes() == read["example_output.bin"]
