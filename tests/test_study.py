"The store and the study: keys, atomicity, two processes at once, provenance."

import json
import sqlite3
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dans.house import DansError
from dans.space import Architecture, DataConfig
from dans.study import (
    PRESETS,
    RESTS_ON,
    RESULT_VERSIONS,
    Store,
    Study,
    atomic,
    canonical,
    find_root,
    key_of,
    versions_of,
    whole,
    write_json,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


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


# Keys


@given(st.dictionaries(st.text(), values))
def test_key_survives_json_and_the_order_of_entries(what):
    again = dict(reversed(json.loads(canonical(what)).items()))
    assert key_of("score", again) == key_of("score", what)


@given(st.dictionaries(st.text(), values), st.dictionaries(st.text(), values))
def test_different_descriptions_have_different_keys(a, b):
    assert (key_of("data", a) == key_of("data", b)) == (canonical(a) == canonical(b))


def test_numpy_and_objects_with_to_dict_have_canonical_forms():
    assert canonical({"n": np.int32(3), "a": np.arange(2)}) == canonical({"a": [0, 1], "n": 3})
    assert canonical(DataConfig(64, "rgb")) == canonical(DataConfig(64, "rgb").to_dict())
    assert canonical(Architecture((3, 3, 2, 0, 0), 0.3)) == canonical(Architecture((3, 3, 2, 0, 0), 0.3).to_dict())


@pytest.mark.parametrize("what", [{"x": float("nan")}, {"x": float("inf")}, {"f": len}, {"m": object()}, {(1, 2): 3}])
def test_what_has_no_canonical_form_is_refused(what):
    with pytest.raises(DansError, match="canonical form"):
        key_of("score", what)


@pytest.mark.parametrize("raised", RESULT_VERSIONS)
def test_raising_a_version_makes_all_that_rests_on_it_stale_and_nothing_else(raised, monkeypatch):
    before = {kind: key_of(kind, {}) for kind in RESULT_VERSIONS}
    monkeypatch.setitem(RESULT_VERSIONS, raised, RESULT_VERSIONS[raised] + 1)
    changed = {kind for kind in RESULT_VERSIONS if key_of(kind, {}) != before[kind]}
    assert changed == {kind for kind in RESULT_VERSIONS if raised in versions_of(kind)}
    assert raised in changed and (raised != "deploy" or changed == {"deploy"})


def test_every_step_rests_on_steps():
    assert set(RESTS_ON) | {s for below in RESTS_ON.values() for s in below} <= set(RESULT_VERSIONS)


# Atomic writes


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(RuntimeError), atomic(tmp_path / "a.json") as tmp:
        tmp.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}


def test_a_full_disk_is_one_line_with_a_remedy_and_leaves_nothing(tmp_path):
    with pytest.raises(DansError, match="cannot write.*No space left.*free some space"), atomic(tmp_path / "x") as tmp:
        tmp.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DansError, match="cannot write"):
        write_json(tmp_path / "file/a.json", {})
    with pytest.raises(DansError, match="cannot write"):
        Store(tmp_path / "file/store").record("score", {}, {})


# The store


def test_find_gives_what_was_recorded(tmp_path):
    store, what = Store(tmp_path), {"seed": 1}
    assert store.find("score", what) is None and not store.path.exists()
    store.record("score", what, {"accuracy": np.float64(0.5), "all": np.arange(3)}, seconds=2)
    assert store.find("score", what) == {"accuracy": 0.5, "all": [0, 1, 2]}
    assert Store(tmp_path).find("score", {"seed": 2}) is None
    assert Store(tmp_path).find("search", what) is None


def test_once_computes_once_and_gives_the_same_types_both_times(tmp_path):
    store, calls = Store(tmp_path), []

    def compute():
        calls.append(1)
        return {"depths": (3, 4), "score": np.float32(0.25)}, {"w": b"abc"}

    first, second = (store.once("supernet", {"seed": 0}, compute) for _ in range(2))
    assert calls == [1] and first == second == {"depths": [3, 4], "score": 0.25}
    assert store.file("supernet", {"seed": 0}, "w").read_bytes() == b"abc"


def test_a_compute_that_fails_records_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.once("score", {}, lambda: 1 / 0)
    assert store.find("score", {}) is None


