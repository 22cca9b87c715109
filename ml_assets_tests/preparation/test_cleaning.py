"""Repairs are made and counted, and a day comes out the same whichever days it is cleaned with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.preparation.cleaning import Repairs, clean
from ml_assets.preparation.writing import PARTITION

LANDED = datetime(2013, 1, 2, tzinfo=UTC)


def raw(*rows: tuple[int, float | None, int], day: str = "2013-01-01") -> pl.LazyFrame:
    """Rows of id, value and the hour in which they landed."""
    frame = pl.DataFrame(rows, schema={"id": pl.Int64, "value": pl.Float64, "hour": pl.Int64}, orient="row")
    landed = pl.lit(LANDED) + pl.duration(hours="hour")
    return frame.lazy().select("id", "value", landed_at=landed.dt.cast_time_unit("us"), _partition=pl.lit(day))


def values(frame: pl.DataFrame) -> list[tuple[int, float | None]]:
    return frame.select("id", "value").rows()


def test_without_repairs_nothing_changes() -> None:
    cleaned = clean(raw((1, 0.5, 0), (1, 0.5, 0)), Repairs())
    assert cleaned.frame.equals(raw((1, 0.5, 0), (1, 0.5, 0)).collect())
    assert cleaned.repairs == {"duplicates removed": 0}


def test_of_rows_with_the_same_key_the_last_landed_stays() -> None:
    cleaned = clean(raw((1, 0.1, 5), (2, 0.2, 0), (1, 0.3, 1), (1, 0.4, 5)), Repairs(key=["id"]))
    assert sorted(values(cleaned.frame)) == [(1, 0.4), (2, 0.2)]  # of one moment, the later row
    assert cleaned.repairs == {"duplicates removed": 2}


def test_what_cannot_be_believed_becomes_null_and_is_counted() -> None:
    rows = raw((1, -1.0, 0), (2, 0.0, 0), (3, 10.0, 0), (4, 10.1, 0), (5, None, 0), (6, float("nan"), 0))
    cleaned = clean(rows, Repairs(plausible={"value": (0, 10), "id": (1, 5)}))
    assert values(cleaned.frame) == [(1, None), (2, 0.0), (3, 10.0), (4, None), (5, None), (None, None)]
    assert cleaned.repairs == {
        "duplicates removed": 0,
        "value: implausible values to null": 3,
        "id: implausible values to null": 1,
    }


def test_only_what_stays_is_counted() -> None:
    cleaned = clean(raw((1, -1.0, 0), (1, 1.0, 1)), Repairs(key=["id"], plausible={"value": (0, 10)}))
    assert cleaned.repairs == {"duplicates removed": 1, "value: implausible values to null": 0}


def test_derive_sees_the_repaired_rows_and_what_it_uses() -> None:
    def derive(rows: pl.LazyFrame, *, names: pl.LazyFrame) -> pl.LazyFrame:
        return rows.join(names, on="id", how="left").with_columns(double=pl.col("value") * 2)

    names = pl.LazyFrame({"id": [1], "name": ["one"]})
    cleaned = clean(
        raw((1, 2.0, 0), (2, -2.0, 0)), Repairs(plausible={"value": (0, 9)}, derive=derive), uses={"names": names}
    )
    assert cleaned.frame.select("id", "name", "double").rows() == [(1, "one", 4.0), (2, None, None)]
    assert PARTITION in cleaned.frame.columns
    assert not [name for name in cleaned.frame.columns if name.startswith("_outside")]


rows = st.lists(st.tuples(st.integers(1, 3), st.floats(-1, 2), st.integers(0, 3)), max_size=6)


@settings(max_examples=40)
@given(first=rows, second=rows)
def test_a_day_comes_out_the_same_alone_and_with_others(
    first: list[tuple[int, float, int]], second: list[tuple[int, float, int]]
) -> None:
    days = [raw(*first, day="2013-01-01"), raw(*second, day="2013-01-02")]
    repairs = Repairs(key=["id"], plausible={"value": (0, 1)})
    together = clean(pl.concat(days), repairs)
    alone = [clean(day, repairs) for day in days]
    order = [PARTITION, "id"]
    assert together.frame.sort(order).equals(pl.concat(item.frame for item in alone).sort(order))
    assert together.repairs == {kind: sum(item.repairs[kind] for item in alone) for kind in together.repairs}


def test_a_table_without_partitions_is_cleaned_too() -> None:
    later = pl.lit(LANDED + timedelta(hours=9)).dt.cast_time_unit("us")
    whole = pl.concat([raw((1, 0.1, 0)), raw((1, 0.2, 0)).with_columns(landed_at=later)]).drop(PARTITION)
    assert values(clean(whole, Repairs(key=["id"])).frame) == [(1, 0.2)]
