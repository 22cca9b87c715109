"""Samples of a server's metrics: resets of counters, quantiles as Prometheus has them, and servers that do not answer as they should."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from ml_assets.monitoring.scraping import (
    MOST_BYTES,
    Scrape,
    histogram_quantile,
    increase,
    increases,
    kept,
    last_series,
    parsed,
    scrape,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = b"# TYPE ml_assets_model_in_office gauge\nml_assets_model_in_office 1\n"
counts = st.lists(st.integers(0, 50), min_size=1, max_size=30)


# -- counters ----------------------------------------------------------------------------------------------------------


@given(st.lists(counts, min_size=1, max_size=4))
def test_what_a_counter_counted_is_found_through_resets(lives: list[list[int]]) -> None:
    """A server lives several times; each life counts from 0, and is sampled after each event and at its start."""
    values = [float(value) for life in lives for value in accumulate([0, *life])]
    total = sum(increase(before, after) for before, after in pairwise(values))
    assert total == sum(sum(life) for life in lives)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_an_increase_is_never_below_nought_nor_above_the_value(before: float, after: float) -> None:
    assert 0 <= increase(before, after) <= max(after, 0)
    assert increase(0.0, after) == after


def test_a_series_that_was_not_there_began_at_nought() -> None:
    key, other = ("a", "{}"), ("b", "{}")
    assert increases({key: 3.0}, {key: 5.0, other: 2.0}) == {key: 2.0, other: 2.0}


# -- quantiles ---------------------------------------------------------------------------------------------------------

KNOWN = [  # by hand
    (0.5, {1.0: 10, 2.0: 20, math.inf: 20}, 1.0),
    (0.75, {1.0: 10, 2.0: 20, math.inf: 20}, 1.5),
    (0.25, {1.0: 10, 2.0: 20, math.inf: 20}, 0.5),
    (0.99, {1.0: 10, 2.0: 20, math.inf: 40}, 2.0),
    (0.5, {1.0: 0, math.inf: 0}, None),
    (0.5, {math.inf: 10}, None),
    (0.5, {1.0: 10}, None),
    (1.5, {1.0: 10, math.inf: 10}, None),
    (0.5, {}, None),
    (0.5, {-1.0: 10, 1.0: 10, math.inf: 10}, -1.0),
    (0.5, {1.0: 20, 2.0: 10, math.inf: 20}, 0.5),  # scraped while it counted
]


@pytest.mark.parametrize(("quantile", "buckets", "expected"), KNOWN)
def test_quantiles_that_are_known(quantile: float, buckets: dict[float, float], expected: float | None) -> None:
    assert histogram_quantile(quantile, buckets) == expected


def test_quantiles_are_those_of_prometheus(tmp_path: Path) -> None:
    """Promtool computes the same histograms, and compares what we found with what it finds."""
    if not shutil.which("promtool"):
        if os.environ.get("CI"):
            pytest.fail("promtool is missing, and where every change is tested it must be there")
        pytest.skip("promtool is missing: apt-get install prometheus")
    bounds = [0.0005, 0.001, 0.005, 0.1, 0.25, 1.0, math.inf]
    made = [
        [(7 * number + 3 * place * place) % 11 * (place != number % 5) for place in range(7)] for number in range(30)
    ]
    series, tests = [], []
    for number, own in enumerate(made):
        cumulative = list(accumulate(own))
        for bound, count in zip(bounds, cumulative, strict=True):
            le = "+Inf" if bound == math.inf else f"{bound:g}"
            series.append({"series": f'h_bucket{{n="{number}", le="{le}"}}', "values": f"{count}x3"})
        for quantile in (0, 0.01, 0.5, 0.95, 0.99, 1):
            found = histogram_quantile(quantile, dict(zip(bounds, cumulative, strict=True)))
            if found is None:  # NaN there, which promtool cannot compare
                assert quantile == 0
                continue
            expected = [{"labels": f'{{n="{number}"}}', "value": found}]
            query = f'histogram_quantile({quantile}, h_bucket{{n="{number}"}})'
            tests.append({"expr": query, "eval_time": "1m", "exp_samples": expected})

    def told() -> int:
        content = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}]}
        (tmp_path / "tests.yml").write_text(yaml.safe_dump(content))
        command = ["promtool", "test", "rules", "tests.yml"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert told() == 0
    tests[7]["exp_samples"][0]["value"] += 1e-3  # type: ignore[index]
    assert told() != 0


@given(st.lists(st.floats(0.0001, 4.9), min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_value(values: list[float], quantile: float) -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "h", buckets=(0.001, 0.01, 0.1, 1, 5), registry=registry)
    for value in values:
        histogram.observe(value)
    found = histogram_quantile(
        quantile,
        {
            float(sample.labels["le"]): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "h_bucket"
        },
    )
    exact = sorted(values)[math.ceil(quantile * len(values)) - 1]
    bounds = [0, 0.001, 0.01, 0.1, 1, 5]
    place = next(number for number, bound in enumerate(bounds) if exact <= bound)
    assert found is not None and bounds[place - 1] * (1 - 1e-9) <= found <= bounds[place] * (1 + 1e-9)


# -- text --------------------------------------------------------------------------------------------------------------


def test_only_what_is_ours_is_kept() -> None:
    registry = CollectorRegistry()
    Counter("ml_assets_requests", "r", ["route", "status"], registry=registry).labels("/p", "200").inc(3)
    Counter("other", "o", registry=registry).inc()
    found = parsed(generate_latest(registry).decode())
    assert found["ml_assets_requests_total", json.dumps({"route": "/p", "status": "200"})] == 3
    assert not any(name.startswith("other") for name, _ in found)


@pytest.mark.parametrize("text", ["", "<html></html>", "other 1\n", "ml_assets_x {\n", "ml_assets_x one\n", "\0\0"])
def test_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parsed(text)


@given(st.text(max_size=200) | st.builds(lambda rest: f"ml_assets_x{rest}", st.text('{}="\\, 1e\n#', max_size=40)))
def test_nonsense_is_refused_or_read_and_nothing_else(text: str) -> None:
    with suppress(ValueError):
        assert parsed(text)


# -- servers -----------------------------------------------------------------------------------------------------------


@contextmanager
def served(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """Listen on loopback, hand the first connection to `answer`, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                answer(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
        thread.join(5)


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    told = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{told}Content-Length: {len(body)}\r\n\r\n".encode() + body


def dripping(connection: socket.socket) -> None:
    """Send a byte at a time, each sooner than a time-out, and never come to an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(40):
        try:
            connection.sendall(b"#")
        except OSError:
            return
        threading.Event().wait(0.02)


def silent(_: socket.socket) -> None:
    threading.Event().wait(0.6)


FAULTS: dict[str, tuple[Callable[[socket.socket], object], str]] = {
    "nothing at all": (lambda _: None, "does not answer"),
    "no HTTP": (lambda to: to.sendall(b"hello\r\n\r\n"), "does not answer"),
    "silence": (silent, "does not answer: timed out"),
    "a drip": (dripping, "does not answer: not all of it within 0.3 s"),
    "half of it": (lambda to: to.sendall(http(2 * GOOD)[: -len(GOOD)]), "does not answer: IncompleteRead"),
    "an error": (lambda to: to.sendall(http(b"", "500 Oops")), "answers 500"),
    "no key": (lambda to: to.sendall(http(b"", "401 No")), "answers 401: give its API key in ML_ASSETS_SERVING_KEY"),
    "elsewhere": (lambda to: to.sendall(http(b"", "302 Found", "Location: http://127.0.0.1:9/")), "answers 302"),
    "a page": (lambda to: to.sendall(http(b"<html>")), "tells no metrics that could be read"),
    "bytes": (lambda to: to.sendall(http(b"\xff\xfe\x00")), "tells no metrics that could be read"),
    "too much": (lambda to: to.sendall(http(b"#" * (MOST_BYTES + 2**17))), "more than 8,388,608 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_does_not_answer_as_it_should_is_a_sentence(name: str) -> None:
    answer, said = FAULTS[name]

    def quietly(connection: socket.socket) -> None:
        with suppress(OSError):  # the other side has heard enough
            answer(connection)

    with served(quietly) as address:
        found = scrape(address, now=NOW, timeout=0.3)
    assert said in found.fault and not found.series


def test_a_port_where_nobody_listens_and_no_address_are_sentences() -> None:
    assert "refused" in scrape("http://127.0.0.1:9/metrics", now=NOW).fault
    assert scrape("file:///etc/passwd", now=NOW).fault.startswith("is no address")
    assert scrape("http://[::bad/metrics", now=NOW).fault
    assert scrape("http://127.0.0.1:9/a b", now=NOW).fault


def test_the_key_is_sent_as_bearer_and_metrics_are_read() -> None:
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(http(GOOD))

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def work() -> None:
            connection, _ = listening.accept()
            with connection:
                asked.append(connection.recv(65_536))
                answer(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        found = scrape(f"http://127.0.0.1:{listening.getsockname()[1]}/metrics", now=NOW, api_key="a key")
        thread.join(5)
    assert found.series == {("ml_assets_model_in_office", "{}"): 1.0} and not found.fault
    assert b"Authorization: Bearer a key" in asked[0]


# -- samples -----------------------------------------------------------------------------------------------------------


def test_samples_are_kept_by_address_and_the_newest_is_found() -> None:
    samples = None
    for hour in range(5):
        at = NOW + timedelta(hours=hour)
        both = [Scrape("a", at, {("x", "{}"): float(hour)}), Scrape("b", at, {}, "is down" if hour else "")]
        samples = kept(samples, [*both, Scrape("c", at, {("x", "{}"): 1.0})] if hour < 2 else both, keep=3)
    assert samples is not None
    assert samples.filter(address="a")["value"].to_list() == [2.0, 3.0, 4.0]
    assert last_series(samples, "a") == (NOW + timedelta(hours=4), {("x", "{}"): 4.0})
    assert last_series(samples, "b") is None and last_series(None, "a") is None
    assert samples.filter(address="c").height == 2  # who was down keeps what was known
