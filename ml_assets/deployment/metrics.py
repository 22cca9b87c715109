"""What the serving API tells Prometheus. Counts are kept as requests come; what has a state is asked when it is scraped.

prometheus_client is imported at the top; only servers import this module.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from ml_assets.deployment.engine import Engine

LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LOG_STATES = ("spooled", "landed", "dropped", "damaged")
NAMES = (
    "ml_assets_requests_total",
    "ml_assets_request_seconds",
    "ml_assets_answered_rows_total",
    "ml_assets_incomplete_rows_total",
    "ml_assets_model_info",
    "ml_assets_model_in_office",
    "ml_assets_model_age_seconds",
    "ml_assets_bundles_refused",
    "ml_assets_registry_failing",
    "ml_assets_trial_stopped",
    "ml_assets_feature_age_seconds",
    "ml_assets_log_rows_total",
    "ml_assets_log_waiting_rows",
    "ml_assets_log_failing",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
)
"""Every name that a board may build on; the histogram has its `_bucket`, `_sum` and `_count`."""


class Metrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, engine: Engine, *, ages: Callable[[], Mapping[str, float]] = dict) -> None:
        """`ages` tells by view the seconds since the newest feature value that was answered was true."""
        self.registry = CollectorRegistry()
        how: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter("ml_assets_requests", "Requests by route and status.", ["route", "status"], **how)
        self._seconds = Histogram(
            "ml_assets_request_seconds", "Seconds until a request was answered.", ["route"], buckets=LATENCIES, **how
        )
        self._rows = Counter("ml_assets_answered_rows", "Rows answered by the model of each arm.", ["arm"], **how)
        self.incomplete = Counter(
            "ml_assets_incomplete_rows", "Rows answered although a view had nothing for their entity.", **how
        )
        # Looking a label up takes 2 µs, several times a request; there are few routes, statuses and arms.
        self._rows_of = cache(self._rows.labels)
        self._requests_of = cache(lambda route, status: self._requests.labels(route, str(status)))
        self._seconds_of = cache(self._seconds.labels)
        ProcessCollector(registry=self.registry)
        self.registry.register(_State(engine, ages))

    def answered(self, rows: int, arm: str) -> None:
        """Count answered rows."""
        self._rows_of(arm).inc(rows)

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests_of(route, status).inc()
        self._seconds_of(route).observe(seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """What is asked of the engine at each scrape."""

    def __init__(self, engine: Engine, ages: Callable[[], Mapping[str, float]]) -> None:
        self._engine, self._ages = engine, ages

    def describe(self) -> list[Metric]:
        """Name nothing: the engine is not to be asked before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        state = self._engine.state()
        yield from _model(state)
        yield _gauge("ml_assets_bundles_refused", "Versions that were refused.", len(state["refused"]))
        yield _gauge("ml_assets_registry_failing", "1 while the registry cannot be read.", bool(state["registry"]))
        stopped = bool((state["trial"] or {}).get("stopped"))
        yield _gauge("ml_assets_trial_stopped", "1 when the challenger's trial was stopped.", stopped)
        ages = GaugeMetricFamily(
            "ml_assets_feature_age_seconds", "Age of the newest feature value that was answered.", labels=["view"]
        )
        for view, age in self._ages().items():
            ages.add_metric([view], age)
        yield ages
        yield from _log(state["log"] or {})


def _model(state: Mapping[str, Any]) -> Iterator[Metric]:
    model = state["model"]
    yield _gauge("ml_assets_model_in_office", "1 when there is a model that answers.", model is not None)
    if model:
        told = {name: str(model[name]) for name in ("version", "digest", "data_hash")}
        yield InfoMetricFamily("ml_assets_model", "The model in office.", value={"problem": state["problem"], **told})
        age = "Seconds since this process took the model up."
        yield _gauge("ml_assets_model_age_seconds", age, model["seconds_in_service"])


def _log(log: Mapping[str, Any]) -> Iterator[Metric]:
    rows = CounterMetricFamily(
        "ml_assets_log_rows", "Rows of the prediction log by what became of them.", labels=["state"]
    )
    for state in LOG_STATES:
        rows.add_metric([state], log.get(state, 0))
    yield rows
    yield _gauge("ml_assets_log_waiting_rows", "Rows that wait in memory.", log.get("waiting", 0))
    failing = GaugeMetricFamily("ml_assets_log_failing", "1 while the log cannot be written there.", labels=["place"])
    for place in ("disk", "lake"):
        failing.add_metric([place], place in log.get("failing", {}))
    yield failing


def _gauge(name: str, told: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, told, value=float(value))


class Counted:
    """Counts every request around an application, also those that are refused before they reach it. Plain ASGI."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Collection[str]) -> None:
        """Paths that are none of `routes` count as one: nobody can make the metrics grow."""
        self._app, self._metrics, self._routes = app, metrics, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the application, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.requested(route, status, time.perf_counter() - began)
