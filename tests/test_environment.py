"What may reach a result from the machine around it: nothing. Kernels of our own, backends, one command in a folder."

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_reproduce import FIGURE, GIVEN, LIST, RUN, command, notebook

import dans
import dans.backend as backend_room
import dans.paper.environment as room
from benchmarks import environments
from dans.backend import NEEDS, backend, check_keras, keras_json, need
from dans.files import RESULT_VERSIONS, key_of, versions
from dans.house import DansError
from dans.paper.environment import alone_in, kernel_environment, passed
from dans.paper.reproduce import reproduce
from dans.paper.reproduction import Reproduction
from dans.paper.study import Study


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "paper.yml").write_text(LIST)
    notebook(root, "run_toy", GIVEN + "steps:int = 3", RUN)
    notebook(root, "fig_toy", GIVEN, FIGURE)
    monkeypatch.chdir(root)
    monkeypatch.delenv("DANS_CACHE", raising=False)
    return root


def test_nothing_around_changes_rows(tmp_path):
    root = environments.checkout(tmp_path / "trial")
    clean = environments.rows_in(root, ())
    assert all(part in clean for part in ("float32", "channels_last", "tensorflow", "stem/kernel"))
    assert environments.rows_in(root, environments.FAULTS) == clean


@pytest.mark.parametrize(
    "name",
    [
        "PYTHONPATH",
        "OMP_NUM_THREADS",
        "TF_XLA_FLAGS",
        "XLA_FLAGS",
        "TF_ENABLE_ONEDNN_OPTS",
        "PYTHONOPTIMIZE",
        "TZ",
        "LD_PRELOAD",
        "TQDM_ASCII",
        "JUPYTER_PATH",
        "A_VARIABLE_OF_TOMORROW",
        "PYTEST_ADDOPTS",
        "NVIDIA",
        "NVIDIA_TF32_OVERRIDE",
        "CONDA_PREFIX",
    ],
)
def test_what_is_not_named_does_not_pass(name):
    assert passed({name: "1"}) == {}


def test_what_a_machine_needs_passes(tmp_path):
    kept = dict(
        PATH="/bin",
        HOME=str(tmp_path),
        CUDA_VISIBLE_DEVICES="1",
        NVIDIA_VISIBLE_DEVICES="all",
        RAY_ADDRESS="auto",
        https_proxy="http://p:1",
        DANS_CACHE="/cache",
        LD_LIBRARY_PATH="/lib",
        TQDM_DISABLE="1",
        TF_CPP_MIN_LOG_LEVEL="0",
    )
    assert passed(kept) == kept
    assert passed(dict(HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "none"))) == {}


def test_a_kernel_reads_no_ipython_settings_of_the_machine(tmp_path):
    startup = tmp_path / "etc/ipython/startup/00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("raise SystemExit('a startup file of the machine')")
    (startup.parent.parent / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['1/0']")
    found = f"import IPython.core.application as a\na.ENV_CONFIG_DIRS.append({str(startup.parent.parent)!r})\n"
    end = (
        "from IPython.terminal.ipapp import launch_new_instance\n"
        "launch_new_instance(['--no-banner', '-c', 'print(6 * 7)'])\n"
    )
    ours, last = room._LAUNCH.split("from ipykernel")
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | dict(IPYTHONDIR=str(tmp_path / "ip")),
            capture_output=True,
            text=True,
        )
        for code in (found + end, found + ours + end)
    ]
    assert "startup file" in said[0].stdout + said[0].stderr or "ZeroDivisionError" in said[0].stdout + said[0].stderr
    assert said[1].stdout.split() == ["42"]


def test_settings_changed_by_hand_are_written_again(tmp_path):
    kernel_environment(tmp_path)
    path = tmp_path / "keras/keras.json"
    path.write_text('{"floatx": "float16"}')
    kernel_environment(tmp_path)
    assert json.loads(path.read_text())["floatx"] == "float32"


def test_the_kernel_imports_the_package_that_starts_it(tmp_path):
    package = Path(dans.__file__).parent
    shutil.copytree(package, tmp_path / "elsewhere/dans", ignore=shutil.ignore_patterns("__pycache__"))
    code = """import subprocess, sys
from dans.paper.environment import kernel_environment
env = kernel_environment(sys.argv[1])
asked = [sys.executable, "-c", "import os, dans; print(os.path.realpath(dans.__file__))"]
print(subprocess.run(asked, env=env, capture_output=True, text=True).stdout)"""
    for place in ("", str(tmp_path / "elsewhere")):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "kernel"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": place},
        )
        expected = Path(place) / "dans" if place else package
        assert Path(done.stdout.strip()).parent == expected.resolve(), done.stderr


# Backends


