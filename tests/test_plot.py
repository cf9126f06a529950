"Figures and tables: drawn as the rows say, labels apart, files all there or none."

import json
import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from dans.house import DansError
from dans.paper.pictures import (
    plot_bias,
    plot_footprint,
    plot_limits,
    plot_makers,
    plot_progress,
    plot_rank,
    plot_slopes,
)
from dans.paper.plot import QUANTITIES, apart, save_figure, save_table, show_table, stamp_figure, subplots


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def slopes():
    return pd.DataFrame(
        [
            {"resolution": r, "distance": d, "seed": s, "accuracy": a + r / 1000 + s / 100}
            for r in (32, 64)
            for d, a in (("near", 0.8), ("far", 0.5))
            for s in (0, 1)
        ]
    )


def progress():
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": s,
                "cost_macs": c * 1e12 + s * 1e10,
                "best_score": top + c / 100 + s / 50,
            }
            for arm, top in (("data-aware", 0.8), ("64px-rgb", 0.7))
            for s in (0, 1, 2)
            for c in (1, 2, 3)
        ]
    )


def limits(colors=("rgb",)):
    return pd.DataFrame(
        [
            {
                "limit": "ram_bytes",
                "bound": b * 1024,
                "arm": arm,
                "seed": s,
                "accuracy": 0.6 + b / 1000,
                "resolution": (32 if b < 100 else 48) + 16 * s,
                "color": colors[s % len(colors)],
            }
            for b in (64, 128)
            for arm in ("data-aware", "32px-rgb")
            for s in (0, 1)
        ]
    )


def systems():
    return pd.DataFrame(
        {
            "resolution": [32, 32, 64],
            "ram_bytes": [2048, 4096, 8192],
            "score": [0.5, 0.6, 0.7],
            "chosen": [False, False, True],
        }
    )


def ranked():
    return pd.DataFrame(
        {
            "ending": [2, 2, 7, 5],
            "score": [0.5, 0.6, 0.8, 0.7],
            "accuracy": [0.6, 0.7, 0.8, 0.7],
            "macs": [1e5, 2e5, 4e6, 1e6],
        }
    )


def makers():
    return pd.DataFrame(
        [
            ("macs", "tau", "", 0.5, 0.4, 0.6),
            ("shared", "tau", "", 0.8, 0.7, 0.9),
            ("ceiling", "tau", "", 0.85, 0.8, 0.9),
            ("shared - macs", "tau", "", 0.3, 0.2, 0.4),
            ("shared", "loss", "macs<=1", 0.01, 0.0, 0.02),
        ],
        columns=["maker", "statistic", "at", "value", "low", "high"],
    )


def biases():
    rows = [("shared", 10, 0.01), ("shared", 9, -0.02), ("macs", 9, 0.03), ("shared", 2, 0.0)]
    return pd.DataFrame(
        [(m, "bias", f"ending={e}", b, b - 0.01, b + 0.01) for m, e, b in rows],
        columns=["maker", "statistic", "at", "value", "low", "high"],
    )


def bias_by_ending(df, ax=None):
    return plot_bias(df, "ending", ["shared"], ax=ax)


# What is drawn


def test_slopes_are_means_in_the_reader_s_units():
    ax = plot_slopes(slopes())
    near = ax.containers[0].lines[0]
    assert near.get_xdata().tolist() == [32, 64]
    assert np.allclose(near.get_ydata(), [100 * (0.8 + 0.032 + 0.005), 100 * (0.8 + 0.064 + 0.005)])
    assert ax.get_xlabel() == "resolution (pixels)" and ax.get_ylabel() == "test accuracy (%)"
    bars = ax.containers[0].lines[2][0].get_segments()
    assert np.allclose(np.diff(bars[0][:, 1]), 1)  # from the lowest seed to the highest


def test_progress_is_the_median_of_steps_on_the_union_of_costs():
    ax = plot_progress(progress())
    line = ax.lines[0]
    assert line.get_drawstyle() == "steps-post"
    at = dict(zip(np.round(line.get_xdata(), 2), line.get_ydata()))
    assert math.isclose(at[1.02], 83) and math.isclose(at[3.02], 85)  # all three seeds have begun: 81, 83, 85
    assert min(at) == 1.02, "nothing is drawn before every seed has a score"


