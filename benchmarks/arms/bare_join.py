"""A bare `join_asof`: `python -m benchmarks.arms.bare_join ASKED.json RESULT.parquet TOLD.json`.

ASKED.json is a `benchmarks.joins.BareJoin`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import polars as pl

from benchmarks.arms.memory import Memory
from benchmarks.joins import views_of
from benchmarks.synthetic import ROW
from benchmarks.training_set import bare


def main() -> None:
    """Join, then tell."""
    asked_path, result, told = map(Path, sys.argv[1:])
    asked = json.loads(asked_path.read_text())
    views, rows = views_of(asked), pl.read_parquet(asked["asking"])
    memory = Memory()
    started = time.perf_counter()
    found = bare(rows, views).sort(ROW)
    seconds = time.perf_counter() - started
    told.write_text(json.dumps({"seconds": seconds, "details": memory.told()}))
    found.select(ROW, *(name for view in views for name in view.features)).write_parquet(result)


if __name__ == "__main__":
    main()
