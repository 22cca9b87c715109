"""What the feature store refuses, and the checks that every way into it shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl


class FeatureError(ValueError):
    """A request to the feature store that cannot be answered; the message names the thing, the value and the fix."""


def require_zone(dtype: pl.DataType, column: str, where: str) -> None:
    """Raise `FeatureError` unless `dtype` is a Datetime with a time zone."""
    if not isinstance(dtype, pl.Datetime):
        raise FeatureError(f"{where}: column {column!r} is {dtype}, not a time; make it Datetime('us', 'UTC')")
    if dtype.time_zone is None:
        raise FeatureError(
            f"{where}: column {column!r} has no time zone; say which one it is in, for example "
            f'pl.col("{column}").dt.replace_time_zone("UTC")'
        )


def require_columns(wanted: Sequence[str], schema: Mapping[str, pl.DataType], where: str) -> None:
    """Raise `FeatureError` naming the wanted columns that `schema` lacks, and those it has."""
    missing = [name for name in wanted if name not in schema]
    if missing:
        raise FeatureError(f"{where}: no column {missing}; it has {list(schema)}. Add the column or correct the name")
