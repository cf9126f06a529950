"Few images: steps, what they can tell apart, folds of one pool, and fewer candidates."

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_data import refused

from dans.choose.exhaustive import ExhaustiveSearch
from dans.choose.task import Task
from dans.cost.footprint import footprint, macs
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.prepared import Prepared, prepare
from dans.data.survey import Source
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.net.alone import train_alone
from dans.net.few import FEW, candidates, enough, few_images, folds, judges_of, pool, pooled_scores
from dans.net.metrics import METRICS
from dans.net.score import Scorer, score_subnets, subnet_outputs
from dans.net.supernet import Supernet
from dans.net.train import Recipe, batch_at
from dans.space import SearchSpace

SPACE = SearchSpace((12, 16), "rgb", (0.1, 0.2), (1, 1, 0, 0, 0))
SHORT = Recipe(epochs=2, batch=16)
MONO = ImageConfig(12, "mono")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(
        wake_scenes(n_train=70, n_val=11, n_test=16, seed=3, native=32),
        SPACE.resolutions,
        tmp_path_factory.mktemp("cache"),
    )


def drawn(sizes, numbers, label):
    "A source whose image i of a split shows the number `numbers[split][i]`, whose class is `label(number)`."

    def rows():
        for split, _n in sizes.items():
            for i, number in enumerate(numbers[split]):
                yield (
                    split,
                    f"{split} {i}",
                    np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8),
                    label(number),
                    {},
                )

    return Source("numbers", ("a", "b", "c"), str(numbers), sizes, 16, rows)


# Steps


