"Spoken words: loops for images that are not square, folds by speaker, one search within its budget."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from make_data import refused

from dans.choose.truth import AWARE
from dans.cost.audio import AudioConfig, AudioSpace, KeywordSpace
from dans.data.heard import hear
from dans.data.words import words
from dans.ds_cnn import DSCNN
from dans.families import Architecture
from dans.net.elastic import initial_weights
from dans.net.oblong import Oblong, windows_of
from dans.net.step import Layout, Trainer
from dans.net.train import Recipe
from dans.paper.keywords import Ceiling, Plan, arms_of, known_rows, right_of, searched, sure
from dans.paper.spoken import Clips, batch_of, parts_of
from dans.space import System


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return Clips(hear(words(48, 16, 16, each=4), tmp_path_factory.mktemp("heard"), AudioConfig), takes=1)


@pytest.mark.parametrize(
    "system",
    [
        System(AudioConfig(8_000, "log-mel", 20, 40, 20), Architecture((1, 1, 1, 1, 0), 0.1)),
        System(AudioConfig(16_000, "mfcc", 10, 40, 20), DSCNN((1,), 0.1)),
    ],
    ids=str,
)
def test_loops_find_the_gradient_of_keras(system):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (6, *system.data.shape), np.uint8), rng.integers(0, 4, 6)
    targets, weights = np.eye(4, dtype=np.float32)[labels], initial_weights(system.arch, 4, 0)
    net, other = Oblong(system, 4, 6), Trainer(Layout(system.arch, 4))
    net.load(weights)
    other.load(weights)
    windows = windows_of(images, net.net.stem_kernel)
    loss = net.back(windows, net.forward(windows, True, True), targets.T, 0.5)
    wanted, _, gradient = other.gradients(system, np.repeat(images, 3, -1), targets, 0.5)
    gradient = np.array(gradient)
    assert loss == pytest.approx(float(wanted), rel=1e-4)
    assert np.abs(net.gradient - gradient).max() < 1e-3 * np.abs(gradient).max()


def test_nobody_speaks_on_two_sides_and_every_recording_is_tested_once(clips):
    parts = parts_of(clips, 4)
    for part in parts:
        train, val, test = (set(clips.speakers[part.rows[split]]) for split in ("train", "val", "test"))
        assert not train & val and not train & test and not val & test
    assert sorted(np.concatenate([part.rows["test"] for part in parts])) == list(range(len(clips)))
    assert len({part.key for part in parts}) == 4
    refused(lambda: parts_of(clips, 2), "2 folds are too few")
    refused(lambda: parts_of(clips, 99), "too few for 99 folds")


def test_batches_follow_from_seed_and_step_and_cover_an_epoch(clips):
    part, recipe = parts_of(clips)[0], Recipe(batch=8, seed=3)
    first = [batch_of(part, recipe, t)[:2] for t in range(2)]
    for again, (rows, takes) in zip((batch_of(part, recipe, t)[:2] for t in range(2)), first):
        assert (again[0] == rows).all() and (again[1] == takes).all()
    steps = part.sizes["train"] // 8
    seen = np.concatenate([batch_of(part, recipe, t)[0] for t in range(steps)])
    assert len(set(seen)) == 8 * steps and set(seen) <= set(part.rows["train"])


def test_features_are_computed_once_and_as_they_are_in_the_first_take(clips):
    data = AudioConfig(4_000, "log-mel", 10, 40, 40)
    seen = clips.seen(data)
    assert seen.shape == (len(clips), 2, *data.shape)
    assert (seen[50, 0] == data.see(clips.recording(50))).all()  # of the second split
    assert (seen[:, 0] != seen[:, 1]).any()


def test_a_search_is_within_budget_and_limits_and_says_the_same_again(clips):
    short = Recipe(epochs=1, batch=16)
    limits = Ceiling(95_000, 1e6), Ceiling(150_000, 1e6)
    plan = Plan(limits, 2e8, replace(short, own_scale=True), short, 1)
    space, part = AudioSpace.preset("smoke"), parts_of(clips)[1]
    found = searched(space, part, plan)
    assert "network" not in found[0] and found[1]["second_macs"] <= 150_000
    assert 0 < found[1]["cost_macs"] <= plan.budget
    assert found == searched(space, part, plan)
    refused(lambda: searched(space, part, replace(plan, budget=1e6)), "leaves no epoch")
    rows = pd.DataFrame([dict(arm=AWARE, fold=1, seed=0, key="k", **record) for record in found])
    [known] = known_rows(rows)["k"].values()
    assert known[1]["answers"] == found[1]["answers"] and known[0]["answers"] is None


def test_arms_hold_one_front_end_each_but_for_the_first():
    arms = arms_of(AudioSpace.preset("sound"), KeywordSpace.preset("mlperf-tiny"))
    assert [len(space.data_configs) for space in arms.values()] == [24, 1, 1, 1, 1]
    assert arms["dearest"].data_configs[0].own_cost.macs > arms["middle"].data_configs[0].own_cost.macs


def test_intervals_draw_speakers():
    clips = pd.DataFrame(dict(fold=0, place=range(8), speaker=[0] * 4 + [1] * 4, label=0))
    rows = pd.DataFrame(dict(arm=[AWARE, "b"], fold=0, seed=0, limit_macs=1.0, answers=["aaaabbbb", "aaaaaaaa"]))
    found = sure(right_of(rows, clips), 200).set_index("arm")
    assert found.loc[AWARE, "accuracy"] == 0.5
    assert (found.loc[AWARE, "low"], found.loc[AWARE, "high"]) == (0, 1)  # two speakers, one always right
    assert found.loc["b", ["low", "high", "above"]].tolist() == [1, 1, -0.5]
