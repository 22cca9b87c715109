"""The ledger of files: what landed, what became of it, and why. Append-only, on the same URL as the lake.

Events are written in numbered batches (`_ledger/00000007.jsonl`), each created only when absent: two writers race for
a number, one wins, the other reads the winner's batch and takes the next. The state is the fold of all events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from ml_assets.lake import PreconditionFailed, Store, StoredObject

Status = Literal["ingested", "quarantined", "superseded", "duplicate"]
STATUSES: tuple[Status, ...] = ("ingested", "quarantined", "superseded", "duplicate")
HOLDING: tuple[Status, ...] = ("ingested", "duplicate")  # the delivery's bytes are in
FOLDER = "_ledger"
MOST_TRIES = 100


@dataclass(frozen=True)
class Entry:
    """One decision about one generation of one file."""

    source: str
    name: str
    generation: str
    size: int
    sha256: str
    partition: str | None
    status: Status
    reason: str
    landed_at: datetime
    decided_at: datetime

    @property
    def identity(self) -> tuple[str, str]:
        """Return what makes a delivery: the file's name and its generation."""
        return self.name, self.generation

    @property
    def arrival(self) -> tuple[datetime, str]:
        """Return what orders deliveries: when the file landed, and its name for those of one moment."""
        return self.landed_at, self.name

    def to_json(self) -> str:
        """Return one JSON line."""
        times = {"landed_at": self.landed_at.isoformat(), "decided_at": self.decided_at.isoformat()}
        return json.dumps(asdict(self) | times, sort_keys=True)

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """Read what `to_json` wrote."""
        raw = json.loads(line)
        times = {name: datetime.fromisoformat(raw[name]) for name in ("landed_at", "decided_at")}
        return cls(**raw | times)


class Ledger:
    """The ledger beside the lake at `url`."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Nothing is read before it is asked for. `client` as in `Store`."""
        self._store = Store(url, client=client)
        self._batches: dict[str, list[Entry]] = {}

    def entries(self) -> list[Entry]:
        """Return the latest entry of every delivery, in the order in which deliveries were first decided."""
        state: dict[tuple[str, str], Entry] = {}
        for entry in self._events():
            state[entry.identity] = entry
        return list(state.values())

    def counts(self) -> dict[str, int]:
        """Return the number of deliveries by status; every status is there, with 0 when it has none."""
        found = Counter(entry.status for entry in self.entries())
        return {status: found[status] for status in STATUSES}

    def unseen(self, listed: Iterable[StoredObject]) -> list[StoredObject]:
        """Return the listed objects on which no decision has been made: new names, and new generations of old ones."""
        known = {entry.identity for entry in self.entries()}
        return [item for item in listed if (item.name, item.generation) not in known]

    def live(self, source: str) -> dict[str | None, Entry]:
        """Return the ingested delivery behind each partition of a source."""
        return _live(self.entries(), source)

    def confirmed(self, source: str) -> dict[str | None, tuple[datetime, str]]:
        """Return when, and under which name, the bytes behind each partition last arrived: duplicates confirm them."""
        entries = self.entries()
        live = _live(entries, source)
        found: dict[str | None, tuple[datetime, str]] = {}
        for entry in entries:
            held = live.get(entry.partition)
            if held and (entry.source, entry.sha256) == (source, held.sha256) and entry.status in HOLDING:
                found[entry.partition] = max(found.get(entry.partition, entry.arrival), entry.arrival)
        return found

    def append(self, entries: Iterable[Entry]) -> None:
        """Add decisions, all or none. A later decision about the same delivery replaces the earlier one."""
        lines = "\n".join(entry.to_json() for entry in entries)
        if not lines:
            return
        first = len(self._names())
        for number in range(first, first + MOST_TRIES):
            try:
                self._store.write(f"{FOLDER}/{number:08d}.jsonl", lines.encode(), expect="absent")
                return
            except PreconditionFailed:
                continue
        raise PreconditionFailed(f"the ledger at {self._store.url} changed {MOST_TRIES} times while writing; try again")

    def _names(self) -> list[str]:
        return self._store.names(FOLDER)

    def _events(self) -> Iterable[Entry]:
        for name in self._names():
            if name not in self._batches:  # batches never change
                self._batches[name] = [Entry.from_json(line) for line in self._store.read(name).decode().splitlines()]
            yield from self._batches[name]


def _live(entries: Iterable[Entry], source: str) -> dict[str | None, Entry]:
    return {entry.partition: entry for entry in entries if (entry.source, entry.status) == (source, "ingested")}
