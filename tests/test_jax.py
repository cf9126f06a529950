"The same training and scoring on JAX, in a process of its own, against TensorFlow in this one."

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import on_backend
import pytest
from on_backend import RECIPE, SPACE, SYSTEMS

pytest.importorskip("jax")
ALL = range(len(SYSTEMS))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the two backends found: name -> value, of each. XLA compiles without most of its optimisations, which takes
    two thirds of the time; `make bench ONLY=backends` compares with them."""
    folder = tmp_path_factory.mktemp("backends")
    prepared, net = on_backend.small_images(folder), on_backend.bent()
    tensorflow = on_backend.steps(net, prepared) | on_backend.scores(net, prepared)
    tensorflow["losses"] = on_backend.losses(on_backend.trained(prepared))
    done = subprocess.run(
        [sys.executable, on_backend.__file__, folder],
        capture_output=True,
        text=True,
        env=os.environ | dict(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu", JAX_DISABLE_MOST_OPTIMIZATIONS="1"),
    )
    assert not done.returncode, done.stderr[-2000:]
    with np.load(Path(folder) / "jax.npz") as jax:
        return tensorflow, dict(jax)


@pytest.mark.parametrize("i", ALL, ids=map(str, SYSTEMS))
def test_gradients_are_those_of_tensorflow(found, i):
    tensorflow, jax = found
    for name in ("loss", "logits"):
        np.testing.assert_allclose(jax[f"{name}{i}"], tensorflow[f"{name}{i}"], atol=1e-4, err_msg=name)
    norm = np.linalg.norm(tensorflow[f"gradient{i}"], axis=1)
    error = np.linalg.norm(jax[f"gradient{i}"] - tensorflow[f"gradient{i}"], axis=1) / norm
    # A mistake shows at every draw of the weights; a ReLU6 unit that rounding carries over its kink, at a few
    assert norm.min() > 0.1 and np.median(error) < 1e-4 and error.max() < 0.05, error


def test_updates_from_the_same_gradients_are_those_of_tensorflow(found):
    tensorflow, jax = found
    np.testing.assert_allclose(jax["updated"], tensorflow["updated"], atol=1e-6)


def test_a_training_is_that_of_tensorflow_but_for_rounding(found):
    tensorflow, jax = found
    np.testing.assert_allclose(jax["losses"], tensorflow["losses"], rtol=0.02)
    assert jax["losses"][-1] < 0.95 * jax["losses"][0]


def test_an_interrupted_training_goes_on_with_the_same_bits(found):
    names = [name.removeprefix("whole/") for name in found[1] if name.startswith("whole/")]
    assert len(names) > 50 and found[1]["resumed_from"] == 1 < len(found[1]["losses"])
    for name in names:
        np.testing.assert_array_equal(found[1][f"resumed/{name}"], found[1][f"whole/{name}"], err_msg=name)


def test_every_option_trains(found):
    "bfloat16, scales of their own (only those of the trained data configuration move), weight decay, averaging."
    _, jax = found
    assert np.isfinite(jax["options_losses"]).all()
    assert all(value.dtype == np.float32 for name, value in jax.items() if name.startswith("options/"))
    rgb = [data.color == "rgb" for data in SPACE.data_configs]
    decayed = np.ptp(jax["options/stem/gamma"], axis=1) < 1e-6  # untouched but for the decay, all are equal
    np.testing.assert_array_equal(~decayed, rgb)


@pytest.mark.parametrize("i", range(2))
def test_logits_are_those_of_tensorflow(found, i):
    tensorflow, jax = found
    for name in (f"alone{i}", f"tree{i}"):
        np.testing.assert_allclose(jax[name], tensorflow[f"alone{i}"], atol=1e-4)
    assert np.ptp(jax[f"alone{i}"]) > 0.1


def test_scores_are_those_of_tensorflow(found):
    tensorflow, jax = found
    unclear = [np.sum(np.abs(np.diff(tensorflow[f"alone{i}"])) < 2e-4) / len(tensorflow["labels"]) for i in range(2)]
    assert (np.abs(jax["scores"] - tensorflow["scores"]) <= unclear).all()


def test_a_cut_out_model_computes_what_its_subnet_computes(found):
    np.testing.assert_allclose(found[1]["model"], found[1]["subnet"], atol=1e-5)


def test_one_compilation_for_each_width_and_image_size(found):
    _, jax = found
    assert [int(jax[f"compilations{i}"]) for i in ALL] == [1, 2, 2, 2]
    assert jax["compilations"] == len(SPACE.widths) * len(SPACE.resolutions)
    first, again = jax["first_seconds0"], jax["step_seconds"]
    print(f"JAX, {SYSTEMS[0]}, batch {RECIPE.batch}: compilation {first - again:.1f} s, a step {again * 1e3:.1f} ms")
    assert again < first


def test_tensorflow_is_not_needed(found):
    assert not found[1]["tensorflow_loaded"]
