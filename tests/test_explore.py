"What is best on a board: the explorer against looking at everything, and what its page is made of."

import importlib.util
import json
import math
import re
import shutil
import subprocess
from contextlib import redirect_stderr
from dataclasses import replace
from html import unescape
from pathlib import Path

import ipywidgets
import numpy as np
import pandas as pd
import pytest
from conftest import BROWSERS

from dans.choose.benchmark import SEARCHED, invented_table, load_benchmark
from dans.choose.exhaustive import ExhaustiveSearch
from dans.choose.explore import (
    LIBRARIES,
    STEPS,
    TIMES,
    board_limits,
    boards_for_page,
    explore,
    known,
    layout,
    more,
    next_better,
    on_boards,
    table_for_page,
    tables,
    training_noise,
)
from dans.choose.rank import systems_of
from dans.cost.boards import DEVICES
from dans.cost.footprint import footprint, show_bytes, show_macs
from dans.cost.limits import Limits
from dans.cost.memory import KERNELS
from dans.house import DansError
from dans.space import System

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("docs", ROOT / "tools/docs.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)
SHARES = {1.0: 100, 0.3: 40, 0.02: 20}  # of the trainings that are there: random limits


@pytest.fixture(scope="module", params=SHARES)
def benchmark(request, tmp_path_factory):
    return load_benchmark(folder=invented_table(tmp_path_factory.mktemp("table"), share=request.param))


@pytest.fixture(scope="module")
def answers(benchmark):
    "What is answered within random limits."
    rng, share = np.random.default_rng(0), len(benchmark.table) / 1224
    return [explore(benchmark, random_limits(rng)) for _ in range(SHARES[round(share, 2)])]


@pytest.fixture(scope="module")
def means(benchmark):
    "Every known system and its mean validation accuracy, row by row."
    of = {}
    for row in benchmark.table.to_dict("records"):
        if row["fidelity"] == "full" and row["seed"] in SEARCHED:
            of.setdefault(System.from_dict(row), []).append(row["val_accuracy"])
    return {system: np.mean(values) for system, values in of.items()}


def random_limits(rng):
    "RAM, flash and MACs from less than any system takes to more than all do, each in two of three cases; or a board's."
    if rng.random() < 0.2:
        device = DEVICES[rng.choice(["nrf52840", "stm32f446", "stm32h743"])]
        return board_limits(device, rng.choice([5, 10, 20, 50]))
    bounds = dict(arena_bytes=(4e3, 8e4), flash_bytes=(5e3, 5e5), macs=(2e4, 3e6))
    drawn = {axis: int(math.exp(rng.uniform(*map(math.log, ends)))) for axis, ends in bounds.items()}
    return Limits(**{axis: bound for axis, bound in drawn.items() if rng.random() < 2 / 3})


def test_the_best_within_any_limits_is_that_of_looking_at_everything(benchmark, answers, means):
    every, found = systems_of(benchmark.systems), 0
    for answer in answers:
        limits, best = answer.limits, answer.best["score"].tolist()
        inside = {s: mean for s, mean in means.items() if limits.admits(limits.cost(s, 2))}
        assert (answer.known, answer.possible) == (
            len(inside),
            sum(limits.admits(limits.cost(s, 2)) for s in every),
        )
        assert best == pytest.approx(sorted(inside.values(), reverse=True)[:5])
        assert [inside[s] for s in systems_of(answer.best)] == pytest.approx(best)
        if inside:
            found += 1
            assert str(answer.system) in str(answer) and f"{len(inside)} known systems" in str(answer)
        else:
            assert answer.system is None and "no system is known" in str(answer)
        if inside and not limits.cycles:
            below = [r.score for r in answer.front.itertuples() if r.macs <= (limits.macs or math.inf)]
            assert max(below) == best[0], "the best lies on the front"
    assert found > len(answers) / 3


def test_it_answers_as_an_exhaustive_search_does(benchmark, answers):
    "Which knows neither the kernels of a board nor its time."
    search = ExhaustiveSearch(benchmark.task(seed=None, gaps=True))
    comparable = [a for a in answers if a.known and a.limits.macs and a.limits.macs <= 2e6 and not a.limits.cycles]
    for answer in comparable:
        assert systems_of(search.best(answer.limits, 5)) == systems_of(answer.best)
    assert comparable


def test_the_front_is_better_than_everything_with_fewer_macs(benchmark):
    limits = Limits(arena_bytes=24 * 1024)
    front, rows = explore(benchmark, limits).front, known(benchmark)
    inside = rows[rows["arena_bytes"] <= limits.arena_bytes]
    on = [r.macs for r in inside.itertuples() if not ((inside["macs"] <= r.macs) & (inside["score"] > r.score)).any()]
    assert set(front["macs"]) == set(on)


def test_more_raises_one_limit_at_a_time(benchmark):
    limits = Limits(arena_bytes=16 * 1024, macs=200_000)
    found = more(benchmark, limits).set_index("raised")
    assert list(found.index) == ["RAM", "MACs", "all of them"]
    here = explore(benchmark, limits).best["score"].max()
    there = explore(benchmark, replace(limits, macs=400_000)).best["score"].max()
    assert found.loc["MACs", "gain"] == pytest.approx(there - here, nan_ok=True)
    assert not (found["gain"] < 0).any() and found["gain"].max() == found.loc["all of them", "gain"]
    assert len(more(benchmark, Limits())) == 0


def test_boards_are_compared_by_what_runs_on_them(benchmark):
    boards = on_boards(benchmark, 20)
    assert "rp2040" not in set(boards["name"]), "no latency was published for its core"
    best = boards.loc[boards["score"].idxmax()]
    assert next_better(boards, best["name"]) is None
    for row in boards.itertuples():
        found, better = next_better(boards, row.name), boards[boards["score"] > row.score]
        assert (found is None) == (not len(better)) or math.isnan(row.score)
        if found is not None and not math.isnan(row.score):
            assert found["gain"] > 0 and found["arena_bytes"] == better["arena_bytes"].min()
    with pytest.raises(DansError, match="none of the boards"):
        next_better(boards, "my board")


def test_a_table_without_a_training_has_no_best(tmp_path):
    benchmark = load_benchmark(folder=invented_table(tmp_path, share=0))
    assert explore(benchmark).known == 0 and explore(benchmark).possible == 408 and len(known(benchmark)) == 0
    assert training_noise(benchmark) is None and tables(tmp_path) == []
    assert table_for_page(benchmark)["layouts"] == {} and on_boards(benchmark)["score"].isna().all()


def test_nothing_that_judges_is_looked_at(tmp_path):
    "With test columns and fresh seeds revealed the answer is the same."
    folder = invented_table(tmp_path, each=1)
    hidden, revealed = load_benchmark(folder=folder), load_benchmark(folder=folder, reveal="test")
    pd.testing.assert_frame_equal(known(hidden), known(revealed))
    assert not [column for column in explore(hidden).best if "test" in column]


# The page


def answered(page, limits):
    "What the page's script does: the first known system that is within all bounds."
    library = LIBRARIES.index(limits.kernels)
    for system in page["systems"][: page["known"]]:
        arena, (flash, macs, written) = system["cost"][library], system["cost"][len(LIBRARIES) :]
        cost = dict(arena_bytes=arena, flash_bytes=flash, macs=macs)
        if limits.cycles:
            cost["cycles"] = math.ceil(limits.cycles_per[0] * macs + limits.cycles_per[1] * written)
        if all(cost[axis] <= bound for axis, bound in limits.bounds().items()):
            return system


def test_the_page_answers_as_the_function_does(benchmark, answers):
    page = table_for_page(benchmark)
    for answer in answers:
        shown = answered(page, answer.limits)
        assert (shown and shown["name"]) == (answer.system and str(answer.system))
        assert not shown or shown["name"] in page["layouts"], "whatever can be an answer has its layout there"


def test_layouts_of_the_page_end_at_the_activations(benchmark):
    page = table_for_page(benchmark)
    systems = {str(s): s for s in systems_of(benchmark.systems)}
    for name, rows in page["layouts"].items():
        end = max(offset + -(-nbytes // 16) * 16 for _, _, offset, nbytes in rows)
        assert end == footprint(systems[name], 2).ram_bytes
        assert len(rows) == len(layout(systems[name], 2))


def test_the_page_knows_boards_as_the_function_does():
    assert set(LIBRARIES) == set(KERNELS)
    for row in boards_for_page():
        for ms, said in row["limits"].items():
            if said is None:
                with pytest.raises(DansError):
                    board_limits(DEVICES[row["name"]], float(ms))
            else:
                limits = board_limits(DEVICES[row["name"]], float(ms) if ms else None)
                assert limits.bounds() == {axis: said[axis] for axis in limits.bounds()}
                assert said["per"] == limits.cycles_per and LIBRARIES[said["library"]] == limits.kernels


def test_sliders_reach_from_the_smallest_system_to_nearly_the_largest():
    systems = load_benchmark(folder=None).systems
    for axis, steps in STEPS.items():
        assert steps == sorted(steps)
        assert systems[axis].min() <= steps[0] <= systems[axis].quantile(0.1) or axis == "arena_bytes"
        assert systems[axis].quantile(0.9) <= steps[-1] < systems[axis].max()


# In a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The explorer's page by itself, as it lies in the site, from the committed tables."
    folder = tmp_path_factory.mktemp("site")
    (folder / "tutorials").mkdir()
    (folder / "explorer-data.js").write_text(docs.explorer())
    shutil.copy(ROOT / "tools/explorer.js", folder)
    page = (ROOT / "tools/explorer.html").read_text()
    (folder / "tutorials/explore.html").write_text(f"<!doctype html><html lang=en><title>x</title>{page}</html>")
    return folder


def test_what_the_page_needs_is_small_and_fetched_from_nowhere(site):
    data = (site / "explorer-data.js").read_text()
    about = json.loads(data.removeprefix("const EXPLORER = "))
    assert [table["data"] for table in about["tables"]] == tables() != []
    assert len(data) < 500_000 and set(about["views"]) == {system["data"] for system in about["tables"][0]["systems"]}
    script, page = (site / "explorer.js").read_text(), (ROOT / "tools/explorer.html").read_text()
    assert "fetch(" not in script and re.findall(r"https?://[^\s\"]+", script + page) == ["http://www.w3.org/2000/svg"]
    fields = re.findall(r"<(?:select|input)[^>]*>", page)
    assert len(fields) == page.count("<label>") == 6, "every field has its label around it"


@pytest.mark.browser
@pytest.mark.parametrize("choice", ["", "arena_bytes=3&macs=5", "board=nrf52840&time=20", "board=rp2040&time=20"])
def test_a_browser_shows_the_answer(site, tmp_path, choice):
    "At limits, on a board in a time, and for a board whose time is not known."
    of = dict(part.split("=") for part in choice.split("&") if part)
    chromium = next(filter(None, map(shutil.which, BROWSERS)))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    url = (site / "tutorials/explore.html").as_uri()
    done = subprocess.run([chromium, *flags, f"{url}#{choice}"], capture_output=True, text=True, timeout=100)
    (said,) = re.findall(r'<p class="said" role="status">(.*?)</p>', done.stdout)
    if of.get("board") == "rp2040":
        assert "No latency was published for Raspberry Pi Pico" in said and "<svg" not in done.stdout
        return
    board = board_limits(DEVICES[of["board"]], float(of["time"])) if "board" in of else Limits()
    with redirect_stderr(None):
        table = load_benchmark(tables()[0])
    limits = board.both(Limits(**{axis: STEPS[axis][int(of[axis])] for axis in STEPS if axis in of}))
    answer = explore(table, limits)
    if not answer.known:  # in a table that still grows
        assert f"no system is known, of {answer.possible} of the table" in unescape(said)
        return
    assert f"{answer.known} known systems, of {answer.possible} of the table: {answer.system}, " in unescape(said)
    shown = re.findall(r"<tr><td>(.*?)</td>", done.stdout.partition("The best systems known")[2])
    assert shown[:5] == [str(s) for s in systems_of(answer.best)]
    assert done.stdout.count("<svg") == 2 and 'alt="A drawn scene at' in done.stdout
    if "board" in of:
        better = next_better(on_boards(table, float(of["time"])), of["board"])
        gain = f"+{100 * better['gain']:.1f} points, {better['system']}"
        assert f"The smallest board that does better is {better['board']}: {gain}." in done.stdout
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*) points</td>", done.stdout)
    expected = [(r.raised, r.system, f"{100 * r.gain:+.1f}") for r in more(table, limits).itertuples()]
    assert sorted(rows) == sorted(expected)


def test_the_sliders_of_the_notebook_ask_the_function(monkeypatch):
    cells = json.loads((ROOT / "nbs/tutorials/explore.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (code,) = [source for source in sources if 'find_spec("ipywidgets")' in source]
    given = {}
    monkeypatch.setattr(ipywidgets, "interact", lambda f, **fields: given.update(f=f, **fields))
    names = dict(find_spec=importlib.util.find_spec, STEPS=STEPS, TIMES=TIMES, DEVICES=DEVICES)
    exec(code, names | dict(show="the function", show_bytes=show_bytes, show_macs=show_macs))
    assert given.pop("f") == "the function" and list(given) == ["board", "latency_ms", "ram", "flash", "macs"]
    for field, axis in (("ram", "arena_bytes"), ("flash", "flash_bytes"), ("macs", "macs")):
        slider = given[field]
        assert [bound for _, bound in slider.options] == [*STEPS[axis], 0] and slider.value == 0  # 0: any
    assert {name for _, name in given["board"].options} == {"", *DEVICES} and given["latency_ms"].value is None
