"""TensorFlow and JAX, each in a process of its own: what a first step and a first scoring take, with all
compilation, and what they take again."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from unittest.mock import patch

import numpy as np

from benchmarks.harness import Sizes, check_equal, noise, seconds_of, subnets
from dans.frontends import ImageConfig
from dans.space import SearchSpace


def first_and_again(run, repeats):
    "Seconds of the first call, and of each later one."
    return dict(first_seconds=seconds_of(run), seconds=[seconds_of(run) for _ in range(repeats)])


def measured(sizes: Sizes) -> tuple[list[dict], np.ndarray]:
    """Training steps of the largest and the smallest system, and all subnets of one width scored, on the backend of
    this process; the logits of these."""
    import keras  # takes KERAS_BACKEND as it finds it

    from benchmarks.scoring import CHUNK, random_supernet
    from dans.net.elastic import initial_weights
    from dans.net.step import Layout, as_rgb, trainer
    from dans.net.supernet import extremes
    from dans.net.tree import tree_logits

    about, rows = dict(backend=keras.backend.backend(), version=import_module(keras.backend.backend()).__version__), []
    largest = extremes(sizes.train)[0].arch
    train, labels = trainer(Layout(largest, 2)), np.random.default_rng(1).integers(0, 2, sizes.batch)
    for name, system in zip(("largest", "smallest"), extremes(sizes.train)):
        images = as_rgb(noise(sizes.batch, system.data, 1))
        train.load(initial_weights(system.arch, 2, 0, largest))
        rows.append(
            dict(
                **about,
                what=f"step, {name} network",
                system=str(system),
                of=sizes.batch,
                **first_and_again(lambda: train.step([(system, images, 0)], labels, 1e-3), sizes.repeats),
            )
        )
    data, width = ImageConfig(sizes.resolution), sizes.widths[0]
    space = SearchSpace(data.resolution, data.color, width, sizes.max_depths)
    net, calibration, images = random_supernet(space), noise(sizes.calibration, data, 1), noise(sizes.images, data, 2)
    wanted = {system.arch.depths for system in subnets(space, data, width)}
    logits = []
    found = first_and_again(
        lambda: logits.append(tree_logits(net, data, width, wanted, calibration, images, CHUNK)), sizes.repeats
    )
    rows.append(
        dict(**about, what=f"scoring {len(wanted)} subnets of width {width}", system="", of=len(wanted), **found)
    )
    return rows, np.stack([logits[0][depths] for depths in sorted(wanted)])


def backends(sizes: Sizes):
    rows, logits = [], []
    for backend in filter(find_spec, ("tensorflow", "jax")):
        with (
            patch.dict(os.environ, KERAS_BACKEND=backend),
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        ):
            found, by_backend = pool.submit(measured, sizes).result()
        logits.append(by_backend)
        # two programs, two roundings: as with Keras models
        rows += [*found[:-1], found[-1] | check_equal(logits[0], by_backend, 2e-2, backend)]
        yield (
            dict(rows=rows),
            "; ".join(
                f"{row['backend']}, {row['what']}: {row['first_seconds']:.2f} s, then {median(row['seconds']):.2g} s"
                for row in rows[-3:]
            ),
        )
