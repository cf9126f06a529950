"Scoring: the tree against the list, what its memory is, and what scoring must never do."

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import dans.net.score
from dans.cost.footprint import macs
from dans.cost.prefixes import branches, children, list_macs, tree_macs
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.families import Architecture, parent
from dans.frontends import ImageConfig
from dans.house import DansError, progress_bar
from dans.net.alone import train_alone
from dans.net.elastic import calibrate, subnet_accuracy, subnet_logits, tensors
from dans.net.metrics import METRICS
from dans.net.score import Scorer, StandAlone, score_subnets, subnet_outputs
from dans.net.supernet import Supernet
from dans.net.train import Recipe
from dans.net.tree import peak_bytes, tree_logits
from dans.space import SearchSpace, System

SPACE = SearchSpace(resolutions=(16, 48), widths=(0.1, 0.2))
SOME = {(0, 0, 0, 0, 0), (1, 2, 0, 0, 0), (3, 4, 1, 0, 0), (2, 1, 1, 1, 1), (3, 4, 3, 3, 1)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    source = wake_scenes(n_train=128, n_val=96, n_test=32, seed=1, native=48)
    return prepare(source, SPACE.resolutions, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def net(prepared):
    recipe = Recipe(epochs=2, batch=32, rate=1e-3, engine="loops")  # which traces nothing
    return Supernet(SPACE, 2).train(prepared, recipe, check_images=0)


def logits(net, prepared, data, wanted=SOME, width=0.2, **kwargs):
    views = [prepared.view(split, data).images for split in ("train", "val")]
    return tree_logits(net, data, width, wanted, *views, **kwargs)


def gap(a, b):
    return max(np.abs(a[depths] - b[depths]).max() for depths in SOME)


# The tree


def test_the_tree_holds_every_depth_tuple_once():
    needed = branches(SPACE.depths)
    assert len(needed) == len(SPACE.depths) + 3  # the stem and two blocks that end no subnet
    reached, frontier = set(), [Architecture.root()]
    while frontier:
        node = frontier.pop()
        assert node not in reached
        reached.add(node)
        frontier += children(node, needed)
    assert reached == needed
    assert all(sum(n) - 1 == sum(parent(n)) for n in needed - {Architecture.root()})


def test_only_the_branches_that_are_asked_for():
    assert len(branches([(2, 1, 0, 0, 0), (1, 2, 0, 0, 0)])) == 3 + 6


def test_macs_of_a_tree():
    data = ImageConfig(64, "rgb")
    one = System(data, Architecture((0, 0, 0, 0, 0), 0.5))
    assert tree_macs([one], 2) == list_macs([one], 2) == macs(one, 2)
    longer = System(data, Architecture((1, 0, 0, 0, 0), 0.5))
    head = 12 * 2
    assert tree_macs([one, longer], 2) == macs(longer, 2) + head
    assert tree_macs([one, one], 2) == macs(one, 2)
    other = System(ImageConfig(32, "rgb"), longer.arch)
    assert tree_macs([longer, other], 2) == macs(longer, 2) + macs(other, 2)
    systems = [System(data, Architecture(depths, 0.5)) for depths in SPACE.depths]
    assert 8 < list_macs(systems, 2) / tree_macs(systems, 2) < 9


# The same function as the list


@pytest.mark.parametrize("color", ["rgb", "mono"])
def test_tree_equals_list(net, prepared, color):
    data = ImageConfig(48, color)
    found = logits(net, prepared, data, chunk=40)
    calibration, val = (prepared.view(split, data).images for split in ("train", "val"))
    weights = tensors(net.weights)
    for depths in SOME:
        system = System(data, Architecture(depths, 0.2))
        alone = np.asarray(subnet_logits(weights, system, val, calibrate(weights, system, calibration)))
        np.testing.assert_allclose(found[depths], alone, atol=1e-4)
        assert (found[depths].argmax(-1) == alone.argmax(-1)).all()


def test_scores_equal_the_list(net, prepared):
    systems = [SPACE[i] for i in (0, 300, 700, 1100, 2143)]
    scores = score_subnets(net, systems, prepared, calibration=128)
    for system, score in zip(systems, scores):
        train, val = (prepared.view(split, system.data) for split in ("train", "val"))
        alone = subnet_accuracy(tensors(net.weights), system, train.images, val)
        assert abs(alone - score) <= 1 / 96  # an image on the edge may fall to either side


@pytest.mark.parametrize("rounding", ["eight", "expansion"])
def test_other_roundings(prepared, rounding):
    space = SearchSpace(resolutions=(16,), widths=(0.2, 0.4), rounding=rounding)
    systems = [space[0], space[-1]]
    scores = score_subnets(Supernet(space, 2), systems, prepared, calibration=32, images=32)
    assert scores.shape == (2,)


# What changes no bit, and what changes rounding alone


def test_chunks_change_rounding_only(net, prepared):
    data = ImageConfig(48, "rgb")
    whole = logits(net, prepared, data)
    for chunk in (7, 50, 96):
        assert gap(whole, logits(net, prepared, data, chunk=chunk)) < 1e-4


def test_a_second_pass_changes_no_bit(net, prepared):
    data = ImageConfig(48, "rgb")
    assert gap(logits(net, prepared, data, chunk=50), logits(net, prepared, data, chunk=50, hold=0)) == 0


def test_scores_do_not_depend_on_order_or_company(net, prepared):
    rng = np.random.default_rng(0)
    systems = [SPACE.sample(rng) for _ in range(12)]
    scores = score_subnets(net, systems, prepared, calibration=64, chunk=32)
    assert len(set(scores.tolist())) > 1
    order = rng.permutation(12)
    shuffled = score_subnets(net, [systems[i] for i in order], prepared, 64, chunk=32)
    np.testing.assert_array_equal(shuffled, scores[order])
    for i in (0, 5):
        assert score_subnets(net, [systems[i]], prepared, 64, chunk=32)[0] == scores[i]


def test_logits_do_not_depend_on_company(net, prepared):
    data = ImageConfig(16, "mono")
    together = logits(net, prepared, data, SPACE.depths)
    for depths in SOME:
        assert (logits(net, prepared, data, {depths})[depths] == together[depths]).all()


def test_the_same_after_save_and_load(net, prepared, tmp_path):
    net.save(tmp_path / "net.npz")
    again = Supernet.load(tmp_path / "net.npz")
    data = ImageConfig(48, "mono")
    assert gap(logits(net, prepared, data), logits(again, prepared, data)) == 0


def test_the_supernet_is_never_written_to(net, prepared):
    def weights_hash():
        return sha256(b"".join(v.tobytes() for v in net.weights.values())).hexdigest()

    before = weights_hash()
    score_subnets(net, [SPACE[0], SPACE[-1]], prepared, calibration=64)
    assert weights_hash() == before


# Which images decide


def test_only_validation_images_score_and_only_training_images_calibrate(net, prepared, monkeypatch):
    asked = []
    view = type(prepared).view

    def watched(self, split, data, n=None):
        asked.append(split)
        return view(self, split, data, n)

    monkeypatch.setattr(type(prepared), "view", watched)
    score_subnets(net, [SPACE[0]], prepared, calibration=64)
    assert set(asked) == {"train", "val"}


def test_statistics_of_one_data_configuration_never_reach_another(net, prepared, monkeypatch):
    poisoned, clean = ImageConfig(16, "rgb"), ImageConfig(48, "rgb")
    arch = Architecture((2, 1, 1, 0, 0), 0.2)
    systems = [System(poisoned, arch), System(clean, arch), System(poisoned, arch)]
    before = subnet_outputs(net, systems, prepared, calibration=64).argmax(-1)
    view = type(prepared).view

    def poison(self, split, data, n=None):
        found = view(self, split, data, n)
        if data == poisoned and split == "train":
            noise = np.random.default_rng(0).integers(0, 256, found.images.shape, dtype=np.uint8)
            return type(found)(noise // 16, found.labels, found.attributes)
        return found

    monkeypatch.setattr(type(prepared), "view", poison)
    after = subnet_outputs(net, systems, prepared, calibration=64).argmax(-1)
    assert (after[1] == before[1]).all()
    assert (after[0] != before[0]).any()


def test_part_of_the_validation_images(net, prepared):
    systems = [SPACE[0], SPACE[-1]]
    whole = subnet_outputs(net, systems, prepared, calibration=64, chunk=32).argmax(-1)
    part = subnet_outputs(net, systems, prepared, calibration=64, chunk=32, start=32, images=32).argmax(-1)
    assert whole.shape == (2, 96)
    np.testing.assert_array_equal(part, whole[:, 32:64])
    labels = prepared.labels("val")
    scores = score_subnets(net, systems, prepared, 64, chunk=32, start=32)
    np.testing.assert_array_equal(scores, (whole == labels)[:, 32:].mean(1))
    assert Scorer(net, prepared, 64, chunk=32, start=32)(systems).tolist() == scores.tolist()


# What a score is


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_is_the_metric_that_is_named(net, prepared, metric, monkeypatch):
    "To the bit, of the outputs that its own call has computed; another call's are the same but for the order of sums."
    systems = [SPACE[i] for i in (0, 300, 700, 1100, 2143)]
    outputs = subnet_outputs(net, systems, prepared, calibration=64, chunk=32)
    assert outputs.shape == (5, 96, 2)
    measure, seen, labels = METRICS[metric], [], prepared.labels("val")

    def heard(truth, each):
        seen.append((measure(truth, each), each, truth))
        return seen[-1][0]

    monkeypatch.setitem(METRICS, metric, heard)

    def agree(scores, part):
        own = seen[-len(systems) :]  # in the order in which a tree comes to them
        for score, each in zip(scores, outputs[:, part]):
            near = 1e-6 * np.abs(each).max()  # some roundings of the largest in float32
            mine = [told for told, out, _ in own if np.abs(out - each).max() <= near]
            assert mine == [score] and measure(labels[part], each) == pytest.approx(score, rel=1e-6)
        assert all((truth == labels[part]).all() for *_, truth in own)
        if metric != "likelihood":  # which moves with the last digit of a logit
            assert scores.tolist() == [measure(labels[part], each) for each in outputs[:, part]]

    every = slice(None)
    agree(score_subnets(net, systems, prepared, 64, chunk=32, metric=metric.replace("_", " ")), every)
    agree(Scorer(net, prepared, 64, chunk=32, metric=metric)(systems), every)
    agree(score_subnets(net, systems, prepared, 64, images=40, chunk=32, start=32, metric=metric), slice(32, 72))
    agree(score_subnets(net, systems, prepared, 64, images=0, chunk=32, metric=metric), every)  # 0: all


def test_accuracy_is_scored_as_it_always_was_and_adds_nothing_to_a_key(net, prepared):
    systems = [SPACE[i] for i in (0, 300, 700, 1100, 2143)]
    predicted = subnet_outputs(net, systems, prepared, calibration=64, chunk=32).argmax(-1)
    hits = (predicted == prepared.labels("val")).mean(1)
    np.testing.assert_array_equal(score_subnets(net, systems, prepared, 64, chunk=32), hits)
    plain = Scorer(net, prepared).what
    assert set(plain) == {"space", "classes", "weights", "data", "calibration", "images", "chunk", "start"}
    assert Scorer(net, prepared, metric="accuracy").what == plain
    assert Scorer(net, prepared, metric="macro F1").what == dict(plain, metric="macro_f1")
    alone = StandAlone(prepared)
    assert set(alone.what) == {"data", "recipe", "largest", "calibration", "images"}
    assert StandAlone(prepared, metric="auc").what == dict(alone.what, metric="auc")


def test_a_candidate_on_its_own_is_scored_by_the_metric_too(prepared):
    system, recipe = SPACE[0], Recipe(epochs=2, batch=32, rate=1e-3)
    _, state = train_alone(system, prepared, recipe, check_images=0)
    train, val = (prepared.view(split, system.data) for split in ("train", "val"))
    weights = tensors(state.weights)
    outputs = np.asarray(subnet_logits(weights, system, val.images, calibrate(weights, system, train.images)))
    for metric in METRICS:
        score = StandAlone(prepared, recipe, metric=metric)([system])
        assert score[0] == pytest.approx(METRICS[metric](val.labels, outputs), abs=1 / 96)
    assert StandAlone(prepared, recipe)([system])[0] == subnet_accuracy(weights, system, train.images, val)


def test_a_metric_that_the_images_do_not_have_is_refused_before_any_work(net, prepared, monkeypatch):
    monkeypatch.setattr("dans.net.score.tree_logits", lambda *a, **k: pytest.fail("worked"))
    with pytest.raises(DansError, match="metric 'recall' is unknown"):
        score_subnets(net, [SPACE[0]], prepared, metric="recall")
    with pytest.raises(DansError, match="metric auc is for two classes, and there are 3"):
        score_subnets(Supernet(SPACE, 3), [SPACE[0]], prepared, metric="auc")
    with pytest.raises(DansError, match="one class has none here"):
        score_subnets(net, [SPACE[0]], prepared, images=1, metric="auc")


# Memory

PEAK = """
import sys
import numpy as np
from dans.net.tree import tree_logits
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.space import SearchSpace
from dans.net.supernet import Supernet
resolution, width, calibration, chunk, hold = map(float, sys.argv[1:])
data, chunk = ImageConfig(int(resolution)), int(chunk)
net = Supernet(SearchSpace((int(resolution),), ("rgb",), (width,)), 2)
shape = int(calibration), data.resolution, data.resolution, 3
images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
wanted = {(2, 2, 1, 1, 1), (3, 1, 0, 0, 0)}
def run(n):
    tree_logits(net, data, width, wanted, images[:n], images[:2], chunk=min(n, chunk), hold=int(hold))
def status(key):
    lines = open("/proc/self/status")
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024
run(2)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
run(len(images))
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux' peak memory")
@pytest.mark.parametrize(
    "resolution, calibration, chunk, hold",
    [(64, 1024, 64, 0), (64, 512, 512, 1 << 30)],
)
def test_peak_memory(resolution, calibration, chunk, hold):
    args = [str(v) for v in (resolution, 0.5, calibration, chunk, hold)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    command = [sys.executable, "-c", PEAK, *args]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    arch = Architecture((3, 2, 1, 1, 1), 0.5)
    formula = peak_bytes(arch, ImageConfig(resolution), calibration, chunk, hold)
    assert 0.75 < int(run.stdout) / formula < 1.3


def test_peak_of_the_papers_largest_configuration():
    arch, data = Architecture((3, 4, 3, 3, 1), 1.0), ImageConfig(224, "rgb")
    assert peak_bytes(arch, data, 1024, 64) < peak_bytes(arch, data, 1024, 256) < 4 * 2**30
    assert peak_bytes(arch, data, 1024, 64, hold=0) <= peak_bytes(arch, data, 1024, 64)
    expanded = 4 * 1024 * 112**2 * 96  # of all calibration images: more than everything held
    assert peak_bytes(arch, data, 1024, 64) < expanded


# What a search takes


def test_scorer_is_what_a_search_takes(net, prepared):
    scorer = Scorer(net, prepared, calibration=64, images=32)
    systems = [SPACE[0], SPACE[-1]]
    assert scorer(systems).shape == (2,)
    assert scorer([]).shape == (0,)
    assert scorer.cost(SPACE[-1]) > scorer.cost(SPACE[0]) > 0
    assert scorer.cost(SPACE[0]) == 96 * macs(SPACE[0], 2)
    assert scorer.shared_cost([SPACE[0]]) == scorer.cost(SPACE[0])
    assert scorer.shared_cost(SPACE) < sum(map(scorer.cost, SPACE)) / 5


def test_the_progress_bar_ends_full(net, prepared, capsys, monkeypatch):
    systems, bars = [SPACE[0], SPACE[5], SPACE[-1]], []

    def kept(*args, **options):  # a bar is gone when its work has ended, so the last count is looked at here
        bars.append(progress_bar(*args, **options))
        return bars[-1]

    monkeypatch.setattr(dans.net.score, "progress_bar", kept)
    score_subnets(net, systems, prepared, calibration=64, chunk=40, progress=True)
    shown = capsys.readouterr().err
    assert bars[0].n == bars[0].total > 0 and "scoring: " in shown and "block" in shown
    score_subnets(net, systems, prepared, calibration=64)
    assert capsys.readouterr().err == ""


def test_bad_input_is_refused_before_any_work(net, prepared, monkeypatch):
    monkeypatch.setattr("dans.net.score.tree_logits", lambda *a, **k: pytest.fail("worked"))
    foreign = System(ImageConfig(32, "rgb"), Architecture((0,) * 5, 0.1))
    with pytest.raises(DansError, match="not in the supernet's space"):
        score_subnets(net, [SPACE[0], foreign], prepared)
    with pytest.raises(DansError, match="start 96 of 96 validation images"):
        score_subnets(net, [SPACE[0]], prepared, start=96)
    for value in (0, -3):
        with pytest.raises(DansError, match="chunk"):
            score_subnets(net, [SPACE[0]], prepared, chunk=value)
