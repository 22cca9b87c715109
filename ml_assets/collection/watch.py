"""What the landing sensor asks for: one request for each stretch of days with new files, never twice, never forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ml_assets import keys
from ml_assets.collection.collect import Landing, expected_day, new_files
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.due import Due
from ml_assets.lake import StoredObject

MOST_FILES = 2000  # new files in one look; the rest comes with the next
MOST_REQUESTS = 5
MOST_FAILURES = 3


@dataclass(frozen=True)
class Request:
    """One run to ask for: the sources with new files, the days from `first` to `last` (None: no daily files)."""

    key: str
    batch: str
    sources: tuple[str, ...]
    files: int
    first: str | None
    last: str | None


def look(
    places: Landing,
    contracts: Sequence[SourceContract],
    *,
    now: datetime,
    in_flight: Sequence[str] = (),
    failures: Mapping[str, int] | None = None,
    reach: int = 0,
    due: Sequence[Due] = (),
) -> list[Request] | str:
    """Return the runs to ask for, or the reason why there are none.

    `in_flight` are runs that are still collecting: nothing is asked for beside them. `failures` counts failed runs by
    batch: a batch is asked for again until it failed three times. `reach` is how many days after a corrected day
    features may still depend on it; those that are already ingested are made again too. `due` are pulls to ask for.
    """
    if in_flight:
        return f"run {in_flight[0]} is still collecting"
    new = {contract: new_files(contract, places)[:MOST_FILES] for contract in contracts}
    new = {contract: files for contract, files in new.items() if files}
    if not new and not due:
        return "no new files"
    batch = _digest((item for files in new.values() for item in files), due)
    failed = (failures or {}).get(batch, 0)
    stretches = _stretches(new, places, contracts, now, reach, due)
    if failed >= MOST_FAILURES * max(1, len(stretches)):  # each stretch is a run of its own
        return f"the same {sum(map(len, new.values()))} files failed {failed} times; look at the runs of batch {batch}"
    return _requests(new, batch, failed, stretches, due)


def _requests(
    new: Mapping[SourceContract, Sequence[StoredObject]],
    batch: str,
    failed: int,
    stretches: Sequence[tuple[str, str]],
    due: Sequence[Due],
) -> list[Request]:
    sources = tuple(sorted({contract.name for contract in new} | {pull.source for pull in due}))
    count = sum(map(len, new.values()))
    if not stretches:
        return [Request(f"{batch}-{failed}", batch, sources, count, None, None)]
    return [Request(f"{batch}-{failed}-{first}", batch, sources, count, first, last) for first, last in stretches]


def _stretches(
    new: Mapping[SourceContract, Sequence[StoredObject]],
    places: Landing,
    contracts: Sequence[SourceContract],
    now: datetime,
    reach: int,
    due: Sequence[Due],
) -> list[tuple[str, str]]:
    """Return the ranges of days to make: those of new files and of pulls, and those already in which depend on a changed one."""
    ingested = {day for contract in contracts for day in places.ledger.live(contract.name) if day}
    daily = [(contract, item) for contract, files in new.items() if contract.partitioned for item in files]
    days = {expected_day(contract, item.name, now) for contract, item in daily}
    wanted = {other for day in days if day for other in _with_reach(day, ingested, reach)}
    if daily and not wanted:  # only files without an expected day: any run of their source will quarantine them
        wanted = {max(ingested, default=(daily[0][0].days or keys.day(now)).partition("/")[0])}
    wanted |= {pull.day for pull in due if pull.day}
    return keys.ranges(wanted, most=MOST_REQUESTS)


def _with_reach(day: str, ingested: Iterable[str], reach: int) -> set[str]:
    last = keys.day(date.fromisoformat(day) + timedelta(days=reach))
    return {day} | {other for other in ingested if day < other <= last}


def _digest(items: Iterable[StoredObject], due: Iterable[Due]) -> str:
    lines = sorted([*(f"{item.name}@{item.generation}" for item in items), *(pull.turn for pull in due)])
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
