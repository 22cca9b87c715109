"""In a bucket as in a folder: the ledger's state machine, and objects with names that no file has."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ml_assets.collection.collect import collect
from ml_assets_tests.buckets.conftest import BUCKET, Bucket
from ml_assets_tests.buckets.test_collect import opened
from ml_assets_tests.collection.outside import NOW, THINGS
from ml_assets_tests.collection.test_state_machine import Deliveries
from ml_assets_tests.fakes.gcs_server import GcsServer

GOOD = b"id,value\n1,0.5\n"
DAY = "2013-01-31"


@pytest.mark.slow
def test_at_rest_every_generation_was_entered_once_and_the_newest_good_delivery_holds(
    strict: tuple[Bucket, GcsServer],
) -> None:
    class InABucket(Deliveries):
        def new_root(self) -> str:
            return f"{strict[0].url}/{uuid4().hex}"

    run_state_machine_as_test(InABucket, settings=settings(max_examples=20, stateful_step_count=10))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "name",
    [f"../things-{DAY}.csv", "..", f"./things-{DAY}.csv", f"/things-{DAY}.csv", f"things-{DAY}.csv/", "n" * 900, ".hidden.csv"],
    ids=lambda name: name[:20],
)  # fmt: skip
def test_an_object_with_a_name_that_no_file_has_is_kept_in_quarantine(
    strict: tuple[Bucket, GcsServer], name: str
) -> None:
    bucket, server = strict
    upload(server, {f"things/{name}": GOOD, f"things/things-{DAY}.good.csv": GOOD})
    places = opened(bucket)
    found = {entry.name: entry for entry in collect(THINGS, places, now=NOW).entries}
    assert found.pop(f"things/things-{DAY}.good.csv").status == "ingested"
    (entry,) = found.values()
    assert (entry.name, entry.status) == (f"things/{name}", "quarantined")
    assert "rename the file" in entry.reason
    (kept,) = [item for item in places.quarantine.names() if not item.endswith(".reason.json")]
    assert places.quarantine.read(kept) == GOOD
    assert collect(THINGS, opened(bucket), now=NOW).entries == []


def test_an_object_that_stands_for_a_folder_is_none_that_landed(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    upload(server, dict.fromkeys(("", "things/", "things/deeper/"), b""))
    assert collect(THINGS, opened(bucket), now=NOW).entries == []


def upload(server: GcsServer, objects: Mapping[str, bytes]) -> None:
    """Put objects into the landing zone past our own store, which takes no such names."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    options = {"api_endpoint": server.url}
    client = storage.Client(project="test", credentials=AnonymousCredentials(), client_options=options)
    for name, data in objects.items():
        client.bucket(BUCKET).blob(f"landing/{name}").upload_from_string(data)
