"Claims: every maker raw and corrected, targets and their verdicts, and the sentences that are made of them."

import numpy as np
import pandas as pd
import pytest
from make_study import SCORES, TRUTH, study

from dans.paper.claims import CORRECTIONS, asked, finding, rank_table, sentence, summary, targets, told, variant, worth


@pytest.mark.parametrize("systems", [1, 2, 4])
def test_a_plateau_of_few_systems_leaves_all_else_as_it_is(systems):
    longer = TRUTH[TRUTH["set"] == "judging"].iloc[: 2 * systems].assign(set="long")
    found = summary(pd.concat([TRUTH, longer]), SCORES, draws=20).targets.set_index("maker")
    assert found.loc["trained longer", "met"] is (True if systems > 1 else None)
    assert found.loc["the same again", "met"] is None and found.loc["shared", "value"].notna().all()


def test_summary_has_every_maker_raw_and_corrected_and_every_verdict():
    guess = SCORES[(SCORES["maker"] == "shared") & (SCORES.supernet == 0)].assign(
        maker="proxy", score=lambda df: 1 / df.width
    )
    rows = pd.concat([TRUTH, TRUTH[TRUTH["set"] == "judging"].iloc[:20].assign(set="long")])
    found = summary(rows, pd.concat([SCORES, guess]), limits=[1e6], draws=100)
    makers = set(found.points["maker"])
    modes = {"shared", "per_config", "largest_only"}
    assert makers == modes | {f"{m}, corrected" for m in modes} | {"macs", "parameters", "proxy", "no score, corrected"}
    assert set(found.statistics["at"]) >= {"", "macs<=1000000", "ending=2", "resolution=32", "width=0.1"}
    assert found.targets.set_index("maker")["met"].drop("the same again").notna().all() and len(found.targets) == 14
    assert (
        found.costs["no score, corrected"] == 16 * 2 * 10
        and np.isnan(found.costs["shared"])
        and found.costs["macs"] == 0
    )
    value = found.statistics.set_index(["maker", "statistic", "at"])["value"]
    assert value["shared, corrected - macs", "tau", ""] == pytest.approx(
        value["shared, corrected", "tau", ""] - value["macs", "tau", ""]
    )
    assert (found.statistics.dropna()["low"] <= found.statistics.dropna()["high"]).all()
    assert len(found.points) == len(makers) * 40 and set(found.components["of"]) == modes | {"accuracy"} | {
        f"{m}, corrected" for m in modes
    }
    table = rank_table(found.statistics)
    assert set(table["maker"]) == makers | {"ceiling"} and table.shape[1] == 6


def test_summary_of_single_trainings_and_one_mode_says_what_cannot_be_told():
    truth, scores = study(trainings=1, supernets=1)
    found = summary(truth, scores[scores["maker"] == "shared"], draws=20)
    unknown = found.targets[found.targets["met"].isna()]["target"]
    assert len(found.components) == 0 and "ceiling" not in set(found.statistics["maker"])
    assert len(unknown) == 6 and unknown.str.contains("longer|noise alone|per_config|largest_only").all()


def test_fewer_fitted_systems_widen_the_interval_of_a_corrected_score():
    def width(name):
        truth = TRUTH[(TRUTH["set"] != "choosing") | TRUTH.depths.isin(name)]
        table = summary(truth, SCORES[SCORES["maker"] == "shared"], draws=200).statistics
        return table[(table["maker"] == "shared, corrected") & (table.statistic == "tau")].eval("high - low").iloc[0]

    few = TRUTH[TRUTH["set"] == "choosing"].depths.unique()
    assert width(few[:5]) > width(few)


def test_corrections_on_several_sets_are_fitted_costed_and_judged_apart():
    short = TRUTH[(TRUTH["set"] == "choosing") & (TRUTH.seed == 0)].assign(set="short", cost_macs=2.0)
    both = {"corrected": "choosing", "corrected cheaply": "short"}
    found = summary(pd.concat([TRUTH, short]), SCORES, fitted_on=both, draws=20)
    alone = summary(TRUTH, SCORES, draws=20)
    value, other = (f.statistics.set_index(["maker", "statistic", "at"])["value"] for f in (found, alone))
    assert (
        value["shared, corrected", "tau", ""]
        == other["shared, corrected", "tau", ""]
        != value["shared, corrected cheaply", "tau", ""]
    )
    assert (found.costs["no score, corrected"], found.costs["no score, corrected cheaply"]) == (320, 32)
    assert len(found.targets) - len(alone.targets) == 6 and found.targets.maker.str.contains("cheaply").sum() == 6
    assert "shared, corrected - shared, corrected cheaply" in set(found.statistics["maker"])


def test_what_is_left_uncorrected_is_judged_as_it_is():
    found = summary(TRUTH, SCORES, uncorrected=["per_config"], draws=20)
    assert {m for m in found.points["maker"] if m.startswith("per_config")} == {"per_config"}


