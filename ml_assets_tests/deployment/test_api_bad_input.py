"""What must not break a running server: bodies that no client should send, and everything around it failing, one after the other.

A real server with a real bundle and the real engine; after each attack a good request is answered as before.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from ml_assets.deployment.admission import Appointed, Offices
from ml_assets.deployment.api import create_app
from ml_assets.deployment.engine import Engine
from ml_assets.deployment.entities import OnlineFeatures
from ml_assets.deployment.prediction_log import PredictionLog
from ml_assets.features.guard import MOST_BYTES
from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.place import OnlineSide
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.deployment.api_samples import hashed
from ml_assets_tests.development.samples import model_of
from ml_assets_tests.features.pushing import NOW, compiled, view
from ml_assets_tests.packaging.bundles import built, stored

KEY = {"x-api-key": "a key"}
JSON = {"content-type": "application/json"}
VIEW = view("v", {"place": "String"}, {"delay": "Float64"})
ENTITY = {"place": "x", "weekend": True, "seats": 120.0, "empty": None}


@dataclass
class World:
    """A server, and what a test may break around it."""

    folder: Path
    engine: Engine
    log: PredictionLog
    address: tuple[str, int]
    offices: Offices
    backend: Backend
    errors: list[Exception] = field(default_factory=list)

    def client(self) -> httpx.Client:
        host, port = self.address
        return httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, verify=False, headers=KEY, timeout=20)

    def look(self) -> Offices:
        if self.errors:
            raise self.errors[0]
        return self.offices


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("served")
    result, lake = stored(folder / "candidate", model_of("binary", "xgboost")), str(folder / "lake")
    manifest = built(folder / "bundle", result)
    log = PredictionLog(lake, "late", folder / "spool", clock=lambda: NOW)
    found = World(
        folder,
        Engine(lambda: found.look(), problem="late", lake_url=lake, clock=lambda: NOW, log=log, refresh_seconds=3600),
        log,
        (HOST, free_port()),
        Offices(Appointed("1", folder / "bundle", manifest.digest)),
        open_backend(str(folder / "online.db"), project="test"),
    )
    features = OnlineFeatures(
        "all", clock=lambda: NOW, opened=lambda: OnlineSide(folder, compiled(VIEW), found.backend)
    )
    app = create_app(found.engine, features=features, api_keys=[hashed(KEY["x-api-key"])])
    config = uvicorn.Config(app, host=HOST, port=found.address[1], log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not (server.started and found.engine.current) and time.monotonic() < deadline:
        time.sleep(0.01)
    yield found
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def row(world: World) -> dict[str, Any]:
    assert world.engine.current
    found: dict[str, Any] = world.engine.current.bundle.small.example["request"]["rows"][0]
    return found


@pytest.fixture(autouse=True)
def goes_on(world: World, row: dict[str, Any]) -> Iterator[None]:
    """After each test a good request is answered as before."""

    def answer() -> Any:
        with world.client() as client:
            found = client.post("/predict", json={"rows": [row]})
            assert found.status_code == 200, found.text
            return found.json()["rows"]

    before = answer()
    yield
    assert answer() == before


def raw(world: World, head: str, *parts: bytes) -> bytes:
    """Send bytes as they are, and return the status line and what follows; a server that hangs up early has answered."""
    with socket.create_connection(world.address, timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while b"\r\n\r\n" not in answer:
                if not (got := connection.recv(65_536)):
                    break
                answer += got
        except ConnectionResetError:
            pass
        return answer


HEAD = "POST /predict HTTP/1.1\nHost: 127.0.0.1\nX-API-Key: a key\nContent-Type: application/json\n"

# -- bodies ------------------------------------------------------------------------------------------------------------

DEEP = b"[" * 100_000
BODIES = {
    "empty": b"",
    "null": b"null",
    "text": b'"rows"',
    "cut": b'{"rows": [{"delay": 1.0',
    "deep": DEEP,
    "deep in a row": b'{"rows": [' + b'{"delay": ' * 50_000,
    "deep closed": b'{"rows": ' + DEEP + b"]" * 100_000 + b"}",
    "huge whole number": b'{"rows": [{"delay": ' + b"9" * 100_000 + b"}]}",
    "huge exponent": b'{"rows": [{"delay": 1e999999999}]}',
    "no UTF-8": b'{"rows": [{"place": "\xff\xfe"}]}',
    "UTF-16": '{"rows": []}'.encode("utf-16"),
    "zero byte": b'{"rows": [{"place": "\x00"}]}',
    "lone surrogate": b'{"rows": [{"place": "\\ud800"}]}',
    "columns instead of rows": b'{"rows": {"delay": [1.0]}}',
    "many keys": b'{"rows": [{' + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}]}",
    "too many rows": b'{"rows": [' + b",".join([b"{}"] * 20_000) + b"]}",
    "form": b"rows=1",
    "gzip without saying so": gzip.compress(b'{"rows": []}'),
}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/predict", name) for name in BODIES),
        ("/predict/entities", "cut"),
        ("/explain", "deep"),
        ("/explain", "many keys"),
    ],
)
def test_a_body_that_is_none_is_refused(world: World, path: str, name: str) -> None:
    with world.client() as client:
        found = client.post(path, content=BODIES[name], headers=JSON)
    assert found.status_code == 422
    assert len(found.content) < 100_000
    detail = json.loads(found.content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["detail"]
    assert all(set(one) == {"row", "field", "value", "problem"} for one in detail)


def test_of_a_name_that_is_there_twice_the_last_counts(world: World, row: dict[str, Any]) -> None:
    body = json.dumps({"rows": [row]}).replace('"delay"', '"delay": -1000.0, "delay"', 1)
    with world.client() as client:
        twice = client.post("/predict", content=body, headers=JSON).json()["rows"]
        assert twice == client.post("/predict", json={"rows": [row]}).json()["rows"]


def test_a_body_above_the_limit_is_refused_before_it_is_read(world: World) -> None:
    found = raw(world, HEAD + f"Content-Length: {MOST_BYTES + 1}\n\n")
    assert found.startswith(b"HTTP/1.1 413")


def test_a_body_in_pieces_is_refused_when_it_passes_the_limit(world: World) -> None:
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    found = raw(world, HEAD + "Transfer-Encoding: chunked\n\n", *[piece] * (MOST_BYTES // 2**20 + 1), b"0\r\n\r\n")
    assert not found or found.startswith(b"HTTP/1.1 413")  # or the connection was reset with the answer on its way
    with world.client() as client:
        assert 'route="/predict",status="413"' in client.get("/metrics").text


def test_a_compressed_bomb_is_not_unpacked(world: World) -> None:
    bomb = gzip.compress(b'{"rows": [' + b" " * 100_000_000 + b"]}")
    assert len(bomb) < 200_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with world.client() as client:
        found = client.post("/predict", content=bomb, headers=JSON | {"content-encoding": "gzip"})
    assert found.status_code == 415
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "5, 6"])
def test_a_length_that_is_none_is_refused(world: World, length: str) -> None:
    found = raw(world, HEAD + f"Content-Length: {length}\n\n", b"{}")
    assert found.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_whoever_hangs_up_amid_a_body_disturbs_nobody(world: World) -> None:
    with socket.create_connection(world.address) as connection:
        connection.sendall((HEAD + "Content-Length: 500\n\n").replace("\n", "\r\n").encode() + b'{"rows"')
    with world.client() as client:
        deadline = time.monotonic() + 10
        while 'route="/predict",status="400"' not in client.get("/metrics").text and time.monotonic() < deadline:
            time.sleep(0.02)
        text = client.get("/metrics").text
    assert 'route="/predict",status="400"' in text
    assert 'status="500"' not in text


@pytest.mark.parametrize("noise", ["\x16\x03\x01\x02\x00\x01\n\n", "GET\n\n", "POST /predict HTTP/9.9\n\n"])
def test_what_is_no_http_is_refused(world: World, noise: str) -> None:
    found = raw(world, noise)
    assert not found or found.startswith(b"HTTP/1.1 400")


def test_wrong_keys_are_refused(world: World, row: dict[str, Any]) -> None:
    with world.client() as client:
        for key in ("", "a", hashed("a key"), "ä".encode("latin-1"), "x" * 20_000):
            found = client.post("/predict", json={"rows": [row]}, headers={"x-api-key": key})
            allowed = (
                (200,) if key == "a key " else (401, 400)
            )  # HTTP strips blanks around a value; uvicorn bounds headers
            assert found.status_code in allowed, key


# -- what is around it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no folder", "no database", "no server"])
def test_without_its_online_store_full_rows_are_answered(
    world: World, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch, how: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"no database" * 1_000)
    places = {
        "no folder": str(tmp_path / "file" / "online.db"),
        "no database": str(tmp_path / "file"),
        "no server": f"redis://{HOST}:{free_port()}/0",
    }
    with world.client() as client:
        assert client.post("/predict/entities", json={"entities": [ENTITY]}).status_code == 200
        gone = open_backend(places[how], project="test")
        monkeypatch.setattr(world.backend, "read", gone.read)
        monkeypatch.setattr(world.backend, "verdicts", gone.verdicts)
        found = client.post("/predict/entities", json={"entities": [ENTITY]})
        assert found.status_code == 503
        assert "the online store cannot be reached" in found.json()["detail"]
        assert client.post("/explain/entity", json={"entity": ENTITY}).status_code == 503
        assert client.post("/predict", json={"rows": [row]}).status_code == 200
        ready = client.get("/ready")
        assert (ready.status_code, "cannot be reached" in ready.json()["warnings"]["online store"]) == (200, True)
        monkeypatch.undo()
        assert client.post("/predict/entities", json={"entities": [ENTITY]}).status_code == 200
        assert client.get("/ready").json()["warnings"] == {}


def test_a_corrupted_bundle_is_refused_and_the_old_one_answers(world: World) -> None:
    result = stored(world.folder / "next", model_of("binary", "random_forest"))
    manifest = built(world.folder / "corrupted", result)
    path = world.folder / "corrupted" / "pipeline.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = world.offices
    world.offices = Offices(Appointed("2", world.folder / "corrupted", manifest.digest))
    world.engine.refresh()
    with world.client() as client:
        told = client.get("/model").json()
        assert told["model"]["version"] == "1"
        assert "pipeline.onnx has SHA-256" in told["refused"]["2"]
        assert client.get("/ready").status_code == 200
        assert "ml_assets_bundles_refused 1.0" in client.get("/metrics").text
    world.offices = before
    world.engine.refresh()


@pytest.mark.parametrize("error", [ConnectionError("refused"), sqlite3.OperationalError("database is locked")])
def test_a_registry_that_is_down_is_said_and_the_model_goes_on(world: World, error: Exception) -> None:
    world.errors.append(error)
    world.engine.refresh()
    with world.client() as client:
        found = client.get("/ready")
        assert found.status_code == 200
        assert found.json()["warnings"]["registry"]["since"] == NOW.isoformat()
        assert str(error) in found.json()["warnings"]["registry"]["reason"]
        assert "ml_assets_registry_failing 1.0" in client.get("/metrics").text
        world.errors.clear()
        world.engine.refresh()
        assert client.get("/ready").json()["warnings"] == {}


def test_a_full_disk_under_the_log_delays_no_answer_and_loses_none(world: World, row: dict[str, Any]) -> None:
    def wait_for(there: bool) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while ("log to disk" in client.get("/ready").json()["warnings"]) is not there:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        told: dict[str, Any] = client.get("/ready").json()
        return told

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with world.client() as client:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # no file becomes longer than ten bytes
        try:
            statuses = [client.post("/predict", json={"rows": [row]}).status_code for _ in range(20)]
            told = wait_for(True)
            waiting = world.log.waiting
            assert 'ml_assets_log_failing{place="disk"} 1.0' in client.get("/metrics").text
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert set(statuses) == {200}
        assert (told["ready"], waiting >= 20) == (True, True)
        wait_for(False)
    assert (world.log.waiting, world.log.dropped) == (0, 0)


def test_many_at_once_are_answered(world: World, row: dict[str, Any]) -> None:
    """Small, large and wrong requests beside each other; only what is wrong is refused."""
    wrong, large = {"rows": [row | {"delay": "late"}]}, {"rows": [row] * 5_000}
    statuses: list[tuple[int, int]] = []

    def ask(number: int) -> None:
        with world.client() as client:
            for body, status in (({"rows": [row]}, 200), (wrong, 422), (large, 200))[: 3 if number < 2 else 2]:
                statuses.append((client.post("/predict", json=body).status_code, status))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 2 * 16 + 2
    assert all(found == wanted for found, wanted in statuses)
