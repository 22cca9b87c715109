"""Clean tables and observations, made in the lake: what is left of a run's work, with its verdict. Without Dagster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ml_assets import keys
from ml_assets.preparation.cleaning import Repairs, clean
from ml_assets.preparation.observations import LABEL, LABEL_TIMESTAMP, LABELS, observe_frames, suite
from ml_assets.preparation.recipe import Work
from ml_assets.preparation.writing import PARTITION, Written
from ml_assets.quality import Expectation, suite_for
from ml_assets.tasks import Task


def make_clean(
    work: Work, repairs: Repairs, expectations: Sequence[Mapping[str, Any]], *, now: datetime
) -> tuple[Written, dict[str, int]]:
    """Repair the first table that the recipe reads, with the others as what `derive` uses; return also the repairs, counted.

    `expectations` are Great Expectations' `{type, kwargs}`. Nothing is computed and counted when nothing is left to make.
    """
    if work.is_done:
        return work.done, {}
    raw, *used = work.recipe.reads
    uses = {keys.sql_name(table): work.scan(table) for table in used}
    cleaned = clean(work.scan(raw, partition_column=PARTITION), repairs, uses=uses)
    judged = suite_for(work.recipe.table, (), extra=[Expectation.from_dict(item) for item in expectations])
    return work.write(cleaned.frame, judged, now=now), dict(cleaned.repairs)


def make_observations(
    work: Work, query: str, task: Task, *, key: Sequence[str], every_day: bool = True, now: datetime
) -> tuple[Written, dict[str, int]]:
    """Ask the declared query of the tables that the recipe reads; return also the number of new `rows without outcome`.

    The first table gives the days. Unless there are observations `every_day`, days without any are no fault. Nothing is asked and
    counted when nothing is left to make. Raises `ObservationsError` for a query that gives no observations.
    """
    if work.is_done:
        return work.done, {}
    first, *others = work.recipe.reads
    by_day, label = work.partitions is not None, LABELS[task.output]
    frames = {keys.sql_name(table): work.scan(table) for table in others}
    frames[keys.sql_name(first)] = work.scan(first, partition_column=PARTITION if by_day else None)
    frame = observe_frames(query, frames, by_day=by_day, supervised=task.supervised, label=label)
    judged = suite(
        work.recipe.table,
        key=key,
        supervised=task.supervised,
        label=label,
        classes=task.classes,
        timed=LABEL_TIMESTAMP in frame.columns,
    )
    written = work.write(frame, judged, now=now, may_be_empty=not every_day)
    return written, {"rows without outcome": frame[LABEL].null_count()} if task.supervised else {}
