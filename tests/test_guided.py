"Guided search and the simple ways: budgets hold, nothing that ended is lost, a surrogate earns its place."

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from dans.choose.arms import Arm, compare, mean_training
from dans.choose.benchmark import invented_table, load_benchmark
from dans.choose.guided import Guide, guided_search, proposed, spread
from dans.choose.rank import KEYS, systems_of
from dans.choose.simple import (
    evolved_trainings,
    halving,
    hyperband,
    largest_first,
    largest_resolution,
    mcunet_choice,
    mcunet_first,
    most_macs,
    random_trainings,
    ridge_first,
    scored_first,
    short_first,
)
from dans.choose.surrogate import Inputs, Prior, Surrogate, inputs_of, learned
from dans.choose.task import Budget, Lookup, Plain, Score, Spent, Task
from dans.choose.trainings import SHORT, Trainings, Trial, in_turn
from dans.cost.footprint import footprint
from dans.cost.limits import Limits
from dans.house import DansError, Diverged
from dans.paper.executor import Local
from dans.paper.store import Store
from dans.space import SearchSpace, System

TRAINING = (
    guided_search,
    largest_first,
    partial(largest_first, top=None),
    ridge_first,
    short_first,
    halving,
    hyperband,
    random_trainings,
    evolved_trainings,
    mcunet_first,
)
of_each = pytest.mark.parametrize("search", TRAINING, ids=lambda s: getattr(s, "__name__", "largest_all"))
LIMITS = (Limits(macs=300_000), Limits(arena_bytes=32 * 1024), Limits())
SPACE = SearchSpace.preset("bench")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return load_benchmark(folder=invented_table(tmp_path_factory.mktemp("table")))


@pytest.fixture(scope="module")
def known(table):
    systems = systems_of(table.systems)
    return dict(zip(systems, table.score(systems)))


@pytest.fixture(scope="module")
def full(table):
    return table.score()


@pytest.fixture(scope="module")
def quarter(table):
    return table.score(fidelity="quarter")


class Asked(Score):
    "Accuracies that are known; `fails` (number of the training, the system) may raise or say what it came to instead."

    what = dict(data="invented")

    def __init__(self, known, fails=lambda n, system: None):
        self.known, self.fails, self.asked = known, fails, []

    def __call__(self, systems):
        return np.array([self.one(system) for system in systems])

    def one(self, system):
        self.asked.append(system)
        said = self.fails(len(self.asked), system)
        return self.known[system] if said is None else said

    def cost(self, system):
        return 3e5 * footprint(system, 2).macs


def without_times(found):
    return found.log.drop(columns="seconds"), found.winners


def same(one, other):
    return all(a.equals(b) for a, b in zip(without_times(one), without_times(other)))


# The surrogate


def everything(systems, said=()):
    return inputs_of(systems, [footprint(s, 2) for s in systems], said)


def planted(seed, systems, inputs, edge, n=30):
    rng, pixels = np.random.default_rng(seed), np.array([s.data.resolution for s in systems])
    truth = 0.7 + 0.02 * inputs.doublings[:, 0] - edge * np.abs(np.log2(pixels / 37))
    at = rng.permutation(len(systems))[:n]
    surrogate = learned(inputs, at, truth[at] + rng.normal(0, 0.01, n))
    rest = np.setdiff1d(np.arange(len(systems)), at)
    return surrogate, np.sqrt(np.mean((surrogate.outlook()[0] - truth)[rest] ** 2))


def test_a_planted_structure_is_found_and_the_ridge_stays_where_all_is_linear(known, monkeypatch):
    systems = list(known)
    inputs = everything(systems)
    found = [planted(seed, systems, inputs, 0.05) for seed in range(5)]
    straight = [planted(seed, systems, inputs, 0.0) for seed in range(5)]
    assert all(surrogate.signal > 0 for surrogate, _ in found)
    assert sum(surrogate.signal == 0 for surrogate, _ in straight) >= 3
    monkeypatch.setattr("dans.choose.surrogate.SIGNALS", (0.0,))
    ridge = [planted(seed, systems, inputs, 0.05) for seed in range(5)]
    assert np.mean([miss for _, miss in found]) < 0.75 * np.mean([miss for _, miss in ridge])