def test_costs_add_networks_tuning_and_fitted_trainings():
    rows = SCORES[SCORES["maker"].isin(["shared", "largest_only"])].assign(
        net=lambda df: np.where(df["maker"] == "shared", "all", df.resolution.astype(str)),
        cost_macs=100.0,
        tuning_macs=lambda df: np.where(df["maker"] == "shared", 0, 1),
    )
    found = summary(TRUTH, rows, draws=20)
    nets = rows.resolution.nunique()
    assert found.costs[["shared", "largest_only"]].tolist() == [100, 100 * nets + 40], "only what is ranked is tuned"
    assert found.costs["largest_only, corrected"] == 100 * nets + 56 + 16 * 2 * 10
    assert found.costs["shared, corrected"] == 100 + 16 * 2 * 10
    assert rank_table(found.statistics, found.costs).set_index("maker").loc["shared, corrected", "cost"] == "4.20"


def rows_of(*found):
    df = pd.DataFrame(found, columns=["maker", "statistic", "value", "low", "high"])
    return df.assign(at=np.where(df.statistic == "loss", "worst", ""))


@pytest.mark.parametrize(
    "target, found, met",
    [
        ("tau at least 0.8", [("shared", "tau", 0.81, 0.7, 0.9)], True),
        ("tau at least 0.8", [("shared", "tau", 0.79, 0.7, 0.9)], False),
        ("tau at least 0.8", [("shared", "tau", 0.75, 0.7, 0.9), ("ceiling", "tau", 0.8, 0.74, 0.9)], True),
        ("tau at least 0.8", [("shared", "tau", 0.85, 0.7, 0.9), ("ceiling", "tau", 0.95, 0.9, 0.99)], True),
        ("matched tau", [("shared", "matched_tau", 0.49, 0.1, 0.9)], False),
        ("that of MACs", [("shared - macs", "tau", 0.16, -0.1, 0.3)], True),
        ("decision loss", [("shared", "loss", 0.02, 0, 0.03)], False),
        ("decision loss", [("shared", "loss", 0.005, 0, 0.02)], True),
        ("per_config", [("shared - per_config", "tau", -0.01, -0.1, 0.1)], False),
        ("largest_only", [("shared - largest_only", "tau", 0.2, -0.01, 0.3)], False),
        ("largest_only", [("shared - largest_only", "tau", 0.2, 0.01, 0.3)], True),
        ("longer", [("trained longer", "plateau", 0.91, 0.5, 1)], True),
    ],
)
def test_verdicts(target, found, met):
    df = targets(rows_of(*found))
    row = df[df.target.str.contains(target) & df.maker.isin([f[0] for f in found])]
    assert len(row) == 1 and row["met"].iloc[0] is met


def test_what_is_asked_is_a_table_and_all_makers_are_corrected_alike():
    raw, mended = (asked(by, ["largest_only"], 0.8) for by in ("", "mended"))
    assert [t.target for t in raw] == [t.target for t in mended] and len(raw) == 6
    assert {t.maker for t in raw} == {"shared", "shared - macs", "shared - per_config", "shared - largest_only"}
    assert {t.maker for t in mended} == {
        "shared, mended",
        "shared, mended - macs",  # MACs have no correction
        "shared, mended - per_config, mended",
        "shared, mended - largest_only, mended",
    }
    assert variant("shared") == "shared" and variant("shared", "mended") == "shared, mended"


def test_every_rival_is_to_be_beaten_and_one_is_asked_for_where_there_is_none():
    found = targets(rows_of(("shared - largest_only_b", "tau", 0.1, 0.1, 0.2), ("largest_only_b", "tau", 0, 0, 0)))
    assert found[found.target.str.contains("clearly")].maker.tolist() == ["shared - largest_only_b"]
    found = targets(rows_of(("shared", "tau", 0.9, 0.8, 1)))
    assert found[found.target.str.contains("clearly")].maker.tolist() == ["shared - largest_only"]


# In words


@pytest.mark.parametrize(
    "row, said",
    [
        (dict(target="a", statistic="tau", value=0.5, low=0.123, high=0.9, met=True), "a: met, 0.50 (0.12 to 0.90)"),
        (dict(target="a", statistic="tau", value=-0.5, low=-1, high=0, met=False), "a: missed, -0.50 (-1.00 to 0.00)"),
        (
            dict(target="a", statistic="loss", value=0.018, low=0, high=0.07, met=False),
            "a: missed, 1.8 (0.0 to 7.0) points",
        ),
        (
            dict(target="a", statistic="plateau", value=0.9, low=0.8, high=1, met=None),
            "a: without verdict, 0.90 (0.80 to 1.00)",
        ),
        (
            dict(target="a", statistic="tau", value=np.nan, low=np.nan, high=np.nan, met=None),
            "a: cannot be told, the rows are not there",
        ),
    ],
)
def test_a_sentence_says_the_verdict_and_what_was_reached(row, said):
    assert sentence(row) == said


