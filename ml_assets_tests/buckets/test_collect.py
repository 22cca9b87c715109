"""The landing zone, the ledger and the lake in a bucket, through the same code as in a folder, on every level."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, date, datetime

import polars as pl
import pytest

from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Entry, Ledger
from ml_assets.collection.watch import look
from ml_assets.lake import Lake, Store
from ml_assets.quality.contract import ColumnContract
from ml_assets.replay.faults import far_future, truncated_gzip
from ml_assets.replay.world import World, compressed, csv
from ml_assets_tests.buckets.conftest import BUCKET, Bucket
from ml_assets_tests.fakes.gcs_server import Fault, GcsServer

NOW = datetime(2013, 1, 5, tzinfo=UTC)
DAYS = [date(2013, 1, 1), date(2013, 1, 2)]
THINGS = SourceContract(
    "things", "things/things-{day}*.csv", [ColumnContract(name="id", dtype="Int64")], days="2013-01-01/2013-12-31"
)
FILE = "things/things-2013-01-01.csv"


def opened(bucket: Bucket) -> Landing:
    """Landing zone, lake, ledger and quarantine in a bucket, as a new process has them."""
    lake = f"{bucket.url}/lake"
    return Landing(bucket.store("landing"), Lake(lake), Ledger(lake), bucket.store("quarantine"))


@pytest.fixture
def places(bucket: Bucket) -> Landing:
    """The places on every level."""
    return opened(bucket)


def flights(places: Landing) -> SourceContract:
    """The flights' contract, with the columns as text: what is tested is the way of the files."""
    names = World(places.landing).rows("flights", DAYS[0]).columns
    columns = [ColumnContract(name=name, dtype="String", nullable=True, sparse=True) for name in names]
    return SourceContract("flights", "flights/flights-{day}*.csv.gz", columns, days="2013-01-01/2013-12-31")


def ids(places: Landing) -> list[int]:
    """What the lake holds of the things."""
    return places.lake.read("raw/things")["id"].to_list()


def test_files_in_a_bucket_are_seen_collected_and_read(places: Landing) -> None:
    world, source = World(places.landing), flights(places)
    world.deliver_days(DAYS)
    truncated_gzip(world, DAYS[0])
    far_future(world, DAYS[1])

    requests = look(places, [source], now=NOW)
    assert not isinstance(requests, str)
    assert [(request.first, request.last, request.files) for request in requests] == [("2013-01-01", "2013-01-02", 4)]

    done = collect(source, places, now=NOW)
    assert {name: len(done.with_status(name)) for name in ("ingested", "quarantined")} == {
        "ingested": 2,
        "quarantined": 2,
    }
    rows = sum(world.rows("flights", day).height for day in DAYS)
    assert places.lake.read("raw/flights").height == rows
    days = places.lake.scan("raw/flights", partition_column="day").collect()["day"]
    assert days.unique().sort().to_list() == ["2013-01-01", "2013-01-02"]
    assert look(places, [source], now=NOW) == "no new files"


def test_an_overwritten_file_is_a_new_generation(places: Landing) -> None:
    world, source = World(places.landing), flights(places)
    name = world.deliver_days(DAYS[:1])[0]
    collect(source, places, now=NOW)
    first = places.lake.version("raw/flights")

    world.put(name, compressed(csv(world.rows("flights", DAYS[0]).head(10))), at=NOW)
    done = collect(source, places, now=NOW)

    assert sorted(entry.status for entry in done.entries if entry.name == name) == ["ingested", "superseded"]
    assert places.lake.read("raw/flights").height == 10
    assert places.lake.version("raw/flights") != first


