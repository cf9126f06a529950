"Sound: files, splits by speaker, the front end in integers, and a search space of it, nothing above changed for it."

import io
import json
import os
import sys
import wave
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from make_data import refused

from dans.board.deploy import deploy
from dans.board.hearing import export_hearing
from dans.board.quantise import pixel_table, quantise
from dans.board.runtime import arena, predict
from dans.cost.audio import (
    AudioConfig,
    AudioSpace,
    KeywordSpace,
    audio_space,
    front_buffers,
    front_memory,
    front_records,
)
from dans.cost.footprint import footprint, macs
from dans.cost.limits import Limits
from dans.cost.memory import operators, plan, records_of
from dans.cost.tflite import footprint_of, ports
from dans.data.features import edges, features, front_file, lines
from dans.data.heard import hear
from dans.data.recordings import sound_folder, sound_parquet, speech_commands
from dans.data.sound import RATE, changed, decode_sound, one_second, read_second, resampled
from dans.data.words import words
from dans.ds_cnn import DSCNN
from dans.net.elastic import keras_model
from dans.net.score import Scorer
from dans.net.supernet import Supernet
from dans.net.train import Recipe, batch_at
from dans.space import System

speech = pytest.mark.skipif("DANS_SPEECH" not in os.environ, reason="DANS_SPEECH names no folder of recordings")
FRONTS = dict(sample_rates=(4_000, 8_000), bands=(8, 16), windows_ms=(40,), hops_ms=(40,))
SPACE = audio_space(**FRONTS, widths=(0.1, 0.2), max_depths=(1, 0, 0, 0, 0))


def wav(path, samples, rate=RATE, width=2):
    "A WAV file; `samples` int (n,) or (n, channels)."
    samples = np.asarray(samples).reshape(len(samples), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], width, rate, 0, "NONE", ""))
        file.writeframes(samples.astype(f"<i{width}").tobytes())


def as_flac(samples, rate=RATE, subtype="PCM_16"):
    "The bytes of a FLAC file; int16 (n, channels)."
    held = io.BytesIO()
    soundfile.write(held, samples.astype(np.int16), rate, subtype, format="FLAC")
    return held.getvalue()


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return hear(words(64, 24, 24), tmp_path_factory.mktemp("heard"), AudioConfig)


# Files


def test_flac_gives_the_samples_back_or_says_why_not(monkeypatch):
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (20_000, 2)).astype(np.int16)
    file = as_flac(samples)
    found, rate = decode_sound(file, "a.flac")
    assert (found == np.round(samples.mean(1)).astype(np.int16)).all() and rate == RATE
    refused(lambda: decode_sound(file[:9_000], "a.flac"), "a.flac is")
    refused(lambda: decode_sound(b"fLaC and nothing", "a.flac"), "a.flac is not a readable FLAC file")
    refused(lambda: decode_sound(as_flac(samples, subtype="PCM_24"), "a.flac"), "a.flac has 24 bits a sample")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setattr("dans.backend.find_spec", lambda name: None)
    refused(lambda: decode_sound(file, "a.flac"), "dans[sound]")


def test_wav_of_any_higher_rate_and_two_channels_becomes_one_second(tmp_path):
    tone = np.round(9_000 * np.sin(2 * np.pi * 440 * np.arange(66_150) / 44_100)).astype(int)
    wav(tmp_path / "a.wav", np.stack([tone + 50, tone - 50], 1), 44_100)
    found = read_second((tmp_path / "a.wav").read_bytes())
    wanted = 9_000 * np.sin(2 * np.pi * 440 * (np.arange(RATE) / RATE + 0.25))
    assert found.dtype == np.int16 and len(found) == RATE and np.abs(found - wanted).max() < 30
    wav(tmp_path / "wide.wav", tone, 44_100, width=4)
    for content, *says in (
        (b"", "is empty"),
        (b"RIFF", "not a readable WAV file"),
        ((tmp_path / "wide.wav").read_bytes(), "32 bits a sample"),
    ):
        refused(lambda: read_second(content, "x.wav"), "x.wav", *says)


def test_what_a_lower_rate_cannot_hold_is_gone_and_the_rest_stays():
    time = np.arange(RATE) / RATE
    low, high = (10_000 * np.sin(2 * np.pi * f * time) for f in (1_000, 3_000))
    found = resampled(low + high, RATE, 4_000)
    alone = 10_000 * np.sin(2 * np.pi * 1_000 * np.arange(4_000) / 4_000)
    assert np.abs(found - alone)[100:-100].max() < 20
    assert (resampled(one_second(found), RATE, RATE) == one_second(found)).all()


