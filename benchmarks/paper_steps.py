"""The paper space on what Keras runs on here, a GPU or a processor: steps of its shared supernet, steps of one system,
and trees of scores, each for the first time, with all compilation, and again."""

from functools import partial
from statistics import median

import numpy as np

from benchmarks.backends import first_and_again
from benchmarks.harness import Sizes, noise, seconds_of, subnets, work_of
from benchmarks.scoring import CHUNK, random_supernet
from dans.backend import backend, device
from dans.cost.footprint import macs
from dans.frontends import ImageConfig
from dans.net.step import Layout, as_rgb, trainer
from dans.net.supernet import Supernet, shared_recipe
from dans.net.tree import tree_logits
from dans.paper.study import processor

ALONE = 20_000_000  # MACs that a chosen system has about


def _supernet(sizes: Sizes, data: ImageConfig, recipe):
    "Seconds of steps at one data configuration, each of other systems, and the MACs of one on average."
    net = Supernet(sizes.paper, 2)
    train, space = trainer(Layout(net.largest.arch, 2, len(sizes.paper.data_configs))), sizes.paper.fix(data)
    train.load(net.state.weights, net.state.slots)
    images, labels = as_rgb(noise(recipe.batch, data, 1)), np.arange(recipe.batch) % 2
    drawn = [net.draw(np.random.default_rng(t), recipe, space) for t in range(1 + sizes.repeats)]
    steps = [[(system, images, 0) for system in systems] for systems in drawn]
    took = [seconds_of(lambda s=s: train.step(s, labels, 1e-3, recipe.deep, recipe.distil)) for s in steps]
    work = np.mean([3 * recipe.batch * sum(macs(s, 2) for s in systems) for systems in drawn[1:]])
    return dict(first_seconds=took[0], seconds=took[1:], macs=float(work))


def _alone(sizes: Sizes, data: ImageConfig, batch: int):
    "The same of one system, the nearest to 20 million MACs."
    system = min(sizes.paper.fix(data), key=lambda system: abs(macs(system, 2) - ALONE))
    net = Supernet(sizes.paper.fix(data), 2)
    train = trainer(Layout(net.largest.arch, 2))
    train.load(net.state.weights, net.state.slots)
    images, labels = as_rgb(noise(batch, data, 1)), np.arange(batch) % 2
    found = first_and_again(lambda: train.step([(system, images, 0)], labels, 1e-3), sizes.repeats)
    return dict(system=str(system), **found, macs=3 * batch * macs(system, 2))


def _tree(sizes: Sizes, data: ImageConfig, width: float):
    "The same of all subnets of one width, scored."
    net, wanted = random_supernet(sizes.paper), set(sizes.paper.depths)
    counted = work_of(subnets(sizes.paper, data, width))["tree_macs"]
    total = sizes.space_calibration + sizes.space_images
    images = int(np.clip(sizes.paper_macs / counted, 64, total)) // 2
    tree = partial(tree_logits, net, data, width, wanted, noise(images, data, 1), noise(images, data, 2), CHUNK)
    return dict(images=2 * images, **first_and_again(tree, 1), macs=2 * images * counted)


def paper_steps(sizes: Sizes, results: dict):
    "Rows of other devices stay."
    here, recipe = f"{backend()} on {device() or processor()}", shared_recipe(sizes.paper_images, 10)
    rows = [row for row in results.get("paper_steps", {}).get("rows", []) if row["computed_on"] != here]
    for resolution in sizes.paper_resolutions:
        data = ImageConfig(resolution)
        measured = {
            "step of the supernet": lambda: _supernet(sizes, data, recipe),
            "step of one system": lambda: _alone(sizes, data, recipe.batch),
        } | {f"tree of width {width}": partial(_tree, sizes, data, width) for width in sizes.paper_widths[1:]}
        for what, run in measured.items():
            row = dict(computed_on=here, data=str(data), what=what, batch=recipe.batch, **run())
            rows.append(row | dict(macs_a_second=row["macs"] / median(row["seconds"])))
            again = f"{row['first_seconds']:.1f} s, then {median(row['seconds']):.3g} s"
            yield dict(rows=rows), f"{data}, {what}: {again}, {rows[-1]['macs_a_second']:.2g} MACs/s"
