"""What is pulled from an API: pages, key, limits and failures; and the replayed weather is what was recorded."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest

from ml_assets import keys
from ml_assets.collection import apis
from ml_assets.collection.apis import Api
from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import LANDED_AT, SourceContract
from ml_assets.collection.pull import PullError, pull
from ml_assets.quality.contract import ColumnContract
from ml_assets.replay.api import Weather, weather_service
from ml_assets.replay.world import World, delivered_at
from ml_assets.resources.clock import Clock
from ml_assets_tests.collection.outside import declared, open_places

NOW = datetime(2024, 3, 10, 6, tzinfo=UTC)
COLUMNS = [
    ColumnContract(name="id", dtype="Int64"),
    ColumnContract(name="at", dtype="Datetime"),
    ColumnContract(name="value", dtype="Float64", nullable=True, sparse=True),
]
READINGS = SourceContract("readings", "readings/readings-{day}*", COLUMNS, key=["id"], days="2024-03-01/")
AUTH = {"type": "api_key", "name": "X-API-Key", "location": "header", "api_key": "hush"}
ROWS = [{"id": number, "at": f"2024-03-{1 + number // 4:02}T10:00:00Z", "value": number / 2} for number in range(10)]

Answer = tuple[int, Any, dict[str, str]]


class Readings:
    """A service that gives `rows` three at a time, after the answers that it was told to give first."""

    def __init__(self) -> None:
        self.rows: list[Any] = list(ROWS)
        self.first: list[Answer | str] = []
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def answer(self, asked: dict[str, str], key: str | None) -> Answer | str:
        self.asked.append(asked)
        if self.first:
            return self.first.pop(0)
        if key != "hush":
            return 401, {"error": "who are you?"}, {}
        page, since = int(asked.get("page", 0)), asked.get("since", "")
        rows = [row for row in self.rows if not isinstance(row, dict) or str(row.get("at")) >= since]
        more = f"{self.url}/readings?page={page + 1}&since={since}" if 3 * page + 3 < len(rows) else None
        return 200, {"data": rows[3 * page : 3 * page + 3], "next": more}, {}


@contextmanager
def serving(service: Readings) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = service.answer(dict(parse_qsl(urlsplit(self.path).query)), self.headers.get("X-API-Key"))
            status, body, headers = (200, {"data": []}, {"Content-Length": "1000"}) if isinstance(found, str) else found
            self.send_response(status)
            data = json.dumps(body).encode()
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service() -> Iterator[Readings]:
    found = Readings()
    with serving(found):
        yield found


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def readings(service: Readings, **options: Any) -> Api:
    how: dict[str, Any] = {
        "paginator": {"type": "json_link", "next_url_path": "next"},
        "data_selector": "data",
        "auth": AUTH,
        "key_env": "READINGS_KEY",
        "cursor": "at",
        "start_param": "since",
    }
    return Api(service.url, "readings", **how | options)


def ids(places: Landing) -> list[int]:
    return places.lake.read("raw/readings").sort("id")["id"].to_list()


def test_all_pages_end_in_raw_by_day(service: Readings, places: Landing) -> None:
    pulled = pull(readings(service), READINGS, places, now=NOW)
    assert (pulled.rows, pulled.requests, pulled.cursor) == (10, 4, "2024-03-03T10:00:00Z")
    assert pulled.days == ["2024-03-01", "2024-03-02", "2024-03-03"]
    collect(READINGS, places, now=NOW)
    assert ids(places) == list(range(10))
    assert places.lake.read("raw/readings").sort("id")["value"].to_list() == [row["value"] for row in ROWS]


def test_the_next_pull_asks_from_the_cursor_on(service: Readings, places: Landing) -> None:
    pull(readings(service), READINGS, places, now=NOW)
    service.asked.clear()
    service.rows.append({"id": 10, "at": "2024-03-03T12:00:00Z"})  # without a value
    pulled = pull(readings(service), READINGS, places, now=NOW)
    assert (service.asked[0]["since"], pulled.days, len(pulled.files)) == ("2024-03-03T10:00:00Z", ["2024-03-03"], 1)
    collect(READINGS, places, now=NOW)
    assert ids(places) == list(range(11))


def test_a_lag_asks_from_before_it(service: Readings, places: Landing) -> None:
    for _ in range(2):
        pull(readings(service, lag=3600), READINGS, places, now=NOW)
    assert service.asked[-1]["since"] == "2024-03-03T09:00:00Z"


@pytest.mark.parametrize(
    "first",
    [
        [(429, {}, {"Retry-After": "0"})] * 2,
        [(503, {}, {}), (500, {}, {})],
        ["a connection that is cut off"],
    ],
    ids=["429", "503", "cut off"],
)
def test_failures_are_tried_again(
    service: Readings, places: Landing, first: list[Answer | str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "MOST_WAIT", 0.01)
    service.first = list(first)
    assert pull(readings(service), READINGS, places, now=NOW).rows == 10
    assert len(service.asked) == 4 + len(first)


def test_retry_after_is_heard(service: Readings, places: Landing) -> None:
    service.first = [(429, {}, {"Retry-After": "1"})]
    started = Clock().now()
    pull(readings(service), READINGS, places, now=NOW)
    assert Clock().now() - started >= timedelta(seconds=1)


def test_tries_end(service: Readings, places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "MOST_WAIT", 0.01)
    service.first = [(503, {}, {})] * 100
    with pytest.raises(PullError, match=r"/readings: answered 503; see that it answers"):
        pull(readings(service), READINGS, places, now=NOW)
    assert len(service.asked) == apis.MOST_TRIES
    monkeypatch.setattr(apis, "MOST_FAILURES", 2)
    with pytest.raises(PullError, match="answered 503"):
        pull(readings(service), READINGS, places, now=NOW)
    assert len(service.asked) == apis.MOST_TRIES + 3
    assert places.landing.names() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auth": AUTH | {"api_key": "wrong"}}, r"answered 401; set the key in environment variable READINGS_KEY"),
        ({"auth": None, "key_env": None}, r"answered 401; declare its `auth`"),
        ({"base_url": "http://127.0.0.1:1"}, r"http://127.0.0.1:1/readings: ConnectionError.*see that it answers"),
        ({"base_url": "http://127.0.0.1:1", "auth": AUTH | {"location": "query"}}, r"ConnectionError.*\*\*\*"),
        ({"data_selector": "data[*].id"}, r"a row is no object but int; correct `data_selector`"),
    ],
    ids=["wrong key", "no key", "nobody answers", "key in the address", "no objects"],
)
def test_what_is_wrong_outside_is_told_without_the_key(
    service: Readings, places: Landing, change: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apis, "MOST_WAIT", 0.01)
    with pytest.raises(PullError, match=reason) as raised:
        pull(replace(readings(service), **change), READINGS, places, now=NOW)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    "first",
    [
        (200, {"data": [], "next": "http://localhost:1/readings"}, {}),
        (302, {}, {"Location": "http://localhost:1/readings"}),
    ],
    ids=["next page", "redirect"],
)
def test_the_key_goes_to_no_other_host(service: Readings, places: Landing, first: Answer) -> None:
    service.first = [first]
    with pytest.raises(PullError, match=r"/readings: it sends on to localhost:1, which shall not see the key$"):
        pull(readings(service), READINGS, places, now=NOW)


@pytest.mark.parametrize(
    ("row", "day", "reason"),
    [
        ({"value": "much"}, "2024-03-04", "column value: 1 values are not Float64, such as 'much' in line 1"),
        ({"extra": 1}, "2024-03-04", r"unknown columns \['extra'\]"),
        ({"at": "soon"}, "0000-00-00", "'0000-00-00' in the name is not a day"),
        ({"at": None}, "0000-00-00", "'0000-00-00' in the name is not a day"),
    ],
    ids=["wrong type", "unknown column", "no moment", "null"],
)
def test_rows_that_do_not_fit_are_quarantined_with_the_reason(
    service: Readings, places: Landing, row: dict[str, Any], day: str, reason: str
) -> None:
    service.rows.append({"id": 11, "at": "2024-03-04T10:00:00Z", "value": 1.0} | row)
    pulled = pull(readings(service), READINGS, places, now=NOW)
    (name,) = pulled.unfit
    assert name.startswith(f"readings/readings-{day}.")
    (held,) = collect(READINGS, places, now=NOW).with_status("quarantined")
    assert (held.name, pulled.cursor) == (name, None)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(held.reason)
    assert ids(places) == list(range(10))


def test_a_row_belongs_to_the_day_of_its_moment_in_utc(service: Readings, places: Landing) -> None:
    service.rows = [{"id": 1, "at": "2024-03-01T22:00:00-05:00", "value": None}]
    assert pull(readings(service), READINGS, places, now=NOW).days == ["2024-03-02"]


# -- the replayed weather ------------------------------------------------------------------------------------------------

DAYS = keys.days("2013-01-01", "2013-01-20")


@pytest.fixture
def weather(places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The replay's clock, while the weather service stands at the sixth of January."""
    for name, place in {"LANDING": "landing", "REPLAY_CLOCK": "clock"}.items():
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(tmp_path / place))
    monkeypatch.delenv("ML_ASSETS_WEATHER_API")
    monkeypatch.setenv("ML_ASSETS_WEATHER_KEY", "for-the-test")
    clock = Clock(tmp_path / "clock")
    clock.set(delivered_at(date(2013, 1, 6)))
    World(places.landing).deliver_days([date.fromisoformat(day) for day in DAYS], ["flights"])
    with weather_service(tmp_path, port=0):
        yield clock


