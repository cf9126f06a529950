"Networks by hand, and the space of 2023: what they cost, and that Keras builds what is counted."

from math import prod

import numpy as np
import pytest

from dans.frontends import ImageConfig
from dans.house import DansError
from dans.paper.plain import (
    CHANNELS,
    HANDMADE,
    MOBILENET_V1,
    MOBILENET_V2,
    MOST_LAYERS,
    Layer,
    Plain,
    colabnas,
    cost_of,
    cost_or_none,
    drawn_2023,
    keras_of,
    operators_of,
)

SEEN = ImageConfig(24)
SMALL = Plain((Layer(4), Layer(6, pool=True, activation="sigmoid"), Layer(8, separable=True, stride=2)), hidden=5)
OF_2023 = Plain((Layer(2), Layer(4, 5, activation="sigmoid")), hidden=10, flat=True, norm=False, padded=False)


def test_macs_are_those_that_authors_state():
    assert cost_of(colabnas(8, 5), ImageConfig(50), 2).macs == pytest.approx(2.086e6, rel=1e-3)
    assert cost_of(colabnas(2, 3), ImageConfig(50), 2).macs == pytest.approx(0.227e6, rel=3e-3)
    assert cost_of(MOBILENET_V1, ImageConfig(96), 2).macs == pytest.approx(7.5e6, rel=0.01)
    assert all(data.resolution <= 64 for data, _ in HANDMADE.values())


@pytest.mark.parametrize("net", [SMALL, OF_2023], ids=["small", "of 2023"])
@pytest.mark.parametrize("color", ["rgb", "mono"])
def test_keras_builds_what_is_counted(net, color):
    data = ImageConfig(24, color)
    model = keras_of(net, data, 2)
    kernels = sum(prod(v.shape) for v in model.trainable_variables if len(v.shape) > 1)
    assert kernels == sum(op.weights for op in operators_of(net, data, 2))
    assert model.output_shape == (None, 2)
    again, other = keras_of(net, data, 2), keras_of(net, data, 2, seed=1)
    same = [np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights())]
    assert all(same) and not np.array_equal(model.get_weights()[0], other.get_weights()[0])


def test_keras_own_mobilenet_ends_in_logits():
    model = keras_of(MOBILENET_V2, ImageConfig(32), 2)
    assert model.output_shape == (None, 2) and model.layers[-1].activation.__name__ == "linear"


def test_a_map_must_be_large_enough():
    with pytest.raises(DansError, match="a filter of 5 pixels does not fit a map of 4x4"):
        operators_of(Plain((Layer(2, 5),) * 6, padded=False), SEEN, 2)
    assert cost_or_none(Plain((Layer(2, 5),) * 6, padded=False), SEEN, 2) is None


def test_the_space_of_2023_is_drawn_uniformly():
    rng, configs = np.random.default_rng(0), (ImageConfig(24), ImageConfig(32, "mono"))
    drawn = [drawn_2023(rng, configs) for _ in range(500)]
    assert {data for data, _ in drawn} == set(configs)
    assert {len(net.layers) for _, net in drawn} == set(range(1, MOST_LAYERS + 1))
    assert {layer.channels for _, net in drawn for layer in net.layers} == set(CHANNELS)
    again = np.random.default_rng(0)
    assert [drawn_2023(again, configs) for _ in range(5)] == drawn[:5]
