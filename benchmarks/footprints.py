"Footprints of a whole space, from architectures alone."

from benchmarks.harness import Sizes, seconds_of
from dans.cost.footprint import footprint


def footprints(sizes: Sizes):
    "RAM, flash and MACs of every system of the paper space; nothing is kept from one repeat to the next."
    systems, rows = list(sizes.paper), []
    for _ in range(sizes.repeats):
        footprint.cache_clear()
        rows.append(dict(seconds=seconds_of(lambda: [footprint(s, 2) for s in systems])))
        yield (
            dict(rows=rows, systems=len(systems), target_seconds=5),
            f"{len(systems):,} systems: {rows[-1]['seconds']:.2f} s",
        )
