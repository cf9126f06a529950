"A training step of the supernet's one trace against Keras' `fit` on the same architecture as a plain model."

import keras
import numpy as np

from benchmarks.harness import Sizes, contest, noise, seconds_of
from benchmarks.scoring import plain_model
from dans.frontends import scaled
from dans.house import DansError
from dans.net.elastic import initial_weights
from dans.net.step import Layout, as_rgb, trainer
from dans.net.supernet import extremes

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