def test_left_out_trainings_are_those_of_refits(known):
    systems = list(known)
    inputs, rng = everything(systems), np.random.default_rng(3)
    at = rng.permutation(len(systems))[:15]
    whole = learned(inputs, at, rng.normal(0.7, 0.03, 15))
    numbers = {name: getattr(whole, name) for name in ("prior", "missed", "strength", "signal", "lengths")}
    misses = []
    for k in range(15):
        rest = np.delete(np.arange(15), k)
        less = Surrogate(inputs, at[rest], whole.accuracies[rest], **numbers)
        misses.append(whole.accuracies[k] - less.believed(at[k : k + 1])[0][0])
    error = whole.errors["process" if whole.signal else "ridge"]
    numbers_of_ridge = whole.signal == 0 and whole.missed != 0.01  # its noise is set after its error is known
    assert np.sqrt(np.mean(np.square(misses))) == pytest.approx(error, rel=0.05 if numbers_of_ridge else 1e-6)


def test_the_process_is_that_of_scikit_learn_where_both_can_be_compared():
    rng, none = np.random.default_rng(0), np.zeros((40, 0))
    inputs, at = Inputs(np.zeros((40, 1)), rng.normal(size=(40, 3)), none, none), np.arange(12)
    accuracies = 0.5 + rng.normal(0, 0.05, 12)
    ours = Surrogate(inputs, at, accuracies, Prior(), 0.01, math.inf, 0.05, (2.0,))
    kernel = ConstantKernel(1.0) + ConstantKernel(0.05**2) * Matern(2.0 * math.sqrt(3), nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=0.01**2, optimizer=None).fit(inputs.network[at], accuracies - 0.5)
    mean, covariance = theirs.predict(inputs.network, return_cov=True)
    assert np.allclose(ours.believed()[0], 0.5 + mean) and np.allclose(ours.believed()[1], covariance, atol=1e-10)
    assert np.allclose(ours.outlook()[0], 0.5 + mean)
    assert np.allclose(ours.outlook()[1], np.sqrt(np.diag(covariance)), atol=1e-6)


def test_what_is_a_systems_own_stays_with_it_and_noise_does_not(known):
    systems = list(known)
    rng, at = np.random.default_rng(0), list(range(0, 400, 20))
    inputs = everything(systems)
    accuracies = 0.6 + 0.02 * inputs.doublings[at, 0] + rng.normal(0, 0.05, len(at))
    kept, shrunk = (learned(inputs, at, accuracies, Prior(noise=noise)).believed(at)[0] for noise in (0.001, 0.05))
    assert np.abs(kept - accuracies).max() < 0.002 and np.abs(shrunk - accuracies).mean() > 0.02


def test_degenerate_trainings_are_understood(known):
    systems = [s for s in known if s.data.resolution == 48 and s.data.color == "rgb"]
    inputs = everything(systems, [np.full(len(systems), 0.5)])
    assert inputs.image.shape[1] == inputs.said.shape[1] == 0
    for at in ([], [3], [1, 2, 3], range(20)):
        mean, unsure = learned(inputs, list(at), np.full(len(at), 0.7)).outlook()
        assert np.isfinite(mean).all() and np.isfinite(unsure).all()
    alone = learned(everything(systems[:1]), [0], [0.6])
    assert alone.believed()[0] == pytest.approx(0.6, abs=0.01)
    for at, accuracies in (([1], [math.nan]), ([1, 2], [0.5])):
        with pytest.raises(DansError, match="give one for each"):
            learned(inputs, at, accuracies)
    assert everything(systems, [np.r_[math.nan, np.arange(len(systems) - 1)]]).said[0] < 0


# Trials


def test_what_is_too_dear_is_left_out_and_short_trainings_are_paid_for(table, known):
    small, large = sorted(known, key=lambda s: footprint(s, 2).macs)[:: len(known) - 1]
    train, short = Asked(known), Asked(known)
    short.cost = lambda system: train.cost(system) / 4
    trial = Trial(table.task(), train, Budget(cost_macs=2 * train.cost(small)), short, batch=3)
    assert trial.train([large, small, large], "listed") == [small] and trial.train([small], "again") == []
    assert trial.train([small], "short", kind=SHORT) == [small]
    log = trial.found().log
    assert log["cost_macs"].iloc[-1] == 1.25 * train.cost(small) and log["short"].notna().tolist() == [False, True]
    assert log["score"].notna().tolist() == [True, False] and train.asked == short.asked == [small]


