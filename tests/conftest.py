"How `make test` shares the files between processes, and what it must not inherit."

import signal
from pathlib import Path

# Of two processes, each takes a file at a time; with the dearest first, both end at about the same time.
DEAREST = (
    "test_bench",
    "test_supernet",
    "test_jax",
    "test_score",
    "test_reproduce",
    "test_deploy",
    "test_sources",
    "test_paper",
    "test_environment",
)


def pytest_collection_modifyitems(items):
    "The dearest files first; within a file nothing changes."
    order = {name: i for i, name in enumerate(DEAREST)}
    items.sort(key=lambda item: order.get(Path(item.path).stem, len(DEAREST)))


def pytest_sessionstart():
    "A command that was started in the background ignores Ctrl-C, and so would all that tests start and stop."
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
