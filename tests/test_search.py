"Searches: limits and budgets hold, nothing is scored twice, and a seed decides everything."
import itertools, math

import numpy as np
import pandas as pd
import pytest

from dans.hardware import Limits, footprint
from dans.search import Budget, evolution, random_search, winner
from dans.space import DansError, DataConfig, SearchSpace, System

SEARCHES = [random_search, evolution]
SPACE = SearchSpace.preset("quick")
SMALL = SearchSpace((16, 24), widths=(.1,), max_depths=(2, 1, 0, 0, 0))     # 4 x 5 = 20 systems
NO_LIMITS = Limits()
both = pytest.mark.parametrize("search", SEARCHES)


class Smooth:
    "A score with one peak inside the space; keeps the batches that it was asked for."
    def __init__(self):
        self.batches = []

    def __call__(self, systems):
        self.batches.append(list(systems))
        return np.array([self.one(s) for s in systems])

    def one(self, s):
        distance = (abs(np.log2(s.data.resolution / 48)) + (s.data.color == "rgb") * .5
                    + 4 * abs(s.arch.width - .2)
                    + sum(abs(a - b) for a,b in zip(s.arch.depths, (2, 3, 2, 1, 0))) / 4)
        return 1 / (1 + distance)

    def cost(self, s):
        return 100. * footprint(s).macs

    @property
    def asked(self):
        return list(itertools.chain(*self.batches))


def systems(log):
    return [System.from_dict(row) for row in log.to_dict("records")]

def without_times(log):
    return log.drop(columns="seconds")


@both
def test_the_log_says_what_was_scored(search):
    score = Smooth()
    log = search(SPACE, score, NO_LIMITS, Budget(evaluations=33), seed=1)
    assert len(log) == 33 and list(log.step) == list(range(33))
    assert systems(log) == score.asked
    assert np.array_equal(log.score, [score.one(s) for s in score.asked])
    for row,s in zip(log.itertuples(), systems(log)):
        assert (row.ram_bytes, row.flash_bytes, row.macs) == (
            footprint(s).ram_bytes, footprint(s).flash_bytes, footprint(s).macs)
    assert np.array_equal(log.best_score, log.score.cummax())
    assert np.allclose(log.cost_macs, np.cumsum([score.cost(s) for s in score.asked]))
    assert log.seconds.is_monotonic_increasing
    assert list(log.columns[:3]) == ["step", "generation", "operator"]

@both
def test_the_log_survives_csv(search, tmp_path):
    log = search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=20))
    log.to_csv(tmp_path / "log.csv", index=False)
    assert systems(pd.read_csv(tmp_path / "log.csv")) == systems(log)

@both
@pytest.mark.parametrize("limits", [
    Limits(ram_bytes=30_000), Limits(flash_bytes=60_000), Limits(macs=600_000),
    Limits(ram_bytes=40_000, flash_bytes=120_000, macs=1_500_000)])
def test_limits_are_checked_before_scoring(search, limits):
    score = Smooth()
    log = search(SPACE, score, limits, Budget(evaluations=50), seed=2)
    assert len(log) == 50
    assert all(limits.admits(footprint(s)) for s in score.asked)
    assert log.over_limits.sum() > 0
    assert search(SPACE, score, NO_LIMITS, Budget(evaluations=50), seed=2).over_limits.sum() == 0

@both
def test_limits_count_the_classes(search):
    limits = Limits(flash_bytes=45_000)
    log = search(SPACE, Smooth(), limits, Budget(evaluations=50), classes=100)
    assert all(limits.admits(footprint(s, 100)) for s in systems(log))
    assert log.flash_bytes.tolist() == [footprint(s, 100).flash_bytes for s in systems(log)]

@both
def test_nothing_is_scored_twice_and_an_exhausted_space_ends_the_search(search):
    score = Smooth()
    log = search(SMALL, score, NO_LIMITS, Budget(evaluations=1_000))
    assert sorted(score.asked) == sorted(SMALL) and len(log) == len(SMALL)

@both
def test_a_space_exhausted_by_limits_ends_the_search(search):
    cheap = sorted(footprint(s).macs for s in SPACE)[6]
    inside = [s for s in SPACE if footprint(s).macs <= cheap]
    log = search(SPACE, Smooth(), Limits(macs=cheap), Budget(evaluations=1_000))
    assert sorted(systems(log)) == sorted(inside)

@both
def test_a_space_of_one_system(search):
    one = SearchSpace(32, "rgb", .1, (0, 0, 0, 0, 0))
    assert systems(search(one, Smooth(), NO_LIMITS, Budget(evaluations=5))) == [one[0]]

