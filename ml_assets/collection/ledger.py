"""The ledger of files: what landed, what became of it, and why. Append-only, on the same URL as the lake.

Events are written in numbered batches (`_ledger/00000007.jsonl`), each created only when absent: two writers race for
a number, one wins, the other reads the winner's batch and decides again. The state is the fold of all events. After
every `FOLD_EVERY` batches the state itself is written beside them (`_folded/00000064.jsonl.gz`), so that a reader who
comes anew begins there; it can be made again from the batches, and one that is damaged is left aside.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from ml_assets.lake import PreconditionFailed, Store, StoredObject
from ml_assets.lake.verify import AlteredFileError

Status = Literal["ingested", "quarantined", "superseded", "duplicate", "discarded", "gone"]
STATUSES: tuple[Status, ...] = ("ingested", "quarantined", "superseded", "duplicate", "discarded", "gone")
SELDOM: tuple[Status, ...] = ("discarded", "gone")  # counted only when there are some
HOLDING: tuple[Status, ...] = ("ingested", "duplicate")  # the delivery's bytes are in
FOLDER = "_ledger"
FOLDED = "_folded"
FOLD_EVERY = 64  # batches
MOST_TRIES = 100
DIGEST = '{"digest": "'


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision about one generation of one file.

    `checksum` is the store's own, `version` that of the raw partition that was written from it, and `note` says how the
    file differs from the contract when it was accepted nevertheless.
    """

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
    checksum: str = ""
    version: str = ""
    note: str = ""

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
        raw = {name: getattr(self, name) for name in FIELDS}
        times = {name: raw[name].isoformat() for name in TIMES}
        return json.dumps(raw | times, sort_keys=True)

    @classmethod
    def from_json(cls, line: str | bytes) -> Entry:
        """Read what `to_json` wrote."""
        raw = json.loads(line)
        for name in TIMES:
            raw[name] = _moment(raw[name])
        for name in SHARED:
            raw[name] = sys.intern(raw[name]) if raw.get(name) else raw.get(name, "")
        return cls(**raw)


FIELDS = tuple(field.name for field in fields(Entry))
TIMES = ("landed_at", "decided_at")
SHARED = ("source", "status", "partition", "note")  # many entries have the same

_moment = lru_cache(maxsize=64)(datetime.fromisoformat)  # so have many the moment of decision


class Ledger:
    """The ledger beside the lake at `url`."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """Nothing is read before it is asked for. `client` as in `Store`."""
        self._store = Store(url, client=client)
        self._state: dict[tuple[str, str], Entry] = {}
        self._next = self._folded = 0

    def entries(self) -> list[Entry]:
        """Return the latest entry of every delivery, in the order in which deliveries were first decided."""
        return list(self._now().values())

    def position(self) -> int:
        """Return how many batches have been read so far, with those that came by now: where `append` goes on."""
        self._now()
        return self._next

    def counts(self) -> dict[str, int]:
        """Return the number of deliveries by status, with 0 when it has none; the seldom ones only when there are some."""
        found = Counter(entry.status for entry in self.entries())
        return {status: found[status] for status in STATUSES if found[status] or status not in SELDOM}

    def unseen(self, listed: Iterable[StoredObject]) -> list[StoredObject]:
        """Return the listed objects on which no decision has been made: new names, and new generations of old ones.

        One that was gone when it was to be read, and is there, has not been decided.
        """
        state = self._now()
        return [item for item in listed if _open(state.get((item.name, item.generation)))]

    def live(self, source: str) -> dict[str | None, Entry]:
        """Return the ingested delivery behind each partition of a source."""
        return _live(self._now().values(), source)

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

    def append(self, entries: Iterable[Entry], *, at: int | None = None) -> None:
        """Add decisions, all or none. A later decision about the same delivery replaces the earlier one.

        `at` is the position at which the decisions were made: `PreconditionFailed` when the ledger has gone on since.
        """
        lines = "\n".join(entry.to_json() for entry in entries).encode()
        if not lines:
            return
        first = self.position() if at is None else at
        for number in range(first, first + (MOST_TRIES if at is None else 1)):
            try:
                self._store.write(f"{FOLDER}/{number:08d}.jsonl", _sealed(lines), expect="absent")
            except PreconditionFailed:
                continue
            if number - self._folded >= FOLD_EVERY:
                self._fold()
            return
        times = f"{MOST_TRIES} times" if at is None else "since it was read,"
        raise PreconditionFailed(f"the ledger at {self._store.url} changed {times} while writing; try again")

    def _now(self) -> dict[tuple[str, str], Entry]:
        """Return the latest entries, after reading what is new; batches never change."""
        if not self._next:
            self._begin()
        for name in self._names():
            data = io.BytesIO(self._store.read(name))
            self._state |= {entry.identity: entry for entry in _entries(data, self._store.path(name))}
            self._next += 1
        return self._state

    def _names(self) -> list[str]:
        """Return the batches that have not been read."""
        return self._store.names(FOLDER, after=f"{FOLDER}/{self._next - 1:08d}.jsonl" if self._next else "")

    def _begin(self) -> None:
        """Begin with the newest state that is whole."""
        for name in reversed(self._store.names(FOLDED)):
            try:
                with gzip.open(io.BytesIO(self._store.read(name))) as data:
                    self._state = {entry.identity: entry for entry in _entries(data, self._store.path(name))}
            except (AlteredFileError, OSError, EOFError, zlib.error):
                continue
            self._next = self._folded = int(name.removeprefix(f"{FOLDED}/").split(".")[0])
            return

    def _fold(self) -> None:
        """Write the state; who is first at a number writes the same as everybody else would."""
        lines = "\n".join(entry.to_json() for entry in self._now().values()).encode()
        data = gzip.compress(_sealed(lines), compresslevel=1, mtime=0)
        self._store.write(f"{FOLDED}/{self._next:08d}.jsonl.gz", data)
        self._folded = self._next


def _open(entry: Entry | None) -> bool:
    return entry is None or entry.status == "gone"


def _live(entries: Iterable[Entry], source: str) -> dict[str | None, Entry]:
    return {entry.partition: entry for entry in entries if (entry.source, entry.status) == (source, "ingested")}


def _sealed(lines: bytes) -> bytes:
    """Return lines after a first one with their digest."""
    return _seal(hashlib.sha256(lines).hexdigest()) + lines


def _seal(digest: str) -> bytes:
    return f'{DIGEST}{digest}"}}\n'.encode()


def _entries(data: io.BufferedIOBase, where: str) -> Iterator[Entry]:
    """Yield the entries of a batch, after a comparison with its digest; those of before there were digests have none."""
    first = data.readline()
    begins = data.tell() if first.startswith(DIGEST.encode()) else 0
    if begins and first != _seal(_sha256(data)):
        raise AlteredFileError(f"{where} does not hold what was written; restore it from a copy")
    data.seek(begins)
    try:
        yield from map(Entry.from_json, data)
    except (ValueError, KeyError, TypeError) as error:
        raise AlteredFileError(f"{where} is no batch of the ledger: {error}; restore it from a copy") from error


def _sha256(rest: io.BufferedIOBase) -> str:
    """Return the hash of what follows, without holding it all."""
    found = hashlib.sha256()
    for part in iter(lambda: rest.read(2**20), b""):
        found.update(part)
    return found.hexdigest()
