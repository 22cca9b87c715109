"""The online store of bench `online_increment`.

python -m benchmarks.arms.increment fill FOLDER NOW PARTITION …
python -m benchmarks.arms.increment add FOLDER NOW
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.materialize import Materialized, OnlineSource, materialize, online_source
from ml_assets.features.retrieval import applied_repo

VIEW, PROJECT = "history", "bench"
BEFORE = "before.db"


def main() -> None:
    """Do what is asked, and print what happened as JSON."""
    verb, where, now, *partitions = sys.argv[1:]
    folder, moment = Path(where), datetime.fromisoformat(now)
    source = online_source(applied_repo(folder / "repo").views[VIEW], repo=folder / "repo")
    if verb == "fill":
        found = materialize(source, opened(folder / BEFORE), now=moment, partitions=partitions)
        told: dict[str, Any] = {"days": len(found.new)}
    else:
        add(source, folder, "untimed.db", moment, partitions)
        told = add(source, folder, "online.db", moment, partitions)
        told["unnamed_ms"] = add(source, folder, "unnamed.db", moment, None)["seconds"] * 1000
    print(json.dumps(told))


def add(
    source: OnlineSource, folder: Path, name: str, now: datetime, partitions: Sequence[str] | None
) -> dict[str, Any]:
    """Bring online what is not (of the partitions), on a copy of the store as it was before."""
    (folder / name).unlink(missing_ok=True)
    with sqlite3.connect(folder / BEFORE) as before:
        before.execute("VACUUM INTO ?", [str(folder / name)])
    before.close()
    backend = opened(folder / name)
    started = time.perf_counter()
    found = materialize(source, backend, now=now, partitions=partitions)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": found.rows, "written": found.written, "state": state(found, backend)}


def state(found: Materialized, backend: Backend) -> dict[str, Any]:
    """Return the days that were new and what the store holds."""
    rows = sorted(backend.rows(VIEW))
    return {"new": list(found.new), "entities": len(rows), "hash": hashlib.sha256(repr(rows).encode()).hexdigest()}


def opened(path: Path) -> Backend:
    """Return the store in a file."""
    return open_backend(str(path), project=PROJECT)


if __name__ == "__main__":
    main()
