"""Pushing rows to feature views: checked strictly, durable first, online next, and only then acknowledged.

No Feast is imported: what the views are comes from the applied repository. Rows are pushed to a push source, and reach every view that has
it. A crash between log and online store loses nothing: the next materialization writes online what the log has.

Pushes that come while others are being written wait for them, and are then written together: one file, one transaction.
"""

from __future__ import annotations

import base64
import binascii
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from ml_assets.features.compiled import CompiledView
from ml_assets.features.on_demand import LIST, polars_type
from ml_assets.features.online.backends import Backend
from ml_assets.features.online.rows import NEVER, PUSHED, Change, OnlineRow, Packing, keys_of
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push_log import PushLog
from ml_assets.features.reading import location

MOST_ROWS = 10_000
MOST_TOLD = 20  # faults in the message; `PushError.faults` has all
REFRESH_SECONDS = 5.0  # a repository that was applied anew is noticed so much later
TIME_TYPE = "UnixTimestamp"
LARGEST_FLOAT32 = 3.4028234663852886e38


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request; `row` counts from 0, None when it is not about one row."""

    row: int | None
    field: str
    value: str
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"row": self.row, "field": self.field, "value": self.value, "problem": self.problem}

    def __str__(self) -> str:
        """Return it in one line."""
        where = "" if self.row is None else f"row {self.row}, "
        return f"{where}{self.field}: {self.problem}" + (f" (got {self.value})" if self.value else "")


class PushError(FeatureError):
    """A push that was refused whole; `faults` names everything that is wrong with it."""

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        """`source` is the push source that was named."""
        self.faults = tuple(faults)
        more = [f"… and {len(faults) - MOST_TOLD} more"] if len(faults) > MOST_TOLD else []
        told = [*map(str, faults[:MOST_TOLD]), *more]
        super().__init__(f"push to {source!r}: nothing was stored, because of {len(faults)} faults\n" + "\n".join(told))


@dataclass(frozen=True)
class PushReceipt:
    """What an acknowledged push did: rows pushed, how many of them were new, and the views they went to.

    Of a push that is repeated as it was nothing is new; when it was written together with others it counts as new again.
    """

    rows: int
    new: int
    views: tuple[str, ...]


class Pusher:
    """Takes pushes for the push sources of one applied repository; safe to share between threads."""

    def __init__(self, repo: Path, *, lake_url: str, backend: Backend) -> None:
        """Nothing is read before the first push."""
        self._repo, self._lake_url, self._backend = repo, lake_url.rstrip("/"), backend
        self._targets: Mapping[str, list[_Target]] = {}
        self._looked = -math.inf
        self._lock = threading.Lock()
        self._writers: dict[str, _Writer] = {}

    def push(self, source: str, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> PushReceipt:
        """Store rows and return when they are durable and online.

        A row has the join keys and features of the source's views under their declared names, the event timestamp, and
        optionally the created timestamp (its version, by its producer; `now` otherwise) under the names that the views' tables
        have. Times are datetimes or ISO text with a zone, bytes are bytes or base64. Pushed twice, or in another order, it is the same.
        Raises `PushError`, with every fault, and stores nothing.
        """
        targets = self._known(source)
        columns = _checked(source, targets, rows, now)
        with self._lock:
            writer = self._writers.setdefault(source, _Writer(self._backend))
        new = writer.write(_Push(targets, columns, len(rows)), now)
        return PushReceipt(len(rows), min(new, len(rows)), tuple(target.view.name for target in targets))

    def sources(self) -> dict[str, list[str]]:
        """Return the names of the views of each push source."""
        return {source: [target.view.name for target in targets] for source, targets in self._current().items()}

    def compact(self, *, now: datetime) -> int:
        """Merge the logs' small files of past days, see `PushLog.compact`; return how many were merged or removed."""
        return sum(target.log.compact(now=now) for targets in self._current().values() for target in targets)

    def _known(self, source: str) -> list[_Target]:
        targets = self._current()
        if source not in targets:
            problem = f"there is no such push source; there are {sorted(targets)}"
            raise PushError(source, [Fault(None, "push source", repr(source), problem)])
        return targets[source]

    def _current(self) -> Mapping[str, list[_Target]]:
        if time.monotonic() - self._looked > REFRESH_SECONDS:
            from ml_assets.features.retrieval import applied_repo

            self._targets = self._grouped(applied_repo(self._repo).views.values())
            self._looked = time.monotonic()
        return self._targets

    def _grouped(self, views: Iterable[CompiledView]) -> Mapping[str, list[_Target]]:
        found: dict[str, list[_Target]] = {}
        for view in views:
            if view.push_source:
                table = location(view.declared.path, self._repo, self._lake_url).removeprefix(f"{self._lake_url}/")
                found.setdefault(view.push_source, []).append(_Target(view, PushLog(self._lake_url, table)))
        return found


