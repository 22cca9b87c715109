"""One pass that profiles every column of a Parquet file, against reading the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from benchmarks.quality_pass import table
from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Options
from ml_assets.monitoring.profiles import Cuts, Profile, cuts_of, profile

ROWS, SMALL_ROWS, REFERENCE_ROWS = 2_000_000, 20_000, 10_000
TARGET = 1.5
NOTES = """The file is as the lake writes them (zstd, level 1): 8 numbers, 4 whole numbers, 6 texts (one a unique key), 2 times; most
columns have nulls. Ours scans it and makes a profile with counts in the bins of a reference of 10,000 rows, moments, lowest,
highest, categories and a sketch of distinct values; theirs is `pl.read_parquet`, all columns decoded, nothing computed. `cpu` is
the processor time of all threads. Equal means: rows, nulls, lowest, highest, counts in bins and of categories as NumPy and
Polars count them in what theirs read, means and deviations to nine digits, distinct values within 20 %."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Write the file, unless it is there, and yield the bench."""
    rows = SMALL_ROWS if options.small else ROWS
    path = options.folder / "profiling" / f"{rows}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        table(rows).write_parquet(path, compression="zstd", compression_level=1)
    reference = pl.scan_parquet(path).head(REFERENCE_ROWS)
    cuts = cuts_of(reference, reference.collect_schema().names())
    yield Bench(
        name="profiling",
        title=f"Profile of {rows:,} rows × {len(reference.collect_schema())} columns, against reading them",
        target=TARGET,
        limits=[Limit("cpu", TARGET)],
        ours=Arm("profile", _timed(lambda: profile(pl.scan_parquet(path), cuts=cuts))),
        theirs=Arm("pl.read_parquet", _timed(lambda: pl.read_parquet(path))),
        compare=lambda found, frame: same_numbers(found, frame, cuts),
        rounds=1 if options.small else 9,
        notes=NOTES,
    )


def _timed(work: Callable[[], Any]) -> Callable[[], Measured]:
    """Return `work` as an arm's `run`, with the processor time beside the wall time."""

    def run() -> Measured:
        started, used = time.perf_counter(), time.process_time()
        result = work()
        return Measured(result, time.perf_counter() - started, {"cpu": time.process_time() - used})

    return run


def same_numbers(found: Profile, frame: pl.DataFrame, cuts: Cuts) -> Comparison:
    """Compare the profile with what the columns of the frame say one by one."""
    wrong = [name for name in frame.columns if not _same(found, frame[name], cuts)]
    if found.rows != frame.height or wrong:
        return Comparison(False, f"{found.rows:,} rows of {frame.height:,}; the profiles of {wrong} differ")
    return Comparison(
        True, f"the profiles of {frame.width} columns agree with NumPy and Polars over {frame.height:,} rows"
    )


def _same(found: Profile, column: pl.Series, cuts: Cuts) -> bool:
    one, values = found.columns[column.name], column.drop_nulls()
    if one.nulls != column.null_count() or abs(one.distinct / values.n_unique() - 1) > 0.2 or one.counts is None:
        return False
    if one.kind == "categorical":
        expected = [int((values == name).sum()) for name in cuts[column.name].categories]
        return one.counts.tolist() == [*expected, len(values) - sum(expected)]
    return _same_numbers(one, values, cuts[column.name].edges)


def _same_numbers(one: Any, values: pl.Series, edges: tuple[float, ...]) -> bool:
    import numpy as np

    numbers = values.to_physical().cast(pl.Float64).to_numpy()
    counts = np.bincount(np.searchsorted(edges, numbers), minlength=len(edges) + 1)
    moments = np.allclose([one.mean, one.std], [numbers.mean(), numbers.std()], rtol=1e-9, atol=1e-9)
    return (
        bool(moments)
        and one.counts.tolist() == counts.tolist()
        and (one.low, one.high) == (numbers.min(), numbers.max())
    )
