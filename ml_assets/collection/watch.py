"""What the landing sensor asks for: one request for each stretch of days with new files, never twice, never forgotten.

Nothing depends on the sensor's memory but one thing: its cursor names the requests whose runs are not known to have
succeeded. When all files are in and a later step of such a run failed, only that tells that there is work left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta

from ml_assets import keys
from ml_assets.collection.collect import Landing, expected_day, new_files
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.due import Due
from ml_assets.lake import StoredObject

MOST_FILES = 2000  # new files in one look; the rest comes with the next
MOST_REQUESTS = 5
MOST_FAILURES = 3
MOST_REMEMBERED = 25  # requests


@dataclass(frozen=True)
class Request:
    """One run to ask for: the sources with new files, the days from `first` to `last` (None: no daily files)."""

    key: str
    batch: str
    sources: tuple[str, ...]
    files: int
    first: str | None
    last: str | None


def remembered(cursor: str | None) -> list[Request]:
    """Return the requests in the sensor's cursor."""
    found = json.loads(cursor) if cursor else []
    return [Request(**one | {"sources": tuple(one["sources"])}) for one in found]


def cursor_of(requests: Iterable[Request]) -> str:
    """Return the cursor that remembers these requests, or the last ones of very many."""
    return json.dumps([asdict(request) for request in requests][-MOST_REMEMBERED:])


def look(
    places: Landing,
    contracts: Sequence[SourceContract],
    *,
    now: datetime,
    in_flight: Sequence[str] = (),
    failures: Mapping[str, int] | None = None,
    reach: int = 0,
    due: Sequence[Due] = (),
    failed_runs: Mapping[Request, int] | None = None,
) -> list[Request] | str:
    """Return the runs to ask for, or the reason why there are none.

    `in_flight` are runs that are still collecting: nothing is asked for beside them. `failures` counts failed runs by
    batch: a batch is asked for again until it failed three times. `reach` is how many days after a corrected day
    features may still depend on it; those that are already ingested are made again too. `due` are pulls to ask for.
    `failed_runs` are requests of earlier whose last run failed, and how often: once no file is new, they are asked for
    again, as often.
    """
    if in_flight:
        return f"run {in_flight[0]} is still collecting"
    new = {contract: new_files(contract, places)[:MOST_FILES] for contract in contracts}
    new = {contract: files for contract, files in new.items() if files}
    if not new and not due:
        return _again(failed_runs or {}) or _nothing(failed_runs or {})
    batch = _digest((item for files in new.values() for item in files), due)
    failed = (failures or {}).get(batch, 0)
    stretches = _stretches(new, places, contracts, now, reach, due)
    if failed >= MOST_FAILURES * max(1, len(stretches)):  # each stretch is a run of its own
        return f"the same {sum(map(len, new.values()))} files failed {failed} times; look at the runs of batch {batch}"
    return _requests(new, batch, failed, stretches, due)


def _again(failed_runs: Mapping[Request, int]) -> list[Request]:
    """Return the requests whose files are in, and whose run failed in a later step."""
    return [
        replace(request, key=f"{request.batch}-again-{failed}-{request.first}")
        for request, failed in failed_runs.items()
        if failed < MOST_FAILURES
    ]


def _nothing(failed_runs: Mapping[Request, int]) -> str:
    stuck = sorted({request.batch for request in failed_runs})
    if not stuck:
        return "no new files"
    return f"no new files, but runs of batch {', '.join(stuck)} failed {MOST_FAILURES} times after their files were in"


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
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()[:16]
