"""The log of predictions: durable on this machine within half a second, in the lake within half a minute, each row once.

    <spool>/<process>/open/<number>.parquet    written every half second, and synced to the disk
    <spool>/<process>/batch-<name>/            what is on its way to the lake: one file there for each day
    <lake>/_predicted/<problem>/<day>/<batch>-<columns>.parquet

Adding a row costs the answer some microseconds and never fails it. What a kill can lose: rows that were added less than `FLUSH_SECONDS`
before (and however long a write takes), or none with `durable`, where an answer waits for the disk. What a killed process left is landed
by the next one that starts. A batch has one name, and the lake keeps the first file of a name: a landing that is repeated adds nothing.

While the disk is full or the lake is away, rows wait: on disk up to `MOST_SPOOLED` bytes, then in memory up to `MOST_ROWS`, then the
oldest are dropped and counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import polars as pl

from ml_assets.deployment.attempt import Attempt
from ml_assets.features.day_files import DayFiles
from ml_assets.lake import Store

FOLDER = "_predicted"
REQUEST, ROW, ARM, MILLISECONDS, STATUS = "_request", "_row", "_arm", "_milliseconds", "_status_"
MOMENT, VERSION = "event_timestamp", "model_version"
OPEN, BATCH, DONE, LOCK = "open", "batch-", ".done-", ".lock"
TIME = pl.Datetime("us", "UTC")
TYPES = {"Float64": pl.Float64(), "Boolean": pl.Boolean(), "String": pl.String()}
ANSWERS: Mapping[str, pl.DataType | None] = {"score": pl.Float64(), "scores": pl.List(pl.Float64)}
NOT_KNOWN: Mapping[str, pl.DataType | None] = {}
MOST_ROWS, MOST_SPOOLED = 50_000, 256 * 2**20
FLUSH_SECONDS, LAND_SECONDS = 0.5, 30.0
_DAY = "_day"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one model answered in one request.

    `rows`, `entities` and `statuses` (by view) are the whole request's; `numbers` are the places of the rows that were answered, in
    the order of `answers`. `types` are those of the features, by name. `seconds` are those of the answer.
    """

    request: str
    moment: datetime
    arm: str
    version: str
    seconds: float
    types: Mapping[str, str]
    numbers: Sequence[int]
    rows: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]
    entities: Sequence[Mapping[str, Any]] = ()
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)


