"""The outside world delivers what was recorded, the same bytes each time, dated as they would have come."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.collection.collect import collect
from ml_assets.collection.contract import LANDED_AT, parse
from ml_assets.collection.pull import pull
from ml_assets.lake import Store
from ml_assets.replay.sample import SAMPLE
from ml_assets.replay.world import FIRST_DAY, LAST_DAY, REFERENCE, World, csv, delivered_at, make_database
from ml_assets_tests.collection.outside import declared, open_places

DAY = date(2013, 1, 5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Store(str(tmp_path / "landing")))


def test_a_day_is_one_file_for_each_table_dated_noon_of_the_day_after(world: World) -> None:
    names = world.deliver_days([DAY, date(2013, 1, 6)])
    assert names == [f"{table}/{table}-2013-01-0{day}.csv.gz" for day in (5, 6) for table in ("flights", "weather")]
    found = world.landing.objects()
    assert [item.name for item in found] == sorted(names)
    noon = datetime(2013, 1, 6, 12, tzinfo=UTC)
    assert {item.modified_at for item in found if "-05." in item.name} == {noon} == {delivered_at(DAY)}


def test_the_same_day_again_is_the_same_bytes_of_the_same_moment(world: World) -> None:
    def delivered() -> dict[str, tuple[bytes, datetime]]:
        world.deliver_days([DAY])
        return {item.name: (world.landing.read(item.name), item.modified_at) for item in world.landing.objects()}

    assert delivered() == delivered()


def test_the_register_is_what_was_recorded(tmp_path: Path) -> None:
    make_database(tmp_path / "outside" / "reference.db")
    with closing(sqlite3.connect(tmp_path / "outside" / "reference.db")) as connection:
        for table in REFERENCE:
            recorded = pl.read_parquet(SAMPLE / f"{table}.parquet")
            assert connection.execute(f'select * from "{table}"').fetchall() == recorded.rows()


def test_the_register_in_raw_is_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database(tmp_path / "reference.db")
    monkeypatch.setenv("ML_ASSETS_REFERENCE_DB", f"sqlite:///{tmp_path}/reference.db")
    places, now = open_places(tmp_path), datetime(2013, 1, 1, tzinfo=UTC)
    for table in REFERENCE:
        source = declared(table)
        assert source.pulled is not None
        pull(source.pulled.opened(), source.contract(), places, now=now)
        collect(source.contract(), places, now=now)
        found = places.lake.read(f"raw/{table}").drop(LANDED_AT)
        recorded = pl.read_parquet(SAMPLE / f"{table}.parquet").cast(found.schema)
        assert found.equals(recorded.sort([*source.key, *(name for name in found.columns if name not in source.key)]))


def test_the_world_stands_at_the_last_day_of_flights(world: World) -> None:
    assert world.last_day() is None
    world.deliver_days([DAY, date(2013, 1, 6)])
    world.put("flights/flights-2032-01-07.csv.gz", b"", at=delivered_at(DAY))
    assert world.last_day() == date(2013, 1, 6)


def test_what_is_delivered_is_what_was_recorded(world: World) -> None:
    name = world.deliver_days([DAY])[0]
    frame = parse(world.landing.read(name), declared("flights").contract(), name=name)
    recorded = world.rows("flights", DAY)
    assert frame.height == recorded.height > 600
    assert frame.equals(recorded.select(pl.col(name).cast(dtype) for name, dtype in frame.schema.items()))


def test_null_is_na_and_times_are_utc() -> None:
    frame = pl.DataFrame({"a": [1, None], "time_hour": [datetime(2013, 1, 1, 10, tzinfo=UTC)] * 2})
    assert csv(frame) == b"a,time_hour\n1,2013-01-01T10:00:00Z\nNA,2013-01-01T10:00:00Z\n"


def test_a_table_without_rows_on_a_day_has_no_file(world: World) -> None:
    assert world.deliver_days([LAST_DAY]) == ["flights/flights-2013-12-31.csv.gz"]
    assert world.rows("weather", LAST_DAY).is_empty()
    assert world.deliver_days([date(2014, 1, 1)]) == []


def test_every_recorded_flight_is_on_some_day(world: World) -> None:
    days = pl.date_range(FIRST_DAY, LAST_DAY, eager=True)
    assert sum(world.rows("flights", day).height for day in days) == 336_776
    assert sum(world.rows("weather", day).height for day in days) == 26_115


def test_reference_tables_are_plain_files(world: World) -> None:
    at = datetime(2013, 1, 1, tzinfo=UTC)
    names = world.deliver_reference(at=at)
    assert names == ["airlines/airlines.csv", "airports/airports.csv", "planes/planes.csv"]
    for name, item in zip(names, world.landing.objects(), strict=True):
        source = declared(name.split("/")[0])
        assert parse(world.landing.read(name), source.contract(), name=name).height > 10
        assert item.modified_at == at


def test_files_are_compressed_without_a_date(world: World) -> None:
    data = world.landing.read(world.deliver_days([DAY])[0])
    assert data[4:8] == b"\0\0\0\0"  # the date in the header of gzip
    assert gzip.decompress(data).startswith(b"year,month,day,")
