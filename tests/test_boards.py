"What boards promise: a source for each figure, limits that hold, and names that are found."

import numpy as np
import pytest

from dans.cost.boards import DEVICES, Fit, board_named, holders, holdings
from dans.cost.limits import Limits
from dans.house import DansError
from dans.space import SearchSpace


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


def test_what_fits():
    space = SearchSpace.preset("quick")
    rows = holdings(space, {"all": Limits(), "none": Limits(ram_bytes=1), "some": Limits(ram_bytes=8192)}, 2)
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
