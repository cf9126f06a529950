"What estimates promise: enough measurements, a source for each, and never a figure without its error."

from dataclasses import replace

import pytest
from made import GRAPHS

from dans.cost.boards import DEVICES, speed_of
from dans.cost.footprint import footprint
from dans.cost.latency import costs, energy, latency, plot_costs
from dans.cost.limits import MOST_WRITTEN
from dans.cost.memory import operators
from dans.cost.speed import KINDS, ROWS, calibration, speed_from, speeds, unseen
from dans.cost.tflite import read
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.space import SearchSpace, System

SYSTEM = System(ImageConfig(48, "rgb"), Architecture((1, 2, 0, 0, 0), 0.3))
OPS = operators(SYSTEM, 2)


def test_a_figure_that_is_not_known_is_not_guessed():
    with pytest.raises(DansError, match="flash of nRF52840 DK is not known"):
        replace(DEVICES["nrf52840"], flash_bytes=None).limits()
    with pytest.raises(DansError, match="clock of .* is not known"):
        latency(OPS, replace(DEVICES["nrf52840"], clock_mhz=None), "microtvm+cmsis-nn")
    for name in ("rp2040", "esp32s3", "corstone300"):
        with pytest.raises(DansError, match=f"fewer than {ROWS} published latencies"):
            latency(OPS, DEVICES[name], "tflm+cmsis-nn")
    with pytest.raises(DansError, match="for this core use microtvm"):
        speed_of(DEVICES["nrf52840"])
    with pytest.raises(DansError, match="no power was published"):
        energy(latency(OPS, DEVICES["nrf52840"], "microtvm+cmsis-nn"), DEVICES["nrf52840"])


def test_every_speed_rests_on_enough_rows_with_sources():
    rows = [r for r in calibration() if r["outputs"]]
    assert len(speeds()) >= 11 and all(r["source"] and r["kind"] in KINDS for r in rows)
    for s in speeds():
        own = [r for r in rows if (r["core"], r["kernels"]) == (s.core, s.kernels)]
        assert len(own) == s.rows >= ROWS and {r["board"] for r in own} == set(s.boards)
        assert {r["model"] for r in own if r["kind"] == KINDS[0]} == set(s.errors)
        assert {r["model"] for r in own if r["kind"] != KINDS[0]} == {m for found in s.apart.values() for m in found}
        assert 0 < s.error < 0.25 and s.cycles_per_mac > 0 <= s.cycles_per_output
        assert s.outputs_per_mac[0] <= s.outputs_per_mac[1] < MOST_WRITTEN


def _rows(*rows):
    names = "core kernels board clock_mhz clock source".split()
    about = dict(zip(names, ("C", "k", "b", 100, "stated", "s")))
    fields = ("model", "kind", "macs", "outputs", "latency_ms")
    return [about | dict(zip(fields, row)) for row in rows]


def test_a_network_is_judged_by_a_fit_that_has_not_seen_it():
    given = [(f"m{i}", KINDS[0], 10**6 * (i + 1), 30_000 * (i % 3 + 1)) for i in range(6)]
    exact = [(*row, (2 * row[2] + 20 * row[3]) / 1e5) for row in given]  # 2 cycles for each MAC, 20 for each output
    s = speed_from(_rows(*exact))
    assert (s.cycles_per_mac, s.cycles_per_output) == pytest.approx((2, 20)) and s.error < 1e-9
    odd = ("odd", KINDS[0], 10**6, 30_000, 2 * (2e6 + 6e5) / 1e5)  # twice as slow, measured four times
    s = speed_from(_rows(*exact, *[odd] * 4, ("ad", "dense", 10**6, 1000, 60.0)))
    assert s.rows == 11 and s.errors["odd"] == pytest.approx(-0.5)  # its other rows did not help
    assert s.apart["dense"]["ad"] < -0.5  # a dense network carries no fit, and stands apart
    low, high = s.range(board="b")
    assert high == pytest.approx(2) and low == pytest.approx(1 / (1 + max(s.errors.values())))  # errors keep their sign
    assert s.range("dense", "b")[1] > 2 and s.range("wide", "b")[1] > 2
    with pytest.raises(DansError, match="1 depthwise-separable networks carry no fit"):
        speed_from(_rows(exact[0], exact[0]))


def test_boards_have_factors_and_no_number_is_below_nought():
    given = [(f"m{i}", KINDS[0], 10**6 * (i + 1), 30_000 * (i % 3 + 1)) for i in range(6)]
    rows = _rows(*[(*row, (2 * row[2] + 20 * row[3]) / 1e5) for row in given])
    slow = [r | dict(board="slow", latency_ms=1.21 * r["latency_ms"]) for r in rows]
    s = speed_from(rows + slow)
    assert s.boards["slow"] / s.boards["b"] == pytest.approx(1.21, rel=1e-3) and s.error < 1e-3
    assert s.range()[0] == pytest.approx(1 / 1.1, rel=1e-2) and s.range()[1] == pytest.approx(1.1, rel=1e-2)
    against = _rows(*[(*row, (3 * row[2] - 20 * row[3]) / 1e5) for row in given])
    assert speed_from(against).cycles_per_output == 0


