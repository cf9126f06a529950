"Memory: the peak of each stage, and what stays after each of many evaluations."

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import Sizes, noise
from dans.board.export import export
from dans.board.quantise import quantise
from dans.choose.search import evolution
from dans.choose.task import Budget, Task
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.prepared import Prepared, prepare
from dans.house import DansError
from dans.net.alone import train_alone
from dans.net.elastic import keras_model
from dans.net.score import Scorer
from dans.net.supernet import Supernet, extremes
from dans.net.train import Recipe
from dans.space import SearchSpace


def resident(what="VmRSS") -> int:
    """Bytes of this process that lie in memory now (`VmRSS`), or lay there at most (`VmHWM`). Raises `DansError`
    where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise DansError("this system does not say how much memory a process takes", "measure on Linux") from None
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def start(threads: int):
    "What a new process does first."
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.zeros(1)  # starts TensorFlow


# Stages


def data(folder: Path, space: SearchSpace, sizes: Sizes) -> Prepared:
    "Drawn scenes, prepared for `space`; the second call finds them in the folder."
    return prepare(
        wake_scenes(*sizes.memory_images, native=2 * max(space.resolutions)), space.resolutions, folder / "prepared"
    )


def preparation(folder: Path, sizes: Sizes):
    "Scenes drawn and prepared."
    data(folder, sizes.memory, sizes)


def supernet(folder: Path, sizes: Sizes):
    "A supernet trained and saved."
    prepared = data(folder, sizes.memory, sizes)
    Supernet(sizes.memory, 2).train(prepared, Recipe(epochs=sizes.memory_epochs, batch=sizes.batch)).save(
        folder / "supernet.npz"
    )


def scorer(folder: Path, sizes: Sizes) -> Scorer:
    "Scores by the saved supernet, on all validation images."
    return Scorer(Supernet.load(folder / "supernet.npz"), data(folder, sizes.memory, sizes), sizes.space_calibration)


def scoring(folder: Path, sizes: Sizes):
    "All subnets of the largest data configuration and width scored together."
    largest = extremes(sizes.memory)[0]
    scorer(folder, sizes)([s for s in sizes.memory if (s.data, s.arch.width) == (largest.data, largest.arch.width)])


def search(folder: Path, sizes: Sizes):
    "An evolution scored by the supernet."
    evolution(Task(sizes.memory, scorer(folder, sizes), Limits(), 2), Budget(evaluations=sizes.memory_searched))


def standalone(folder: Path, sizes: Sizes):
    "The largest system trained on its own and saved."
    recipe = Recipe(epochs=sizes.memory_epochs, batch=sizes.batch)
    model, _ = train_alone(
        extremes(sizes.memory)[0], data(folder, sizes.memory, sizes), recipe, calibration=sizes.space_calibration
    )
    model.save(folder / "model.keras")


def quantisation(folder: Path, sizes: Sizes):
    "The saved system quantised, checked in the interpreter and written as files."
    images = data(folder, sizes.memory, sizes).view("train", extremes(sizes.memory)[0].data, 300).images
    model = keras.models.load_model(folder / "model.keras", compile=False, safe_mode=True)
    export(folder / "firmware", quantise(model, images), np.array(images[0]))


# each reads what those before it left in the folder
STAGES = (preparation, supernet, scoring, search, standalone, quantisation)


def peak(stage, folder: Path, sizes: Sizes) -> dict:
    "What `stage` takes at most, beyond what the process held before it."
    with suppress(OSError):  # the mark is set back where the system lets us
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before, began = resident(), time.perf_counter()
    stage(folder, sizes)
    return dict(
        stage=stage.__name__,
        what=stage.__doc__,
        peak_bytes=resident("VmHWM") - before,
        before_bytes=before,
        seconds=time.perf_counter() - began,
    )


# Evaluations, thousands of them in one process


def scored(folder: Path, sizes: Sizes):
    "A call of the scorer for each system."
    score = Scorer(Supernet(sizes.evaluated, 2), data(folder, sizes.evaluated, sizes), calibration=16, images=32)
    return lambda system: score([system])


def trained(folder: Path, sizes: Sizes):
    "A training of one step for each system, and its Keras model."
    prepared, largest = data(folder, sizes.evaluated, sizes), extremes(sizes.evaluated)[0].arch
    recipe = Recipe(epochs=0, batch=16)
    return lambda system: train_alone(system, prepared, recipe, largest, calibration=16, check_images=16)


def predicted(folder: Path, sizes: Sizes):
    "A new Keras model for each system, and its `predict`."
    return lambda system: keras_model(system, 2).predict(noise(32, system.data, 0), verbose=0)


EVALUATIONS = (scored, trained, predicted)


def curve(evaluation, count: int, folder: Path, sizes: Sizes) -> dict:
    """Memory along `count` evaluations of systems in random order; its growth is the slope of a line through the
    second half."""
    evaluate, space = evaluation(folder, sizes), sizes.evaluated
    order, every = np.random.default_rng(0).permutation(len(space)), max(1, count // 50)
    after, held = [], []
    for i in range(1, count + 1):
        evaluate(space[order[i % len(space)]])
        if i % every == 0:
            after.append(i)
            held.append(resident())
    half = len(after) // 2
    growth = float(np.polyfit(after[half:], held[half:], 1)[0])
    return dict(
        evaluation=evaluation.__name__, what=evaluation.__doc__, after=after, resident_bytes=held, growth_bytes=growth
    )


def memory(sizes: Sizes):
    "Peaks and curves, each from a fresh process."
    rows, curves, threads = [], [], tf.config.threading.get_intra_op_parallelism_threads()
    processes = dict(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1 if sizes.memory_fresh else None,
        initializer=start,
        initargs=(threads,),
    )
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(**processes) as pool:
        for stage in STAGES:
            rows.append(row := pool.submit(peak, stage, Path(folder), sizes).result())
            yield (
                dict(rows=rows, curves=curves),
                f"{row['stage']}: {row['peak_bytes'] / 2**20:,.0f} MiB above {row['before_bytes'] / 2**20:,.0f} MiB",
            )
        for evaluation, count in zip(EVALUATIONS, sizes.evaluations):
            curves.append(found := pool.submit(curve, evaluation, count, Path(folder), sizes).result())
            early, *_, late = (f"{held / 2**20:,.0f} MiB" for held in found["resident_bytes"])
            yield (
                dict(rows=rows, curves=curves),
                (
                    f"{count:,} systems {evaluation.__name__}: {early} after {found['after'][0]:,}, {late} at the end, "
                    f"{found['growth_bytes'] / 1024:+,.1f} KiB each in the second half"
                ),
            )
