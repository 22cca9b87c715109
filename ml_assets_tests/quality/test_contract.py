from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from ml_assets.quality import ColumnContract, ContractError, Expectation, SuiteError, Verdict, evaluate, suite_for

COLUMNS = (
    ColumnContract(name="flight_id", dtype="String", description="unique name of a flight"),
    ColumnContract(name="origin", dtype="String", categories=["EWR", "JFK", "LGA"]),
    ColumnContract(name="distance", dtype="Int64", minimum=1, maximum=6000, unit="miles"),
    ColumnContract(name="delay", dtype="Float64", nullable=0.5, minimum=-120, unit="minutes"),
    ColumnContract(name="gust", dtype="Float64", nullable=True, minimum=0, sparse=True),
    ColumnContract(name="pilot", dtype="String", nullable=True, categories=["x"], personal=True),
    ColumnContract(name="event_timestamp", dtype="Datetime", minimum="2013-01-01", maximum="2014-01-01"),
)
GOOD = pl.DataFrame(
    {
        "flight_id": ["a", "b"],
        "origin": ["EWR", "LGA"],
        "distance": [100, 200],
        "delay": [None, 3.0],
        "gust": pl.Series([None, None], dtype=pl.Float64),
        "pilot": ["x", None],
        "event_timestamp": [datetime(2013, 1, 1, tzinfo=UTC)] * 2,
        "surplus": [1, 2],
    }
)


def verdict(frame: pl.DataFrame, **options: Any) -> Verdict:
    return evaluate(frame, suite_for("clean_flights", COLUMNS, key=["flight_id"], **options))[""]


def test_good_data_is_green() -> None:
    found = verdict(GOOD)
    assert found.success, found.reason()
    assert [result.note for result in found.results if result.note] == ["not applicable: all 2 values are null"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.lit(0).alias("distance"), "`distance` must be at least 1 and at most 6000"),
        (pl.lit(1.0).alias("distance"), "`distance` must be of type Int64"),
        (pl.lit("BOS").alias("origin"), "`origin` must be one of EWR, JFK, LGA"),
        (pl.lit("a").alias("flight_id"), "`flight_id` must be unique"),
        (pl.lit(None, dtype=pl.String).alias("flight_id"), "`flight_id` must not be null"),
        (pl.lit(None, dtype=pl.Float64).alias("delay"), "`delay` must not be null in at least 50 %"),
        (pl.lit(-1.0).alias("gust"), "`gust` must be at least 0"),
        (pl.lit(datetime(2015, 1, 1, tzinfo=UTC)).alias("event_timestamp"), "at most 2014-01-01"),
    ],
)
def test_each_promise_can_break(change: pl.Expr, words: str) -> None:
    found = verdict(GOOD.with_columns(change))
    assert not found.success
    assert words in found.reason()


def test_a_missing_column_and_too_few_rows_are_red() -> None:
    assert "missing: gust" in verdict(GOOD.drop("gust")).markdown()
    assert "rows must be at least 3" in verdict(GOOD, minimum_rows=3).reason()


def test_personal_values_never_appear() -> None:
    found = verdict(GOOD.with_columns(pilot=pl.lit("Amelia")))
    assert not found.success
    assert "Amelia" not in str(found.to_dict()) + found.markdown()


def test_severity_is_about_values_only() -> None:
    column = ColumnContract(name="distance", dtype="Int64", minimum=1, severity="warning")
    suite = suite_for("s", [column])
    assert evaluate(pl.DataFrame({"distance": [0]}), suite)[""].success
    assert not evaluate(pl.DataFrame({"distance": [0.5]}), suite)[""].success


def test_a_key_of_several_columns_counts_nulls() -> None:
    columns = [ColumnContract(name=name, dtype="Int64", nullable=True) for name in "ab"]
    suite = suite_for("s", columns, key=["a", "b"])
    frame = pl.DataFrame({"a": [None, None, 1], "b": [None, None, 1]}, schema={"a": pl.Int64, "b": pl.Int64})
    assert evaluate(frame, suite)[""].results[-1].unexpected_count == 2


def test_a_unique_key_is_checked_once_and_extra_comes_last() -> None:
    extra = Expectation("expect_column_mean_to_be_between", {"column": "id", "min_value": 0})
    suite = suite_for("s", [ColumnContract(name="id", dtype="Int64", unique=True)], key=["id"], extra=[extra])
    assert [item.type for item in suite].count("expect_column_values_to_be_unique") == 1
    assert suite.expectations[-1] == extra


def test_polars_types() -> None:
    assert [column.polars_type for column in COLUMNS][::3] == [pl.String(), pl.Float64(), pl.Datetime("us", "UTC")]
    assert ColumnContract(name="x", dtype="Enum", categories=["a", "b"]).polars_type == pl.Enum(["a", "b"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"dtype": "int"}, "Polars dtype"),
        ({"nullable": 1.5}, "share from 0 to 1"),
        ({"nullable": 0.5, "sparse": True}, "set nullable=True"),
        ({"minimum": "low"}, "cannot be compared with a column of type Int64; change the dtype"),
        ({"dtype": "Datetime", "minimum": 5}, "no ISO 8601 time"),
        ({"dtype": "String", "categories": [1]}, "cannot be compared with a column of type String"),
        ({"minimum": 5, "maximum": 1}, "admits no value"),
        ({"dtype": "List"}, "is nested"),
    ],
)
def test_a_contradiction_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        ColumnContract(**{"name": "x", "dtype": "Int64", **fields})


def test_a_suite_of_contradictions_is_refused() -> None:
    column = ColumnContract(name="id", dtype="Int64")
    with pytest.raises(ContractError, match="'id' has two contracts"):
        suite_for("s", [column, column])
    with pytest.raises(ContractError, match="key column 'idd' has no contract; did you mean 'id'"):
        suite_for("s", [column], key=["idd"])
    with pytest.raises(SuiteError, match="unknown expectation type"):
        suite_for("s", [column], extra=[Expectation("expect_magic")])