def test_a_score_that_is_asked_is_paid_for_before_the_first_training(table, known):
    score = Plain(lambda systems: np.zeros(len(systems)), lambda system: 1e9)
    found = guided_search(table.task(), score, Asked(known), Budget(evaluations=3))
    first = System.from_dict(found.log.iloc[0])
    assert found.log["cost_macs"].iloc[0] == len(known) * 1e9 + Asked(known).cost(first)
    with pytest.raises(DansError, match="scoring 408 systems takes more than"):
        scored_first(table.task(), score, Asked(known), Budget(cost_macs=1e9))
    unit = mean_training(table.task())
    for share, heard in ((0.5, True), (1e-6, False)):  # a score that is too dear is left aside
        asked = []
        dear = Plain(lambda systems: asked.extend(systems) or np.zeros(len(systems)), lambda system: 1e8)
        guided_search(table.task(), dear, Asked(known), Budget(cost_macs=5 * unit), guide=Guide(score_share=share))
        assert bool(asked) == heard


def test_several_trainings_at_once_are_kept_one_by_one(known, tmp_path):
    def dies(n, system):
        if n == 3:
            raise RuntimeError("killed")

    def at_once(compute, numbers):
        with ThreadPoolExecutor(2) as pool:
            yield from ((i, made, 1.0) for i, made in zip(numbers, pool.map(compute, numbers)))

    systems = list(known)[:4]
    for name, run in dict(at_once=at_once, in_turn=in_turn, local=Local()).items():
        asked = Asked(known, dies)
        trained = Trainings(asked, Store(tmp_path / name), run=run)
        with pytest.raises(RuntimeError):
            trained(systems)
        before = list(asked.asked)
        assert trained(systems).tolist() == [known[s] for s in systems]
        assert not {s for s in asked.asked[len(before) :]} & set(before[:2]) and trained.waited(systems) > 0
    with pytest.raises(DansError, match="nothing says what determines"):
        Trainings(Lookup(known), Store(tmp_path))(systems)


def test_time_that_was_waited_before_a_kill_counts_again(table, known, tmp_path):
    trained = Trainings(Asked(known), Store(tmp_path))
    systems = list(known)[:3]
    for system in systems:
        what = dict(Asked.what, system=system.to_dict())
        trained.store.record(trained.kind, what, dict(score=0.5, waited=100.0), 100.0)
    trial = Trial(table.task(), trained, Budget(seconds=250))
    assert trial.train([*systems, *list(known)[3:6]], "listed") == systems and trained.score.asked == []
    assert 300 <= trial.log.frame()["seconds"].iloc[-1] < 310


# Searches


@of_each
@pytest.mark.parametrize("batch", [1, 4])
def test_budgets_hold_and_each_limit_has_its_winner(search, batch, table, known, quarter, full):
    mean = mean_training(table.task(LIMITS))
    for budget in (Budget(cost_macs=6 * mean), Budget(evaluations=9), Budget(evaluations=9, cost_macs=3 * mean)):
        found = search(table.task(LIMITS), None, full, budget, seed=1, short=quarter, batch=batch)
        assert len(found.log) <= (budget.evaluations or 999) and not found.log.duplicated([*KEYS, "score"]).any()
        assert found.log["cost_macs"].iloc[-1] <= (budget.cost_macs or math.inf)
        for row in found.winners.to_dict("records"):
            system = System.from_dict(row)
            assert LIMITS[row["limit"]].admits(footprint(system, 2)) and row["score"] == known[system]
            assert system in systems_of(found.log)
    assert found.winners["limit"].is_unique and len(found.winners)


@of_each
def test_a_seed_decides_all(search, table, quarter, full):
    task, budget = table.task(LIMITS), Budget(evaluations=9)
    one, again = (search(task, None, full, budget, seed=2, short=quarter) for _ in range(2))
    assert same(one, again)
    if search in (guided_search, ridge_first, random_trainings, halving):
        assert not same(one, search(task, None, full, budget, seed=3, short=quarter))


