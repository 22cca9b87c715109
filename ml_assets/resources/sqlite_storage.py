"""Dagster's own SQLite storage, kept open: one engine per file, and one transaction per file for a batch of events.

Dagster's stock classes open and close the database for every event. In process, on two cores: a no-op step takes
36 ms there and 8 ms here, with one asset check 93 ms and 13 ms; a run of 15 assets over 300 daily partitions takes
140 s and 3 s. The tables and every query stay Dagster's own, so `dagster` tools read the same files, and without the
`storage` block in `dagster.yaml` the stock classes go on.

Configured in `dagster.yaml`; a relative `base_dir` is below `$DAGSTER_HOME`, wherever a process was started. The
classes build on Dagster's private modules: the pin in `requirements.in` and the tests of this module guard that.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as db
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetKeyTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    SqliteEventLogStorage,
    SqliteEventLogStorageWatchdog,
)
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData, serialize_value
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Engine, make_url
from watchdog.events import FileSystemEvent
from watchdog.observers import Observer

OPEN_FILES = 32  # databases kept open per process; the least recently used one is closed first
Stored = tuple[EventLogEntry, int]  # an event and its row id in the index database


def under_home(base_dir: str) -> str:
    """Return an absolute path; a relative `base_dir` is below `$DAGSTER_HOME`, or the working folder without it."""
    return str(Path(os.environ.get("DAGSTER_HOME", ""), base_dir).absolute())


class Databases:
    """Open SQLite databases: at most one engine per file, shared by the threads of this process and of no other."""

    def __init__(self, prepare: Callable[[Engine], None] | None = None) -> None:
        """`prepare` is called once for each file that is opened; it makes the tables when there are none."""
        self._prepare = prepare
        self._engines: OrderedDict[str, tuple[tuple[int, int], Engine]] = OrderedDict()
        self._lock = threading.RLock()
        self._process = os.getpid()

    def engine(self, url: str) -> Engine:
        """Return the engine of the file behind `url`, a new one when the file was removed or replaced meanwhile."""
        with self._lock:
            self._forget_parent()
            known = self._engines.pop(url, None)
            if known is None or known[0] != _identity(url):
                known = self._opened(url, known)
            self._engines[url] = known
            return known[1]

    def close(self) -> None:
        """Close every file; the next `engine` opens it again."""
        with self._lock:
            while self._engines:
                self._engines.popitem()[1][1].dispose()

    def _opened(self, url: str, stale: tuple[Any, Engine] | None) -> tuple[tuple[int, int], Engine]:
        if stale is not None:
            stale[1].dispose()
        while len(self._engines) >= OPEN_FILES:
            self._engines.popitem(last=False)[1][1].dispose()
        engine = _connected(url)
        if self._prepare is not None:
            self._prepare(engine)
        return _identity(url), engine

    def _forget_parent(self) -> None:
        """After a fork: SQLite connections must not be used, nor closed, by the child."""
        if self._process != os.getpid():
            for _, engine in self._engines.values():
                engine.dispose(close=False)
            self._engines.clear()
            self._process = os.getpid()


def _identity(url: str) -> tuple[int, int]:
    """Return device and inode of the file; zeros when there is none."""
    try:
        found = os.stat(make_url(url).database or "")
    except FileNotFoundError:
        return 0, 0
    return found.st_dev, found.st_ino


def _connected(url: str) -> Engine:
    """Return an engine whose connections stay open.

    With a write-ahead log, `synchronous=NORMAL` loses no committed transaction when a process is killed; after a
    power cut the last ones may be gone, never the database (https://sqlite.org/pragma.html#pragma_synchronous).
    """
    engine = db.create_engine(
        url,
        poolclass=db.pool.QueuePool,
        pool_size=2,
        max_overflow=-1,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    db.event.listen(engine, "connect", _tuned)
    return engine


def _tuned(connection: Any, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL").close()
    connection.execute("PRAGMA synchronous=NORMAL").close()


class EventLog(SqliteEventLogStorage):
    """Dagster's event log: one database per run, and an index database across runs."""

    _obs: Any  # the observer of files; untyped in the base

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """`base_dir` is the folder of the databases, made when missing."""
        self._databases = Databases(self._initialized)
        self._joined = threading.local()
        self._known_tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    def _initialized(self, engine: Engine) -> None:
        """Make the tables unless they are there; 1 ms when they are, where Dagster's own test takes 25 ms."""
        with engine.connect() as connection:
            stamped = db.text("SELECT count(*) FROM alembic_version")
            if db.inspect(connection).has_table("alembic_version") and connection.execute(stamped).scalar():
                return
        self._initdb(engine)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        """Yield a connection in a transaction; a nested call in one thread joins the outer one of that shard."""
        connections: dict[str, Connection] = self._joined.__dict__
        if shard in connections:
            yield connections[shard]
            return
        with self._databases.engine(self.conn_string_for_shard(shard)).begin() as connection:
            connections[shard] = connection
            try:
                yield connection
            finally:
                del connections[shard]

    def has_table(self, table_name: str) -> bool:
        """Tell whether the index database has a table; found ones are remembered."""
        if table_name not in self._known_tables:
            with self.index_connection() as connection:
                if not db.inspect(connection).has_table(table_name):
                    return False
            self._known_tables.add(table_name)
        return True

    @cached_property
    def _has_asset_columns(self) -> bool:
        return self.has_asset_key_index_cols()

    def store_event(self, event: EventLogEntry) -> None:
        """Store one event."""
        self.store_event_batch([event])

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events, of one run in one transaction per database: on an error none of them is stored."""
        of_run: dict[str, list[EventLogEntry]] = {}
        for event in events:
            of_run.setdefault(event.run_id, []).append(event)
        for run_id, together in of_run.items():
            self._store_run_events(run_id, together)

    def _store_run_events(self, run_id: str, events: Sequence[EventLogEntry]) -> None:
        rows = [self._event_to_row(event) for event in events]
        mirrored = [(event, row) for event, row in zip(events, rows, strict=True) if _is_mirrored(event)]
        with self.run_connection(run_id) as shard:
            shard.execute(SqlEventLogStorageTable.insert(), rows)
            if mirrored:
                with self.index_transaction() as index:
                    self._mirror(index, mirrored)

    def _mirror(self, index: Connection, mirrored: Sequence[tuple[EventLogEntry, dict[str, Any]]]) -> None:
        """Repeat events in the index database, with what Dagster derives from them: assets, tags, checks."""
        stored = [(event, _inserted_id(index, row)) for event, row in mirrored]
        assets = [item for item in stored if item[0].dagster_event_type in ASSET_EVENTS]
        if assets:
            self._store_asset_event_tags(index, [event for event, _ in assets], [event_id for _, event_id in assets])
            self._update_asset_keys(index, assets)
        for event, event_id in stored:
            if event.dagster_event_type in ASSET_CHECK_EVENTS:
                self.store_asset_check_event(event, event_id)  # joins the transaction of `index`

    def _update_asset_keys(self, index: Connection, assets: Iterable[Stored]) -> None:
        values: dict[str, dict[str, Any]] = {}
        for event, event_id in _last_of_each_type(assets):
            entry = self._get_asset_entry_values(event, event_id, self._has_asset_columns)
            values.setdefault(_asset(event), {}).update(entry)
        for asset_key, entry in values.items():
            if entry:
                statement = insert(AssetKeyTable).values(asset_key=asset_key, **entry)
                index.execute(statement.on_conflict_do_update(index_elements=["asset_key"], set_=entry))

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        """Store the rows that Dagster stores, with the event serialized once and not once for each partition."""
        planned: Any = event.get_dagster_event().event_specific_data
        row = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "run_id": event.run_id,
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": self._event_insert_timestamp(event),
            "evaluation_event_storage_id": event_id,
        }
        partitions = planned.partitions_subset.get_partition_keys() if planned.partitions_subset else [None]
        with self.index_connection() as index:
            index.execute(AssetCheckExecutionsTable.insert(), [row | {"partition": name} for name in partitions])

    def watch(self, run_id: str, cursor: str | None, callback: Any) -> None:
        """Call `callback(event, cursor)` for events of a run from now on, whichever process stores them."""
        if not self._obs:
            self._obs = Observer()
            self._obs.start()
        watchdog = _WriteAheadLogWatchdog(self, run_id, callback, cursor)
        self._watchers[run_id][callback] = (watchdog, self._obs.schedule(watchdog, self._base_dir, recursive=True))

    def dispose(self) -> None:
        """Stop watching and close the files."""
        super().dispose()
        self._databases.close()


class _WriteAheadLogWatchdog(SqliteEventLogStorageWatchdog):
    """Dagster's watchdog waits for the database file itself, which stays untouched while connections stay open."""

    def __init__(self, storage: EventLog, run_id: str, callback: Any, cursor: str | None) -> None:
        super().__init__(storage, run_id, callback, cursor)
        self._patterns = [self._log_path, f"{self._log_path}-wal"]

    def on_modified(self, event: FileSystemEvent) -> None:
        self._process_log()


def _is_mirrored(event: EventLogEntry) -> bool:
    """Tell whether Dagster wants the event in the index database as well."""
    if not event.is_dagster_event:
        return False
    kind = event.dagster_event_type
    return kind in ASSET_EVENTS or kind in ASSET_CHECK_EVENTS or kind in EVENT_TYPE_TO_PIPELINE_RUN_STATUS


def _inserted_id(index: Connection, row: dict[str, Any]) -> int:
    key = index.execute(SqlEventLogStorageTable.insert(), row).inserted_primary_key
    assert key is not None, "SQLite returns the row id of a single insert"
    return int(key[0])


def _asset(event: EventLogEntry) -> str:
    key = event.get_dagster_event().asset_key
    return key.to_string() if key else ""


def _last_of_each_type(assets: Iterable[Stored]) -> list[Stored]:
    """Return the last event of each type for each asset, in the order stored.

    Every type sets the same columns of its asset's row each time, so the earlier ones would be overwritten.
    """
    last: dict[tuple[str, Any], Stored] = {}
    for event, event_id in assets:
        key = (_asset(event), event.dagster_event_type)
        last.pop(key, None)
        if key[0]:
            last[key] = (event, event_id)
    return list(last.values())


class Runs(SqliteRunStorage):
    """Dagster's table of runs and daemon heartbeats."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        """`conn_string` is the database's URL; make one with `Runs.from_local(folder)`."""
        self._databases = Databases()
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in a transaction."""
        with self._databases.engine(self._conn_string).begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the file."""
        super().dispose()
        self._databases.close()


class Schedules(SqliteScheduleStorage):
    """Dagster's table of schedules, sensors and their ticks."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        """`conn_string` is the database's URL; make one with `Schedules.from_local(folder)`."""
        self._databases = Databases()
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection in a transaction."""
        with self._databases.engine(self._conn_string).begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the file."""
        super().dispose()
        self._databases.close()


@contextmanager
def alone(folder: str) -> Iterator[None]:
    """Keep other processes out of a folder: two that make and stamp the same database at once break it for good."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Path(folder, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by the death of the process
        yield


class Storage(DagsterSqliteStorage):
    """The three storages below one folder, laid out as Dagster's own `storage: sqlite`.

    ```yaml
    storage:
      custom:
        module: ml_assets.resources.sqlite_storage
        class: Storage
        config:
          base_dir: data/dagster
    ```
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """`base_dir` is made when missing."""
        self.base_dir = under_home(base_dir)
        history = os.path.join(self.base_dir, "history")
        with alone(self.base_dir):
            self._run_storage = Runs.from_local(history)
            self._event_log_storage = EventLog(os.path.join(history, "runs"))
            self._schedule_storage = Schedules.from_local(os.path.join(self.base_dir, "schedules"))
        self._inst_data = inst_data
        super(DagsterSqliteStorage, self).__init__()  # its own would open the stock storages

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Storage:
        """Called by Dagster with the `config` block."""
        return cls(inst_data=inst_data, **config_value)


class Artifacts(LocalArtifactStorage):
    """Dagster's folder for its own artifacts."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Artifacts:
        """Called by Dagster with the `config` block."""
        return cls(under_home(config_value["base_dir"]), inst_data)


class ComputeLogs(LocalComputeLogManager):
    """What steps print to stdout and stderr."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> ComputeLogs:
        """Called by Dagster with the `config` block."""
        return cls(under_home(config_value["base_dir"]), config_value.get("polling_timeout"), inst_data)
