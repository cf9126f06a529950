"What the benchmark kit promises: files that fit small boards, a table to fill in, an estimate that follows from it."

import csv

from dans.board.export import main
from dans.board.kit import KIT, benchmark_kit
from dans.cost.boards import board_of
from dans.cost.footprint import footprint
from dans.cost.limits import written
from dans.cost.memory import operators
from dans.cost.tflite import read


def test_the_models_differ_and_fit_small_boards():
    costs = {name: footprint(system, 2) for name, system in KIT.items()}
    ratios = sorted(written(operators(system, 2)) / costs[name].macs for name, system in KIT.items())
    assert len(KIT) == 5 and ratios[-1] > 3 * ratios[0]
    assert all(c.arena_bytes < 100 * 1024 and c.flash_bytes < 300 * 1024 for c in costs.values())


def test_a_kit_that_was_measured_is_a_board_with_a_speed(tmp_path, monkeypatch, capsys):
    folder = benchmark_kit(tmp_path / "kit", ["shallow-64px"])
    graph = read((folder / "shallow-64px.tflite").read_bytes())
    assert graph.macs == footprint(KIT["shallow-64px"], 2).macs and "Invoke" in (folder / "README.md").read_text()
    assert list(csv.DictReader((folder / "measurements.csv").open())) == [{"file": "shallow-64px.tflite", "ms": ""}]
    (folder / "measurements.csv").write_text("file,ms\nshallow-64px.tflite,24\n,\n")
    (folder / "more.csv").write_text("file,macs,outputs,model,ms\nshallow-64px.tflite,,,,24\n,3000000,100000,m,60\n")
    board = board_of("rp2040", folder / "more.csv")
    assert board.kernels == ("measured",) and set(board.speed.errors) == {"shallow-64px.tflite", "m"}

    monkeypatch.setattr("dans.board.kit.kit_model", lambda name: name.encode())
    try:
        main(["--benchmark-kit", str(tmp_path / "other")])
    except SystemExit as end:
        assert not end.code
    assert len(list((tmp_path / "other").glob("*.tflite"))) == 5 and "written to" in capsys.readouterr().out
