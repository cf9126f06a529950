"Pieces are computed where an executor says. What a cluster does to them: `nodes` in tests/test_bench.py."

import pytest

from dans.house import DansError, Diverged
from dans.paper.executor import Local, Ray, executor
from dans.paper.study import Study


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    (tmp_path / "paper.yml").write_text("items: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_local_pieces_come_in_order_and_one_that_diverges_does_not_end_them():
    def compute(i):
        if i == 1:
            raise Diverged("the loss is nan", "train slower")
        return i * 10

    found = [(i, made) for i, made, _ in Local()(compute, range(3))]
    assert [found[0], found[2]] == [(0, 0), (2, 20)] and isinstance(found[1][1], Diverged)


def test_another_error_ends_them():
    with pytest.raises(ZeroDivisionError):
        list(Local()(lambda i: 1 / i, [1, 0]))


@pytest.mark.parametrize(
    "text", ["dask", "ray:cores=3", "ray:cpus=0", "ray:cpus=many", "ray:gpus=-1", "local:2", "", "ray:recycle=0"]
)
def test_executors_that_there_are_not(text):
    with pytest.raises(DansError):
        executor(text)


def test_a_study_names_its_executor(checkout):
    assert Study("quick", root=checkout).executor == Local()
    assert Study("quick", root=checkout, executor="ray:cpus=2").executor == Ray(2)
    with pytest.raises(DansError, match="'slurm' is unknown"):
        Study("quick", root=checkout, executor="slurm")


def test_a_piece_that_diverges_is_a_row_and_is_not_computed_again(checkout):
    study, calls = Study("quick", root=checkout), []

    def compute(i):
        calls.append(i)
        if i == 1:
            raise Diverged("the loss is nan", "train slower")
        return {"n": i}

    for _ in range(2):
        rows = study.pieces("standalone", {i: {"n": i} for i in range(3)}, compute)
        assert rows == {0: {"n": 0}, 1: {"diverged": "the loss is nan: train slower"}, 2: {"n": 2}}
    assert calls == [0, 1, 2]


def test_nothing_to_compute_needs_no_cluster(checkout, monkeypatch):
    whats = {i: {"n": i} for i in range(2)}
    Study("quick", root=checkout).pieces("search", whats, lambda i: {"n": i})

    def connected(asked):
        raise AssertionError("a cluster is asked for")

    monkeypatch.setattr("dans.paper.executor._connected", connected)
    assert Study("quick", root=checkout, executor="ray").pieces("search", whats, None) == whats
