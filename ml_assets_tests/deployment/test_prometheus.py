"""The rules, the scrape configuration and the board: every name exists, every expression parses, and each alert turns on and off."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.deployment.metrics import NAMES
from ml_assets.monitoring.serving_health import PROBES, ServingPolicy

ROOT = Path(__file__).parents[2]
PROMETHEUS, BOARD = ROOT / "deploy/prometheus", ROOT / "deploy/grafana/ml_assets.json"
COMPOSE = ROOT / "deploy/compose.yaml"
HISTOGRAM = "ml_assets_request_seconds"
KNOWN = {*NAMES, *(f"{HISTOGRAM}_{part}" for part in ("bucket", "sum", "count"))} - {HISTOGRAM}
NAME = re.compile(r"(?<![\w:])(?:ml_assets|process)_\w+")


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own tool, of the Debian package that `make test` installs."""
    found = shutil.which("promtool")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing, and where every change is tested it must be there")
        pytest.skip("promtool is missing: apt-get install prometheus")
    return found


def says(promtool: str, *arguments: str, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARD.read_text())
    return found


def queries(found: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in found["panels"] for target in panel["targets"]]


def names(expressions: list[str]) -> set[str]:
    """Return the metrics that expressions read, without label values and what rules record."""
    bare = (re.sub(r'"[^"]*"', '""', text) for text in expressions)
    return {name for text in bare for name in NAME.findall(re.sub(r"\w+:\w+:\w+", "", text))}


# -- names and expressions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["rules", "board"])
def test_every_name_is_one_that_the_api_tells(where: str) -> None:
    found = names([rule["expr"] for rule in rules()] if where == "rules" else queries(board()))
    assert found and found - KNOWN == set()


def test_a_name_that_nobody_tells_is_found() -> None:
    assert names(['rate(ml_assets_request_total{job="ml_assets_x"}[5m])']) - KNOWN == {"ml_assets_request_total"}


def test_no_name_is_left_out_of_the_board() -> None:
    assert KNOWN - names(queries(board())) == set()


def test_what_can_go_wrong_has_an_alert() -> None:
    about = {"info", "age", "count", "sum"}
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert {name for name in KNOWN if name.rpartition("_")[2] not in about} - names([r["expr"] for r in rules()]) <= {
        "ml_assets_model_age_seconds"  # of the process, not of the model: no age is too old
    }
    assert all(rule["labels"]["severity"] in ("page", "warn") for rule in alerts.values())
    assert all("$labels.instance" in rule["annotations"]["summary"] for rule in alerts.values())


def test_rules_and_report_have_the_same_limits() -> None:
    policy, of = ServingPolicy(), {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    assert f"> {policy.errors:g}" in of["MlAssetsErrors"]
    assert f"p99_rate5m > {policy.p99:g}" in of["MlAssetsSlow"]
    left_out = re.findall(r'route!~"([^"]*)"', (PROMETHEUS / "rules.yml").read_text() + "".join(queries(board())))
    assert {frozenset(found.split("|")) for found in left_out} == {frozenset(PROBES)}


# -- promtool ----------------------------------------------------------------------------------------------------------


def test_rules_and_configuration_are_valid(promtool: str, tmp_path: Path) -> None:
    found = says(promtool, "check", "rules", "rules.yml")
    assert found.returncode == 0, found.stderr
    (tmp_path / "key").write_text("a key")
    shutil.copy(PROMETHEUS / "rules.yml", tmp_path)
    text = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(text.replace("/run/secrets/ml_assets_api_key", str(tmp_path / "key")))
    found = says(promtool, "check", "config", "prometheus.yml", folder=tmp_path)
    assert found.returncode == 0, found.stderr


def test_every_query_of_the_board_parses(promtool: str, tmp_path: Path) -> None:
    def found(expressions: list[str]) -> int:
        plain = [text.replace("$__rate_interval", "5m").replace("$__range", "6h") for text in expressions]
        recorded = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(plain)]
        (tmp_path / "board.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": recorded}]}))
        return says(promtool, "check", "rules", "board.yml", folder=tmp_path).returncode

    assert found(queries(board())) == 0
    assert found(["sum(rate(ml_assets_requests_total[$__rate_interval])"]) != 0