@pytest.mark.parametrize("batch", [1, 3])
def test_guided_search_goes_on_from_any_kill(batch, table, known, tmp_path):
    short = {system: accuracy - 0.02 for system, accuracy in known.items()}
    budget, task, guide = Budget(evaluations=10), table.task(LIMITS[:2]), Guide(first=5, short_share=0.4)
    whole = guided_search(task, None, Asked(known), budget, 0, Asked(short), batch, guide)
    assert set(whole.log["operator"]) == {"first", "short", "proposed"}

    def kept(known, name):  # every training is killed at its first attempt
        tried = set()

        def fails(n, system):
            if system not in tried:
                tried.add(system)
                raise KeyboardInterrupt

        return Trainings(Asked(known, fails), Store(tmp_path), dict(length=name))

    train, brief = kept(known, "full"), kept(short, "short")
    for _ in range(40):
        try:
            found = guided_search(task, None, train, budget, 0, brief, batch, guide)
            break
        except KeyboardInterrupt:
            pass
    assert same(found, whole)
    assert len(train.score.asked) + len(brief.score.asked) == 2 * len(whole.log)


def test_guided_search_beats_chance_and_a_score_helps_it(table, known, full):
    mean = mean_training(table.task())
    rng = np.random.default_rng(0)
    rough = Lookup({s: a + rng.normal(0, 0.004) for s, a in known.items()}, lambda system: 0.0)
    means = []
    for score, search in ((None, random_trainings), (None, guided_search), (rough, guided_search)):
        found = [search(table.task(), score, full, Budget(cost_macs=8 * mean), seed) for seed in range(4)]
        means.append(np.mean([one.winners["score"].iloc[0] for one in found]))
    assert means[0] < means[1] < means[2]


def test_short_trainings_are_heard_only_where_they_agree(table, known, full):
    rng = np.random.default_rng(0)
    good = Lookup({s: a + rng.normal(0, 0.002) for s, a in known.items()})
    bad = Lookup({s: 1 - a for s, a in known.items()})
    numbers, guide, budget = [], Guide(first=5, short_share=0.4), Budget(evaluations=24)
    for short in (good, bad):
        log = guided_search(table.task(), None, full, budget, short=short, guide=guide).log
        numbers.append((log["operator"] == "short").sum())
        assert log.loc[log["operator"] == "short", "score"].isna().all()
    assert numbers == [9, 5]  # two fifths of the budget; the first five alone


def test_trainings_that_diverge_never_win_and_are_not_tried_again(table, known):
    best = max(known, key=known.get)
    train = Asked(known, lambda n, system: math.nan if n % 2 else None)
    found = guided_search(table.task(LIMITS), None, train, Budget(evaluations=12))
    assert len(set(train.asked)) == 12 and found.winners["score"].notna().all()
    with pytest.raises(DansError, match="none of 6 trainings"):
        guided_search(table.task(), None, Asked(known, lambda n, s: math.nan), Budget(evaluations=6))

    def diverges(n, system):
        if system == best:
            raise Diverged("the loss is no number", "lower the rate")

    trained = Trainings(Asked(known, diverges), Store(table.folder / "kept"))
    assert math.isnan(trained([best])[0]) and trained([best, list(known)[0]])[1] == known[list(known)[0]]


def test_what_a_growing_table_lacks_is_no_bargain(tmp_path):
    part = load_benchmark(folder=invented_table(tmp_path, share=0.5))
    mean = mean_training(part.task(gaps=True))
    log = guided_search(part.task(), None, part.score(gaps=True), Budget(cost_macs=6 * mean)).log
    assert 4 * mean < log["cost_macs"].iloc[-1] <= 6 * mean
    assert log["score"].head(8).notna().any() and len(log) == len(set(systems_of(log)))


