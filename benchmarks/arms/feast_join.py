"""A join through Feast, timed after all imports: `python -m benchmarks.arms.feast_join ASKED.json RESULT.parquet TOLD.json`.

ASKED.json is a `benchmarks.joins.Join`. The store that answers is the repository's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.arms.memory import Memory, bound
from benchmarks.processes import OUT_OF_MEMORY

SERVICE, ROW = "everything", "row"
SPILL = 0.8  # of the memory that there is: what DuckDB takes by itself before it spills to disk


def main() -> None:
    """Ask for one row, then for all, once or twice; then tell."""
    asked_path, result, told = map(Path, sys.argv[1:])
    asked = json.loads(asked_path.read_text())
    bound(asked["memory_gb"])
    spill(asked["memory_gb"], result.with_suffix(".spilled"))
    ask(*asked["warm"], frame=asked["frame"])()
    join = ask(asked["repo"], asked["asking"], frame=asked["frame"])
    memory = Memory()
    found, seconds = timed(join)
    details = memory.told() | {"first_seconds": seconds}
    if asked["again"]:
        found, seconds = timed(join)
    told.write_text(json.dumps({"seconds": seconds, "details": details}))
    write(found, asked["asking"], result)


def timed(join: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the seconds that it took."""
    started = time.perf_counter()
    return join(), time.perf_counter() - started


def ask(repo: str, asking: str, *, frame: str) -> Any:
    """Return the call, with its entity rows in memory and the store opened."""
    from feast import FeatureStore

    store: Any = FeatureStore(repo_path=repo)  # its jobs have a to_polars that Feast's base class has not
    service, rows = store.get_feature_service(SERVICE), pl.read_parquet(asking)
    if frame == "polars":
        return lambda: store.get_historical_features(entity_df=rows, features=service).to_polars()
    pandas = rows.to_pandas()
    return lambda: store.get_historical_features(entity_df=pandas, features=service).to_arrow()


def spill(memory_gb: float | None, folder: Path) -> None:
    """Where memory is bound, tell DuckDB so, and where it may spill: else it would go by the machine's memory."""
    if memory_gb is None:
        return
    import ibis

    folder.mkdir(parents=True, exist_ok=True)
    settings: Mapping[str, str] = {
        "memory_limit": f"{SPILL * memory_gb:.1f}GB",
        "temp_directory": str(folder),
        "max_temp_directory_size": f"{memory_gb:.0f}GB",
    }
    for name, value in settings.items():
        ibis.get_backend().raw_sql(f"SET {name} = '{value}'")


def write(found: Any, asking: str, result: Path) -> None:
    """Write the rows' numbers and features; the entity rows' other columns are the question, not the answer."""
    frame = pl.DataFrame(found)
    question = set(pl.read_parquet_schema(asking)) - {ROW}
    frame.select(name for name in frame.columns if name not in question).write_parquet(result)


def refused() -> tuple[type[BaseException], ...]:
    """Return the errors that mean: no memory."""
    import duckdb

    return MemoryError, duckdb.OutOfMemoryException


if __name__ == "__main__":
    try:
        main()
    except refused() as error:
        print(f"out of memory: {error}", file=sys.stderr)
        raise SystemExit(OUT_OF_MEMORY) from error
