"""From a database or an API into the landing zone: what is pulled becomes files, which `collect` takes like anybody else's.

dlt extracts, this writes one Parquet file for each touched day (one for a table without days), and the ledger loads it.
The name carries a hash of the rows, so the same rows are the same file. The cursor is written last: after a crash the
next pull repeats from the old one, and ends with the same files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import polars as pl

from ml_assets import keys
from ml_assets.collection.collect import Landing
from ml_assets.collection.contract import LANDED_AT, ContractError, SourceContract, parse
from ml_assets.lake import Store, StoredObject
from ml_assets.lake.manifest import content_hash

FOLDER = "_pulls"
DAY = "_day"  # column of a page: the day that a row belongs to; null for a table without days
UNKNOWN = "0000-00-00"  # stands for the day of a row that tells none
UNFIT = ".unfit"  # in the name of a file whose rows do not fit the contract
TICK = timedelta(milliseconds=1)
READERS: Mapping[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "Decimal": Decimal,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
}


class PullError(RuntimeError):
    """The outside did not give its rows; the message names its address without secrets, the reason, and the fix."""


@dataclass(frozen=True)
class Page:
    """Some rows from outside, as they came, with their day in `DAY`, and the highest value of the cursor among them."""

    rows: pl.DataFrame
    cursor: Any = None


class Outside(Protocol):
    """A database or an API: see `databases.Database` and `apis.Api`.

    `cursor` is the column that grows with new and changed rows; without it each pull takes the whole table. `lag` is how
    far before the last cursor a pull begins, in seconds for times, in days for days, else in units of the cursor.
    """

    cursor: str | None
    lag: float
    requests: int

    @property
    def identity(self) -> str:
        """Return what makes it another table: a pull of another one begins anew."""

    def pages(self, contract: SourceContract, start: Any) -> Iterator[Page]:
        """Yield the rows whose cursor is `start` or higher; `PullError` when it cannot."""

    def file(self, rows: pl.DataFrame) -> tuple[bytes, str]:
        """Return the rows of one day as a file, untouched, and how its name ends."""


@dataclass(frozen=True)
class State:
    """What is remembered of a source: the highest cursor and the last day that were pulled, when, and of what."""

    cursor: Any = None
    newest: str | None = None
    pulled_at: datetime | None = None
    identity: str = ""
    generation: str | None = field(default=None, compare=False)

    def to_json(self) -> bytes:
        """Return it as stored."""
        cursor = None if self.cursor is None else [type(self.cursor).__name__, _text(self.cursor)]
        pulled_at = self.pulled_at and self.pulled_at.isoformat()
        told = {"cursor": cursor, "newest": self.newest, "pulled_at": pulled_at, "identity": self.identity}
        return json.dumps(told, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes, generation: str) -> State:
        """Read what `to_json` wrote."""
        raw = json.loads(data)
        kind, text = raw["cursor"] or ("", "")
        cursor = READERS[kind](text) if kind else None
        return cls(cursor, raw["newest"], datetime.fromisoformat(raw["pulled_at"]), raw["identity"], generation)


@dataclass(frozen=True)
class Pulled:
    """What one pull did: rows that came, requests that were made (0: unknown), files written, and those that do not fit."""

    rows: int
    requests: int
    days: Sequence[str | None]
    files: Sequence[str]
    unfit: Sequence[str]
    cursor: Any


def pull(outside: Outside, contract: SourceContract, places: Landing, *, now: datetime) -> Pulled:
    """Pull what is new since the last pull, and deliver it into the landing zone.

    With a cursor, rows are merged by the source's key with those of their day that came before; the new ones hold, and
    rows that were deleted outside stay. Without, a day, or the table without days, is what came now. Rows that do not
    fit the contract are delivered as they are, for the quarantine; the cursor stands still until they fit.
    """
    store = places.lake.store
    before = state_of(store, contract.name)
    identity = _identity(outside, contract)
    known = before if before.identity == identity else State(generation=before.generation)
    rows, cursor, names = 0, known.cursor, []
    with TemporaryDirectory() as folder:
        spool = _Spool(Path(folder))
        for page in outside.pages(contract, _earlier(known.cursor, outside.lag)):
            spool.add(page.rows)
            rows += page.rows.height
            cursor = _highest(cursor, page.cursor)
        days = spool.days or ([] if contract.partitioned or outside.cursor else [None])
        deliver = _Delivering(outside, contract, places, now)
        names = [name for day in days if (name := deliver.day(day, spool.rows(day)))]
    unfit = deliver.unfit
    newest = max(filter(None, (known.newest, *deliver.fit)), default=None)
    held = known.cursor if unfit else cursor
    _remember(store, contract.name, State(held, newest, now, identity, before.generation))
    return Pulled(rows, outside.requests, days, names, unfit, held)


def state_of(store: Store, source: str) -> State:
    """Return what is remembered of a source's pulls; an empty state before the first."""
    name = f"{FOLDER}/{source}.json"
    found = store.stat(name)
    if found is None:
        return State()
    return State.from_json(store.read(name, generation=found.generation), found.generation)


