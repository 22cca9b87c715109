"""Whether what serves is healthy, from samples of its metrics: requests, errors, latencies, memory, and what it says of itself.

Where no address is declared, the log of predictions tells latency and throughput by hour, and nothing of errors.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any

import polars as pl

from ml_assets.deployment.prediction_log import ARM, MILLISECONDS, MOMENT, REQUEST
from ml_assets.evaluation.report import number, table
from ml_assets.lake import Lake
from ml_assets.monitoring.scraping import TIME, Scrape, Series, histogram_quantile, increases
from ml_assets.tasks import drawing

PROBES = ("/health", "/ready", "/model", "/metrics")
"""Routes that answer nobody's question: a probe's 503 is no error, and its speed no latency."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
REQUESTS, SECONDS, ROWS, LOG = (
    "ml_assets_requests",
    "ml_assets_request_seconds",
    "ml_assets_answered_rows",
    "ml_assets_log",
)


@dataclass(frozen=True)
class ServingPolicy:
    """When a server is not healthy.

    errors: share of answers that are 5xx, by the lower end of its 95 % interval, so that one of fifty says nothing yet.
    p99: seconds in which 99 of 100 are answered, asked of at least `requests`: fewer have no 99th percentile.
    timeout: seconds that a scrape may take altogether.
    """

    errors: float = 0.01
    p99: float = 0.25
    requests: int = 100
    timeout: float = 5.0


@dataclass(frozen=True)
class ServerHealth:
    """What is known of one server since its last sample (or its start, at the first one), and what is wrong with it.

    `seconds` is the time between; rates are by second, latencies in seconds, memory in bytes, `cpu` in cores.
    """

    address: str
    faults: tuple[str, ...]
    seconds: float | None = None
    requests: float | None = None
    errors: float | None = None
    refused: float | None = None
    rows: float | None = None
    latencies: Mapping[str, float | None] | None = None
    memory: float | None = None
    cpu: float | None = None

    @property
    def rate(self) -> float | None:
        """Return the requests by second."""
        return self.requests / self.seconds if self.requests is not None and self.seconds else None


def health(scraped: Scrape, before: tuple[datetime, Series] | None, policy: ServingPolicy) -> ServerHealth:
    """Return what a scrape says of a server, against the sample before; at the first one, since the server's start."""
    if scraped.fault:
        return ServerHealth(scraped.address, (scraped.fault,))
    since, earlier = before or (None, {})
    grown = increases(earlier, scraped.series)
    seconds = _seconds(scraped, since)
    answered = _answered(grown)
    latencies = _latencies(grown)
    cpu = _total(grown, "process_cpu_seconds_total")
    counts = {"requests": sum(answered.values()), "errors": _statuses(answered, 5), "refused": _statuses(answered, 4)}
    faults = [*_answer_faults(counts, latencies, policy), *_log_faults(grown), *_state_faults(scraped.series)]
    return ServerHealth(
        scraped.address,
        tuple(faults),
        seconds=seconds,
        rows=_total(grown, f"{ROWS}_total"),
        latencies=latencies,
        memory=_total(scraped.series, "process_resident_memory_bytes"),
        cpu=cpu / seconds if cpu is not None and seconds else None,
        **counts,
    )


def _seconds(scraped: Scrape, since: datetime | None) -> float | None:
    began = _total(scraped.series, "process_start_time_seconds")
    up = None if began is None else max(0.0, scraped.at.timestamp() - began)
    if since is None:
        return up
    between = (scraped.at - since).total_seconds()
    return between if up is None else min(between, up)  # a server that began anew counts from its start


def _answered(grown: Series) -> dict[str, float]:
    """Return the requests that were no probes by status."""
    found = dict[str, float]()
    for (name, labels), value in grown.items():
        told = json.loads(labels)
        if name == f"{REQUESTS}_total" and told.get("route") not in PROBES:
            found[told.get("status", "")] = found.get(told.get("status", ""), 0.0) + value
    return found


def _statuses(answered: Mapping[str, float], first: int) -> float:
    return sum(value for status, value in answered.items() if status.startswith(str(first)))


