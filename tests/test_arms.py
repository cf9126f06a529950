"Arms on a table: none spends more than it may, each pays for what it uses, verdicts stand on their means."

import math
import sys
from functools import partial

import numpy as np
import optuna
import pandas as pd
import pytest

from dans.choose.arms import Arm, judged, mean_training, searched, tabled
from dans.choose.bands import costed
from dans.choose.benchmark import invented_table, load_benchmark
from dans.choose.claimed import c1, c5
from dans.choose.evidence import ABOUT, GUESSING, GUIDED, averaged, invented_searches, levels
from dans.choose.guided import Guide
from dans.choose.rank import systems_of
from dans.choose.samplers import sampled_trainings
from dans.choose.simple import largest_first, most_macs, random_trainings
from dans.choose.supernets import arms_of, every_fixed, evolved_scores, invented_scores, supernets_of
from dans.choose.task import Budget
from dans.choose.truth import AWARE
from dans.choose.verdict import cells
from dans.cost.footprint import macs
from dans.cost.limits import Limits
from dans.cost.prefixes import tree_macs
from dans.house import DansError
from dans.paper import searched as kept
from dans.paper.armed import above_rivals, counted, front_of, in_cells, regrets
from dans.paper.guidance import GRID, losses_on, means_by_budget, settled, with_value
from dans.paper.searched import all_searches, best_of, cost_of_ways, judges_of, rows_of
from dans.paper.study import Study
from dans.space import SearchSpace

LIMIT, TIGHT = Limits(macs=200_000), Limits(macs=90_000)
PASSES = 5000


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return load_benchmark(folder=invented_table(tmp_path_factory.mktemp("table"), images=50))


@pytest.fixture(scope="module")
def kinds(table):
    known = systems_of(table.systems)
    about, wide = invented_scores(known, table.score(known), training=2e12, supernets=2)
    configs = table.space.data_configs
    return {k: supernets_of(about, wide, k, PASSES, configs, table.classes) for k in ("shared", "per_config")}


@pytest.fixture(scope="module")
def arms(table, kinds):
    return arms_of(*kinds.values(), table.space.data_configs, guided=1, evolved=1)


def test_a_supernet_is_paid_for_once_and_a_tree_once_for_all(table, kinds):
    systems = systems_of(table.systems)[::7]
    for kind, nets in (("shared", 1), ("per_config", 8)):
        one = kinds[kind][100]
        training = sum(dict(one.trained.values()).values())
        assert len({net for net, _ in one.trained.values()}) == nets and training == pytest.approx(2e12)
        assert one.shared_cost(systems) == pytest.approx(training + PASSES * tree_macs(systems, 2))
        in_turn = one.in_turn(systems)
        assert in_turn.sum() == pytest.approx(training + PASSES * sum(macs(s, 2) for s in systems))
        assert in_turn[0] == one.cost(systems[0]) and (in_turn > 1e11).sum() == nets


def test_no_arm_spends_more_than_its_budget_and_all_choose_within_the_limit(table, arms):
    task = tabled(table, TIGHT, table.score(passes=PASSES))
    unit = mean_training(task)
    for name, arm in arms.items():
        found = searched(arm, table, TIGHT, (5, 20), seeds=2, passes=PASSES)
        spent = found[found["trainings"] > 0]
        assert (spent["cost_macs"] <= spent["budget"] * unit * (1 + 1e-9)).all(), name
        assert (found.groupby(["budget", "supernet"], dropna=False)["times"].sum() == (arm.seeds or 2)).all(), name
        assert found["macs"].dropna().le(TIGHT.macs).all() and (found["why"].eq("") == found["macs"].notna()).all()
        assert set(arm.scores) == set(found["supernet"]) or found["supernet"].isna().all()
    assert found["trainings"].eq(0).all() and name == "largest resolution"


def test_a_search_that_does_not_look_at_its_budget_is_run_once_for_all(table):
    how = dict(limits=LIMIT, budgets=(3, 9), seeds=3, passes=PASSES)
    once, each = (searched(Arm(random_trainings, anytime=way), table, **how) for way in (True, False))
    pd.testing.assert_frame_equal(once, each)


