"Scores made of scores: means, ranks in a list, what they cost, and that every search takes them."

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from dans.choose.exhaustive import ExhaustiveSearch
from dans.choose.mixed import MeanScorer, MixedScorer, Untrained, _share_of
from dans.choose.search import Kept, evolution, random_search, winner
from dans.choose.task import Budget, Lookup, Plain, Score, Spent, Task
from dans.cost.footprint import macs
from dans.cost.limits import Limits
from dans.data.catalogue import wake_scenes
from dans.data.prepared import prepare
from dans.files import key_of
from dans.house import DansError
from dans.paper.experiment import Experiment
from dans.paper.store import Store
from dans.paper.study import Study
from dans.space import SearchSpace, System

SPACE = SearchSpace((16, 24), widths=(0.1, 0.2), max_depths=(2, 1, 0, 0, 0))
SYSTEMS = list(SPACE)


class Seeded(Score):
    "A number of the system alone, of few values or many; knows what it costs, and what it was asked."

    def __init__(self, seed, values=10**6, shared=None, at_a_time=None, named=True):
        self.seed, self.values, self.share, self.at_a_time, self.asked = seed, values, shared, at_a_time, []
        self.what = dict(seeded=seed) if named else None

    def __call__(self, systems):
        self.asked += systems
        draws = (np.random.default_rng([self.seed, SYSTEMS.index(s)]).integers(self.values) for s in systems)
        return np.array([n / self.values for n in draws])

    def cost(self, system):
        return (self.seed + 1) * macs(system, 2)

    def shared_cost(self, systems):
        return self.share and self.share * len(systems)


def in_each_search(score):
    "What each of the searches finds best."
    task = Task(SPACE, score, Limits(), 2)
    few = Budget(evaluations=len(SYSTEMS))
    logs = [evolution(task, few), random_search(task, few), ExhaustiveSearch(task).log]
    return [System.from_dict(winner(log)) for log in logs], logs


# The mean


def test_a_mean_is_the_mean_and_costs_the_sum():
    parts = [Seeded(0), Seeded(1, shared=5, at_a_time=4), Seeded(2, at_a_time=7)]
    mean = MeanScorer(parts)
    np.testing.assert_allclose(mean(SYSTEMS), np.mean([part(SYSTEMS) for part in parts], axis=0))
    assert mean.cost(SYSTEMS[3]) == 6 * macs(SYSTEMS[3], 2)
    assert mean.shared_cost(SYSTEMS[:3]) == sum(4 * macs(s, 2) for s in SYSTEMS[:3]) + 15
    assert mean.at_a_time == 4 and mean.kind == "score"
    found, logs = in_each_search(mean)
    assert len(set(found)) == 1 and logs[0].score.max() == mean(SYSTEMS).max()


def test_a_mean_of_what_nobody_knows_is_unknown():
    mean = MeanScorer([Plain(lambda systems: [0.5] * len(systems)), Seeded(1)])
    assert mean.cost(SYSTEMS[0]) is mean.shared_cost(SYSTEMS[:2]) is mean.what is mean.at_a_time is None
    holes = MeanScorer([Lookup({SYSTEMS[0]: np.nan, SYSTEMS[1]: 1.0}), Lookup(dict.fromkeys(SYSTEMS, 0.5))])
    np.testing.assert_array_equal(holes(SYSTEMS[:2]), [np.nan, 0.75])


@pytest.mark.parametrize(
    "ask, said",
    [
        (lambda: MeanScorer([]), "the mean of no scores: give at least one"),
        (lambda: MeanScorer([Seeded(0), len]), "is no score"),
        (lambda: MixedScorer(Seeded(0), len, SYSTEMS), "is no score"),
        (lambda: MixedScorer(Seeded(0), Seeded(1), SYSTEMS[:1] * 2), "ranks among 1 systems"),
        (
            lambda: MixedScorer(Seeded(0), Plain(lambda s: [np.nan] * len(s)), SYSTEMS)(SYSTEMS),
            f"none of the {len(SYSTEMS)} systems has a score",
        ),
        (lambda: MeanScorer([Plain(lambda systems: [0.5])])(SYSTEMS[:2]), "one number for each system"),
    ],
)
def test_what_is_not_possible(ask, said):
    with pytest.raises(DansError) as error:
        ask()
    assert said in str(error.value)


def test_what_determines_them_is_in_the_key(tmp_path):
    a, b = Seeded(0), Seeded(1)
    made = [MeanScorer([a]), MeanScorer([a, b]), MixedScorer(a, b, SYSTEMS), MixedScorer(b, a, SYSTEMS)]
    made.append(MixedScorer(a, b, SYSTEMS[:-1]))
    assert len({key_of("score", score.what) for score in made}) == 5
    assert MixedScorer(a, b, SYSTEMS[::-1]).what == made[2].what  # a list is a set
    assert MixedScorer(a, Seeded(1, named=False), SYSTEMS).what is None
    store, score = Store(tmp_path), made[2]
    first = Kept(score, store)(SYSTEMS[:5])
    nobody = MixedScorer(Seeded(0), Seeded(1), SYSTEMS)
    object.__setattr__(nobody, "known", None)  # is asked for nothing
    np.testing.assert_array_equal(Kept(nobody, store)(SYSTEMS[:5]), first)


