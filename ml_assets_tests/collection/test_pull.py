"""What is pulled from a database ends in raw as it is there: once, in order, whatever happens on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.collection.collect import Collected, Landing, collect
from ml_assets.collection.contract import LANDED_AT, SourceContract
from ml_assets.collection.databases import Database
from ml_assets.collection.pull import Pulled, PullError, pull, state_of
from ml_assets.lake import PreconditionFailed, Store
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.outside import open_places

NOW = datetime(2024, 3, 10, 6, tzinfo=UTC)
COLUMNS = [
    ColumnContract(name="id", dtype="Int64"),
    ColumnContract(name="on", dtype="Date"),
    ColumnContract(name="amount", dtype="Float64", nullable=True, sparse=True, minimum=0),
    ColumnContract(name="changed", dtype="Datetime"),
]
ORDERS = SourceContract("orders", "orders/orders-{day}*", COLUMNS, key=["id"], days="2024-03-01/")
TABLE = replace(ORDERS, pattern="orders/orders*", days=None)
MADE = 'create table orders (id integer primary key, "on" date, amount real, changed datetime)'


class Shop:
    """A database of orders in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run(MADE)

    def run(self, statement: str, *rows: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executemany(statement, rows) if rows else connection.execute(statement)
            connection.commit()

    def put(self, *rows: tuple[int, str, float | None, str]) -> None:
        """Insert or change rows: id, day, amount, and when they changed, a time of March 2024 such as 05 10:00."""
        given = [(key, f"2024-{day}", amount, f"2024-03-{moment}:00.000000") for key, day, amount, moment in rows]
        self.run("insert or replace into orders values (?, ?, ?, ?)", *given)

    def database(self, **options: Any) -> Database:
        return Database(f"sqlite:///{self.path}", "orders", **options)

    def rows(self) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute("select * from orders order by id").fetchall()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop.db")
    shop.put((1, "03-01", 10.0, "01 09:00"), (2, "03-01", None, "01 10:00"), (3, "03-02", 30.0, "02 09:00"))
    return shop


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def by_change(shop: Shop, **options: Any) -> Database:
    return shop.database(cursor="changed", day="on", **options)


def raw(places: Landing, *, red: bool = False) -> list[tuple[Any, ...]]:
    """Return what is in raw as the database would give it."""
    frame = places.lake.read("raw/orders", allow_red=red).sort("id").drop(LANDED_AT)
    return frame.with_columns(
        pl.col("on").cast(pl.String), pl.col("changed").dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    ).rows()


def taken(
    outside: Any, places: Landing, contract: SourceContract = ORDERS, *, now: datetime = NOW
) -> tuple[Pulled, Collected]:
    pulled = pull(outside, contract, places, now=now)
    return pulled, collect(contract, places, now=now)


def test_each_day_is_a_file_and_raw_is_the_table(shop: Shop, places: Landing) -> None:
    pulled, done = taken(by_change(shop), places)
    assert (pulled.rows, pulled.days, pulled.unfit) == (3, ["2024-03-01", "2024-03-02"], [])
    assert [entry.status for entry in done.entries] == ["ingested", "ingested"]
    assert all(entry.landed_at == NOW for entry in done.entries)
    assert raw(places) == shop.rows()


def test_nothing_new_is_no_file(shop: Shop, places: Landing) -> None:
    first = taken(by_change(shop), places)[0]
    again, done = taken(by_change(shop), places, now=NOW + timedelta(days=1))
    assert (again.files, done.entries, again.cursor) == ([], [], first.cursor)
    assert again.rows == 1  # the row at the cursor itself, which may not have been the only one
    assert state_of(places.lake.store, "orders").pulled_at == NOW + timedelta(days=1)


def test_new_and_changed_rows_join_those_of_their_day(shop: Shop, places: Landing) -> None:
    taken(by_change(shop), places)
    shop.put((1, "03-01", 11.0, "05 09:00"), (4, "03-03", 40.0, "05 10:00"))
    pulled, done = taken(by_change(shop), places, now=NOW + timedelta(days=1))
    assert [name[:25] for name in pulled.files] == ["orders/orders-2024-03-01.", "orders/orders-2024-03-03."]
    assert sorted(entry.status for entry in done.entries) == ["ingested", "ingested", "superseded"]
    assert raw(places) == shop.rows()


def test_what_waits_in_landing_is_merged_with_too(shop: Shop, places: Landing) -> None:
    pull(by_change(shop), ORDERS, places, now=NOW)
    shop.put((5, "03-01", 50.0, "06 09:00"))
    pull(by_change(shop), ORDERS, places, now=NOW)  # at the same moment: the later file holds
    collect(ORDERS, places, now=NOW)
    assert raw(places) == shop.rows()


def test_rows_in_quarantine_are_not_lost_when_one_of_them_is_corrected(shop: Shop, places: Landing) -> None:
    shop.put((4, "03-03", -1.0, "03 09:00"), (5, "03-03", 50.0, "03 10:00"))
    done = taken(by_change(shop), places)[1]
    assert [entry.partition for entry in done.with_status("quarantined")] == ["2024-03-03"]
    shop.put((4, "03-03", 40.0, "04 09:00"))
    taken(by_change(shop), places, now=NOW + timedelta(days=1))
    assert raw(places) == shop.rows()


def test_a_file_by_hand_is_merged_with_unless_it_is_refused(shop: Shop, places: Landing) -> None:
    taken(by_change(shop), places)
    header = "id,on,amount,changed\n"
    for name, text in {
        "orders/orders-2024-03-02.hand.csv": "3,2024-03-02,33,2024-03-02T09:00:00\n7,2024-03-02,70,2024-03-02T08:00:00\n",
        "orders/orders-2024-03-02.wrong.csv": "8,2024-03-02,-80,2024-03-02T08:00:00\n",
    }.items():
        places.landing.write(name, (header + text).encode())
    collect(ORDERS, places, now=NOW)
    shop.put((6, "03-02", 60.0, "07 09:00"))
    taken(by_change(shop), places, now=NOW + timedelta(days=1))
    assert [row[:3] for row in raw(places)[2:]] == [
        (3, "2024-03-02", 30.0),
        (6, "2024-03-02", 60.0),
        (7, "2024-03-02", 70.0),
    ]


def test_rows_that_do_not_fit_are_told_and_the_cursor_waits_for_them(shop: Shop, places: Landing) -> None:
    narrow = replace(ORDERS, columns=[*COLUMNS[:2], ColumnContract(name="amount", dtype="Int64"), COLUMNS[3]])
    shop.put((4, "03-03", 4.5, "03 09:00"))
    shop.run("update orders set amount = 20 where id = 2")
    pulled, done = taken(by_change(shop), places, narrow)
    assert [name[-14:] for name in pulled.unfit] == [".unfit.parquet"]
    assert pulled.cursor is None
    held = done.with_status("quarantined")
    assert [(entry.partition, entry.reason) for entry in held] == [
        ("2024-03-03", "column amount: 1 values are not Int64, such as 4.5 in row 1; correct them")
    ]
    again, done = taken(by_change(shop), places, narrow, now=NOW + timedelta(days=1))
    assert (again.files, done.entries) == ([], [])
    shop.put((4, "03-03", 5, "03 09:00"))
    assert taken(by_change(shop), places, narrow, now=NOW + timedelta(days=2))[0].cursor is not None
    assert [row[:3] for row in raw(places)][-1] == (4, "2024-03-03", 5)


@pytest.mark.parametrize("day", [None, "../../evil", "2024-02-30", "soon"], ids=["null", "path", "no such day", "word"])
def test_a_day_that_is_none_is_told_in_the_name(shop: Shop, places: Landing, day: str | None) -> None:
    shop.run("drop table orders")
    shop.run(MADE.replace('"on" date', '"on" text'))
    shop.run("insert into orders values (?, ?, ?, ?)", (1, day, 10.0, "2024-03-01 09:00:00.000000"))
    pulled, done = taken(by_change(shop), places)
    assert [name[:25] for name in pulled.unfit] == ["orders/orders-0000-00-00."]
    assert "'0000-00-00' in the name is not a day" in done.with_status("quarantined")[0].reason


def test_without_a_cursor_the_table_is_a_snapshot(shop: Shop, places: Landing) -> None:
    assert len(taken(shop.database(), places, TABLE)[0].files) == 1
    assert taken(shop.database(), places, TABLE, now=NOW + timedelta(days=1))[0].files == []
    first = shop.rows()
    shop.run("delete from orders where id = 2")
    taken(shop.database(), places, TABLE, now=NOW + timedelta(days=2))
    assert raw(places) == shop.rows() == [first[0], first[2]]
    shop.run("insert into orders values (?, ?, ?, ?)", first[1])
    done = taken(shop.database(), places, TABLE, now=NOW + timedelta(days=3))[1]
    assert (raw(places), [entry.status for entry in done.entries]) == (first, ["superseded", "ingested"])


def test_an_empty_table_is_refused_and_what_is_in_stays(shop: Shop, places: Landing) -> None:
    taken(shop.database(), places, TABLE)
    before = raw(places)
    shop.run("delete from orders")
    done = taken(shop.database(), places, TABLE, now=NOW + timedelta(days=1))[1]
    assert "no rows" in done.with_status("quarantined")[0].reason
    assert raw(places) == before


def test_a_key_that_comes_twice_is_refused_not_resolved(shop: Shop, places: Landing) -> None:
    twice = replace(TABLE, key=["on"])
    done = taken(shop.database(), places, twice)[1]
    assert [entry.status for entry in done.entries] == ["quarantined"]


def test_another_declaration_begins_anew(shop: Shop, places: Landing) -> None:
    taken(by_change(shop), places)
    shop.run("alter table orders add column note text")
    noted = replace(ORDERS, columns=[*COLUMNS, ColumnContract(name="note", dtype="String", nullable=True, sparse=True)])
    pulled = taken(by_change(shop), places, noted, now=NOW + timedelta(days=1))[0]
    assert (pulled.rows, len(pulled.files)) == (3, 2)


@pytest.mark.parametrize(
    ("lag", "late"), [(0, False), (7 * 86400, True)], ids=["late rows are missed", "with a lag they are not"]
)
def test_rows_that_come_late(shop: Shop, places: Landing, lag: float, late: bool) -> None:
    taken(by_change(shop, lag=lag), places)
    shop.put((9, "03-01", 90.0, "01 08:00"))
    taken(by_change(shop, lag=lag), places, now=NOW + timedelta(days=1))
    assert (9 in [row[0] for row in raw(places)]) is late


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"url": "sqlite:////nowhere/shop.db"}, r"sqlite:////nowhere/shop.db: there is no such file"),
        ({"table": "absent"}, r"shop.db, table absent: NoSuchTableError: absent; see that"),
        ({"cursor": "absent"}, r"table orders: .*absent.*see that it answers, that table and cursor exist"),
        ({"url": "no url"}, r"the database's URL cannot be read; write it as SQLAlchemy does"),
        (
            {"url": "postgresql+psycopg2://me:hush@127.0.0.1:1/shop"},
            r"^postgresql\+psycopg2://me:\*\*\*@127.0.0.1:1/shop, table orders: OperationalError: .*refused",
        ),
    ],
    ids=["no file", "no table", "no cursor", "no url", "nobody answers"],
)
def test_what_is_wrong_outside_is_told_without_secrets(
    shop: Shop, places: Landing, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PullError, match=reason) as raised:
        pull(replace(by_change(shop), **change), ORDERS, places, now=NOW)
    assert "hush" not in str(raised.value)
    assert state_of(places.lake.store, "orders").pulled_at is None


