"""What all benchmarks share: sizes, contestants that alternate, a fair sample of subnets, the machine, the file of
results."""

import json
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dans.cost.footprint import macs
from dans.cost.memory import operators
from dans.families import FULL_DEPTHS
from dans.files import versions
from dans.frontends import DataConfig, ImageConfig
from dans.house import DansError
from dans.paper.study import commit, processor
from dans.space import SearchSpace, System

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sizes:
    "How much is measured; the defaults are what is committed."

    resolution: int = 64  # of the images in the two contests of the tree, rgb
    max_depths: tuple = FULL_DEPTHS  # most blocks of stages 3-7: 268 subnets of a width
    calibration: int = 256  # training images for the statistics
    images: int = 750  # validation images
    widths: tuple = (0.1, 0.2, 0.5, 1.0)  # tree against list
    model_widths: tuple = (0.1, 0.5)  # tree against a model for each subnet
    every: int = 8  # the list is measured on each so-manieth subnet
    every_model: int = 45  # and the models on these
    repeats: int = 5  # pairs of every contest
    train: SearchSpace = SearchSpace.preset("cpu")  # whose largest and smallest system take training steps
    batch: int = 128  # images in a training step
    pass_seconds: float = 3.0  # about how long one contestant trains for one measurement
    fleet_space: SearchSpace = SearchSpace.preset("bench")  # some of whose systems train as a fleet
    fleet_data: DataConfig = ImageConfig(32, "rgb")  # of these
    fleet_systems: int = 8  # evenly over their order of MACs
    fleet_images: int = 1024  # for training
    fleet_steps: int = 32  # of each of them, in each run
    fleet_repeats: int = 3  # pairs of its contests, at most
    space: SearchSpace = SearchSpace.preset("quick")  # scored as a whole
    space_calibration: int = 1024  # training images for the statistics, there and in the whole paper space
    space_images: int = 1000  # validation images, there and in the whole paper space
    paper: SearchSpace = SearchSpace.preset("paper")  # extrapolated
    paper_resolutions: tuple = (32, 96, 160, 224)  # of the trees measured for it
    paper_widths: tuple = (0.1, 0.4, 1.0)  # of these trees
    paper_macs: float = 4e11  # a tree is measured on as many images as take about so many MACs
    memory: SearchSpace = SearchSpace.preset("quick")  # each stage's peak of memory is measured on it
    memory_images: tuple = (4000, 1000, 1000)  # of train, val and test
    memory_epochs: float = 0.5  # of the supernet, and of the largest system on its own
    memory_searched: int = 40  # systems that the search evaluates
    memory_fresh: bool = True  # a new process for each stage
    evaluated: SearchSpace = SearchSpace((16, 24), widths=(0.1, 0.2))  # whose systems are evaluated one by one
    evaluations: tuple = (2000, 300, 100)  # scored, trained, built as Keras models
    environments: int = 50  # runs, each under another random subset of faults
    pieces: int = 16  # on two nodes, for each event
    paper_images: int = 1_248_230  # training images of the simulated paper preset: Wake Vision's train_quality
    paper_epochs: float = 10.0  # of each supernet and of each stand-alone training there
    paper_alone: int = 100  # systems trained on their own there
    workers: tuple = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # GPUs simulated
    faster: tuple = (1.0, 100.0)  # how many times as fast a piece is there as here
    small: SearchSpace = SearchSpace(
        (16, 24, 32, 48), ("rgb", "mono"), (0.1, 0.2, 0.3), (2, 2, 1, 1, 0)
    )  # for few images
    small_images: tuple = (315, 45, 2000)  # train, val, test: 450 images as preset own splits them, a larger test
    small_macs: int = 250_000  # limit of that search
    small_steps: tuple = (2000, 1000)  # of all supernets of a search together, and of the chosen system on its own
    small_folds: int = 4  # that the training and validation images are dealt into
    small_candidates: int = 60  # systems scored, where they are fewer
    small_seeds: tuple = (0, 1, 2)  # of images, first weights, batches and candidates
    small_repeats: int = 2  # trainings of each chosen system
    model_files: int | None = None  # files of the folder in DANS_MODELS; None: all
    fuzz_cases: int = 500  # of each test of tests/test_fuzz.py
    kills: dict = field(
        default_factory=lambda: dict(
            scenes=19, folders=19, store=19, search=19, training=7, alone=7, scoring=7, export=7
        )
    )  # of each stage


