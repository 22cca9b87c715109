"""The strict fake bucket keeps the rules that the PyPI emulator does not: it is what the other tests of buckets stand on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed, TooManyRequests
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption

from ml_assets_tests.fakes.gcs_server import Fault, GcsServer

BUCKET = "a-bucket"

pytestmark = [  # google's client leaves its sockets to the collector
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsServer]:
    """A running fake with one empty bucket."""
    with GcsServer(BUCKET) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def bucket(server: GcsServer) -> Iterator[storage.Bucket]:
    """The bucket as google's client sees it."""
    client = storage.Client()
    yield client.bucket(BUCKET)
    client.close()


def put(bucket: storage.Bucket, name: str = "a/ü.txt", data: bytes = b"1", **how: Any) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(data, **how)
    return blob


def test_an_object_is_stored_with_checksums_and_growing_generations(bucket: storage.Bucket) -> None:
    first = put(bucket, data=b"123456789")
    assert (first.crc32c, first.size, first.metageneration) == ("4waSgw==", 9, 1)  # the checksum's published test value
    assert first.md5_hash == "JfnnlDI7RTiF9RgfG2JNCw=="
    second = put(bucket, data=b"2")
    assert second.generation > first.generation
    assert second.updated > first.updated
    second.metadata = {"who": "me"}
    second.patch()
    assert (second.metageneration, bucket.get_blob("a/ü.txt").metadata) == (2, {"who": "me"})