class PredictionLog:
    """The predictions of one problem on their way to the lake; safe to share between threads. Each process has its own."""

    def __init__(
        self,
        lake_url: str,
        problem: str,
        spool: Path,
        *,
        clock: Callable[[], datetime],
        durable: bool = False,
        most_rows: int = MOST_ROWS,
        most_spooled: int = MOST_SPOOLED,
        flush_seconds: float = FLUSH_SECONDS,
        land_seconds: float = LAND_SECONDS,
    ) -> None:
        """`spool` is a folder on a disk of this machine, shared by the processes that serve the problem.

        Nothing is touched before the first write. With `durable`, `add` returns when the disk has the row, or cannot.
        """
        self._files, self._root = DayFiles(lake_url, f"{FOLDER}/{problem}"), Path(spool)
        self._clock, self._durable = clock, durable
        self._most_rows, self._most_spooled = most_rows, most_spooled
        self._flush_seconds, self._land_seconds = flush_seconds, land_seconds
        self._buffer: deque[Entry] = deque()
        self._lock, self._writing, self._landing = threading.Lock(), threading.Lock(), threading.Lock()
        self._own: Path | None = None
        self._held = -1
        self._number = 0
        self._bytes: int | None = None  # of the whole spool, measured again after each landing
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: dict[str, tuple[datetime, str]] = {}
        self.waiting = self.spooled = self.landed = self.dropped = self.damaged = 0
        """Rows in memory; rows written to the disk, and to the lake; rows dropped; files of the spool that could not be read."""

    # -- taking ----------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Take what was answered; it never raises for a disk or a lake."""
        with self._lock:
            self._buffer.append(entry)
            self.waiting += len(entry.numbers)
            while self.waiting > self._most_rows and self._buffer:
                oldest = len(self._buffer.popleft().numbers)
                self.waiting -= oldest
                self.dropped += oldest
        if self._durable:
            self._try("disk", self.flush)

    # -- to the disk -----------------------------------------------------------------------------------------------

    def flush(self) -> int:
        """Write what waits to the disk and return the number of rows. When that fails they wait on, and the error is raised."""
        with self._writing:
            taken = self._take()
            rows = sum(len(entry.numbers) for entry in taken)
            written = False
            try:
                if taken:
                    self._write(taken)
                written = True
            finally:  # whatever went wrong
                if not written:
                    self._put_back(taken)
            self.spooled += rows
            return rows

    def _write(self, taken: Sequence[Entry]) -> None:
        own = self._folder()
        if self._bytes is None:
            self._bytes = sum(path.stat().st_size for path in self._root.rglob("*.parquet"))
        if self._bytes >= self._most_spooled:
            raise OSError(
                f"{self._root} holds {self._bytes:,} bytes that the lake did not take, {self._most_spooled:,} are allowed"
            )
        buffer, store = io.BytesIO(), Store(str(own))
        as_rows(taken).write_parquet(buffer, compression="zstd", compression_level=1)
        self._number += 1
        store.write(f"{OPEN}/{self._number:08d}.parquet", buffer.getvalue(), expect="absent")
        store.settle(OPEN)
        self._bytes += len(buffer.getvalue())

    def _take(self) -> list[Entry]:
        with self._lock:
            taken, self.waiting = list(self._buffer), 0
            self._buffer.clear()
        return taken

    def _put_back(self, taken: Sequence[Entry]) -> None:
        with self._lock:
            self._buffer.extendleft(reversed(taken))
            self.waiting += sum(len(entry.numbers) for entry in taken)

    def _folder(self) -> Path:
        """Return this process's folder, with its lock held until the process ends however it ends."""
        if self._own is None:
            name = uuid4().hex
            draft = self._root / f".{name}"  # nobody may find it unlocked
            (draft / OPEN).mkdir(parents=True)
            held = _locked(draft)
            if held is None:
                raise OSError(f"{draft} cannot be locked; put the spool on a disk of this machine")
            self._held = held
            self._own = draft.rename(self._root / name)
        return self._own

    def _release(self) -> None:
        """Let go of the folder; what is left in it is the next process's."""
        with self._landing, self._writing:
            own, self._own = self._own, None
            if own is not None:
                if not any(own.rglob("*.parquet")):
                    shutil.rmtree(own)
                os.close(self._held)

    # -- to the lake -----------------------------------------------------------------------------------------------

    def land(self) -> int:
        """Write what is on the disk to the lake, also what processes left that are no more; return the number of rows.

        Raises what the lake raises; then everything is still on the disk.
        """
        with self._landing:
            own = self._folder()
            self._adopt(own)
            with self._writing:
                _close(own, own)
            try:
                return sum([self._land(batch) for batch in sorted(own.glob(f"{BATCH}*"))])
            finally:
                with self._writing:
                    self._bytes = None

    def _adopt(self, own: Path) -> None:
        """Take over what lies in folders that no process holds."""
        for folder in self._root.iterdir():
            if folder != own and not folder.name.startswith(".") and (held := _locked(folder)) is not None:
                for batch in folder.glob(f"{BATCH}*"):
                    batch.rename(own / batch.name)
                _close(folder, own)
                shutil.rmtree(folder)
                os.close(held)

    def _land(self, batch: Path) -> int:
        frames = [frame for path in sorted(batch.glob("*.parquet")) if (frame := self._read(path)) is not None]
        rows = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
        for day, part in _by_day(rows):
            self._files.write(day, batch.name.removeprefix(BATCH), part)
        done = batch.rename(batch.with_name(f"{DONE}{batch.name}"))  # at once: a half-removed batch must not land again
        shutil.rmtree(done)
        self.landed += rows.height
        return rows.height

    def _read(self, path: Path) -> pl.DataFrame | None:
        """Return a file's rows; one that the disk has damaged is set aside, so that it does not hold up the rest."""
        try:
            return pl.read_parquet(path)
        except pl.exceptions.PolarsError:
            self.damaged += 1
            path.rename(self._root / f".damaged-{uuid4().hex}")
            return None

    # -- by itself -------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Write and land by itself from now on, in a thread; `close` ends it."""
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Write and land what there is, and end. What cannot be landed stays on the disk for the next process."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._try("disk", self.flush)
        self._try("lake", self.land)
        with Attempt():  # what it cannot let go of, the end of the process does
            self._release()

    def state(self) -> dict[str, Any]:
        """Return what became of the rows, and by place (`disk`, `lake`) since when and why it takes none."""
        counts = {name: getattr(self, name) for name in ("waiting", "spooled", "landed", "dropped", "damaged")}
        failing = {
            place: {"since": since.isoformat(), "reason": why} for place, (since, why) in dict(self._failing).items()
        }
        return counts | {"failing": failing}

    def _run(self) -> None:
        landed = time.monotonic() - self._land_seconds  # at once what others left
        while not self._ended.wait(self._flush_seconds):
            self._try("disk", self.flush)
            if time.monotonic() - landed >= self._land_seconds:
                self._try("lake", self.land)
                landed = time.monotonic()

    def _try(self, place: str, work: Callable[[], object]) -> None:
        with Attempt() as attempt:
            work()
        if attempt.error is None:
            self._failing.pop(place, None)
        else:
            since = self._failing[place][0] if place in self._failing else self._clock()
            self._failing[place] = (since, attempt.reason)


