"How `make test` shares the files between processes, and what it must not inherit."

import shutil
import signal
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

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


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: opens a page in Chromium; deselected where there is none")


def pytest_collection_modifyitems(config, items):
    "The dearest files first; within a file nothing changes. Without a browser, nothing that needs one."
    if not any(map(shutil.which, BROWSERS)):
        without = [item for item in items if item.get_closest_marker("browser")]
        items[:] = [item for item in items if not item.get_closest_marker("browser")]
        config.hook.pytest_deselected(items=without)
    order = {name: i for i, name in enumerate(DEAREST)}
    items.sort(key=lambda item: order.get(Path(item.path).stem, len(DEAREST)))


def pytest_report_header():
    if not any(map(shutil.which, BROWSERS)):
        return f"no {', '.join(BROWSERS)}: tests that open a page are deselected"


def pytest_sessionstart():
    "A command that was started in the background ignores Ctrl-C, and so would all that tests start and stop."
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
