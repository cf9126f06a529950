"""Small systems of one data configuration, trained on the same images for as many steps: as a fleet, one by one in
traces of their own, and by Keras' `fit`. And one network's step on one thread."""

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from statistics import median

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import Sizes, contest, noise, seconds_of
from benchmarks.scoring import plain_model
from dans.cost.footprint import macs
from dans.data.catalogue import wake_scenes
from dans.data.prepared import Prepared, prepare
from dans.frontends import scaled
from dans.house import DansError
from dans.net.elastic import initial_weights
from dans.net.fleet import Fleet
from dans.net.fused import Fused, columns
from dans.net.state import State
from dans.net.step import Layout, Trainer, as_rgb
from dans.net.train import Recipe, TrainingJob, batch_at
from dans.net.train import fit as train_steps
from dans.space import System

BATCH, RATE = 32, 1e-3


def some_systems(sizes: Sizes) -> list[System]:
    "Systems of one data configuration of the space bench, evenly over their order of MACs."
    order = sorted(sizes.fleet_space.fix(sizes.fleet_data), key=lambda system: macs(system, 2))
    return [order[round(i)] for i in np.linspace(0, len(order) - 1, sizes.fleet_systems)]


class Crops(keras.utils.PyDataset):
    "The batches that a fleet sees, with the same crops, as `fit` takes them: made by a thread while `fit` trains."

    def __init__(self, prepared: Prepared, recipe: Recipe, system: System):
        super().__init__()
        self.prepared, self.recipe, self.system = prepared, recipe, system

    def __len__(self):
        return self.recipe.steps(self.prepared.sizes["train"])

    def batch(self, t):
        "Pixels and labels of a step."
        [(_, images)], labels = batch_at(self.prepared, self.recipe, t, lambda rng: [self.system])
        return images[..., : self.system.data.channels], labels

    def __getitem__(self, t):
        images, labels = self.batch(t)
        return scaled(images), labels

    def whole(self) -> tuple:
        "All batches end to end."
        return tuple(map(np.concatenate, zip(*(self[t] for t in range(len(self))))))


def fits(models, batches):
    "`fit` of each model on its own batches; `batches(system)` gives what `fit` takes."
    for system, model in models.items():
        x, *y = batches(system)
        model.fit(x, *y, batch_size=None if not y else BATCH, shuffle=False, verbose=0)


def one_by_one(trainers, prepared, recipe):
    "The loop of `train_alone`, for each system in its trace that is there."
    for system, trainer in trainers.items():
        first = State(initial_weights(system.arch, 2, 0))
        train_steps(trainer, first, TrainingJob(str(system), prepared, recipe, lambda rng: [system]))


def first_steps(system: System, images, labels, first: dict):
    """The three ways to train a system, each with its trace, after their first step: `Fused`, `Trainer`, Keras' model.
    Their losses are equal; `first` adds up the seconds."""
    weights, net, losses = initial_weights(system.arch, 2, 0), Fused(system, 2, len(images)), []
    trainer, model = Trainer(Layout(system.arch, 2)), plain_model(weights, system)
    model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.load(weights)
    trainer.load(weights)
    steps = dict(
        loops=lambda: net.step(columns(images), labels, RATE, 0.0),
        alone=lambda: trainer.step([(system, as_rgb(images), 0)], labels, RATE),
        fit=lambda: model.train_on_batch(scaled(images), labels),
    )
    for name, step in steps.items():
        first[name] = first.get(name, 0.0) + seconds_of(lambda step=step: losses.append(float(step())))
    if not np.allclose(losses, losses[0], rtol=1e-3):
        raise DansError(
            f"first losses of {system} are {losses}",
            "a speed without equal results means nothing: mend the code first",
        )
    return net, trainer, model


def one_network(sizes: Sizes) -> list[dict]:
    "Steps of the smallest, the middle and the largest system, on one thread of this process."
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    order, rows, repeats = some_systems(sizes), [], min(sizes.repeats, sizes.fleet_repeats)
    for system in dict.fromkeys((order[0], order[len(order) // 2], order[-1])):
        images, labels = noise(BATCH, system.data, 1), np.random.default_rng(1).integers(0, 2, BATCH)
        net, trainer, model = first_steps(system, images, labels, {})
        windows, networks, pixels = columns(images), [(system, as_rgb(images), 0)], scaled(images)
        steps = int(np.clip(sizes.pass_seconds / 6 / seconds_of(lambda: trainer.step(networks, labels, RATE)), 2, 200))
        many, truth = np.concatenate([pixels] * steps), np.tile(labels, steps)
        ways = dict(
            alone=lambda: [trainer.step(networks, labels, RATE) for _ in range(steps)],
            fit=lambda: model.fit(many, truth, batch_size=BATCH, shuffle=False, verbose=0),
        )
        cost = 3 * macs(system, 2)  # forward and back, for an image
        row = dict(system=str(system), macs=macs(system, 2), steps=steps)
        for name, theirs in ways.items():
            theirs()
            found = contest(lambda: [net.step(windows, labels, RATE, 0.0) for _ in range(steps)], theirs, repeats)
            row[name] = found | {
                f"{who}_images_per_second": steps * BATCH / median(found[f"{who}_seconds"])
                for who in ("ours", "theirs")
            }
        rows.append(row | dict(macs_per_second=cost * row["alone"]["ours_images_per_second"]))
    return rows


def fleet(sizes: Sizes):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        alone = pool.submit(one_network, sizes).result()
    said = ", ".join(f"{row['alone']['ratio']:.1f} and {row['fit']['ratio']:.1f}" for row in alone)
    yield dict(rows=[], alone=alone), f"one network on one thread, times faster than its trace and than fit: {said}"
    systems, rows, first = some_systems(sizes), [], {}
    with tempfile.TemporaryDirectory() as folder:
        images = wake_scenes(sizes.fleet_images, 32, 32, native=64, far=0.0)
        prepared = prepare(images, [sizes.fleet_data.resolution], folder)
        epochs = sizes.fleet_steps * BATCH / sizes.fleet_images
        recipe = Recipe(epochs=epochs, batch=BATCH, rate=RATE, deep=0.0)
        crops = Crops(prepared, recipe, systems[0])
        made = {system: first_steps(system, *crops.batch(0), first) for system in systems}
        models = {system: model for system, (_, _, model) in made.items()}
        trainers = {system: trainer for system, (_, trainer, _) in made.items()}
        given, threads = crops.whole(), tf.config.threading.get_intra_op_parallelism_threads() or None

        def ours():
            Fleet(systems, prepared, recipe, calibration=BATCH, threads=threads).train(check=None)

        opponents = {
            "Keras' fit": (lambda: fits(models, lambda system: (Crops(prepared, recipe, system),)), 2.0, "fit"),
            "Keras' fit, crops not counted": (lambda: fits(models, lambda system: given), None, "fit"),
            "one by one, a trace for each": (lambda: one_by_one(trainers, prepared, recipe), 1 / 0.6, "alone"),
        }
        about = dict(systems=len(systems), data=str(sizes.fleet_data), steps=len(crops), batch=BATCH)
        for name, (theirs, target, way) in opponents.items():
            ours(), theirs()  # once before anything is measured
            timed = contest(ours, theirs, min(sizes.repeats, sizes.fleet_repeats))
            rows.append(dict(at=name, **timed, **about, target=target, theirs_first_seconds=first[way]))
            spread = f"{timed['ratio']:.2f} times ({timed['ratio_low']:.2f}-{timed['ratio_high']:.2f})"
            yield dict(rows=rows, alone=alone), f"a fleet against {name}: {spread}"
