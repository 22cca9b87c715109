"""The curve: every cell is compared, and where Feast is cut off nothing larger is tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from benchmarks.feature_store_curve import Cell, Curve, all_equal
from benchmarks.processes import BenchError, CutOffError
from benchmarks.runner import Measured

CELLS = [Cell(per_entity, rows) for per_entity in (1, 2, 3) for rows in (10, 20, 30)]


@pytest.fixture
def results(tmp_path: Path) -> Callable[[float], Path]:
    """Write a result of one value."""

    def write(value: float) -> Path:
        path = tmp_path / f"{value}.parquet"
        pl.DataFrame({"row": [0], "x": [value]}).write_parquet(path)
        return path

    return write


def a_curve(result: Callable[[float], Path], cut: set[Cell], asked: list[Cell], **values: float) -> Curve:
    def arm(name: str, seconds: float) -> Callable[[Cell], Measured]:
        return lambda _: Measured(result(values.get(name, 1.0)), seconds, {"added_mb": 5.0})

    def theirs(cell: Cell) -> Measured:
        asked.append(cell)
        if cell in cut:
            raise CutOffError("longer than 300 s")
        return arm("theirs", 100.0)(cell)

    return Curve(CELLS, arm("ours", 1.0), theirs, arm("bare", 0.5))


def test_what_is_larger_in_both_directions_than_a_cut_off_cell_is_not_run(results: Callable[[float], Path]) -> None:
    asked: list[Cell] = []
    curve = a_curve(results, {Cell(2, 20)}, asked)
    ours, theirs = curve.ours(), curve.theirs()
    assert asked == [Cell(1, 10), Cell(1, 20), Cell(1, 30), Cell(2, 10), Cell(2, 20), Cell(3, 10)]
    reasons = {one.cell: one.without for one in curve.found if not one.theirs}
    assert reasons == {
        Cell(2, 20): "cut off: longer than 300 s",
        Cell(2, 30): "skipped, as 2 × 20",
        Cell(3, 20): "skipped, as 2 × 20",
        Cell(3, 30): "skipped, as 2 × 20",
    }
    assert (ours.seconds, theirs.seconds) == (5.0, 500.0)  # of the five cells that both arms finished
    assert ours.details["3 × 30: seconds"] == 1.0
    assert "3 × 30: seconds" not in theirs.details
    assert len(ours.remarks) == 1 + len(CELLS)
    assert "skipped, as 2 × 20" in ours.remarks[-1]


@pytest.mark.parametrize("arm", ["theirs", "bare"])
def test_a_difference_in_a_cell_is_named(arm: str, results: Callable[[float], Path]) -> None:
    curve = a_curve(results, set(), [], **{arm: 2.0})
    found = all_equal(curve.ours().result, curve.theirs().result)
    assert found.equal is False
    assert "3 × 30: values differ in {'x': 1}" in found.reason


def test_equal_cells_are_equal(results: Callable[[float], Path]) -> None:
    curve = a_curve(results, {Cell(1, 30)}, [])
    assert all_equal(curve.ours().result, curve.theirs().result).equal


def test_without_a_cell_that_feast_finished_there_is_nothing_to_tell(results: Callable[[float], Path]) -> None:
    with pytest.raises(BenchError, match="finished no cell"):
        a_curve(results, set(CELLS), []).ours()
