"""Where rows come from: folders by day, buckets; and that nothing is read that is not needed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FeatureView, Field
from feast.types import Float64, String

from ml_assets.features.offline_store import PolarsOfflineStore
from ml_assets.features.parquet import event_day, parquet_files
from ml_assets.features.point_in_time import FeatureError, point_in_time_join
from ml_assets.features.reading import Period, Reading, scan, view_joins
from ml_assets.lake import Lake, Store
from ml_assets_tests.features.stores import (
    ANSWER,
    ASKED,
    KEY,
    START,
    TABLE,
    asked,
    at,
    feast_store,
    feature_view,
    join,
    source,
    stored,
)

# Feast warns of its own experimental interfaces, the emulator and its file library are of an older style, and google's
# client leaves sockets to the collector.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("collected")]
DAY = 24
DAILY = stored([(key, day * DAY + 1, day * DAY + 1, day + 0.5) for day in range(10) for key in "pq"])


def by_day(folder: Path, name: str) -> None:
    """Write `DAILY` below `folder`, the file of each day named by `name`."""
    days = DAILY.with_columns(day=pl.col("event_timestamp").dt.date())
    for (day,), part in days.partition_by("day", as_dict=True, include_key=False).items():
        part.write_parquet(folder / name.format(day=day), mkdir=True)


def spoil(folder: Path, days: list[str]) -> None:
    """Make the files of these days unreadable."""
    for day in days:
        for file in [file for file in folder.rglob("*.parquet") if day in str(file)]:
            file.write_bytes(b"no Parquet at all")


NAMES = ["{day}.parquet", "{day}/part.parquet", "day={day}/part.parquet", "region=us/date={day}/part.parquet"]


@pytest.mark.parametrize("name", NAMES)
def test_days_that_cannot_matter_are_not_touched(tmp_path: Path, name: str) -> None:
    by_day(tmp_path / "v", name)
    store = feast_store(tmp_path, [feature_view(source("v"), ttl=DAY)])
    spoil(tmp_path / "v", ["2013-01-01", "2013-01-10"])
    assert join(store, asked([("p", 5 * DAY + 2), ("q", 5 * DAY)]))["x"].to_list() == [5.5, 4.5]
    with pytest.raises(FeatureError, match=r"feature view 'v': .*2013-01-10.* is no Parquet file"):
        join(store, asked([("p", 9 * DAY + 2)]))


def test_a_folder_named_after_another_day_than_the_events_is_read_whole(tmp_path: Path) -> None:
    by_day(tmp_path / "v", "ingested=2014-01-01/{day}-part.parquet")
    store = feast_store(tmp_path, [feature_view(source("v"))])
    assert join(store, asked([("p", 5 * DAY + 2)]))["x"].to_list() == [5.5]


def test_a_part_of_the_path_is_a_column(tmp_path: Path) -> None:
    for region, rows in TABLE.partition_by("k", as_dict=True, include_key=False).items():
        rows.write_parquet(tmp_path / "v" / f"k={region[0]}" / "part.parquet", mkdir=True)
    assert join(feast_store(tmp_path, [feature_view(source("v"))]), ASKED)["x"].to_list() == ANSWER


@pytest.mark.parametrize(
    ("file", "day"),
    [
        ("/v/2013-01-31/a.parquet", date(2013, 1, 31)),
        ("/v/2013-01-31.parquet", date(2013, 1, 31)),
        ("/v/region=us/event_date=2013-01-31/a.parquet", date(2013, 1, 31)),
        ("/v/ingested=2013-01-31/a.parquet", None),
        ("/v/2013-01-31-late.parquet", None),
        ("/v/january/a.parquet", None),
    ],
)
def test_the_day_of_a_file_is_told_by_its_name(file: str, day: date | None) -> None:
    assert event_day(file, "/v") == day
    assert event_day(file, "/v/*.parquet") == day


def test_the_day_of_the_folder_above_does_not_count() -> None:
    assert event_day("/2013-01-31/v/a.parquet", "/2013-01-31/v") is None


# -- columns -----------------------------------------------------------------------------------------------------------


def test_only_the_asked_columns_are_in_the_plan(tmp_path: Path) -> None:
    TABLE.with_columns(y=1, z=2).write_parquet(tmp_path / "v.parquet")
    rows = scan(str(tmp_path / "v.parquet"), "v", Period("event_timestamp", None, at(3)))
    assert "PROJECT 3/7 COLUMNS" in rows.select("k", "event_timestamp", "x").explain()


def test_a_column_that_is_not_asked_may_be_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    many = pl.concat([TABLE.with_columns(text=pl.lit(f"text {number}")) for number in range(50)])
    many.write_parquet(path, compression="zstd")
    column = pq.read_metadata(path).row_group(0).column(many.columns.index("text"))
    begin = column.dictionary_page_offset or column.data_page_offset
    raw = bytearray(path.read_bytes())
    raw[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(raw))
    schema = [Field(name="k", dtype=String), Field(name="x", dtype=Float64), Field(name="text", dtype=String)]
    view = FeatureView(name="v", entities=[KEY], schema=schema, source=source("v.parquet"))
    store = feast_store(tmp_path, [view])
    assert join(store, ASKED)["x"].to_list() == ANSWER
    with pytest.raises(FeatureError, match=r"feature view 'v': .*Repair the file or remove it"):
        join(store, ASKED, ["v:text"])


def test_a_column_of_a_later_file_only_does_not_disturb(tmp_path: Path) -> None:
    TABLE.head(2).write_parquet(tmp_path / "v" / "1.parquet", mkdir=True)
    TABLE.tail(2).with_columns(y=1).write_parquet(tmp_path / "v" / "2.parquet")
    assert join(feast_store(tmp_path, [feature_view(source("v"))]), ASKED)["x"].to_list() == ANSWER


# -- broken files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (TABLE.drop("x"), r"/v/2.parquet has no column 'x'; it has \['k', .*'n'\]"),
        (
            TABLE.with_columns(x=pl.lit("high")),
            "in .*/v/2.parquet column 'x' is String, in the files before it Float64",
        ),
        (None, r"/v/2.parquet is no Parquet file"),
    ],
)
@pytest.mark.parametrize("limit", [None, 1])
def test_a_broken_file_is_named(tmp_path: Path, second: pl.DataFrame | None, message: str, limit: int | None) -> None:
    TABLE.write_parquet(tmp_path / "v" / "1.parquet", mkdir=True)
    if second is None:
        (tmp_path / "v" / "2.parquet").write_bytes(b"no Parquet")
    else:
        second.write_parquet(tmp_path / "v" / "2.parquet")
    store = feast_store(tmp_path, [feature_view(source("v"))], memory_limit_mb=limit)
    with pytest.raises(FeatureError, match=f"feature view 'v': .*{message}.*. Repair the file or remove it"):
        join(store, ASKED)
    job = PolarsOfflineStore.pull_all_from_table_or_query(
        store.config, source("v"), ["k"], ["x"], "event_timestamp", "created", at(0), at(9)
    )
    with pytest.raises(FeatureError, match=f"source 'source_v': .*{message}"):
        job.to_polars()


# -- buckets -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of an emulator on loopback."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe, pytest.MonkeyPatch.context() as environment:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        environment.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        server = create_server("127.0.0.1", port, in_memory=True, default_bucket="a-bucket")
        server.start()
        yield "gs://a-bucket"
        server.stop()


def put(folder: str, name: str, rows: pl.DataFrame | None, tmp_path: Path) -> None:
    if rows is None:
        return Store(folder).write(name, b"no Parquet")
    rows.write_parquet(tmp_path / "upload.parquet")
    return Store(folder).write(name, (tmp_path / "upload.parquet").read_bytes())


def in_bucket(path: str, tmp_path: Path, ttl: float = 0) -> FeatureStore:
    return feast_store(tmp_path, [feature_view(source(path), ttl=ttl)])


def test_folders_and_files_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    put(f"{bucket}/daily", "2013-01-01/a.parquet", TABLE.head(2), tmp_path)
    put(f"{bucket}/daily", "2013-01-01/b.parquet", TABLE.tail(2), tmp_path)
    put(f"{bucket}/daily", "2013-02-01/c.parquet", None, tmp_path)  # never touched
    store = in_bucket(f"{bucket}/daily", tmp_path)
    assert join(store, ASKED)["x"].to_list() == ANSWER
    with pytest.raises(FeatureError, match=r"daily/2013-02-01/c.parquet is no Parquet file"):
        join(store, asked([("p", 31 * DAY)]))
    put(bucket, "one.parquet", TABLE, tmp_path)
    assert join(in_bucket(f"{bucket}/one.parquet", tmp_path), ASKED)["x"].to_list() == ANSWER


def test_a_lake_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    Lake(f"{bucket}/lake").write("features/v", TABLE, written_at=START)
    store = in_bucket(f"{bucket}/lake/features/v", tmp_path)
    assert join(store, ASKED)["x"].to_list() == ANSWER
    assert join(store, "SELECT k, event_timestamp FROM features_v WHERE k = 'q'")["x"].to_list() == [0.2]


def test_rows_are_appended_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    put(f"{bucket}/appended", "a.parquet", TABLE.head(1), tmp_path)
    store = in_bucket(f"{bucket}/appended", tmp_path)
    for _ in range(2):
        store.write_to_offline_store("v", TABLE.tail(3).to_pandas())
    assert len(parquet_files(f"{bucket}/appended")) == 2
    assert join(store, ASKED)["x"].to_list() == ANSWER


# -- how much is counted ----------------------------------------------------------------------------------------------


def test_manifests_tell_how_many_rows_there_are(tmp_path: Path) -> None:
    from ml_assets.features.offline_store import declared_view

    lake = Lake(str(tmp_path / "lake"))
    days = DAILY.with_columns(day=pl.col("event_timestamp").dt.strftime("%Y-%m-%d"))
    lake.write_partitions("features/v", days, by="day", written_at=START)
    view = declared_view(feature_view(source("lake/features/v"), ttl=DAY), ["x"])
    observations = asked([("p", 5 * DAY + 2)])
    (found,) = view_joins(observations, [view], repo=tmp_path, how=Reading())
    assert found.rows == 2 * 6  # four days around the moment and its TTL, both ends of two days' slack
    assert point_in_time_join(observations, [found])["x"].to_list() == [5.5]
