"What boards promise: sources, limits, and estimates that are never without their error."

from dataclasses import replace

import numpy as np
import pytest

from dans.boards import DEVICES, ROWS, Fit, board_named, calibration, energy, fits, holders, latency, speed_of, speeds
from dans.hardware import Limits, footprint, operators
from dans.space import Architecture, DansError, DataConfig, SearchSpace, System

SYSTEM = System(DataConfig(48, "rgb"), Architecture((1, 2, 0, 0, 0), 0.3))
OPS = operators(SYSTEM, 2)


def test_boards_state_their_numbers_and_sources():
    assert len(DEVICES) >= 12
    for device in DEVICES.values():
        assert device.source and device.chip and device.core
        if device.block_bytes is not None:
            assert device.block_source and device.block_bytes <= device.ram_bytes
        if device.power_mw is not None:
            assert device.power_source and device.power_mw[0] <= device.power_mw[1]
    board = DEVICES["nrf52840"]
    assert board.limits(1024, 2048, 5) == Limits(255 * 1024, 1022 * 1024, 5)
    with pytest.raises(DansError, match="leaves nothing of the RAM"):
        board.limits(runtime_reserve=256 * 1024)


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
        assert {r["board"] for r in own} == set(s.board.split(" and "))


def test_a_network_is_judged_by_a_fit_that_has_not_seen_it(monkeypatch, tmp_path):
    import dans.boards as boards

    lines = ["core,kernels,board,clock_mhz,clock,model,macs,conv_macs,latency_ms,source"]
    # 2 cycles for each MAC
    lines += [f"C,k,b,100,stated,m{i},{10**6 * (i + 1)},,{20.0 * (i + 1)},s" for i in range(7)]
    lines += ["C,k,b,100,stated,odd,1000000,,30,s"] * 4  # 3 cycles, measured four times
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines))
    monkeypatch.setattr(boards, "_CALIBRATION", path)
    (s,) = boards.speeds.__wrapped__()
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


def test_what_fits():
    space = SearchSpace.preset("quick")
    rows = fits(space, {"all": Limits(), "none": Limits(ram_bytes=1), "some": Limits(ram_bytes=8192)}, 2)
    assert (
        sum(r["fitting"] for r in rows if r["board"] == "all")
        == len(space)
        == sum(r["systems"] for r in rows if r["board"] == "none")
    )
    assert {r["widest"] for r in rows if r["board"] == "none"} == {None}
    some = {r["resolution"]: r for r in rows if r["board"] == "some"}
    assert np.all(np.diff([some[r]["fitting"] for r in space.resolutions]) <= 0)


def test_a_board_is_found_by_any_of_its_names():
    for name, key in (
        ("nrf52840", "nrf52840"),
        ("NRF52840 dk", "nrf52840"),
        ("arduino-nano-33-ble-sense", "nrf52840"),
        ("STM32F446RE", "stm32f446"),
        ("Raspberry Pi Pico W", "rp2040"),
        ("Nicla Vision", None),
        ("OpenMV Cam H7 Plus", "stm32h743"),
        ("Portenta H7", None),
    ):
        if key:
            assert board_named(name) == DEVICES[key]
        else:  # a part of a name is a hint, not a board
            with pytest.raises(DansError, match="did you mean stm32h747"):
                board_named(name)
    for name in ("", "toaster", "esp"):
        with pytest.raises(DansError, match="is unknown"):
            board_named(name)
    names = [n.lower() for d in DEVICES.values() for n in (d.board, *d.also)]
    assert len(set(names)) == len(names)


def test_a_fit_says_what_is_left_or_what_is_missing():
    board = DEVICES["nrf52840"]
    inside, outside = Fit(board, 200 * 1024, 24 * 1024), Fit(board, 256 * 1024 + 16, 2 * 1024**2)
    assert inside.lacks == {} and "leaves 56 KiB of RAM and 1000 KiB of flash" in str(inside)
    assert outside.lacks == dict(RAM=16, flash=1024**2) and "16 B too much RAM and 1 MiB too much flash" in str(outside)
    assert "nrf52840" in holders(200 * 1024, 24 * 1024) and "nrf52840" not in holders(256 * 1024 + 16, 1)
    assert Fit(DEVICES["corstone300"], 1024, 10**9).lacks == {} and "not known" in str(
        Fit(DEVICES["corstone300"], 1024, 1)
    )
    sizes = [DEVICES[name].block_bytes for name in holders(1, 1)]
    assert sizes == sorted(sizes)


def test_limits_of_a_board_hold_for_the_arena_with_the_library_that_is_named():
    board = DEVICES["nrf52840"]
    assert board.limits().kernels == "reference" and board.limits(kernels="tflm+cmsis-nn").kernels == "cmsis-nn"
    assert (
        DEVICES["corstone300"].scratch("cmsis-nn") == "cmsis-nn-mve" and board.scratch("x-cube-ai-7.3") == "reference"
    )
    with pytest.raises(DansError, match="kernels 'CMSISNN' are unknown"):
        board.limits(kernels="CMSISNN")