class Killed(BaseException):
    """Stands for the end of the process."""


class Mortal(Store):
    """A store at whose n-th write the process ends, before or after it."""

    left: list[int]
    after: bool

    def write(self, name: str, data: bytes, **options: Any) -> str:
        self.left[0] -= 1
        if self.left[0] == 0 and not self.after:
            raise Killed
        written = super().write(name, data, **options)
        if self.left[0] == 0:
            raise Killed
        return written


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_pull_that_was_killed_anywhere_is_repeated_to_the_same_end(shop: Shop, tmp_path: Path, after: bool) -> None:
    wanted: list[Any] = []
    for killed_at in range(1, 9):
        root = tmp_path / f"{killed_at}"
        left = [killed_at]
        ended = _killed(shop, root, left, after)
        taken(by_change(shop), open_places(root), now=NOW)
        names = sorted(open_places(root).landing.names())
        wanted = wanted or names
        assert names == wanted
        assert raw(open_places(root)) == shop.rows()
        if not ended:
            return
    pytest.fail("a pull has fewer writes than eight")


def _killed(shop: Shop, root: Path, left: list[int], after: bool) -> bool:
    """Pull until the end comes; tell whether it came."""
    places = open_places(root)
    for store in (places.landing, places.lake.store):
        store.__class__ = Mortal
        store.left, store.after = left, after  # type: ignore[attr-defined]
    try:
        pull(by_change(shop), ORDERS, places, now=NOW)
    except Killed:
        return True
    return False


def test_of_two_pulls_at_once_one_is_told(shop: Shop, places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    taken(by_change(shop), places)
    pages = Database.pages

    def interrupted(self: Database, *given: Any) -> Iterator[Any]:
        monkeypatch.setattr(Database, "pages", pages)
        pull(by_change(shop), ORDERS, places, now=NOW)
        yield from pages(self, *given)

    monkeypatch.setattr(Database, "pages", interrupted)
    with pytest.raises(PreconditionFailed):
        pull(by_change(shop), ORDERS, places, now=NOW)
