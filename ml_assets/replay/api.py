"""The weather service of the example, replayed: a REST API on loopback, with a key, pages, and the moods of a real one.

It gives a day's rows from noon of the day after, by the replay's clock, and none after the last day whose flights have
been delivered: that is where the outside world stands. Of its answers a fixed share is 429 or 503.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import polars as pl

from ml_assets.lake import Store
from ml_assets.replay.world import World, delivered_at
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import NONE, setting

HOST, PORT = "127.0.0.1", 8013
ADDRESS, KEY = "ML_ASSETS_WEATHER_API", "ML_ASSETS_WEATHER_KEY"
DEMO_KEY = "demo"  # no secret: it opens recorded weather on loopback
PATH = "/v1/observations"
LIMIT, MOST = 1000, 5000  # rows of a page
BUSY, BROKEN = 9, 14  # every so many answers one says "too many", or fails
BUSY_SECONDS = 1


class Weather(ThreadingHTTPServer):
    """The service; `port` 0 is a free one. `answered` counts its answers by status."""

    daemon_threads = True

    def __init__(self, world: World, *, clock: Clock, key: str, port: int = 0) -> None:
        """It listens at once, and answers when `serve_forever` runs."""
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise ValueError(
                f"port {port} on {HOST} is taken; end what listens there, or set {ADDRESS} to the service's address, or to {NONE}"
            ) from error
        self.world, self.clock, self.key = world, clock, key
        self.answered: dict[int, int] = {}
        self.asked = 0

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://{HOST}:{self.server_port}/v1"

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Return all recorded rows in order of time, with the moment from which each is given."""
        found = pl.read_parquet(self.world.sample / "weather.parquet").sort("time_hour", "origin")
        published = [delivered_at(date(*day)) for day in found.select("year", "month", "day").iter_rows()]
        hours = pl.col("time_hour").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return found.with_columns(hours, pl.Series("published", published, pl.Datetime(time_zone="UTC")))

    def page(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the rows that are published and not before `since`, and the address of the next one."""
        limit, offset = min(int(asked.get("limit", LIMIT)), MOST), int(asked.get("offset", 0))
        until = min(self.clock.now(), delivered_at(self.world.last_day() or date.min))
        given = self.rows.filter(pl.col("published") <= until, pl.col("time_hour") >= asked.get("since", ""))
        rows = given.slice(offset, limit).drop("published").to_dicts()
        more = dict(asked) | {"limit": limit, "offset": offset + limit}
        return {"rows": rows, "next": f"{PATH}?{urlencode(more)}" if offset + limit < given.height else None}


class _Handler(BaseHTTPRequestHandler):
    server: Weather

    def do_GET(self) -> None:
        """Answer."""
        place = urlsplit(self.path)
        if place.path != PATH:
            return self._answer(404, {"error": f"no such place; ask for {PATH}"})
        if self.headers.get("X-API-Key") != self.server.key:
            return self._answer(401, {"error": "the header X-API-Key has no valid key"})
        self.server.asked += 1
        if self.server.asked % BUSY == 0:
            return self._answer(429, {"error": "too many requests"}, {"Retry-After": str(BUSY_SECONDS)})
        if self.server.asked % BROKEN == 0:
            return self._answer(503, {"error": "out of order"})
        return self._answer(200, self.server.page({name: found[-1] for name, found in parse_qs(place.query).items()}))

    def _answer(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.server.answered[status] = self.server.answered.get(status, 0) + 1
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@contextmanager
def weather_service(root: Path, *, port: int = PORT) -> Iterator[str]:
    """Serve the weather of the replay at `root` while the block runs, and tell this process and its children where.

    Gives the base URL; where the environment names another service, or none, that one, and nothing is served.
    """
    if named := os.environ.get(ADDRESS):
        yield named
        return
    key = os.environ.setdefault(KEY, DEMO_KEY)
    world = World(Store(setting("ML_ASSETS_LANDING", root)))
    server = Weather(world, clock=Clock(setting("ML_ASSETS_REPLAY_CLOCK", root)), key=key, port=port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    os.environ[ADDRESS] = server.url
    try:
        yield server.url
    finally:
        os.environ.pop(ADDRESS, None)
        server.shutdown()
        server.server_close()
        thread.join()
