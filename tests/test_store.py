"The store under bad conditions: torn files, a full disk, two processes on one study, folders without permission, wrong clocks, stale scores."

import itertools
import os
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from make_data import drawn, refused

from dans.prepared import prepare
from dans.space import DansError, DataConfig
from dans.study import RESULT_VERSIONS, Store, Study, key_of, versions_of


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
    from dans.space import DansError
    from dans.study import Store
    if sys.argv[2] == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    store = Store(sys.argv[1] + "/store")
    for seed in range(2000):
        try:
            store.record("supernet", {"seed": seed}, {"n": seed, "text": "x" * 5000}, files={"w": bytes([seed % 256]) * 20_000})
        except DansError as error:
            print(error)
            break
    print(seed)
    for i in range(seed):
        assert store.find("supernet", {"seed": i})["n"] == i
        assert store.file("supernet", {"seed": i}, "w").read_bytes() == bytes([i % 256]) * 20_000
    print(store.find("supernet", {"seed": seed}), len(list((store.folder / "files").glob("*/w"))))
"""


def small_disk(folder):
    "The command that runs another one with a disk of 1 MB at `folder`; None where this machine mounts none for us."
    mounted = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none "{folder}" && exec "$@"',
        "sh",
    ]
    try:
        return mounted if subprocess.run([*mounted, "true"], capture_output=True).returncode == 0 else None
    except OSError:
        return None


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
        from dans.study import Study
        study, me = Study("quick", root=Path(sys.argv[1])), sys.argv[2]
        def compute(i):
            time.sleep(.01)
            return dict(by=me, n=i)
        rows = study.pieces("search", [dict(seed=i) for i in range(30)], compute)
        print(*(f"{row['by']}{row['n']}" for row in rows))
    """
    a, b = [said(process) for process in [script(code, checkout, me) for me in "ab"]]
    assert a == b and [int(word[1:]) for word in a[0].split()] == list(range(30))
    rows = Study("quick", root=checkout).store.rows("search")
    assert sorted(rows.seed) == list(range(30)) and (rows.seed == rows.n).all()


# Folders without permission


def read_only(folder):
    "The command that runs another one with `folder` read-only; None where this machine does not let us."
    mounted = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}" && exec "$@"',
        "sh",
    ]
    try:
        return mounted if subprocess.run([*mounted, "true"], capture_output=True).returncode == 0 else None
    except OSError:
        return None


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
        from dans.space import DansError
        from dans.study import Store
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
    assert study.pieces("search", [dict(n=n) for n in range(5)], lambda i: dict(square=i * i)) == [
        dict(square=i * i) for i in range(5)
    ]


def test_files_are_judged_by_content_and_not_by_their_times(checkout):
    study = Study("cpu", root=checkout)
    study.store.record("supernet", {}, dict(n=1), files=dict(w=b"12345"))
    prepared = prepare(drawn(), [16], study.cache)
    view = prepared.view("val", DataConfig(16)).images.copy()
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
        assert again == prepared and (again.view("val", DataConfig(16)).images == view).all()
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