# Sources


def test_a_folder_of_class_folders_is_cut_by_speaker(tmp_path):
    rng = np.random.default_rng(0)
    for who in range(12):
        for word in ("yes", "no"):
            wav(tmp_path / word / f"{who:08x}_nohash_0.wav", rng.integers(-99, 99, 800))
    wav(tmp_path / "_background_noise_" / "rain.wav", rng.integers(-99, 99, 800))
    found = sound_folder(tmp_path, val=0.2, test=0.2)
    of = {}
    for split, name, _, label, values in found.rows():
        assert found.classes[label] == name.split("/")[0]
        of.setdefault(values["speaker"], set()).add(split)
    assert len(of) == 12 and all(len(splits) == 1 for splits in of.values()) and min(found.sizes.values()) > 0
    assert any("_background_noise_" in note for note in found.notes)
    (tmp_path / "validation_list.txt").write_text("yes/00000003_nohash_0.wav\nno/00000003_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/00000004_nohash_0.wav\nno/00000004_nohash_0.wav\n")
    given = sound_folder(tmp_path)
    assert given.sizes == dict(train=20, val=2, test=2) and given.key != found.key
    (tmp_path / "testing_list.txt").write_text("yes/00000004_nohash_0.wav\nno/00000003_nohash_0.wav\n")
    refused(lambda: sound_folder(tmp_path), "of one speaker in two splits", "move all of a speaker into one split")


def test_splits_of_folders_are_taken_and_one_recording_is_in_one_of_them(tmp_path):
    rng = np.random.default_rng(0)
    for i, split in enumerate(("train", "val", "test")):
        for word in ("a", "b"):
            wav(tmp_path / split / word / f"{i}.wav", rng.integers(-99, 99, 800))
    found = sound_folder(tmp_path)
    assert found.sizes == dict(train=2, val=2, test=2) and "no speaker is named" in found.notes[-1]
    (tmp_path / "val/a/1.wav").write_bytes((tmp_path / "train/a/0.wav").read_bytes())
    (tmp_path / "train/a/more.wav").write_bytes(b"as many as need be")
    refused(lambda: sound_folder(tmp_path), "the same recording in two splits", "duplicates")
    assert sound_folder(tmp_path, duplicates="drop").sizes == dict(train=2, val=2, test=2)
    refused(lambda: sound_folder(tmp_path / "nowhere"), "does not exist")


def test_parquet_files_of_hugging_face(tmp_path):
    about = {"info": {"features": {"label": {"names": ["down", "up"], "_type": "ClassLabel"}}}}
    rng = np.random.default_rng(0)
    for split, n in dict(train=8, validation=4, test=4).items():
        sounds = [dict(bytes=as_flac(rng.integers(-99, 99, (900, 1))), path=f"{i}.flac") for i in range(n)]
        columns = dict(audio=sounds, label=[i % 2 for i in range(n)], speaker=[f"{split} {i // 2}" for i in range(n)])
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    found = sound_parquet(tmp_path)
    assert found.sizes == dict(train=8, val=4, test=4) and found.classes == ("down", "up")
    kept = hear(found, tmp_path / "kept", AudioConfig)
    assert kept.images("test").shape == (4, RATE) and set(kept.attributes("test").speaker) == {"test 0", "test 1"}
    one = sound_parquet(tmp_path / "train-00000-of-00001.parquet", val=0.25, test=0.25)
    assert one.sizes == dict(train=4, val=2, test=2) and "cut by speaker" in " ".join(one.notes)


def test_speech_commands_as_tensorflow_datasets_builds_it(tmp_path):
    import tensorflow_datasets as tfds

    def sounds(seed):
        return np.random.default_rng(seed).integers(-(2**15), 2**15, (6, 700))

    class SpeechCommands(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("0.0.3")
        name = "speech_commands"

        def _info(self):
            label = tfds.features.ClassLabel(names=["no", "yes"])
            features = dict(audio=tfds.features.Audio(file_format="wav", sample_rate=RATE), label=label)
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._examples(i) for i, split in enumerate(("train", "validation", "test"))}

        def _generate_examples(self):
            raise NotImplementedError

        def _examples(self, seed):
            for i, sound in enumerate(sounds(seed)):
                yield i, dict(audio=sound, label=i % 2)

    refused(lambda: speech_commands(tmp_path), "holds no speech_commands", "tfds build speech_commands")
    SpeechCommands(data_dir=tmp_path).download_and_prepare()
    found = speech_commands(tmp_path, max_train=4)
    assert found.sizes == dict(train=4, val=6, test=6) and found.classes == ("no", "yes")
    samples = next(row[2] for row in found.rows() if row[0] == "test")
    assert samples.dtype == np.int16 and any((samples == s).all() for s in sounds(2))