@given(st.floats(0.5, 30), st.integers(1, 10**5), st.sampled_from([16, 32, 64, 128]), st.integers(1, 3000))
def test_passes_make_enough_steps_and_no_more_than_a_pass_too_many(epochs, images, batch, steps):
    found = enough(epochs, images, batch, steps)
    assert Recipe(epochs=found, batch=batch).steps(images) >= steps and found >= epochs
    assert found == epochs or (found - 1) * max(1, images // batch) < steps


def test_450_images_train_as_long_as_many_do():
    assert Recipe(epochs=4, batch=64).steps(315) == 16
    assert Recipe(epochs=enough(4, 315, 32, 2000), batch=32).steps(315) == 2007
    assert enough(4, 50_000, 64, 2000) == 4


# What they can tell apart


def test_what_few_images_can_tell_apart_is_said_in_one_line():
    said = few_images(np.repeat([0, 1, 2], 15), ("cat", "dog", "owl"))
    assert said.startswith(
        "45 validation images: an accuracy is known to +-15 points (95 %), "
        "and two systems are told apart from 16 points on"
    )
    assert "of them;" not in said and "\n" not in said
    assert "'person' has 2 of them" in few_images(np.repeat([0, 1], [43, 2]), ("background", "person"))
    assert few_images(np.zeros(360, int), "a", "images in folds").startswith(
        "360 images in folds: an accuracy is known to +-5 points (95 %), and two systems are told apart from 6"
    )
    assert few_images(np.zeros(1, int), "a").startswith("1 validation images: an accuracy is known to +-98 points")
    assert few_images(np.zeros(FEW, int), "a") == few_images([], "a") == ""


@pytest.mark.parametrize("n", [45, 360])
def test_the_two_numbers_cover_95_of_100_trials(n):
    "Accuracy of a coin, and the difference of two equal systems that are right alone on 15 of 100 images each."
    rng, said = np.random.default_rng(0), few_images(np.zeros(n, int), "a")
    one, two = (int(said.split(word)[1].split()[0]) / 100 for word in ("+-", "told apart from "))
    accuracy = rng.binomial(n, 0.5, 4000) / n
    alone = rng.multinomial(n, (0.15, 0.15, 0.7), 4000)
    assert 0.93 <= (np.abs(accuracy - 0.5) <= one).mean() <= 0.985
    assert 0.93 <= (np.abs(alone[:, 0] - alone[:, 1]) / n <= two).mean() <= 0.985


# Folds


@pytest.mark.parametrize("k", [2, 3, 5])
def test_each_image_of_the_pool_judges_once_and_teaches_otherwise(prepared, k):
    parts = folds(prepared, k)
    assert sorted(np.concatenate([part.rows["val"] for part in parts])) == list(range(81))
    counts = np.array([np.bincount(part.labels("val"), minlength=2) for part in parts])
    assert (np.ptp(counts, 0) <= 1).all() and np.ptp(counts.sum(1)) <= 1
    for part in parts:
        assert not set(part.rows["train"]) & set(part.rows["val"])
        assert (
            part.sizes == dict(train=len(part.rows["train"]), val=len(part.rows["val"]), test=16)
            and sum(part.sizes.values()) == 97
        )
    assert (
        len({prepared.key, *(part.key for part in parts), *(part.key for part in folds(prepared, k + 1))}) == 2 * k + 2
    )


def test_a_fold_shows_the_images_themselves(prepared):
    part = folds(prepared, 3)[1]
    for split in ("train", "val"):
        rows = part.rows[split]
        for of, shown in (
            (lambda p, s: p.images(s), part.images(split)[:]),
            (lambda p, s: p.labels(s), part.labels(split)),
            (lambda p, s: p.view(s, MONO).images, part.view(split, MONO).images),
            (lambda p, s: p.view(s, MONO).labels, part.view(split, MONO).labels),
        ):
            np.testing.assert_array_equal(shown, np.concatenate([of(prepared, "train"), of(prepared, "val")])[rows])
        np.testing.assert_array_equal(part.images(split)[5], part.images(split)[:][5])
        np.testing.assert_array_equal(part.view(split, MONO, 4).images, part.view(split, MONO).images[:4])
        assert len(part.view(split, MONO, 10**6)) == len(rows)
        refused(lambda split=split: part.view(split, MONO, 0), "0 images of a split")
        assert (
            part.names(split).tolist() == np.concatenate([prepared.names(s) for s in ("train", "val")])[rows].tolist()
        )
    assert part.names("test").tolist() == prepared.names("test").tolist()
    assert part.view("test", MONO, 5).images.tolist() == prepared.view("test", MONO, 5).images.tolist()
    assert (part.classes, part.native, part.meta["fit"]) == (prepared.classes, prepared.native, "crop")
    with pytest.raises(AttributeError):
        getattr(part, "sizesof")  # noqa: B009 (as it is looked up)
    assert pickle.loads(pickle.dumps(part)).labels("val").tolist() == part.labels("val").tolist()


def test_the_same_images_are_dealt_out_alike_whatever_split_they_came_in(tmp_path):
    numbers = dict(train=list(range(40)), val=list(range(40, 60)), test=[900, 901, 902])
    turned = dict(train=list(range(59, 19, -1)), val=list(range(19, -1, -1)), test=[900, 901, 902])
    found = []
    for i, each in enumerate((numbers, turned)):
        images = prepare(
            drawn({split: len(of) for split, of in each.items()}, each, lambda n: n % 3), [16], tmp_path / str(i)
        )
        found.append([{image.tobytes() for image in part.images("val")[:]} for part in folds(images, 4)])
    assert found[0] == found[1]


def test_equal_images_are_in_one_fold_even_where_they_have_two_classes(tmp_path):
    numbers = dict(train=[n // 4 for n in range(48)], val=list(range(100, 112)), test=[900])
    calls = iter(range(1000))
    images = prepare(
        drawn({split: len(of) for split, of in numbers.items()}, numbers, lambda n: next(calls) % 3), [16], tmp_path
    )
    held = [{image.tobytes() for image in part.images("val")[:]} for part in folds(images, 4)]
    assert sum(map(len, held)) == len(set.union(*held)) == 24
    with pytest.raises(DansError, match="25 folds of 24 different images are not possible"):
        folds(images, 25)
    with pytest.raises(DansError, match="1 folds"):
        folds(images, 1)


def test_a_fold_trains_and_scores_as_prepared_images_do(prepared, tmp_path, monkeypatch):
    part = folds(prepared, 3)[0]
    monkeypatch.setattr(Prepared, "images", _only(part, "images", Prepared.images))
    net = Supernet(SPACE, 2).train(part, SHORT, tmp_path / "net.npz", check_images=20)
    assert net.state.step == SHORT.steps(part.sizes["train"])
    _, labels = batch_at(part, SHORT, 1, net.draw)
    assert len(labels) == 16
    some = [SPACE[0], SPACE[5], SPACE[-1]]
    outputs = subnet_outputs(net, some, part)
    assert outputs.shape == (3, part.sizes["val"], 2)
    assert (
        Scorer(net, part)(some).tolist()
        == score_subnets(net, some, part).tolist()
        == [METRICS["accuracy"](part.labels("val"), each) for each in outputs]
    )
    with pytest.raises(DansError, match="data differ"):
        Supernet(SPACE, 2).train(folds(prepared, 3)[1], SHORT, tmp_path / "net.npz", check_images=0)
    model, _ = train_alone(SPACE[0], pool(prepared), SHORT, check_images=0)
    assert model.output_shape == (None, 2)


def _only(part, name, original):
    "Native images of the pool may be mapped, never those of the test split."

    def watched(self, split):
        assert split != "test"
        return original(self, split)

    return watched


def test_the_pool_is_all_that_a_chosen_system_may_learn_from(prepared):
    whole = pool(prepared)
    assert sorted(whole.rows["train"]) == list(range(81)) and whole.sizes == dict(train=81, val=11, test=16)
    np.testing.assert_array_equal(whole.labels("val"), prepared.labels("val"))


@pytest.mark.parametrize("metric", METRICS)
def test_a_pooled_score_is_the_metric_over_all_images(prepared, metric):
    parts = folds(prepared, 3)
    rng = np.random.default_rng(0)
    outputs = [rng.normal(size=(5, part.sizes["val"], 2)) for part in parts]
    labels = np.concatenate([part.labels("val") for part in parts])
    found = pooled_scores(outputs, parts, metric)
    if metric == "auc":  # values of different networks do not compare: the mean of the folds
        each = [[METRICS[metric](part.labels("val"), out[i]) for i in range(5)] for part, out in zip(parts, outputs)]
        np.testing.assert_allclose(found, np.average(each, axis=0, weights=[part.sizes["val"] for part in parts]))
    else:
        assert found.tolist() == [
            METRICS[metric](labels, np.concatenate([part[i] for part in outputs])) for i in range(5)
        ]
    again = pooled_scores([part.tolist() for part in outputs], parts, metric)  # as JSON gives them back
    assert again.tolist() == found.tolist()
    for wrong in (outputs[:2], outputs[::-1] if len({p.shape for p in outputs}) > 1 else outputs[1:]):
        with pytest.raises(DansError, match="do not fit the folds"):
            pooled_scores(wrong, parts, metric)


# Candidates


def test_candidates_are_within_limits_and_spread(prepared):
    space, limit = SearchSpace((16, 24), widths=(0.1, 0.2)), Limits(macs=200_000)
    some = candidates(space, limit, 80, 2, seed=1)
    assert len(set(some)) == 80 and some == candidates(space, limit, 80, 2, seed=1) != candidates(
        space, limit, 80, 2, seed=2
    )
    assert all(limit.admits(footprint(system, 2)) for system in some)
    admitted = [system for system in space if limit.admits(footprint(system, 2))]
    assert {s.data for s in some} == {s.data for s in admitted} and {s.arch.width for s in some} == {
        s.arch.width for s in admitted
    }
    assert {s.arch.ending for s in some} == {s.arch.ending for s in admitted}
    low, high = np.quantile([macs(s, 2) for s in admitted], (0.1, 0.9))
    assert min(macs(s, 2) for s in some) < low and max(macs(s, 2) for s in some) > high


def test_fewer_systems_than_asked_for_are_all_candidates():
    limit = Limits(macs=min(macs(s, 2) for s in SPACE))
    assert candidates(SPACE, limit, 100, 2) == [s for s in SPACE if macs(s, 2) <= limit.macs]
    two = candidates(SPACE, [limit, Limits(macs=10**9)], 10**6, 2)
    assert two == list(SPACE)
    with pytest.raises(DansError):
        candidates(SPACE, Limits(macs=1), 10, 2)


# One door


def test_enough_or_given_validation_images_judge_as_they_are(prepared, monkeypatch):
    whole = judges_of(prepared, cut=False)
    assert whole.parts == (prepared,) and whole.learnt is prepared and not whole.folded
    assert whole.unsure == few_images(prepared.labels("val"), prepared.classes) and whole.unsure
    assert whole.systems(SPACE, [Limits(macs=1)], 2) == list(SPACE)  # all; limits are the search's
    monkeypatch.setattr("dans.net.few.few_images", lambda *a: "")
    assert judges_of(prepared, cut=True).parts == (prepared,)


def test_few_images_that_were_cut_judge_in_folds(prepared):
    judges = judges_of(prepared, cut=True)
    assert [part.key for part in judges.parts] == [part.key for part in folds(prepared, 5)] and judges.folded
    assert judges.learnt.key == pool(prepared).key
    assert judges.unsure.startswith("81 training and validation images, which judge in 5 folds: an accuracy")
    space, limits = SearchSpace((16, 24), widths=(0.1, 0.2)), [Limits(macs=200_000), Limits(macs=100_000)]
    systems = judges.systems(space, limits, 2, seed=3)
    assert systems == sorted({s for each in limits for s in candidates(space, each, 24, 2, 3)}, key=space.index)


@pytest.mark.parametrize("metric", ["accuracy", "auc"])
def test_a_search_takes_what_all_parts_say(prepared, metric):
    judges, some = judges_of(prepared, cut=True, k=2), [SPACE[0], SPACE[5], SPACE[-1]]
    scorers = [Scorer(Supernet(SPACE, 2, i), part, 32, metric=metric) for i, part in enumerate(judges.parts)]
    score = judges.score(scorers)
    outputs = [subnet_outputs(s.net, some, part, 32) for s, part in zip(scorers, judges.parts)]
    assert score(some).tolist() == score.pool(outputs).tolist() == pooled_scores(outputs, judges.parts, metric).tolist()
    assert score([]).shape == (0,)
    assert score.cost(some[0]) == sum(s.cost(some[0]) for s in scorers)
    assert score.shared_cost(some) == sum(s.shared_cost(some) for s in scorers) <= sum(map(score.cost, some))
    task = Task(SPACE, score, Limits(), 2)
    assert ExhaustiveSearch(task, some).log.score.tolist() == score(some).tolist()
    assert score.what == dict(folds=[s.what for s in scorers])
    for wrong in (scorers[:1], scorers[::-1]):
        with pytest.raises(DansError, match="scorers do not fit the parts"):
            judges.score(wrong)
    one = Scorer(Supernet(SPACE, 2), prepared, 32)
    assert judges_of(prepared, cut=False).score([one]) is one
