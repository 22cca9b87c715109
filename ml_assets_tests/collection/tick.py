"""One look of the landing sensor over very many files, in a process of its own: its seconds of the processor and bytes of memory, as JSON.

    python -m ml_assets_tests.collection.tick LAKE FILES

The lake's ledger knows all files but the last hundred. Memory is that of the whole process, imports included.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_assets.collection.collect import Landing
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Entry, Ledger
from ml_assets.collection.watch import look
from ml_assets.lake import Lake, Store, StoredObject

START, NOW = datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 1, tzinfo=UTC)
THINGS = SourceContract("things", "things/things-{day}*.csv", (), days="2013-01-01/2013-12-31")
NEW = 100
BATCH = 1500  # more than 64 of them: a folded state, and some batches after it


class Listing:
    """A landing zone that only lists, as a bucket does: each time objects of their own."""

    def __init__(self, count: int) -> None:
        self._count = count

    def objects(self, prefix: str = "") -> list[StoredObject]:
        """Return the files of many days, several for each."""
        return list(files(self._count))


def files(count: int) -> Iterator[StoredObject]:
    """Yield so many files, with generations and checksums as those of a bucket."""
    for number in range(count):
        day = (START.date() - timedelta(days=number % 30)).isoformat()
        name, at = f"things/things-{day}.{number:06d}.csv", START + timedelta(milliseconds=number)
        yield StoredObject(name, 1000 + number, f"{1_700_000_000_000_000 + number}", at, f"crc32c:{number:06d}==")


def fill(lake: str, count: int) -> None:
    """Write the ledger of all files but the last hundred: of each day the last one holds."""
    ledger, part = Ledger(lake), []
    for number, item in enumerate(files(count - NEW)):
        part.append(_entry(item, number, live=number >= count - NEW - 30))
        if len(part) == BATCH:
            ledger.append(part)
            part = []
    ledger.append(part)


def _entry(item: StoredObject, number: int, *, live: bool) -> Entry:
    return Entry(
        source="things",
        name=item.name,
        generation=item.generation,
        size=item.size,
        sha256=f"{number:064x}",
        partition=item.name[len("things/things-") :][:10],
        status="ingested" if live else "superseded",
        reason="312 rows" if live else f"corrected by {item.name} of 2013-02-01 00:00",
        landed_at=item.modified_at,
        decided_at=NOW,
        checksum=item.checksum,
        version=f"{number:064x}" if live else "",
    )


def measured(lake: str, count: int) -> dict[str, Any]:
    """Return what a look found, its processor seconds (other tests run beside it), and the process's most memory."""
    places = Landing(Listing(count), Lake(lake), Ledger(lake), Store(lake))  # type: ignore[arg-type]
    begun = time.process_time()
    found = look(places, [THINGS], now=NOW)
    seconds = time.process_time() - begun
    return {"files": 0 if isinstance(found, str) else found[0].files, "seconds": seconds, "bytes": _peak()}


def _peak() -> int:
    """Return the most memory that this process had, in bytes; `getrusage` would count that of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
