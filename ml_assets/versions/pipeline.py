"""The two stages of dvc.yaml, in a place of their own: a lake and models beside those that Dagster keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.versions.past import copy_live

LAKE, MODELS, METRICS = "lake", "models", "metrics.json"


class PipelineError(ValueError):
    """A table that a stage needs is not declared."""


def make_tables(
    wanted: Collection[str],
    makers: Mapping[str, Callable[[], Any]],
    reads: Mapping[str, Collection[str]],
    *,
    source: Lake,
    target: Lake,
) -> None:
    """Make tables in `target`, each after those that it reads; raw ones are copied from `source`.

    `makers` and `reads` by table. Raises `PipelineError` for one that is not there.
    """
    done: set[str] = set()

    def make(table: str) -> None:
        if table in done:
            return
        done.add(table)
        if table.startswith(f"{keys.RAW}/"):
            copy_live(source, {table: source.manifests(table)}, target)
        elif table in makers:
            for read in reads[table]:
                make(read)
            makers[table]()
        else:
            raise PipelineError(f"{table} is not declared; declared are {', '.join(sorted(makers))}")

    for table in wanted:
        make(table)


def write_metrics(place: Path, told: Mapping[str, Any]) -> None:
    """Write what `dvc metrics show` shows."""
    place.mkdir(parents=True, exist_ok=True)
    (place / METRICS).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