@both
def test_limits_that_nothing_meets(search):
    score = Smooth()
    with pytest.raises(DansError, match="RAM.*smallest"):
        search(SPACE, score, Limits(ram_bytes=100), Budget(evaluations=5))
    assert score.batches == []

# -- budget ----------------------------------------------------------------------------------------

@both
@pytest.mark.parametrize("n", [1, 9, 10, 11, 27])
def test_budget_in_evaluations(search, n):
    score = Smooth()
    assert len(search(SPACE, score, NO_LIMITS, Budget(evaluations=n))) == len(score.asked) == n

@both
@pytest.mark.parametrize("setup", [0., 4e9])
def test_budget_in_cost(search, setup):
    budget = Budget(cost=5e9 + setup, evaluations=500)
    log = search(SPACE, Smooth(), NO_LIMITS, budget, seed=3, setup_cost=setup)
    assert setup < log.cost_macs.iloc[0]
    assert log.cost_macs.iloc[-1] <= budget.cost
    longer = search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=len(log) + 1), seed=3,
                    setup_cost=setup)
    assert longer.cost_macs.iloc[-1] > budget.cost        # one more would have been too many
    assert without_times(longer)[:len(log)].equals(without_times(log))

@both
def test_budget_in_seconds(search, monkeypatch):
    now = [0.]
    monkeypatch.setattr("dans.search.time.perf_counter", lambda: now[0])
    class Slow(Smooth):
        def __call__(self, systems):
            now[0] += len(systems)
            return super().__call__(systems)
    log = search(SPACE, Slow(), NO_LIMITS, Budget(seconds=25), setup_seconds=3)
    ends = log.seconds.unique().tolist()
    assert ends[0] == 13 and len(ends) >= 2
    assert ends[-2] < 25 <= ends[-1]        # the batch that has begun is finished, no other begins

@both
def test_the_first_bound_reached_binds(search):
    budget = Budget(evaluations=7, cost=1e15, seconds=1e6)
    assert len(search(SPACE, Smooth(), NO_LIMITS, budget)) == 7

@both
@pytest.mark.parametrize("budget,kwargs", [
    (Budget(cost=1e9), dict(setup_cost=1e9)), (Budget(cost=1.), {}),
    (Budget(seconds=5.), dict(setup_seconds=5.))])
def test_a_budget_spent_before_the_first_evaluation(search, budget, kwargs):
    score = Smooth()
    with pytest.raises(DansError, match="spent before"):
        search(SPACE, score, NO_LIMITS, budget, **kwargs)
    assert score.batches == []

def test_bad_budgets():
    for kwargs in ({}, dict(evaluations=0), dict(cost=-1.), dict(seconds=float("nan"))):
        with pytest.raises(DansError):
            Budget(**kwargs)

@both
def test_cost_needs_a_cost(search):
    score = Smooth()
    plain = lambda systems: score(systems)
    with pytest.raises(DansError, match="cost\\(system\\)"):
        search(SPACE, plain, NO_LIMITS, Budget(cost=1e9))
    log = search(SPACE, plain, NO_LIMITS, Budget(evaluations=12))
    assert log.cost_macs.isna().all() and len(score.asked) == 12

# -- determinism -----------------------------------------------------------------------------------

@both
def test_the_seed_decides_everything(search):
    logs = [search(SPACE, Smooth(), Limits(macs=2_000_000), Budget(evaluations=40), seed=s)
            for s in (5, 5, 6)]
    assert without_times(logs[0]).equals(without_times(logs[1]))
    assert systems(logs[0]) != systems(logs[2])

@both
def test_replay_from_the_log(search):
    log = search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=40), seed=7)
    known = dict(zip(systems(log), log.score))
    again = search(SPACE, lambda asked: [known[s] for s in asked], NO_LIMITS,
                   Budget(evaluations=40), seed=7)
    spent = ["seconds", "cost_macs"]
    assert again.drop(columns=spent).equals(log.drop(columns=spent))

def test_scores_steer_evolution_and_not_random_search():
    class Other(Smooth):
        def one(self, s):
            return -super().one(s)
    for search,same in ((random_search, True), (evolution, False)):
        a,b = (search(SPACE, score, NO_LIMITS, Budget(evaluations=40))
               for score in (Smooth(), Other()))
        assert (systems(a) == systems(b)) == same
        assert systems(a)[:10] == systems(b)[:10]

def test_random_search_does_not_depend_on_the_batch():
    logs = [random_search(SPACE, Smooth(), Limits(macs=2_000_000), Budget(evaluations=25), batch=b)
            for b in (1, 7, 25)]
    assert all(without_times(log).equals(without_times(logs[0])) for log in logs)