@dataclass(frozen=True)
class _Target:
    """One view of a push source, and its log."""

    view: CompiledView
    log: PushLog

    @cached_property
    def packing(self) -> Packing:
        return Packing(self.view.features)

    @cached_property
    def columns(self) -> dict[str, _Column]:
        """Return what may be pushed, by name: keys, features, and times."""
        declared = self.view.declared
        found = [_Column(name, dtype, nulls=False) for name, dtype in self.view.keys.items()]
        found += [_Column(name, dtype) for name, dtype in self.view.features.items()]
        found.append(_Column(declared.event_timestamp, TIME_TYPE, nulls=False, past=True))
        if declared.created_timestamp:
            found.append(_Column(declared.created_timestamp, TIME_TYPE, nulls=False, past=True, optional=True))
        return {column.name: column for column in found}

    def frame(self, columns: Mapping[str, list[Any]]) -> pl.DataFrame:
        """Return the checked columns of this view as a frame, under the declared names."""
        return pl.DataFrame(
            {name: pl.Series(name, columns[name], dtype=item.dtype, strict=True) for name, item in self.columns.items()}
        )

    def keep(self, frame: pl.DataFrame, packed: Sequence[str], received_at: datetime) -> int:
        """Append the rows to the log, under the table's own names, and return how many are new."""
        declared = self.view.declared
        stored = dict(declared.keys) | {feature.name: feature.column for feature in declared.features}
        return self.log.append(
            frame.rename(stored), event_timestamp=declared.event_timestamp, received_at=received_at, packed=packed
        )

    def online(self, frame: pl.DataFrame, packed: Sequence[str]) -> list[OnlineRow]:
        """Return the rows as the online store keeps them."""
        declared, keys = self.view.declared, keys_of(frame, list(self.view.keys))
        events = frame[declared.event_timestamp].to_physical().to_list()
        created = [NEVER] * frame.height
        if declared.created_timestamp:
            created = frame[declared.created_timestamp].to_physical().to_list()
        return [OnlineRow(*row) for row in zip(keys, events, created, [PUSHED] * frame.height, packed, strict=True)]


# -- writing -----------------------------------------------------------------------------------------------------------


class _Push(NamedTuple):
    """A checked push: the views that it goes to, and its rows by column."""

    targets: list[_Target]
    columns: Mapping[str, list[Any]]
    height: int


@dataclass
class _Group:
    """Pushes that are written together, and the outcome that they wait for: the number of new rows."""

    pushes: list[_Push] = field(default_factory=list)
    received_at: datetime | None = None
    outcome: Future[int] | None = None


class _Writer:
    """Writes the pushes of one source, one group after the other; what comes meanwhile is the next group."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._lock, self._open = backend, threading.Lock(), _Group()
        self._thread = ThreadPoolExecutor(1)

    def write(self, push: _Push, now: datetime) -> int:
        """Return the number of new rows in the push's group when it is durable and online; raises what writing raises."""
        with self._lock:
            group = self._open
            group.pushes.append(push)
            group.received_at = max(group.received_at or now, now)
            if group.outcome is None:
                group.outcome = self._thread.submit(self._write, group)
        return group.outcome.result()

    def _write(self, group: _Group) -> int:
        with self._lock:
            self._open = _Group()
        assert group.received_at
        # one after the other where a repository was applied anew between two pushes
        alike = groupby(group.pushes, key=lambda push: id(push.targets))
        return sum(self._write_alike(list(pushes), group.received_at) for _, pushes in alike)

    def _write_alike(self, pushes: Sequence[_Push], received_at: datetime) -> int:
        targets, new, changes = pushes[0].targets, 0, {}
        columns = {name: [*chain.from_iterable(push.columns[name] for push in pushes)] for name in pushes[0].columns}
        for target in targets:
            frame = target.frame(columns)
            packed = target.packing.pack_all(frame)
            new = max(new, target.keep(frame, packed, received_at))
            changes[target.view.name] = Change(target.online(frame, packed))
        for view, change in changes.items():
            self._backend.apply(view, change)
        return new


