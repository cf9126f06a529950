"Footprints of a whole space, from architectures alone."

from benchmarks.harness import Sizes, seconds_of
from dans.hardware import footprint


def footprints(sizes:Sizes):
    "RAM, flash and MACs of every system of the paper space; nothing is kept from one repeat to the next."
    systems, seconds = list(sizes.paper), []
    for _ in range(sizes.repeats):
        footprint.cache_clear()
        seconds.append(seconds_of(lambda: [footprint(s) for s in systems]))
        yield dict(seconds=seconds, systems=len(systems), target_seconds=5), f"{len(systems):,} systems: {seconds[-1]:.2f} s"