@pytest.fixture
def no_keras(monkeypatch, tmp_path):
    "As in a process that has not imported Keras: a folder for keras.json."
    monkeypatch.setattr(backend_room, "_there", lambda: None)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return tmp_path


def test_keras_without_settings_is_what_we_want(no_keras):
    check_keras()
    assert backend() == "tensorflow" and keras_json() == no_keras / "keras.json"
    for text in (
        "",
        "[]",
        '{"floatx": "float32", "image_data_format": "channels_last", "epsilon": 1e-07, "backend": "tensorflow"}',
    ):
        keras_json().write_text(text)
        check_keras()


@pytest.mark.parametrize(
    "said",
    [
        dict(floatx="float16"),
        dict(floatx="bfloat16"),
        dict(image_data_format="channels_first"),
        dict(epsilon=1e-3),
        dict(backend="theano"),
        dict(backend=""),
    ],
)
def test_keras_json_with_other_settings_is_named(no_keras, said):
    keras_json().write_text(json.dumps(said))
    with pytest.raises(DansError, match=r"keras\.json") as caught:
        check_keras()
    assert str(no_keras) in str(caught.value) and "write" in caught.value.remedy


@pytest.mark.parametrize("name", ["torch", "theano", "TensorFlow", "openvino", "mxnet"])
def test_another_backend_names_the_variable(no_keras, monkeypatch, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(DansError, match=f"KERAS_BACKEND says '{name}'"):
        check_keras()
    need("data", "search")
    with pytest.raises(DansError, match="unset KERAS_BACKEND"):
        need("standalone")


def test_a_backend_that_is_not_installed_is_named(no_keras, monkeypatch):
    monkeypatch.setattr(backend_room, "find_spec", lambda name: None)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(DansError, match=r"jax, which is not installed \(KERAS_BACKEND\).*dans\[jax\]"):
        need("supernet")
    monkeypatch.delenv("KERAS_BACKEND")
    with pytest.raises(DansError, match=r"tensorflow, which is not installed.*dans\[tensorflow\]"):
        need("supernet")
    with pytest.raises(DansError, match=r"papermill is not installed.*dans\[paper\]"):
        monkeypatch.setattr(backend_room, "find_spec", lambda name: name != "papermill" or None)
        need("notebooks")


def test_by_hand_the_first_import_says_it(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "float16"}')
    for around, says in (
        (dict(KERAS_HOME=str(tmp_path)), r"floatx 'float16' \(.*keras\.json\)"),
        (dict(KERAS_BACKEND="torch"), "KERAS_BACKEND says 'torch'"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", "import dans.net.supernet"], capture_output=True, text=True, env=os.environ | around
        )
        assert done.returncode and re.search("DansError: .*" + says, done.stderr) and "No module" not in done.stderr


def test_settings_of_this_process_are_seen(monkeypatch):
    import keras

    check_keras()
    monkeypatch.setattr(keras.config, "floatx", lambda: "float16")
    with pytest.raises(DansError, match="keras.config.set_floatx"):
        check_keras()


def test_every_step_has_its_needs():
    assert set(RESULT_VERSIONS) <= set(NEEDS)


def listed(checkout, versions, programs="[]"):
    text = LIST.replace("versions: [search]", f"versions: {versions}, programs: {programs}")
    assert text != LIST
    (checkout / "paper.yml").write_text(text)


@pytest.mark.parametrize(
    "name, versions, says",
    [
        ("jax", "[search, deploy]", "KERAS_BACKEND is jax.*supernet, score, standalone.*KERAS_BACKEND=tensorflow"),
        ("torch", "[standalone]", "KERAS_BACKEND says 'torch'"),
    ],
)
def test_what_cannot_end_does_not_begin(checkout, monkeypatch, no_keras, name, versions, says):
    listed(checkout, versions)
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr(Reproduction, "execute", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(DansError, match=says):
        reproduce()
    assert reproduce(dry_run=True) == 0


def test_without_tflite_micro_what_needs_it_does_not_begin(checkout, monkeypatch):
    listed(checkout, "[deploy]", "[tflite-micro]")
    found = backend_room.find_spec
    monkeypatch.setattr(backend_room, "find_spec", lambda name: None if name == "tflite_micro" else found(name))
    monkeypatch.setattr(Reproduction, "execute", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(DansError, match=r"tflite-micro is not installed.*dans\[deploy\]"):
        reproduce()


def test_the_backend_is_part_of_keys_where_it_is_not_tensorflow(monkeypatch, no_keras):
    what, kinds = {"seed": 0}, ("data", "score", "standalone")
    before = [key_of(kind, what) for kind in kinds]
    assert before[2][:16] == "e41ea6501e037cc5"
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert [key_of(kind, what) == key for kind, key in zip(kinds, before)] == [True, False, False]
    assert versions()["keras_backend"] == "jax"
    assert "keras_backend" not in versions(("matplotlib",))


def test_rows_of_another_backend_are_not_current(checkout, monkeypatch, no_keras):
    listed(checkout, "[standalone]")
    study = Reproduction()
    item, made = study.items["run_toy"], study.made_of(study.items["run_toy"])
    assert "backend" not in made
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    from dans.paper.reproduction import _difference

    other = study.made_of(item)
    assert _difference(other, made) == _difference(made, other) == "Keras runs on another backend"


def test_nobody_goes_on_with_what_was_half_trained_in_another_number_format(checkout, monkeypatch, no_keras):
    study, what = Study(), {"seed": 0}
    clean = study.checkpoint("standalone", what)
    keras_json().write_text('{"floatx": "float16"}')
    assert study.checkpoint("standalone", what) != clean
    keras_json().unlink()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert study.checkpoint("standalone", what) != clean


# One command in a folder


HOLD = """
import sys, time
from dans.paper.environment import alone_in
with alone_in(sys.argv[1], "runs/toy", sys.argv[2:] == ["shared"], lambda line: print(line, flush=True)):
    print("in", flush=True)
    sys.stdin.read()
"""


def holder(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, folder, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("how", ["end", "kill"])
def test_the_second_waits_and_says_for_whom(tmp_path, how):
    first = holder(tmp_path)
    assert first.stdout.readline() == "in\n"
    second = holder(tmp_path)
    assert re.fullmatch(
        rf"runs/toy is in use by another command \(process {first.pid} on .*, since \d\d:\d\d:\d\d\).*\n",
        second.stdout.readline(),
    )
    first.stdin.close() if how == "end" else first.kill()
    assert second.stdout.readline() == "in\n"
    second.stdin.close()
    assert (first.wait(), second.wait()) == (0 if how == "end" else -signal.SIGKILL, 0)


def test_shares_work_side_by_side_and_others_wait(tmp_path):
    shares = [holder(tmp_path, "shared") for _ in range(2)]
    assert [share.stdout.readline() for share in shares] == ["in\n", "in\n"]
    other = holder(tmp_path)
    assert "in use" in other.stdout.readline()
    for share in shares:
        share.communicate("")
    assert other.communicate("")[0] == "in\n"


@pytest.mark.parametrize("fault", [OSError(95, "Operation not supported"), AttributeError()])
def test_where_there_are_no_locks_it_says_so_and_goes_on(tmp_path, monkeypatch, fault):
    def flock(*_):
        raise fault

    monkeypatch.setattr(room.fcntl, "flock", flock)
    said = []
    with alone_in(tmp_path, "runs/toy", say=said.append):
        said.append("in")
    assert said == ["runs/toy cannot be locked here: run one command at a time in it", "in"]


def test_an_error_inside_is_the_callers(tmp_path):
    with pytest.raises(OSError, match="disk"), alone_in(tmp_path, "x"):
        raise OSError("disk")


def test_two_commands_at_once(checkout):
    both = [
        subprocess.Popen(command("run_toy"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    first, second = sorted((p.communicate()[0] for p in both), key=lambda text: "in use" in text)
    assert [p.returncode for p in both] == [0, 0]
    assert "1 done" in first and "in use by another command" in second and "1 current" in second
    assert not [p for p in (checkout / "runs/quick/notebooks").iterdir() if p.name != "run_toy.ipynb"]


def test_list_does_not_wait(checkout):
    with alone_in(Reproduction().work, "here"):
        start = time.monotonic()
        assert subprocess.run(command("--list"), capture_output=True, timeout=60).returncode == 0
        assert time.monotonic() - start < 30


# Places


def test_prepared_images_go_beside_the_rows_where_the_checkout_cannot_be_written(checkout, tmp_path, monkeypatch):
    import dans.paper.study

    assert Study(out_dir=tmp_path / "out").cache == checkout / "runs/cache"
    access = os.access
    monkeypatch.setattr(
        dans.paper.study.os, "access", lambda path, mode: access(path, mode) and not Path(path).is_relative_to(checkout)
    )
    assert Study(out_dir=tmp_path / "out").cache == tmp_path / "out/cache"
    monkeypatch.setenv("DANS_CACHE", str(tmp_path / "c"))
    assert Study(out_dir=tmp_path / "out").cache == tmp_path / "c"


def test_a_reader_that_has_seen_enough_is_no_error(checkout):
    running = subprocess.Popen(command("--list"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 141


def test_what_is_installed_for_one_user_is_found(tmp_path, monkeypatch):
    assert kernel_environment(tmp_path)["PYTHONNOUSERSITE"] == "1"
    monkeypatch.setattr(room, "getusersitepackages", lambda: str(Path(room.__file__).parents[1]))
    assert "PYTHONNOUSERSITE" not in kernel_environment(tmp_path)