# The front end


@pytest.mark.parametrize(
    "data",
    [AudioConfig(16_000), AudioConfig(4_000, "log-mel", 48, 20), AudioConfig(8_000, "spectrogram", 20, 32)],
    ids=str,
)
def test_a_tone_is_bright_in_its_band_as_bright_as_said_and_nowhere_far(data):
    rate, window, bands = data.sample_rate, data.chain.window, data.bands
    tips = edges(data.chain)[1:-1]
    for band in (bands // 3, bands - 3):
        for loud in (2.0**15 - 1, 2.0**9):
            tone = np.round(loud * np.sin(2 * np.pi * tips[band] * np.arange(window) / rate)).astype(np.int16)
            row = features(tone, data.chain, window)[0].astype(int)
            assert abs(int(row.argmax()) - band) <= 1
            assert -20 < row.max() - (255 + 20 * np.log10(loud / 2**15) / 96 * 255) < 2
            assert band < 8 or row[: band - 7].max() < row.max() - 60


def test_silence_and_the_loudest_noise_do_no_harm():
    for data in SPACE.data_configs:
        noise = np.random.default_rng(0).choice([-(2**15), 2**15 - 1], RATE).astype(np.int16)
        for sound in (np.zeros(RATE, np.int16), noise):
            image = data.see(sound)
            assert image.shape == data.shape and image.dtype == np.uint8
    assert AudioConfig(4_000).see(np.zeros(RATE, np.int16)).max() == 0


def test_head_and_records_of_many_front_ends_are_what_the_interpreter_takes():
    rng = np.random.default_rng(0)
    for kind in ("spectrogram", "log-mel", "mfcc"):
        rate, bands, window = rng.choice([4_000, 8_000, 16_000]), rng.integers(4, 41), rng.integers(20, 65)
        data = AudioConfig(rate, kind, bands, window, 20)
        seen, needs = arena(front_file(data.chain)), front_records(data.chain, 64)
        assert (plan(front_buffers(data.chain))[1], needs.tail) == (seen.head, seen.tail)
        assert front_memory(data, 64)["tensors"] == seen.head
        assert sum(front_memory(data).values()) == data.own_cost.ram_bytes
        assert lines(data.chain) >= data.chain.window and data.own_cost.flash_bytes == len(front_file(data.chain))


def test_what_cannot_be_heard_is_said():
    for make, *says in (
        (lambda: AudioConfig(44_100), "sample_rate 44100", "16,000"),
        (lambda: AudioConfig(11_025), "whole thousands"),
        (lambda: AudioConfig(8_000, "wavelet"), "log-mel"),
        (lambda: AudioConfig(8_000, "mfcc", 41), "at most 40"),
        (lambda: AudioConfig(8_000, window_ms=20, hop_ms=30), "overlap"),
        (lambda: AudioConfig(8_000, bands=2.5), "bands 2.5"),
        (lambda: AudioSpace(()), "sample_rates"),
    ):
        refused(make, *says)


# Nothing above knows of sound


def test_a_space_of_sound_is_walked_and_its_memory_is_that_of_the_files():
    rng = np.random.default_rng(0)
    for _ in range(50):
        system = SPACE.sample(rng)
        assert SPACE[SPACE.index(system)] == system and SPACE.mutate(system, rng) in SPACE
        assert System.from_dict(system.to_dict(), AudioConfig) == system
    images = rng.integers(0, 256, (8, *system.data.shape), dtype=np.uint8)
    model = keras_model(system, 4)
    model.set_weights([w + rng.uniform(0.01, 0.3, w.shape) for w in model.get_weights()])  # equal ones share a tensor
    tflite = quantise(model, images)
    found, file, own = footprint(system, 4), footprint_of(tflite), system.data.own_cost
    assert (found.ram_bytes - own.ram_bytes, found.macs - own.macs) == (file.ram_bytes, file.macs)
    seen, tail = arena(tflite), records_of(operators(system, 4), 64).tail
    assert (seen.head, seen.tail) == (file.ram_bytes, tail) and macs(system, 4) == file.macs
    assert not Limits(arena_bytes=found.arena_bytes - 1).admits(found) and Limits(macs=found.macs).admits(found)


def test_a_batch_of_sound_is_a_function_of_seed_and_step(heard):
    recipe = Recipe(epochs=1, batch=8)
    systems = [SPACE[0], SPACE[-1]]
    one, same, other = (batch_at(heard, replace(recipe, seed=seed), 3, lambda rng: systems)[0] for seed in (0, 0, 1))
    shapes = [((8, *s.data.shape[:2], 3), np.uint8) for s in systems]
    assert [(images.shape, images.dtype) for _, images in one] == shapes
    assert all((a[1] == b[1]).all() for a, b in zip(one, same)) and not (one[0][1] == other[0][1]).all()
    still = changed(heard.images("train")[0], 0, 1.0, 0.0, 0)
    assert (still == heard.images("train")[0]).all()


def test_a_supernet_learns_words_is_scored_and_exported(heard, tmp_path):
    net = Supernet(SPACE, 4).train(heard, Recipe(epochs=1, batch=16, zero_last=True, own_scale=True), check_images=0)
    scores = Scorer(net, heard, calibration=32)(list(SPACE)[::9])
    assert (scores >= 0).all() and heard.view("val", SPACE[0].data).images.shape == (24, *SPACE[0].data.shape)
    system = SPACE[-1]
    train, test = (heard.view(split, system.data) for split in ("train", "test"))
    model = net.extract(system, np.array(train.images))
    tflite, known = deploy(system, model, np.array(train.images), test.images, test.labels, False, heard.classes)
    folder = export_hearing(tmp_path / "hears", tflite, known, heard.images("test")[0], heard.classes)
    assert "SignalFilterBank" in (folder / "model_card.md").read_text()
    main = (folder / "front_end/example/main.cc").read_text()
    assert "AddFilterBankSquareRoot();" in main and "nullptr" not in main
    sound = np.frombuffer((folder / "example_recording.bin").read_bytes(), np.int16)
    seen = features(sound, system.data.chain, system.data.hop)
    assert (seen.astype(int) - 128).astype(np.int8).tobytes() == (folder / "example_features.bin").read_bytes()
    assert pixel_table(ports(tflite)[0])[seen].tobytes() == (folder / "example_input.bin").read_bytes()
    two = dict(images=seen[None, ..., None], workers=1, progress=False)
    for interpreter in ("reference", "micro"):
        assert predict(tflite, **two, interpreter=interpreter).tobytes() == (folder / "example_output.bin").read_bytes()


def test_the_loops_say_that_they_do_not_hear(heard):
    refused(lambda: Supernet(SPACE, 4).train(heard, Recipe(epochs=1, engine="loops"), check_images=0), "engine='keras'")


@speech
def test_real_recordings_are_read_as_they_were_and_no_speaker_is_in_two_splits(tmp_path):
    found = sound_parquet(os.environ["DANS_SPEECH"], max_train=60, max_val=9, max_test=9)
    assert len(found.classes) == 9 and found.sizes == dict(train=60, val=9, test=9)
    kept = hear(found, tmp_path, AudioConfig)  # the MD5 of each is checked
    who = {split: set(kept.attributes(split).speaker) for split in kept.sizes}
    assert not who["train"] & who["test"] and not who["train"] & who["val"]
    image = AudioConfig(16_000).see(kept.images("train")[0])
    assert 20 < image.mean() < 200 and image.std() > 10


# Spaces with a name


def test_spaces_with_a_name_hold_the_front_end_that_is_compared():
    whole, small = AudioSpace.preset("sound"), KeywordSpace.preset("mlperf-tiny")
    assert len(whole.data_configs) == 24 and len(whole) == 1320
    assert [str(data) for data in small.data_configs] == ["16kHz-mfcc10-40by20ms"]
    assert set(small.data_configs) < set(whole.data_configs)
    assert {type(system.arch) for system in small} == {DSCNN}
    assert footprint(small[3], 9).arena_bytes < 64 * 1024
    refused(lambda: AudioSpace.preset("mlperf-tiny"), "preset 'mlperf-tiny' is unknown")
