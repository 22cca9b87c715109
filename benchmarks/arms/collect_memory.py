"""Collect synthetic readings: `python -m benchmarks.arms.collect_memory LANDING LAKE TOLD.json`."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from benchmarks.arms.memory import Memory
from ml_assets import keys
from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Ledger
from ml_assets.lake import Lake, Store
from ml_assets.quality.contract import ColumnContract

NOW = datetime(2014, 1, 1, tzinfo=UTC)
CONTRACT = SourceContract(
    "readings",
    "readings/readings-{day}.csv",
    (
        ColumnContract(name="day", dtype="Date"),
        ColumnContract(name="reading", dtype="Int64", minimum=0),
        ColumnContract(name="sensor", dtype="String"),
        ColumnContract(name="value", dtype="Float64", minimum=-100, maximum=100),
        ColumnContract(name="error", dtype="Float64", minimum=0, maximum=1),
        ColumnContract(name="state", dtype="String", categories=("on", "off", "unknown")),
    ),
    key=("reading",),
)


def main() -> None:
    """Collect, count what is in the lake, then tell."""
    landing, lake, told = sys.argv[1:]
    places = Landing(Store(landing), Lake(lake), Ledger(lake), Store(f"{lake}/quarantine"))
    memory = Memory()
    started = time.perf_counter()
    collect(CONTRACT, places, now=NOW)
    seconds = time.perf_counter() - started
    rows = places.lake.scan(keys.raw(CONTRACT.name), partition_column="partition").select(pl.len()).collect().item()
    Path(told).write_text(json.dumps({"seconds": seconds, "rows": rows, "details": memory.told()}))


if __name__ == "__main__":
    main()
