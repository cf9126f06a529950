"The header that turns a camera's frame into the model's input, against Python, on photographs and on drawings."

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dans.board.ends import End
from dans.board.frames import Preprocessing, feed, guess, is_image, preprocess_header, run_header, steps, tables, told
from dans.data.scenes import draw
from dans.frontends import reduce, square
from dans.house import DansError

COMPILERS = [c for c in ("gcc", "g++", "cc", "c++", "clang") if shutil.which(c)]
GREY, RGB = End("", (48, 48, 1), "int8", 1 / 127.5, -1), End("", (40, 40, 3), "int8", 1 / 127.5, -1)


def compiler():
    if not COMPILERS:
        pytest.skip("no C compiler here")
    return COMPILERS[0]


def packed(image, big=False):
    "An RGB image as RGB565, and the RGB image that it is."
    r, g, b = (image[..., c].astype(np.uint16) for c in range(3))
    word = (r >> 3) << 11 | (g >> 2) << 5 | b >> 3
    r, g, b = word >> 11, word >> 5 & 63, word & 31
    back = np.stack([r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2], -1).astype(np.uint8)
    return word.astype(">u2" if big else "<u2").tobytes(), back


def apart(image, end, fit, format="RGB888", **fields):
    "The largest difference between the header and Python: 0 but for rare roundings."
    made = guess(end, fit)
    made = Preprocessing(**{**{k: getattr(made, k) for k in made.__dataclass_fields__}, **fields})
    frame, color = image.tobytes(), "mono" if end.shape[2] == 1 else "rgb"
    if format.startswith("RGB565"):
        frame, image = packed(image, format.endswith("BIG"))
    if format == "BGR888":
        frame = image[..., ::-1].tobytes()
    if format == "GREY8":
        grey = image.mean(-1).astype(np.uint8)
        frame, image = grey.tobytes(), grey[..., None].repeat(3, -1)
    size = image.shape[1::-1]
    answer = run_header(preprocess_header(made, end), frame, size, format, end, compiler())
    box = square(size, fit)
    image, box = (reduce(image, made.kept, box=box), None) if made.kept else (image, box)
    wanted = feed(reduce(image, end.shape[0], color, box), made, end)
    return np.abs(answer.astype(int) - wanted).max()


def photographs(variable, n):
    "Some real photographs of a folder of parquet files."
    import pyarrow.parquet as pq
    from PIL import Image

    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no folder of photographs")
    path = sorted(Path(folder).rglob("*.parquet"))[0]
    table = pq.ParquetFile(path)
    column = next(c for c in ("image", "img", "jpg") if c in table.schema_arrow.names)
    for row in next(table.iter_batches(n, columns=[column])).to_pylist():
        yield np.asarray(Image.open(io.BytesIO(row[column]["bytes"])).convert("RGB"))


@pytest.mark.parametrize("format", ["RGB888", "BGR888", "RGB565", "RGB565_BIG", "GREY8"])
@pytest.mark.parametrize("end, fit", [(GREY, "crop"), (RGB, "squash")], ids=["grey", "rgb"])
def test_every_format_of_a_frame_becomes_what_python_makes_of_it(format, end, fit):
    image = draw(3, "train", 1, 160)[0][:120, :151]
    assert apart(image, end, fit, format) == 0


@pytest.mark.parametrize("size", [(31, 47), (40, 40), (97, 40), (40, 96), (160, 120)])
def test_frames_of_any_size_smaller_ones_too(size):
    image = draw(3, "train", 2, 160)[0][: size[1], : size[0]]
    assert apart(image, RGB, "crop") <= 1


@pytest.mark.parametrize("format", ["RGB888", "GREY8"])
def test_two_reductions_where_training_took_two(format):
    image = draw(3, "train", 2, 160)[0][:120]
    assert apart(image, RGB, "crop", format, kept=80) == 0
    assert guess(RGB, kept=80).kept == 80 and guess(RGB, kept=40).kept is None
    assert "80 x 80" in steps(guess(RGB, kept=80), RGB)[1]


@pytest.mark.parametrize("variable", ["DANS_PERSON", "DANS_PHOTOS"])
def test_real_photographs(variable):
    for k, image in enumerate(photographs(variable, 4)):
        assert apart(image, (GREY, RGB)[k % 2], "crop", ("RGB888", "RGB565")[k // 2]) == 0
    assert apart(image, RGB, "crop", kept=80) == 0


def test_other_ranges_and_types():
    image = draw(3, "train", 4, 64)[0]
    unit = End("", (24, 24, 3), "int8", 1 / 255, -128)
    byte = End("", (24, 24, 1), "uint8", 1.0, 0)
    real = End("", (24, 24, 3), "float32")
    assert guess(unit).divisor == (255.0,) and guess(byte).divisor == (1.0,) and guess(real) is None
    assert apart(image, unit, "crop") == 0 and apart(image, byte, "crop") == 0
    made = Preprocessing(24, 24, "bgr", "crop", (58.0, 57.0, 56.0), (-2.0, -1.0, 0.5), "here")
    answer = run_header(preprocess_header(made, real), image.tobytes(), (64, 64), "RGB888", real, compiler())
    wanted = feed(reduce(image, 24, "rgb", square((64, 64), "crop")), made, real)
    assert np.abs(answer - wanted).max() < 1e-6
    assert tables(made, real).shape == (3, 256) and "for each channel" in steps(made, real)[-1]


def test_what_is_no_picture_is_not_taken_for_one():
    for shape in ((49, 10, 1), (1, 96, 1), (1960,), (25, 5, 64), (240, 14)):
        assert not is_image(End("", shape, "int8", 1 / 127.5, -1))
    assert guess(End("", (96, 96, 3), "int8", 0.05, 3)) is None


def test_what_the_user_tells_comes_before_what_is_guessed(tmp_path):
    assert told("MFCC, 40 ms windows", GREY) == (None, ["MFCC, 40 ms windows"])
    (tmp_path / "how.txt").write_text("one\n\ntwo\n")
    assert told(str(tmp_path / "how.txt"), GREY) == (None, ["one", "two"])
    path = tmp_path / "how.json"
    path.write_text(json.dumps(dict(channels="bgr", fit="squash", divisor=255, offset=[0, 0.5, 1])))
    made, words = told(str(path), RGB)
    assert made.channels == "bgr" and made.offset == (0.0, 0.5, 1.0) and "blue, green and red" in words[2]
    for wrong in ({}, dict(divisor=0, offset=1), dict(divisor=1, offset=[1, 2]), dict(divisor=1, offset=1, fit="cut")):
        path.write_text(json.dumps(wrong))
        with pytest.raises(DansError):
            told(str(path), RGB)
    with pytest.raises(DansError, match="cannot be read"):
        told(str(tmp_path / "none.json"), RGB)
