"""Observations: what is predicted, for whom, as of when, and what was known about the outcome by then."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Expectation, Suite, suite_for

REQUIRED = {"event_timestamp": pl.Datetime("us", "UTC"), "label_timestamp": pl.Datetime("us", "UTC")}
LABEL, LABEL_TIMESTAMP, EVENT_TIMESTAMP = "label", "label_timestamp", "event_timestamp"


class ObservationsError(ValueError):
    """The declared query does not give observations: a column is missing, of a wrong type, or null where it must not be."""


def query(sql: str, tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Run the declared SQL (Polars' dialect) over lake tables, named like `clean_flights`; check the result's columns."""
    try:
        frame = pl.SQLContext(frames=dict(tables)).execute(sql)
        schema = frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise ObservationsError(f"observations.query: {error}; tables are {sorted(tables)}") from error
    check_schema(schema)
    return frame


def observe(lake: Lake, sql: str, tables: Sequence[str], partitions: Sequence[str]) -> pl.DataFrame:
    """Run the query on each table's given partitions; the result has the String column `_partition` of the first table.

    The first table gives the days: a row of observations belongs to the partition of the row that it comes from.
    """
    leading = {keys.sql_name(tables[0]): lake.scan(tables[0], partitions, partition_column=PARTITION)}
    frames = leading | {keys.sql_name(table): _scan(lake, table, partitions) for table in tables[1:]}
    frame = query(_with_partition(sql), frames).collect()
    return frame.sort(EVENT_TIMESTAMP, *(name for name in frame.columns if frame.schema[name] == pl.String))


def suite(table: str, *, key: Sequence[str]) -> Suite:
    """Return the suite that guards observations: moments are there, keys unique, outcomes known after the question."""
    after = {"column_A": LABEL_TIMESTAMP, "column_B": EVENT_TIMESTAMP, "ignore_row_if": "either_value_is_missing"}
    return suite_for(
        table,
        (),
        extra=[
            Expectation("expect_column_values_to_not_be_null", {"column": EVENT_TIMESTAMP}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
            Expectation("expect_column_pair_values_a_to_be_greater_than_b", after),
        ],
    )


def _with_partition(sql: str) -> str:
    """Carry the day of each row through a declared `SELECT`."""
    select, rest = sql.strip()[:6], sql.strip()[6:]
    if select.upper() != "SELECT" or not rest[:1].isspace():
        raise ObservationsError(f"observations.query: must begin with SELECT, not {sql.strip()[:30]!r}")
    return f"SELECT {PARTITION},{rest}"


def _scan(lake: Lake, table: str, partitions: Sequence[str]) -> pl.LazyFrame:
    """Scan the partitions of a table, or the whole of one that has none, such as planes."""
    return lake.scan(table, None if lake.manifest(table) else partitions)


def check_schema(schema: Mapping[str, pl.DataType]) -> None:
    """Raise `ObservationsError` when a required column is missing or of another type."""
    if LABEL not in schema:
        raise ObservationsError(f"observations.query: no column {LABEL!r}; select the outcome AS label")
    for name, wanted in REQUIRED.items():
        if name not in schema:
            raise ObservationsError(f"observations.query: no column {name!r}; select it as a UTC time in microseconds")
        if schema[name] != wanted:
            raise ObservationsError(
                f"observations.query: column {name!r} is {schema[name]}, not {wanted}; cast it to UTC"
            )


def as_known_at(observations: pl.LazyFrame, moment: datetime) -> pl.LazyFrame:
    """Hide the labels that were not known by `moment`: they become null, as they were then."""
    known = pl.col(LABEL_TIMESTAMP).is_not_null() & (pl.col(LABEL_TIMESTAMP) <= moment)
    return observations.with_columns(pl.when(known).then(pl.col(LABEL)).otherwise(None).alias(LABEL))


def unlabelled(observations: pl.DataFrame, moment: datetime) -> dict[str, int]:
    """Count rows without a usable label by reason: `not yet` (known later) and `never` (no outcome, e.g. cancelled).

    With the rows that `as_known_at` leaves labelled, these are all rows.
    """
    later = (observations[LABEL_TIMESTAMP] > moment).fill_null(False)
    without = observations[LABEL].is_null() | observations[LABEL_TIMESTAMP].is_null()
    return {"never": int((without & ~later).sum()), "not yet": int(later.sum())}


def without_outcome(columns: Collection[str]) -> list[str]:
    """Return the columns that are known at the moment of prediction: all but the label and its time."""
    return [name for name in columns if name not in (LABEL, LABEL_TIMESTAMP)]