@both
def test_rows_are_handed_over_batch_by_batch(search):
    rows = []
    class Fails(Smooth):
        def __call__(self, systems):
            assert len(rows) == len(self.asked)     # all earlier batches are stored
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().__call__(systems)
    score = Fails()
    with pytest.raises(KeyboardInterrupt):
        search(SPACE, score, NO_LIMITS, Budget(evaluations=100), on_row=rows.append)
    assert [System.from_dict(r) for r in rows] == score.asked and len(rows) >= 20
    full = search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=100))
    assert without_times(pd.DataFrame(rows)).equals(without_times(full)[:len(rows)])

# -- winners ---------------------------------------------------------------------------------------

@both
def test_nan_never_wins(search):
    class Diverges(Smooth):
        def one(self, s):
            return math.nan if s.data.color == "mono" else super().one(s)
    log = search(SPACE, Diverges(), NO_LIMITS, Budget(evaluations=60), seed=1)
    assert log.score.isna().any() and winner(log).color == "rgb"
    assert not log.is_best[log.score.isna()].any()
    assert winner(log).score == log.score.max() == log.best_score.iloc[-1]

@both
def test_only_nan(search):
    log = search(SPACE, lambda s: [math.nan] * len(s), NO_LIMITS, Budget(evaluations=30))
    assert len(log) == 30 and log.best_score.isna().all() and not log.is_best.any()
    with pytest.raises(DansError, match="none of the 30"):
        winner(log)

@both
def test_ties_go_to_the_smaller_footprint(search):
    log = search(SPACE, lambda s: [.5] * len(s), NO_LIMITS, Budget(evaluations=40), seed=4)
    w = winner(log)
    smallest = log.sort_values(["ram_bytes", "flash_bytes", "macs"], kind="stable").iloc[0]
    assert w.step == smallest.step
    assert log.step[log.is_best].iloc[-1] == w.step     # the last new best is the winner

def test_the_winner_of_a_log_with_any_index():
    log = random_search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=20))
    shuffled = log.sample(frac=1, random_state=0)
    assert winner(shuffled).step == winner(log).step == log.score.idxmax()

@both
def test_a_score_of_the_wrong_length(search):
    with pytest.raises(DansError, match="one number for each"):
        search(SPACE, lambda s: [.5], NO_LIMITS, Budget(evaluations=20))

# -- evolution -------------------------------------------------------------------------------------

def test_generations_of_the_paper():
    log = evolution(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=60))
    assert log.generation.value_counts().sort_index().tolist() == [10] + [5] * 10
    first,later = log[log.generation == 0],log[log.generation > 0]
    assert (first.operator == "random").all()
    operators = later.groupby("generation").operator.apply(list)
    assert operators.tolist() == [["mutate"] * 4 + ["crossover"]] * 10

def test_mutants_are_neighbours_of_survivors():
    log = evolution(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=60), seed=3)
    for g,children in log[log.operator == "mutate"].groupby("generation"):
        before = set(systems(log[log.generation < g]))
        assert all(before & set(SPACE.neighbours(s)) for s in systems(children))

def test_evolution_beats_random_search():
    "The peak is one of 4,824 systems; 24 paired seeds, sign test: 20 of 24 has p = 0.0008."
    pairs = [[winner(search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=100), seed=s)).score
              for search in (evolution, random_search)] for s in range(24)]
    assert sum(e > r for e,r in pairs) >= 20

@both
def test_a_fixed_data_configuration_stays_fixed(search):
    data = DataConfig(48, "mono")
    log = search(SPACE.fix(data), Smooth(), Limits(macs=2_000_000), Budget(evaluations=50))
    assert len(log) == 50 and {s.data for s in systems(log)} == {data}

@pytest.mark.parametrize("kwargs", [
    dict(tournaments=0), dict(tournaments=10), dict(crossovers=6), dict(crossovers=-1),
    dict(population=1)])
def test_numbers_that_leave_no_child(kwargs):
    with pytest.raises(DansError, match="population"):
        evolution(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=20), **kwargs)

def test_other_numbers():
    log = evolution(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=23), population=7,
                    tournaments=3, crossovers=2)
    assert log.generation.value_counts().sort_index().tolist() == [7] + [4] * 4
    assert list(log.operator[log.generation == 1]) == ["mutate"] * 2 + ["crossover"] * 2

def test_the_winner_of_two_logs():
    logs = [random_search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=20), seed=s)
            for s in range(2)]
    assert winner(pd.concat(logs)).score == max(log.score.max() for log in logs)

@both
def test_rows_are_plain_values(search):
    rows = []
    search(SPACE, Smooth(), NO_LIMITS, Budget(evaluations=20), on_row=rows.append)
    assert {type(v) for row in rows for v in row.values()} == {int, float, str, bool}
