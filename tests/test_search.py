"Searches: limits and budgets hold, nothing is scored twice, a seed decides all, exact is exact."

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dans.choose.exhaustive import ExhaustiveSearch, front
from dans.choose.search import Kept, Log, Proposal, evolution, random_search, winner
from dans.choose.task import Budget, Lookup, Plain, Score, Spent, Task, check_score
from dans.cost.footprint import footprint
from dans.cost.limits import Limits
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.net.score import Scorer
from dans.paper.store import Store
from dans.space import SearchSpace, System

SEARCHES = [random_search, evolution]
SPACE = SearchSpace.preset("quick")
SMALL = SearchSpace((16, 24), widths=(0.1,), max_depths=(2, 1, 0, 0, 0))  # 4 x 5 = 20 systems
NO_LIMITS = Limits()
both = pytest.mark.parametrize("search", SEARCHES)


class Smooth(Score):
    "A score with one peak inside the space; keeps the batches that it was asked for."

    def __init__(self):
        self.batches = []

    def __call__(self, systems):
        self.batches.append(list(systems))
        return np.array([self.one(s) for s in systems])

    def one(self, s):
        distance = (
            abs(np.log2(s.data.resolution / 48))
            + (s.data.color == "rgb") * 0.5
            + 4 * abs(s.arch.width - 0.2)
            + sum(abs(a - b) for a, b in zip(s.arch.depths, (2, 3, 2, 1, 0))) / 4
        )
        return 1 / (1 + distance)

    def cost(self, s):
        return 100.0 * footprint(s, 2).macs

    @property
    def asked(self):
        return list(itertools.chain(*self.batches))


def task(space, score, limits=NO_LIMITS, classes=2, **spent):
    return Task(space, score, limits, classes, Spent(**spent))


def systems(log):
    return [System.from_dict(row) for row in log.to_dict("records")]


def without_times(log):
    return log.drop(columns="seconds")


@both
def test_the_log_says_what_was_scored(search):
    score = Smooth()
    log = search(task(SPACE, score), Budget(evaluations=33), seed=1)
    assert len(log) == 33 and list(log.step) == list(range(33))
    assert systems(log) == score.asked
    assert np.array_equal(log.score, [score.one(s) for s in score.asked])
    for row, s in zip(log.itertuples(), systems(log)):
        assert all(getattr(row, axis) == cost for axis, cost in vars(footprint(s, 2)).items())
    assert np.array_equal(log.best_score, log.score.cummax())
    assert np.allclose(log.cost_macs, np.cumsum([score.cost(s) for s in score.asked]))
    assert log.seconds.is_monotonic_increasing
    assert list(log.columns[:3]) == ["step", "generation", "operator"]


@both
def test_the_log_survives_csv(search, tmp_path):
    log = search(task(SPACE, Smooth()), Budget(evaluations=20))
    log.to_csv(tmp_path / "log.csv", index=False)
    assert systems(pd.read_csv(tmp_path / "log.csv")) == systems(log)


@both
@pytest.mark.parametrize(
    "limits",
    [
        Limits(arena_bytes=30_000),
        Limits(ram_bytes=30_000),
        Limits(flash_bytes=60_000),
        Limits(macs=600_000),
        Limits(arena_bytes=40_000, flash_bytes=120_000, macs=1_500_000),
    ],
)
def test_limits_are_checked_before_scoring(search, limits):
    score = Smooth()
    log = search(task(SPACE, score, limits), Budget(evaluations=50), seed=2)
    assert len(log) == 50
    assert all(limits.admits(footprint(s, 2)) for s in score.asked)
    assert log.over_limits.sum() > 0
    assert search(task(SPACE, score), Budget(evaluations=50), seed=2).over_limits.sum() == 0


@both
def test_limits_count_the_classes(search):
    limits = Limits(flash_bytes=45_000)
    log = search(task(SPACE, Smooth(), limits, classes=100), Budget(evaluations=50))
    assert all(limits.admits(footprint(s, 100)) for s in systems(log))
    assert log.flash_bytes.tolist() == [footprint(s, 100).flash_bytes for s in systems(log)]


@both
def test_nothing_is_scored_twice_and_an_exhausted_space_ends_the_search(search):
    score = Smooth()
    log = search(task(SMALL, score), Budget(evaluations=1_000))
    assert sorted(score.asked) == sorted(SMALL) and len(log) == len(SMALL)


@both
def test_a_space_exhausted_by_limits_ends_the_search(search):
    cheap = sorted(footprint(s, 2).macs for s in SPACE)[6]
    inside = [s for s in SPACE if footprint(s, 2).macs <= cheap]
    log = search(task(SPACE, Smooth(), Limits(macs=cheap)), Budget(evaluations=1_000))
    assert sorted(systems(log)) == sorted(inside)


