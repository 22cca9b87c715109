"""From which columns of its source each feature is computed: asked of Polars, not written down by hand.

The feature function runs on a source without rows that notes which columns the optimizer asks of it. What is noted is
what the plan reads: for the value itself, for a filter, for the order of rows. A function that hides its expressions
from the optimizer (`map_batches` over whole frames, for example) reads everything, and so it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl
from polars.io.plugins import register_io_source

# What a function may raise that works on rows and was not written for none.
FAILURES = (pl.exceptions.PolarsError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)

Compute = Callable[[pl.LazyFrame], pl.LazyFrame]


class LineageError(ValueError):
    """A feature function cannot be traced: it fails on a source without rows, or lacks a column that was asked for."""


def source_columns(
    compute: Compute, schema: Mapping[str, pl.DataType], features: Sequence[str], *, beside: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return, for each feature, the columns of the source (which has `schema`) that it is computed from, in its order.

    Each feature is asked for alone, with the columns `beside` it: entity keys and the moment, without which a value
    belongs to nothing. Raises `LineageError`.
    """
    return {feature: _read_for(compute, schema, list(dict.fromkeys([*beside, feature]))) for feature in features}


def _read_for(compute: Compute, schema: Mapping[str, pl.DataType], wanted: Sequence[str]) -> tuple[str, ...]:
    read: set[str] = set()
    try:
        compute(_noting(schema, read)).select(wanted).collect()
    except FAILURES as error:
        raise LineageError(f"{wanted[-1]!r} cannot be traced to its source, on no rows: {error}") from error
    return tuple(name for name in schema if name in read)


def _noting(schema: Mapping[str, pl.DataType], read: set[str]) -> pl.LazyFrame:
    """Return a source without rows that adds every column which is asked of it to `read`."""

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, batch: int | None
    ) -> Iterator[pl.DataFrame]:
        del most, batch
        read.update(schema if columns is None else columns)
        read.update(predicate.meta.root_names() if predicate is not None else ())
        frame = pl.DataFrame(schema=dict(schema))
        yield frame if columns is None else frame.select(columns)

    return register_io_source(rows, schema=dict(schema))