@pytest.mark.parametrize("size", [0, 1, 262_144, 700_001])
def test_a_resumable_upload_comes_in_chunks(bucket: storage.Bucket, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    blob = bucket.blob("big", chunk_size=262_144)
    blob.upload_from_string(data, if_generation_match=0)
    assert (bucket.blob("big").download_as_bytes(), blob.size) == (data, size)
    with pytest.raises(PreconditionFailed):
        bucket.blob("big", chunk_size=262_144).upload_from_string(data, if_generation_match=0)


def test_preconditions_hold(bucket: storage.Bucket) -> None:
    first = put(bucket, if_generation_match=0)
    for wrong in (0, first.generation - 1):
        with pytest.raises(PreconditionFailed):
            put(bucket, if_generation_match=wrong)
        with pytest.raises(PreconditionFailed):
            bucket.blob("a/ü.txt").delete(if_generation_match=wrong)
    put(bucket, data=b"2", if_generation_match=first.generation, if_metageneration_match=1)
    with pytest.raises(PreconditionFailed):
        bucket.blob("a/ü.txt").download_as_bytes(if_generation_match=first.generation)
    with pytest.raises(PreconditionFailed):
        put(bucket, "new", if_generation_match=7)
    assert bucket.blob("a/ü.txt").download_as_bytes() == b"2"


def test_an_old_generation_is_gone(bucket: storage.Bucket) -> None:
    old = put(bucket).generation
    put(bucket, data=b"2")
    for ask in (storage.Blob.download_as_bytes, storage.Blob.reload, storage.Blob.delete):
        with pytest.raises(NotFound):
            ask(bucket.blob("a/ü.txt", generation=old))
    bucket.blob("a/ü.txt").delete()
    assert not bucket.blob("a/ü.txt").exists()


def test_an_unknown_parameter_is_refused(server: GcsServer, bucket: storage.Bucket) -> None:
    with pytest.raises(BadRequest, match=r"no parameter \['ifGenerationMatsch'\]"):
        bucket.client._get_resource(f"/b/{BUCKET}/o/x", query_params={"ifGenerationMatsch": "0"})
    with pytest.raises(BadRequest, match="no parameter"):
        bucket.client._get_resource(f"/b/{BUCKET}/o", query_params={"ifGenerationMatch": "0"})
    with pytest.raises(NotFound):
        storage.Blob("x", bucket.client.bucket("other")).upload_from_string(b"")


def test_a_wrong_checksum_is_refused(bucket: storage.Bucket) -> None:
    blob = bucket.blob("a")
    blob.md5_hash = "AAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(BadRequest, match="doesn't match calculated md5Hash"):
        blob.upload_from_string(b"1", checksum=None)
    assert not blob.exists()


def test_listings_come_in_pages_of_a_thousand(server: GcsServer, bucket: storage.Bucket) -> None:
    names = [f"n/{number:05}" for number in range(2500)]
    for name in reversed(names):
        server.buckets.put(BUCKET, name, b"")
    listed = bucket.list_blobs(prefix="n/", max_results=None, page_size=5000)
    assert [blob.name for blob in listed] == names
    assert len(server.asked("list")) == 3
    after = bucket.list_blobs(prefix="n/", start_offset="n/02498", fields="items(name),nextPageToken")
    assert [(blob.name, blob.generation) for blob in after] == [("n/02498", None), ("n/02499", None)]


def test_without_the_token_among_the_fields_there_is_one_page(server: GcsServer, bucket: storage.Bucket) -> None:
    for number in range(3):
        server.buckets.put(BUCKET, f"{number}", b"")
    assert len(list(bucket.list_blobs(page_size=2, fields="items(name)"))) == 2


@pytest.mark.parametrize("page", [1, 2, 10])
def test_folders_are_listed_once(server: GcsServer, bucket: storage.Bucket, page: int) -> None:
    for name in ("a", "b/1", "b/2", "b/c/3", "b/c/4", "d/", "e"):
        server.buckets.put(BUCKET, name, b"")
    listed = bucket.list_blobs(delimiter="/", page_size=page)
    assert ([blob.name for blob in listed], sorted(listed.prefixes)) == (["a", "e"], ["b/", "d/"])
    inner = bucket.list_blobs(delimiter="/", prefix="b/", page_size=page)
    assert ([blob.name for blob in inner], sorted(inner.prefixes)) == (["b/1", "b/2"], ["b/c/"])


def test_ranges_and_compositions(bucket: storage.Bucket) -> None:
    parts = [put(bucket, "1", b"hello "), put(bucket, "2", b"world")]
    assert bucket.blob("2").download_as_bytes(start=1, end=3) == b"orl"
    whole = bucket.blob("3")
    whole.compose(parts, if_generation_match=0)
    assert (whole.download_as_bytes(), whole.md5_hash, whole.component_count) == (b"hello world", None, 2)
    with pytest.raises(PreconditionFailed):
        whole.compose(parts, if_generation_match=0)


def once(blob: storage.Blob) -> bytes:
    return blob.download_as_bytes(retry=None)


FAULTS: dict[str, tuple[Callable[[storage.Blob], bytes], type[Exception] | None]] = {
    "429": (once, TooManyRequests),
    "flipped": (once, DataCorruption),
    "503": (storage.Blob.download_as_bytes, None),
    "refused": (storage.Blob.download_as_bytes, None),
    "lost": (storage.Blob.download_as_bytes, None),
    "short": (storage.Blob.download_as_bytes, None),
    "truncated": (storage.Blob.download_as_bytes, None),
    "slow": (once, None),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_strike_as_told(server: GcsServer, bucket: storage.Bucket, kind: Any) -> None:
    put(bucket, "struck", b"hello"), put(bucket, "spared", b"hello")
    ask, error = FAULTS[kind]
    fault = Fault(kind, operation="download", name="stru*", after=1, seconds=0.01 if kind == "slow" else 0)
    server.faults.append(fault)
    assert once(bucket.blob("spared")) == once(bucket.blob("struck")) == b"hello"
    if error:
        with pytest.raises(error):
            ask(bucket.blob("struck"))
    else:
        assert ask(bucket.blob("struck")) == b"hello"
    assert [item.fault for item in server.asked("download", "struck")][:2] == ["", kind]
    assert fault.times == 0
    assert once(bucket.blob("struck")) == b"hello"


def test_a_lost_answer_has_happened(server: GcsServer, bucket: storage.Bucket) -> None:
    server.faults.append(Fault("lost", operation="insert"))
    with pytest.raises(PreconditionFailed):
        put(bucket, "a", b"mine", if_generation_match=0)  # the client tries again by itself, and meets its own object
    assert bucket.blob("a").download_as_bytes() == b"mine"
    server.faults.append(Fault("refused", operation="insert"))
    put(bucket, "b", if_generation_match=0)
    assert [item.status for item in server.asked("insert")] == [0, 412, 0, 200]


def test_gcsfs_speaks_to_it(server: GcsServer) -> None:
    """DVC's remote goes through gcsfs, whose requests differ from those of google's client."""
    import gcsfs

    files = gcsfs.GCSFileSystem(skip_instance_cache=True, use_listings_cache=False)
    files.pipe_file(f"{BUCKET}/d/a b", b"one\r\n", mode="create")
    with pytest.raises(FileExistsError):
        files.pipe_file(f"{BUCKET}/d/a b", b"two", mode="create")
    old = files.info(f"{BUCKET}/d/a b")["generation"]
    assert files.cat_file(f"{BUCKET}/d/a b", start=1, end=3) == b"ne"
    files.pipe_file(f"{BUCKET}/d/a b", b"two")
    assert files.cat_file(f"{BUCKET}/d/a b") == b"two"
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{BUCKET}/d/a b", generation=old)
    with files.open(f"{BUCKET}/d/big", "wb", block_size=262_144) as target:
        target.write(bytes(6_000_000))
    files.cp_file(f"{BUCKET}/d/big", f"{BUCKET}/e/big")
    assert files.find(BUCKET) == [f"{BUCKET}/d/a b", f"{BUCKET}/d/big", f"{BUCKET}/e/big"]
    assert (files.ls(BUCKET), files.du(f"{BUCKET}/e")) == ([f"{BUCKET}/d", f"{BUCKET}/e"], 6_000_000)
    files.rm(f"{BUCKET}/d", recursive=True)
    assert files.find(BUCKET) == [f"{BUCKET}/e/big"]
    assert {item.status for item in server.log} <= {200, 204, 206, 308, 404, 412}