def recorded(places: Landing, days: list[str]) -> pl.DataFrame:
    world = World(places.landing)
    return pl.concat(world.rows("weather", date.fromisoformat(day)) for day in days).sort("time_hour", "origin")


def test_the_weather_in_raw_is_what_was_recorded(weather: Clock, places: Landing) -> None:
    source = declared("weather")
    contract = source.contract()
    for until in (6, 20):
        if until > 6:
            weather.set(delivered_at(date(2013, 1, until)))
        pulled = source.pulled
        assert pulled is not None
        pull(pulled.opened(), contract, places, now=weather.now())
        done = collect(contract, places, now=weather.now())
        assert {entry.status for entry in done.entries} == {"ingested"}
        found = places.lake.read("raw/weather").drop(LANDED_AT).sort("time_hour", "origin")
        assert found.equals(
            recorded(places, DAYS[:until]).select(pl.col(name).cast(kind) for name, kind in found.schema.items())
        )


def test_the_weather_service_wants_its_key_and_has_its_moods(places: Landing, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    clock.set(delivered_at(date(2013, 1, 20)))
    World(places.landing).deliver_days([date(2013, 1, 20)], ["flights"])
    server = Weather(World(places.landing), clock=clock, key="k")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    weather = declared("weather")
    assert weather.api is not None
    api = Api(server.url, weather.api.path, {"limit": 100}, weather.api.paginator, "rows", AUTH | {"api_key": "k"})
    by_key = replace(weather.contract(), pattern="weather/weather*", days=None)
    assert pull(api, by_key, places, now=clock.now()).rows == recorded(places, DAYS).height
    assert server.answered.keys() == {200, 429, 503}
    with pytest.raises(PullError, match="answered 401"):
        pull(replace(api, auth=AUTH), by_key, places, now=clock.now())
    server.shutdown()
    server.server_close()


def test_a_service_that_the_environment_names_is_not_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for named in ("http://elsewhere/v1", "none"):
        monkeypatch.setenv("ML_ASSETS_WEATHER_API", named)
        with weather_service(tmp_path) as url:
            assert url == named


def test_a_port_that_is_taken_is_told(tmp_path: Path, weather: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = urlsplit(os.environ["ML_ASSETS_WEATHER_API"]).port
    assert taken
    monkeypatch.delenv("ML_ASSETS_WEATHER_API")
    with (
        pytest.raises(ValueError, match=f"port {taken} on 127.0.0.1 is taken; end what"),
        weather_service(tmp_path, port=taken),
    ):
        pass
    monkeypatch.setenv("ML_ASSETS_WEATHER_API", f"http://127.0.0.1:{taken}/v1")
