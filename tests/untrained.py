"Systems whose network is not trained, but whose outputs vary, with images."

import keras
import numpy as np

from dans.families import Architecture
from dans.frontends import ImageConfig, scaled
from dans.net.elastic import keras_model
from dans.space import System

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
    system = System(ImageConfig(int(resolution), color), Architecture(depths, width, rounding))
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