def test_progress_of_one_seed_has_no_band():
    assert not plot_progress(progress().query("seed == 0").drop(columns="seed")).collections


def test_limits_name_the_choices_of_the_arm_in_front_only():
    texts = [t.get_text() for t in plot_limits(limits()).texts]
    assert texts == ["32/48 px", "48/64 px", "32px-rgb", "data-aware"]
    assert "48/64 px\nrgb/mono" in [t.get_text() for t in plot_limits(limits(("rgb", "mono"))).texts]


def test_limits_are_drawn_one_at_a_time():
    both = pd.concat([limits(), limits().assign(limit="macs")])
    with pytest.raises(DansError, match="ram_bytes, macs: draw one limit at a time"):
        plot_limits(both)


def test_footprints_show_every_system_and_ring_the_chosen():
    ax = plot_footprint(systems(), limit=6144)
    shown = sorted(x for line in ax.lines[:2] for x in line.get_xdata())
    assert shown == [2, 4, 8] and ax.lines[2].get_xdata().tolist() == [8]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["32 px", "64 px"]
    assert ax.lines[3].get_xdata()[0] == 6


def test_ranks_are_grouped_by_ending_stage_beside_the_line_of_agreement():
    ax = plot_rank(ranked())
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["stage 2", "stage 5", "stage 7"]
    assert ax.lines[0].get_xdata().tolist() == [50, 60] and ax.lines[0].get_ydata().tolist() == [60, 70]
    assert ax.lines[3].get_slope() == 1 and ax.lines[3].get_xy1() == ax.lines[3].get_xy1()[::-1]
    assert len({(line.get_marker(), line.get_color()) for line in ax.lines[:3]}) == 3


def test_ranks_by_cost_have_a_logarithmic_axis_and_no_line():
    ax = plot_rank(ranked(), x="macs")
    assert ax.get_xscale() == "log" and len(ax.lines) == 3 and ax.get_xlabel() == "MACs (millions)"


def test_ranks_are_drawn_for_one_maker_at_a_time():
    with pytest.raises(DansError, match="a, b: draw one maker at a time"):
        plot_rank(ranked().assign(maker=["a", "b", "a", "b"]))


def test_makers_stand_in_order_before_the_ceiling_and_differences_are_left_out():
    ax = plot_makers(makers())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["macs", "shared"]
    assert ax.get_ylim() == (1.5, -0.5), "the first row is on top"
    assert [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()] == [[0.4, 0.6], [0.7, 0.9]]
    assert ax.get_xlabel() == "Kendall's tau" and ax.get_legend() is None
    assert [p.get_x() for p in ax.patches] == [0.8] and [t.get_text() for t in ax.texts] == ["ceiling"]
    assert math.isclose(plot_makers(makers(), "loss").lines[0].get_xdata()[0], 1)


def test_variants_of_a_maker_share_its_line_and_are_told_apart():
    two = makers().replace({"maker": {"macs": "shared, corrected"}})
    ax = plot_makers(two)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["shared"]
    raw, corrected = ax.lines
    assert (raw.get_label(), corrected.get_label()) == ("raw", "corrected")
    assert (
        raw.get_xdata() == [0.8]
        and corrected.get_xdata() == [0.5]
        and raw.get_ydata()[0] < 0 < corrected.get_ydata()[0]
    )
    assert raw.get_color() != corrected.get_color() and raw.get_marker() != corrected.get_marker()
    assert ax.get_legend() and plot_makers(two, legend=False).get_legend() is None


def test_bias_of_each_group_is_in_points_and_groups_are_in_numerical_order():
    ax = plot_bias(biases(), "ending", ["shared", "macs"])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "9", "10"]
    shared, macs = ax.lines[:2]
    assert np.allclose(shared.get_ydata(), [0, -2, 1]) and np.isnan(macs.get_ydata()[[0, 2]]).all()
    assert shared.get_xdata()[0] < 0 < macs.get_xdata()[1] - 1 and shared.get_color() != macs.get_color()


def test_makers_with_several_rows_each_are_refused():
    with pytest.raises(DansError, match="tau has several rows for one maker"):
        plot_makers(pd.concat([makers(), makers()]))
    with pytest.raises(DansError, match="no rows"):
        plot_makers(makers(), "spearman")