def test_hardware_aware_search_keeps_its_data_configuration_and_the_honest_one_pays_for_all(table, kinds, arms):
    data = table.space.data_configs[2]
    found = searched(arms[str(data)], table, LIMIT, (20,), passes=PASSES)
    assert set(zip(found["resolution"], found["color"])) == {(data.resolution, data.color)}
    task, score = tabled(table, LIMIT, table.score()), kinds["per_config"][100]
    unit = mean_training(task)
    log = every_fixed(task, score, task.score, Budget(cost_macs=40 * unit)).log
    tried = {s.data for s in systems_of(log)}
    trained = sum(task.score.cost(s) for s in systems_of(log))
    assert len(tried) > 4 and log["cost_macs"].iloc[-1] - trained > sum(score.trained[d][1] for d in tried)
    with pytest.raises(DansError, match="before the first finalist"):
        evolved_scores(task, score, task.score, Budget(cost_macs=unit))


def test_evolution_by_scores_trains_the_best_three_of_what_it_could_pay_for(table, kinds):
    task, score = tabled(table, LIMIT, table.score()), kinds["per_config"][100]
    unit = mean_training(task)
    log = evolved_scores(task, score, task.score, Budget(cost_macs=60 * unit)).log  # enough to score all
    best = sorted(task.held, key=score.said.get)[-3:]
    assert set(systems_of(log)) == set(best)


def test_a_table_that_holds_a_part_of_its_space_is_searched_in_that_part(tmp_path):
    part = load_benchmark(folder=invented_table(tmp_path, share=0.4, images=50))
    held = set(part.score().systems)
    found = searched(Arm(random_trainings, anytime=True), part, LIMIT, (5,), seeds=5)
    assert {*systems_of(found)} <= held and found["trainings"].gt(0).all()
    with pytest.raises(DansError):
        searched(Arm(largest_first), part, Limits(macs=1000))


def test_the_judge_is_the_other_seed_and_what_nobody_knows_stays_open(table):
    revealed = load_benchmark(folder=table.folder, reveal="test")
    found = searched(Arm(most_macs, seeds=1), table, LIMIT, (5,), trained=(0, 1))
    rows = judged(found, judges_of(revealed, "other"))
    (system,) = set(systems_of(found))
    for row in rows.itertuples():
        assert row.accuracy == revealed.score([system], seed=1 - row.trained, metric="test_accuracy")[0]
    fresh = judged(found, judges_of(revealed, "fresh"))["accuracy"]
    assert fresh.isna().all() == (system not in set(revealed.score(seed="fresh").systems))
    with pytest.raises(DansError, match="judge"):
        judges_of(revealed, "me")


# Means over searches


def test_means_are_those_of_all_searches_and_nothing_chosen_counts_as_guessing():
    of = dict(arm="a", data="d", limit="l", budget=5, supernet=math.nan, trained=0, cost_macs=1.0, seconds=1.0)
    system = dict(resolution=24, color="rgb", depths="00000", width=0.1, rounding="even", macs=9)
    nothing = dict.fromkeys([*system, "val_accuracy"], None)
    rows = [of | system | dict(times=3, accuracy=0.8, val_accuracy=0.9, trainings=2)]
    rows += [of | nothing | dict(times=1, accuracy=math.nan, trainings=0)]
    (row,) = averaged(pd.DataFrame(rows)).to_dict("records")
    assert row["accuracy"] == pytest.approx((3 * 0.8 + GUESSING) / 4) and row["val_accuracy"] == pytest.approx(0.9)
    assert (row["searches"], row["resolution"], row["often"], row["trainings"]) == (4, 24, 0.75, 1.5)
    unjudged = pd.DataFrame([rows[0] | dict(accuracy=math.nan), rows[1]])
    assert averaged(unjudged)["accuracy"].isna().all()
    assert averaged(pd.DataFrame(rows[1:]))[["resolution", "often"]].isna().all(axis=None)


