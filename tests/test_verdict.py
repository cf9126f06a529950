"The rules that judge the claims: invented studies are judged as they should be."

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from dans.choose import claimed, evidence, verdict
from dans.choose.bands import costed
from dans.choose.claimed import c1, c2, c3, c4, c5, doses, table_of_claims
from dans.choose.evidence import HALVING, difference_of, invented_searches, levels, without_supernets
from dans.choose.stats import sign_flip
from dans.choose.truth import AWARE, Noise
from dans.choose.verdict import CLAIMS, COLUMNS, MISSING, NOT_TESTED, PRIMARY, REPLICATION, WORDS
from dans.cost.limits import Limits
from dans.house import DansError
from dans.paper.study import Study
from dans.space import SearchSpace

SYSTEMS = costed(SearchSpace.preset("bench"), Limits(macs=2_000_000), 2)
GRID = verdict.cells(SYSTEMS)
COUNTED = list(GRID[GRID["counts"]]["limit"])
STUDIES = 150


@pytest.fixture
def searches():
    return invented_searches(GRID, guided=0.01, seeds=1)


def share(words, word):
    return words.count(word) / len(words)


def played(effect, noise, comparisons=8, studies=STUDIES, **how):
    "The verdicts on invented studies: differences of 8 supernets, of as many comparisons, with our own luck in all."
    rng, words = np.random.default_rng(1), []
    for _ in range(studies):
        ours, theirs = rng.normal(0, noise, (8, 1)), rng.normal(0, noise, (8, comparisons))
        d = pd.DataFrame(effect + ours - theirs, columns=[str(i) for i in range(comparisons)])
        words.append(verdict.decides(d, **how)["verdict"])
    return words


# The test and its interval


def test_one_sided_p_is_half_of_the_two_sided_one():
    for seed in range(20):
        d = np.random.default_rng(seed).normal(0.5, 1, 7)
        assert verdict.flipped(np.abs(d.mean()) + d - d.mean())["p"] == pytest.approx(
            sign_flip(np.abs(d.mean()) + d - d.mean()) / 2
        )


def test_the_interval_holds_the_effects_that_the_test_does_not_reject():
    d = np.random.default_rng(0).normal(1, 1, 8)
    found = verdict.flipped(d)
    for end, key in ((found["low"], "p"), (found["high"], "p_below")):
        inside = 1 if key == "p" else -1
        assert verdict.flipped(d, end + inside * 1e-6)[key] > 0.05 >= verdict.flipped(d, end - inside * 1e-6)[key]


def test_intervals_hold_the_truth_as_often_as_they_say():
    found = [verdict.flipped(np.random.default_rng(s).normal(0, 1, 8)) for s in range(1000)]
    assert np.mean([f["low"] <= 0 <= f["high"] for f in found]) == pytest.approx(0.9, abs=0.03)


def test_few_units_have_no_interval_and_no_visible_effect():
    found = verdict.flipped([0.1, 0.2, 0.3, 0.4])
    assert (found["low"], found["high"], found["smallest"]) == (-math.inf, math.inf, math.inf)
    assert verdict.verdict(found) == "not visible"
    with pytest.raises(DansError, match="average seeds first"):
        verdict.flipped(np.ones(20))
    with pytest.raises(DansError, match="1 of 2 differences are numbers"):
        verdict.flipped([1.0, np.nan])


