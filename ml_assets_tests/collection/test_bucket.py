"""The landing zone and the lake on gs://, through the same code as on a folder.

The emulator ignores preconditions, so nothing here relies on them: only that the code speaks to a bucket.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest

from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Ledger
from ml_assets.collection.watch import look
from ml_assets.lake import Lake, Store
from ml_assets.quality.contract import ColumnContract
from ml_assets.replay.faults import far_future, truncated_gzip
from ml_assets.replay.world import World, compressed, csv

NOW = datetime(2013, 1, 5, tzinfo=UTC)
DAYS = [date(2013, 1, 1), date(2013, 1, 2)]
BUCKET = "a-bucket"

pytestmark = [
    # The emulator and its file library are of an older style; google's client leaves sockets to the collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated"),
]


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[Landing]:
    """Landing zone, lake, ledger and quarantine in one bucket of an emulator on loopback."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    url = f"gs://{BUCKET}"
    yield Landing(Store(f"{url}/landing"), Lake(f"{url}/lake"), Ledger(f"{url}/lake"), Store(f"{url}/quarantine"))
    server.stop()


def contract(places: Landing) -> SourceContract:
    """The flights' contract, with the columns as text: what is tested is the way of the files."""
    names = World(places.landing).rows("flights", DAYS[0]).columns
    columns = [ColumnContract(name=name, dtype="String", nullable=True, sparse=True) for name in names]
    return SourceContract("flights", "flights/flights-{day}*.csv.gz", columns, days="2013-01-01/2013-12-31")


def test_files_in_a_bucket_are_seen_collected_and_read(places: Landing) -> None:
    world, source = World(places.landing), contract(places)
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
    world, source = World(places.landing), contract(places)
    name = world.deliver_days(DAYS[:1])[0]
    collect(source, places, now=NOW)
    first = places.lake.version("raw/flights")

    world.put(name, compressed(csv(world.rows("flights", DAYS[0]).head(10))), at=NOW)
    done = collect(source, places, now=NOW)

    assert sorted(entry.status for entry in done.entries if entry.name == name) == ["ingested", "superseded"]
    assert places.lake.read("raw/flights").height == 10
    assert places.lake.version("raw/flights") != first
