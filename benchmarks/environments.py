"""Environments: a small training under random subsets of variables and files that change results or end runs where
they reach a kernel."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks.harness import Sizes
from dans.house import DansError

LIST = """items:
  run_small:
    {notebook: small.ipynb, title: A small training, writes: [small/rows], versions: [data, standalone]}
"""
PARAMETERS = 'preset:str = "quick"\nout_dir:str = "runs/quick"\nseed:int = 0'
TRAIN = """
import sys
import keras, matplotlib, numpy as np, pandas as pd
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.space import System
from dans.paper.study import Study
from dans.net.alone import train_alone
from dans.net.train import Recipe
study = Study(preset, out_dir)
prepared = prepare(wake_scenes(n_train=32, n_val=16, n_test=16, seed=seed, native=16), [16], study.cache)
system = System(ImageConfig(16, "rgb"), Architecture((1, 0, 0, 0, 0), 0.1))
model, state = train_alone(system, prepared, Recipe(epochs=1, batch=16))
rows = {name: float(np.abs(value).sum()) for name, value in state.weights.items()}
rows |= dict(floatx=keras.config.floatx(), format=keras.config.image_data_format(), backend=keras.config.backend(),
             line=matplotlib.rcParams["lines.linewidth"], draws=matplotlib.get_backend(), hash=hash("x"),
             optimize=sys.flags.optimize, encoding=sys.getfilesystemencoding(), total=sum([1, 2]))