def test_pieces_of_an_old_version_are_not_found(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.record("score", {"seed": 0}, {"a": 1})
    store.record("deploy", {"seed": 0}, {"a": 1})
    monkeypatch.setitem(RESULT_VERSIONS, "supernet", 99)
    assert store.find("score", {"seed": 0}) is None and len(store.rows("score")) == 0
    assert len(store.rows("deploy")) == 1


def test_files_are_copied_from_paths_and_bytes(tmp_path):
    store, source = Store(tmp_path / "store"), tmp_path / "source"
    source.write_bytes(b"from a path")
    store.record("supernet", {}, {}, files={"a": source, "b": b"from bytes"})
    source.write_bytes(b"changed since")
    assert store.file("supernet", {}, "a").read_bytes() == b"from a path"
    assert store.file("supernet", {}, "b").read_bytes() == b"from bytes"
    with pytest.raises(DansError, match="no file 'c'"):
        store.file("supernet", {}, "c")


def test_a_missing_file_to_keep_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(DansError, match="cannot read .*gone"):
        store.record("supernet", {}, {}, files={"a": b"1", "b": tmp_path / "gone"})
    assert store.find("supernet", {}) is None and not list((tmp_path / "files").glob("*"))


@pytest.mark.parametrize("damage", ["cut", "remove"])
def test_a_piece_with_a_damaged_file_is_computed_again(tmp_path, damage):
    store = Store(tmp_path)
    store.record("supernet", {}, {"n": 1}, files={"w": b"12345"})
    path = store.file("supernet", {}, "w")
    path.write_bytes(b"12") if damage == "cut" else path.unlink()
    assert store.find("supernet", {}) is None
    assert store.once("supernet", {}, lambda: ({"n": 2}, {"w": b"67890"})) == {"n": 2}
    assert store.file("supernet", {}, "w").read_bytes() == b"67890"


def test_flipped_bits_are_noticed(tmp_path):
    store = Store(tmp_path)
    store.record("supernet", {}, {}, files={"w": b"12345"})
    store.file("supernet", {}, "w").write_bytes(b"12945")
    with pytest.raises(DansError, match="damaged: delete it"):
        store.file("supernet", {}, "w")


def test_a_file_that_is_no_store_is_one_line(tmp_path):
    (tmp_path / "store.sqlite").write_text("this is text, and long enough not to be taken for an empty file" * 9)
    with pytest.raises(DansError, match="damaged .*delete it"):
        Store(tmp_path).find("score", {})


def test_a_locked_or_read_only_store_is_one_line(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.record("score", {}, {})

    def connect(*_, **__):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(DansError, match="cannot write .*readonly"):
        store.record("score", {"seed": 1}, {})


def test_rows_are_a_table_in_the_order_of_recording(tmp_path):
    store = Store(tmp_path)
    for seed in (3, 1, 2):
        store.record("score", {"seed": seed}, {"score": seed / 10}, seconds=seed)
    rows = store.rows("score")
    assert (
        rows.seed.tolist() == [3, 1, 2]
        and rows.score.tolist() == [0.3, 0.1, 0.2]
        and rows.seconds.tolist() == [3, 1, 2]
    )
    assert len(Store(tmp_path / "none").rows("score")) == 0


def test_many_processes_agree_on_one_piece_and_lose_none(tmp_path):
    "Each row and its file come from the same process, whoever won."
    script = textwrap.dedent("""
        import sys
        from dans.study import Store
        store, me = Store(sys.argv[1]), sys.argv[2]
        for seed in range(12):
            store.record("supernet", {"seed": seed}, {"by": me}, files={"w": me.encode()*1000})
            store.record("score", {"seed": seed, "by": me}, {})
    """)
    who = "abcd"
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), me]) for me in who]
    assert [p.wait() for p in running] == [0] * len(who)
    store = Store(tmp_path)
    for seed in range(12):
        by = store.find("supernet", {"seed": seed})["by"]
        assert store.file("supernet", {"seed": seed}, "w").read_bytes() == by.encode() * 1000
    assert len(store.rows("supernet")) == 12 and len(store.rows("score")) == 12 * len(who)
    assert len(list((tmp_path / "files").glob("*/w"))) == 12  # the losers' files are gone


def test_a_killed_process_leaves_whole_pieces_only(tmp_path):
    script = textwrap.dedent("""
        import itertools, sys
        from dans.study import Store
        store = Store(sys.argv[1])
        for seed in itertools.count():
            weights = bytes([seed % 256]) * 300_000
            store.record("supernet", {"seed": seed}, {"n": seed}, files={"w": weights})
            print(seed, flush=True)
    """)
    running = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    last = [int(running.stdout.readline()) for _ in range(5)][-1]
    running.kill()
    running.communicate()
    store = Store(tmp_path)
    assert all(store.file("supernet", {"seed": s}, "w").read_bytes() == bytes([s]) * 300_000 for s in range(last + 1))
    store.record("supernet", {"seed": -1}, {})
    assert len(store.rows("supernet")) >= last + 2


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
            r"^results/a/b.csv is missing: compute it: make reproduce PRESET=cpu ONLY=run_a or \S+/dans-reproduce run_a --preset cpu$",
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
        match="runs/quick/results/a/b.csv, or the .json beside it, is damaged or older .*: restore both from git, or delete them and",
    ) as err:
        study.rows("a/b")
    assert "\n" not in str(err.value)


@pytest.mark.parametrize("computed, drawn", [("smoke", "cpu"), ("cpu", "quick"), ("quick", "smoke")])
def test_rows_of_another_preset_are_an_error(checkout, computed, drawn):
    Study(computed, "runs/x", root=checkout).write("a/b", pd.DataFrame({"x": [1]}))
    with pytest.raises(
        DansError,
        match=f"runs/x/results/a/b.csv holds rows of preset {computed}, and this is preset {drawn}: .*-p preset {computed}",
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


def test_pieces_are_shared_out_and_found_again(checkout):
    study, calls = Study("quick", root=checkout), []
    whats = [dict(n=n) for n in range(5)]

    def compute(i):
        calls.append(i)
        return dict(square=i * i)

    assert study.pieces("search", whats, compute, share=(1, 2)) == [None, dict(square=1), None, dict(square=9), None]
    with pytest.raises(DansError, match="3 of 5 squares are missing.*other shares"):
        whole(study.pieces("search", whats, compute, share=(1, 2)), "square")
    assert whole(study.pieces("search", whats, compute, known={key_of("search", whats[4])[:16]: dict(square=-1)})) == [
        dict(square=0),
        dict(square=1),
        dict(square=4),
        dict(square=9),
        dict(square=-1),
    ]
    assert calls == [1, 3, 0, 2]
    for share in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(DansError, match="share .* is not possible"):
            study.pieces("search", whats, compute, share=share)