def test_outputs_bring_errors_down_where_they_are_said_to():
    for kernels, before, after in (
        ("x-cube-ai-7.3", 0.4, 0.16),
        ("x-cube-ai-10.0", 0.3, 0.1),
        ("tinyengine", 0.14, 0.05),
    ):
        rows = [r for r in calibration() if (r["core"], r["kernels"], r["kind"]) == ("Cortex-M7", kernels, KINDS[0])]
        rows = [r for r in rows if r["outputs"]]
        worst = [max(map(abs, unseen(rows, outputs).values())) for outputs in (False, True)]
        assert worst[0] > before and worst[1] < after


def test_latency_scales_with_clock_and_work():
    fast, slow = (latency(OPS, replace(DEVICES["nrf52840"], clock_mhz=mhz), "microtvm+cmsis-nn") for mhz in (128, 64))
    assert slow.ms == pytest.approx(2 * fast.ms) and slow.low < slow.ms < slow.high and slow.error == fast.error > 0
    assert fast.ms == latency(OPS, replace(DEVICES["nrf52840"], clock_mhz=128), "microtvm+cmsis-nn").ms
    assert "2 networks" in str(slow) and "another board" in str(slow)
    limits = DEVICES["stm32l4r5"].limits(latency_ms=100, kernels="x-cube-ai-7.3")
    space, board = list(SearchSpace.preset("quick"))[::40], DEVICES["stm32l4r5"]
    plain = [s for s in space if limits.admits(footprint(s, 2))]
    inside = [s for s in space if limits.admits(limits.cost(s, 2))]
    assert plain and set(plain) <= set(inside)  # a footprint that does not say what is written is judged by the most
    high = {s: latency(operators(s, 2), board, "x-cube-ai-7.3").high for s in space}
    assert (
        max(high[s] for s in inside)
        <= 100
        < min(high[s] for s in space if s not in inside and limits.admits(replace(limits.cost(s, 2), macs=0, cycles=0)))
    )


def test_energy_is_published_power_times_latency():
    board = DEVICES["stm32l4r5"]
    time = latency(OPS, board, "x-cube-ai-7.3")
    found = energy(time, board)
    assert (
        found.low_mj == pytest.approx(time.low * board.power_mw[0] / 1000)
        and found.high_mj > found.low_mj
        and "X-CUBE-AI" in found.source
    )


def test_the_range_holds_for_the_boards_that_were_measured():
    speed = speed_of(DEVICES["stm32h743"], "tflm+cmsis-nn")
    assert set(speed.boards) == {"STM32H743"}
    assert "another board" not in latency(OPS, DEVICES["stm32h743"], speed.kernels).caveat  # its chip was measured
    assert "480 MHz inferred" in latency(OPS, DEVICES["stm32h743"], speed.kernels).caveat
    known = {row["board"] for row in calibration()}
    assert {name for d in DEVICES.values() for name in d.measured_on} <= known
    other = replace(DEVICES["stm32h743"], measured_on=())  # a part of a name is not enough
    assert "another board" in latency(OPS, other, speed.kernels).caveat


def test_a_library_is_offered_where_it_may_run():
    assert "x-cube-ai-7.3" not in DEVICES["nrf52840"].kernels and "x-cube-ai-7.3" in DEVICES["stm32l4r5"].kernels
    with pytest.raises(DansError, match="STMicroelectronics alone"):
        DEVICES["nrf52840"].limits(latency_ms=100, kernels="x-cube-ai-7.3")
    assert "tflm+cmsis-nn" in DEVICES["nrf52840"].kernels and DEVICES["teensy41"].kernels == ()


def test_a_network_beyond_those_measured_has_a_wider_range():
    time = latency(OPS, DEVICES["nrf52840"], "tflm+cmsis-nn")
    speed = time.speed
    assert time.outputs_per_mac > speed.outputs_per_mac[1] and "elements for each MAC" in time.caveat
    assert time.low < time.ms * speed.range()[0] and time.high == pytest.approx(time.ms * speed.range()[1])


def test_a_network_on_int16_has_memory_and_no_time(tmp_path):
    file = tmp_path / "short.tflite"
    file.write_bytes(GRAPHS["CONV_2D, int64, 16 bits"])
    with pytest.raises(DansError, match="works on int16"):
        latency(read(file).ops, DEVICES["nrf52840"], "tflm+cmsis-nn")
    row = costs(file, "Arduino Nano 33 BLE Sense")[0]
    assert (row["board"], row["ms"], row["fits"]) == ("Arduino Nano 33 BLE Sense", None, True)


def test_costs_as_a_picture(tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(GRAPHS["CONV_2D"])
    rows = costs(file, ["Nicla Vision", "Raspberry Pi Pico"])
    axes = plot_costs(rows)
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["Nicla Vision", "Raspberry Pi Pico"]
    assert [bar.get_width() for bar in axes[0].patches] == [row["ram_bytes"] / row["ram_of"] for row in rows]
