"""Train and score one small space on the backend that Keras runs on: `python on_backend.py FOLDER` writes
FOLDER/BACKEND.npz."""

import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.net.alone import train_alone
from dans.net.elastic import calibrate, subnet_logits, tensors
from dans.net.score import score_subnets
from dans.net.state import State
from dans.net.step import Layout, as_rgb, trainer
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.net.tree import tree_logits
from dans.space import SearchSpace, System

SPACE = SearchSpace(resolutions=(16,), widths=(0.1, 0.2), max_depths=(2, 1, 0, 0, 0))
RECIPE = Recipe(epochs=4, batch=16)
DRAWS = 8
SYSTEMS = [
    System(ImageConfig(16, color), Architecture((*depths, 0, 0, 0), width))
    for color, depths, width in (
        ("rgb", (2, 1), 0.2),
        ("mono", (0, 0), 0.1),
        ("mono", (1, 0), 0.2),
        ("rgb", (1, 1), 0.1),
    )
]


def small_images(folder):
    return prepare(
        wake_scenes(n_train=64, n_val=32, n_test=32, seed=0, native=32), SPACE.resolutions, Path(folder) / "cache"
    )


def bent(seed=0):
    "A supernet in whose weights no gamma, beta or bias is trivial."
    net, rng = Supernet(SPACE, 2, seed), np.random.default_rng(seed)
    for name, value in net.weights.items():
        if not name.endswith("kernel"):
            value += (0.2 * rng.standard_normal(value.shape)).astype(np.float32)
    return net


def compilations(train):
    "How often the gradient function was compiled (JAX) or traced (TensorFlow)."
    count = "_cache_size" if keras.backend.backend() == "jax" else "experimental_get_tracing_count"
    return getattr(train._gradients, count)()


def steps(net, prepared):
    """Gradients of some subnets at `DRAWS` weights, two updates from given gradients, seconds of a first call and of
    later steps."""
    train, found, labels = trainer(Layout(net.largest.arch, 2)), {}, prepared.labels("train")[: RECIPE.batch]
    nets = [bent(seed) for seed in range(DRAWS)]
    for i, system in enumerate(SYSTEMS):
        images, results = as_rgb(prepared.view("train", system.data, RECIPE.batch).images), []
        for other in nets:
            train.load(other.weights)
            began = time.perf_counter()
            results.append(
                [np.array(v) for v in train.gradients(system, images, np.eye(2, dtype=np.float32)[labels], 0.5)]
            )
            found.setdefault(f"first_seconds{i}", time.perf_counter() - began)
        found |= {f"{name}{i}": np.stack(values) for name, values in zip(("loss", "logits", "gradient"), zip(*results))}
        found[f"compilations{i}"] = compilations(train)
    train.load(net.weights)
    for seed in range(2):
        train.update(
            keras.ops.convert_to_tensor(np.random.default_rng(seed).normal(size=train.vector.shape).astype("f")),
            1e-2,
            0.1,
        )
    found["updated"] = np.array(train.vector)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        train.step([(SYSTEMS[0], prepared.view("train", SYSTEMS[0].data, RECIPE.batch).images, 0)], labels, 1e-3)
        seconds.append(time.perf_counter() - began)
    return found | dict(step_seconds=np.median(seconds))


def scores(net, prepared):
    "Logits of some subnets by themselves and from the tree, and scores."
    found, systems = {}, [SYSTEMS[0], SYSTEMS[2]]
    for i, system in enumerate(systems):
        calibration, val = (prepared.view(split, system.data, 32).images for split in ("train", "val"))
        weights = tensors(net.weights_for(system.data))
        found[f"alone{i}"] = np.array(subnet_logits(weights, system, val, calibrate(weights, system, calibration)))
        found[f"tree{i}"] = tree_logits(net, system.data, system.arch.width, {system.arch.depths}, calibration, val)[
            system.arch.depths
        ]
    return found | dict(scores=score_subnets(net, systems, prepared, calibration=32), labels=prepared.labels("val"))


def trained(prepared, recipe=RECIPE, **kwargs):
    return Supernet(SPACE, 2).train(prepared, recipe, **(dict(check_images=0) | kwargs))


def losses(net):
    return [epoch["loss"] for epoch in net.state.history]


def trainings(prepared, folder):
    "A training in one piece, the same interrupted after an epoch, and one with every option of a recipe."
    whole = trained(prepared)
    file = Path(folder) / f"{keras.backend.backend()}-checkpoint.npz"

    def stop(epoch):
        if epoch["epoch"] == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        trained(prepared, checkpoint=file, on_epoch=stop)
    resumed_from = len(State.load(file)[0].history)
    resumed = trained(prepared, checkpoint=file)
    options = replace(
        RECIPE, epochs=2, networks="largest", own_scale=True, decay=0.1, average=0.5, precision="bfloat16"
    )
    all_options = trained(prepared, options, check_images=32)
    found = {
        f"{kind}/{name}": value
        for kind, net in dict(whole=whole, resumed=resumed, options=all_options).items()
        for name, value in net.weights.items()
    }
    return found | dict(losses=losses(whole), options_losses=losses(all_options), resumed_from=resumed_from)


def extracted(prepared):
    "Logits of a system trained on its own: as a Keras model, and as a subnet."
    system, images = SYSTEMS[2], prepared.view("train", SYSTEMS[2].data, 32).images
    model, state = train_alone(system, prepared, RECIPE, SPACE.architectures[-1], calibration=32, check_images=0)
    weights = tensors(state.weights)
    subnet = subnet_logits(weights, system, images, calibrate(weights, system, images))
    return dict(model=np.array(model(images / np.float32(127.5) - 1, training=False)), subnet=np.array(subnet))


if __name__ == "__main__":
    folder = sys.argv[1]
    prepared, net = small_images(folder), bent()
    found = steps(net, prepared) | scores(net, prepared) | trainings(prepared, folder) | extracted(prepared)
    found["compilations"] = compilations(trainer(Layout(net.largest.arch, 2)))
    found["tensorflow_loaded"] = "tensorflow" in sys.modules
    np.savez(Path(folder) / f"{keras.backend.backend()}.npz", **found)
