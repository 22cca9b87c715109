"""Online rows in SQLite: one table for each view, one row for each entity, readers never wait for a writer (WAL)."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_assets.features.online.rows import Change, OnlineRow

BUSY_SECONDS = 30.0
MOST_KEYS = 500  # in one query; SQLite allows 32,766 parameters, but prepares a statement for each number of them
COLUMNS = "key, event, created, origin, value"
WRITE = """INSERT INTO {table} (key, event, created, origin, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET event = excluded.event, created = excluded.created, origin = excluded.origin, value = excluded.value
WHERE (excluded.event, excluded.created) > ({table}.event, {table}.created)
   OR ((excluded.event, excluded.created) = ({table}.event, {table}.created)
       AND (excluded.origin <> '' OR ({table}.origin = '' AND excluded.value > {table}.value)))
   OR ({table}.origin <> '' AND {table}.origin IN (SELECT value FROM json_each(?)))"""
TABLE = """CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, event INTEGER NOT NULL, created INTEGER NOT NULL,
origin TEXT NOT NULL, value TEXT NOT NULL) WITHOUT ROWID"""
SHARED = """
CREATE TABLE IF NOT EXISTS versions (view TEXT, partition TEXT, version TEXT NOT NULL, PRIMARY KEY (view, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verdicts (view TEXT PRIMARY KEY, verdict TEXT NOT NULL) WITHOUT ROWID;
"""


class SqliteBackend:
    """Online rows of one project in a SQLite file, made on the first use; see `Backend`."""

    def __init__(self, path: Path, *, project: str) -> None:
        """Nothing is touched before the first call."""
        self._path, self._project = path, project
        self._local = threading.local()

    def __repr__(self) -> str:
        """Show where."""
        return f"SqliteBackend({str(self._path)!r})"

    def apply(self, view: str, change: Change) -> int:
        """Do it in one transaction."""
        table, revised = self._table(view), json.dumps(sorted(change.revised))
        with self._transaction() as connection:
            connection.execute(TABLE.format(table=table))
            before = connection.total_changes
            connection.executemany(WRITE.format(table=table), ((*row, revised) for row in change.rows))
            written = connection.total_changes - before
            connection.executemany(
                f"DELETE FROM {table} WHERE key = ? AND origin <> '' AND origin IN (SELECT value FROM json_each(?))",
                ((key, revised) for key in change.gone),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO versions VALUES (?, ?, ?)",
                ((self._name(view), *item) for item in (change.versions or {}).items()),
            )
        return written

    def read(self, view: str, keys: Sequence[str]) -> list[OnlineRow | None]:
        """Ask in batches."""
        wanted, table, found = list(dict.fromkeys(keys)), self._table(view), {}
        for start in range(0, len(wanted), MOST_KEYS):
            batch = wanted[start : start + MOST_KEYS]
            for row in self._query(f"SELECT {COLUMNS} FROM {table} WHERE key IN ({','.join('?' * len(batch))})", batch):
                found[row[0]] = OnlineRow(*row)
        return [found.get(key) for key in keys]

    def rows(self, view: str, origins: Collection[str] | None = None) -> list[OnlineRow]:
        """Scan the view's table."""
        table = self._table(view)
        if origins is None:
            return [OnlineRow(*row) for row in self._query(f"SELECT {COLUMNS} FROM {table} ORDER BY key", ())]
        where = "origin IN (SELECT value FROM json_each(?))"
        found = self._query(f"SELECT {COLUMNS} FROM {table} WHERE {where} ORDER BY key", [json.dumps(sorted(origins))])
        return [OnlineRow(*row) for row in found]

    def keys(self, view: str, *, most: int) -> list[str]:
        """Return them in order."""
        table = self._table(view)
        numbered = f"SELECT key, row_number() OVER (ORDER BY key) - 1 AS place, COUNT(*) OVER () AS many FROM {table}"
        spread = "many <= CAST(?1 AS INTEGER) OR (place * CAST(?1 AS INTEGER)) % many < CAST(?1 AS INTEGER)"
        return [key for (key,) in self._query(f"SELECT key FROM ({numbered}) WHERE {spread}", [str(most)])]

    def versions(self, view: str, partitions: Collection[str]) -> dict[str, str]:
        """Ask for those partitions only."""
        where = "view = ? AND partition IN (SELECT value FROM json_each(?))"
        asked = [self._name(view), json.dumps(sorted(partitions))]
        return dict(self._query(f"SELECT partition, version FROM versions WHERE {where}", asked))

    def tell(self, view: str, verdict: str) -> None:
        """Remember the outcome."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (self._name(view), verdict))

    def verdicts(self) -> dict[str, str]:
        """Return the outcomes of this project's views."""
        mine = f"{self._project}/"
        found = self._query("SELECT view, verdict FROM verdicts", ())
        return {view.removeprefix(mine): verdict for view, verdict in found if view.startswith(mine)}

    def drop(self, view: str) -> None:
        """Forget the view in one transaction."""
        with self._transaction() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self._table(view)}")
            for table in ("versions", "verdicts"):
                connection.execute(f"DELETE FROM {table} WHERE view = ?", (self._name(view),))

    def _name(self, view: str) -> str:
        return f"{self._project}/{view}"

    def _table(self, view: str) -> str:
        return '"{}"'.format(f"online/{self._name(view)}".replace('"', '""'))

    def _query(self, statement: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the rows; none when the table does not exist yet."""
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        with connection:  # commits, or rolls back
            yield connection

    @property
    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            found = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = NORMAL")
            found.executescript(SHARED)
            self._local.connection = found
        return found
