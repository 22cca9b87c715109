"""A join that a bare `join_asof` needs much memory for, with the offline store's memory limit set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.joins import Join, bare_join, joined, same_rows
from benchmarks.repository import OURS, one_row, repository
from benchmarks.runner import Arm, Bench, Options
from benchmarks.synthetic import History

HISTORY, ROWS = History(entities=300_000, per_entity=100, width=10), 3_000_000
SMALL_HISTORY, SMALL_ROWS = History(entities=3_000, per_entity=100, width=10), 3_000  # four shards
LIMIT_MB, SMALL_LIMIT_MB = 2_048, 64
TARGET_GB = 4.0
NOTES = """Each arm is a process of its own. Ours is get_historical_features with a Polars frame of entity rows, and to_polars: all
entity rows and all of the result are in memory. Judged is the highest resident memory of the whole process, with
interpreter and imports. The bare arm scans, sorts and joins everything at once and puts the rows back in order; it is
there for the comparison, value by value and in the order of the entity rows, and to show what the limit costs and saves."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Make the tables (kept for the next call) and yield the bench."""
    folder = options.folder / "larger_than_memory"
    history, rows, limit = (SMALL_HISTORY, SMALL_ROWS, SMALL_LIMIT_MB) if options.small else (HISTORY, ROWS, LIMIT_MB)
    file, asking = history.file(folder / "rows"), history.asking(folder / "rows", rows)
    ours, bare = through_feast(folder, history, file, asking, limit), bare_join(history, file, asking)
    yield Bench(
        name="larger_than_memory",
        title=f"Joining {history.rows:,} feature rows to {rows:,} entity rows with memory_limit_mb {limit:,}",
        target=TARGET_GB,
        judged="memory",
        ours=Arm("Polars store", lambda: joined(ours, folder / "ours" / "told.json")),
        theirs=Arm("bare join_asof", lambda: joined(bare, folder / "bare" / "told.json")),
        compare=same_rows,
        rounds=1 if options.small else 3,
        warm_up=False,
        notes=NOTES,
    )


def through_feast(folder: Path, history: History, file: Path, asking: Path, limit_mb: int) -> Join:
    """Return our arm's join, with a repository made for it."""
    offline = {**OURS, "memory_limit_mb": limit_mb}
    repo = repository(folder / "ours" / "repo", {file: history.schema}, offline=offline)
    warm_repo, warm_rows = one_row(folder / "ours" / "warm", offline=offline)
    return Join(str(repo), str(asking), (str(warm_repo), str(warm_rows)), frame="polars")
