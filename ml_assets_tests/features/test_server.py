"""The feature server over HTTP: what it answers, what it refuses, whom it lets in, and what is left when it is killed."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import sqlite3
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.features import retrieval, server
from ml_assets.features.compiled import CompiledRepo, CompiledService
from ml_assets.features.day_files import DayFiles
from ml_assets.features.guard import Guard
from ml_assets.features.on_demand import Input, OnDemand, Output
from ml_assets.features.online.backends import open_backend
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.replay import replay
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push_log import PushLog
from ml_assets.features.served import ServedLog
from ml_assets.features.server import create_app, serve
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.features.pushing import NOW, PLAIN, SOURCE, at, compiled, serving, view

with warnings.catch_warnings(action="ignore"):  # Starlette wants httpx2, a package that nothing else here needs
    from fastapi.testclient import TestClient

JSON = {"content-type": "application/json"}
LOCAL: Any = {"base_url": "http://127.0.0.1", "client": (HOST, 50_000)}


def aged(inputs: pl.DataFrame) -> pl.DataFrame:
    """A request-time function of a stored feature, a request column, and the moment."""
    return inputs.select(scaled=pl.col("x") * pl.col("factor"), hour=pl.col("event_timestamp").dt.hour().cast(pl.Int64))


def with_request(repo: CompiledRepo) -> CompiledRepo:
    """Return the repository with a service `requested` that has an on-demand view."""
    inputs = (Input("x", "Float64", "v"), Input("factor", "Float64"), Input("event_timestamp", "UnixTimestamp"))
    outputs = (Output("scaled", "Float64"), Output("hour", "Int64"))
    path = f"{aged.__module__}.aged"
    on_demand = OnDemand("aged", path, "", inputs, outputs, asked=("scaled", "hour"))
    service = CompiledService(("v",), (repo.views["v"].declared,), on_demand=(on_demand,))
    return CompiledRepo(repo.project, {**repo.services, "requested": service}, repo.views)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TestClient]:
    """Return a function that makes a client of an application over `PLAIN`, or over the given views."""

    def made(*views: Any, client: Any = LOCAL, **options: Any) -> TestClient:
        repo = with_request(compiled(*(views or (PLAIN,))))
        monkeypatch.setattr(retrieval, "applied_repo", lambda _: repo)
        how = {"lake_url": str(tmp_path / "lake"), "online_url": str(tmp_path / "online.db"), "clock": lambda: NOW}
        return TestClient(create_app(tmp_path, **how | options), **client)

    return made


@pytest.fixture
def client(start: Callable[..., TestClient]) -> TestClient:
    return start()


def row(key: str, event: float, x: float | None = None) -> dict[str, Any]:
    return {"k": key, "event_timestamp": at(event).isoformat(), "x": x, "n": round(event)}


def push(client: TestClient, *rows: dict[str, Any], source: str = SOURCE, **how: Any) -> Any:
    return client.post("/push", json={"push_source_name": source, "rows": list(rows)}, **how)


def ask(client: TestClient, entities: dict[str, Any], service: str = "all", **how: Any) -> Any:
    return client.post(f"/features/{service}", json={"entities": entities}, **how)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_what_was_pushed_is_answered(start: Callable[..., TestClient], tmp_path: Path) -> None:
    client = start(view("v", {"k": "String"}, dict(PLAIN.features), ttl=timedelta(hours=48)))
    found = push(client, row("p", 90, 0.5), row("q", 3, 0.25))
    assert (found.status_code, found.json()) == (200, {"rows": 2, "new": 2, "views": ["v"]})
    assert PushLog(str(tmp_path / "lake"), "features/v").scan().collect().height == 2  # type: ignore[union-attr]
    answer = ask(client, {"k": ["q", "p", "z", None]}).json()
    assert answer.pop("request")
    assert answer == {
        "values": {"k": ["q", "p", "z", None], "x": [None, 0.5, None, None], "n": [None, 90, None, None]},
        "statuses": {"v": ["outside_ttl", "present", "missing", "missing"]},
        "event_timestamps": {"v": [at(3).isoformat(), at(90).isoformat(), None, None]},
        "not_finite": {},
    }


def test_values_that_json_lacks_are_null_and_named(client: TestClient) -> None:
    body = {"push_source_name": SOURCE, "rows": [row("p", 1, math.nan), row("q", 1, math.inf)]}
    assert client.post("/push", content=json.dumps(body), headers=JSON).status_code == 200
    answer = ask(client, {"k": ["q", "p"]}).json()
    assert answer["values"]["x"] == [None, None]
    assert answer["not_finite"] == {"x": {"0": "inf", "1": "nan"}}
    assert answer["statuses"] == {"v": ["present", "present"]}


def test_request_columns_are_taken_and_the_moment_is_now(client: TestClient) -> None:
    push(client, row("p", 1, 0.5))
    answer = ask(client, {"k": ["p", "z"], "factor": [4, 2.0]}, "requested").json()
    assert answer["values"]["scaled"] == [2.0, None]
    assert answer["values"]["hour"] == [NOW.hour] * 2


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_every_fault_of_a_push_is_in_the_answer(client: TestClient, tmp_path: Path) -> None:
    found = push(client, row("p", 1, 0.5), row("q", 1000) | {"n": True, "weight": 1})
    assert found.status_code == 422
    assert [(one["row"], one["field"], one["value"]) for one in found.json()["detail"]] == [
        (1, "n", "True"),
        (1, "event_timestamp", f"'{at(1000).isoformat()}'"),
        (1, "weight", "1"),
    ]
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{}", "push_source_name"),
        (b"[1]", ""),
        (b'{"push_source_name": "reports", "rows": [], "to": "online"}', "to"),
        (b'{"push_source_name": 7, "rows": []}', "push_source_name"),
        (b'{"push_source_name": "reports", "rows": [NaN]}', "rows.0"),
        (b'{"push_source_name": "reports", "rows": []}', "rows"),
        (b'{"push_source_name": "else", "rows": [{}]}', "push source"),
        (b'{"push_source_name": "reports", "rows": [', "1"),
    ],
)
def test_a_body_that_is_no_push_is_refused(client: TestClient, body: bytes, field: str) -> None:
    found = client.post("/push", content=body, headers=JSON)
    assert found.status_code == 422
    assert any(field in one["field"] for one in found.json()["detail"]), found.json()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["p", "2013-01-01"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
pushed_rows = st.lists(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["k", "x", "n", "event_timestamp", "created_timestamp"], json_values)
    ),
    max_size=2,
)
odd_bodies = st.one_of(
    json_values,
    st.fixed_dictionaries({"push_source_name": st.just(SOURCE), "rows": pushed_rows | json_values}),
    st.fixed_dictionaries({"entities": st.fixed_dictionaries({"k": st.lists(json_values, max_size=2)})}),
).map(lambda body: json.dumps(body).encode())
worst_bodies = [
    b"[" * 100_000,
    b'{"rows": ' + b"9" * 5_000 + b"}",
    b"\xff\xfe",
    b'{"entities": {"k": ["\\ud800"]}}',
    b"",
    b"null",
]


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(odd_bodies, st.sampled_from(worst_bodies), st.binary(max_size=20)),
    st.sampled_from(["/push", "/features/all"]),
)
def test_no_body_breaks_it(client: TestClient, body: bytes, path: str) -> None:
    found = client.post(path, content=body, headers=JSON)  # what the application raises would be raised here
    assert found.status_code in (200, 400, 422)
    json.loads(found.content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("entities", "told"),
    [
        ({}, "k: is missing; the service needs ['k']"),
        ({"k": ["p"], "j": [1]}, "j: is not asked for; the service needs ['k']"),
        ({"k": [1]}, "k: is no text; send a string"),
        ({"k": ["p"] * 10_001}, "entities: there are more than 10000 rows; ask several times"),
    ],
)
def test_entities_that_do_not_fit_are_refused(client: TestClient, entities: dict[str, Any], told: str) -> None:
    found = ask(client, entities)
    assert found.status_code == 422
    assert told in [f"{one['field']}: {one['problem']}" for one in found.json()["detail"]]


def test_columns_of_different_lengths_are_refused(client: TestClient) -> None:
    found = ask(client, {"k": ["p", "q"], "factor": [1.0]}, "requested")
    assert (found.status_code, found.json()["detail"][0]["problem"]) == (422, "the columns have different lengths")


def test_an_unknown_service_is_not_found(client: TestClient) -> None:
    found = ask(client, {"k": ["p"]}, "nothing")
    assert (found.status_code, found.json()) == (404, {"detail": "there is no feature service 'nothing'"})


@pytest.mark.parametrize("told", [True, False])
def test_a_body_above_the_limit_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setitem(Guard.__init__.__kwdefaults__, "most_bytes", 1_000)
    body = json.dumps({"push_source_name": SOURCE, "rows": [row("p", 1, 0.5)] * 50}).encode()
    content: Any = body if told else iter([body[:600], body[600:]])  # in pieces, without a length
    found = client.post("/push", content=content, headers=JSON)
    assert found.status_code == 413


def test_a_store_that_cannot_be_reached_is_said_and_the_push_may_be_repeated(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> int:
        raise sqlite3.OperationalError("database is locked")

    push(client, row("p", 1, 0.5))
    with monkeypatch.context() as broken:
        broken.setattr(client.app.state.server._backend, "apply", gone)  # type: ignore[attr-defined]
        found = push(client, row("p", 2, 0.75))
    assert (found.status_code, found.json()["detail"]) == (
        503,
        "a store cannot be reached (OperationalError); try again",
    )
    assert push(client, row("p", 2, 0.75)).json()["new"] == 0  # the log has it already
    assert ask(client, {"k": ["p"]}).json()["values"]["x"] == [0.75]


# -- who is let in -----------------------------------------------------------------------------------------------------

KEY = "a key"
HASHES = [hashlib.sha256(b"another").hexdigest(), hashlib.sha256(KEY.encode()).hexdigest()]


def test_with_keys_only_who_has_one_is_let_in_from_anywhere(start: Callable[..., TestClient]) -> None:
    client = start(client={"client": ("10.1.2.3", 1)}, api_keys=HASHES)
    assert push(client, row("p", 1)).status_code == 401
    assert push(client, row("p", 1), headers={"x-api-key": HASHES[1]}).status_code == 401
    assert push(client, row("p", 1), headers={"x-api-key": KEY}).status_code == 200
    assert client.get("/openapi.json").status_code == 401
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("host", "name", "status"),
    [
        ("127.0.0.1", "http://127.0.0.1", 200),
        ("127.8.0.1", "http://localhost:6566", 200),
        ("::1", "http://[::1]", 200),
        ("10.1.2.3", "http://127.0.0.1", 403),
        ("", "http://127.0.0.1", 403),
        ("127.0.0.1", "http://rebound.example", 403),  # a browser that was made to believe that this is another site
    ],
)
def test_without_keys_only_this_machine_is_served(
    start: Callable[..., TestClient], host: str, name: str, status: int
) -> None:
    client = start(client={"base_url": name, "client": (host, 1)})
    assert push(client, row("p", 1)).status_code == status
    assert client.get("/health").status_code == 200


def test_a_key_in_the_clear_is_refused(start: Callable[..., TestClient]) -> None:
    with pytest.raises(FeatureError, match="64 lower-case hex digits"):
        start(api_keys=["secret"])


def test_others_are_not_served_without_keys(client: TestClient) -> None:
    with pytest.raises(FeatureError, match=r"host '0.0.0.0' can be reached by others; set ML_ASSETS_API_KEY_HASHES"):
        serve(client.app, host="0.0.0.0")  # type: ignore[arg-type]


# -- ready, and the log ------------------------------------------------------------------------------------------------


def test_it_is_not_ready_while_a_parity_check_is_red_or_the_store_is_gone(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_backend(str(tmp_path / "online.db"), project="test")
    assert (client.get("/ready").status_code, client.get("/health").json()["status"]) == (200, "running")
    backend.tell("v", "1 of 3 stale")
    found = client.get("/ready")
    assert (found.status_code, found.json()["ready"]) == (503, False)
    assert "red for ['v']; materialize them again" in found.json()["reason"]
    backend.tell("v", "")
    assert client.get("/ready").json() == {"ready": True, "reason": ""}

    def gone() -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(client.app.state.server._backend, "verdicts", gone)  # type: ignore[attr-defined]
    assert client.get("/ready").json() == {"ready": False, "reason": "no online store: ConnectionError"}


def test_answers_are_logged_and_the_replay_finds_them_right(start: Callable[..., TestClient], tmp_path: Path) -> None:
    with start() as client:
        push(client, row("p", 1, 0.5), row("q", 2, None))
        for service, entities in [("all", {"k": ["p", "z"]}), ("requested", {"k": ["p", "q"], "factor": [2.0, 3.0]})]:
            numbers = [ask(client, entities, service).json()["request"] for _ in range(2)]
            assert len(set(numbers)) == 2
        assert client.get("/health").json()["served"]["all"] == {"written": 0, "waiting": 4, "dropped": 0, "failed": 0}
    repo = with_request(compiled(PLAIN))
    backend = open_backend(str(tmp_path / "online.db"), project="test")
    side = OnlineSide(tmp_path, repo, backend, str(tmp_path / "lake"))
    for service in ("all", "requested"):
        served = ServedLog(str(tmp_path / "lake"), service).read(most=100)
        assert served is not None
        assert served.height == 4
        outcomes = replay(side, service, served)
        assert [one.reason() for one in outcomes] == [""] * len(outcomes)
        assert [one.compared for one in outcomes] == [4] * len(outcomes)


def test_only_the_sampled_share_is_logged(start: Callable[..., TestClient], tmp_path: Path) -> None:
    for sampled, most in [(0.0, 0), (0.5, 35)]:
        with start(sampled=sampled) as client:
            for _ in range(40):
                ask(client, {"k": ["p"]})
            waiting = client.get("/health").json()["served"]["all"]["waiting"]
        assert (waiting > 0) is (sampled > 0)
        assert waiting <= most


def test_a_log_that_cannot_be_written_disturbs_nobody(
    start: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FLUSH_EVERY", 0.01)
    monkeypatch.setattr(ServedLog, "due", lambda self: True)
    written, times = DayFiles.write, []

    def shaky(self: DayFiles, *given: Any, **how: Any) -> bool:
        times.append(1)
        if len(times) < 3:
            raise OSError("disk full")
        return written(self, *given, **how)

    with start() as client:
        push(client, row("p", 1, 0.5))
        monkeypatch.setattr(DayFiles, "write", shaky)
        assert ask(client, {"k": ["p"]}).status_code == 200
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not client.get("/health").json()["served"]["all"]["written"]:
            time.sleep(0.02)
        assert client.get("/health").json()["served"]["all"] == {"written": 1, "waiting": 0, "dropped": 0, "failed": 2}


def test_what_was_pushed_on_past_days_is_merged_while_it_runs(
    start: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPACT_EVERY", 0.01)
    with start() as client:
        for number in range(3):
            push(client, row("p", number, float(number)))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not list((tmp_path / "lake").rglob("merged-*")):
            time.sleep(0.02)
    assert len(list((tmp_path / "lake").rglob("merged-*"))) >= 1
    logged = PushLog(str(tmp_path / "lake"), "features/v").scan()
    assert logged is not None
    assert sorted(logged.collect()["x"]) == [0.0, 1.0, 2.0]


def test_pushes_and_questions_at_once(client: TestClient, tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number % 2:
            return int(ask(client, {"k": ["p"]}).status_code)
        return int(push(client, row("p", number, float(number))).status_code)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(40))) == {200}
    assert ask(client, {"k": ["p"]}).json()["values"]["x"] == [38.0]


def test_the_interface_is_described_with_examples(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/push", "/features/{service}", "/health", "/ready"}
    schemas = described["components"]["schemas"]
    for body in ("PushBody", "FeaturesBody", "PushAnswer", "FeaturesAnswer", "FaultAnswer"):
        assert all(item["examples"] for item in schemas[body]["properties"].values()), body
    assert {"413", "422", "503"} <= set(described["paths"]["/push"]["post"]["responses"])


# -- as a process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_keeps_what_it_acknowledged(tmp_path: Path, how: signal.Signals) -> None:
    import httpx

    context, port = multiprocessing.get_context("forkserver"), free_port()
    context.set_forkserver_preload(["ml_assets_tests.features.pushing"])
    process = context.Process(target=serving, args=(tmp_path, port))
    process.start()
    try:
        with httpx.Client(base_url=f"http://{HOST}:{port}", trust_env=False) as client:
            wait_until_running(client)
            body = {"push_source_name": SOURCE, "rows": [row("p", 1, 0.5)]}
            assert client.post("/push", json=body).json()["new"] == 1
            assert client.post("/features/all", json={"entities": {"k": ["p"]}}).json()["values"]["x"] == [0.5]
    finally:
        assert process.pid
        os.kill(process.pid, how)
        process.join(20)
    logged = PushLog(str(tmp_path / "lake"), "features/v").scan()
    assert logged is not None
    assert logged.collect()["x"].to_list() == [0.5]
    served = ServedLog(str(tmp_path / "lake"), "all").read(most=9)
    assert (served is not None) is (how == signal.SIGTERM)  # ended in order, it writes what it has


def wait_until_running(client: Any) -> None:
    import httpx

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.get("/health").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("the server did not start")