def _latencies(grown: Series) -> dict[str, float | None]:
    buckets = dict[float, float]()
    for (name, labels), value in grown.items():
        told = json.loads(labels)
        if name == f"{SECONDS}_bucket" and told.get("route") not in PROBES:
            with contextlib.suppress(ValueError):
                bound = float(told.get("le", ""))
                buckets[bound] = buckets.get(bound, 0.0) + value
    return {name: histogram_quantile(quantile, buckets) for name, quantile in QUANTILES.items()}


def _total(series: Series, name: str) -> float | None:
    found = [value for (own, _), value in series.items() if own == name]
    return sum(found) if found else None


def _answer_faults(
    counts: Mapping[str, float], latencies: Mapping[str, float | None], policy: ServingPolicy
) -> list[str]:
    faults, requests, p99 = list[str](), counts["requests"], latencies["p99"]
    if requests and at_least(counts["errors"], requests) > policy.errors:
        faults.append(
            f"{counts['errors']:,.0f} of {requests:,.0f} answers are errors (5xx), {policy.errors:.2g} is allowed"
        )
    if p99 is not None and requests >= policy.requests and p99 > policy.p99:
        faults.append(f"the slowest of 100 take {1000 * p99:,.0f} ms and more, {1000 * policy.p99:,.0f} ms are allowed")
    return faults


def at_least(events: float, of: float, *, confidence: float = 0.95) -> float:
    """Return the lower end of the interval of a share (Wilson, JASA 22, 1927, one-sided): `events` of `of`."""
    z = NormalDist().inv_cdf(confidence)
    share = min(1.0, events / of)
    middle = share + z**2 / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return (middle - half) / (1 + z**2 / of)


def _log_faults(grown: Series) -> list[str]:
    rows = {
        json.loads(labels).get("state"): value for (name, labels), value in grown.items() if name == f"{LOG}_rows_total"
    }
    lost = {"dropped": "rows of the log were dropped", "damaged": "files of the log could not be read"}
    return [f"{rows[state]:,.0f} {what}" for state, what in lost.items() if rows.get(state, 0) > 0]


STATES = {
    "ml_assets_registry_failing": "the registry cannot be read",
    "ml_assets_trial_stopped": "the challenger's trial was stopped",
    "ml_assets_bundles_refused": "versions were refused",
    f"{LOG}_failing": "the log cannot be written",
}
"""Gauges that are 0 while all is well."""


def _state_faults(series: Series) -> list[str]:
    faults = [said for name, said in STATES.items() if (_total(series, name) or 0) > 0]
    return faults if _total(series, "ml_assets_model_in_office") else [*faults, "no model is in office"]


# -- the log -----------------------------------------------------------------------------------------------------------


def logged_hours(lake: Lake, table_name: str, *, last: int = 24) -> pl.DataFrame:
    """Return, of the last hours with answers, requests, rows and seconds (p50, p95, p99) from a problem's served predictions.

    Shadows answered nobody and are left out. Without partitions or rows, no rows.
    """
    live = sorted(name for name, one in lake.live(table_name).items() if one.rows and not one.red)[-last:]
    types: dict[str, Any] = {
        "hour": TIME,
        "requests": pl.UInt32,
        "rows": pl.UInt32,
        **dict.fromkeys(QUANTILES, pl.Float64),
    }
    if not live:
        return pl.DataFrame(schema=types)
    names = None if lake.manifest(table_name) else live
    answered = lake.scan(table_name, names).filter(pl.col(ARM) != "shadow")
    requests = answered.group_by(REQUEST).agg(
        pl.col(MOMENT).min(), pl.len().alias("rows"), pl.col(MILLISECONDS).first()
    )
    seconds = pl.col(MILLISECONDS) / 1000
    hours = requests.group_by(pl.col(MOMENT).dt.truncate("1h").alias("hour")).agg(
        pl.len().alias("requests"),
        pl.col("rows").sum(),
        *(seconds.quantile(quantile, "higher").alias(name) for name, quantile in QUANTILES.items()),
    )
    return hours.select(list(types)).sort("hour").tail(last).collect()


def log_faults(hours: Mapping[str, pl.DataFrame], policy: ServingPolicy) -> list[str]:
    """Return what the newest hour of each problem's log says is too slow."""
    faults = []
    for problem, found in hours.items():
        newest = found.row(-1, named=True) if found.height else None
        if newest and newest["requests"] >= policy.requests and newest["p99"] > policy.p99:
            limit = f"{1000 * policy.p99:,.0f} ms are allowed"
            faults.append(
                f"{problem}: 1 of 100 took {1000 * newest['p99']:,.0f} ms and more in {newest['hour']:%H} h, {limit}"
            )
    return faults


