"What boards promise: a source for each figure, limits that hold, and names that are found."

import json

import numpy as np
import pytest

from dans.cost.boards import DEVICES, Fit, board_file, board_named, board_of, holders, holdings
from dans.cost.latency import latency
from dans.cost.limits import Limits
from dans.cost.memory import operators
from dans.families import Architecture
from dans.frontends import ImageConfig
from dans.house import DansError
from dans.space import SearchSpace, System


def test_boards_state_their_numbers_and_sources():
    assert len(DEVICES) >= 12
    for device in DEVICES.values():
        assert device.source and device.chip and device.core
        if device.block_bytes is not None:
            assert device.block_source and device.block_bytes <= device.ram_bytes
        if device.power_mw is not None:
            assert device.power_source and device.power_mw[0] <= device.power_mw[1]
        if device.psram_bytes is not None:
            assert device.psram_source
    assert DEVICES["stm32l4r5"].block_bytes == 640 * 1024 and DEVICES["stm32u575"].block_bytes == 768 * 1024
    assert DEVICES["stm32h7a3"].ram_bytes == 1376 * 1024
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
        ("Nicla Vision", "stm32h747"),
        ("OpenMV Cam H7 Plus", "openmv_h7_plus"),
        ("Portenta H7", "portenta_h7"),
        ("XIAO ESP32S3 Sense", "xiao_esp32s3"),
        ("Grove Vision AI V2", "grove_vision_ai_v2"),
        ("STM32N6570-DK", "stm32n6570"),
        ("Alif Ensemble E7", "alif_e7"),
        ("OpenMV H7 Plus", "openmv_h7_plus"),
        ("Coral Dev Board Micro", "coral_micro"),
        ("MAX78000", "max78000"),
        ("ESP32-P4", "esp32p4"),
        ("ESP32-S3", "esp32s3"),
        ("Teensy 4.1", "teensy41"),
        ("Raspberry Pi Pico 2", "rp2350"),
    ):
        found, device = board_named(name), DEVICES[key]
        assert (found.chip, found.source, found.measured) == (device.chip, device.source, device.measured)
        assert found.board in (device.board, *device.also)
    assert board_named("arduino nano 33 ble sense").board == "Arduino Nano 33 BLE Sense"  # as it was asked for
    with pytest.raises(DansError, match="did you mean stm32h747"):  # a part of a name is a hint, not a board
        board_named("Nicla")
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


def test_a_board_with_slower_ram_beside_the_chip():
    board = DEVICES["xiao_esp32s3"]
    assert "slower RAM beside the chip would hold" in str(Fit(board, 2**20, 1024)) and Fit(board, 2**20, 1024).lacks
    assert board.limits(psram=True).arena_bytes == 8 * 2**20 > board.limits().arena_bytes
    with pytest.raises(DansError, match="no latency is known"):
        board.limits(psram=True, latency_ms=10)
    with pytest.raises(DansError, match="the PSRAM of nRF52840 DK is not known"):
        DEVICES["nrf52840"].limits(psram=True)


@pytest.mark.parametrize("form", ["yml", "json"])
def test_three_lines_are_a_board(tmp_path, form):
    path = tmp_path / f"board.{form}"
    said = dict(ram="256 KiB", flash="1 MB", clock="64 MHz")
    path.write_text(json.dumps(said) if form == "json" else "\n".join(f"{k}: {v}" for k, v in said.items()))
    board = board_named(str(path))
    assert (board.board, board.clock_mhz, board.block_bytes, board.flash_bytes) == ("board", 64, 2**18, 2**20)
    assert board.kernels == () and board.limits() == Limits(2**18, 2**20) and board.psram_bytes is None
    more = said | dict(
        name="mine", core="Cortex-M4", psram="8 MiB", power_mw=[20, 30], external_flash=False, total_ram="300K"
    )
    path.write_text(json.dumps(more))
    board = board_named(str(path))
    assert board.board == "mine" and "tflm+cmsis-nn" in board.kernels and board.power_mw == (20, 30)
    assert board.psram_bytes == 2**23 and board.ram_bytes == 300 * 1024
    for wrong, match in (
        (dict(ram="plenty"), "'plenty' is no size"),
        (dict(ram="1.5 B"), "is no size"),
        (dict(clock="fast"), "no clock in whole MHz"),
        (dict(total_ram="1 KiB"), "total_ram is less than ram"),
        (dict(power_mw=[3, 2]), "no range of power"),
        (dict(external_flash="yes"), "neither true nor false"),
        (dict(name=3), "is no text"),
        (dict(rom="1 MiB"), "'rom' is unknown"),
        (dict(flash=None), "is no size"),
    ):
        path.write_text(json.dumps(said | wrong))
        with pytest.raises(DansError, match=match):
            board_file(path)
    for text in ("{", "[1, 2]", ""):
        path.write_text(text)
        with pytest.raises(DansError, match="cannot be read as a board|holds no fields"):
            board_file(path)
    with pytest.raises(DansError, match="cannot be read as a board"):
        board_named(str(tmp_path / "none.yml"))


def test_your_own_measurements_make_an_estimate(tmp_path):
    table, said = tmp_path / "mine.csv", "model,macs,outputs,ms\n"
    works = [(10**6, 60_000), (5 * 10**6, 200_000), (2 * 10**6, 40_000)]
    own = [(3 * m + 50 * o) / 240e3 for m, o in works]
    table.write_text(said + "".join(f"m{i},{m},{o},{ms}\n" for i, ((m, o), ms) in enumerate(zip(works, own))))
    board = board_of("XIAO ESP32S3 Sense", table)  # no time was published for this one
    assert board.kernels == ("measured",) and board.measured == board.board
    assert board.speed.cycles_per_mac == pytest.approx(3) and board.speed.error < 1e-9
    ops = operators(System(ImageConfig(48), Architecture((1, 2, 0, 0, 0), 0.3)), 2)
    time = latency(ops, board)
    assert time.device is board and "another board" not in str(time)
    table.write_text(said + f"m0,{works[0][0]},{works[0][1]},100\nm1,{works[1][0]},{works[1][1]},390\n")
    board = board_of("nrf52840", table)  # two networks, and a library on the same core: a multiple of that
    assert len(board.speed.errors) == 2 and board.speed.error < 0.2 and board.speed.kernels == "measured"
    assert board.limits(latency_ms=100).macs > 0
    for text, match in (
        (said, "holds no measurement"),
        (said + "m,1,1,soon\n", "line 2: ms='soon'"),
        (said + "m,0,1,3\n", "macs='0' is not above 0"),
        ("file,ms\nnone.tflite,3\n", "cannot be read"),
        (said + "m,1,1,3\n", "one measured network says nothing"),
    ):
        table.write_text(text)
        with pytest.raises(DansError, match=match):
            board_of("nrf52840", table)