def test_few_systems_equal_accuracies_and_one_resolution(known):
    tiny = SearchSpace((24,), ("rgb",), (0.1, 0.2), (1, 1, 0, 0, 0))
    for space, limits in ((tiny, Limits()), (SearchSpace((48,), widths=(0.1,)), Limits(macs=150_000))):
        equal = Plain(lambda systems: np.full(len(systems), 0.7), lambda system: 1.0)
        found = guided_search(Task(space, equal, limits, 2), None, equal, Budget(evaluations=14), short=equal)
        admitted = [s for s in space if limits.admits(footprint(s, 2))]
        full = systems_of(found.log[found.log["operator"] != "short"])
        assert len(full) == len(set(full)) <= len(admitted)
        smallest = min(systems_of(found.log), key=lambda s: footprint(s, 2).arena_bytes)
        assert found.winners["score"].tolist() == [0.7] and smallest in admitted
    ways = [w for w in TRAINING if w not in (short_first, halving, hyperband)]
    for search in ways:
        assert len(search(Task(tiny, equal, Limits(), 2), None, equal, Budget(evaluations=30)).log) <= len(tiny) == 6


@pytest.mark.parametrize("search", [*TRAINING, most_macs, largest_resolution])
def test_a_limit_that_admits_nothing_is_an_error(search, table, quarter, full):
    with pytest.raises(DansError, match="no system of this space meets the RAM limit"):
        task = table.task((Limits(), Limits(arena_bytes=1000)))
        search(task, None, full, Budget(evaluations=9), short=quarter)


def test_a_budget_without_room_for_one_training_is_an_error(table, quarter, full):
    for search in TRAINING:
        with pytest.raises(DansError):
            search(table.task(), None, full, Budget(cost_macs=1e6), short=quarter)
    with pytest.raises(DansError, match="the budget bounds cost, but score has none"):
        guided_search(table.task(), None, Plain(lambda s: np.zeros(len(s))), Budget(cost_macs=1e6))
    for search in (short_first, halving, hyperband):
        with pytest.raises(DansError, match="there are no short trainings"):
            search(table.task(), None, full, Budget(evaluations=9))


def test_the_first_trainings_take_every_resolution_and_all_costs(table, full):
    trial = Trial(table.task(Limits(macs=600_000)), full, Budget(evaluations=20))
    for seed in range(5):
        first = spread(trial, 8, np.random.default_rng(seed))
        assert sorted(s.data.resolution for s in first) == [24, 24, 32, 32, 48, 48, 64, 64]
        order = sorted(trial.systems, key=lambda s: (s.data.resolution, trial.costs[s].macs))
        of = {r: [s for s in order if s.data.resolution == r] for r in (24, 32, 48, 64)}
        levels = sorted(int(8 * of[s.data.resolution].index(s) / len(of[s.data.resolution])) for s in first)
        assert np.abs(np.array(levels) - np.arange(8)).max() <= 1
    assert set(spread(trial, 999, np.random.default_rng(0))) == set(trial.systems)


def test_a_batch_does_not_crowd(table, known, full):
    trial = Trial(table.task(), full, Budget(evaluations=40), batch=6)
    inputs = inputs_of(trial.systems, list(trial.costs.values()))
    at = np.arange(0, 400, 20)
    surrogate = learned(inputs, at, [known[trial.systems[i]] for i in at])
    chosen = proposed(trial, surrogate, Guide(), np.random.default_rng(0))
    assert len(set(chosen)) == 6
    trial.batch = 1
    assert proposed(trial, surrogate, Guide(), np.random.default_rng(0)) == chosen[:1]


# Simple ways, and comparing


def test_simple_ways_do_what_they_say(table, known, quarter, full):
    macs = {s: footprint(s, 2).macs for s in known}
    five = largest_first(table.task(), None, full, Budget(evaluations=99)).log
    assert systems_of(five) == sorted(known, key=lambda s: -macs[s])[:5]
    assert most_macs(table.task()).winners["macs"].iloc[0] == max(macs.values())
    largest = System.from_dict(largest_resolution(table.task(Limits(macs=400_000))).winners.iloc[0])
    able = [s for s in known if macs[s] <= 400_000 and s.data.resolution == 64]
    assert largest == max(able, key=lambda s: (s.arch.width, macs[s]))
    assert len(ridge_first(table.task(), None, full, Budget(evaluations=99)).log) == 17
    log = halving(table.task(), None, full, Budget(evaluations=40), short=quarter).log
    brief = log[log["operator"] == "short"]
    best = brief.nlargest(5, "short")
    assert len(brief) == 20 and set(systems_of(log[log["operator"] == "promoted"])) == set(systems_of(best))
    log = short_first(table.task(), None, full, Budget(evaluations=900), short=quarter).log
    assert (log["operator"] == "short").sum() == len(known) and len(log) == len(known) + 5


