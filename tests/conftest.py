"Which files come first. `make test` gives each file to one of two processes, which should end at about the same time."

from pathlib import Path

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
