"""The store, at its best and under bad conditions: torn files, a full disk, two processes on one study, folders
without permission, wrong clocks, stale scores."""

import itertools
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from make_data import drawn, refused

from dans.data.prepared import prepare
from dans.files import RESULT_VERSIONS, key_of, versions_of
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.paper.store import Store
from dans.paper.study import Study


def script(code, *args, before=()):
    "A process that runs `code`; `before`: the command that starts it."
    env = os.environ | dict(TQDM_DISABLE="1", PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    command = [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def said(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out.splitlines()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "paper.yml").write_text("items: {}\n")
    return tmp_path


def filled(folder, n=40):
    "A store of `n` pieces, each with a file."
    store = Store(folder)
    for seed in range(n):
        store.record("supernet", dict(seed=seed), dict(n=seed), files=dict(w=bytes([seed]) * 500))
    return store


# One store


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
        from dans.paper.store import Store
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
        from dans.paper.store import Store
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


def test_a_store_in_a_place_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DansError, match="cannot write"):
        Store(tmp_path / "file/store").record("score", {}, {})


# Torn files


def found_or_refused(store, seed):
    "Whether the store answers: it has the right row, or none, or says in one line that it is damaged."
    try:
        found = store.find("supernet", dict(seed=seed))
    except DansError as error:
        assert "store.sqlite is damaged" in str(error) and "delete it" in str(error) and "\n" not in str(error)
        return False
    assert found in (None, dict(n=seed))
    return True


@pytest.mark.parametrize("keep", [0, 1, 50, 100, 4096, 5000, 9000])
def test_a_torn_store_is_one_line_or_begun_anew(tmp_path, keep):
    store = filled(tmp_path)
    store.path.write_bytes(store.path.read_bytes()[:keep])
    if not all([found_or_refused(store, seed) for seed in range(40)]):
        store.path.unlink()  # the remedy
    assert store.once("supernet", dict(seed=3), lambda: dict(n=-3)) == dict(n=-3)
    assert store.find("supernet", dict(seed=4)) is None


def test_overwritten_pages_never_give_another_row(tmp_path):
    store = filled(tmp_path)
    whole, answers = store.path.read_bytes(), []
    for start in range(0, len(whole), 512):
        store.path.write_bytes(whole[:start] + bytes(512) + whole[start + 512 :])
        answers += [found_or_refused(store, seed) for seed in (0, 20, 39)]
    assert set(answers) == {True, False}


def test_a_kept_file_torn_to_the_same_length_is_noticed(tmp_path):
    store = filled(tmp_path, 1)
    path = store.file("supernet", dict(seed=0), "w")
    path.write_bytes(bytes(250) + b"x" * 250)
    refused(lambda: store.file("supernet", dict(seed=0), "w"), "w is damaged", "delete it; the piece is computed again")
    path.unlink()  # the remedy
    assert store.once("supernet", dict(seed=0), lambda: (dict(n=1), dict(w=b"new"))) == dict(n=1)
    assert store.file("supernet", dict(seed=0), "w").read_bytes() == b"new"


def test_a_hot_journal_is_rolled_back(tmp_path):
    "A process that dies in the middle of a write leaves the old pages in a journal; the next one puts them back."
    filled(tmp_path)
    process = script(
        """
        import os, sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.execute("pragma cache_size = 1")     # changed pages go to the file before the end
        db.execute("begin")
        db.execute("update pieces set row = '{}', what = ?", ["x" * 5000])
        os._exit(9)
    """,
        tmp_path / "store.sqlite",
    )
    assert process.wait() == 9
    journal = tmp_path / "store.sqlite-journal"
    assert journal.stat().st_size > 512 and b"xxxx" in (tmp_path / "store.sqlite").read_bytes()
    assert [Store(tmp_path).find("supernet", dict(seed=seed)) for seed in range(40)] == [
        dict(n=seed) for seed in range(40)
    ]
    assert not journal.exists()


# A full disk

FILL = """
    import resource, signal, sys
    from dans.house import DansError
    from dans.paper.store import Store
    if sys.argv[2] == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    store = Store(sys.argv[1] + "/store")
    for seed in range(2000):
        try:
            row, file = {"n": seed, "text": "x" * 5000}, bytes([seed % 256]) * 20_000
            store.record("supernet", {"seed": seed}, row, files={"w": file})
        except DansError as error:
            print(error)
            break
    print(seed)
    for i in range(seed):
        assert store.find("supernet", {"seed": i})["n"] == i
        assert store.file("supernet", {"seed": i}, "w").read_bytes() == bytes([i % 256]) * 20_000
    print(store.find("supernet", {"seed": seed}), len(list((store.folder / "files").glob("*/w"))))
"""


def with_mount(command):
    "The command that runs another one after `command` in a namespace of its own, or None where none is to be had."
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{command} && exec "$@"', "sh"]
    try:
        return mounted if subprocess.run([*mounted, "true"], capture_output=True).returncode == 0 else None
    except OSError:
        return None


def small_disk(folder):
    "The command that runs another one with a disk of 1 MB at `folder`, or None."
    return with_mount(f'mount -t tmpfs -o size=1m none "{folder}"')


@pytest.mark.parametrize("kind", ["disk", "limit"])
def test_a_full_disk_loses_only_what_did_not_fit(tmp_path, kind):
    "Where no disk can be mounted, both cases are the limit on the size of a file."
    disk = small_disk(tmp_path) if kind == "disk" else None
    error, count, last = said(script(FILL, tmp_path, "disk" if disk else "limit", before=disk or ()))
    assert "cannot write" in error and "free some space" in error
    assert int(count) > 5 and last == f"None {count}"


# Two processes


def test_two_processes_on_one_list_of_pieces(checkout):
    "Both find all rows, and each row is there once, whoever computed it."
    code = """
        import sys, time
        from pathlib import Path
        from dans.paper.study import Study
        study, me = Study("quick", root=Path(sys.argv[1])), sys.argv[2]
        def compute(i):
            time.sleep(.01)
            return dict(by=me, n=i)
        rows = study.pieces("search", {i: dict(seed=i) for i in range(30)}, compute).values()
        print(*(f"{row['by']}{row['n']}" for row in rows))
    """
    a, b = [said(process) for process in [script(code, checkout, me) for me in "ab"]]
    assert a == b and [int(word[1:]) for word in a[0].split()] == list(range(30))
    rows = Study("quick", root=checkout).store.rows("search")
    assert sorted(rows.seed) == list(range(30)) and (rows.seed == rows.n).all()


# Folders without permission


def read_only(folder):
    "The command that runs another one with `folder` read-only, or None."
    return with_mount(f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}"')


def test_a_read_only_folder_is_read_and_refuses_new_pieces(tmp_path):
    "Where nothing can be mounted, the folder loses its permission to write, which stops all users but root."
    filled(tmp_path, 3)
    before = read_only(tmp_path)
    for path in (tmp_path / "store.sqlite", tmp_path / "files", tmp_path):
        path.chmod(path.stat().st_mode & ~0o222)
    lines = said(
        script(
            """
        import sys
        from dans.house import DansError
        from dans.paper.store import Store
        store = Store(sys.argv[1])
        kept = store.file("supernet", {"seed": 1}, "w").read_bytes()
        print([store.find("supernet", {"seed": seed}) for seed in range(4)], len(store.rows("supernet")), kept[:1])
        for files in ({}, {"w": b"1"}):
            try:
                store.record("supernet", {"seed": 4}, {}, files=files)
            except DansError as error:
                print(error)
    """,
            tmp_path,
            before=before or (),
        )
    )
    tmp_path.chmod(0o755)
    assert lines[0] == "[{'n': 0}, {'n': 1}, {'n': 2}, None] 3 b'\\x01'"
    if before or os.geteuid():
        assert len(lines) == 3 and all(
            "cannot write" in line and "choose a folder that you may write to" in line for line in lines[1:]
        )


# Clocks


@pytest.fixture
def jumping(monkeypatch):
    "All clocks jump back and forth by days."
    jumps = itertools.cycle([0.0, 3e5, -4e5, 1e9, -1e9])
    for name in ("time", "perf_counter", "monotonic"):
        real = getattr(time, name)
        monkeypatch.setattr(time, name, lambda real=real: real() + next(jumps))


def test_a_jumping_clock_changes_no_row(checkout, jumping):
    study = Study("quick", root=checkout)
    found = [study.store.once("score", dict(seed=seed), lambda seed=seed: dict(n=seed)) for seed in (5, 1, 3, 1, 5)]
    assert [row["n"] for row in found] == [5, 1, 3, 1, 5]
    assert study.store.rows("score").seed.tolist() == [5, 1, 3]  # the order of recording
    assert np.isfinite(study.store.rows("score").seconds).all()
    assert study.pieces("search", {n: dict(n=n) for n in range(5)}, lambda n: dict(square=n * n)) == {
        n: dict(square=n * n) for n in range(5)
    }


def test_files_are_judged_by_content_and_not_by_their_times(checkout):
    study = Study("cpu", root=checkout)
    study.store.record("supernet", {}, dict(n=1), files=dict(w=b"12345"))
    prepared = prepare(drawn(), [16], study.cache)
    view = prepared.view("val", ImageConfig(16)).images.copy()
    path = study.write("a/b", pd.DataFrame(dict(x=[1])))
    study.rows("a/b")
    for when in (1, time.time() + 1e9):
        for file in (p for p in checkout.rglob("*") if p.is_file()):
            os.utime(file, (when, when))
        assert (
            study.store.find("supernet", {}) == dict(n=1)
            and study.store.file("supernet", {}, "w").read_bytes() == b"12345"
        )
        stamps = {p: p.stat().st_mtime for p in prepared.folder.rglob("*")}
        again = prepare(drawn(), [16], study.cache)
        assert again == prepared and (again.view("val", ImageConfig(16)).images == view).all()
        assert {p: p.stat().st_mtime for p in prepared.folder.rglob("*")} == stamps  # nothing is made anew
        assert study.stamp == ""
    path.write_text("x\n2\n")
    os.utime(path, (1, 1))  # older than its record, and yet not what the record says
    assert study.stamp == "drawn from stale rows"


# Scores that are kept


def test_a_kept_score_is_used_by_every_search_and_never_for_another_question(tmp_path, monkeypatch):
    store, asked = Store(tmp_path), []
    what = dict(data="d1", recipe=dict(epochs=2, seed=0), calibration=16, system=dict(resolution=16, width=0.1))

    def score(what):
        return store.once("score", what, lambda: asked.append(1) or dict(score=len(asked) / 10))["score"]

    assert score(what) == score(dict(reversed(what.items()))) == 0.1  # two searches, one evaluation
    others = [
        what | dict(data="d2"),
        what | dict(recipe=dict(epochs=2, seed=1)),
        what | dict(recipe=dict(epochs=3, seed=0)),
        what | dict(calibration=17),
        what | dict(system=dict(resolution=16, width=0.2)),
        what | dict(images=16),
    ]
    assert len({score(other) for other in others} | {score(what)}) == 1 + len(others)
    for step in versions_of("score"):
        monkeypatch.setitem(RESULT_VERSIONS, step, RESULT_VERSIONS[step] + 1)
        before = len(asked)
        assert score(what) == (before + 1) / 10 == score(what)
    assert key_of("score", what) != key_of("search", what)


def test_other_images_have_another_data_key(tmp_path):
    "What a score is kept under holds the key of the data: it follows every pixel and label."
    found, seen = drawn(), {prepare(drawn(), [16], tmp_path).key}
    for other in (replace(found, key="0" * 64), drawn(side=40), drawn(dict(train=41, val=10, test=10))):
        seen.add(prepare(other, [16], tmp_path).key)
    assert len(seen) == 4
