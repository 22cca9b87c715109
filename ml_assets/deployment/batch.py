"""Predictions made portion by portion: however many days and rows a run is for, memory holds one portion of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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

MOST_ROWS = 250_000
"""Rows scored and written at a time, whole days unless one has more: tens of MB, and a run over a year is a few portions."""


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

    Rows, order, versions and verdicts are those of one write of everything: a row's answer depends on that row alone, and each
    partition is judged by itself. `tell` hears of each portion. Raises `MissingPartitionError` without observations.
    """
    there = lake.live(scoring.observed, partitions)
    asked = {day: item for day, item in there.items() if item.rows or not scoring.may_be_empty}
    parts: list[_Part] = []
    for names in portions(asked, most_rows):
        # Days without observations, whose predictions are emptied, come with the first portion.
        also = [] if parts or partitions is None else [name for name in partitions if name not in asked]
        portion = None if partitions is None else names + also
        made = _scored(lake, scoring, champion, {name: asked[name] for name in names}, portion, now, there)
        parts.append(made)
        tell(f"{sum(part.rows for part in parts)} of {sum(item.rows for item in asked.values())} rows are scored")
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


def _scored(
    lake: Lake,
    scoring: Scoring,
    champion: Champion,
    live: Mapping[str, Live],
    partitions: Sequence[str] | None,
    now: datetime,
    there: Mapping[str, Live],
) -> _Part:
    by_day = None if partitions is None else PARTITION
    observations = lake.scan(scoring.observed, partitions, live=live, partition_column=by_day)
    frame = _answered(observations.collect(), scoring, champion)
    written = write_checked(
        lake,
        scoring.table,
        frame,
        predictions_suite(scoring.table, key=scoring.key, task=champion.bundle.task),
        now=now,
        partitions=partitions,
        may_be_empty=scoring.may_be_empty,
        inputs=lambda day: {**_made_from(scoring.observed, there, day), "champion": champion.version},
    )
    score_sum = float(frame["score"].sum()) if "score" in frame.columns else None
    return _Part(written, frame.height, int(frame[IN_SAMPLE].sum()), score_sum)


def _answered(observations: pl.DataFrame, scoring: Scoring, champion: Champion) -> pl.DataFrame:
    """Answer day by day: ONNX Runtime adds up trees in another order in small batches, and a day must not depend on its neighbours."""
    frame = scoring.with_features(observations.select(without_outcome(observations.columns)))
    days = frame.partition_by(PARTITION, maintain_order=True) if PARTITION in frame.columns else [frame]
    how: dict[str, Any] = {"version": champion.version, "fitted_until": champion.fitted_until, "keep": scoring.keep}
    return pl.concat(score(day, champion.bundle, **how) for day in days or [frame])


def _made_from(observed: str, there: Mapping[str, Live], day: str) -> dict[str, str]:
    """Return the observations behind a day's predictions with their version, as a manifest names them; none may be left."""
    if day not in there:
        return {}
    return {observed if day == WHOLE else f"{observed}/{day}": there[day].version}


def _whole(parts: Iterable[_Part]) -> Scored:
    made = list(parts)
    rows, sums = sum(part.rows for part in made), [part.score for part in made if part.score is not None]
    written = made[0].written if len(made) == 1 else together([part.written for part in made])
    return Scored(written, sum(part.in_sample for part in made), sum(sums) / rows if sums and rows else None)
