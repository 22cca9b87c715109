"""Pulls from a real PostgreSQL: its types, its time zones, its refusals, and the end of the process at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import create_engine, text

from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import LANDED_AT, SourceContract
from ml_assets.collection.databases import Database
from ml_assets.collection.pull import PullError, pull
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.outside import open_places
from ml_assets_tests.fakes.postgres import PASSWORD, installable, postgres, programs

PROGRAMS = programs()
NOW = datetime(2024, 3, 10, 6, tzinfo=UTC)
TYPES = {
    "id": ("bigint primary key", "Int64"),
    "small": ("smallint", "Int64"),
    "price": ("numeric(12,2)", "Float64"),
    "exact": ("numeric", "Float64"),
    "real": ("real", "Float64"),
    "double": ("double precision", "Float64"),
    "word": ("varchar(20)", "String"),
    "kind": ("char(3)", "String"),
    "free": ("text", "String"),
    "token": ("uuid", "String"),
    "yes": ("boolean", "Boolean"),
    "day": ("date", "Date"),
    "moment": ("timestamp", "Datetime"),
    "changed": ("timestamptz", "Datetime"),
}
COLUMNS = [ColumnContract(name=name, dtype=kind, nullable=True, sparse=True) for name, (_, kind) in TYPES.items()]
THINGS = SourceContract("things", "things/things-{day}*", COLUMNS, key=["id"], days="2024-03-01/")
TOKEN = "0b9f2b1e-6a55-4c3e-9d0c-2f6f1f1f1f1f"
AT = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
ROW = (1, 7, Decimal("12.50"), Decimal("0.125"), 0.5, 0.1, "a word", "abc", "é ' \"", TOKEN, True, AT.date(), AT, AT)

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed; apt-get install postgresql"),
    pytest.mark.skipif(not installable(), reason="PostgreSQL does not run as root, and there is no user postgres"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    assert PROGRAMS is not None
    with postgres(PROGRAMS) as url:
        yield url


class Things:
    """The table in the server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        made = ", ".join(f'"{name}" {kind}' for name, (kind, _) in TYPES.items())
        self.run(f"drop table if exists things; create table things ({made})")

    def run(self, statement: str, *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), rows or None)

    def put(self, *rows: tuple[Any, ...]) -> None:
        given = [dict(zip(TYPES, row, strict=True)) for row in rows]
        self.run(f"insert into things values ({', '.join(f':{name}' for name in TYPES)})", *given)

    def database(self, **options: Any) -> Database:
        return Database(self.url, "things", **{"cursor": "changed"} | options)


@pytest.fixture
def things(server: str) -> Iterator[Things]:
    found = Things(server)
    yield found
    found.engine.dispose()


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def test_every_type_arrives_as_it_is(things: Things, places: Landing) -> None:
    things.put(ROW, (2, *[None] * 12, AT + timedelta(hours=1)))
    pulled = pull(things.database(), THINGS, places, now=NOW)
    assert (pulled.unfit, pulled.days) == ([], ["2024-03-01", "2024-03-02"])  # the day is that in UTC
    assert {entry.status for entry in collect(THINGS, places, now=NOW).entries} == {"ingested"}
    first, second = places.lake.read("raw/things").drop(LANDED_AT).sort("id").rows()
    assert first == tuple(float(value) if isinstance(value, Decimal) else value for value in (*ROW[:-2], AT, AT))
    assert second == (2, *[None] * 12, AT + timedelta(hours=1))


def test_only_what_changed_since_is_asked_for(things: Things, places: Landing) -> None:
    things.put(ROW)
    pull(things.database(), THINGS, places, now=NOW)
    later = (9, *ROW[1:-1], AT + timedelta(days=3))
    things.put(later)
    pulled = pull(things.database(), THINGS, places, now=NOW)
    assert (pulled.rows, pulled.days, len(pulled.files)) == (2, ["2024-03-01", "2024-03-04"], 1)


def test_many_rows_come_in_pages(things: Things, places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.collection.databases.PAGE", 1000)
    things.run(
        "insert into things (id, changed) select n, timestamptz '2024-03-01 00:00Z' + n * interval '1 minute' "
        "from generate_series(1, 5000) n"
    )
    pages = list(things.database().pages(THINGS, None))
    assert [page.rows.height for page in pages] == [1000] * 5
    assert pull(things.database(), THINGS, places, now=NOW).rows == 5000
    collect(THINGS, places, now=NOW)
    assert places.lake.read("raw/things")["id"].sort().equals(pl.Series("id", range(1, 5001), dtype=pl.Int64))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (PASSWORD, "wrong-word", "authentication failed"),
        ("/postgres", "/absent", 'database "absent" does not exist'),
    ],
    ids=["password", "database"],
)
def test_refusals_are_told_without_the_password(
    things: Things, places: Landing, old: str, new: str, reason: str
) -> None:
    with pytest.raises(PullError, match=reason) as raised:
        pull(Database(things.url.replace(old, new), "things"), THINGS, places, now=NOW)
    assert PASSWORD not in str(raised.value)
    assert "wrong-word" not in str(raised.value)
    assert "me:***@" in str(raised.value)


@pytest.mark.slow
def test_after_kill_9_the_next_pull_ends_the_same(things: Things, tmp_path: Path) -> None:
    things.put(*((number, *ROW[1:-1], AT + timedelta(days=number % 5)) for number in range(50)))
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from ml_assets.lake import Store
        from ml_assets.collection.pull import pull
        from ml_assets_tests.collection import test_postgres as this
        from ml_assets_tests.collection.outside import open_places

        write, left = Store.write, [int(sys.argv[3])]
        def last(*given, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*given, **options)
        Store.write = last
        pull(this.Database(sys.argv[1], "things", cursor="changed"), this.THINGS, open_places(Path(sys.argv[2])), now=this.NOW)
        """
    )
    places = open_places(tmp_path)
    command = [sys.executable, "-c", program, things.url, str(tmp_path), "3"]  # in the middle of the files
    died = subprocess.run(command, cwd=Path(__file__).parents[2], env=dict(os.environ), check=False)
    assert (died.returncode, len(places.landing.names())) == (-signal.SIGKILL, 2)
    pulled = pull(things.database(), THINGS, places, now=NOW)
    assert (len(places.landing.names()), len(pulled.files)) == (5, 3)
    collect(THINGS, places, now=NOW)
    assert places.lake.read("raw/things")["id"].sort().to_list() == list(range(50))
