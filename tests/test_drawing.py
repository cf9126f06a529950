"What the shapes of dans.data.drawing guarantee: they stand on their foot, fit their height, vary."

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dans.data import drawing
from dans.data.drawing import Pen, palette
from dans.data.shapes import BACKGROUNDS, POSES, THINGS, colours, person

BLANK = (1, 2, 3)
FOOT = 0.9


def paint(draw, side=200, size=0.6, flip=1):
    image = Image.new("RGB", (side, side), BLANK)
    draw(Pen(ImageDraw.Draw(image, "RGBA"), side).at(0.5, FOOT, size, flip))
    return np.asarray(image)


def extent(pixels):
    "Left, right, top and bottom of what is drawn, as shares of the side."
    rows, columns = np.nonzero((pixels != BLANK).any(-1))
    return np.array([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1]) / len(pixels)


def a_person(pose, seed):
    def draw(p):
        rng = np.random.default_rng(seed)
        person(p, rng, rng, palette(rng), pose)

    return draw


def a_thing(kind, seed, natural=1):
    def draw(p):
        rng = np.random.default_rng(seed)
        ink = palette(rng)
        THINGS[kind][0](p, rng, rng, colours(rng, ink, kind, natural), ink)

    return draw


@pytest.mark.parametrize("pose", POSES)
def test_a_person_stands_on_the_ground(pose):
    for seed in range(8):
        left, right, top, bottom = extent(paint(a_person(pose, seed)))
        assert abs(bottom - FOOT) < 0.02
        height = (bottom - top) / 0.6
        assert (0.88 if pose in ("standing", "walking") else 0.5) < height < 1.25
        assert right - left < 1.2 * 0.6


@pytest.mark.parametrize("kind", THINGS)
def test_a_distractor_fits_its_height(kind):
    for seed in range(8):
        left, right, top, bottom = extent(paint(a_thing(kind, seed)))
        assert abs(bottom - FOOT) < 0.05  # a bar ends round
        assert 0.8 < (bottom - top) / 0.6 < 1.12


@pytest.mark.parametrize("draw", [a_person("waving", 3), a_thing("dog", 3), a_thing("car", 3)])
def test_a_flipped_pen_mirrors(draw):
    plain, mirrored = paint(draw).astype(int), paint(draw, flip=-1).astype(int)
    unlike = np.abs(plain - mirrored).mean()
    assert unlike > 1 and np.abs(plain - mirrored[:, ::-1]).mean() < 0.4 * unlike


@pytest.mark.parametrize("draw", [a_person("standing", 1), a_thing("tree", 1), a_thing("bin", 1)])
def test_size_in_pixels_does_not_change_the_shape(draw):
    assert np.allclose(extent(paint(draw, 150)), extent(paint(draw, 600)), atol=0.02)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_a_background_fills_the_picture(kind):
    floors = []
    for seed in range(8):
        image = Image.new("RGB", (100, 100), BLANK)
        p = Pen(ImageDraw.Draw(image, "RGBA"), 100)
        floors.append(BACKGROUNDS[kind](p, np.random.default_rng(seed)))
        assert (np.asarray(image) != BLANK).any(-1).all()
    assert all(0.3 < floor < 1 for floor in floors) and len(set(floors)) == 8


def test_looks_differ():
    assert len({paint(a_person("standing", seed)).tobytes() for seed in range(20)}) == 20
    assert len({palette(np.random.default_rng(seed)) for seed in range(50)}) == 50


def test_pick_keeps_to_its_weights():
    rng = np.random.default_rng(0)
    drawn = [drawing.pick(rng, "abc", (0.2, 0, 0.8)) for _ in range(2000)]
    assert set(drawn) == {"a", "c"} and abs(drawn.count("a") / 2000 - 0.2) < 0.04


def test_unnatural_colours_are_those_of_the_palette():
    ink = palette(np.random.default_rng(1))
    ours = {ink.top, ink.bottom, ink.hair, ink.skin}
    for seed in range(20):
        assert set(colours(np.random.default_rng(seed), ink, "bin", 0)) <= ours