# Ranks


@pytest.mark.parametrize("values", [3, 10**6])
def test_within_the_list_it_is_the_mean_of_ranks(values):
    a, b = Seeded(0, values), Seeded(1, values)
    mixed, n = MixedScorer(a, b, SYSTEMS), len(SYSTEMS)
    expected = np.mean([(rankdata(part(SYSTEMS)) - 0.5) / n for part in (a, b)], axis=0)
    np.testing.assert_allclose(mixed(SYSTEMS), expected)
    found, _ = in_each_search(mixed)
    assert len(set(found)) == 1


def test_a_mixed_score_depends_on_the_list_alone():
    a, b, listed, others = Seeded(0), Seeded(1), SYSTEMS[::2], SYSTEMS[1::2]
    mixed, again = MixedScorer(a, b, listed), MixedScorer(a, b, listed[::-1])
    together = mixed(SYSTEMS)
    assert [again([s])[0] for s in SYSTEMS] == together.tolist()
    np.testing.assert_array_equal(mixed(others), together[1::2])
    counts = {s: a.asked.count(s) for s in listed}
    mixed(listed)
    assert {s: a.asked.count(s) for s in listed} == counts  # the list is asked for once
    assert mixed([SYSTEMS[1]] * 2).shape == (2,) and mixed([]).shape == (0,)


def test_the_list_is_paid_for_once():
    mixed = MixedScorer(Seeded(0), Seeded(1, shared=7), SYSTEMS[:6])
    assert mixed.setup_cost == sum(macs(s, 2) for s in SYSTEMS[:6]) + 42
    assert mixed.cost(SYSTEMS[0]) == mixed.shared_cost(SYSTEMS[:6]) == 0
    assert mixed.cost(SYSTEMS[8]) == 3 * macs(SYSTEMS[8], 2)
    assert mixed.shared_cost(SYSTEMS[4:8]) == sum(macs(s, 2) for s in SYSTEMS[6:8]) + 14
    log = evolution(Task(SPACE, mixed, Limits(), 2, Spent(mixed.setup_cost)), Budget(evaluations=20))
    paid = [System.from_dict(row) for row in log.to_dict("records")]
    assert log.cost_macs.iloc[-1] == pytest.approx(mixed.setup_cost + sum(map(mixed.cost, paid)))
    nobody = MixedScorer(Seeded(0), Plain(lambda s: [0.5] * len(s)), SYSTEMS[:6])
    assert nobody.setup_cost is nobody.cost(SYSTEMS[8]) is None


numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3)) | st.just(-np.inf)


@given(st.lists(numbers, min_size=1, max_size=20), st.lists(numbers, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_shares_never_turn_an_order_round(known, values):
    known, values = np.array([*known, 0.5]), np.sort(values)
    found = _share_of(values, known)
    assert ((found >= 0) & (found <= 1)).all() and (np.diff(found) >= 0).all()
    np.testing.assert_allclose(_share_of(known, known), (rankdata(known) - 0.5) / len(known))
    beyond = _share_of(known.max() + np.array([0.0, 1.0, 10.0, 1e4]), known)
    assert (np.diff(beyond) > 0).all() and beyond[-1] < 1  # what is better than all does not tie


def test_no_value_is_no_rank():
    found = _share_of(np.array([np.nan, 1.0, -np.inf]), np.array([1.0, np.nan, 2.0]))
    np.testing.assert_array_equal(found, [np.nan, 0.25, 0.0])


# The proxy


def test_a_proxy_is_a_score_that_the_store_of_an_experiment_knows(tmp_path):
    prepared = prepare(wake_scenes(24, 8, 8, seed=0, native=24), SPACE.resolutions, tmp_path)
    study = Study("smoke", root=tmp_path)
    experiment, untrained = Experiment(study, SPACE, prepared, seed=3), Untrained(prepared, 16, seed=3)
    value = experiment.untrained(SYSTEMS[0], 16)
    assert untrained(SYSTEMS[:1]).tolist() == [value]
    assert untrained.cost(SYSTEMS[0]) == 16 * macs(SYSTEMS[0], 2)
    assert Untrained(prepared, 64).cost(SYSTEMS[0]) == 24 * macs(SYSTEMS[0], 2)
    nobody = Untrained(prepared, 16, seed=3)
    object.__setattr__(nobody, "one", None)
    assert Kept(nobody, study.store)(SYSTEMS[:1]).tolist() == [value]
