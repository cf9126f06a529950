"A small study whose answer is known: systems, rows of trainings and of scores."

import numpy as np
import pandas as pd

from dans.choose.rank import Judged
from dans.cost.footprint import footprint, macs
from dans.space import SearchSpace

SPACE = SearchSpace.preset("cpu")
CHOOSING = SPACE.spread(16, np.random.default_rng(0), lambda s: macs(s, 2))
JUDGING = SPACE.spread(40, np.random.default_rng(1), lambda s: macs(s, 2), without=CHOOSING)
COSTS = {s: footprint(s, 2) for s in CHOOSING + JUDGING}


def study(seed=0, slope=0.03, noise=0.01, trainings=2, supernets=3):
    "Rows of trainings and scores; accuracies rise with MACs, scores are `slope` too low for each stage before 5."
    rng = np.random.default_rng(seed)
    truth, scores = [], []
    for system, cost in COSTS.items():
        kind = "choosing" if system in CHOOSING else "judging"
        t = 0.7 + 0.02 * (np.log2(cost.macs) - 19) + rng.normal(0, 0.012)
        about = {"data": "invented", "set": kind, **system.to_dict(), **vars(cost), "parameters": cost.flash_bytes}
        truth += [
            about | {"seed": i, "cost_macs": 10.0, "val": t + rng.normal(0, noise), "test": t + rng.normal(0, noise)}
            for i in range(trainings)
        ]
        low = max(0, 5 - system.arch.ending)
        for maker, by in (("shared", slope), ("per_config", slope), ("largest_only", 3 * slope)):
            scores += [
                {"maker": maker, "supernet": i, "score": t - by * low + rng.normal(0, noise), **system.to_dict()}
                for i in range(supernets)
            ]
    return pd.DataFrame(truth), pd.DataFrame(scores)


TRUTH, SCORES = study()


def made(truth, scores=None, macs_=None, ram=None):
    "`Judged` of bare arrays: `truth` (n, trainings)."
    n = len(truth)
    rows = pd.DataFrame(
        {
            "macs": np.geomspace(1e5, 1e7, n) if macs_ is None else macs_,
            "ram_bytes": np.full(n, 8192) if ram is None else ram,
            "ending": 2,
            "resolution": 32,
            "width": 0.1,
        }
    )
    return Judged(tuple(JUDGING[:n]), rows, np.asarray(truth, float), scores or {}, 0.0)