QUICK = Sizes(
    environments=1,
    resolution=16,
    max_depths=(1, 1, 1, 0, 0),
    calibration=16,
    images=24,
    widths=(0.1,),
    model_widths=(0.1,),
    every=2,
    every_model=2,
    repeats=2,
    train=SearchSpace(16, ("rgb", "mono"), 0.1, (1, 0, 0, 0, 0)),
    batch=8,
    pass_seconds=0.05,
    fleet_space=SearchSpace((16,), "rgb", (0.1, 0.2), (0, 0, 0, 0, 0)),
    fleet_data=ImageConfig(16, "rgb"),
    fleet_systems=2,
    fleet_images=64,
    fleet_steps=3,
    fleet_repeats=1,
    space=SearchSpace((12, 16), "rgb", 0.1, (1, 1, 0, 0, 0)),
    space_calibration=16,
    space_images=24,
    paper=SearchSpace((12, 16, 24), "rgb", (0.1, 0.2), (1, 1, 0, 0, 0)),
    paper_resolutions=(12, 16),
    paper_widths=(0.1, 0.2),
    paper_macs=1e7,
    memory=SearchSpace((12, 16), "rgb", 0.1, (1, 1, 0, 0, 0)),
    memory_images=(64, 32, 16),
    memory_searched=4,
    memory_fresh=False,
    evaluated=SearchSpace((12, 16), "rgb", 0.1, (1, 1, 0, 0, 0)),
    evaluations=(100, 10, 4),
    pieces=6,
    paper_alone=10,
    workers=(1, 4),
    fuzz_cases=5,
    model_files=2,
    small=SearchSpace((12, 16), "rgb", 0.1, (1, 1, 0, 0, 0)),
    small_images=(24, 8, 16),
    small_steps=(12, 4),
    small_folds=2,
    small_candidates=4,
    small_seeds=(0,),
    small_repeats=1,
    kills=dict(scenes=4, folders=4, store=4, search=5, training=3),
)


def seconds_of(run) -> float:
    "What one call of `run` takes."
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def contest(
    ours,  # what is called
    theirs,  # what is called instead
    repeats: int,  # pairs
    scale: float = 1.0,  # what the seconds of `theirs` are multiplied by: they were measured on a part of the work
) -> dict:
    """Median ratio theirs / ours with its range, and all seconds as measured. Pair by pair, each time the other one
    begins."""
    pairs = []
    for i in range(repeats):
        order = (ours, theirs) if i % 2 == 0 else (theirs, ours)
        found = [seconds_of(run) for run in order]
        pairs.append(found if i % 2 == 0 else found[::-1])
    ratios = [scale * b / a for a, b in pairs]
    return dict(
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        ours_seconds=[a for a, _ in pairs],
        theirs_seconds=[b for _, b in pairs],
        scale=scale,
    )


def _macs(system):
    "MACs of a system that tells two classes apart, as the sets of all benchmarks do."
    return macs(system, 2)


def one_in(
    every: int,  # 1: all
    systems: list,  # of `System`
) -> tuple[list, float]:  # some of them, and what their seconds are multiplied by to stand for all
    """Each so-manieth system in order of MACs, from the start at which their mean of MACs comes closest to the mean
    of all."""
    order, total = sorted(systems, key=_macs), sum(map(_macs, systems))
    parts = [order[i::every] for i in range(min(every, len(order)))]
    part = min(parts, key=lambda p: abs(sum(map(_macs, p)) / len(p) - total / len(order)))
    return part, total / sum(map(_macs, part))


def work_of(
    systems: list,  # subnets of one data configuration and width
) -> dict:  # for one image: MACs of the list and of the tree, and the tree's written values and nodes
    """Work counted, not measured. An operator is done once in the tree where subnets agree in it and in all
    operators before it."""
    once = {}
    for system in systems:
        path = ()
        for op in operators(system, 2):
            path += (op.name,)
            once[path] = op
    return dict(
        list_macs=sum(map(_macs, systems)),
        tree_macs=sum(op.macs for op in once.values()),
        tree_values=sum(op.nbytes for op in once.values()),
        tree_operators=len(once),
    )


def noise(
    n: int,  # images
    data: DataConfig,  # resolution and colour
    seed: int,
) -> np.ndarray:  # uint8 (n, r, r, c)
    "Images of random blocks: time does not depend on what they show."
    rng, r = np.random.default_rng(seed), data.resolution
    blocks = (
        rng.integers(0, 200, (n, -(-r // 4), -(-r // 4), data.channels), np.uint8).repeat(4, 1).repeat(4, 2)[:, :r, :r]
    )
    return blocks + rng.integers(0, 56, blocks.shape, np.uint8)


def subnets(space: SearchSpace, data: DataConfig, width: float) -> list[System]:
    "All systems of one data configuration and width."
    return [System(data, arch) for arch in space.architectures if arch.width == width]


def check_equal(
    a: np.ndarray,  # logits
    b: np.ndarray,  # logits of the same, computed otherwise
    within: float,  # largest difference that is rounding
    what: str,  # what they belong to
) -> dict:  # counts of predictions, and the largest difference of logits
    "How far two arrays of logits agree. Raises `DansError` where the difference is more than rounding."
    difference, other = float(np.abs(a - b).max()), int((a.argmax(-1) != b.argmax(-1)).sum())
    if not difference <= within:
        raise DansError(
            f"logits of {what} differ by {difference:.2g}",
            "a speed without equal results means nothing: mend the code first",
        )
    return dict(predictions=a[..., 0].size, predictions_that_differ=other, logits_differ_by=difference)


def machine(threads: int) -> dict:
    "Where and with what the numbers were measured."
    return dict(
        processor=processor(),
        threads=threads,
        load_before=round(os.getloadavg()[0], 2),
        versions=versions(),
        commit=commit(ROOT),
    )


def read(path: Path) -> dict:
    "The results so far: benchmark -> its record. Raises `DansError` for a file that is not one."
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    except (OSError, ValueError, TypeError) as error:
        raise DansError(f"{path} cannot be read ({error})", "delete it, or name another file: --out FILE") from None