@pytest.mark.parametrize(
    "draw, rows, column",
    [
        (plot_slopes, slopes, "accuracy"),
        (plot_slopes, slopes, "distance"),
        (plot_progress, progress, "arm"),
        (plot_limits, limits, "bound"),
        (plot_footprint, systems, "ram_bytes"),
        (plot_rank, ranked, "ending"),
        (plot_makers, makers, "low"),
        (bias_by_ending, biases, "at"),
    ],
)
def test_missing_columns_and_no_rows_are_one_line(draw, rows, column):
    with pytest.raises(DansError, match=f"no column '{column}': they have"):
        draw(rows().drop(columns=column))
    with pytest.raises(DansError, match="no rows"):
        draw(rows().iloc[:0])


@pytest.mark.parametrize(
    "draw, rows",
    [
        (plot_slopes, slopes),
        (plot_progress, progress),
        (plot_limits, limits),
        (plot_footprint, systems),
        (plot_rank, ranked),
        (plot_makers, makers),
        (bias_by_ending, biases),
    ],
)
def test_plots_draw_on_the_axes_given_and_leave_the_rows_alone(draw, rows):
    df, (_, axes) = rows(), subplots(1, 2, width="page")
    before = df.copy()
    assert draw(df, ax=axes[1]) is axes[1] and not axes[0].has_data() and df.equals(before)


# Labels


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_apart_keeps_order_and_distance(places, gap):
    out = apart(places, gap)
    order = np.argsort(places, kind="stable")
    assert all(out[b] - out[a] >= gap - 1e-9 for a, b in zip(order, order[1:]))
    if all(places[b] - places[a] >= gap for a, b in zip(order, order[1:])):
        assert np.allclose(out, places)
    assert not places or math.isclose(np.mean(out), np.mean(places), abs_tol=1e-6)


def test_end_labels_do_not_overlap():
    df = pd.DataFrame(
        [{"resolution": r, "distance": f"group {i}", "accuracy": 0.8 + i / 5000} for i in range(6) for r in (32, 64)]
    )
    ax = plot_slopes(df)
    ax.figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda b: b.y0)
    assert all(a.y1 <= b.y0 + 1 for a, b in zip(boxes, boxes[1:]))


def test_lines_differ_without_colour_and_colours_for_the_colour_blind():
    subplots()
    cycle = list(plt.rcParams["axes.prop_cycle"])
    assert len({(str(c["linestyle"]), c["marker"]) for c in cycle}) == len(cycle) >= 6
    # a common model of deuteranopia (Vienot et al. 1999): the first four stay apart
    model = np.array([[0.29, 0.71, 0], [0.29, 0.71, 0], [-0.02, 0.02, 1]])
    seen = [model @ np.array(to_rgb(c["color"])) ** 2.2 for c in cycle[:4]]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 0.1


# Files


def test_a_figure_is_four_files_equal_from_time_to_time(tmp_path):
    def draw(name):
        ax = plot_slopes(slopes())
        save_figure(ax.figure, slopes(), tmp_path / name, {"preset": "quick"}, stamp="too small to judge")
        return [(tmp_path / f"{name}.{e}").read_bytes() for e in ("png", "pdf", "csv", "json")]

    assert draw("a") == draw("b")
    assert {p.suffix for p in tmp_path.iterdir()} == {".png", ".pdf", ".csv", ".json"}
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), slopes(), rtol=1e-9)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "preset": "quick",
        "stamp": "too small to judge",
    }
    width, height = plt.imread(tmp_path / "a.png").shape[1::-1]
    assert width == 3.5 * 200 and height > 2.4 * 200


def test_what_processors_disagree_on_is_not_written(tmp_path):
    "The sum of the same numbers in another order: tenfold the last digit, and no change in git."
    texts = []
    for name, value in (("a", 0.1 + 0.2), ("b", 0.3)):
        rows = slopes().assign(accuracy=value)
        save_figure(plot_slopes(rows).figure, rows, tmp_path / f"fig_{name}", {})
        save_table(rows, tmp_path / f"tab_{name}", {})
        texts.append([(tmp_path / f"{kind}_{name}.csv").read_text() for kind in ("fig", "tab")])
    assert texts[0] == texts[1] and ",0.3\n" in texts[0][0]


