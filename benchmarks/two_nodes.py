"""A Ray cluster of two nodes on this machine, on which pieces are computed while a worker and then a node are
killed: `python -m benchmarks.two_nodes FOLDER PIECES` prints what came of it as JSON."""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster

from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.house import DansError
from dans.net.alone import train_alone
from dans.net.score import score_subnets
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.paper.study import Study
from dans.space import SearchSpace

FOLDER, PIECES = Path(sys.argv[1]).resolve(), int(sys.argv[2])


def study(name, executor="ray:cpus=1"):
    return Study("quick", f"runs/{name}", FOLDER, executor)


def counted(name, compute, number=PIECES):
    "Pieces through a new study: how many were asked for, came back in order, are stored, and were begun."
    whats, of = {i: dict(n=i) for i in range(number)}, study(name)
    began = FOLDER / name
    began.mkdir()

    def piece(i):
        (began / f"{i}-{os.getpid()}").touch()
        return dict(n=i, node=ray.get_runtime_context().get_node_id()) | (compute(i, began) or {})

    rows, stored = of.pieces("search", whats, piece).values(), of.store.rows("search")
    return dict(
        pieces=number,
        in_order=sum(row["n"] == i for i, row in enumerate(rows)),
        stored=len(stored),
        different=int(stored.n.nunique()),
        nodes=len({row["node"] for row in rows}),
        begun=len(list(began.iterdir())),
    )


def on_both_nodes(i, began):
    "The first two pieces wait for each other, so each node computes one."
    while i < 2 and not all(list(began.glob(f"{k}-*")) for k in (0, 1)):
        time.sleep(0.02)


def worker_is_killed(i, began):
    on_both_nodes(i, began)
    if i == 2 and len(list(began.glob("2-*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def a_node_is_lost(cluster, node):
    lost, there = node.node_id, FOLDER / "there"

    def compute(i, began):
        on_both_nodes(i, began)
        if i > 1 and ray.get_runtime_context().get_node_id() == lost:
            there.touch()
            time.sleep(60)  # meanwhile the node is lost
        while i > 1 and not there.exists():
            time.sleep(0.02)

    def lose():
        while not there.exists():
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=lose).start()
    return counted("node", compute)


def same_bits():
    "Weights of a system on its own and of a supernet, and the scores of its tree, computed here and on the cluster."
    space, recipe = SearchSpace(16, "rgb", (0.1, 0.2), (1, 0, 0, 0, 0)), Recipe(epochs=2, batch=32)
    prepared = prepare(wake_scenes(96, 32, 32, native=32), [16], FOLDER / "cache")

    def of(weights):
        return hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights))).hexdigest()

    def alone():
        return dict(weights=of(train_alone(space[0], prepared, recipe, check_images=0)[1].weights))

    def supernet():
        return dict(weights=of(Supernet(space, 2).train(prepared, recipe, check_images=0).weights))

    def tree():
        return dict(scores=score_subnets(Supernet(space, 2), [s for s in space if s.arch.width == 0.1], prepared))

    pieces = dict(alone=alone, supernet=supernet, tree=tree)
    here, there = (
        study(f"bits-{e}", e).pieces(
            "standalone", {name: dict(piece=name) for name in pieces}, lambda name: pieces[name]()
        )
        for e in ("local", "ray")
    )
    return dict(
        pieces=list(pieces), equal=[name for name, a, b in zip(pieces, here.values(), there.values()) if a == b]
    )


def refused(executor, compute):
    "The class and the line of the error that a piece ends in."
    try:
        study("refused", executor).pieces("search", {0: dict(n=0)}, compute)
    except Exception as error:
        return [type(error).__name__, str(error)]


def mistaken(i):
    raise DansError(f"piece {i} is wrong", "mend it")


def main():
    cloudpickle.register_pickle_by_value(sys.modules["__main__"])
    (FOLDER / "paper.yml").write_text("items: {}\n")
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    second = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    record = dict(worker_killed=counted("worker", worker_is_killed))
    start = time.perf_counter()
    counted("empty", lambda i, began: None, 10 * PIECES)
    record |= dict(
        seconds_per_piece=(time.perf_counter() - start) / (10 * PIECES),
        bits=same_bits(),
        node_lost=a_node_is_lost(cluster, second),
        wrong=refused("ray", mistaken),
        large=refused("ray:cpus=64", mistaken),
    )
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(record))


if __name__ == "__main__":
    main()
