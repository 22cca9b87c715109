"""Whether what serves is healthy: the real API on loopback, one fault at a time; and without an address, the log."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.deployment.api import create_app
from ml_assets.deployment.metrics import NAMES
from ml_assets.lake import Lake
from ml_assets.monitoring.scraping import Scrape, kept, last_series, scrape
from ml_assets.monitoring.serving_health import (
    QUANTILES,
    STATES,
    ServerHealth,
    ServingPolicy,
    at_least,
    health,
    hours_markdown,
    latency_plot,
    logged_hours,
    serving_healthy,
    serving_markdown,
)
from ml_assets.resources.clock import Clock
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.deployment.api_samples import ROW, SmallEngine, hashed, in_office

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = ServingPolicy()
ADDRESS = "http://127.0.0.1:8000/metrics"
Told = dict[tuple[str, str], float]


# -- the real API ------------------------------------------------------------------------------------------------------


class Server:
    """The API over a small engine on a free port of loopback; it lets in who knows the key."""

    def __init__(self) -> None:
        self.engine, self.port = SmallEngine(in_office()), free_port()
        app = create_app(self.engine, api_keys=[hashed("a key")])
        config = uvicorn.Config(app, host=HOST, port=self.port, log_level="critical", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}/metrics"

    def ask(self, rows: object, times: int = 1) -> None:
        body, told = json.dumps({"rows": rows}).encode(), {"x-api-key": "a key", "content-type": "application/json"}
        request = urllib.request.Request(f"http://{HOST}:{self.port}/predict", body, told)
        for _ in range(times):
            with suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:
                answer.read()

    def sample(self) -> Scrape:
        return scrape(self.address, now=Clock().now(), api_key="a key")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.stop()


def test_the_real_api_is_sampled_twice_and_what_happened_between_is_told(server: Server) -> None:
    server.ask([ROW], 3)
    first = server.sample()
    assert not first.fault and {name for name, _ in first.series} >= set(NAMES) - {
        "ml_assets_request_seconds",  # its parts
        "ml_assets_feature_age_seconds",  # no online features here
    }
    at_first = health(first, None, POLICY)
    assert (at_first.requests, at_first.rows, at_first.faults) == (3, 3, ())  # since the server's start
    server.ask([ROW, ROW], 5)
    server.ask("no rows", 2)
    samples = kept(None, [first])
    found = health(server.sample(), last_series(samples, server.address), POLICY)
    assert (found.requests, found.rows, found.errors, found.refused) == (7, 10, 0, 2)
    assert found.latencies and all(0 < (found.latencies[name] or 0) < 5 for name in QUANTILES)
    assert found.memory and found.memory > 1e7 and found.cpu is not None and found.rate
    passed, reason = serving_healthy([found], {}, POLICY)
    assert passed and "up, 7 requests, too few to judge their speed" in reason
    assert server.address in serving_markdown([found])


def test_a_real_server_without_a_model_or_a_key_is_not_healthy(server: Server) -> None:
    assert scrape(server.address, now=NOW).fault.startswith("answers 401")
    server.engine.current = None
    server.engine.told = {"registry": {"since": "now", "reason": "gone"}, "log": {"dropped": 4}}
    found = health(server.sample(), None, POLICY)
    assert found.faults == (
        "4 rows of the log were dropped",
        "the registry cannot be read",
        "no model is in office",
    )
    server.stop()
    gone = health(server.sample(), None, POLICY)
    assert "does not answer" in gone.faults[0] and not serving_healthy([gone], {}, POLICY)[0]


# -- one fault at a time -----------------------------------------------------------------------------------------------


def told(ok: float = 1000, errors: float = 0, slow: float = 0, *, uptime: float = 3600, **gauges: float) -> Told:
    """Return what a server tells after so many requests, the slow ones of 0.2 to 0.5 s."""
    found: Told = {("ml_assets_model_in_office", "{}"): 1.0}
    total = ok + errors
    for status, count in (("200", ok), ("500", errors)):
        found["ml_assets_requests_total", json.dumps({"route": "/predict", "status": status})] = count
    for bound, count in (("0.2", total - slow), ("0.5", total), ("+Inf", total)):
        found["ml_assets_request_seconds_bucket", json.dumps({"le": bound, "route": "/predict"})] = count
    found["process_start_time_seconds", "{}"] = NOW.timestamp() - uptime
    return found | {(name, "{}"): value for name, value in gauges.items()}


def judged(series: Mapping[Any, float], before: Told | None = None, **policy: float) -> ServerHealth:
    earlier = (NOW - timedelta(hours=1), before) if before is not None else None
    return health(Scrape(ADDRESS, NOW, series), earlier, replace(POLICY, **policy))


def test_a_server_that_does_well_is_healthy() -> None:
    assert judged(told()).faults == ()
    assert serving_healthy([judged(told())], {}, POLICY) == (True, f"{ADDRESS}: up, 1,000 requests")


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (told(ok=950, errors=50), "50 of 1,000 answers are errors (5xx), 0.01 is allowed"),
        (told(ok=0, errors=3), "3 of 3 answers are errors"),
        (told(slow=100), "the slowest of 100 take 470 ms and more, 250 ms are allowed"),
        (told(ml_assets_registry_failing=1), "the registry cannot be read"),
        (told(ml_assets_trial_stopped=1), "the challenger's trial was stopped"),
        (told(ml_assets_bundles_refused=2), "versions were refused"),
        (told(ml_assets_model_in_office=0), "no model is in office"),
        (told() | {("ml_assets_log_rows_total", '{"state": "dropped"}'): 2}, "2 rows of the log were dropped"),
        (told() | {("ml_assets_log_rows_total", '{"state": "damaged"}'): 1}, "1 files of the log could not be read"),
        (told() | {("ml_assets_log_failing", '{"place": "lake"}'): 1}, "the log cannot be written"),
    ],
)
def test_each_fault_is_named(series: Told, said: str) -> None:
    (fault,) = judged(series).faults
    assert fault.startswith(said)
    passed, reason = serving_healthy([judged(told()), judged(series)], {}, POLICY)
    assert not passed and reason == f"{ADDRESS}: {fault}"


def test_every_state_is_a_name_that_the_api_tells() -> None:
    assert set(STATES) <= set(NAMES)


@pytest.mark.parametrize(
    "series",
    [
        told(ok=999, errors=1),
        told(ok=49, errors=1),  # one of fifty may be chance
        told(ok=99, slow=90),  # fewer than a hundred have no 99th percentile
        told() | {("ml_assets_requests_total", '{"route": "/ready", "status": "503"}'): 900.0},  # a probe
        told() | {("ml_assets_request_seconds_bucket", '{"le": "+Inf", "route": "/metrics"}'): 9e9},
        told() | {("ml_assets_log_rows_total", '{"state": "landed"}'): 9e9},
    ],
)
def test_what_is_no_fault_stays_silent(series: Told) -> None:
    assert judged(series).faults == ()


def test_what_was_before_the_last_sample_is_over() -> None:
    bad = told(ok=900, errors=100, slow=500) | {("ml_assets_log_rows_total", '{"state": "dropped"}'): 7.0}
    assert judged(bad).faults
    after = {key: value + (1000 if '"200"' in key[1] else 0) for key, value in bad.items()}
    assert judged(after, bad).faults == ()
    assert judged(after, bad).requests == 1000


def test_a_server_that_began_anew_counts_from_its_start() -> None:
    found = judged(told(ok=120, uptime=60), told(ok=90_000))
    assert (found.requests, found.seconds, found.rate) == (120, 60, 2.0)


def test_nothing_that_was_asked_is_no_error() -> None:
    same = told()
    found = judged(same, same)
    assert (found.requests, found.faults) == (0, ())
    assert found.latencies == dict.fromkeys(QUANTILES)


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_lower_end_of_a_share_is_below_it_and_rises_with_the_evidence(events: int, of: int) -> None:
    events = min(events, of)
    assert 0 <= at_least(events, of) <= events / of + 1e-12
    assert at_least(events, of) <= at_least(10 * events, 10 * of) + 1e-12


def test_latencies_over_time_are_drawn() -> None:
    samples = None
    for hour in range(4):
        at = NOW + timedelta(hours=hour)
        samples = kept(samples, [Scrape(ADDRESS, at, told(ok=1000 * (hour + 1), slow=5 * hour))])
    assert samples is not None
    drawn = latency_plot(samples, limit=0.25)
    assert drawn.startswith(b"\x89PNG") and drawn != latency_plot(samples.clear(), limit=0.25)


# -- the log -----------------------------------------------------------------------------------------------------------


def logged(
    lake: Lake, milliseconds: float, *, requests: int = 120, arm: str = "champion", day: str | None = None
) -> None:
    """Write served predictions: two rows a request, one request a minute."""
    moments = [NOW + timedelta(minutes=number // 2) for number in range(2 * requests)]
    frame = pl.DataFrame(
        {
            "_request": [f"r{number // 2}" for number in range(2 * requests)],
            "_arm": arm,
            "event_timestamp": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            "_milliseconds": milliseconds,
        }
    )
    lake.write("p/served_predictions", frame, written_at=NOW, partition=day)


@pytest.mark.parametrize("day", [None, "2026-01-01"])
def test_without_an_address_the_log_tells_latency_and_throughput(tmp_path: Path, day: str | None) -> None:
    lake = Lake(str(tmp_path))
    logged(lake, 20.0, day=day)
    found = logged_hours(lake, "p/served_predictions")
    assert found["hour"].to_list() == [NOW, NOW + timedelta(hours=1)]
    assert found["requests"].to_list() == [60, 60] and found["rows"].to_list() == [120, 120]
    assert found["p99"].to_list() == [0.02, 0.02]
    assert serving_healthy([], {"p": found}, POLICY) == (
        True,
        "no address is declared; the log of p has no slow hour, errors are not known",
    )
    assert "| p | 2026-01-01 00:00 | 60 | 120 | 20 |" in hours_markdown({"p": found})


def test_a_slow_hour_of_the_log_is_named(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    logged(lake, 400.0)
    found = {"p": logged_hours(lake, "p/served_predictions")}
    assert serving_healthy([], found, POLICY)[0]  # 60 requests an hour are too few
    passed, reason = serving_healthy([], found, replace(POLICY, requests=50))
    assert not passed and reason == "p: 1 of 100 took 400 ms and more in 01 h, 250 ms are allowed"


def test_shadows_and_an_empty_log_are_nothing_that_was_served(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert logged_hours(lake, "p/served_predictions").is_empty()
    logged(lake, 20.0, arm="shadow")
    found = logged_hours(lake, "p/served_predictions")
    assert found.is_empty()
    passed, reason = serving_healthy([], {"p": found}, POLICY)
    assert passed and reason.startswith("not applicable: no address in ML_ASSETS_SERVING_METRICS")