# -- the verdict -------------------------------------------------------------------------------------------------------


def serving_healthy(
    servers: Sequence[ServerHealth], hours: Mapping[str, pl.DataFrame], policy: ServingPolicy
) -> tuple[bool, str]:
    """Tell whether all that serves is healthy, and why. Where nothing serves, that is said; there is nothing to judge."""
    faults = [f"{one.address}: {fault}" for one in servers for fault in one.faults] + log_faults(hours, policy)
    if faults:
        return False, "; ".join(faults)
    if servers:
        return True, "; ".join(f"{one.address}: {_said(one, policy)}" for one in servers)
    known = [name for name, found in hours.items() if found.height]
    if known:
        return True, f"no address is declared; the log of {', '.join(known)} has no slow hour, errors are not known"
    return True, "not applicable: no address in ML_ASSETS_SERVING_METRICS, and nothing was answered online"


def _said(one: ServerHealth, policy: ServingPolicy) -> str:
    requests = one.requests or 0
    few = "" if requests >= policy.requests else f", too few to judge their speed ({policy.requests} are needed)"
    return f"up, {requests:,.0f} requests{few}"


def serving_markdown(servers: Sequence[ServerHealth]) -> str:
    """Return what is known of each server as a table for people."""
    head = [
        "server",
        "requests",
        "per s",
        "errors",
        "refused",
        "rows",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "memory MB",
        "cores",
    ]
    return table([*head, "what is wrong"], [_row(one) for one in servers])


def hours_markdown(hours: Mapping[str, pl.DataFrame]) -> str:
    """Return the hours of each problem's log as a table for people."""
    rows = [
        [problem, f"{one['hour']:%Y-%m-%d %H:%M}", f"{one['requests']:,}", f"{one['rows']:,}"]
        + [number(1000 * one[name]) for name in QUANTILES]
        for problem, found in hours.items()
        for one in found.to_dicts()
    ]
    return table(["problem", "hour", "requests", "rows", *(f"{name} ms" for name in QUANTILES)], rows)


def latency_plot(samples: pl.DataFrame, *, limit: float, title: str = "Serving: p99 between samples") -> bytes:
    """The milliseconds of the 99th percentile between two samples of each server, over time, with the limit; a PNG."""
    lines = {address: _history(samples, address) for address in samples["address"].unique(maintain_order=True)}
    if not any(value is not None for line in lines.values() for _, value in line):
        return drawing.sorry(title, "no two samples with requests between them")
    canvas, axes = drawing.figure(title, "", "ms")
    for color, (address, line) in zip(drawing.PALETTE, lines.items(), strict=False):
        values = [math.nan if value is None else 1000 * value for _, value in line]
        moments: list[Any] = [at for at, _ in line]
        axes.plot(moments, values, label=drawing.shorten(address), **{**drawing.DOTTED, "color": color})
    axes.axhline(1000 * limit, color=drawing.RED, linewidth=1, linestyle="--", label=f"limit {1000 * limit:g} ms")
    axes.tick_params(axis="x", labelrotation=30)
    drawing.legend(axes)
    return drawing.png(canvas)


def _history(samples: pl.DataFrame, address: str) -> list[tuple[datetime, float | None]]:
    own = samples.filter(pl.col("address") == address, pl.col("name") == f"{SECONDS}_bucket").sort("at")
    parts = own.partition_by("at", maintain_order=True)
    series = [
        {(name, labels): value for name, labels, value in part.select("name", "labels", "value").rows()}
        for part in parts
    ]
    moments = [part["at"][0] for part in parts]
    return [
        (at, _latencies(increases(before, after))["p99"])
        for at, before, after in zip(moments[1:], series, series[1:], strict=False)
    ]


def _row(one: ServerHealth) -> list[str]:
    counts = [one.requests, one.rate, one.errors, one.refused, one.rows]
    times = [None if (value := (one.latencies or {}).get(name)) is None else 1000 * value for name in QUANTILES]
    memory = None if one.memory is None else one.memory / 1e6
    cells = [number(value) for value in (*counts, *times, memory, one.cpu)]
    return [one.address, *cells, "; ".join(one.faults) or "nothing"]
