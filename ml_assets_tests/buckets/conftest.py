"""Buckets on which the same tests run: an emulator without preconditions, a strict fake, a fake of S3, and a real one if there is one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest

from ml_assets.lake import Store
from ml_assets_tests.fakes.gcs_server import GcsServer

BUCKET = "a-bucket"
REAL = "ML_ASSETS_TEST_BUCKET"
LEVELS = ("emulator", "strict", "s3", "real")
EXACT = ("strict", "s3", "real")  # those that keep preconditions and generations

NOISE = [
    # The emulator and its file library are of an older style; google's client leaves sockets to the collector.
    "ignore::DeprecationWarning",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:pkg_resources is deprecated",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of every test here the warnings of other people's servers and clients."""
    for item in items:
        if item.path.parent.name == "buckets":
            for noise in NOISE:
                item.add_marker(pytest.mark.filterwarnings(noise))


@dataclass(frozen=True)
class Bucket:
    """An empty place in a bucket: its URL, which level of test it is, and the strict fake behind it, if that is it."""

    url: str
    level: str
    server: GcsServer | None = None

    def store(self, folder: str = "s") -> Store:
        """Return the store below a folder."""
        return Store(f"{self.url}/{folder}")


class Hurried:
    """A clock for google's retries: what they wait for passes at once."""

    def __init__(self) -> None:
        """It begins at the system's time."""
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Return the time, with all that was slept."""
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Do not wait."""
        self._ahead += seconds


@pytest.fixture(autouse=True, scope="module")
def nothing_left(collected: None) -> None:
    """Every module here ends without open sockets."""


@pytest.fixture(autouse=True)
def hurried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries are as many as ever, and take no time; a real bucket is given its time."""
    if hasattr(request.node, "callspec") and "real" in request.node.callspec.params.values():
        return
    clock = Hurried()
    monkeypatch.setattr("google.api_core.retry.retry_unary.time", clock)
    monkeypatch.setattr("google.api_core.retry.retry_base.time", clock)


@pytest.fixture(params=LEVELS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty place on every level."""
    yield from _place(request, request.param)


@pytest.fixture(params=EXACT)
def exact(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """An empty place on every level that keeps preconditions and generations."""
    yield from _place(request, request.param)


@pytest.fixture
def strict(request: pytest.FixtureRequest) -> Iterator[tuple[Bucket, GcsServer]]:
    """An empty place in the strict fake, and the fake itself."""
    for place in _place(request, "strict"):
        assert place.server is not None
        yield place, place.server


def _place(request: pytest.FixtureRequest, level: str) -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch:
        if level == "strict":
            with GcsServer(BUCKET) as server:
                patch.setenv("STORAGE_EMULATOR_HOST", server.url)
                yield Bucket(f"gs://{BUCKET}", level, server)
        elif level == "emulator":
            with _emulator() as url:
                patch.setenv("STORAGE_EMULATOR_HOST", url)
                yield Bucket(f"gs://{BUCKET}", level)
        elif level == "s3":
            for name, value in request.getfixturevalue("s3_environment").items():
                patch.setenv(name, value)
            yield Bucket(f"s3://{BUCKET}/{uuid4().hex}", level)
        else:
            yield from _real()


@contextmanager
def _emulator() -> Iterator[str]:
    from gcp_storage_emulator.server import create_server

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """The environment of a process whose S3 is moto's server, with one bucket; one server for all tests, as its client is cached."""
    import botocore.session
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        botocore.session.get_session().create_client("s3").create_bucket(Bucket=BUCKET)
    yield told
    server.stop()


def _real() -> Iterator[Bucket]:
    if REAL not in os.environ:
        pytest.skip(f"no real bucket: set {REAL}=gs://bucket to one in which a test may write")
    place = Bucket(f"{os.environ[REAL].rstrip('/')}/ml-assets-test-{uuid4().hex}", "real")
    yield place
    everything = Store(place.url)
    for name in everything.names():
        everything.remove(name)