def predicted(lake_url: str, problem: str, *, days: Collection[str] | None = None) -> pl.LazyFrame | None:
    """Return the logged predictions of the given days (of the moment of the answer, UTC; default all); None when there are none."""
    files = DayFiles(lake_url, f"{FOLDER}/{problem}")
    return files.scan(files.names(days))


def log_versions(lake_url: str, problem: str, *, days: Collection[str] | None = None) -> dict[str, str]:
    """Return a hash of the files of each day that has some (default: all days): another one when rows came late."""
    found = DayFiles(lake_url, f"{FOLDER}/{problem}").names(days)
    return {day: hashlib.sha256("\n".join(names).encode()).hexdigest()[:20] for day, names in found.items()}


def as_rows(entries: Iterable[Entry]) -> pl.DataFrame:
    """Return entries as the log keeps them, a row for each answer.

    Columns: `_request`, `_row` (its place in the request), `event_timestamp` (the moment of the answer), `_arm`, `model_version`,
    `_milliseconds` (of the whole request), `_status_<view>`, the entity, the features as the model saw them, and the answer.
    """
    alike = groupby(entries, key=lambda entry: (entry.version, tuple(entry.types.items())))
    return pl.concat([_frame(list(group)) for _, group in alike], how="diagonal_relaxed")


def _frame(entries: Sequence[Entry]) -> pl.DataFrame:
    """Return entries whose features are the same ones."""
    types, counts = entries[0].types, [len(entry.numbers) for entry in entries]
    numbers = [number for entry in entries for number in entry.numbers]
    answers = [answer for entry in entries for answer in entry.answers]
    if len(answers) != len(numbers):
        raise ValueError(f"{len(answers)} answers to {len(numbers)} rows: give one for each")
    about = {
        REQUEST: pl.Series([entry.request for entry in entries], dtype=pl.String),
        MOMENT: pl.Series([entry.moment for entry in entries], dtype=TIME),
        ARM: pl.Series([entry.arm for entry in entries], dtype=pl.String),
        VERSION: pl.Series([entry.version for entry in entries], dtype=pl.String),
        MILLISECONDS: pl.Series([1000 * entry.seconds for entry in entries], dtype=pl.Float64),
    }
    which = pl.Series(np.repeat(np.arange(len(entries)), counts))
    columns = {name: value.gather(which) for name, value in about.items()}
    columns |= {ROW: pl.Series(numbers, dtype=pl.Int64)}
    for view in sorted({view for entry in entries for view in entry.statuses}):
        values = [_at(entry.statuses.get(view, ()), number) for entry in entries for number in entry.numbers]
        columns[f"{STATUS}{view}"] = pl.Series(values, dtype=pl.String)
    entities = [_at(entry.entities, number) or {} for entry in entries for number in entry.numbers]
    rows = [entry.rows[number] for entry in entries for number in entry.numbers]
    columns |= _columns(entities, [name for name in _names(entities) if name not in columns])
    columns |= _columns(rows, types, {name: TYPES.get(dtype) for name, dtype in types.items()})
    columns |= _columns(answers, [name for name in _names(answers) if name != VERSION], ANSWERS)
    order = [REQUEST, ROW, *(name for name in columns if name not in (REQUEST, ROW))]
    return pl.DataFrame({name: columns[name] for name in order})


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(rows)))


def _columns(
    rows: Sequence[Mapping[str, Any]], names: Iterable[str], types: Mapping[str, pl.DataType | None] = NOT_KNOWN
) -> dict[str, pl.Series]:
    return {
        name: pl.Series(name, [row.get(name) for row in rows], dtype=types.get(name), strict=False) for name in names
    }


def _by_day(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    if rows.is_empty():
        return
    day = pl.col(MOMENT).dt.strftime("%Y-%m-%d").alias(_DAY)
    parts = rows.with_columns(day).partition_by(_DAY, as_dict=True, include_key=False, maintain_order=True)
    yield from ((str(name), part) for (name,), part in parts.items())


def _close(folder: Path, own: Path) -> None:
    """Make a batch of `own` of what is open in a folder: by one rename, so that each row is in one batch."""
    if any((folder / OPEN).glob("*.parquet")):
        (folder / OPEN).rename(own / f"{BATCH}{uuid4().hex}")


def _locked(folder: Path) -> int | None:
    """Return the held lock of a process's folder; None when another one holds it, or the folder is gone."""
    with contextlib.suppress(OSError):
        held = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return held
        except OSError:
            os.close(held)
    return None
