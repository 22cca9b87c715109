"""A store in a bucket: the same operations, guarantees and errors as in a folder, on every level."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from ml_assets.lake import PreconditionFailed, Store
from ml_assets_tests.buckets.conftest import BUCKET, Bucket
from ml_assets_tests.fakes.gcs_server import Fault, GcsServer

ODD = ["a b", "ü/日本.csv", "50%.txt", "a+b", "q?x=1", "n#1", "x%2Fy", "semi;colon,comma", "quote'\""]


def test_what_was_written_is_read_listed_and_removed(bucket: Bucket) -> None:
    store = bucket.store()
    assert store.names() == store.folders() == []
    for name, data in {"b/two": b"22", "b/c/three": b"333", "one": b"", "bb": b"4"}.items():
        store.write(name, data)
    assert store.names() == ["b/c/three", "b/two", "bb", "one"]
    assert (store.names("b"), store.folders(), store.folders("b")) == (["b/c/three", "b/two"], ["b"], ["c"])
    assert [(item.name, item.size) for item in store.objects("b/c")] == [("b/c/three", 3)]
    assert (store.read("b/two"), store.read("one")) == (b"22", b"")
    store.remove("b/two")
    store.remove("b/two")
    assert not store.exists("b/two")
    assert (store.exists("bb"), store.exists("b"), store.stat("b")) == (True, False, None)
    with pytest.raises(FileNotFoundError):
        store.read("b/two")


def test_a_listing_can_go_on_after_a_name(bucket: Bucket) -> None:
    store = bucket.store()
    for name in ("d/1", "d/2", "d/3", "e/1"):
        store.write(name, b"")
    assert [item.name for item in store.objects("d", after="d/1")] == ["d/2", "d/3"]
    assert [item.name for item in store.objects(after="d/2x")] == ["d/3", "e/1"]
    assert store.objects("d", after="d/9") == []


def test_odd_names_are_kept(exact: Bucket) -> None:
    store = exact.store()
    for name in ODD:
        store.write(name, name.encode(), expect="absent")
    assert store.names() == sorted(ODD)
    for name in ODD:
        assert store.read(name) == name.encode()
        assert store.exists(name)
        store.remove(name)
    assert store.names() == []


def test_placeholders_of_folders_are_no_objects_that_matter(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    server.buckets.put(BUCKET, "s/d/", b"")  # what the web console makes for a folder
    place.store().write("d/1", b"1")
    assert place.store().folders() == ["d"]
    assert "d/1" in place.store().names()


def test_a_read_is_pinned_to_what_was_listed(exact: Bucket) -> None:
    store = exact.store()
    first = store.write("a", b"1")
    (listed,) = store.objects()
    assert (listed.generation, listed) == (first, store.stat("a"))
    assert listed.checksum.startswith(("crc32c:", "etag:"))
    assert store.read("a", generation=first) == b"1"
    second = store.write("a", b"22")
    assert second != first
    with pytest.raises(PreconditionFailed, match="a"):
        store.read("a", generation=first)
    assert store.read("a", generation=second) == store.read("a") == b"22"
    store.remove("a")
    with pytest.raises(PreconditionFailed):
        store.read("a", generation=second)


def test_a_write_can_demand_what_it_replaces(exact: Bucket) -> None:
    store = exact.store()
    first = store.write("a", b"1", expect="absent")
    with pytest.raises(PreconditionFailed):
        store.write("a", b"2", expect="absent")
    second = store.write("a", b"22", generation=first)
    with pytest.raises(PreconditionFailed):
        store.write("a", b"333", generation=first)
    assert store.read("a", generation=second) == b"22"
    with pytest.raises(PreconditionFailed):
        store.write("never", b"1", generation=second)
    assert store.names() == ["a"]


@pytest.mark.parametrize("how", ["absent", "generation"])
def test_of_racing_writers_exactly_one_wins(exact: Bucket, how: str) -> None:
    store = exact.store()
    for turn in range(5):
        name, ready = f"{turn}", Barrier(4)
        demand: dict[str, Any] = {"expect": "absent"}
        if how == "generation":
            demand = {"generation": store.write(name, b"before")}

        def write(who: int, name: str = name, ready: Barrier = ready, demand: dict[str, Any] = demand) -> bool:
            ready.wait()
            try:
                store.write(name, b"%d" % who, **demand)
            except PreconditionFailed:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(write, range(4)))
        assert won.count(True) == 1
        assert store.read(name) == b"%d" % won.index(True)


def test_more_than_a_thousand_objects(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    names = [f"{number:05}" for number in range(2345)]
    for name in names:
        server.buckets.put(BUCKET, f"s/d/{name}", b"12")
    store = place.store()
    assert [item.name for item in store.objects("d")] == [f"d/{name}" for name in names]
    assert len(store.objects("d", after="d/02000")) == 344
    for name in names[:1100]:
        server.buckets.put(BUCKET, f"s/e/{name}/x", b"")
    assert len(store.folders("e")) == 1100


# -- what a network does -----------------------------------------------------------------------------------------------

OPERATIONS = {
    "insert": lambda store: store.write("new", b"1"),
    "download": lambda store: store.read("a"),
    "get": lambda store: store.stat("a"),
    "list": lambda store: store.names(),
    "delete": lambda store: store.remove("a"),
}


@pytest.mark.parametrize("kind", ["429", "503", "refused"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_passes_is_tried_again(strict: tuple[Bucket, GcsServer], operation: str, kind: Any) -> None:
    place, server = strict
    store = place.store()
    store.write("a", b"1")
    server.faults.append(Fault(kind, operation=operation, times=2))
    OPERATIONS[operation](store)
    assert [item.fault for item in server.asked(operation)][-3:] == [kind, kind, ""]


def lost(server: GcsServer, operation: str = "insert", times: int = 1) -> None:
    server.faults.append(Fault("lost", operation=operation, times=times))


def test_a_lost_answer_to_a_write_is_no_false_alarm(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    store = place.store()
    lost(server)
    first = store.write("a", b"1", expect="absent")
    lost(server)
    second = store.write("a", b"22", generation=first)
    lost(server, times=2)
    third = store.write("a", b"333")
    assert [store.read("a", generation=third), first == second] == [b"333", False]
    assert not server.asked("delete")


def test_the_answer_was_lost_and_somebody_else_was_first(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    store = place.store()
    server.buckets.put(BUCKET, "s/a", b"theirs")
    lost(server)
    with pytest.raises(PreconditionFailed):
        store.write("a", b"mine!!", expect="absent")
    assert (store.read("a"), server.asked("delete")) == (b"theirs", [])


def test_a_lost_answer_to_a_removal_is_no_error(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    place.store().write("a", b"1")
    lost(server, "delete")
    place.store().remove("a")
    assert not place.store().exists("a")


def test_a_write_that_never_comes_through_is_an_error_and_leaves_nothing(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    server.faults.append(Fault("503", operation="insert", times=1000))
    with pytest.raises(OSError, match="gs://a-bucket/s/a: Timeout"):
        place.store().write("a", b"1")
    server.faults.clear()
    assert place.store().names() == []


def test_bytes_that_are_not_those_stored_are_refused(strict: tuple[Bucket, GcsServer]) -> None:
    place, server = strict
    place.store().write("a", b"hello")
    server.faults.append(Fault("flipped", operation="download", times=1000))
    with pytest.raises(OSError, match="gs://a-bucket/s: s/a came 3 times with other bytes"):
        place.store().read("a")
    server.faults[0].times = 1
    assert place.store().read("a") == b"hello"


@pytest.mark.parametrize("kinds", ["short", "truncated", "slow", "truncated truncated", "short flipped"])
def test_a_download_that_breaks_off_is_begun_again(strict: tuple[Bucket, GcsServer], kinds: str) -> None:
    """Also where google's client goes on from where it was cut: it does not compare what it puts together."""
    place, server = strict
    data = bytes(range(256)) * 4
    place.store().write("a", data)
    kind: Any
    for kind in kinds.split():
        server.faults.append(Fault(kind, operation="download", seconds=0.2 if kind == "slow" else 0))
    assert place.store().read("a") == data
    assert [fault.times for fault in server.faults] == [0] * len(kinds.split())


def test_a_store_reads_what_another_program_compressed(strict: tuple[Bucket, GcsServer]) -> None:
    """With `Content-Encoding: gzip` a bucket offers to decompress: what is read must be what was stored, as listed."""
    place, server = strict
    stored = gzip.compress(b"hello" * 100)
    server.buckets.put(BUCKET, "s/a", stored, properties={"contentEncoding": "gzip", "contentType": "text/csv"})
    (item,) = place.store().objects()
    assert place.store().read("a", generation=item.generation) == stored
    assert item.size == len(stored)


def test_a_bucket_that_is_not_there_is_named(strict: tuple[Bucket, GcsServer]) -> None:
    store = Store("gs://another-bucket/x")
    for use in (store.names, store.folders, lambda: store.write("a", b"1")):
        with pytest.raises(FileNotFoundError, match=r"gs://another-bucket/x/.*bucket does not exist: another-bucket"):
            use()