@both
def test_a_space_of_one_system(search):
    one = SearchSpace(32, "rgb", 0.1, (0, 0, 0, 0, 0))
    assert systems(search(task(one, Smooth()), Budget(evaluations=5))) == [one[0]]


@both
def test_limits_that_nothing_meets(search):
    score = Smooth()
    with pytest.raises(DansError, match="RAM.*smallest"):
        search(task(SPACE, score, Limits(arena_bytes=100)), Budget(evaluations=5))
    assert score.batches == []


# -- budget ----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("n", [1, 9, 10, 11, 27])
def test_budget_in_evaluations(search, n):
    score = Smooth()
    assert len(search(task(SPACE, score), Budget(evaluations=n))) == len(score.asked) == n


@both
@pytest.mark.parametrize("setup", [0.0, 4e9])
def test_budget_in_cost(search, setup):
    budget = Budget(cost_macs=5e9 + setup, evaluations=500)
    log = search(task(SPACE, Smooth(), cost_macs=setup), budget, seed=3)
    assert setup < log.cost_macs.iloc[0]
    assert log.cost_macs.iloc[-1] <= budget.cost_macs
    longer = search(task(SPACE, Smooth(), cost_macs=setup), Budget(evaluations=len(log) + 1), seed=3)
    assert longer.cost_macs.iloc[-1] > budget.cost_macs  # one more would have been too many
    assert without_times(longer)[: len(log)].equals(without_times(log))