def test_sentences_are_the_same_of_rows_that_were_written_and_read(tmp_path):
    found = summary(TRUTH, SCORES, draws=20).targets
    found.to_csv(tmp_path / "targets.csv", index=False)
    again = pd.read_csv(tmp_path / "targets.csv")
    assert [*map(sentence, again.to_dict("records"))] == [*map(sentence, found.to_dict("records"))]


def test_numbers_are_told_with_sign_unit_and_interval():
    row = dict(value=0.1234, low=-0.02, high=0.3)
    assert told(row) == "0.12 (-0.02 to 0.30)" and told(row, sign="+") == "+0.12 (-0.02 to +0.30)"
    assert told(row, 1, factor=100) == "12.3 (-2.0 to 30.0)"


def ranked(**gaps):
    "Statistics of `shared` and others: `gaps` is what it is above each of them, with low and high."
    makers = [variant(m, by) for m in ("shared", "no score") for by in ("", *CORRECTIONS)] + ["ceiling"]
    rows = [(maker, "tau", 0.5, 0.4, 0.6) for maker in makers if maker != "no score"]
    rows += [(f"shared - {other.replace('_and_', ', ')}", "tau", *gap) for other, gap in gaps.items()]
    return rows_of(*rows)


GAPS = {
    "per_config": (0.1, 0.05, 0.2),
    "largest_only_recalibrated": (0.1, -0.1, 0.2),
    "macs": (-0.1, -0.2, -0.05),
    "proxy": (0.0, -0.1, 0.1),
    "no score, short-corrected": (0.2, 0.1, 0.3),
}
COSTS = pd.Series({"shared": 10.0} | dict.fromkeys(GAPS, 0.0) | {"no score, short-corrected": 15.0})


def test_a_finding_falls_the_way_the_intervals_do():
    said = finding("toy", ranked(**GAPS), COSTS, {})
    assert said.startswith(
        "On toy, raw scores of a shared supernet rank systems with tau 0.50 (0.40 to 0.60), where 0.50"
    )
    better = "this is better than one supernet for each data configuration and a correction without any score, "
    short = "fitted to short trainings of the systems for choosing (these cost 1.50 times what the supernet does)"
    assert f"{better}{short}; " in said
    assert "; this is not distinguishable from fine-tuned parts of a largest network and the proxy; " in said
    assert "; this is worse than a count of MACs; " in said
    assert "one training of each" not in said and "times the cost raw" not in said and said.endswith("0.50 and 0.50.")


def test_a_finding_tells_budgets_and_the_yardstick_where_they_are_there():
    cheaper = rows_of(("shared x 0.25", "tau", 0.3, 0.2, 0.4), ("shared x 0.5", "tau", 0.4, 0.2, 0.4))
    corrected = rows_of(("shared x 0.5, full-corrected", "tau", 0.9, 0.2, 0.4))
    about = {
        "cost of a training of each": 9.63,
        "tau of another training": 0.83,
        "tau of raw scores by one training": 0.78,
    }
    said = finding("toy", pd.concat([cheaper, corrected, ranked(**GAPS)]), COSTS, about)
    assert "; at 0.25 and 0.5 times the cost raw scores reach 0.30 and 0.40; " in said
    assert said.endswith("another training, for 9.6 times the cost, reaches 0.83, raw scores 0.78.")


def test_what_scores_are_worth_is_a_row_for_raw_ones_and_for_each_correction():
    truth = pd.concat([TRUTH, TRUTH[TRUTH["set"] == "choosing"].assign(set="short")])
    others = {"largest_only_recalibrated": 1, "proxy": 2}
    scores = pd.concat([SCORES, *(SCORES[SCORES["maker"] == "per_config"].assign(maker=m) for m in others)])
    scores = scores.assign(net="all", cost_macs=100.0, tuning_macs=0)
    found = summary(truth, scores, fitted_on=CORRECTIONS, draws=20)
    table = worth(found.statistics, found.targets, found.costs).set_index("scores")
    assert list(table.index) == ["raw", *CORRECTIONS] and table.loc["raw", "cost"] == 1
    assert table["targets"].str.fullmatch(r"[0-7] of 7").all()
    tau = found.statistics.query("statistic == 'tau'").set_index("maker")
    assert table.loc["raw", "above MACs"] == told(tau.loc["shared - macs"], sign="+")
    assert table.loc["raw", "above no score"] == told(tau.loc["shared - no score, short-corrected"], sign="+")
    assert table.loc["full-corrected", "above per_config"] == told(
        tau.loc["shared, full-corrected - per_config, full-corrected"], sign="+"
    )
