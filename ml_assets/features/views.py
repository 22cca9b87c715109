"""Feature views as tables: computed lazily, one row per entity and moment, in the partition of that moment's day."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Expectation, Suite, suite_for

EVENT_TIMESTAMP, CREATED_TIMESTAMP = "event_timestamp", "created_timestamp"


class ViewError(ValueError):
    """A feature function does not return what a feature view needs."""


def compute_view(
    compute: Callable[[pl.LazyFrame], pl.LazyFrame], source: pl.LazyFrame, *, time_zone: str
) -> pl.DataFrame:
    """Run a feature function and add the column `_partition`: the day of `event_timestamp` in `time_zone`."""
    frame = compute(source)
    schema = frame.collect_schema()
    for column in (EVENT_TIMESTAMP, CREATED_TIMESTAMP):
        if schema.get(column) != pl.Datetime("us", "UTC"):
            name = getattr(compute, "__name__", repr(compute))
            raise ViewError(f"{name}: column {column!r} is {schema.get(column)}; return it as Datetime('us', 'UTC')")
    day = pl.col(EVENT_TIMESTAMP).dt.convert_time_zone(time_zone).dt.date().dt.to_string()
    return frame.with_columns(day.alias(PARTITION)).collect()


def view_suite(table: str, entity: Sequence[str], expectations: Sequence[Mapping[str, Any]]) -> Suite:
    """Return the suite of a view: moments and keys are there and name one row; and what is declared besides."""
    there = [*entity, EVENT_TIMESTAMP, CREATED_TIMESTAMP]
    return suite_for(
        table,
        (),
        extra=[
            *(Expectation("expect_column_values_to_not_be_null", {"column": column}) for column in there),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*entity, EVENT_TIMESTAMP]}),
            *(Expectation.from_dict(item) for item in expectations),
        ],
    )
