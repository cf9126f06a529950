"""A training step of the supernet's one trace against Keras' `fit` on the same architecture as a plain model; and
whole steps of a supernet by loops against the same steps by that trace."""

import keras
import numpy as np

from benchmarks.harness import Sizes, contest, noise, seconds_of
from benchmarks.scoring import plain_model
from dans.frontends import scaled
from dans.house import DansError
from dans.net.elastic import initial_weights
from dans.net.step import Layout, as_rgb, trainer
from dans.net.supernet import Supernet, extremes, shared_recipe
from dans.net.train import MANY
from dans.net.turns import trainer_by

RATE = 1e-3


def step_against_fit(sizes: Sizes):
    largest, rows = extremes(sizes.train)[0].arch, []
    ours = trainer(Layout(largest, 2))
    for name, system in zip(("largest", "smallest"), extremes(sizes.train)):
        weights = initial_weights(system.arch, 2, 0, largest)
        model = plain_model(weights, system)
        model.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        images, labels = noise(sizes.batch, system.data, 1), np.random.default_rng(1).integers(0, 2, sizes.batch)
        ours.load(weights)

        def step(seen=as_rgb(images), labels=labels, system=system):
            return ours.step([(system, seen, 0)], labels, RATE)

        losses = []
        first = [
            seconds_of(lambda: losses.append(step())),
            seconds_of(lambda: losses.append(model.train_on_batch(scaled(images), labels))),
        ]
        if not np.isclose(*map(float, losses), rtol=1e-3):
            raise DansError(
                f"first losses of {system} are {losses}",
                "a speed without equal results means nothing: mend the code first",
            )
        steps = int(np.clip(sizes.pass_seconds / min(seconds_of(step) for _ in range(3)), 2, 200))
        pixels, truth = np.concatenate([scaled(images)] * steps), np.tile(labels, steps)

        def fit(model=model, pixels=pixels, truth=truth):
            model.fit(pixels, truth, batch_size=sizes.batch, shuffle=False, verbose=0)

        fit()
        timed = contest(lambda: [step() for _ in range(steps)], fit, sizes.repeats)
        n = steps * sizes.batch
        per_second = {
            f"{who}_images_per_second": n / float(np.median(timed[f"{who}_seconds"])) for who in ("ours", "theirs")
        }
        rows.append(
            dict(
                network=name,
                system=str(system),
                **timed,
                **per_second,
                steps=steps,
                batch=sizes.batch,
                ours_first_seconds=first[0],
                theirs_first_seconds=first[1],
                target=0.8,
            )
        )
        yield (
            dict(rows=rows),
            f"{name} ({system}): {timed['ratio']:.2f} times ({timed['ratio_low']:.2f}-{timed['ratio_high']:.2f})",
        )


def some_steps(net: Supernet, steps: int, batch: int) -> list:
    "Networks of a shared supernet's steps, each with images of noise, and labels."
    rng, seen, found = np.random.default_rng(0), {}, []
    for _ in range(steps):
        networks = []
        for system in net.draw(rng):
            if system.data not in seen:
                seen[system.data] = as_rgb(noise(batch, system.data, 1))
            networks.append((system, seen[system.data], net.row(system.data)))
        found.append((networks, rng.integers(0, 2, batch)))
    return found


def take(engine, steps: list) -> float:
    "Train on `steps`; the last loss."
    for networks, labels in steps:
        loss = engine.step(networks, labels, RATE, deep=1.0, distil=True)
    return loss


def supernet_steps(sizes: Sizes):
    rows, batch = [], min(sizes.batch, shared_recipe(MANY - 1).batch)
    for name, space in dict(bench=sizes.fleet_space, cpu=sizes.train).items():
        net, losses, first = Supernet(space, 2), [], []
        layout = Layout(net.largest.arch, 2, len(space.data_configs))
        ours, theirs = (trainer_by(engine, layout) for engine in ("loops", "keras"))
        for engine in (ours, theirs):
            engine.load(net.weights)
            first.append(seconds_of(lambda e=engine, s=some_steps(net, 1, batch): losses.append(take(e, s))))
        if not np.isclose(*losses, rtol=1e-3):
            raise DansError(
                f"first losses in the space {name} are {losses}",
                "a speed without equal results means nothing: mend the code first",
            )
        spent = seconds_of(lambda e=theirs, s=some_steps(net, 2, batch): take(e, s)) / 2
        steps = some_steps(net, int(np.clip(sizes.pass_seconds / spent, 2, 200)), batch)
        timed = contest(lambda e=ours, s=steps: take(e, s), lambda e=theirs, s=steps: take(e, s), sizes.repeats)
        about = dict(at=f"space {name}", systems=len(space), steps=len(steps), batch=batch, target=None)
        rows.append(dict(**about, **timed, ours_first_seconds=first[0], theirs_first_seconds=first[1]))
        spread = f"{timed['ratio']:.2f} times ({timed['ratio_low']:.2f}-{timed['ratio_high']:.2f})"
        yield dict(rows=rows), f"space {name}: {spread}"