def _remember(store: Store, source: str, state: State) -> None:
    """Write the state, unless somebody else pulled meanwhile."""
    name = f"{FOLDER}/{source}.json"
    if state.generation is None:
        store.write(name, state.to_json(), expect="absent")
    else:
        store.write(name, state.to_json(), generation=state.generation)


class _Spool:
    """Rows on their way, on disk, by day: only one page is held in memory, and later one day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str | None, list[Path]] = {}

    @property
    def days(self) -> list[str | None]:
        return sorted(self._parts, key=lambda day: day or "")

    def add(self, page: pl.DataFrame) -> None:
        for (day,), rows in page.partition_by(DAY, as_dict=True, include_key=False).items():
            parts = self._parts.setdefault(day, [])
            path = self._folder / f"{len(self._parts)}-{len(parts)}.arrow"
            rows.write_ipc(path)
            parts.append(path)

    def rows(self, day: str | None) -> pl.DataFrame:
        parts = [pl.read_ipc(path) for path in self._parts.get(day, ())]
        return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()


class _Delivering:
    """Turns the rows of one day after another into files of the landing zone."""

    def __init__(self, outside: Outside, contract: SourceContract, places: Landing, now: datetime) -> None:
        self.outside, self.contract, self.places, self.now = outside, contract, places, now
        self.fit: list[str | None] = []
        self.unfit: list[str] = []
        self._last, self._good = _landed(contract, places)

    def day(self, day: str | None, rows: pl.DataFrame) -> str | None:
        """Deliver one day; return the file's name, or None when it is there already."""
        try:
            fresh = self._typed(day, rows)
        except ContractError:
            data, ending = self.outside.file(rows)
            name = self._name(day, hashlib.sha256(data).hexdigest(), f"{UNFIT}.{ending}")
            self.unfit.append(name)
            return self._put(day, name, data)
        self.fit.append(day)
        base = self._base(day)
        frame = _merged(base, fresh, self.contract.key, self.outside.cursor)
        digest = content_hash(frame)
        if base is not None and self._is_last(day) and content_hash(_ordered(base, self.contract.key)) == digest:
            return None
        return self._put(day, self._name(day, digest, ".parquet"), as_parquet(frame))

    def _typed(self, day: str | None, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows in the contract's types, which a table without rows has not; `ContractError` as of a file."""
        if day == UNKNOWN:
            raise ContractError("rows without a day; the file's name will tell it")
        if rows.is_empty():
            return pl.DataFrame(schema={column.name: pl.Null for column in self.contract.columns})
        data, ending = self.outside.file(rows)
        return parse(data, self.contract, name=f"{self.contract.name}.{ending}")

    def _base(self, day: str | None) -> pl.DataFrame | None:
        """Return the rows of a day that came before: of its last good file, or else what is in."""
        if item := self._good.get(day):
            return _readable(self.places.landing.read(item.name), self.contract, item.name)
        table = keys.raw(self.contract.name)
        if self.places.lake.manifest(table, day) is None:
            return None
        rows = self.places.lake.read(table, None if day is None else [day], allow_red=True).drop(LANDED_AT)
        return _readable(as_parquet(rows), self.contract, f"{self.contract.name}.parquet")

    def _is_last(self, day: str | None) -> bool:
        """Tell whether nothing came after the file that a day's rows are merged with."""
        return self._last.get(day) == self._good.get(day)

    def _name(self, day: str | None, digest: str, ending: str) -> str:
        return file_name(self.contract, day, f"{digest[:12]}{ending}")

    def _put(self, day: str | None, name: str, data: bytes) -> str | None:
        """Write a file, unless it is the last one of its day already. In a folder it is dated now, as a bucket would."""
        last = self._last.get(day)
        if last and last.name == name:
            return None
        landing, at = self.places.landing, max(self.now, last.modified_at + TICK) if last else self.now
        landing.write(name, data)
        if landing.is_local:
            os.utime(landing.path(name), (at.timestamp(), at.timestamp()))
        return name


def file_name(contract: SourceContract, day: str | None, ending: str) -> str:
    """Return the name of a pulled file: weather/weather-2013-01-31.0a1b2c3d4e5f.parquet."""
    return f"{contract.pattern.removesuffix('*').replace('{day}', day or UNKNOWN)}.{ending}"


def _landed(
    contract: SourceContract, places: Landing
) -> tuple[dict[str | None, StoredObject], dict[str | None, StoredObject]]:
    """Return the last file of each day, and the last whose rows count: not in quarantine, unless a pull wrote it."""
    refused = {entry.identity for entry in places.ledger.entries() if entry.status == "quarantined"}
    ours = re.compile(r"\.[0-9a-f]{12}\.parquet$")
    last: dict[str | None, StoredObject] = {}
    good: dict[str | None, StoredObject] = {}
    for item in sorted(places.landing.objects(contract.folder), key=lambda item: (item.modified_at, item.name)):
        try:
            day = contract.day_of(item.name)
        except ContractError:
            continue
        last[day] = item
        if UNFIT not in item.name and ((item.name, item.generation) not in refused or ours.search(item.name)):
            good[day] = item
    return last, good


def _readable(data: bytes, contract: SourceContract, name: str) -> pl.DataFrame | None:
    """Return the rows of a file; None when it does not fit the contract (any more)."""
    try:
        return parse(data, contract, name=name)
    except ContractError:
        return None


def _merged(base: pl.DataFrame | None, fresh: pl.DataFrame, key: Sequence[str], cursor: str | None) -> pl.DataFrame:
    """Return the rows of one day: with a cursor those that came before and the fresh ones, which hold; else the fresh ones."""
    if cursor and key:
        newest = pl.col(cursor).eq_missing(
            pl.col(cursor).max().over(key)
        )  # a row that changed during the pull came twice
        fresh = fresh.filter(newest).unique(maintain_order=True)
        if base is not None:
            fresh = pl.concat([base.join(fresh, on=list(key), how="anti", nulls_equal=True), fresh])
    return _ordered(fresh, key)


def _ordered(frame: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the rows by key, and by all else where a key comes twice: databases give them in any order."""
    return frame.sort([*key, *(name for name in frame.columns if name not in key)], maintain_order=True)


def as_parquet(frame: pl.DataFrame) -> bytes:
    """Return a frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _identity(outside: Outside, contract: SourceContract) -> str:
    """Return a hash of what is pulled: with other columns or another table a pull begins anew."""
    columns = [(column.name, column.dtype) for column in contract.columns]
    told = [outside.identity, contract.pattern, list(contract.key), columns]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _earlier(cursor: Any, lag: float) -> Any:
    """Return where a pull begins: `lag` before the last cursor."""
    if not lag or cursor is None:
        return cursor
    if isinstance(cursor, str):
        moment = datetime.fromisoformat(cursor) - timedelta(seconds=lag)
        return moment.isoformat().replace("+00:00", "Z") if cursor.endswith("Z") else moment.isoformat()
    if isinstance(cursor, datetime):
        return cursor - timedelta(seconds=lag)
    if isinstance(cursor, date):
        return cursor - timedelta(days=lag)
    return cursor - type(cursor)(lag)


def _highest(one: Any, other: Any) -> Any:
    found = [value for value in (one, other) if value is not None]
    return max(found, default=None)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