@both
def test_budget_in_seconds(search, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dans.choose.search.time.perf_counter", lambda: now[0])

    class Slow(Smooth):
        def __call__(self, systems):
            now[0] += len(systems)
            return super().__call__(systems)

    log = search(task(SPACE, Slow(), seconds=3), Budget(seconds=25))
    ends = log.seconds.unique().tolist()
    assert ends[0] == 13 and len(ends) >= 2
    assert ends[-2] < 25 <= ends[-1]  # the batch that has begun is finished, no other begins


@both
def test_the_first_bound_reached_binds(search):
    budget = Budget(evaluations=7, cost_macs=1e15, seconds=1e6)
    assert len(search(task(SPACE, Smooth()), budget)) == 7


@both
@pytest.mark.parametrize(
    "budget,spent",
    [
        (Budget(cost_macs=1e9), dict(cost_macs=1e9)),
        (Budget(cost_macs=1.0), {}),
        (Budget(seconds=5.0), dict(seconds=5.0)),
        (Budget(evaluations=5), dict(evaluations=5)),
    ],
)
def test_a_budget_spent_before_the_first_evaluation(search, budget, spent):
    score = Smooth()
    with pytest.raises(DansError, match="spent before"):
        search(task(SPACE, score, **spent), budget)
    assert score.batches == []


def test_bad_budgets():
    for kwargs in ({}, dict(evaluations=0), dict(cost_macs=-1.0), dict(seconds=float("nan"))):
        with pytest.raises(DansError):
            Budget(**kwargs)


@both
def test_cost_needs_a_cost(search):
    score = Smooth()

    def plain(systems):
        return score(systems)

    with pytest.raises(DansError, match="cost\\(system\\)"):
        search(task(SPACE, Plain(plain)), Budget(cost_macs=1e9))
    log = search(task(SPACE, Plain(plain)), Budget(evaluations=12))
    assert log.cost_macs.isna().all() and len(score.asked) == 12


def test_a_budget_judges_itself():
    budget = Budget(evaluations=4, cost_macs=100.0, seconds=10.0)
    assert budget.allows(Spent(100.0, 9.9, 4))
    assert not any(budget.allows(s) for s in (Spent(100.1, 0, 1), Spent(1.0, 0, 5), Spent(1.0, 10.0, 1)))
    assert [budget.share(s) for s in (Spent(50.0, 1.0, 1), Spent(0.0, 9.0, 1), Spent(0.0, 0.0, 6))] == [0.5, 0.9, 1.5]
    assert Budget(evaluations=4).allows(Spent(math.nan, 1e9, 4))  # what is not bounded is not looked at


# -- scores ----------------------------------------------------------------------------------------


def test_a_function_is_no_score():
    for wrong in (lambda systems: [0.5] * len(systems), {}, None, SimpleNamespace(cost=len)):
        with pytest.raises(DansError, match="is no score.*Plain"):
            task(SMOKE, wrong)
    whole = ExhaustiveSearch(task(SMOKE, Smooth()))
    with pytest.raises(DansError, match="is no score"):
        whole.select(Limits(), lambda systems: [0.5] * len(systems), 100)
    for score in (Smooth(), Plain(len), Lookup({}), Kept(Plain(len), None)):
        assert check_score(score) is score


def test_known_scores_are_looked_up_and_charged_as_if_they_were_not_known():
    smooth = Smooth()
    known = Lookup({s: smooth.one(s) for s in SMALL}, smooth.cost)
    for search in SEARCHES:
        logs = [search(task(SMALL, score), Budget(evaluations=12)) for score in (known, smooth)]
        assert without_times(logs[0]).equals(without_times(logs[1]))
    with pytest.raises(DansError, match="none of the 20 systems whose scores are known"):
        known([SPACE[-1]])


def test_whether_a_task_is_possible_is_a_question():
    least = min(SPACE, key=lambda s: footprint(s, 2).macs)
    bound = footprint(least, 2).macs
    assert task(SPACE, Smooth(), Limits(macs=bound)).possible
    assert not task(SPACE, Smooth(), Limits(macs=bound - 1)).possible
    assert task(SPACE, Smooth(), [Limits(macs=1), Limits(macs=bound)]).possible


# -- determinism -----------------------------------------------------------------------------------


@both
def test_the_seed_decides_everything(search):
    logs = [search(task(SPACE, Smooth(), Limits(macs=2_000_000)), Budget(evaluations=40), seed=s) for s in (5, 5, 6)]
    assert without_times(logs[0]).equals(without_times(logs[1]))
    assert systems(logs[0]) != systems(logs[2])


@both
def test_replay_from_the_log(search):
    log = search(task(SPACE, Smooth()), Budget(evaluations=40), seed=7)
    known = dict(zip(systems(log), log.score))
    again = search(task(SPACE, Plain(lambda asked: [known[s] for s in asked])), Budget(evaluations=40), seed=7)
    spent = ["seconds", "cost_macs"]
    assert again.drop(columns=spent).equals(log.drop(columns=spent))


def test_scores_steer_evolution_and_not_random_search():
    class Other(Smooth):
        def one(self, s):
            return -super().one(s)

    for search, same in ((random_search, True), (evolution, False)):
        a, b = (search(task(SPACE, score), Budget(evaluations=40)) for score in (Smooth(), Other()))
        assert (systems(a) == systems(b)) == same
        assert systems(a)[:10] == systems(b)[:10]


def test_random_search_does_not_depend_on_the_batch():
    logs = [
        random_search(task(SPACE, Smooth(), Limits(macs=2_000_000)), Budget(evaluations=25), batch=b)
        for b in (1, 7, 25)
    ]
    assert all(without_times(log).equals(without_times(logs[0])) for log in logs)


class Fails(Smooth):
    "Is stopped in its fourth batch."

    what = dict(of="smooth")

    def __call__(self, systems):
        if len(self.batches) == 3:
            raise KeyboardInterrupt
        return super().__call__(systems)


@both
def test_a_search_that_is_stopped_keeps_its_batches_and_ends_as_if_it_had_not_been(search, tmp_path):
    store, stopped, score = Store(tmp_path), Fails(), Smooth()
    with pytest.raises(KeyboardInterrupt):
        search(task(SPACE, Kept(stopped, store)), Budget(evaluations=100))
    assert store.rows("score").score.tolist() == [stopped.one(s) for s in stopped.asked] and len(stopped.asked) >= 20
    log = search(task(SPACE, Kept(score, store, stopped.what)), Budget(evaluations=100))
    full = search(task(SPACE, Smooth()), Budget(evaluations=100))
    assert without_times(log).equals(without_times(full))
    assert systems(log) == stopped.asked + score.asked


# -- winners ---------------------------------------------------------------------------------------


@both
def test_nan_never_wins(search):
    class Diverges(Smooth):
        def one(self, s):
            return math.nan if s.data.color == "mono" else super().one(s)

    log = search(task(SPACE, Diverges()), Budget(evaluations=60), seed=1)
    assert log.score.isna().any() and winner(log).color == "rgb"
    assert not log.is_best[log.score.isna()].any()
    assert winner(log).score == log.score.max() == log.best_score.iloc[-1]


@both
def test_only_nan(search):
    log = search(task(SPACE, Plain(lambda s: [math.nan] * len(s))), Budget(evaluations=30))
    assert len(log) == 30 and log.best_score.isna().all() and not log.is_best.any()
    with pytest.raises(DansError, match="none of the 30"):
        winner(log)


@both
def test_ties_go_to_the_smaller_footprint(search):
    log = search(task(SPACE, Plain(lambda s: [0.5] * len(s))), Budget(evaluations=40), seed=4)
    w = winner(log)
    smallest = log.sort_values(["arena_bytes", "flash_bytes", "macs"], kind="stable").iloc[0]
    assert w.step == smallest.step
    assert log.step[log.is_best].iloc[-1] == w.step  # the last new best is the winner


def test_the_winner_of_a_log_with_any_index():
    log = random_search(task(SPACE, Smooth()), Budget(evaluations=20))
    shuffled = log.sample(frac=1, random_state=0)
    assert winner(shuffled).step == winner(log).step == log.score.idxmax()


@both
def test_a_score_of_the_wrong_length(search):
    with pytest.raises(DansError, match="one number for each"):
        search(task(SPACE, Plain(lambda s: [0.5])), Budget(evaluations=20))


# -- evolution -------------------------------------------------------------------------------------


def test_generations_of_the_paper():
    log = evolution(task(SPACE, Smooth()), Budget(evaluations=60))
    assert log.generation.value_counts().sort_index().tolist() == [10] + [5] * 10
    first, later = log[log.generation == 0], log[log.generation > 0]
    assert (first.operator == "random").all()
    operators = later.groupby("generation").operator.apply(list)
    assert operators.tolist() == [["mutate"] * 4 + ["crossover"]] * 10


def test_mutants_are_neighbours_of_survivors():
    log = evolution(task(SPACE, Smooth()), Budget(evaluations=60), seed=3)
    for g, children in log[log.operator == "mutate"].groupby("generation"):
        before = set(systems(log[log.generation < g]))
        assert all(before & set(SPACE.neighbours(s)) for s in systems(children))


def test_evolution_beats_random_search():
    "The peak is one of 4,824 systems; 24 paired seeds, sign test: 20 of 24 has p = 0.0008."
    pairs = [
        [
            winner(search(task(SPACE, Smooth()), Budget(evaluations=100), seed=s)).score
            for search in (evolution, random_search)
        ]
        for s in range(24)
    ]
    assert sum(e > r for e, r in pairs) >= 20


@both
def test_a_fixed_data_configuration_stays_fixed(search):
    data = ImageConfig(48, "mono")
    log = search(task(SPACE.fix(data), Smooth(), Limits(macs=2_000_000)), Budget(evaluations=50))
    assert len(log) == 50 and {s.data for s in systems(log)} == {data}


@pytest.mark.parametrize(
    "kwargs", [dict(tournaments=0), dict(tournaments=10), dict(crossovers=6), dict(crossovers=-1), dict(population=1)]
)
def test_numbers_that_leave_no_child(kwargs):
    with pytest.raises(DansError, match="population"):
        evolution(task(SPACE, Smooth()), Budget(evaluations=20), **kwargs)


def test_other_numbers():
    log = evolution(task(SPACE, Smooth()), Budget(evaluations=23), population=7, tournaments=3, crossovers=2)
    assert log.generation.value_counts().sort_index().tolist() == [7] + [4] * 4
    assert list(log.operator[log.generation == 1]) == ["mutate"] * 2 + ["crossover"] * 2


def test_the_winner_of_two_logs():
    logs = [random_search(task(SPACE, Smooth()), Budget(evaluations=20), seed=s) for s in range(2)]
    assert winner(pd.concat(logs)).score == max(log.score.max() for log in logs)


@both
def test_rows_are_plain_values(search):
    log = Log(task(SPACE, Smooth()))
    frame = search(log.task, Budget(evaluations=20))
    proposals = [Proposal(s, log.task.footprint(s), "random", 0, 0, 0) for s in systems(frame)]
    log.add(proposals, map(log.task.score.cost, systems(frame)), frame.score.tolist())
    assert {type(v) for row in log.rows for v in row.values()} == {int, float, str, bool}
    same = ["operator", "generation", "over_limits", "repeats", "seconds"]
    assert log.frame().drop(columns=same).equals(frame.drop(columns=same))


# -- every system ----------------------------------------------------------------------------------

AXES = ["arena_bytes", "flash_bytes", "macs"]


class Coarse(Smooth):
    "Scores with many ties, and no order that footprints have."

    def one(self, s):
        return int(np.random.default_rng(SMOKE.index(s)).integers(12)) / 12


SMOKE = SearchSpace((16, 24), widths=(0.1, 0.2))


def some_limits(n, seed=0, space=SMOKE):
    "Limits that cut at random systems of the space, some axes left open."
    rng = np.random.default_rng(seed)
    for _ in range(n):
        cost = footprint(space[rng.integers(len(space))], 2)
        yield Limits(**{axis: getattr(cost, axis) for axis in AXES if rng.random() < 0.6})


def by_merit(systems, score):
    "Sorted by the words of the notebook: score, then less RAM, less flash, fewer MACs."

    def merit(s):
        cost = footprint(s, 2)
        return -score.one(s), cost.arena_bytes, cost.flash_bytes, cost.macs

    return sorted(systems, key=merit)


def brute_front(log):
    "Every row against every other."
    values = log[["score", *AXES]].to_numpy() * [-1, 1, 1, 1]
    no_worse = (values[:, None] <= values[None]).all(-1)
    better = (values[:, None] < values[None]).any(-1)
    return set(log.index[~(no_worse & better).any(0)])


def made_up(n, seed, levels):
    "A log of `n` rows with few different values, so that equal ones are common."
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(rng.integers(1, levels, (n, 3)), columns=AXES)
    return rows.assign(score=rng.integers(levels, size=n) / levels)


def test_an_exhaustive_log_holds_every_system_in_the_form_of_other_searches():
    score = Smooth()
    log = ExhaustiveSearch(task(SMOKE, score)).log
    assert systems(log) == score.asked == list(SMOKE)
    assert log.score.tolist() == [score.one(s) for s in SMOKE]
    other = random_search(task(SMOKE, Smooth()), Budget(evaluations=5))
    assert (log.dtypes == other.dtypes).all()
    assert set(log.operator) == {"exhaustive"} and list(log.step) == list(range(len(SMOKE)))
    assert np.allclose(log.cost_macs, np.cumsum([score.cost(s) for s in SMOKE]))
    assert System.from_dict(winner(log)) == by_merit(SMOKE, score)[0]


def test_one_call_for_one_data_configuration_and_width():
    score = Smooth()
    ExhaustiveSearch(task(SMOKE, score))
    groups = [{(s.data, s.arch.width) for s in batch} for batch in score.batches]
    assert all(len(g) == 1 for g in groups)
    assert len(groups) == len(set.union(*groups)) == len(SMOKE.data_configs) * len(SMOKE.widths)


@pytest.mark.parametrize("score", [Smooth(), Coarse()])
def test_the_best_for_any_limits(score):
    search = ExhaustiveSearch(task(SMOKE, score))
    for limits in some_limits(40):
        fits = by_merit([s for s in SMOKE if limits.admits(footprint(s, 2))], score)
        assert systems(search.best(limits, 7)) == fits[:7]
        assert len(search.best(limits, 10_000)) == len(fits)


def test_the_best_rows_are_rows_of_the_log():
    search = ExhaustiveSearch(task(SMOKE, Coarse()))
    best = search.best(n=20)
    assert best.equals(search.log.loc[best.index])


def test_only_what_a_limit_admits_is_scored():
    a, b = Limits(macs=60_000), Limits(ram_bytes=1_100)
    score = Smooth()
    log = ExhaustiveSearch(task(SMOKE, score, [a, b])).log
    inside = [s for s in SMOKE if a.admits(footprint(s, 2)) or b.admits(footprint(s, 2))]
    assert systems(log) == score.asked == inside and len(inside) < len(SMOKE)


def test_limits_count_the_classes_of_an_exhaustive_search():
    limits = Limits(flash_bytes=30_000)
    log = ExhaustiveSearch(task(SMOKE, Smooth(), limits, classes=100)).log
    assert systems(log) == [s for s in SMOKE if limits.admits(footprint(s, 100))]
    assert log.flash_bytes.tolist() == [footprint(s, 100).flash_bytes for s in systems(log)]


def test_limits_within_those_of_the_search_are_answered_and_others_are_not():
    whole = ExhaustiveSearch(task(SMOKE, Coarse()))
    search = ExhaustiveSearch(task(SMOKE, Coarse(), [Limits(macs=60_000), Limits(ram_bytes=1_100)]))
    for within in (Limits(macs=60_000), Limits(macs=50_000, flash_bytes=20_000), Limits(ram_bytes=1_100, macs=10**9)):
        assert systems(search.best(within, 5)) == systems(whole.best(within, 5))
    for wider in (Limits(), Limits(macs=60_001), Limits(flash_bytes=20_000)):
        with pytest.raises(DansError, match="not scored"):
            search.best(wider)


def test_limits_on_the_arena_and_on_activations_are_two_things():
    "24 KiB of activations let systems through whose arena takes more; both hold where both are set."
    within, paper = Limits(arena_bytes=24 * 1024), Limits(ram_bytes=24 * 1024)
    search = ExhaustiveSearch(task(SMOKE, Smooth(), [within, paper]))
    arenas = [search.best(limits, 10_000).arena_bytes.max() for limits in (within, paper)]
    assert arenas[0] <= 24 * 1024 < arenas[1]
    both = ExhaustiveSearch(task(SMOKE, Smooth(), Limits(arena_bytes=24 * 1024, ram_bytes=3_000))).log
    assert both.arena_bytes.max() <= 24 * 1024 and both.ram_bytes.max() <= 3_000
    kernels = Limits(arena_bytes=24 * 1024, kernels="cmsis-nn-mve")
    with pytest.raises(DansError, match="different kernels"):
        ExhaustiveSearch(task(SMOKE, Smooth(), [within, kernels]))
    found = ExhaustiveSearch(task(SMOKE, Smooth(), kernels)).log
    assert len(found) < len(ExhaustiveSearch(task(SMOKE, Smooth(), within)).log)
    assert found.arena_bytes.tolist() == [footprint(s, 2, kernels="cmsis-nn-mve").arena_bytes for s in systems(found)]


def test_limits_that_nothing_meets_are_known_before_scoring():
    score = Smooth()
    with pytest.raises(DansError, match="RAM.*smallest"):
        ExhaustiveSearch(task(SMOKE, score, [Limits(), Limits(arena_bytes=100)]))
    with pytest.raises(DansError, match="empty"):
        ExhaustiveSearch(task(SMOKE, score, []))
    assert score.batches == []
    search = ExhaustiveSearch(task(SMOKE, score))
    with pytest.raises(DansError, match="RAM.*smallest"):
        search.best(Limits(arena_bytes=100))
    with pytest.raises(DansError, match="n=0"):
        search.best(n=0)


def test_what_is_shared_is_counted_once():
    class Shares(Smooth):
        def shared_cost(self, systems):
            return max(self.cost(s) for s in systems)

    score = Shares()
    log = ExhaustiveSearch(task(SMOKE, score, cost_macs=1e9)).log
    assert np.isclose(log.cost_macs.iloc[-1], 1e9 + sum(score.shared_cost(batch) for batch in score.batches))
    plain = ExhaustiveSearch(task(SMOKE, Plain(lambda systems: score(systems)))).log
    assert plain.cost_macs.isna().all()


def test_a_scorer_is_charged_for_its_trees(tmp_path):
    prepared = SimpleNamespace(sizes=dict(train=100, val=50), key="images")

    class Counted(Scorer):
        def __call__(self, systems):
            return np.array([Smooth().one(s) for s in systems])

    score = Counted(SimpleNamespace(classes=2, what={}), prepared, calibration=64)
    paid = ExhaustiveSearch(task(SMOKE, score)).log.cost_macs.iloc[-1]
    assert np.isclose(paid, score.shared_cost(list(SMOKE))) and paid < sum(map(score.cost, SMOKE)) / 2
    kept = ExhaustiveSearch(task(SMOKE, Kept(score, Store(tmp_path)))).log
    assert kept.cost_macs.iloc[-1] == paid


def test_an_exhaustive_search_that_was_stopped_goes_on(tmp_path):
    store, stopped, score = Store(tmp_path), Fails(), Smooth()
    with pytest.raises(KeyboardInterrupt):
        ExhaustiveSearch(task(SMOKE, Kept(stopped, store)))
    assert len(store.rows("score")) == len(stopped.asked) == 3 * len(SMOKE.depths)
    log = ExhaustiveSearch(task(SMOKE, Kept(score, store, stopped.what))).log
    full = ExhaustiveSearch(task(SMOKE, Smooth())).log
    assert without_times(log).equals(without_times(full))
    assert stopped.asked + score.asked == list(SMOKE)


def test_known_scores_need_no_group_and_no_score(tmp_path):
    store, about, some = Store(tmp_path), dict(of="smooth"), list(SMOKE)[::3]
    Kept(Smooth(), store, about)(some)
    score = Smooth()
    log = ExhaustiveSearch(task(SMOKE, Kept(score, store, about))).log
    assert sorted(score.asked) == sorted(set(SMOKE) - set(some))
    for known in (Kept(Lookup({}), store, about), Lookup(dict(zip(SMOKE, log.score)))):
        assert ExhaustiveSearch(task(SMOKE, known)).log.score.equals(log.score)


# -- the front -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_front_against_every_pair(seed):
    log = made_up(300, seed, levels=(3, 6, 20, 1_000)[seed % 4])
    found = front(log)
    assert set(found.index) == brute_front(log) and found.equals(log.loc[found.index])
    assert found.score.is_monotonic_decreasing
    shuffled = front(log.sample(frac=1, random_state=seed))
    assert set(shuffled.index) == set(found.index)


@pytest.mark.parametrize("score", [Smooth(), Coarse()])
def test_the_front_holds_the_answer_to_any_limits(score):
    search = ExhaustiveSearch(task(SMOKE, score))
    every = front(search.log)
    assert set(every.index) == brute_front(search.log)
    for limits in some_limits(40, seed=1):
        assert search.best(limits).index[0] in every.index
        narrow = front(ExhaustiveSearch(task(SMOKE, score, limits)).log)
        assert systems(narrow) == [s for s in systems(every) if limits.admits(footprint(s, 2))]


def test_rows_that_are_equal_stay_together():
    log = pd.DataFrame(dict(score=[0.5, 0.7, 0.5, 0.7, 0.5], arena_bytes=1, flash_bytes=1, macs=[1, 2, 1, 2, 3]))
    assert front(log).index.tolist() == [1, 3, 0, 2]


def test_all_on_the_front():
    log = pd.DataFrame({name: np.arange(1, 2_001) for name in ("score", *AXES)})
    assert len(front(log)) == 2_000


def test_a_system_without_a_score_is_nowhere():
    class Diverges(Smooth):
        def one(self, s):
            value = super().one(s)
            return {"mono": math.nan, "rgb": value}[s.data.color] if s.arch.width < 0.2 else math.inf

    search = ExhaustiveSearch(task(SMOKE, Diverges()))
    for rows in (search.best(n=10_000), front(search.log), search.select(Limits(), Smooth(), 4_000)):
        assert set(rows.color) == {"rgb"} and set(rows.width) == {0.1}
    nothing = ExhaustiveSearch(task(SMOKE, Plain(lambda s: [math.nan] * len(s))))
    for ask in (
        nothing.best,
        lambda: front(nothing.log),
        lambda: winner(nothing.log),
        lambda: nothing.select(Limits(), Smooth(), 4_000),
    ):
        with pytest.raises(DansError, match="has a score"):
            ask()


# -- two stages ------------------------------------------------------------------------------------


def plain(frame):
    "Without what depends on the other finalists of the call."
    return frame.drop(columns=["limit", "cost_macs", "seconds"]).reset_index(drop=True)


def test_the_finalists_of_each_limit_are_rescored_once():
    search, rescore = ExhaustiveSearch(task(SMOKE, Coarse())), Smooth()
    limits = [*some_limits(4, seed=2), Limits()]
    finals = search.select(limits, rescore, images=4_000, finalists=30)
    assert len(rescore.asked) == len(set(rescore.asked))
    assert set(rescore.asked) == set(systems(finals))
    for i, each in enumerate(limits):
        rows = finals[finals.limit == i]
        assert set(rows.step) == set(search.best(each, 30).step)
        assert rows.is_winner.sum() == 1 and rows.rescore.is_monotonic_decreasing
        assert all(each.admits(row) for row in rows.itertuples())
    assert [search.log.score[step] for step in finals.step] == finals.score.tolist()
    assert [rescore.one(s) for s in systems(finals)] == finals.rescore.tolist()
    assert finals.cost_macs.min() > search.log.cost_macs.iloc[-1]
    assert np.isclose(
        finals.cost_macs.max(), search.log.cost_macs.iloc[-1] + sum(rescore.cost(s) for s in rescore.asked)
    )
    assert finals.seconds.min() >= search.log.seconds.iloc[-1]


def test_other_limits_change_nothing():
    search = ExhaustiveSearch(task(SMOKE, Coarse()))
    limits = list(some_limits(4, seed=3))
    together = search.select(limits, Smooth(), images=1_000)
    for i, each in enumerate(limits):
        alone = search.select(each, Smooth(), images=1_000)
        assert plain(alone).equals(plain(together[together.limit == i]))


def test_the_smallest_within_one_standard_error_wins():
    search = ExhaustiveSearch(task(SMOKE, Coarse()))
    for limits in some_limits(20, seed=4):
        finals = search.select(limits, Smooth(), images=100, finalists=60)
        top = finals.rescore.max()
        tied = finals[finals.rescore >= top - math.sqrt(top * (1 - top) / 100)]
        assert finals.is_tied.sum() == len(tied) and finals.is_tied[tied.index].all()
        chosen = finals[finals.is_winner].iloc[0]
        assert chosen.is_tied
        smaller = (tied[AXES] <= chosen[AXES]).all(axis=1) & (tied[AXES] < chosen[AXES]).any(axis=1)
        assert not smaller.any()
        share = limits.bounds()
        if share:
            used = (tied[list(share)] / pd.Series(share)).max(axis=1)
            assert (chosen[list(share)] / pd.Series(share)).max() == used.min()


def test_what_was_limited_decides_between_ties():
    "The smaller in RAM is not the smaller in MACs: each limit has its own winner."
    costs = {s: footprint(s, 2) for s in SMOKE}
    a, b = next(
        (a, b)
        for a, b in itertools.permutations(SMOKE, 2)
        if costs[b].arena_bytes > costs[a].arena_bytes
        and costs[b].macs < costs[a].macs
        and costs[b].flash_bytes < costs[a].flash_bytes
    )
    search = ExhaustiveSearch(task(SMOKE, Plain(lambda asked: [float(s in (a, b)) for s in asked])))
    ram, macs = footprint(b, 2).arena_bytes, footprint(a, 2).macs

    def chosen(limits):
        finals = search.select(limits, Plain(lambda asked: [0.9] * len(asked)), images=100, finalists=2)
        return System.from_dict(finals[finals.is_winner].iloc[0])

    assert chosen(Limits()) == chosen(Limits(arena_bytes=ram)) == a
    assert chosen(Limits(macs=macs)) == chosen(Limits(flash_bytes=10**6)) == b
    assert chosen(Limits(arena_bytes=10 * ram, macs=macs)) == b  # RAM is loose
    assert chosen(Limits(arena_bytes=ram, macs=10 * macs)) == a  # MACs are loose


def test_standard_errors():
    search = ExhaustiveSearch(task(SMOKE, Smooth()))
    finals = search.select(Limits(), Plain(lambda s: [0.9] * len(s)), images=3_600)
    assert np.allclose(finals.rescore_error, 0.005) and finals.is_tied.all()

    again = search.select(Limits(), Smooth(), 400)
    assert np.allclose(again.rescore_error, np.sqrt(again.rescore * (1 - again.rescore) / 400))


def test_a_finalist_without_a_rescore_does_not_win():
    class Diverges(Smooth):
        def one(self, s):
            return math.nan if s.arch.ending > 4 else super().one(s)

    search = ExhaustiveSearch(task(SMOKE, Coarse()))
    finals = search.select(Limits(), Diverges(), images=4_000)
    assert finals.rescore.isna().any() and not finals.is_tied[finals.rescore.isna()].any()
    assert finals[finals.is_winner].rescore.notna().all()
    with pytest.raises(DansError, match="has a rescore"):
        search.select(Limits(), Plain(lambda s: [math.nan] * len(s)), images=4_000)


def test_what_a_second_stage_needs():
    search, rescore = ExhaustiveSearch(task(SMOKE, Smooth(), Limits(macs=100_000))), Smooth()
    for images in (None, 0, 0.5):
        with pytest.raises(DansError, match="images"):
            search.select(Limits(macs=100_000), rescore, images)
    for limits, message in (([], "empty"), (Limits(), "not scored"), (Limits(macs=100), "smallest")):
        with pytest.raises(DansError, match=message):
            search.select(limits, rescore, 4_000)
    with pytest.raises(DansError, match="n=0"):
        search.select(Limits(macs=100_000), rescore, 4_000, finalists=0)
    assert rescore.batches == []
    with pytest.raises(DansError, match="outside"):
        search.select(Limits(macs=100_000), Plain(lambda s: [90.0] * len(s)), 4_000)
    with pytest.raises(DansError, match="one number for each"):
        search.select(Limits(macs=100_000), Plain(lambda s: [0.9]), 4_000)


def test_two_stages_are_less_optimistic_than_one():
    "Twelve paired draws; all twelve agree with p = 0.0002 where there is no difference."
    truth = {s: 0.7 + 0.2 * Smooth().one(s) for s in SMOKE}

    class Seen(Score):
        def __init__(self, images, seed):
            right = np.random.default_rng(seed).binomial(images, list(truth.values()))
            self.values = dict(zip(truth, right / images))

        def __call__(self, asked):
            return [self.values[s] for s in asked]

    def optimism(row, seen):
        return seen - truth[System.from_dict(row)]

    for seed in range(12):
        search = ExhaustiveSearch(task(SMOKE, Seen(1_000, [seed, 0])))
        one = winner(search.log)
        finals = search.select(Limits(), Seen(4_000, [seed, 1]), 4_000)
        two = finals[finals.is_winner].iloc[0]
        assert optimism(two, two.rescore) < optimism(one, one.score)


class Asked(Score):
    "A score that notes what it is asked, and can be stopped in the middle of a batch."

    what, at_a_time = dict(weights="a"), 1

    def __init__(self, stop_at=None):
        self.systems, self.stop_at = [], stop_at

    def __call__(self, systems):
        if len(self.systems) == self.stop_at:
            raise KeyboardInterrupt
        self.systems += systems
        return [System.from_dict(s.to_dict()).arch.width for s in systems]


def test_a_kept_score_is_asked_for_once_whichever_search_asks(tmp_path):
    store, whole = Store(tmp_path), Asked()
    log = random_search(task(SMALL, Kept(whole, store)), Budget(evaluations=12), seed=3)
    again = Asked()
    same = random_search(task(SMALL, Kept(again, store)), Budget(evaluations=12), seed=3)
    assert again.systems == [] and len(whole.systems) == 12
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), same.drop(columns="seconds"))
    other = evolution(task(SMALL, Kept(again, store)), Budget(evaluations=12), seed=1)
    assert not set(again.systems) & set(whole.systems)
    assert {System.from_dict(row) for row in other.to_dict("records")} <= set(again.systems) | set(whole.systems)