def test_what_is_overwritten_between_listing_and_reading_is_taken_as_it_is_next_time(
    exact: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = opened(exact)
    old = places.landing.write(FILE, b"id\n1\n")
    read = Store.read

    def late(store: Store, name: str, **how: str) -> bytes:
        if name == FILE and store.stat(name).generation == old:  # type: ignore[union-attr]
            store.write(FILE, b"id\n22\n")
        return read(store, name, **how)

    monkeypatch.setattr(Store, "read", late)
    for _ in range(2):
        collect(THINGS, opened(exact), now=NOW)
    assert ids(places) == [22]
    (entry,) = [entry for entry in places.ledger.entries() if entry.status == "ingested"]
    assert entry.generation != old


def test_the_first_bytes_again_are_a_new_delivery(exact: Bucket) -> None:
    """S3 knows equal bytes by the same ETag; what was corrected and then restored counts all the same."""
    places = opened(exact)
    for text, seconds in ((b"id\n1\n", 0.0), (b"id\n22\n", 1.0), (b"id\n1\n", 0.0)):
        places.landing.write(FILE, text)
        collect(THINGS, opened(exact), now=NOW)
        time.sleep(seconds if exact.level == "s3" else 0)  # S3 tells times in seconds
    assert ids(places) == [1]
    assert sorted(entry.status for entry in places.ledger.entries()) == ["ingested", "superseded", "superseded"]


def test_a_removed_file_is_no_error(exact: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    places = opened(exact)
    places.landing.write(FILE, b"id\n1\n")
    read = Store.read

    def late(store: Store, name: str, **how: str) -> bytes:
        if name == FILE:
            store.remove(FILE)
        return read(store, name, **how)

    monkeypatch.setattr(Store, "read", late)
    collect(THINGS, places, now=NOW)
    monkeypatch.undo()
    assert look(opened(exact), [THINGS], now=NOW) == "no new files"


def test_of_two_who_collect_at_once_one_enters_the_file(exact: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    places = opened(exact)
    places.landing.write(FILE, b"id\n1\n")
    append, others = Ledger.append, [opened(exact)]

    def late(ledger: Ledger, entries: Iterable[Entry], **how: int) -> None:
        while others:
            collect(THINGS, others.pop(), now=datetime(2013, 1, 4, tzinfo=UTC))
        append(ledger, entries, **how)

    monkeypatch.setattr(Ledger, "append", late)
    assert collect(THINGS, places, now=NOW).entries == []
    (entry,) = opened(exact).ledger.entries()
    assert (entry.status, entry.decided_at.day) == ("ingested", 4)
    assert entry.checksum
    assert ids(places) == [1]


def test_a_run_killed_before_the_ledger_is_entered_though_its_file_is_gone(
    exact: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = opened(exact)
    places.landing.write(FILE, b"id\n1\n")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "append", killed)
        collect(THINGS, places, now=NOW)
    places.landing.remove(FILE)
    collect(THINGS, opened(exact), now=NOW)
    assert [entry.status for entry in opened(exact).ledger.entries()] == ["ingested"]
    assert ids(places) == [1]
    assert collect(THINGS, opened(exact), now=NOW).entries == []


# -- what a network does -----------------------------------------------------------------------------------------------


def test_lost_answers_double_nothing(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    places = opened(bucket)
    places.landing.write(FILE, b"id\n1\n")
    server.faults += [
        Fault("lost", operation=operation, times=3) for operation in ("insert", "download", "list", "get")
    ]
    collect(THINGS, places, now=NOW)
    assert [fault.times for fault in server.faults] == [0] * 4
    assert ids(places) == [1]
    assert [entry.status for entry in opened(bucket).ledger.entries()] == ["ingested"]
    assert len(bucket.store("lake").names("_ledger")) == 1
    assert server.asked("delete") == []


def test_bytes_spoilt_on_the_way_are_no_bad_file(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    places = opened(bucket)
    places.landing.write(FILE, b"id\n1\n")
    server.faults.append(Fault("flipped", operation="download", name=f"landing/{FILE}", times=1000))
    with pytest.raises(OSError, match="came 3 times with other bytes"):
        collect(THINGS, places, now=NOW)
    assert places.ledger.entries() == []
    server.faults.clear()
    collect(THINGS, places, now=NOW)
    assert ids(places) == [1]


def test_more_files_than_a_page_holds(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    days = pl.date_range(date(2013, 1, 1), date(2013, 12, 31), eager=True)
    for day in days:
        for part in range(3):
            server.buckets.put(BUCKET, f"landing/things/things-{day}-{part}.csv", b"id\n%d\n" % part)
    places = opened(bucket)
    requests = look(places, [THINGS], now=datetime(2014, 1, 5, tzinfo=UTC))
    assert not isinstance(requests, str)
    assert [request.files for request in requests] == [1095]
    assert len(requests) == 1
    assert len(server.asked("list", "landing/*")) == 2
    assert server.asked("download", "landing/*") == []
