"Memory: prepared data may be larger than it."

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dans.data.prepared import Prepared, RowFile, read_meta

LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, tensorflow as tf
from dans.data.prepared import Prepared, prepare, read_meta; from dans.data.survey import Source
from dans.data.prepared import Prepared, prepare, read_meta
from dans.data.survey import Source
from dans.net.score import Scorer
from dans.frontends import ImageConfig
from dans.space import SearchSpace
from dans.net.supernet import Supernet
from dans.net.train import Recipe, batch_at
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
space = SearchSpace((16, 32), "rgb", .1, (1, 0, 0, 0, 0))
net, (small, *_, large) = Supernet(space, 2), space
taken = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData:"))
resource.setrlimit(resource.RLIMIT_DATA, [(taken << 10) + (300 << 20)] * 2)     # a mapped file does not count

folder = Path(sys.argv[1])
prepared = Prepared(folder / "large", False, read_meta(folder / "large"))
try:
    np.array(prepared.images("train"))
    print("no limit")
except MemoryError:
    print("limited")
for t in range(3):
    networks, labels = batch_at(prepared, Recipe(batch=32), t, lambda rng: [small, large])
print("batch", [images.shape for _, images in networks], len(labels))
print("view", prepared.view("val", ImageConfig(16)).images.shape)
print("score", *Scorer(net, prepared, calibration=64)([small, large]))

def rows():
    for split, n in sizes.items():
        for i in range(n):
            yield split, f"{split} {i}", np.full((320, 320, 3), i % 256, np.uint8), i % 2, {}
sizes = dict(train=1100, val=10, test=10)
made = prepare(Source("plain", ("a", "b"), "0", sizes, 320, rows), [160], folder / "made")
print("prepared", made.images("train").nbytes >> 20, "MiB")
"""


@pytest.fixture
def large(tmp_path):
    "Prepared data of some 2 GB, most of it holes that take no disk."
    sizes, folder = dict(train=45_000, val=3000, test=2), tmp_path / "large"
    folder.mkdir()
    for split, n in sizes.items():
        with RowFile(folder / f"{split}.npy", (n, 128, 128, 3)) as images:
            images[n - 1] = np.full((128, 128, 3), 200, np.uint8)
        np.save(folder / f"{split}-labels.npy", np.arange(n) % 2)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    meta = dict(key="0" * 64, source="holes", classes=["a", "b"], sizes=sizes, native=128, fit="crop", files=files)
    (folder / "meta.json").write_text(json.dumps(meta))
    assert Prepared(folder, False, read_meta(folder)).images("train").nbytes > 2e9
    return tmp_path


def test_data_larger_than_memory(large):
    env = os.environ | dict(TQDM_DISABLE="1", PYTHONPATH=str(Path(__file__).parent.parent))
    done = subprocess.run([sys.executable, "-c", LIMITED, large], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[:3] == ["limited", "batch [(32, 16, 16, 3), (32, 32, 32, 3)] 32", "view (3000, 16, 16, 3)"]
    assert [0 <= float(score) <= 1 for score in said[3].split()[1:]] == [True, True]
    assert said[4] == "prepared 322 MiB"
