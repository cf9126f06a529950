"Run the benchmarks, write their results, and draw the pages from them."

import argparse
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path

from dans.house import cores

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "nbs" / name for name in ("benchmarks.ipynb", "robustness.ipynb")]
RESULTS = ROOT / "benchmarks" / "results.json"
BENCHMARKS = {  # name -> module, and what is measured
    "tree_against_list": (
        "scoring",
        "all subnets of one data configuration and width: the tree, and a traced list of the same subnets",
    ),
    "tree_against_models": ("scoring", "the same subnets: the tree, and a new Keras model for each"),
    "step_against_fit": (
        "training",
        "images/s of one network's training step: the supernet's trace, and `fit` of a plain Keras model",
    ),
    "supernet_steps": (
        "training",
        "seconds of a shared supernet's steps on several spaces: by loops, and by the supernet's trace",
    ),
    "fleet": (
        "fleets",
        "seconds of small systems of one data configuration trained on the same images: a fleet, `fit` of plain Keras "
        "models, and one by one",
    ),
    "backends": (
        "backends",
        "seconds of the first training step and the first scoring, compilation included, and of later ones: TensorFlow "
        "and JAX",
    ),
    "paper_steps": (
        "paper_steps",
        "seconds of a supernet's step, of one system's, and of a tree in the paper space, on what Keras runs on here",
    ),
    "quick_space": ("scoring", "seconds to score every system of the quick space"),
    "footprints": ("footprints", "seconds for RAM, flash and MACs of every system of the paper space"),
    "model_files": (
        "model_files",
        "files of the folder in DANS_MODELS: how many are read, and how far from what TensorFlow Lite Micro takes",
    ),
    "paper_space": ("scoring", "hours to score every system of the paper space, extrapolated from measured trees"),
    "small_sets": (
        "small_sets",
        "test accuracy of the system that a search on 450 images chooses: by passes, by steps, by folds",
    ),
    "memory": ("memory", "peak memory of each stage, and what stays after each of many evaluations"),
    "nodes": (
        "scaling",
        "pieces lost and pieces twice in the rows, where a worker and a machine of two die in the middle",
    ),
    "scaling": ("scaling", "hours of the paper preset on many GPUs, simulated from measured times"),
    "kills": (
        "kills",
        "kills at random moments of every stage, and runs that then ended otherwise than an undisturbed one",
    ),
    "environments": (
        "environments",
        "runs of a small training under random subsets of variables and files of other people, and how many gave other "
        "rows",
    ),
    "fuzz": ("fuzzing", "cases of broken input of each kind that end in a result or in one line of ours"),
}
ADDING = ("paper_steps", "scaling")  # which read the results that are there


def arguments():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n" + "\n".join(f"  {name:20} {what}" for name, (_, what) in BENCHMARKS.items()),
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=BENCHMARKS,
        default=list(BENCHMARKS),
        metavar="NAME",
        help="these, in this order; the others' results stay",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_true",
        help="at a tiny size: does every line run? Writes to runs/benchmarks/ unless --out is given",
    )
    size.add_argument("--full", action="store_true", help="measure the list on every subnet, not on a sample")
    parser.add_argument("--repeats", type=int, metavar="N", help="pairs of every contest")
    parser.add_argument(
        "--threads",
        type=int,
        default=cores(),
        metavar="N",
        help="threads of TensorFlow (default: every core that this process may use)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="results (default: benchmarks/results.json, from which the pages are drawn)",
    )
    parser.add_argument("--page", action="store_true", help="only draw the pages from the results that are there")
    args = parser.parse_args()
    if args.threads < 1 or (args.repeats or 1) < 1:
        parser.error("--threads and --repeats take whole numbers from 1")
    args.out = (args.out or (ROOT / "runs/benchmarks/results.json" if args.quick else RESULTS)).resolve()
    return args


def measure(args):
    "Run what `args` names. The file of results is written after each benchmark."
    from benchmarks.harness import QUICK, Sizes, machine, read
    from dans.backend import backend
    from dans.files import write_json

    sizes = QUICK if args.quick else replace(Sizes(), every=1) if args.full else Sizes()
    sizes = replace(sizes, repeats=args.repeats or sizes.repeats)
    results = read(args.out)
    write_json(args.out, results)  # a place that cannot be written to shows now
    if backend() == "tensorflow":
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    here = machine(args.threads)
    for name in args.only:
        module, what = BENCHMARKS[name]
        print(f"{name}: {what}", flush=True)
        about, start = dict(what=what, sizes=asdict(sizes), machine=here), time.perf_counter()
        run = getattr(import_module(f"benchmarks.{module}"), name)
        for record, said in run(sizes, results) if name in ADDING else run(sizes):  # noqa: B007 (the last one is kept)
            print(f"  {time.perf_counter() - start:5.0f} s  {said}", flush=True)
        results[name] = dict(**record, **about, took_seconds=time.perf_counter() - start)
        write_json(args.out, {n: results[n] for n in BENCHMARKS if n in results})
    print(f"results: {args.out}")


def draw():
    "Run the notebooks of the pages and keep their outputs."
    import nbformat
    from nbclient import NotebookClient

    for path in PAGES:
        page = nbformat.read(path, as_version=4)
        NotebookClient(page, kernel_name="python3", resources={"metadata": {"path": path.parent}}).execute()
        for cell in page.cells:  # warnings of libraries are no part of the page
            cell.get("outputs", [])[:] = [
                output for output in cell.get("outputs", []) if output.get("name") != "stderr"
            ]
        nbformat.write(page, path)
        subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], cwd=ROOT, check=True)
        print(f"page: {path.relative_to(ROOT)}")


def main():
    args = arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TQDM_DISABLE", "1")
    from dans.house import DansError

    try:
        if not args.page:
            measure(args)
        if args.page or args.out == RESULTS:
            draw()
    except DansError as error:
        sys.exit(f"benchmarks: {error}")


if __name__ == "__main__":
    main()