def test_verdicts_on_means_are_those_on_single_searches():
    grid = cells(costed(SearchSpace.preset("bench"), Limits(macs=2_000_000), 2))
    counted = grid[grid["counts"]].iloc[:2]
    rows = invented_searches(counted, seeds=3, guided=0.002)
    means = averaged(rows.assign(times=1, trained=0, macs=1, trainings=1))
    assert len(means) * 3 == len(rows) and means.groupby(ABOUT, dropna=False).ngroups == len(means)
    limits = list(counted["limit"])
    for arm in (GUIDED, AWARE, "evolution"):
        pd.testing.assert_frame_equal(levels(rows, arm, limits)[0], levels(means, arm, limits)[0])
    for claim in (lambda of: c1(of, limits), lambda of: c5(of, counted)):
        assert pd.DataFrame(claim(rows))["sentence"].tolist() == pd.DataFrame(claim(means))["sentence"].tolist()


def test_cells_that_do_not_count_are_in_no_mean():
    grid = cells(costed(SearchSpace.preset("bench"), Limits(macs=2_000_000), 2)).iloc[[0, 2]]
    rows = averaged(invented_searches(grid, seeds=1).assign(times=1, trained=0, macs=1, trainings=1))
    rows.loc[rows["limit"] == grid["limit"].iloc[0], "accuracy"] = 0.5
    best = grid.assign(accuracy=0.9)
    assert counted(best) == [grid["limit"].iloc[1]] and regrets(rows, best)["accuracy"].min() > 0.6
    assert counted(best.assign(counts=False)) == counted(best.drop(columns="counts")) == list(grid["limit"])
    assert regrets(rows, best.assign(counts=False))["accuracy"].max() < 0.7


# Kept, and drawn


@pytest.fixture
def study(tmp_path):
    (tmp_path / "paper.yml").touch()
    return Study("smoke", "out", tmp_path)


def test_searches_are_kept_piece_by_piece_and_go_on(study, table, arms, kinds, monkeypatch):
    some = {name: arms[name] for name in (GUIDED, "evolution", "largest five")}
    how = dict(limits=[LIMIT, Limits(macs=60_000)], budgets=(5, 10), seeds=2)
    about, searches, done = dict.fromkeys(some, {}), kept.searched, []

    def dies(arm, *rest, **more):
        done.append(arm)
        if len(done) == 3:
            raise RuntimeError("killed")
        return searches(arm, *rest, **more)

    monkeypatch.setattr(kept, "searched", dies)
    with pytest.raises(RuntimeError, match="killed"):
        all_searches(study, table, some, about, **how)
    found = all_searches(study, table, some, about, **how)
    assert len(done) == 3 + 4
    judges = judges_of(load_benchmark(folder=table.folder, reveal="test"), "other")
    rows, best = rows_of(found, judges), best_of(table, judges, how["limits"])
    within = [int((table.systems["macs"] <= one.macs).sum()) for one in how["limits"]]
    assert rows["accuracy"].notna().all() and best["systems"].tolist() == within
    pd.testing.assert_frame_equal(rows, rows_of(all_searches(study, table, some, about, **how), judges))
    assert len(done) == 7, "nothing is searched twice"
    assert set(above_rivals(rows, best)["arm"]) == {"evolution", "largest five"}
    assert regrets(rows, best)["regret"].notna().all()
    costs = cost_of_ways(kinds["shared"], table).groupby("way")["each_seconds"].mean()
    assert costs["tree"] < costs["list"] < costs["training"]


