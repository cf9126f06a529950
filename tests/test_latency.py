"What estimates promise: enough measurements, a source for each, and never a figure without its error."

from dataclasses import replace

import pytest

from dans.cost.boards import DEVICES, speed_of
from dans.cost.footprint import footprint
from dans.cost.latency import energy, latency
from dans.cost.memory import operators
from dans.cost.speed import ROWS, calibration, speeds
from dans.house import DansError
from dans.space import Architecture, DataConfig, SearchSpace, System

SYSTEM = System(DataConfig(48, "rgb"), Architecture((1, 2, 0, 0, 0), 0.3))
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
    rows = calibration()
    assert len(speeds()) >= 5
    for s in speeds():
        own = [r for r in rows if (r["core"], r["kernels"]) == (s.core, s.kernels)]
        assert (
            len(own) == s.rows >= ROWS and {r["model"] for r in own} == set(s.errors) and all(r["source"] for r in own)
        )
        assert 0 < s.error < 1 and s.cycles_per_mac[1] > 0
        assert {r["board"] for r in own} == set(s.boards)


def test_a_network_is_judged_by_a_fit_that_has_not_seen_it(monkeypatch, tmp_path):
    import dans.cost.speed as speed

    lines = ["core,kernels,board,clock_mhz,clock,model,macs,conv_macs,latency_ms,source"]
    # 2 cycles for each MAC
    lines += [f"C,k,b,100,stated,m{i},{10**6 * (i + 1)},,{20.0 * (i + 1)},s" for i in range(7)]
    lines += ["C,k,b,100,stated,odd,1000000,,30,s"] * 4  # 3 cycles, measured four times
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    monkeypatch.setattr(speed, "_CALIBRATION", path)
    (s,) = speed.speeds.__wrapped__()
    assert s.rows == 11 and s.errors["odd"] == pytest.approx(2 / 3 - 1)  # its other rows did not help
    assert all(e > 0 for model, e in s.errors.items() if model != "odd") and s.error == pytest.approx(1 / 3)


def test_latency_scales_with_clock_and_work():
    fast, slow = (latency(OPS, replace(DEVICES["nrf52840"], clock_mhz=mhz), "microtvm+cmsis-nn") for mhz in (128, 64))
    assert slow.ms == pytest.approx(2 * fast.ms) and slow.low < slow.ms < slow.high and slow.error == fast.error > 0
    assert fast.ms == latency(OPS, replace(DEVICES["nrf52840"], clock_mhz=128), "microtvm+cmsis-nn").ms
    assert "4 networks" in str(slow) and "another board" in str(slow)
    limits = DEVICES["stm32l4r5"].limits(latency_ms=100, kernels="x-cube-ai-7.3")
    inside = [s for s in SearchSpace.preset("quick") if limits.admits(footprint(s, 2))]
    assert inside and max(latency(operators(s, 2), DEVICES["stm32l4r5"], "x-cube-ai-7.3").ms for s in inside) <= 100


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
    assert speed.boards == ("STM32H743",)
    assert "another board" not in latency(OPS, DEVICES["stm32h743"], speed.kernels).caveat  # its chip was measured
    assert "480 MHz inferred" in latency(OPS, DEVICES["stm32h743"], speed.kernels).caveat
    known = {row["board"] for row in calibration()}
    assert {name for d in DEVICES.values() for name in d.measured_on} <= known
    other = replace(DEVICES["stm32h743"], measured_on=())  # a part of a name is not enough
    assert "another board" in latency(OPS, other, speed.kernels).caveat