def test_each_alert_turns_on_for_its_fault_and_stays_off_without(promtool: str) -> None:
    found = says(promtool, "test", "rules", "rules_test.yml")
    assert found.returncode == 0, found.stdout + found.stderr
    told = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    turned_on = [test["alertname"] for case in told for test in case["alert_rule_test"] if test["exp_alerts"]]
    assert sorted(turned_on) == sorted(rule["alert"] for rule in rules() if "alert" in rule)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("ratio_rate5m > 0.01", "ratio_rate5m > 0.06"),
        ("/ready|", ""),
        ("ml_assets_model_in_office == 0", "ml_assets_model_in_office == 2"),
        ("and instance:ml_assets_requests:rate5m > 0.1", ""),
        ("for: 15m", "for: 1m"),
    ],
)
def test_a_rule_that_is_wrong_turns_the_tests_red(promtool: str, tmp_path: Path, written: str, instead: str) -> None:
    text = (PROMETHEUS / "rules.yml").read_text()
    assert written in text
    (tmp_path / "rules.yml").write_text(text.replace(written, instead))
    shutil.copy(PROMETHEUS / "rules_test.yml", tmp_path)
    assert says(promtool, "test", "rules", "rules_test.yml", folder=tmp_path).returncode != 0


# -- the board ---------------------------------------------------------------------------------------------------------


def faults(found: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a board: Grafana takes it in silence, and shows nothing or something else."""
    panels = found["panels"]
    if len({panel["id"] for panel in panels}) < len(panels):
        yield "two panels of one id"
    for panel in panels:
        place = panel["gridPos"]
        if not (place["x"] >= 0 and place["x"] + place["w"] <= 24 and place["w"] and place["h"]):
            yield f"{panel['title']} lies outside"
        if not panel["targets"] or not all(target["expr"].strip() for target in panel["targets"]):
            yield f"{panel['title']} asks nothing"
        if len({target["refId"] for target in panel["targets"]}) < len(panel["targets"]):
            yield f"{panel['title']} asks twice under one letter"
        if any(one["datasource"]["uid"] != "${datasource}" for one in (panel, *panel["targets"])):
            yield f"{panel['title']} asks a source of its own"
    for one, other in combinations(panels, 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']} lies on {other['title']}"


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in (("x", "w"), ("y", "h"))
    )


def test_the_board_is_one_that_grafana_shows() -> None:
    found = board()
    assert list(faults(found)) == []
    assert found["uid"] and found["schemaVersion"] >= 36
    variables = {one["name"]: one["type"] for one in found["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}
    assert all(panel["title"] and panel["description"] for panel in found["panels"])


def test_a_broken_board_is_found() -> None:
    found = copy.deepcopy(board())
    first, second, third, *_ = found["panels"]
    first["id"], second["gridPos"], third["targets"] = second["id"], first["gridPos"], []
    assert list(faults(found)) == [
        "two panels of one id",
        f"{third['title']} asks nothing",
        f"{first['title']} lies on {second['title']}",
    ]


# -- compose -----------------------------------------------------------------------------------------------------------


def test_compose_gives_prometheus_and_grafana_these_files() -> None:
    told = yaml.safe_load(COMPOSE.read_text())
    services, files = told["services"], {name: one.get("file", "") for name, one in told["configs"].items()}
    for service in ("prometheus", "grafana"):
        assert services[service]["profiles"] == ["monitoring"]
        assert re.fullmatch(r"docker\.io/[\w/]+:v?\d+\.\d+\.\d+", services[service]["image"])
        assert all((COMPOSE.parent / files[one["source"]]).is_file() for one in services[service]["configs"])
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["api:8080"]}]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{services['prometheus']['secrets'][0]}"
    (source,) = yaml.safe_load((BOARD.parent / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((BOARD.parent / "provisioning.yaml").read_text())["providers"]
    targets = {one["source"]: one["target"] for one in services["grafana"]["configs"]}
    assert targets["dashboard"] == f"{provider['options']['path']}/ml_assets.json"
