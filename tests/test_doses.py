"Doses of far persons, and the control in which resolution carries no information."

from dataclasses import replace
from io import StringIO
from itertools import islice

import numpy as np
import pandas as pd
import pytest

from dans.choose.claimed import doses
from dans.cost.footprint import macs
from dans.data.catalogue import open_source
from dans.data.prepared import prepare
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.paper.doses import DEPTHS, MIDDLE, PAIRS, SHARES, asked_for_light, mean_grey, of_equal_cost, scenes_at
from dans.space import SearchSpace


@pytest.fixture(scope="module")
def scenes():
    return scenes_at(0.3, 40)


def test_systems_of_equal_cost_are_in_the_space_and_cost_about_the_same():
    systems = of_equal_cost()
    assert len(set(systems)) == len(PAIRS) * len(DEPTHS)
    assert all(system in SearchSpace.preset("bench") for system in systems)
    for depths in DEPTHS:
        costs = [macs(system, 2) for system in of_equal_cost([depths])]
        assert max(costs) <= 1.3 * min(costs)


def test_the_control_asks_another_question_of_the_same_images(scenes):
    for (split, name, image, label, about), (*same, other, about_too) in zip(
        scenes.rows(), asked_for_light(scenes).rows()
    ):
        assert same[:2] == [split, name] and (same[2] == image).all() and about == about_too
        wrong = label != about["person"]
        assert (other != (mean_grey(image) >= MIDDLE)) == wrong
        assert not wrong or split != "test"
    assert asked_for_light(scenes).key != scenes.key


def test_every_resolution_shows_the_light(scenes):
    for _, _, image, *_ in islice(scenes.rows(), 20):
        for resolution in PAIRS:
            assert abs(mean_grey(ImageConfig(resolution).see(image)) - mean_grey(image)) < 0.5


def test_the_middle_dose_is_the_data_set_of_the_table(scenes, tmp_path):
    _, prepared = open_source("wake_scenes", [24], tmp_path, n_train=40, n_val=16, n_test=24, seed=0)
    assert prepare(scenes, [24], tmp_path).key == prepared.key


def test_a_control_of_photographs_is_an_error(scenes):
    with pytest.raises(DansError, match="not of photographs: take `scenes_at`"):
        asked_for_light(replace(scenes, name="photographs"))


def test_claim_3_reads_the_rows_as_they_are_written():
    rows, rng = [], np.random.default_rng(0)
    for share in (*SHARES, None):
        for system in of_equal_cost():
            gain = 0.1 * (share or 0) * (system.data.resolution - 32) / 32
            about = dict(share=share, **system.to_dict(), epochs=1)
            rows += [about | dict(seed=seed, accuracy=0.7 + gain + rng.normal(0, 1e-4)) for seed in (0, 1)]
    table = pd.DataFrame(rows)
    table = pd.read_csv(StringIO(table.to_csv(index=False)), dtype={"depths": str})
    dose, control = doses(table)
    assert control["verdict"] == "equivalent"
    assert dose["part"] == "doses" and dose["effect"] >= 0
