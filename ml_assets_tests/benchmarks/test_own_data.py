"""The table is what it says, both arms judge the same rows, and the memory of processes is seen."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from benchmarks.arms.own_script import by_time
from benchmarks.own_data import (
    CLASSES,
    EVERY_NTH_NULL,
    KEY,
    SHARE,
    TARGET,
    TIME,
    frame,
    plain_script,
    same_test_rows,
    table,
    width,
)
from benchmarks.process_tree import TreePeak
from benchmarks.processes import python
from ml_assets.preparation.splits import share_windows
from ml_assets_tests.benchmarks.small import small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return frame(5_000)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_the_table_is_what_it_says(rows: pl.DataFrame) -> None:
    assert rows.shape == (5_000, width()) == (5_000, 30)
    assert rows[KEY].is_unique().all() and rows[TIME].is_sorted()
    assert rows[TARGET].mean() == pytest.approx(SHARE, abs=0.001)
    assert {rows.schema[name] for name in (TIME, "express", "x00", *CLASSES)} == {
        *(pl.Date, pl.Boolean, pl.Float64, pl.String),
    }
    nulls = {name: count for name, count in rows.null_count().row(0, named=True).items() if count}
    assert nulls == {name: pytest.approx(5_000 / every, rel=0.2) for name, every in EVERY_NTH_NULL.items()}


def test_the_table_is_seeded_and_made_once(rows: pl.DataFrame, tmp_path: Path) -> None:
    assert frame(5_000).equals(rows)
    first = table(tmp_path / "table", 100)
    made = first.stat().st_mtime_ns
    assert table(tmp_path / "table", 100).stat().st_mtime_ns == made
    assert pl.read_csv(table(tmp_path / "table", 120)).height == 120


# -- the arms ----------------------------------------------------------------------------------------------------------


def test_the_script_splits_as_a_declaration_does(rows: pl.DataFrame) -> None:
    windows = share_windows(rows[TIME].cast(pl.Datetime("us")), train=0.6, validation=0.2)
    ours = rows.with_columns(split=windows.expression(TIME))
    for name, part in zip(("train", "validation", "test"), by_time(rows, TIME), strict=True):
        assert part[KEY].to_list() == ours.filter(split=name)[KEY].to_list()


def test_the_script_learns_and_tells_the_rows_that_it_judged(tmp_path: Path) -> None:
    data = table(tmp_path / "table", 3_000)
    found = plain_script(tmp_path, data)
    assert found.result == by_time(frame(3_000), TIME)[2][KEY].to_list()
    assert 0.1 < found.details["error"] < 0.4
    assert 0.1 < found.details["peak_gb"] < 2


def test_errors_of_other_rows_are_not_compared() -> None:
    assert same_test_rows([1, 2], [1, 2]).equal is True
    other = same_test_rows([1, 2, 3], [1, 2])
    assert other.equal is False
    assert "1 of 3 and 2 test rows differ" in other.reason


@pytest.mark.slow
def test_a_small_file_goes_through_both_arms(tmp_path: Path) -> None:
    kept = small("own_data", tmp_path)
    assert {limit["detail"] for limit in kept["limits"]} == {"peak_gb", "error"}
    told = kept["details"]["ml-assets new and run"]
    assert 0.1 < told["error"] < 0.4 and 0.3 < told["peak_gb"] < 2


def test_the_days_are_past(rows: pl.DataFrame) -> None:
    last = rows[TIME].max()
    assert isinstance(last, date) and last < date(2024, 1, 1)


# -- memory ------------------------------------------------------------------------------------------------------------

HOLD = "import time; held = bytearray(120_000_000); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.5)"
ASKS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}], check=True)"
STARTS = f"{HOLD.replace('time.sleep(0.5)', ASKS)}"


@pytest.mark.parametrize(
    ("code", "least", "most"),
    [("pass", 0.0, 0.08), (HOLD, 0.12, 0.2), (STARTS, 0.24, 0.32)],
    ids=["nothing", "one", "one that starts another"],
)
def test_the_memory_of_a_process_and_its_children_is_seen(code: str, least: float, most: float, tmp_path: Path) -> None:
    with TreePeak(every=0.01) as memory:
        python(["-c", code], root=ROOT, log=tmp_path / "log")
    assert least <= memory.gigabytes <= most