@pytest.mark.parametrize("kind", ["fig", "tab"])
def test_drawn_again_it_keeps_its_signature_unless_something_has_changed(tmp_path, kind):
    path = tmp_path / kind

    def save(rows=slopes(), **facts):
        facts = {"preset": "cpu", "rows": {"a/b": {"sha256": "1", "made_of": {"seed": 0}}}, **facts}
        if kind == "fig":
            save_figure(plot_slopes(rows).figure, rows, path, facts)
        else:
            save_table(rows, path, facts)
        return json.loads(path.with_suffix(".json").read_text())

    signed = {"item": f"{kind}_a", **save(), "made_of": {"notebook": "2"}, "sha256": "3"}
    text = json.dumps(signed)
    path.with_suffix(".json").write_text(text)
    assert save() == signed and path.with_suffix(".json").read_text() == text
    assert "made_of" not in save(preset="smoke")
    path.with_suffix(".json").write_text(text)
    assert "made_of" not in save(slopes().assign(accuracy=0.5))
    for damaged in ("", "[]", "{"):
        path.with_suffix(".json").write_text(damaged)
        assert save()["preset"] == "cpu"


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    fig = plot_slopes(slopes()).figure
    before, write = fig.savefig, []

    def savefig(path, **kwargs):
        write.append(path)
        if len(write) == 2:
            raise OSError(28, "No space left on device")
        before(path, **kwargs)

    monkeypatch.setattr(fig, "savefig", savefig)
    with pytest.raises(DansError, match="No space left"):
        save_figure(fig, slopes(), tmp_path / "a", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("constrained", [True, False])
def test_the_stamp_stands_below_everything_else(constrained):
    fig, ax = subplots()
    if not constrained:
        fig.set_layout_engine("none")
    plot_slopes(slopes(), ax=ax)
    for _ in range(2):  # twice: still one stamp
        stamp_figure(fig, "too small to judge")
    for _ in range(2):
        fig.draw_without_rendering()
    stamps = [t for t in fig.texts if t.get_gid() == "stamp"]
    assert len(stamps) == 1
    box = stamps[0].get_window_extent()
    assert box.y0 >= 0 and box.x1 <= fig.bbox.x1
    assert box.y1 <= ax.get_tightbbox().y0 + 1 or not constrained
    assert box.y1 <= ax.get_window_extent().y0
    assert math.isclose(fig.get_figheight(), 2.4 + 0.14)


def test_a_table_is_one_frame(tmp_path):
    df = pd.DataFrame(
        {
            "system": ["64px_rgb", "a & b"],
            "ram_bytes": [36864, 2048],
            "macs": [1_234_567, 10],
            "int8_accuracy": [0.81234, np.nan],
            "seed": [0, 1],
        }
    )
    shown = save_table(df, tmp_path / "tab_a", {"preset": "cpu"}, stamp="drawn from stale rows")
    assert list(shown.columns) == [
        "system",
        "activations (KiB)",
        "MACs (millions)",
        "int8 test accuracy (%)",
        "seed",
    ]
    assert shown.iloc[0].tolist() == ["64px_rgb", "36", "1.23", "81.2", "0"] and shown.iloc[1, 3] == "-"
    assert pd.read_csv(tmp_path / "tab_a.csv").ram_bytes.tolist() == [36864, 2048]
    md, tex = (tmp_path / "tab_a.md").read_text(), (tmp_path / "tab_a.tex").read_text()
    assert "| 64px_rgb" in md and "81.2" in md and "*drawn from stale rows*" in md
    assert r"64px\_rgb" in tex and r"a \& b" in tex and "% drawn from stale rows" in tex
    assert json.loads((tmp_path / "tab_a.json").read_text())["preset"] == "cpu"


def test_each_quantity_has_a_unit_or_needs_none():
    for name, (label, factor, digits) in QUANTITIES.items():
        assert "(" in label or name in ("width", "step", "images", "tau", "matched_tau", "spearman", "ending"), (
            f"{name} is shown without a unit"
        )
        assert factor > 0 and digits >= 0
    assert show_table(pd.DataFrame({"far_share": [0.3]})).columns[0] == "far share"
