"""The real Prometheus over the real API: it is let in with the key, every rule is evaluated, every query of the board is answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.deployment.api_samples import ROW
from ml_assets_tests.deployment.test_prometheus import PROMETHEUS, board, queries, rules
from ml_assets_tests.monitoring.test_serving_health import Server

pytestmark = pytest.mark.slow

SECONDS = 30


class Live:
    """A Prometheus on loopback, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._url = f"http://{HOST}:{port}/api/v1"

    def get(self, path: str, **told: str) -> Any:
        query = f"?{urllib.parse.urlencode(told)}" if told else ""
        with urllib.request.urlopen(f"{self._url}/{path}{query}", timeout=5) as answer:
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        """Return the one value of an expression, None while there is none."""
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None


def wait(for_what: Callable[[], Any]) -> Any:
    """Return the first true answer; what cannot be reached yet is asked again."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if found := for_what():
                return found
        except OSError:
            pass
        time.sleep(0.2)
    return pytest.fail(f"nothing within {SECONDS} s")


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def live(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Our own configuration, but for the interval, the address, and where the key lies."""
    if not shutil.which("prometheus"):
        if os.environ.get("CI"):
            pytest.fail("prometheus is missing, and where every change is tested it must be there")
        pytest.skip("prometheus is missing: apt-get install prometheus")
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "key").write_text("a key")
    shutil.copy(PROMETHEUS / "rules.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_configuration(folder, served.port)))
    where = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=error"]
    options = [f"--web.listen-address={HOST}:{port}", *where]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *options], cwd=folder, stdout=log, stderr=log)
    try:
        found = Live(port)
        wait(lambda: process.poll() is not None or found.value('up{job="ml_assets"}') == 1)
        assert process.poll() is None, (folder / "log").read_text()
        yield found
    finally:
        process.terminate()
        process.wait(20)


def _configuration(folder: Path, port: int) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    found["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (job,) = found["scrape_configs"]
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"] = [{"targets": [f"{HOST}:{port}"]}]
    return found


def test_the_api_is_scraped_with_the_key_and_what_it_answers_is_counted(live: Live, served: Server) -> None:
    answered = 'ml_assets_requests_total{route="/predict", status="200"}'
    served.ask([ROW], 3)
    assert wait(lambda: live.value(answered) == 3)
    served.ask([ROW], 4)
    assert wait(lambda: live.value("instance:ml_assets_requests:rate5m"))
    assert wait(lambda: live.value(answered) == 7)
    assert live.value("instance:ml_assets_errors:ratio_rate5m") == 0
    assert 0 < (live.value("instance:ml_assets_request_seconds:p99_rate5m") or 0) < 5


def test_every_rule_is_evaluated_and_no_alert_is_on(live: Live, served: Server) -> None:
    def evaluated() -> list[dict[str, Any]]:
        found = [rule for group in live.get("rules")["groups"] for rule in group["rules"]]
        return found if all(rule["health"] == "ok" for rule in found) else []

    found = wait(evaluated)
    assert len(found) == len(rules())
    assert [rule["name"] for rule in found if rule.get("state", "inactive") != "inactive"] == []


def test_every_query_of_the_board_is_answered(live: Live, served: Server) -> None:
    served.ask([ROW])
    instance, empty = f"{HOST}:{served.port}", []
    for query in queries(board()):
        plain = query.replace("$__rate_interval", "1m").replace("$__range", "1m").replace("$instance", instance)
        if not live.get("query", query=plain)["result"]:
            empty.append(query)
    assert all("feature_age" in query or '5.."' in query for query in empty), empty  # no features, no errors
