"Pieces are computed here or on a Ray cluster: the same bits, nothing lost, nothing twice."
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dans.executor import Local, Ray, executor
from dans.space import DansError, Diverged
from dans.study import Study

ENV = {"PYTHONWARNINGS": "ignore", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
       "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "paper.yml").write_text("items: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(folder, text, *args):
    "The lines that a program prints as JSON; the program runs in `folder`."
    (folder / "program.py").write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, "program.py", *args], cwd=folder, capture_output=True, text=True, env={**os.environ, **ENV}, timeout=400)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def test_local_pieces_come_in_order_and_one_that_diverges_does_not_end_them():
    def compute(i):
        if i == 1:
            raise Diverged("the loss is nan", "train slower")
        return i * 10

    found = [(i, made) for i, made, _ in Local()(compute, range(3))]
    assert [found[0], found[2]] == [(0, 0), (2, 20)] and isinstance(found[1][1], Diverged)


def test_another_error_ends_them():
    with pytest.raises(ZeroDivisionError):
        list(Local()(lambda i: 1 / i, [1, 0]))


@pytest.mark.parametrize("text", ["dask", "ray:cores=3", "ray:cpus=0", "ray:cpus=many", "ray:gpus=-1", "local:2", "", "ray:recycle=0"])
def test_executors_that_there_are_not(text):
    with pytest.raises(DansError):
        executor(text)


def test_a_study_names_its_executor(checkout):
    assert Study("quick", root=checkout).executor == Local()
    assert Study("quick", root=checkout, executor="ray:cpus=2").executor == Ray(2)
    with pytest.raises(DansError, match="'slurm' is unknown"):
        Study("quick", root=checkout, executor="slurm")


def test_a_piece_that_diverges_is_a_row_and_is_not_computed_again(checkout):
    study, calls = Study("quick", root=checkout), []

    def compute(i):
        calls.append(i)
        if i == 1:
            raise Diverged("the loss is nan", "train slower")
        return {"n": i}

    whats = [{"n": i} for i in range(3)]
    for _ in range(2):
        rows = study.pieces("standalone", whats, compute)
        assert rows == [{"n": 0}, {"diverged": "the loss is nan: train slower"}, {"n": 2}]
    assert calls == [0, 1, 2]


TWO_NODES = """
    import json, os, pathlib, signal, sys, time
    from ray.cluster_utils import Cluster
    from dans.study import Study

    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    second = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    here = pathlib.Path.cwd()

    def compute(i):
        import ray
        began = here / f"began-{i}-{os.getpid()}"
        began.touch()
        if i == 2 and len(list(here.glob("began-2-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        while i < 2 and not (list(here.glob("began-0-*")) and list(here.glob("began-1-*"))):
            time.sleep(.02)     # each has one core: these two run on two nodes
        return {"n": i, "node": ray.get_runtime_context().get_node_id()}, {"text": f"piece {i}".encode()}

    study = Study("quick", executor="ray:cpus=1")
    whats = [{"n": i} for i in range(8)]
    rows = study.pieces("search", whats, compute)
    print(json.dumps([row["n"] for row in rows]))
    print(json.dumps(dict(nodes=len({row["node"] for row in rows}), tries=len(list(here.glob("began-2-*"))), stored=len(study.store.rows("search")),
                          files=[study.store.file("search", what, "text").read_text() for what in whats])))

    # a machine is lost while its pieces run
    more = [{"n": i} for i in range(8, 16)]
    def slow(i):
        if i == 3:
            (here / "half").touch()
        time.sleep(.4)
        return {"n": i + 8}
    import threading
    def lose():
        while not (here / "half").exists():
            time.sleep(.02)
        cluster.remove_node(second, allow_graceful=False)
    threading.Thread(target=lose).start()
    rows = study.pieces("search", more, slow)
    print(json.dumps([row["n"] for row in rows]))
    print(json.dumps(dict(stored=len(study.store.rows("search")))))

    def fails(i):
        from dans.space import DansError
        raise DansError(f"piece {i} is wrong", "mend it")
    try:
        study.pieces("search", [{"n": 99}], fails)
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
    try:
        Study("quick", executor="ray:cpus=64").pieces("search", [{"n": 99}], fails)
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
    import ray
    ray.shutdown()
    cluster.shutdown()
"""


def test_two_nodes_lose_a_worker_and_then_a_node_and_no_piece(checkout):
    first, about, second, after, wrong, large = script(checkout, TWO_NODES)
    assert first == list(range(8)) and about == dict(nodes=2, tries=2, stored=8, files=[f"piece {i}" for i in range(8)])
    assert second == list(range(8, 16)) and after == dict(stored=16)
    assert wrong == ["DansError", "piece 0 is wrong: mend it"]
    assert large[0] == "DansError" and "no machine of the cluster has 64 cores" in large[1]


TRAINED = """
    import hashlib, json, sys
    import numpy as np
    from dans.data import prepare, wake_scenes
    from dans.space import Architecture, DataConfig, System
    from dans.study import Study
    from dans.supernet import Recipe, train_alone

    study = Study("quick", sys.argv[1], executor=sys.argv[2])
    prepared = prepare(wake_scenes(96, 32, 32, native=32), [16], "cache")
    systems = [System(DataConfig(16), Architecture((0, 0, 0, 0, 0), width)) for width in (.1, .2)]

    def compute(i):
        _, state = train_alone(systems[i], prepared, Recipe(epochs=2, batch=32), check_images=0)
        return dict(loss=state.history[-1]["loss"]), {"weights": b"".join(state.weights[name].tobytes() for name in sorted(state.weights))}

    whats = [system.to_dict() for system in systems]
    rows = study.pieces("standalone", whats, compute)
    print(json.dumps([[row["loss"], hashlib.sha256(study.store.file("standalone", what, "weights").read_bytes()).hexdigest()] for row, what in zip(rows, whats)]))
"""


def test_a_training_on_a_cluster_has_the_bits_of_one_here(checkout):
    assert script(checkout, TRAINED, "here", "local") == script(checkout, TRAINED, "there", "ray:cpus=1,address=local")


def test_stopped_it_says_what_is_kept(checkout):
    (checkout / "program.py").write_text(textwrap.dedent("""
        import time
        from dans.study import Study
        def compute(i):
            if i:
                print("second", flush=True)
                time.sleep(60)
            return {"n": i}
        Study("quick").pieces("search", [{"n": i} for i in range(3)], compute, "searches")
    """))
    for how, status in ((signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, -signal.SIGTERM)):
        running = subprocess.Popen([sys.executable, "program.py"], cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert running.stdout.readline() == "second\n"
        running.send_signal(how)
        _, said = running.communicate(timeout=20)
        assert running.returncode == status
        assert "stopped: 1 of 3 searches are kept in runs/quick/store; the same run goes on from there" in said
