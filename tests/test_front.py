"dans-search: what it says before it begins, what it refuses, and one small search from a folder to firmware."

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from make_data import class_folder, refused

from dans.cost.boards import board_of
from dans.cost.limits import Limits
from dans.families import Architecture
from dans.front.command import main, wish_of
from dans.front.mistakes import answered, mistakes, taken_for
from dans.front.preflight import LONGER, _batch, human, preflight, sizes_for
from dans.front.simple import logistic, logits_of
from dans.front.wish import kernels_for, limits_for, minutes_of
from dans.frontends import ImageConfig
from dans.house import Diverged
from dans.net.metrics import confusion, report

TINY = ["--widths", "0.1", "--depths", "10000", "--resolutions", "16", "--colors", "mono", "--budget", "42 s"]
LIMITS = ["--limits", "RAM 32 KiB, flash 64 KiB"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folder(tmp_path_factory.mktemp("front") / "photos", ("cat", "dog", "no pet"), n=20)


# What is asked for


def test_of_a_board_and_words_the_lower_bound_counts():
    board = board_of("nrf52840")
    held = limits_for(board)
    assert held.bounds() == dict(arena_bytes=224 * 1024, flash_bytes=896 * 1024)
    tighter = limits_for(board, "RAM 1 MiB, flash 100 KiB, MACs 2 M")
    assert tighter.bounds() == dict(arena_bytes=224 * 1024, flash_bytes=100 * 1024, macs=2_000_000)
    assert limits_for(board, reserve="RAM 100 KiB").arena_bytes == 156 * 1024
    assert held.both(Limits(macs=5, kernels="reference")).kernels == "cmsis-nn"
    timed = limits_for(board, latency_ms=50)
    assert timed == limits_for(board, latency_ms=50, kernels="tflm+cmsis-nn") and timed.latency_ms == 50
    assert "latency 50 ms" in str(timed) and "cycles" not in str(timed)
    assert kernels_for(board) == "tflm+cmsis-nn" and kernels_for(board_of("rp2040")) is None
    assert limits_for(None, "MACs 2 M") == Limits(macs=2_000_000)


def test_times_have_units():
    assert [minutes_of(text) for text in ("5", "5 min", "1.5h", "30 s")] == [5, 5, 90, 0.5]
    for text in ("", "soon", "0", "5 weeks"):
        refused(lambda text=text: minutes_of(text), "30 min")


@pytest.mark.parametrize(
    "words, said",
    [
        (["nowhere", *LIMITS], "'nowhere' is not known and is no path"),
        (["{photos}"], 'there are no limits: name a board, such as --board nrf52840, or write --limits "RAM'),
        (["{photos}", "--board", "nrf5284"], "did you mean nrf52840 (nRF52840 DK)?"),
        (["{photos}", "--limits", "RAM 4 KiB"], "no system of this space meets the RAM limit of 4 KiB"),
        (["{photos}", "--limits", "memory 4 KiB"], "cannot be read"),
        (["{photos}", "--latency", "30", *LIMITS], "a latency and kernels are those of a board"),
        (["{photos}", "--latency", "1", "--board", "nrf52840"], "meets the latency limit of 1 ms: the smallest needs"),
        (["{photos}", "--latency", "30", "--board", "rp2040"], "a limit on MACs can stand in"),
        (["{photos}", "--budget", "1 s", *LIMITS], "a budget of 1 s is too little"),
        (["{photos}", "--resolutions", "64", *LIMITS], "32 px on its short side, and 64 are needed"),
        (["{photos}", "--resolutions", "small", *LIMITS], "write it like 24,32,48"),
        (["{photos}", "--metric", "auc", *LIMITS], "metric auc is for two classes, and there are 3"),
        (["{photos}", "--out", "{photos}/found", *LIMITS], "lies among the images"),
        (["{photos}", "--trainings", "0", *LIMITS], "0 trainings leave no winner: ask for 1 or more"),
        (["{photos}", "--executor", "slurm", *LIMITS], "executor 'slurm' is unknown: use local, ray"),
        (["{photos}", "-p", "source.splitz=none", *LIMITS], "has no option 'splitz'"),
        (["{photos}", "-p", "splits=none", *LIMITS], "write -p source.NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(photos, capsys, words, said):
    words = [word.format(photos=photos) for word in words]
    assert main([*words, "--dry-run", "--json"]) == 2
    out, err = capsys.readouterr()
    *_, line = err.strip().splitlines()
    assert line.startswith("dans-search: ") and said in line
    record = json.loads(out)
    assert (
        record["status"] == 2 and record["error"] and record["remedy"] and said in ": ".join(list(record.values())[1:])
    )


def test_bad_images_are_all_named(photos, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "photos")
    for name in ("cat/0.png", "dog/3.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    assert main([str(tmp_path / "photos"), *LIMITS, "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert "cat/0.png" in err and "dog/3.png" in err
    assert main([str(tmp_path / "photos"), *LIMITS, "-p", "source.skip_bad=True", "--dry-run"]) == 0
    assert "left out" in capsys.readouterr().out


# What is said before it begins


def test_a_dry_run_says_what_there_is_and_what_fits(photos, tmp_path, capsys):
    words = [str(photos), *LIMITS, "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in ("3 classes", "no pet: 14 + 2 + 4", "32 px on its short side", "5 folds", "of one core", "16px-mono"):
        assert part in said
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == dict(train=42, val=6, test=12) and found["status"] == 0
    assert found["images_by_class"]["test"] == {"cat": 4, "dog": 4, "no pet": 4}
    assert found["systems_that_fit"] == sum(found["fit_by_data"].values()) < found["systems"]
    assert main([*words, "--quiet"]) == 0 and capsys.readouterr() == ("", "")
    assert not (tmp_path / "out").exists()


def test_counts_are_those_of_the_limits(photos):
    flight = preflight(wish_of(str(photos), limits="RAM 24 KiB, MACs 0.2 M", widths="0.1,0.25"))
    admitted = [s for s in flight.space if flight.wish.limits.admits(flight.wish.limits.cost(s, 3))]
    assert flight.systems == len(admitted) > 0
    assert all(system.data == data for data, systems in flight.fitting.items() for system in systems)
    source = flight.source
    assert sizes_for(wish_of(str(photos), limits="MACs 40 k", widths="0.1"), source)[0] == (16, 24)


def test_images_larger_than_all_that_is_tried_need_no_note(photos):
    wish = wish_of(str(photos), limits="MACs 1 M", widths="0.1")
    source = preflight(wish).source
    for side, left in ((40, "48 px and more"), (64, ""), (160, "")):
        resolutions, note = sizes_for(wish, replace(source, side=side))
        assert max(resolutions) <= side and (left in note if left else note == "")


def test_a_plan_counts_the_steps_that_will_be_made(photos):
    from dans.net.supernet import shared_recipe
    from dans.net.train import MANY, batch_for

    assert all(_batch(n) == batch_for(n) for n in (1, MANY - 1, MANY, 10**6))
    flight = preflight(wish_of(str(photos), limits="RAM 64 KiB"))
    assert flight.folded
    plan, sizes = flight.plan, flight.source.sizes
    learnt = (sizes["train"] + sizes["val"]) * 4 // 5
    assert plan.supernet.steps == 5 * shared_recipe(learnt, plan.supernet.epochs).steps(learnt) >= 2000
    assert plan.alone.steps >= 1000 and plan.few == 24
    shorter = preflight(wish_of(str(photos), limits="RAM 64 KiB", budget="2 min")).plan
    assert shorter.minutes < 2 < plan.minutes and shorter.supernet.steps < plan.supernet.steps


def test_a_network_by_hand_is_the_largest_that_fits_and_is_left_out_of_a_budget(photos):
    def planned(limits, **words):
        flight = preflight(wish_of(str(photos), limits=limits, **words))
        return flight.baseline and str(flight.baseline), flight.plan, str(flight)

    system, plan, said = planned("RAM 128 KiB")
    assert system == "32px-rgb-w0.35-d34331-eight" and "MobileNetV2 0.35 on 32px-rgb" in said
    assert plan.baseline.epochs == plan.alone.epochs and plan.baseline.steps == plan.alone.steps
    without = planned("RAM 128 KiB", baseline=False)[1]
    assert plan.minutes > without.minutes + plan.baseline.seconds / 60 and without.baseline is None
    assert planned("MACs 1 M")[0] == "24px-rgb-w0.35-d34331-eight"
    nowhere, plan, said = planned("flash 100 KiB")
    assert nowhere is None and plan.baseline is None and "none of these resolutions" in said
    assert planned("RAM 128 KiB", budget="3 min")[0] is None
    system, plan, _ = planned("RAM 128 KiB", budget="3 min", baseline=True)
    assert system and plan.minutes <= 3.3 and plan.baseline.epochs == plan.alone.epochs


def test_more_trainings_are_planned_where_validation_images_can_judge_them(photos):
    drawn = dict(data="wake_scenes", limits="MACs 1 M", options=["source.n_train=200", "source.n_test=50"])

    def flight(val, trainings):
        options = [*drawn["options"], f"source.n_val={val}"]
        return preflight(wish_of(**drawn | dict(options=options), trainings=trainings, baseline=False))

    one, three, many = flight(600, 1), flight(600, 3), flight(600, 10)
    assert one.plan.compared is None and many.plan.supernet == three.plan.supernet == one.plan.supernet
    assert one.plan.alone == three.plan.alone == many.plan.alone and not three.guided and many.guided
    assert (three.plan.compared.times, many.plan.compared.times) == (3, 10)
    assert all(flight.plan.alone.epochs == LONGER * flight.plan.compared.epochs for flight in (three, many))
    assert many.plan.compared.macs < three.plan.compared.macs == three.plan.alone.macs
    assert one.plan.minutes < three.plan.minutes < many.plan.minutes
    assert "the best 3 by score" in str(three) and "as many as 10 of mean cost" in str(many)
    said = many.to_dict()
    assert (said["trainings"], said["guided"]) == (10, True) and said["steps"].keys() == many.plan.stages.keys()
    assert flight(600, None).trainings == 3 and flight(400, None).trainings == 1 and flight(400, 2).trainings == 2
    assert "one system is trained on its own" in str(flight(400, None)) and "on its own" not in str(flight(600, None))
    tiny = dict(
        resolutions="16", widths="0.1", depths="10000", colors="rgb", options=[*drawn["options"], "source.n_val=600"]
    )
    small = preflight(wish_of(**drawn | tiny, trainings=20, baseline=False))
    assert small.systems == small.trainings == small.plan.compared.times == 2, "no more than there are"
    few = preflight(wish_of(str(photos), limits="RAM 64 KiB", trainings=10))
    assert few.folded and few.plan.compared is None and "one system is trained on its own" in str(few)


def test_loops_train_where_there_is_no_gpu_and_are_expected_to_be_quicker(photos, monkeypatch):
    words = dict(limits="RAM 64 KiB")
    monkeypatch.setattr("dans.front.preflight.gpu", lambda: False)
    flight = preflight(wish_of(str(photos), **words))
    keras = preflight(wish_of(str(photos), engine="keras", **words))
    assert (flight.engine, keras.engine) == ("loops", "keras") and ", by loops" in str(flight)
    assert flight.plan.minutes < keras.plan.minutes and flight.plan.supernet.steps == keras.plan.supernet.steps
    monkeypatch.setattr("dans.front.preflight.gpu", lambda: True)
    assert flight.engine == "keras"
    refused(lambda: wish_of(str(photos), engine="loop", **words), "engine 'loop' is unknown: did you mean loops?")


def test_the_time_left_goes_by_the_pace_so_far(photos, monkeypatch):
    from dans.front import find

    now, said = [0.0], []
    monkeypatch.setattr(find.time, "perf_counter", lambda: now[0])
    plan = preflight(wish_of(str(photos), limits="RAM 64 KiB", engine="keras")).plan  # a trace for each fold
    assert min(find.Clock(plan, said.append).left.values()) > 0
    plan = preflight(wish_of(str(photos), limits="RAM 64 KiB")).plan
    clock = find.Clock(plan, said.append)
    planned = dict(clock.left)
    assert sum(planned.values()) == pytest.approx(60 * plan.minutes)
    for name, share in (("supernet", 0.5), ("scores", 0.01), ("alone", 2.0), ("files", 1.0)):
        with clock.stage(name, name):
            now[0] += share * planned[name]
    assert said[0].startswith("[1/4] supernet (some ") and "of one core" in said[0]
    third = human(0.5 * planned["alone"] / 60)
    assert f"(some {third} at this pace" in said[2], "what was found on the disk says nothing of the pace"
    pace = (0.5 * planned["supernet"] + 2 * planned["alone"]) / (planned["supernet"] + planned["alone"])
    last = human(pace * planned["files"] / 60)
    assert f"(some {last} at this pace; {last} in all to go)" in said[3]


# Several trainings


@pytest.fixture
def compare(tmp_path):
    "A search that compares so many systems, of some that are small; and what each of these takes."
    from dans.front.finding import Finding

    options = ["source.n_train=40", "source.n_val=500", "source.n_test=20", "source.native=32"]
    words = dict(limits="MACs 1 M", resolutions="16,24", depths="11000", widths="0.1,0.2", baseline=False)

    def work(n):
        flight = preflight(wish_of("wake_scenes", out=str(tmp_path / "out"), options=options, trainings=n, **words))
        found = Finding(flight)
        assert not found.judges.folded
        return found, {s: found.wish.limits.cost(s, 2).macs for s in flight.space}

    return work


def test_of_the_best_by_score_the_best_by_validation_is_chosen(compare, monkeypatch):
    "A supernet says the more MACs the better; of the three that it names, trainings say the contrary, or diverge."
    from dans.front.find import Found, _best_of, _smaller
    from dans.front.finding import Finding

    work, size = compare(3)
    least, second, first = sorted(size, key=size.get)[-3:]
    reached = {first: dict(diverged="no number"), second: dict(validation=0.6), least: dict(validation=0.7)}
    stages = SimpleNamespace(two=False, trained=[], score=SimpleNamespace(cost=lambda system: 0.0))
    monkeypatch.setattr(Finding, "scores", lambda self: {s: macs / 1e6 for s, macs in size.items()})
    monkeypatch.setattr(Finding, "stages", lambda self: stages)
    monkeypatch.setattr(Finding, "trained", lambda self, those, planned: [reached[s] for s in those])
    best, rows = work.compared()
    assert (work.named(work.choice()), work.named(best)) == (first, least)
    assert (best["validation"], best["score"], best["scored"]) == (0.7, size[least] / 1e6, len(size))
    assert [work.named(row) for row in rows.to_dict("records")] == [least, second, first] and list(rows["on_front"])[0]
    found = Found(work.flight, least, best, {}, {}, {}, None, 0.0, trained=rows, offers=work.offers())
    assert "the best by validation of 3 that were compared" in _best_of(found)
    begin, *lines, compared = [line for _, line in _smaller(found)]
    half = max((s for s in size if size[s] <= size[least] / 2), key=size.get)
    assert f"its own score: {size[least] / 1e6:.3f}" in begin and "trained.csv" in compared
    assert lines[0].startswith(f"a half: {half}, {size[half] / 1e6:.3f}; RAM ")
    reached |= {system: dict(diverged="no number") for system in reached}
    refused(work.compared, "all 3 trainings that compare systems diverged")


def test_scores_on_new_images_say_who_is_first_and_the_first_score_stays(compare, monkeypatch):
    from dans.front.finding import Finding

    work, size = compare(3)
    log = pd.DataFrame([dict(s.to_dict(), macs=m, score=m / 1e6, seconds=1.0, over_limits=0) for s, m in size.items()])
    again = log.assign(rescore=1 - log["score"], is_winner=log["macs"] == log["macs"].median())
    again["is_winner"] &= ~again["is_winner"].duplicated()
    if not again["is_winner"].any():
        again.loc[0, "is_winner"] = True
    scored = SimpleNamespace(log=log, select=lambda limits, rescore, images, finalists: again)
    monkeypatch.setattr(Finding, "stages", lambda self: SimpleNamespace(two=True, again=(None, 100)))
    monkeypatch.setattr(Finding, "scored", lambda self: scored)
    rows = work.finals()
    assert rows["is_winner"].iloc[0] and rows["score"].iloc[1:].is_monotonic_decreasing
    assert (rows["score"] == 1 - rows["said"]).all() and (rows["scored"] == len(size)).all()
    assert work.choice()["score"] == rows["said"].iloc[0] == again.loc[again["is_winner"], "score"].item()


def test_what_an_earlier_search_has_offered_goes_and_a_network_by_hand_may_diverge(compare, monkeypatch):
    from dans.front.find import FRONT, TRAINED
    from dans.front.finding import Finding

    work, (system, *_) = compare(3)
    (work.wish.out / FRONT).mkdir(parents=True)
    (work.wish.out / FRONT / "old.tflite").touch()
    (work.wish.out / TRAINED).touch()
    work.offered(None)
    assert not (work.wish.out / FRONT).exists() and not (work.wish.out / TRAINED).exists()
    monkeypatch.setattr(type(work.flight), "baseline", property(lambda self: system))
    monkeypatch.setattr(Finding, "trained", lambda self, those, planned: [dict(diverged="no number")])
    object.__setattr__(work, "plan", replace(work.plan, baseline=work.plan.alone))
    assert work.by_hand() is None


def test_a_longer_training_is_taken_home_where_it_is_better(compare, monkeypatch):
    from dans.front.finding import Finding

    work, (system, *_) = compare(3)
    said = {work.plan.compared: 0.7, work.plan.alone: 0.8}

    def built(self, system, planned):
        if said[planned] is None:
            raise Diverged("no number", "nothing helps")
        return dict(validation=said[planned], passes=planned.epochs), b"", b""

    monkeypatch.setattr(Finding, "built", built)
    for last, passes in ((0.8, work.plan.alone), (0.6, work.plan.compared), (None, work.plan.compared)):
        said[work.plan.alone] = last
        assert work.longest(system)[0]["passes"] == passes.epochs


def test_guided_search_takes_what_trainings_say_and_offers_what_takes_less(compare, tmp_path, monkeypatch):
    "Trainings are looked up: the more MACs the better, in spite of a supernet that says the contrary."
    from dans.front.find import FRONT, TRAINED, Found, _best_of, _instead
    from dans.front.finding import Alone, Finding

    work, size = compare(6)
    systems, asked = list(size), []

    def trained(self, those, planned):
        assert planned == self.plan.compared
        asked.extend(those)
        return [dict(diverged="no number") if s == systems[0] else dict(validation=0.5 + size[s] / 1e6) for s in those]

    monkeypatch.setattr(Finding, "scores", lambda self: {s: 0.8 - size[s] / 1e6 for s in systems})
    monkeypatch.setattr(Finding, "trained", trained)
    monkeypatch.setattr(Finding, "built", lambda self, system, planned: ({}, str(system).encode(), b""))
    best, rows = work.compared()
    assert len(asked) == len(rows) < len(systems) and work.named(best) == max(asked, key=size.get)
    assert sum(map(Alone(work).cost, asked)) <= work.plan.compared.cost
    assert best["validation"] == 0.5 + best["macs"] / 1e6 and best["score"] == 0.8 - best["macs"] / 1e6
    (tmp_path / "out" / FRONT).mkdir(parents=True)
    (tmp_path / "out" / FRONT / "of-an-earlier-search.tflite").touch()
    work.offered(rows)
    table = pd.read_csv(tmp_path / "out" / TRAINED)
    reached = table["validation"]
    assert reached.dropna().is_monotonic_decreasing and reached.isna().is_monotonic_increasing
    assert table["system"].is_unique
    files = {path.stem for path in (tmp_path / "out" / FRONT).iterdir()}
    assert files == set(table["system"][table["on_front"]]) and len(files) > 1
    found = Found(work.flight, work.named(best), best, {}, {}, {}, None, 0.0, trained=rows)
    assert f"believed to be the best of {len(rows)} that were compared" in _best_of(found)
    first, *others = [line for _, line in _instead(found)]
    assert "takes less" in first and all("RAM" in line and "%" in line for line in others) and others


# Mistakes and pictures


def answers(n=40, classes=("cat", "dog", "no pet")):
    rng = np.random.default_rng(0)
    said = rng.dirichlet(np.ones(len(classes)), n)
    labels = rng.integers(0, len(classes), n)
    return said, labels, answered(said, labels, [f"{classes[k]}/{i}.png" for i, k in enumerate(labels)], classes)


def test_mistakes_are_the_wrong_answers_the_surest_first():
    said, labels, table = answers()
    wrong = mistakes(table)
    assert len(wrong) == (said.argmax(1) != labels).sum() == (~table["right"]).sum()
    margins = wrong["probability"] - wrong["of_class"]
    assert (np.diff(margins) <= 0).all() and (margins > 0).all() and not wrong["right"].any()
    assert all(row.image.startswith(f"{row['class']}/") for _, row in wrong.iterrows())
    matrix, names = confusion(labels, said.argmax(1), 3), list(dict.fromkeys(table["class"]))
    for name, (other, share) in taken_for(table).items():
        row = matrix[("cat", "dog", "no pet").index(name)].copy()
        total, row[("cat", "dog", "no pet").index(name)] = row.sum(), 0
        assert row.max() == row[("cat", "dog", "no pet").index(other)] and share == row.max() / total and name in names
    none = table[table["right"]]
    assert len(mistakes(none)) == 0 and taken_for(none) == {}


def test_pictures_show_what_the_numbers_say():
    import matplotlib.pyplot as plt

    from dans.front.look import plot_confusion, plot_mistakes, plot_seen, plot_training

    said, labels, table = answers()
    images = np.random.default_rng(0).integers(0, 255, (40, 24, 24, 3), dtype=np.uint8)
    seen = plot_seen(images[:2], [ImageConfig(24), ImageConfig(16, "mono")])
    assert [np.shape(ax.images[0].get_array()) for ax in seen[1]] == [(24, 24, 3), (16, 16)]
    found = report(labels, said, ("cat", "dog", "no pet"))
    ax = plot_confusion(found)
    assert [int(text.get_text()) for text in ax.texts] == np.ravel(found["confusion"]).tolist()
    shown = plot_mistakes(images, table, most=3, cols=2)
    first = mistakes(table).iloc[0]
    title = shown[0, 0].get_title(loc="left")
    assert first["image"] in title and f"taken for {first['answer']}" in title
    at = table.index[table["image"] == first["image"]][0]
    assert (shown[0, 0].images[0].get_array() == images[at]).all() and not shown[1, 1].axison
    loss, checked = plot_training([dict(epoch=1, loss=0.7, val=0.5), dict(epoch=2, loss=0.6, val=0.6)])
    assert loss.lines[0].get_ydata().tolist() == [0.7, 0.6] and checked.lines[0].get_ydata().tolist() == [50, 60]
    assert not plot_training([dict(epoch=1, loss=0.7)])[1].lines
    plt.close("all")


# Beside a network


def test_a_class_that_training_images_lack_is_never_the_answer():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    images = (rng.normal(100, 10, (60, 4, 4, 1)) + 60 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)
    found = logits_of(logistic(images, labels, 0.03), images, 3)
    assert (found.argmax(1) == labels).all() and np.isneginf(found[:, 2]).all()


# From a folder to firmware


def test_a_search_that_is_stopped_goes_on_and_ends_in_a_folder(photos, tmp_path, capfd, monkeypatch):
    from dans.front.find import Finding

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dans.front.preflight.BY_HAND", Architecture((1, 0, 0, 0, 0), 0.35, "eight"))
    words = [str(photos), *LIMITS, *TINY, "--baseline", "--out", str(tmp_path / "out"), "--json"]
    with monkeypatch.context() as patched:
        patched.setattr(Finding, "exported", stop)
        assert main(words) == 130
        out, err = capfd.readouterr()
        assert json.loads(out) == dict(status=130) and "the same command goes on from there" in err
        assert not [
            line for line in err.splitlines() if line.startswith(("WARNING: All log", "I0000", "E0000", "2026"))
        ]
    for trained in ("dans.paper.experiment.train_alone", "dans.net.supernet.Supernet.train"):
        monkeypatch.setattr(trained, lambda *_, **__: pytest.fail("trained again"))
    assert main(words) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["system"] in err and "beside" in err and "[5/5]" in err
    by_hand = found["baseline"]
    assert by_hand["system"] == "16px-mono-w0.35-d10000-eight" and by_hand["system"] in err
    assert (tmp_path / "out/baseline.tflite").stat().st_size == by_hand["file_bytes"]
    assert by_hand["images"] == found["test"]["images"] and 0 <= by_hand["int8_accuracy"] <= 1
    assert set(found["logistic_regression"]) > {"accuracy", "recall"} and len(found["test"]["recall"]) == 3
    assert all(found["takes"][axis] <= bound for axis, bound in found["limits"].items())
    names = {path.name for path in (tmp_path / "out/firmware").iterdir()}
    assert {"model.tflite", "model.keras", "model_data.cc", "preprocess.h", "model_card.md", "example"} <= names
    kept = json.loads((tmp_path / "out/found.json").read_text())
    assert kept["accuracy"] == found["accuracy"] == found["test"]["accuracy"]
    wrong = pd.read_csv(tmp_path / "out/mistakes.csv")
    assert len(wrong) == round((1 - found["accuracy"]) * found["test"]["images"]) and "mistakes" in err
    front = pd.read_csv(tmp_path / "out/front.csv")
    assert len(front) and front["score"].is_monotonic_decreasing
    assert wrong["image"][0] == found["mistakes"][0]["image"] and (photos / wrong["image"][0]).is_file()
    pictures = {path.name for path in (tmp_path / "out/pictures").iterdir()}
    assert pictures == {"seen.png", "supernet.png", "training.png", "confusion.png", "mistakes.png"}