def test_an_effect_of_the_smallest_visible_size_is_seen_as_often_as_it_says():
    rng, size = np.random.default_rng(2), verdict.visible(8)
    seen = [verdict.flipped(rng.normal(size, 1, 8))["p"] <= 0.05 for _ in range(500)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


# Calibration


@pytest.mark.parametrize("comparisons", [1, 8, 40])
def test_without_an_effect_nothing_is_supported_and_nothing_opposite(comparisons):
    words = played(0.0, 0.01, comparisons, studies=STUDIES if comparisons < 40 else 60)
    assert share(words, "supported") <= 0.09 and share(words, "opposite") <= 0.09


def test_at_the_edge_of_what_is_forgiven_support_is_as_rare():
    assert share(played(-0.005, 0.01, 1, least=-0.005, margin=0.0), "supported") <= 0.08


def test_two_points_are_nearly_always_seen():
    assert share(played(0.02, 0.006), "supported") >= 0.95
    assert share(played(-0.02, 0.006), "opposite") >= 0.95


def test_an_opponent_that_is_better_among_many_is_found():
    rng = np.random.default_rng(3)
    d = pd.DataFrame(rng.normal(0.01, 0.005, (8, 40)), columns=[str(i) for i in range(40)])
    d["7"] -= 0.04
    found = verdict.decides(d, -0.005, 0.0)
    assert (found["verdict"], found["against"]) == ("opposite", "7")


def test_tiny_effects_with_little_noise_are_equivalent():
    assert share(played(0.001, 0.003, 1), "equivalent") >= 0.95


def test_much_noise_is_not_visible():
    assert share(played(0.0, 0.05), "not visible") >= 0.8


# Claims from rows


def test_the_grid_counts_cells_where_no_configuration_is_empty():
    assert set(GRID["fewest"] >= 5) == {True, False} and (GRID["counts"] == (GRID["fewest"] >= 5)).all()
    few = SYSTEMS[SYSTEMS["resolution"] < 64]
    assert not verdict.cells(SYSTEMS, few)["counts"].any()
    assert list(verdict.cells(SYSTEMS, few)["limit"]) == list(GRID["limit"])


def test_search_seeds_are_never_units(searches):
    found = difference_of(levels(searches, AWARE, COUNTED), levels(searches, HALVING, COUNTED))
    many = pd.concat([searches, searches.assign(search_seed=lambda df: df["search_seed"] + 2)])
    again = difference_of(levels(many, AWARE, COUNTED), levels(many, HALVING, COUNTED))
    assert len(found) == 8 and np.allclose(found, again)


def test_who_has_chosen_nothing_guesses_and_where_nobody_has_there_is_no_comparison(searches):
    early = searches["budget"] == 5
    none = searches.assign(resolution=searches["resolution"].mask(early), accuracy=searches["accuracy"].mask(early))
    assert difference_of(levels(none, AWARE, COUNTED, 5), levels(none, "32px-rgb", COUNTED, 5)) is None
    assert c2(none, COUNTED)[0]["verdict"] == "supported"
    late = searches.copy()
    late.loc[early & (late["arm"] == AWARE), ["resolution", "accuracy"]] = np.nan
    assert c2(late, COUNTED)[0]["verdict"] == "opposite" and c1(late, COUNTED)[0]["verdict"] == "supported"


def test_a_choice_that_nobody_judged_is_an_error(searches):
    searches.loc[0, "accuracy"] = np.nan
    with pytest.raises(DansError, match="1 choices of 24px-rgb at budget 5 are not judged"):
        levels(searches, "24px-rgb", list(GRID["limit"]), 5)


def test_supernets_must_pair(searches):
    rows = searches[(searches["arm"] != "32px-rgb") | (searches["supernet"] != 3)]
    with pytest.raises(DansError, match="do not pair"):
        c1(rows, COUNTED)


@pytest.mark.parametrize("claim", [c1, c2])
def test_c1_and_c2_ask_for_every_fixed_one(claim):
    assert claim(invented_searches(GRID, gain=0.02, seeds=1), COUNTED)[0]["verdict"] == "supported"
    assert claim(invented_searches(GRID, gain=0.0, seeds=1), COUNTED)[0]["verdict"] != "supported"
    rows = invented_searches(GRID, gain=0.02, seeds=1)
    rows.loc[rows["arm"] == "48px-rgb", "accuracy"] += 0.03
    found = claim(rows, COUNTED)[0]
    assert found["verdict"] != "supported" and ("48px-rgb" in found["against"] or "best" in found["against"])


def test_c1_is_not_supported_where_hindsight_is_too_far_above():
    rows = invented_searches(GRID, gain=0.02, seeds=1)
    cell = dict(zip(COUNTED, [f"{r}px-{c}" for r in (24, 32, 48, 64) for c in ("rgb", "mono")] * 2))
    best = [cell.get(limit) == arm for limit, arm in zip(rows["limit"], rows["arm"])]
    rows.loc[best, "accuracy"] += 0.05  # each is best somewhere, and none is good everywhere
    found = c1(rows, COUNTED)[0]
    assert found["against"] == claimed.HINDSIGHT_ARM and found["verdict"] == "opposite"


def test_c3_asks_for_a_change(searches):
    assert c3(searches, GRID)[0]["verdict"] == "supported"
    assert c3(searches.assign(resolution=48), GRID)[0]["verdict"] == "equivalent"


def trainings(rises, control):
    rng, rows = np.random.default_rng(0), []
    for dose, best in ((0.0, 24), (0.3, 32), (0.6, 48), (math.nan, None)):
        for r, width, seed in ((r, w, s) for r in (24, 32, 48) for w in (0.1, 0.2, 0.3) for s in (0, 1)):
            off = 0.04 * (rises and best not in (None, r)) - control * (best is None and r == 48)
            system = dict(resolution=r, color="rgb", depths="11100", width=width, rounding="even")
            rows.append(dict(share=dose, **system, seed=seed, accuracy=0.8 - off + rng.normal(0, 0.004)))
    return pd.DataFrame(rows)


def test_doses_and_control():
    assert [r["verdict"] for r in doses(trainings(True, 0.0))] == ["supported", "equivalent"]
    assert doses(trainings(False, 0.0))[0]["verdict"] == "not visible"
    rows = pd.DataFrame(doses(trainings(True, 0.03)))
    assert verdict.word_of(rows) == "opposite"


def costs(tree=0.2):
    nets = [dict(supernet=n, once_seconds=1500) for n in range(8)]
    rows = [net | dict(way=way, each_seconds=s) for net in nets for way, s in (("tree", tree), ("list", 2.5))]
    return pd.DataFrame([*rows, dict(supernet=None, way="training", once_seconds=0, each_seconds=80)])


def test_c4_charges_the_supernet_at_both_sizes(searches):
    small, large, accuracy = c4(searches, COUNTED, costs())
    assert small["effect"] == pytest.approx(80 / (1500 / 440 + 0.2)) and small["verdict"] == "supported"
    assert large["effect"] == pytest.approx(80 / (1500 / 37_520 + 0.2)) and large["wanted"] == ""
    assert accuracy["verdict"] == "supported"
    assert c4(searches, COUNTED, costs(20.0))[0]["verdict"] == "opposite"
    assert c4(searches, COUNTED)[0]["verdict"] == MISSING


def test_c5_forgives_half_a_point_and_no_more():
    assert c5(invented_searches(GRID, guided=0.005, noise=0.002, seeds=1), GRID)[0]["verdict"] == "supported"
    assert c5(invented_searches(GRID, gain=0.0, guided=-0.02, noise=0.002, seeds=1), GRID)[0]["verdict"] == "opposite"


def test_c5_leaves_out_cells_where_one_could_train_nearly_all(searches):
    small = set(GRID[GRID["systems"] <= 160]["limit"])
    assert small
    rows = searches.copy()
    rows.loc[rows["limit"].isin(small) & (rows["arm"] == "guided"), "accuracy"] = 0.1
    assert c5(rows, GRID) == c5(searches, GRID)


def test_without_supernets_the_truth_is_drawn_again(searches):
    rng, rows = np.random.default_rng(0), searches[searches["arm"].isin(["evolution", HALVING])].copy()
    rows["resolution"] = np.where(rows["arm"] == HALVING, 32, 64)
    one, other = (evidence.systems_of(rows[rows["resolution"] == r])[0] for r in (32, 64))
    answers = {one: (rng.random(500) < 0.8) * 1.0, other: (rng.random(500) < 0.7) * 1.0}
    means, n = {one: 0.8, other: 0.7}, {one: 4, other: 4}
    fresh = SimpleNamespace(means=means, trainings=n, answers=answers, groups=None, noise=Noise(0.01, 9, 0, 1))
    found = without_supernets(rows, HALVING, "evolution", fresh, COUNTED)
    assert found["effect"] == pytest.approx(0.1) and found["low"] < 0.1 < found["high"]
    assert without_supernets(rows, HALVING, HALVING, fresh, COUNTED)["effect"] == 0
    with pytest.raises(DansError, match="neither of two"):
        difference_of(levels(rows, HALVING, COUNTED), levels(rows, "evolution", COUNTED))


@pytest.mark.parametrize(
    ("effect", "said"), [(0.009, "0.9 points above"), (-0.009, "0.9 points below"), (0, "level with")]
)
def test_a_sentence_says_above_or_below(effect, said):
    found = verdict.flipped(np.full(8, effect)) | dict(against="48px-rgb", verdict="not visible")
    row = evidence.as_row(found, "C1", PRIMARY, "equal cost", "Data-aware search is {apart} {against}, by {by}")
    assert f"Data-aware search is {said} 48px-rgb, by {100 * effect:.1f} points (90 %" in row["sentence"]


def test_a_claim_tells_how_much_of_an_equal_budget_was_spent(searches):
    rows = searches.copy()
    rows.loc[rows["arm"] == AWARE, "cost_macs"] *= 2.5
    row = c1(rows, COUNTED)[0]
    assert row["spent"] == pytest.approx(2.5) and row["sentence"].endswith("it spent 2.5 times as much.")
    row = c1(searches, COUNTED)[0]
    assert row["spent"] == 1 and "it spent" not in row["sentence"]
    assert math.isnan(claimed.times_spent(searches.drop(columns="cost_macs"), COUNTED, AWARE, "48px-rgb"))
    assert c4(rows, COUNTED)[-1]["spent"] == pytest.approx(2.5)


def test_seconds_of_supernets_are_those_that_were_measured():
    ways = dict(training=1.0, supernet=3.0, tree=2.0, list=5.0)
    pace = pd.DataFrame([dict(repeat=i, way=way, seconds=s, macs=1e9) for way, s in ways.items() for i in range(3)])
    small, measured = costs(), claimed.paced(costs(), pace)
    assert (measured[measured["way"] == "training"]["each_seconds"] == 80).all()
    tree = measured["way"] == "tree"
    assert (measured[tree]["once_seconds"] == 4500).all() and measured[tree]["each_seconds"].tolist() == [0.4] * 8
    assert small["once_seconds"].max() == 1500, "rows that were given stay as they are"
    rate = claimed.candidates_an_hour(measured, 440).loc[0, "tree"]
    assert rate == pytest.approx(440 * 3600 / (4500 + 440 * 0.4))


def test_beside_c1_stands_its_second_condition(searches):
    claim, beside = c1(searches, COUNTED)
    assert (beside["part"], beside["wanted"], beside["verdict"]) == ("hindsight", "", "supported")
    assert len(c2(searches, COUNTED)) == 1 and "second condition alone" in beside["sentence"]


def test_beyond_the_grid_only_those_count_that_have_chosen(searches):
    left = list(GRID[~GRID["counts"]]["limit"])
    rows = searches.copy()
    none = (rows["limit"] == left[0]) & rows["arm"].isin(["48px-rgb", "64px-rgb", "64px-mono"])
    rows.loc[none, "resolution"] = np.nan
    found = claimed.beyond_the_grid(rows, GRID).set_index("limit")
    assert found.loc[left[0], "fixed"] == 5 and (found.loc[left[1:], "fixed"] == 8).all()


# The table


def test_the_table_has_every_claim_and_says_what_is_missing(searches):
    empty = table_of_claims({}, SYSTEMS)
    assert list(empty) == COLUMNS and set(empty["verdict"]) == {MISSING} and set(empty["claim"]) == set(CLAIMS)
    of = {PRIMARY: searches, REPLICATION: searches.assign(data=REPLICATION)}
    every = pd.concat([costs().assign(data=name) for name in of])
    table = table_of_claims(of, SYSTEMS, costs=every, trainings=trainings(True, 0.0))
    assert set(table["verdict"]) <= {*WORDS} and (table["sentence"].str.len() > 40).all()
    told = table[table["effect"].notna()]
    said = [f"{x:.2f}" if unit == "octaves" else f"{x:.1f}" for x, unit in zip(told["effect"].abs(), told["unit"])]
    assert all(x in row or "level with" in row for x, row in zip(said, told["sentence"]))
    assert verdict.word_of(table[(table["claim"] == "C3") & (table["data"] == REPLICATION)]) == "supported"
    with pytest.raises(DansError, match="no column 'supernet'"):
        table_of_claims({PRIMARY: searches.drop(columns="supernet")}, SYSTEMS)


def test_the_first_that_fails_ends_the_test_on_photographs_alone():
    rows = invented_searches(GRID, gain=0.0, guided=0.03, seeds=1)
    table = table_of_claims({n: rows.assign(data=n) for n in (PRIMARY, REPLICATION)}, SYSTEMS)
    first = table[(table["data"] == PRIMARY) & (table["wanted"] != "") & (table["verdict"] != MISSING)]
    assert first["verdict"].iloc[0] != "supported" and set(first["verdict"].iloc[1:]) == {NOT_TESTED}
    assert first["sentence"].iloc[-1].endswith("since C1 was not supported on animals.")
    assert NOT_TESTED not in set(table[table["data"] == REPLICATION]["verdict"])
    assert first["effect"].notna().all()  # they are shown all the same


# The notebooks

ROOT = Path(__file__).parent.parent
PAGES = [*(f"claim_{n}" for n in range(1, 6)), "tab_claims"]


def test_the_manifest_has_the_claims_as_they_are_tested():
    assert yaml.safe_load((ROOT / "paper.yml").read_text(encoding="utf-8"))["claims"] == CLAIMS


def sources(page):
    cells = json.loads((ROOT / f"nbs/paper/{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "A checkout with what was known before any search: what systems cost."
    writes = "benchmark/systems, arms/animals, arms/animals-costs, arms/doses"
    runs = f"items: {{run_bands: {{notebook: a.ipynb, title: A, writes: [{writes}]}}}}"
    (tmp_path / "paper.yml").write_text(runs)
    monkeypatch.chdir(tmp_path)
    study = Study("cpu")
    study.write("benchmark/systems", SYSTEMS)
    return study


def run(page):
    "What the cells of a notebook leave behind."
    names = {}
    for kind, source in sources(page):
        if kind == "code":
            exec(source.replace("Markdown(after", "said = (after").replace("Markdown(before", "asked = (before"), names)
    return names


@pytest.mark.parametrize("page", PAGES[:5])
def test_a_page_opens_with_its_claim_and_states_the_test_before_the_result(page):
    claim = f"C{page[-1]}"
    (_, title), *rest = sources(page)
    assert title.endswith(f"> {CLAIMS[claim]}")
    order = [source for _, source in rest]
    places = [
        next(i for i, s in enumerate(order) if word in s) for word in (f'before("{claim}"', "drawn_of(", "after(")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize("page", ["claim_1", "tab_claims"])
def test_pages_say_that_rows_are_missing(checkout, page, capsys):
    names = run(page)
    assert set(names["table"]["verdict"]) == {MISSING}
    assert "its rows are missing" in names.get("said", "") + capsys.readouterr().out
    assert list(checkout.figures.glob("*_claim*.csv"))


def test_doses_say_something_when_all_are_there(checkout):
    from dans.paper.verdicts import evidence_of

    rows = pd.DataFrame(dict(share=[0.0], seed=[0]))
    for trained in (1, 2):
        checkout.write("arms/doses", rows, planned=2, trained=trained)
        assert (evidence_of(checkout)["trainings"] is not None) == (trained == 2)


def test_pages_with_rows_are_filled(checkout, searches, capsys):
    checkout.write("arms/animals", searches.round(5))
    checkout.write("arms/animals-costs", costs().assign(data=PRIMARY))
    for page in ("claim_3", "claim_5", "tab_claims"):
        names = run(page)
        if page != "tab_claims":
            assert "supported" in names["said"] and "Smallest visible effect" in names["asked"]
            assert (checkout.figures / f"fig_{page}.png").is_file()
    assert len(pd.read_csv(checkout.figures / "tab_claims.csv")) == len(names["table"])


def test_the_table_of_claims_is_made_once_for_equal_rows(monkeypatch):
    from dans.paper import verdicts

    made = []
    monkeypatch.setattr(verdicts, "table_of_claims", lambda **evidence: made.append(evidence) or SYSTEMS)
    monkeypatch.setattr(verdicts, "_made", {})
    searches = pd.DataFrame(dict(budget=[5, 10], value=[0.5, np.nan], name=["a", "b"]))
    for rows in (
        searches,
        searches.copy(),
        searches[::-1],
        searches.assign(value=0.5),
        searches[["value", "budget", "name"]],
    ):
        verdicts.claims_of(dict(searches=dict(animals=rows), costs=None))
    assert len(made) == 4
