"Files: one text for one meaning, keys that stay, and nothing half-written."

import errno
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dans.data.catalogue import wake_scenes
from dans.families import Architecture
from dans.files import (
    RESTS_ON,
    RESULT_VERSIONS,
    atomic,
    canonical,
    data_key,
    key_of,
    keyed,
    later,
    mine,
    sha256,
    unfinished,
    versions,
    versions_of,
    write_json,
)
from dans.frontends import DataConfig, ImageConfig
from dans.house import DansError
from dans.net.train import Recipe
from dans.space import SearchSpace, System

LATER = {
    "mirror",
    "drawn",
    "rank",
    "split_at",
    "engine",
}  # newer than kept rows, at their defaults here

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


# What was kept is found again: these texts and keys are those of committed rows

SPACE, RECIPE = SearchSpace.preset("cpu"), Recipe(epochs=2.5, batch=32, zero_last=True, seed=3)
SYSTEM, LARGEST = (
    System(ImageConfig(48, "mono"), Architecture((3, 3, 2, 0, 0), 0.3)),
    Architecture((3, 4, 3, 3, 1), 0.5, "eight"),
)
TEXTS = [
    (
        SPACE,
        '{"colors":["rgb","mono"],"max_depths":[3,4,3,3,1],"resolutions":[32,48,64],"rounding":"even","widths":[0.1,0.2,0.3,0.4,0.5]}',
    ),
    (
        RECIPE,
        '{"across":true,"area":0.6,"average":0.0,"batch":32,"by":"ending","decay":0.0,"deep":1.0,"distil":tr'
        'ue,"epochs":2.5,"networks":"sandwich","own_scale":false,"precision":"float32","rate":0.004,"seed":3,"warmup":0.05,"zero_last":true}',
    ),
    (SYSTEM, '{"color":"mono","depths":"33200","resolution":48,"rounding":"even","width":0.3}'),
    (LARGEST, '{"depths":"34331","rounding":"eight","width":0.5}'),
]
PIECES = {
    "data": "cd9aee0c9220be7304a229aa497d7d0ba6410567ea9e9962c1afc55b56f2969f",
    "supernet": "6556ecc60f6abaa836734ec6ad5263d19a2cacf83ccf9acb8ed7164092c5cab5",
    "score": "0bfe12eb29bd3f2268f687cbe91c16df246863129e2db1d9c54f889a070fd5a8",
    "search": "47f479d545531c9ce2ffffb78f92e2507fee3c5bf1aabe0001d4ac3f0992d18d",
    "standalone": "ba72c8fab9158a2dbccd28d46e26b15b9f3b69d07b344f04bf97d2a24c73d9aa",
    "deploy": "dd6a8cc855b791ba9111aeb22615236b1a832f65b2898dac02ef015fd010419c",
}


@pytest.mark.parametrize("value, text", TEXTS)
def test_a_value_is_told_as_ever(value, text):
    assert canonical(value) == canonical({"x": [value]})[6:-2] == text
    assert canonical(value.to_dict() if hasattr(value, "to_dict") else keyed(value)) == text
    assert keyed(value) == {name: part for name, part in asdict(value).items() if name not in LATER}


@pytest.mark.parametrize("kind", RESULT_VERSIONS)
def test_the_key_of_a_piece_stays(kind, monkeypatch):
    monkeypatch.setattr("dans.files.backend", lambda: "tensorflow")
    about = dict(data="0" * 64, n=np.int64(3), a=np.arange(2), asked="alone")
    what = about | dict(system=SYSTEM, recipe=RECIPE, largest=LARGEST, space=SPACE)
    dicts = about | dict(system=SYSTEM.to_dict(), recipe=keyed(RECIPE), largest=LARGEST.to_dict(), space=asdict(SPACE))
    assert key_of(kind, what) == key_of(kind, dicts) == PIECES[kind]


@pytest.mark.parametrize(
    "what, key",
    [
        (("fold", "ab", 3, 1), "b2bdb9df166b2c73ee521ec703e1b04a4a631a01a2947e66b19980675dfd97cf"),
        (("prepared", 1, "ab", 64, "crop"), "2e44dd4b086ac681544ac7c010867852121d1ee14b52a14f2bd3f53bffb9a150"),
        (
            ("x", dict(b=1, a=None), 0.03, [True, "é"]),
            "bada5b0e2f6a66b77bdf51016c27cb9387810376a5cf697ef68c614397ff7463",
        ),
    ],
)
def test_the_key_of_images_stays(what, key):
    assert data_key(*what) == key


def test_hashes_and_the_key_of_drawn_images_stay():
    assert wake_scenes(4, 2, 2).key == "fe81619528adb645f60dd0e9d6064d542e1852a386379db078906c087c5dbf78"
    assert sha256("é") == "4a99557e4033c3539de2eb65472017cad5f9557f7a0625a09f1c3f6e2ba69c4c"
    assert sha256(b"\0") == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


# A field that is newer than what was kept


@dataclass(frozen=True)
class Old:
    epochs: int = 10
    sizes: tuple = (1, 2)


@dataclass(frozen=True)
class New:
    epochs: int = 10
    sizes: tuple = (1, 2)
    mirror: bool = later(False)
    weights: tuple = later(())


@dataclass(frozen=True)
class Within:
    new: object
    many: list = field(default_factory=list)


