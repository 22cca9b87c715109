"""The log of predictions as a checked table: a day's rows of all models and arms, and how quickly they were answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ml_assets.deployment.engine import CANARY, CHAMPION, SHADOW
from ml_assets.deployment.prediction_log import (
    ARM,
    MILLISECONDS,
    MOMENT,
    REQUEST,
    ROW,
    VERSION,
    log_versions,
    predicted,
)
from ml_assets.deployment.scoring import predictions_suite
from ml_assets.lake import Lake, Manifest
from ml_assets.preparation.writing import PARTITION, empty, stored_verdict, write_checked
from ml_assets.quality import Expectation, Suite, Verdict
from ml_assets.tasks import Task

ARMS = (CHAMPION, CANARY, SHADOW)


@dataclass(frozen=True)
class Merged:
    """What was written, the verdict over it, and how it was served; no manifests and no verdict where nothing was."""

    manifests: Mapping[str, Manifest]
    verdict: Verdict | None
    summary: pl.DataFrame
    hours: pl.DataFrame


def merge_log(
    lake: Lake,
    table: str,
    problem: str,
    *,
    task: Task,
    versions: Collection[str],
    days: Sequence[str] | None,
    now: datetime,
) -> Merged:
    """Write what the log has of each day as a partition of `table`, judged by its suite; without `days`, all of it as one table.

    A day on which nothing was answered has no rows, which is no fault. `versions` are those that the registry knows.
    """
    suite, made = served_suite(table, task=task, versions=versions), log_versions(lake.url, problem, days=days)
    manifests, parts = dict[str, Manifest](), list[pl.DataFrame]()
    for day in [None] if days is None else days:
        found = predicted(lake.url, problem, days=None if day is None else [day])
        if found is None:
            continue
        rows = found.sort(MOMENT, REQUEST, ROW, ARM).with_columns(pl.lit(day, pl.String).alias(PARTITION)).collect()
        own = {f"predicted/{name}": version for name, version in made.items() if day in (None, name)}
        partitions = None if day is None else [day]
        written = write_checked(lake, table, rows, suite, now=now, partitions=partitions, inputs=own)
        manifests |= written.manifests
        parts.append(rows.select(MOMENT, REQUEST, ARM, VERSION, MILLISECONDS))
    gone = empty(lake, table, set(days or ()) - set(manifests), written_at=now)
    served = pl.concat(parts) if parts else None
    verdict = stored_verdict(manifests) if manifests else None
    return Merged(manifests | gone, verdict, summary(served), hours(served))


def served_suite(table: str, *, task: Task, versions: Collection[str]) -> Suite:
    """Return the suite of served predictions: each row once, an answer of the task, by a model that the registry knows."""
    own = predictions_suite(table, key=(REQUEST, ROW, ARM), task=task)
    known = (
        Expectation("expect_compound_columns_to_be_unique", {"column_list": [REQUEST, ROW, ARM]}),
        Expectation("expect_column_values_to_be_in_set", {"column": ARM, "value_set": list(ARMS)}),
        Expectation("expect_column_values_to_be_in_set", {"column": VERSION, "value_set": sorted(versions)}),
        *(
            Expectation("expect_column_values_to_not_be_null", {"column": name})
            for name in (REQUEST, ROW, ARM, VERSION)
        ),
        Expectation("expect_column_values_to_be_between", {"column": MILLISECONDS, "min_value": 0}),
    )
    return Suite(own.name, (*own.expectations, *known))


def summary(rows: pl.DataFrame | None) -> pl.DataFrame:
    """Return requests, rows and milliseconds (median, 95th percentile over requests) by arm and version."""
    return _latencies(rows, ARM, VERSION)


def hours(rows: pl.DataFrame | None) -> pl.DataFrame:
    """Return the same by hour of the answer, without shadows: they answered nobody."""
    answered = (
        None if rows is None else rows.filter(pl.col(ARM) != SHADOW).with_columns(pl.col(MOMENT).dt.truncate("1h"))
    )
    return _latencies(answered, MOMENT)


def _latencies(rows: pl.DataFrame | None, *by: str) -> pl.DataFrame:
    if rows is None:
        return pl.DataFrame()
    requests = rows.group_by(*by, REQUEST, maintain_order=True).agg(
        pl.len().alias("rows"), pl.col(MILLISECONDS).first()
    )
    return (
        requests.group_by(*by, maintain_order=True)
        .agg(
            pl.len().alias("requests"),
            pl.col("rows").sum(),
            pl.col(MILLISECONDS).median().alias("p50"),
            pl.col(MILLISECONDS).quantile(0.95, "higher").alias("p95"),
        )
        .sort(*by)
    )


def summary_markdown(found: pl.DataFrame) -> str:
    """Return the summary as a table for people."""
    lines = ["| arm | version | requests | rows | p50 ms | p95 ms |", "|---|---|---:|---:|---:|---:|"]
    for one in found.to_dicts():
        numbers = f"{one['requests']:,} | {one['rows']:,} | {one['p50']:.3g} | {one['p95']:.3g}"
        lines.append(f"| {one[ARM]} | {one[VERSION]} | {numbers} |")
    return "\n".join(lines)