# -- checking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """What a pushed field must be. `past`: a time that is not after now. `optional`: it may be left out, and is now then."""

    name: str
    declared: str
    nulls: bool = True
    past: bool = False
    optional: bool = False

    @cached_property
    def dtype(self) -> pl.DataType:
        """Return the Polars type."""
        found = polars_type(self.declared)
        assert found is not None  # `_columns` has refused all others
        return found

    def read(self, value: Any, now: datetime) -> Any:
        """Return the value in Python's type; `ValueError` with what is wrong and how to mend it."""
        if value is None:
            if self.nulls:
                return None
            if self.optional:
                return now.astimezone(UTC)
            raise ValueError("is null; every row needs one")
        found = read_value(value, self.declared)
        if self.past and found > now:
            raise ValueError(
                f"is after now, {now.isoformat()}; send what has happened, or correct the producer's clock"
            )
        return found


def _checked(
    source: str, targets: Sequence[_Target], rows: Sequence[Mapping[str, Any]], now: datetime
) -> dict[str, list[Any]]:
    """Return the rows as columns of Python values; `PushError` with every fault."""
    columns, faults = _columns(targets)
    faults += _size_faults(rows)
    if faults:
        raise PushError(source, faults)
    found: dict[str, list[Any]] = {name: [] for name in columns}
    for number, row in enumerate(rows):
        for name, column in columns.items():
            try:
                found[name].append(column.read(_present(row, column), now))
            except ValueError as error:
                faults.append(Fault(number, name, told(row.get(name)) if name in row else "", str(error)))
        faults += [
            Fault(number, str(name), told(row[name]), f"is no column of the source; it has {list(columns)}")
            for name in row
            if name not in columns
        ]
    if faults:
        raise PushError(source, faults)
    return found


def _columns(targets: Sequence[_Target]) -> tuple[dict[str, _Column], list[Fault]]:
    """Return the columns of all views; a fault for each that they declare differently, or of a type that cannot be pushed."""
    found: dict[str, _Column] = {}
    faults = []
    for target in targets:
        for name, column in target.columns.items():
            if found.setdefault(name, column) != column:
                problem = f"its views declare it {found[name].declared} and {column.declared}; make them agree"
                faults.append(Fault(None, name, "", problem))
            if (_inner(column.declared) or column.declared) not in READERS:  # lists of lists too
                faults.append(Fault(None, name, "", f"values of type {column.declared} cannot be pushed"))
    return found, faults


def _size_faults(rows: Sequence[Mapping[str, Any]]) -> list[Fault]:
    if not rows:
        return [Fault(None, "rows", "", "there are none; send at least one")]
    if len(rows) > MOST_ROWS:
        return [Fault(None, "rows", str(len(rows)), f"there are more than {MOST_ROWS}; send them in several pushes")]
    return []


def _present(row: Mapping[str, Any], column: _Column) -> Any:
    if column.name not in row and not column.optional:
        fix = "send null when there is no value" if column.nulls else "add it"
        raise ValueError(f"is missing; {fix}")
    return row.get(column.name)


def told(value: Any) -> str:
    """Return a value as messages show it: on one line, and not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _inner(declared: str) -> str | None:
    """Return the type of a list's items; None for what is no list."""
    return declared[len(LIST) : -1] if declared.startswith(LIST) else None


# -- values ------------------------------------------------------------------------------------------------------------


def read_value(value: Any, declared: str) -> Any:
    """Return a value, as JSON or Python has it, in the type that Feast calls `declared`; `ValueError` says what is wrong with it."""
    inner = _inner(declared)
    if inner is None:
        return READERS[declared](value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"is no list; send a list of {inner}")
    return [None if item is None else READERS[inner](item) for item in value]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is no text; send a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is no valid Unicode; send text without lone surrogates") from error
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is no truth value; send true or false")
    return value


def _whole(bits: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("is no whole number; send one without a decimal point")
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise ValueError(f"does not fit into {bits} bits")
        return value

    return read


def _number(largest: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("is no number; send a number")
        try:
            found = float(value)
        except OverflowError as error:
            raise ValueError("is too large for a float") from error
        if math.isfinite(found) and abs(found) > largest:
            raise ValueError("is too large for a float of 32 bits")
        return found + 0.0  # -0.0 and 0.0 are equal offline, and must be online

    return read


def _time(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("is no time; send ISO text such as 2013-01-31T12:00:00Z") from error
    if not isinstance(value, datetime):
        raise ValueError("is no time; send ISO text such as 2013-01-31T12:00:00Z")
    if value.tzinfo is None:
        raise ValueError("has no time zone; add one, such as Z or +01:00")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of range") from error


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("is neither bytes nor base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is no base64 text") from error


READERS: Mapping[str, Callable[[Any], Any]] = {
    "String": _text,
    "Bytes": _bytes,
    "Bool": _truth,
    "Int32": _whole(32),
    "Int64": _whole(64),
    "Float32": _number(LARGEST_FLOAT32),
    "Float64": _number(math.inf),
    TIME_TYPE: _time,
}
