"What a search on few images ends with: the chosen systems' test accuracies, by passes, by steps, and by folds."

import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Sizes
from dans.board.runtime import float_accuracy
from dans.choose.search import winner
from dans.cost.footprint import footprint
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.net.alone import train_alone
from dans.net.few import candidates, enough, folds, pool, pooled_scores
from dans.net.score import score_subnets, subnet_outputs
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.space import System

EPOCHS = 4, 16  # of preset own: supernet, and the chosen system on its own
BATCH = 32


def images(sizes: Sizes, seed: int):
    """Few easy scenes (no far person, no wrong label: so few images do not teach the others) to choose by, and many
    to judge the choice."""
    train, val, test = sizes.small_images
    cache = Path(os.environ.get("DANS_CACHE") or tempfile.gettempdir()) / "small_sets"
    return prepare(
        wake_scenes(train, val, test, seed=seed, native=max(sizes.small.resolutions), far=0.0, label_noise=0.0),
        sizes.small.resolutions,
        cache,
    )


def trained(sizes, prepared, seed, steps):
    "A supernet after preset own's passes, or after so many `steps` where that is more."
    n = prepared.sizes["train"]
    recipe = Recipe(epochs=enough(EPOCHS[0], n, BATCH, steps), batch=BATCH, zero_last=True, own_scale=True, seed=seed)
    return Supernet(sizes.small, len(prepared.classes), seed).train(prepared, recipe, check_images=0)


def tested(sizes, prepared, learnt, system, steps):
    "Test accuracies of `system`, trained on its own on the training images of `learnt`, once with each of some seeds."
    found, test = [], prepared.view("test", system.data)
    for seed in range(sizes.small_repeats):
        recipe = Recipe(
            epochs=enough(EPOCHS[1], learnt.sizes["train"], BATCH, steps), batch=BATCH, average=0.3, seed=seed
        )
        model, _ = train_alone(system, learnt, recipe, sizes.small.architectures[-1], check_images=0)
        found.append(float_accuracy(model, test.images, test.labels))
    return found


def chosen(sizes, systems, scores):
    "The best of `systems` within the limit, and its score, as a search chooses."
    import pandas as pd

    rows = [dict(s.to_dict(), **vars(footprint(s, 2)), score=score) for s, score in zip(systems, scores)]
    best = winner(pd.DataFrame(rows)[lambda df: df.macs <= sizes.small_macs])
    return System.from_dict(best), float(best.score)


def small_sets(sizes: Sizes):
    every, rows, known = list(sizes.small), [], {}
    supernet_steps, alone_steps = sizes.small_steps
    for seed in sizes.small_seeds:
        prepared = images(sizes, seed)
        few = candidates(
            sizes.small, Limits(macs=sizes.small_macs), sizes.small_candidates, len(prepared.classes), seed
        )
        ways = {
            "passes": chosen(sizes, every, score_subnets(trained(sizes, prepared, seed, 0), every, prepared)),
            "steps": chosen(
                sizes, every, score_subnets(trained(sizes, prepared, seed, supernet_steps), every, prepared)
            ),
        }
        parts = folds(prepared, sizes.small_folds)
        outputs = [
            subnet_outputs(trained(sizes, part, seed, supernet_steps // len(parts)), every, part) for part in parts
        ]
        pooled = pooled_scores(outputs, parts)
        ways["steps and folds"] = chosen(sizes, every, pooled)
        ways["steps, folds, fewer systems"] = chosen(sizes, few, pooled[[every.index(s) for s in few]])
        ways["steps, folds, fewer systems, all images"] = ways["steps, folds, fewer systems"]
        for way, (system, score) in ways.items():
            learnt, steps = (
                pool(prepared) if way.endswith("all images") else prepared,
                0 if way == "passes" else alone_steps,
            )
            case = seed, system, learnt.key, steps
            known[case] = known.get(case) or tested(sizes, prepared, learnt, system, steps)
            rows.append(
                dict(
                    seed=seed,
                    way=way,
                    system=str(system),
                    score=score,
                    test=known[case],
                    test_mean=float(np.mean(known[case])),
                )
            )
            yield dict(rows=rows), f"seed {seed}, {way}: {system}, score {score:.3f}, test {rows[-1]['test_mean']:.3f}"
    means = {way: float(np.mean([row["test_mean"] for row in rows if row["way"] == way])) for way in ways}
    yield dict(rows=rows, means=means), "; ".join(f"{way}: {mean:.3f}" for way, mean in means.items())
