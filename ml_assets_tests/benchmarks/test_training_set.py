"""The bare join is a right answer, and a wrong one is noticed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.training_set import View, bare, same_values

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def hours(*counts: float) -> pl.Series:
    return pl.Series([NOON + timedelta(hours=count) for count in counts], dtype=pl.Datetime("us", "UTC"))


def view(tmp_path: Path, ttl: timedelta | None) -> View:
    rows = pl.DataFrame({"event_timestamp": hours(2, 0), "origin": ["EWR", "EWR"], "temp": [2.0, 0.0]})
    rows.write_parquet(tmp_path / "rows.parquet")
    return View([str(tmp_path / "rows.parquet")], ["origin"], ["temp"], ttl)


def asked() -> pl.DataFrame:
    return pl.DataFrame({"event_timestamp": hours(-1, 0, 1, 5), "origin": ["EWR", "EWR", "EWR", "EWR"]})


def test_the_bare_join_takes_the_last_value_that_was_true(tmp_path: Path) -> None:
    assert bare(asked(), [view(tmp_path, None)])["temp"].to_list() == [None, 0.0, 0.0, 2.0]


def test_the_bare_join_forgets_what_is_older_than_the_time_to_live(tmp_path: Path) -> None:
    assert bare(asked(), [view(tmp_path, timedelta(hours=2))])["temp"].to_list() == [None, 0.0, 0.0, None]


def test_equal_frames_are_equal_in_any_order_of_columns() -> None:
    ours = pl.DataFrame({"a": [1, None], "b": [0.5, float("nan")]})
    assert same_values(ours, ours.select("b", "a")).equal


def test_another_value_is_named_with_its_column() -> None:
    found = same_values(pl.DataFrame({"a": [1, 2], "b": [1, 1]}), pl.DataFrame({"a": [1, 3], "b": [1, 1]}))
    assert found.equal is False
    assert "{'a': 1}" in found.reason


def test_another_type_is_a_difference() -> None:
    assert same_values(pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1.0]})).equal is False


def test_another_row_is_a_difference() -> None:
    assert same_values(pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [1, 1]})).equal is False
