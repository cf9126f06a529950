"Fuzzing: how many cases of broken input of each kind end as they should, in a result or in one line of ours."

import functools
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from benchmarks.harness import ROOT, Sizes
from dans.house import DansError


class Counter:
    "A pytest plugin: for each hypothesis test what it is given, in how many cases, and whether one of them failed."

    def __init__(self):
        self.rows = {}  # name of the test -> its row

    def pytest_runtest_setup(self, item):
        row = self.rows[item.nodeid] = dict(
            input=item.name.removeprefix("test_").replace("_", " "), cases=0, failed=False
        )
        test = item.obj.hypothesis.inner_test

        @functools.wraps(test)
        def counted(*args, **kwargs):
            row["cases"] += 1
            return test(*args, **kwargs)

        item.obj.hypothesis.inner_test = counted

    def pytest_runtest_logreport(self, report):
        self.rows[report.nodeid]["failed"] |= report.failed


def counted(cases: int) -> list[dict]:
    "The rows of all tests in tests/test_fuzz.py, run in this process with `cases` cases each."
    os.environ["DANS_FUZZ_CASES"], counter = str(cases), Counter()
    os.environ.pop("PYTEST_ADDOPTS", None)  # of the pytest that may have started this one
    pytest.main(
        [str(ROOT / "tests/test_fuzz.py"), f"--rootdir={ROOT}", "-p", "no:terminal", "-p", "no:cacheprovider"],
        plugins=[counter],
    )
    return list(counter.rows.values())


def fuzz(sizes: Sizes):
    "Every test of broken input, in a process of its own."
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        rows = pool.submit(counted, sizes.fuzz_cases).result()
    if not rows:
        raise DansError("tests/test_fuzz.py does not run", "see why: pytest tests/test_fuzz.py")
    failed = [row["input"] for row in rows if row["failed"]]
    yield (
        dict(rows=rows),
        f"{sum(row['cases'] for row in rows):,} cases of {len(rows)} kinds, failed: {', '.join(failed) or 'none'}",
    )
