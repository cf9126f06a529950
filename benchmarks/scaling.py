"""Two nodes that lose a worker and a node; and how the paper preset would scale over many GPUs, simulated from
measured times."""

import heapq
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks.harness import ROOT, Sizes
from dans.cost.footprint import macs
from dans.house import DansError
from dans.net.supernet import Supernet, extremes
from dans.net.train import Recipe
from dans.paper.executor import Ray


def nodes(sizes: Sizes):
    "Pieces on two nodes of one core each; a worker is killed, then a node is lost."
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.two_nodes", folder, str(sizes.pieces)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, **Ray().environment(), "RAY_USAGE_STATS_ENABLED": "0"},
        )
    if done.returncode:
        raise RuntimeError(f"the two nodes ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    record = json.loads(done.stdout.splitlines()[-1])
    rows = [dict(event=event, **record.pop(event)) for event in ("worker_killed", "node_lost")]
    for row in rows:
        row |= dict(lost=row["pieces"] - row["different"], twice=row["stored"] - row["different"])
    yield (
        dict(rows=rows, **record),
        ", ".join(
            f"{row['event'].replace('_', ' ')}: {row['lost']} pieces lost, {row['twice']} twice, "
            f"{row['begun'] - row['pieces']} begun again"
            for row in rows
        ),
    )


def finish(seconds: list, needs: list, workers: int, overhead: float = 0.0) -> float:
    """When all tasks are done: a free worker takes the longest task that may begin. `needs[i]` are the tasks that
    task i waits for."""
    waits, after = [len(need) for need in needs], [[] for _ in seconds]
    for i, need in enumerate(needs):
        for before in need:
            after[before].append(i)
    ready, running, now, free = [(-seconds[i], i) for i, n in enumerate(waits) if n == 0], [], 0.0, workers
    heapq.heapify(ready)
    while ready or running:
        while ready and free:
            _, i = heapq.heappop(ready)
            heapq.heappush(running, (now + overhead + seconds[i], i))
            free -= 1
        now, done = heapq.heappop(running)
        free += 1
        for i in after[done]:
            waits[i] -= 1
            if waits[i] == 0:
                heapq.heappush(ready, (-seconds[i], i))
    return now


def tasks(sizes: Sizes, trees: list, per_mac: float):
    """Seconds of the paper preset's pieces on this machine, what each waits for, and its stage: a supernet for each
    data configuration, a tree for each of them and each width, and trainings of systems on their own, which wait for
    all scores."""
    space, recipe = sizes.paper, Recipe(epochs=sizes.paper_epochs)
    seconds, needs, stages, images = [], [], [], 3 * sizes.paper_epochs * sizes.paper_images
    for data in space.data_configs:
        net = Supernet(space.fix(data), 2)
        drawn = [macs(system, 2) for t in range(200) for system in net.draw(np.random.default_rng(t), recipe)]
        seconds.append(4 * float(np.mean(drawn)) * images * per_mac)
        needs.append([])
        stages.append("supernets")
    of = {(data.resolution, data.color): i for i, data in enumerate(space.data_configs)}
    for tree in trees:
        seconds.append(tree["seconds"])
        needs.append([of[tree["resolution"], tree["color"]]])
        stages.append("trees")
    scored, rng = list(range(len(seconds))), np.random.default_rng(0)
    for _ in range(sizes.paper_alone):
        seconds.append(macs(space.sample(rng), 2) * images * per_mac)
        needs.append(scored)
        stages.append("stand-alone")
    return seconds, needs, stages


def scaling(sizes: Sizes, found: dict):
    """A simulation from `found`, measured before: times of trees and training steps on this machine, and with all
    pieces so many times as fast."""
    missing = [name for name in ("paper_space", "step_against_fit", "nodes") if name not in found]
    if missing:
        raise DansError(
            f"scaling needs {', '.join(missing)}", "measure them first: --only " + " ".join([*missing, "scaling"])
        )
    largest = next(row for row in found["step_against_fit"]["rows"] if row["network"] == "largest")
    per_mac = 1 / (3 * largest["ours_images_per_second"] * macs(extremes(sizes.train)[0], 2))
    seconds, needs, stages = tasks(sizes, found["paper_space"]["extrapolated"], per_mac)
    rows = []
    for times_faster in sizes.faster:
        times = [s / times_faster for s in seconds]
        alone = finish(times, needs, 1, found["nodes"]["seconds_per_piece"])
        for workers in sizes.workers:
            took = finish(times, needs, workers, found["nodes"]["seconds_per_piece"])
            rows.append(dict(times_faster=times_faster, workers=workers, hours=took / 3600, speedup=alone / took))
    pieces = [
        dict(
            stage=stage,
            pieces=stages.count(stage),
            longest_hours=max(s for s, t in zip(seconds, stages) if t == stage) / 3600,
            total_hours=sum(s for s, t in zip(seconds, stages) if t == stage) / 3600,
        )
        for stage in dict.fromkeys(stages)
    ]
    yield (
        dict(rows=rows, stages=pieces, seconds_per_mac=per_mac, simulated=True),
        ", ".join(f"{r['workers']}: {r['speedup']:.0f}x" for r in rows if r["times_faster"] == sizes.faster[-1]),
    )
