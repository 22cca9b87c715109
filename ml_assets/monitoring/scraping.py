"""What a serving API tells Prometheus, asked from here: samples, what counters grew by between two, and quantiles of histograms."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

TIME = pl.Datetime("us", "UTC")
SAMPLES: dict[str, Any] = {
    "address": pl.String,
    "at": TIME,
    "name": pl.String,
    "labels": pl.String,
    "value": pl.Float64,
}
"""Columns of a table of samples; `labels` are JSON, sorted by name."""
KEPT = ("ml_assets_", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds")
KEEP = 200
"""Scrapes kept of each address: eight days, one an hour."""
MOST_BYTES = 8 * 2**20
Key = tuple[str, str]
Series = Mapping[Key, float]


@dataclass(frozen=True)
class Scrape:
    """What one server told, by (name, labels); or why there is nothing, in `fault`."""

    address: str
    at: datetime
    series: Series
    fault: str = ""

    def to_frame(self) -> pl.DataFrame:
        """Return one row for each series, as in `SAMPLES`."""
        rows = [(self.address, self.at, name, labels, value) for (name, labels), value in self.series.items()]
        return pl.DataFrame(rows, schema=SAMPLES, orient="row")


def scrape(address: str, *, now: datetime, api_key: str = "", timeout: float = 5.0) -> Scrape:
    """Ask a server for its metrics. A server that is down, slow, or tells no metrics gives a `Scrape` with its `fault`.

    `address` is the whole URL of /metrics, over http or https; `api_key` is sent as bearer.
    """
    if not address.startswith(("http://", "https://")):
        return Scrape(address, now, {}, "is no address: write http://host:port/metrics")
    try:
        return Scrape(address, now, parsed(_fetched(address, api_key, timeout)))
    except urllib.error.HTTPError as error:
        with error:
            return Scrape(address, now, {}, f"answers {error.code}{_hint(error.code)}")
    except (OSError, http.client.HTTPException) as error:
        return Scrape(address, now, {}, f"does not answer: {getattr(error, 'reason', None) or error}")
    except ValueError as error:
        return Scrape(address, now, {}, f"tells no metrics that could be read: {str(error)[:200]}")


def parsed(text: str) -> dict[Key, float]:
    """Return the series that are kept of Prometheus' text format; `ValueError` when there are none."""
    from prometheus_client.parser import text_string_to_metric_families

    found = {
        (sample.name, _labels(sample.labels)): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(KEPT)
    }
    if not any(name.startswith(KEPT[0]) for name, _ in found):
        raise ValueError("nothing of ml_assets_… is in it; is this the address of a serving API's /metrics?")
    return found


def kept(before: pl.DataFrame | None, scrapes: Sequence[Scrape], *, keep: int = KEEP) -> pl.DataFrame:
    """Return the samples with those of new scrapes, of each address the newest `keep` scrapes."""
    frames = [one.to_frame() for one in scrapes]
    together = pl.concat([pl.DataFrame(schema=SAMPLES) if before is None else before, *frames])
    return together.filter(pl.col("at").rank("dense", descending=True).over("address") <= keep)


def last_series(samples: pl.DataFrame | None, address: str) -> tuple[datetime, Series] | None:
    """Return the newest sample of an address, and its moment; None where there is none."""
    if samples is None:
        return None
    of_address = samples.filter(pl.col("address") == address)
    newest = of_address.filter(pl.col("at") == pl.col("at").max())
    if newest.is_empty():
        return None
    return newest["at"][0], {
        (name, labels): value for name, labels, value in newest.select("name", "labels", "value").rows()
    }


class _Staying(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the API key is for the address that was declared."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_Staying)


def _fetched(address: str, api_key: str, timeout: float) -> str:
    """Return the text, within the time for all of it and not for each of its packets."""
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {api_key}"} if api_key else {})
    deadline, parts, size = time.monotonic() + timeout, list[bytes](), 0
    with OPENER.open(request, timeout=timeout) as answer:
        while part := answer.read1(2**16):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES:,} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all of it within {timeout:g} s")
        if answer.length:  # read1 does not mind
            raise http.client.IncompleteRead(b"".join(parts), answer.length)
    return b"".join(parts).decode()


def _hint(code: int) -> str:
    return ": give its API key in ML_ASSETS_SERVING_KEY" if code in (401, 403) else ""


def _labels(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(labels.items())))


# -- between two samples -----------------------------------------------------------------------------------------------


def increase(before: float, after: float) -> float:
    """Return what a counter grew by: one that is lower than before began again at 0, as Prometheus takes it."""
    return after - before if after >= before else after


def increases(before: Series, after: Series) -> dict[Key, float]:
    """Return what each counter grew by; one that was not there before began at 0."""
    return {key: increase(before.get(key, 0.0), value) for key, value in after.items()}


def histogram_quantile(quantile: float, buckets: Mapping[float, float]) -> float | None:
    """Return the quantile of a histogram: `buckets` counts by upper bound, cumulative, with one of infinity.

    Linear within a bucket, the lowest from 0; above the last finite bound, that bound. None without observations, and where
    Prometheus has NaN.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf or not 0 <= quantile <= 1:
        return None
    counts = list[float]()
    for bound in bounds:
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))  # scraped one after the other: never less
    if not counts[-1] > 0:
        return None
    rank = quantile * counts[-1]
    place = next(index for index, count in enumerate(counts) if count >= rank)
    if place == len(bounds) - 1:
        return bounds[-2]
    if place == 0 and bounds[0] <= 0:
        return bounds[0]
    low, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    inside = counts[place] - below
    return low + (bounds[place] - low) * ((rank - below) / inside) if inside else None