def test_mcunets_choice_is_the_data_configuration_with_most_macs_on_average(table, known, full):
    trial = Trial(table.task(Limits(macs=500_000)), full, Budget(evaluations=9))
    rows = pd.DataFrame([dict(data=str(s.data), macs=footprint(s, 2).macs) for s in trial.systems])
    assert str(mcunet_choice(trial)) == rows.groupby("data")["macs"].mean().idxmax()
    asked = Asked(known)
    found = mcunet_first(table.task(Limits(macs=500_000)), asked, full, Budget(evaluations=9))
    assert {str(s.data) for s in asked.asked} == {str(mcunet_choice(trial))}
    assert set(systems_of(found.log)) == set(sorted(asked.asked, key=known.get)[-5:])


def test_compare_charges_supernets_and_judges_by_lookup(table, known):
    judge = Lookup({s: macs for s in known for macs in [footprint(s, 2).macs]})
    score = Lookup(known, lambda system: 0.0)
    unit = mean_training(table.task(Limits(macs=400_000)))
    arms = {
        "guided": Arm(guided_search, {7: score}, Spent(cost_macs=2 * unit)),
        "random": random_trainings,
        "most": most_macs,
    }
    limits = [Limits(macs=400_000), LIMITS[:2]]
    found = compare(table, arms, judge, limits, budgets=(1, 6), seeds=2)
    assert (found.groupby(["arm", "budget", "limit"])["times"].sum() == 2).all() and found["limit"].nunique() == 3
    assert (found["accuracy"].dropna() == found["macs"].dropna()).all()
    one = found[found["limit"] == str(limits[0])]
    assert (one["cost_macs"] <= unit * np.maximum(one["budget"], 2) + 1).all()
    guided = one[one["arm"] == "guided"]
    assert (guided["supernet"] == 7).all() and one.loc[one["arm"] != "guided", "supernet"].isna().all()
    assert guided.loc[guided["budget"] == 1, "accuracy"].isna().all()  # the supernet alone was too dear
    assert (guided.loc[guided["budget"] == 6, "cost_macs"] > 2 * unit).all()
    assert found.loc[guided.index[guided["budget"] == 1], "why"].str.contains("takes more than|before the first").all()
    assert (found.loc[found["arm"] == "most", "trainings"] == 0).all()


def test_guided_search_knows_the_axes_of_any_front_end():
    "Of sound as of images: numbers count in doublings, words as what they are; a word that matters is found."
    from dans.cost.audio import AUDIO_SPACES, AudioSpace

    axes = AUDIO_SPACES["sound"] | dict(sample_rates=(8000, 16000), hop_mss=(20,), widths=(0.1, 0.2, 0.3))
    space = AudioSpace(**axes)
    systems = list(space)
    costs = {s: footprint(s, 4) for s in systems}
    truth = {s: 0.5 + 0.02 * math.log2(costs[s].macs / 1e4) + 0.1 * (s.data.representation == "mfcc") for s in systems}
    inputs = inputs_of(systems, list(costs.values()))
    assert inputs.image.shape == (len(systems), 3)  # rate, representation, bands
    task = Task(space, Lookup(truth, lambda system: 0.0), Limits(macs=1_000_000), 4)
    train = Lookup(truth, lambda system: float(costs[system].macs))
    found = guided_search(task, None, train, Budget(evaluations=12), guide=Guide(first=6))
    within = [s for s in systems if costs[s].macs <= 1_000_000]
    best = found.winners.iloc[0]
    assert best["representation"] == "mfcc" and best["score"] > max(map(truth.get, within)) - 0.02
    assert set(found.log["sample_rate"][found.log["operator"] == "first"]) == {8000, 16000}