def test_constants_leave_their_defaults_only_where_that_wins(study, table, kinds, monkeypatch):
    def loss(metric, guide):
        return pd.Series({5: 0.02 - 0.0005 * (guide.first == 6), 40: 0.01 + 0.02 * (guide.power - 0.5) ** 2})

    metric, guide, rows = settled(loss, grid={name: GRID[name] for name in ("first", "power")})
    assert (metric, guide.first, guide.power) == ("accuracy", 10, 0.5), "a twentieth of a point, mean over budgets"
    assert rows.groupby("constant")["taken"].sum().eq(1).all()
    metric, guide, _ = settled(lambda *of: 10 * loss(*of), grid={name: GRID[name] for name in ("first", "power")})
    assert (guide.first, guide.power) == (6, 0.5)
    metric, guide, _ = settled(lambda *of: loss(*of) / 10, grid={name: GRID[name] for name in ("first", "power")})
    assert guide == Guide(), "what is forgiven counts as nothing"
    with pytest.raises(DansError, match="constant"):
        with_value(Guide(), "fist", 1)
    monkeypatch.setattr("dans.paper.guidance.supernets_in", lambda *of: kinds)
    judges = judges_of(load_benchmark(folder=table.folder, reveal="test"), "table", (0,))
    how = dict(limits=[Limits(macs=60_000)], trained=(0,))
    rivals = all_searches(study, table, {"most": Arm(most_macs, seeds=1)}, dict(most={}), **how)
    found = losses_on(study, table, judges, means_by_budget(rows_of(rivals, judges)), **how)("accuracy", Guide())
    assert list(found.index) == [5, 10, 20, 40] and np.isfinite(found).all()


def test_a_front_holds_what_nothing_smaller_equals():
    systems = pd.DataFrame(dict(macs=[1, 2, 2, 3, 4], accuracy=[0.5, 0.7, 0.6, 0.7, 0.8]))
    assert front_of(systems, "macs").index.tolist() == [0, 1, 4]


# Optuna


def test_a_sampler_is_told_what_trainings_came_to_and_pays_for_each_once(table, monkeypatch):
    told = []
    tell = optuna.study.Study.tell
    monkeypatch.setattr(optuna.study.Study, "tell", lambda self, *of: (told.append(of[1:]), tell(self, *of))[1])
    task = tabled(table, LIMIT, table.score())
    budget = Budget(cost_macs=8 * mean_training(task))
    log = sampled_trainings(task, None, task.score, budget, asks=60).log
    systems = systems_of(log)
    assert len(set(systems)) == len(systems) and log["cost_macs"].iloc[-1] <= budget.cost_macs
    values = [of[0] for of in told if len(of) == 1]
    failed = (None, optuna.trial.TrialState.FAIL)
    assert set(values) == set(log["score"]) and all(of == failed for of in told if len(of) > 1)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(DansError, match="Optuna is not installed"):
        partial(sampled_trainings, sampler="TPESampler")(task, None, task.score, budget)


def test_a_sampler_that_comes_back_to_what_it_knows_is_given_systems(table):
    task = tabled(table, LIMIT, table.score())
    budget = Budget(cost_macs=20 * mean_training(task))
    alone, log = (sampled_trainings(task, None, task.score, budget, asks=150, idle=n).log for n in (150, 5))
    assert set(alone["operator"]) == {"TPESampler"} and set(log["operator"]) == {"TPESampler", "given"}
    assert len(log) > len(alone) and log["cost_macs"].iloc[-1] <= budget.cost_macs
    assert len(set(systems_of(log))) == len(log)
    twice = Budget(cost_macs=2 * budget.cost_macs)
    longer = sampled_trainings(task, None, task.score, twice, asks=150, idle=5).log
    begins = longer.iloc[: len(log)].drop(columns="seconds")
    pd.testing.assert_frame_equal(begins, log.drop(columns="seconds"))


def test_a_grid_says_what_is_chosen_and_what_it_gains_on_one_fixed_configuration():
    of_grid = cells(costed(SearchSpace.preset("bench"), Limits(macs=2_000_000), 2))
    of_grid = of_grid[of_grid["counts"]]
    searches = invented_searches(of_grid, gain=0.03, noise=0.0).assign(times=1, trained=0, macs=5e5, trainings=20)
    found = in_cells(averaged(searches), of_grid)
    assert set(found["limit"]) == set(of_grid["limit"]) and found["fixed"].nunique() == 1
    assert 2 < found["gain"].mean() < 4 and set(found["color"]) == {"rgb"}
    assert sorted(found["macs"].unique()) == pytest.approx(sorted(of_grid["macs"].unique()), rel=1e-3)
