"Keras models of other people: how they end, what goes in, and one line for what is not taken."

import numpy as np
import pytest

from dans.board.convert import Found, columns, convert, ending, find_out, loaded
from dans.board.ends import answers, outline
from dans.board.frames import feed, guess
from dans.house import DansError
from dans.net.elastic import keras

layers = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
LABELS = (IMAGES[..., 0].mean((1, 2)) > IMAGES[..., 1].mean((1, 2))).astype(int)


def brighter(*before, end=(), divisor=255.0, offset=0.0, out=2, dtype=None):
    "A model that says exactly whether red or green is brighter in real values; `before` and `end` are more layers."
    model = keras.Sequential([keras.Input((12, 12, 3)), *before, layers.GlobalAveragePooling2D(dtype=dtype)])
    model.add(layers.Dense(out, dtype=dtype))
    for layer in end:
        model.add(layer)
    weights = np.zeros((3, out), np.float32)
    weights[:2, -1] = 40, -40
    dense = next(layer for layer in model.layers if isinstance(layer, layers.Dense))
    dense.set_weights([weights, np.zeros(out, np.float32)])
    return model


def test_a_softmax_is_found_wherever_it_stands():
    assert ending(brighter()) == "values"
    assert ending(brighter(end=[layers.Softmax()])) == "softmax"
    assert ending(brighter(end=[layers.Activation("softmax"), layers.Dropout(0.5), layers.Reshape((2,))])) == "softmax"
    nested = keras.Sequential([keras.Input((12, 12, 3)), brighter(end=[layers.Softmax()])])
    assert ending(nested) == "softmax"
    assert ending(brighter(out=1, end=[layers.Activation("sigmoid")])) == "sigmoid"


def test_no_second_softmax_and_pixels_go_in_where_the_model_scales():
    model = brighter(layers.Rescaling(1 / 255), end=[layers.Softmax()])
    found = find_out(model, IMAGES, LABELS)
    assert found.end == "softmax" and found.pixels == (1.0, 0.0) and "layer" in found.why
    tflite = convert(model, IMAGES, found)
    about = outline(tflite)
    assert about.operators.count("SOFTMAX") == 1
    made = guess(about.inputs[0])
    assert made.divisor == (1.0,) and made.offset == (0.0,)
    said = answers(tflite, [feed(IMAGES, made, about.inputs[0])], workers=1)[0]
    assert (said.argmax(1) == LABELS).mean() > 0.9


def test_the_range_is_found_by_labels_where_no_layer_says_it():
    sharp = brighter()
    sharp.layers[-1].set_weights([np.float32([[0, 40], [0, -40], [0, 0]]), np.float32([0, 0])])
    assert find_out(sharp, IMAGES, LABELS).pixels == (127.5, -1.0)  # no range is better, so the project's own
    narrow = keras.Sequential([keras.Input((12, 12, 3)), layers.ReLU(1.0), *brighter().layers])
    high = (IMAGES // 4 + np.where(LABELS[:, None, None, None], [100, 0, 0], [0, 100, 0])).astype(np.uint8)
    found = find_out(narrow, high // 2, LABELS)  # below 0 nothing is left of -1 to 1, and above 1 nothing of pixels
    assert found.pixels == (255.0, 0.0) and "%" in found.why


def test_one_sigmoid_output_says_which_of_two_classes():
    model = brighter(layers.Rescaling(1 / 255), out=1, end=[layers.Activation("sigmoid")])
    found = find_out(model, IMAGES, LABELS)
    tflite = convert(model, IMAGES, found)
    about = outline(tflite)
    assert found.end == "sigmoid" and about.operators[-1] == "LOGISTIC" and about.outputs[0].shape == (1,)
    raw = answers(tflite, [feed(IMAGES, guess(about.inputs[0]), about.inputs[0])], workers=1)[0]
    real = about.outputs[0].scale * (raw.astype(float) - about.outputs[0].zero_point)
    assert (columns(real).argmax(1) == LABELS).mean() > 0.9


def test_mixed_precision_is_loaded_in_float32(tmp_path):
    brighter(layers.Conv2D(3, 1, dtype="mixed_float16"), dtype="mixed_float16").save(tmp_path / "mixed.keras")
    model = loaded(tmp_path / "mixed.keras")
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert len(convert(model, IMAGES, Found("values", (127.5, -1.0), "here"))) > 500


def test_several_outputs_are_one_line(tmp_path):
    start = keras.Input((12, 12, 3))
    pooled = layers.GlobalAveragePooling2D()(start)
    keras.Model(start, [layers.Dense(2)(pooled), layers.Dense(3)(pooled)]).save(tmp_path / "two.keras")
    with pytest.raises(DansError, match="1 inputs and 2 outputs"):
        loaded(tmp_path / "two.keras")
