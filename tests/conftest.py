"How `make test` shares the files between processes, and what it must not inherit."

import os
import shutil
import signal
from pathlib import Path

from hypothesis import settings

# TensorFlow leaves these kernels out on processors without AVX-512; sums and memory are compared with them everywhere.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

settings.register_profile("dans", deadline=None)  # a test that takes long on a busy machine has not failed
settings.load_profile("dans")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROOT = Path(__file__).parent.parent

# Of two processes, each takes a file at a time; with the dearest first, both end at about the same time.
DEAREST = (
    "test_bench",
    "test_supernet",
    "test_site",
    "test_jax",
    "test_sources",
    "test_score",
    "test_lab",
    "test_reproduce",
    "test_docs",
    "test_environment",
    "test_deploy",
    "test_paper",
)


def no_browser():
    "Why no page can be opened here, or nothing."
    return "" if any(map(shutil.which, BROWSERS)) else f"no {', '.join(BROWSERS)}"


def no_site():
    "Why the pages of the site cannot be tested, or nothing."
    site = ROOT / "_docs/index.html"
    if not site.is_file():
        return "no _docs/ (make docs)"
    made_of = [
        *(ROOT / "nbs").rglob("[!.]*.ipynb"),
        *(ROOT / "tools").iterdir(),
        ROOT / "mkdocs.yml",
        ROOT / "paper.yml",
    ]
    newer = [path for path in made_of if path.is_file() and path.stat().st_mtime > site.stat().st_mtime]
    return f"_docs/ is older than {newer[0].relative_to(ROOT)} (make docs)" if newer else ""


NEEDS = {"browser": no_browser, "site": no_site}  # a marker, and why what has it cannot run


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: opens a page in Chromium; deselected where there is none")
    config.addinivalue_line("markers", "site: opens _docs/; deselected where it is not what the notebooks say")


def pytest_collection_modifyitems(config, items):
    "The dearest files first; within a file nothing changes. Without what its markers need, a test is deselected."
    for marker, missing in NEEDS.items():
        without = [item for item in items if item.get_closest_marker(marker)]
        if without and missing():
            items[:] = [item for item in items if item not in without]
            config.hook.pytest_deselected(items=without)
    order = {name: i for i, name in enumerate(DEAREST)}
    items.sort(key=lambda item: order.get(Path(item.path).stem, len(DEAREST)))


def pytest_report_header():
    missing = {marker: why() for marker, why in NEEDS.items()}
    return [f"{why}: tests marked {marker} are deselected" for marker, why in missing.items() if why]


def pytest_sessionstart():
    "A command that was started in the background ignores Ctrl-C, and so would all that tests start and stop."
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
