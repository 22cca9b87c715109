"""Predictions made portion by portion: however many days and rows a run is for, memory holds one portion of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.deployment.scoring import IN_SAMPLE, predictions_suite, score
from ml_assets.lake import Lake, Live
from ml_assets.lake.manifest import WHOLE
from ml_assets.packaging.champion import Champion
from ml_assets.preparation.observations import without_outcome
from ml_assets.preparation.writing import PARTITION, Written, together, write_checked

MOST_ROWS = 100_000
"""Rows scored at a time, in whole days: tens of MB, and a run over a year of the flights is four portions."""

AT_ONCE = 2


@dataclass(frozen=True)
class Scoring:
    """What a problem says about its predictions: the two tables, the key of a row, and the columns kept beside the features.

    `with_features` returns the observations that it is given with their features, in their order.
    """

    observed: str
    table: str
    key: Sequence[str]
    keep: Sequence[str] = ()
    may_be_empty: bool = False
    with_features: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame


@dataclass(frozen=True)
class Scored:
    """What was written; the rows in sample; and the mean score, None for clusters and for no rows."""

    written: Written
    in_sample: int
    mean_score: float | None


@dataclass(frozen=True)
class _Part:
    written: Written
    rows: int
    in_sample: int
    score: float | None  # the sum


@dataclass(frozen=True)
class _Job:
    lake: Lake
    scoring: Scoring
    champion: Champion
    there: Mapping[str, Live]
    now: datetime


def score_table(
    lake: Lake,
    scoring: Scoring,
    champion: Champion,
    partitions: Sequence[str] | None,
    *,
    now: datetime,
    most_rows: int = MOST_ROWS,
    tell: Callable[[str], None] = lambda _: None,
) -> Scored:
    """Score the observations of `partitions` (None: a table without days) and write them with their verdicts.

    Rows, order, versions and verdicts are those of one write of everything: a day's answers depend on that day alone, and it is
    judged by itself. `AT_ONCE` portions are in work at a time, so that one is scored while another is written; memory holds so
    many times days of up to `most_rows` rows. `tell` hears of each portion. Raises `MissingPartitionError` without observations.
    """
    there = lake.live(scoring.observed, partitions)
    asked = {day: item for day, item in there.items() if item.rows or not scoring.may_be_empty}
    found = portions(asked, most_rows)
    # Days without observations, whose predictions are emptied, come with the first portion.
    rest = [name for name in partitions or () if name not in asked]
    job = _Job(lake, scoring, champion, there, now)

    def made(place: int) -> _Part:
        names = found[place]
        days = None if partitions is None else names + ([] if place else rest)
        return _written(job, _answered(job, {name: asked[name] for name in names}, days), days)

    pool, parts = ThreadPoolExecutor(AT_ONCE, "scoring"), []
    try:
        for names, part in zip(found, pool.map(made, range(len(found))), strict=True):
            parts.append(part)
            tell(f"scored {part.rows} rows, {_span(names)}")
    finally:
        pool.shutdown(cancel_futures=True)
    return _whole(parts)


def portions(live: Mapping[str, Live], most_rows: int) -> list[list[str]]:
    """Return the partitions in their order, in portions of at most `most_rows` rows or of one partition with rows; at least one."""
    found: list[list[str]] = [[]]
    rows = 0
    for name, item in live.items():
        if rows and item.rows and rows + item.rows > most_rows:
            found.append([])
            rows = 0
        found[-1].append(name)
        rows += item.rows
    return found


def _answered(job: _Job, live: Mapping[str, Live], days: Sequence[str] | None) -> pl.DataFrame:
    """Answer day by day: ONNX Runtime adds up trees in another order in small batches, and a day must not depend on its neighbours."""
    scoring, champion = job.scoring, job.champion
    by_day = PARTITION if days and len(days) > 1 else None
    observations = job.lake.scan(scoring.observed, days, live=live, partition_column=by_day).collect()
    frame = scoring.with_features(observations.select(without_outcome(observations.columns)))
    how: dict[str, Any] = {"version": champion.version, "fitted_until": champion.fitted_until, "keep": scoring.keep}
    apart = frame.partition_by(PARTITION, maintain_order=True) if by_day else [frame]
    return pl.concat([score(day, champion.bundle, **how) for day in apart or [frame]], rechunk=False)


def _written(job: _Job, frame: pl.DataFrame, days: Sequence[str] | None) -> _Part:
    scoring, champion = job.scoring, job.champion
    written = write_checked(
        job.lake,
        scoring.table,
        frame,
        predictions_suite(scoring.table, key=scoring.key, task=champion.bundle.task),
        now=job.now,
        partitions=days,
        may_be_empty=scoring.may_be_empty,
        inputs=lambda day: {**_made_from(scoring.observed, job.there, day), "champion": champion.version},
    )
    score_sum = float(frame["score"].sum()) if "score" in frame.columns else None
    return _Part(written, frame.height, int(frame[IN_SAMPLE].sum()), score_sum)


def _made_from(observed: str, there: Mapping[str, Live], day: str) -> dict[str, str]:
    """Return the observations behind a day's predictions with their version, as a manifest names them; none may be left."""
    if day not in there:
        return {}
    return {observed if day == WHOLE else f"{observed}/{day}": there[day].version}


def _span(names: Sequence[str]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names)


def _whole(parts: Sequence[_Part]) -> Scored:
    rows, sums = sum(part.rows for part in parts), [part.score for part in parts if part.score is not None]
    written = parts[0].written if len(parts) == 1 else together([part.written for part in parts])
    return Scored(written, sum(part.in_sample for part in parts), sum(sums) / rows if sums and rows else None)