def test_a_later_field_at_its_default_changes_no_key():
    assert New() == New(10, (1, 2), False, ())
    assert key_of("score", dict(recipe=New(3))) == key_of("score", dict(recipe=Old(3)))
    assert canonical(New(3)) == canonical(Old(3)) == '{"epochs":3,"sizes":[1,2]}'
    assert canonical([Within(New(), [New(4)])]) == canonical([Within(Old(), [Old(4)])])
    assert keyed(Within(New(), [New(4)])) == keyed(Within(Old(), [Old(4)]))
    assert set(asdict(New())) == {"epochs", "sizes", "mirror", "weights"}


@pytest.mark.parametrize("new", [New(mirror=True), New(weights=(1, 2)), New(mirror=None)])
def test_a_later_field_that_is_set_makes_another_key(new):
    assert len({canonical(new), canonical(Old()), canonical(New(mirror=1, weights=2))}) == 3
    assert canonical(Within(new)) != canonical(Within(Old()))


def test_only_later_fields_are_left_out():
    assert canonical(Old()) == canonical(Old(10)) == '{"epochs":10,"sizes":[1,2]}'


def test_a_field_is_not_left_out_for_a_later_one_of_the_same_name_within():
    @dataclass(frozen=True)
    class Outer:
        mirror: bool
        new: New

    @dataclass(frozen=True)
    class Flat(Outer):
        def to_dict(self):
            return asdict(self.new) | dict(mirror=self.mirror)

    for kind in (Outer, Flat):
        assert canonical(kind(True, New())) != canonical(kind(False, New()))
    assert keyed(Outer(True, New())) == dict(mirror=True, new=asdict(Old()))
    assert json.loads(canonical(Flat(True, New()))) == dict(mirror=True, epochs=10, sizes=[1, 2])


def test_objects_with_to_dict_leave_later_fields_out_too():
    @dataclass(frozen=True)
    class Part:
        width: float
        groups: int = later(1)

        def to_dict(self):
            return asdict(self)

    @dataclass(frozen=True)
    class Whole:
        data: DataConfig
        part: Part

        def to_dict(self):
            return self.data.to_dict() | self.part.to_dict()

    whole = Whole(ImageConfig(64), Part(0.5))
    assert canonical(whole) == '{"color":"rgb","resolution":64,"width":0.5}'
    assert canonical(Whole(ImageConfig(64), Part(0.5, 2))) == '{"color":"rgb","groups":2,"resolution":64,"width":0.5}'
    assert whole.to_dict()["groups"] == 1


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
    assert canonical(ImageConfig(64, "rgb")) == canonical(ImageConfig(64, "rgb").to_dict())
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


@pytest.mark.parametrize("name", ["a.json", "a", "a.b.keras", "folder"])
def test_an_unfinished_file_has_the_same_ending_and_a_name_of_its_own(tmp_path, name):
    one, other = unfinished(tmp_path / name), unfinished(tmp_path / name)
    assert one != other and one.parent == tmp_path
    assert one.suffix == (tmp_path / name).suffix or "." not in name
    assert one.name.startswith(".") and str(os.getpid()) in one.name.split(".")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with atomic(tmp_path / "below/folder") as made:
        (made / "inner").mkdir(parents=True)
        (made / "inner/a").write_text("1")
        assert not (tmp_path / "below/folder").exists()
    assert [p.name for p in (tmp_path / "below").iterdir()] == ["folder"]
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "other") as made:
        made.mkdir()
        raise KeyboardInterrupt
    assert not (tmp_path / "other").exists() and len(list(tmp_path.iterdir())) == 1


def test_of_two_that_write_one_folder_the_first_wins(tmp_path):
    with atomic(tmp_path / "folder") as late:
        late.mkdir()
        (late / "who").write_text("late")
        with atomic(tmp_path / "folder") as early:
            early.mkdir()
            (early / "who").write_text("early")
    assert (tmp_path / "folder/who").read_text() == "early"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_what_helps_is_said_by_the_caller(tmp_path, code):
    with pytest.raises(DansError) as caught, atomic(tmp_path / "x", "name another cache") as tmp:
        tmp.write_text("half")
        raise OSError(code, os.strerror(code))
    assert (
        str(caught.value)
        == f"cannot write {tmp_path / 'x'} ({os.strerror(code)}): free some space, or name another cache"
    )
    assert not list(tmp_path.iterdir())


def test_what_dead_processes_left_goes_and_all_else_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = mine().split(".")[0]
    left = [
        f".a.{host}.{dead.pid}.0123abcd.csv",
        f".folder.{host}.{dead.pid}.0123abcd",
        f".a.{host}.{dead.pid}.tmp.csv",
    ]
    stay = [
        f".a.{host}.{os.getpid()}.0123abcd.csv",
        f".a.ffffff.{dead.pid}.0123abcd",
        f"a.{host}.{dead.pid}.0.csv",
        ".hidden",
    ]
    for name in left + stay:
        (tmp_path / name).write_text("")
    write_json(tmp_path / "b.json", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*stay, "b.json"])


# Versions


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_versions_name_the_backend_and_jax_where_it_is_used(name, monkeypatch):
    monkeypatch.setattr("dans.files.backend", lambda: name)
    found = versions()
    assert found["keras_backend"] == name and {"python", "dans", "numpy", "keras"} <= set(found)
    assert name == "jax" or not {"jax", "jaxlib"} & set(found)
    assert "keras_backend" not in versions(("numpy",))