rows = pd.DataFrame(dict(name=list(rows), value=[str(v) for v in rows.values()]))
study.write("small/rows", rows, data=dict(name="wake_scenes"));
"""
_RC, _BAD = "lines.linewidth: 17\nfigure.dpi: 33\n", "raise RuntimeError('a foreign module')\n"
_STARTUP = (
    "import builtins, numpy, warnings; builtins.sum = None; numpy.random.default_rng = None; "
    "warnings.simplefilter('error')\n"
)
_KERAS = json.dumps(dict(floatx="float16", epsilon=0.1, backend="jax", image_data_format="channels_first"))
_SPEC = json.dumps(dict(argv=["/bin/false", "{connection_file}"], display_name="Python 3", language="python"))
FAULTS = {  # name -> variables, files; {home} and {root} stand for the user's folder and the checkout
    "keras.json at home": ({}, {"{home}/.keras/keras.json": _KERAS}),
    "keras.json in KERAS_HOME": (dict(KERAS_HOME="{home}/k"), {"{home}/k/keras.json": _KERAS}),
    "limits of Keras": (
        dict(KERAS_MAX_EPOCHS="0", KERAS_MAX_STEPS_PER_EPOCH="1", KERAS_NNX_ENABLED="true", TF_USE_LEGACY_KERAS="1"),
        {},
    ),
    "matplotlibrc at home": ({}, {"{home}/.config/matplotlib/matplotlibrc": _RC}),
    "matplotlibrc in MPLCONFIGDIR": (dict(MPLCONFIGDIR="{home}/mpl"), {"{home}/mpl/matplotlibrc": _RC}),
    "MATPLOTLIBRC": (dict(MATPLOTLIBRC="{home}/rc"), {"{home}/rc": _RC}),
    "matplotlibrc in the checkout": ({}, {"{root}/matplotlibrc": _RC}),
    "MPLBACKEND": (dict(MPLBACKEND="TkAgg"), {}),
    "IPython's startup files": ({}, {"{home}/.ipython/profile_default/startup/00.py": _STARTUP}),
    "IPYTHONDIR": (
        dict(IPYTHONDIR="{home}/ip"),
        {
            "{home}/ip/profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['1/0']\n",
            "{home}/ip/profile_default/startup/00.py": _STARTUP,
        },
    ),
    "a kernelspec at home": ({}, {"{home}/.local/share/jupyter/kernels/python3/kernel.json": _SPEC}),
    "a kernelspec in JUPYTER_PATH": (dict(JUPYTER_PATH="{home}/j"), {"{home}/j/kernels/python3/kernel.json": _SPEC}),
    "a provisioner": (dict(JUPYTER_DEFAULT_PROVISIONER_NAME="none"), {}),
    "PYTHONPATH": (
        dict(PYTHONPATH="{home}/p"),
        {
            "{home}/p/keras.py": _BAD,
            "{home}/p/ipykernel_launcher.py": _BAD,
            "{home}/p/sitecustomize.py": "import os\nos.environ['TF_NUM_INTRAOP_THREADS'] = '1'\n",
        },
    ),
    "modules in the checkout": (
        {},
        {"{root}/keras.py": _BAD, "{root}/ipykernel_launcher.py": _BAD, "{root}/tensorflow.py": _BAD},
    ),
    "Python's switches": (
        dict(PYTHONOPTIMIZE="2", PYTHONHASHSEED="7", PYTHONSTARTUP="{home}/none.py", PYTHONDEVMODE="1"),
        {},
    ),
    "TensorFlow's switches": (
        dict(
            TF_ENABLE_ONEDNN_OPTS="0",
            TF_XLA_FLAGS="--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
            XLA_FLAGS="--xla_no_such_flag",
        ),
        {},
    ),
    "threads": (
        dict(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1", MKL_NUM_THREADS="1"),
        {},
    ),
    "language and time": (
        dict(LC_ALL="tr_TR", LANG="C", LANGUAGE="tr", TZ="Asia/Kathmandu", PYTHONIOENCODING="latin-1"),
        {},
    ),
    "progress bars": (dict(TQDM_ASCII="#", TQDM_MINITERS="1000", TQDM_NCOLS="3"), {}),
    "folders that are not there": (dict(TMPDIR="/no/such/folder", XDG_CACHE_HOME="/no/such/folder"), {}),
}


def checkout(
    folder: Path,  # made
) -> Path:  # of a list with one small training
    "A checkout of one run, and beside it a home."
    root = folder / "checkout"
    for path in (root, folder / "home"):
        path.mkdir(parents=True)
    (root / "paper.yml").write_text(LIST)
    cells = [new_code_cell(PARAMETERS, metadata=dict(tags=["parameters"])), new_code_cell(TRAIN)]
    nbformat.write(new_notebook(cells=cells), root / "small.ipynb")
    return root


def rows_in(
    root: Path,  # from `checkout`
    faults,  # names of `FAULTS`
) -> str:  # the rows, or how the command ended without any
    "What the run writes where `faults` are around."
    home = root.parent / "home"
    for path in (home, root / "runs/quick"):
        shutil.rmtree(path, ignore_errors=True)
    variables, files = dict(HOME=str(home), DANS_CACHE=str(root.parent / "cache")), []
    home.mkdir()
    for name in faults:
        more, texts = FAULTS[name]
        variables |= {key: value.format(home=home, root=root) for key, value in more.items()}
        for path, text in texts.items():
            files.append(Path(path.format(home=home, root=root)))
            files[-1].parent.mkdir(parents=True, exist_ok=True)
            files[-1].write_text(text)
    clean = {
        name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT") if name in os.environ
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import sys; from dans.paper.reproduce import main; sys.exit(main())"],
        cwd=root,
        env=clean | variables,
        capture_output=True,
        text=True,
    )
    for path in files:
        path.unlink()
    return (
        (root / "runs/quick/results/small/rows.csv").read_text()
        if done.returncode == 0
        else f"status {done.returncode}: {done.stderr[-500:]}"
    )


def subset(i: int) -> list[str]:
    "The faults of run `i`: each one with probability 1/2."
    return [name for name, there in zip(FAULTS, np.random.default_rng([14, i]).random(len(FAULTS)) < 0.5) if there]


def environments(sizes: Sizes):
    "Runs with other rows than without any fault around."
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = checkout(Path(folder).resolve() / "trial")
        expected = rows_in(root, ())
        if expected.startswith("status"):
            raise DansError(
                f"the run fails by itself ({' '.join(expected.split())})",
                "see why: dans-reproduce run_scenes --preset smoke",
            )
        for i in range(sizes.environments):
            faults = subset(i)
            found = rows_in(root, faults)
            rows.append(
                dict(
                    run=i,
                    faults=len(faults),
                    equal=found == expected,
                    names=", ".join(faults),
                    found="" if found == expected else found,
                )
            )
            other = [row["run"] for row in rows if not row["equal"]]
            yield (
                dict(rows=rows, kinds=len(FAULTS)),
                f"{len(rows)} runs under random subsets of {len(FAULTS)} faults, with other rows: "
                f"{', '.join(map(str, other)) or 'none'}",
            )
