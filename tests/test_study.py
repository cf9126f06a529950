"The study: presets and their folders, rows, provenance, pieces."

import json

import pandas as pd
import pytest

from dans.files import RESULT_VERSIONS, key_of
from dans.house import DansError
from dans.paper.study import PRESETS, Study, find_root, whole

LIST = """
items:
  run_a: {notebook: nbs/run_a.ipynb, title: A run, writes: [a/b, a/c]}
  run_big: {notebook: nbs/run_big.ipynb, title: Not for small presets, writes: [big/b], presets: [smoke, cpu]}
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "A checkout whose notebooks dans-reproduce runs; `by_hand` takes that back."
    (tmp_path / "paper.yml").write_text(LIST)
    monkeypatch.delenv("DANS_CACHE", raising=False)
    monkeypatch.delenv("DANS_STALE", raising=False)
    monkeypatch.setenv("DANS_RUNNER", "dans-reproduce")
    return tmp_path


@pytest.fixture
def by_hand(checkout, monkeypatch):
    "The same, with committed rows, and notebooks that a user runs."
    Study("cpu", root=checkout).write("a/b", pd.DataFrame({"x": [1]}))
    monkeypatch.delenv("DANS_RUNNER")
    return checkout


# The study


def test_folders_of_presets(checkout, monkeypatch):
    cpu, quick = Study("cpu", root=checkout), Study("quick", root=checkout)
    assert cpu.committed and not quick.committed
    assert cpu.results("a/b") == checkout / "results/a/b.csv" and cpu.figures == checkout / "figures"
    assert cpu.store.folder == checkout / "runs/cpu/store"
    assert quick.results("a/b") == checkout / "runs/quick/results/a/b.csv"
    assert quick.cache == cpu.cache == checkout / "runs/cache"
    monkeypatch.setenv("DANS_CACHE", str(checkout / "elsewhere"))
    assert Study("quick", root=checkout).cache == checkout / "elsewhere"
    deep = checkout / "nbs/paper"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert Study("quick", "runs/quick").out == quick.out


def test_a_small_preset_cannot_touch_committed_rows(checkout):
    with pytest.raises(DansError, match="would replace committed rows.*--out DIR"):
        Study("quick", ".", root=checkout)


def test_unknown_preset_names_those_there_are(checkout):
    with pytest.raises(DansError, match=f"did you mean smoke.*{', '.join(PRESETS)}"):
        Study("smok", root=checkout)


def test_outside_a_checkout_the_error_says_how_to_get_one(tmp_path):
    with pytest.raises(DansError, match="no paper.yml.*git clone"):
        find_root(tmp_path)


def test_rows_round_trip_and_provenance_names_no_host_user_or_path(checkout):
    study = Study("cpu", root=checkout)
    df = pd.DataFrame({"depths": ["33200"], "score": [1 / 3]})
    study.write("search/log", df, data={"name": "wake_scenes", "hash": "ab"})
    assert study.rows("search/log").score.tolist() == [1 / 3]
    text = json.dumps(study.provenance())
    record = study.provenance()["rows"]["search/log"]
    assert record["data"]["hash"] == "ab" and record["commit"] and record["processor"] and record["versions"]["numpy"]
    import getpass
    import socket

    for secret in (
        socket.gethostname(),
        str(checkout),
        str(checkout.parent),
        "/home/",
        f"/{getpass.getuser()}",
    ):
        assert secret not in text


@pytest.mark.parametrize(
    "preset, out, name, says",
    [
        (
            "cpu",
            None,
            "a/b",
            r"^results/a/b.csv is missing: compute it: make reproduce PRESET=cpu ONLY=run_a "
            r"or \S+/dans-reproduce run_a --preset cpu$",
        ),
        (
            "quick",
            "tries/1",
            "a/c",
            r"make reproduce PRESET=quick ONLY=run_a OUT=tries/1 or \S+ run_a --preset quick --out tries/1$",
        ),
        ("own", None, "a/b", r'PRESET=own ONLY=run_a ARGS="-p data=FOLDER" or \S+ run_a --preset own -p data=FOLDER$'),
        (
            "quick",
            None,
            "big/b",
            r"run_big is not part of preset quick, but of smoke, cpu: .*make reproduce PRESET=smoke ONLY=run_big or",
        ),
        ("quick", None, "b/b", r"no run in paper.yml writes it; there is a/b, a/c, big/b$"),
    ],
)
def test_missing_rows_name_a_command_that_computes_them(checkout, preset, out, name, says):
    with pytest.raises(DansError, match=says) as err:
        Study(preset, out, root=checkout).rows(name)
    assert "\n" not in str(err.value)


def test_by_hand_committed_rows_stay_as_they_are_and_rows_of_one_s_own_come_first(by_hand, capsys):
    before = {path: path.read_bytes() for path in (by_hand / "results").rglob("*") if path.is_file()}
    study = Study("cpu", root=by_hand)
    assert study.rows("a/b").x.tolist() == [1]
    assert study.write("a/b", pd.DataFrame({"x": [2, 3]})) == by_hand / "runs/cpu/results/a/b.csv"
    assert study.figures == by_hand / "runs/cpu/figures" and capsys.readouterr().out == ""
    assert study.rows("a/b").x.tolist() == [2, 3]
    drawn = Study("cpu", root=by_hand)
    assert drawn.rows("a/b").x.tolist() == drawn.rows("a/b").x.tolist() == [2, 3]
    assert capsys.readouterr().out == "rows are read from runs/cpu/results/a/b.csv, not from the committed ones\n"
    assert Study("cpu", "runs/cpu", root=by_hand).rows("a/b").x.tolist() == [2, 3]
    study.write("a/c", pd.DataFrame({"x": [4]}))  # not among the committed ones
    assert study.rows("a/c").x.tolist() == [4]
    assert {path: path.read_bytes() for path in before} == before
    for out in (".", "./", "runs/..", str(by_hand)):
        with pytest.raises(DansError, match="would replace committed rows.*leave out_dir empty"):
            Study("cpu", out, root=by_hand)


@pytest.mark.parametrize(
    "name, text",
    [
        ("b.json", ""),
        ("b.json", "{"),
        ("b.json", "[1]"),
        ("b.json", "null"),
        ("b.json", '{"preset": "quick"}'),
        ("b.json", '{"sha256": "", "result_versions": {}}'),
        ("b.csv", ""),
        ("b.csv", 'x\n"1'),
    ],
)
def test_damaged_or_older_rows_are_one_line(checkout, name, text):
    study = Study("quick", root=checkout)
    study.write("a/b", pd.DataFrame({"x": [1]}))
    (study.out / "results/a" / name).write_text(text)
    with pytest.raises(
        DansError,
        match="runs/quick/results/a/b.csv, or the .json beside it, is damaged or older .*: "
        "restore both from git, or delete them and",
    ) as err:
        study.rows("a/b")
    assert "\n" not in str(err.value)


@pytest.mark.parametrize("computed, drawn", [("smoke", "cpu"), ("cpu", "quick"), ("quick", "smoke")])
def test_rows_of_another_preset_are_an_error(checkout, computed, drawn):
    Study(computed, "runs/x", root=checkout).write("a/b", pd.DataFrame({"x": [1]}))
    with pytest.raises(
        DansError,
        match=f"runs/x/results/a/b.csv holds rows of preset {computed}, and this is preset {drawn}: "
        f".*-p preset {computed}",
    ):
        Study(drawn, "runs/x", root=checkout).rows("a/b")
    study = Study(computed, "runs/x", root=checkout)
    study.rows("a/b")
    assert study.stamp == ("" if computed == "cpu" else "too small to judge")


def test_stamp_tells_small_presets_and_stale_rows(checkout, monkeypatch):
    for preset, small in (("smoke", True), ("quick", True), ("cpu", False), ("paper", False)):
        study = Study(preset, root=checkout)
        path = study.write("a/b", pd.DataFrame({"x": [1]}))
        study.rows("a/b")
        assert study.stamp == ("too small to judge" if small else "")
    path.write_text("x\n2\n")
    assert study.stamp == "drawn from stale rows"
    study = Study("cpu", root=checkout)
    study.rows("a/b")
    assert study.stamp == ""
    monkeypatch.setitem(RESULT_VERSIONS, "score", RESULT_VERSIONS["score"] + 1)
    assert study.stamp == "drawn from stale rows"


# ---- pieces


def test_no_piece_begins_after_its_minutes_and_the_same_call_goes_on(checkout, monkeypatch):
    study, whats, now = Study("smoke", root=checkout), {n: dict(n=n) for n in range(4)}, [0.0]
    monkeypatch.setattr("dans.paper.study.time.monotonic", lambda: now[0])

    def compute(n):
        now[0] += 40
        return dict(square=n * n)

    found = study.pieces("search", whats, compute, minutes=1)
    assert [row and row["square"] for row in found.values()] == [0, 1, None, None]
    found = study.pieces("search", whats, compute, minutes=1)
    assert [row["square"] for row in found.values()] == [0, 1, 4, 9]


def test_pieces_are_shared_out_and_found_again(checkout):
    study, calls = Study("quick", root=checkout), []
    whats = {n: dict(n=n) for n in range(5)}

    def compute(i):
        calls.append(i)
        return dict(square=i * i)

    found = study.pieces("search", whats, compute, share=(1, 2))
    assert found == {0: None, 1: dict(square=1), 2: None, 3: dict(square=9), 4: None}
    with pytest.raises(DansError, match="3 of 5 squares are missing.*other shares"):
        whole(study.pieces("search", whats, compute, share=(1, 2)), "square")
    assert whole(study.pieces("search", whats, compute, known={key_of("search", whats[4])[:16]: dict(square=-1)})) == {
        n: dict(square=square) for n, square in enumerate([0, 1, 4, 9, -1])
    }
    assert calls == [1, 3, 0, 2]
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(DansError, match="share .* is not possible"):
            study.pieces("search", whats, compute, share=share)