def test_a_score_that_is_stopped_in_a_batch_keeps_what_was_finished(tmp_path):
    store, stopped, goes_on = Store(tmp_path), Asked(stop_at=4), Asked()
    with pytest.raises(KeyboardInterrupt):
        random_search(task(SMALL, Kept(stopped, store)), Budget(evaluations=10))
    log = random_search(task(SMALL, Kept(goes_on, store)), Budget(evaluations=10))
    assert len(stopped.systems) == 4 and len(goes_on.systems) == 6
    pd.testing.assert_frame_equal(
        log.drop(columns="seconds"),
        random_search(task(SMALL, Asked()), Budget(evaluations=10)).drop(columns="seconds"),
    )


def test_what_determines_a_score_is_part_of_its_key(tmp_path):
    store, first, second = Store(tmp_path), Asked(), Asked()
    random_search(task(SMALL, Kept(first, store)), Budget(evaluations=5))
    second.what = dict(weights="b")
    random_search(task(SMALL, Kept(second, store)), Budget(evaluations=5))
    random_search(task(SMALL, Kept(second, store, dict(images=9))), Budget(evaluations=5))
    assert len(second.systems) == 10
    with pytest.raises(DansError, match="nothing says what determines these scores"):
        random_search(task(SMALL, Kept(Plain(lambda systems: [0.5] * len(systems)), store)), Budget(evaluations=5))
