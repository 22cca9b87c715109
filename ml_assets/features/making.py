"""Feature views, made in the lake: what is left of a run's work, with its verdicts. Without Dagster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.features.compiled import CompiledView
from ml_assets.features.views import compute_view, declaration_verdict, declared_columns, view_suite
from ml_assets.preparation.recipe import Work
from ml_assets.preparation.writing import PARTITION, Written, stored_verdict
from ml_assets.quality import Verdict


@dataclass(frozen=True)
class MadeView:
    """What was written of a view, the verdict on its declaration, and rows to show: the new ones, or the newest day's."""

    written: Written
    declaration: Verdict
    rows: pl.DataFrame


def feast_declares(view: CompiledView | None) -> dict[str, Any] | None:
    """Return what of Feast's declaration decides a view's verdict: columns, types and join keys."""
    return None if view is None else {"columns": declared_columns(view), "keys": dict(view.declared.keys)}


def make_view(
    work: Work,
    name: str,
    compute: Callable[[pl.LazyFrame], pl.LazyFrame],
    declared: CompiledView | None,
    *,
    entity: Sequence[str],
    expectations: Sequence[Mapping[str, Any]],
    time_zone: str,
    now: datetime,
) -> MadeView:
    """Compute the rows of view `name` for what is left, hold them against Feast's declaration, and write them.

    `compute` takes the first table that the recipe reads. Nothing is computed when nothing is left to make. Raises `ViewError`
    when the function does not return moments.
    """
    if work.is_done:
        return MadeView(work.done, stored_verdict(work.unchanged, 1), _newest(work))
    frame = compute_view(compute, work.scan(next(iter(work.recipe.reads))), time_zone=time_zone)
    declaration = declaration_verdict(name, frame, declared, entity=entity)
    judged = view_suite(work.recipe.table, entity, expectations)
    written = work.write(frame, judged, now=now, besides=[declaration])
    own = frame if work.partitions is None else frame.filter(pl.col(PARTITION).is_in(work.left))
    return MadeView(written, declaration, own)


def _newest(work: Work) -> pl.DataFrame:
    """Return the rows of the last partition, which is the one that a view's page shows."""
    last = max(work.unchanged)
    return work.lake.read(work.recipe.table, [last], partition_column=PARTITION)
