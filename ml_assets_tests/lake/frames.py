"""Random frames of every type that the lake stores."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
from hypothesis import strategies as st
from polars.testing.parametric import column, dataframes

COLUMNS = [
    column("whole", dtype=pl.Int64, allow_null=True),
    column("real", dtype=pl.Float64, allow_null=True, strategy=st.floats().map(lambda value: value + 0.0)),  # no -0.0
    column("text", dtype=pl.String, allow_null=True),
    column("yes", dtype=pl.Boolean, allow_null=True),
    column(
        "moment",
        dtype=pl.Datetime("us", "UTC"),
        allow_null=True,
        strategy=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    ),
    column("day", dtype=pl.Date, allow_null=True),
    column("money", dtype=pl.Decimal(12, 2), allow_null=True),
    column("kind", dtype=pl.Enum(["a", "b"]), allow_null=True, strategy=st.sampled_from(["a", "b"])),
    column("list", dtype=pl.List(pl.Int32), allow_null=True),
]


def frames(min_size: int = 0) -> st.SearchStrategy[pl.DataFrame]:
    """Frames of nine columns, with nulls, and up to six rows."""
    return dataframes(COLUMNS, min_size=min_size, max_size=6)
