"""The state of a deployment in one dictionary: for `ml-assets status`, and for programs."""

from collections import Counter
from typing import Any

import dagster as dg


def status(defs: dg.Definitions, instance: dg.DagsterInstance, resources: dict[str, Any]) -> dict[str, Any]:
    """Return assets with rows, checks by outcome, champions with metrics, latest drift and performance, ledger counts."""
    graph = defs.resolve_asset_graph()
    lake, landing = resources["lake"].open(), resources["landing"].open()
    problems = sorted(key.path[0] for key in graph.get_all_asset_keys() if key.path[-1] == "champion")
    return {
        "now": resources["clock"].open().now().isoformat(),
        "assets": {key.to_user_string(): _asset(key, lake, instance) for key in sorted(graph.get_all_asset_keys())},
        "checks": _checks(graph, instance),
        "problems": {name: _problem(name, lake, resources) for name in problems},
        "ledger": landing.ledger.counts(),
    }


def _asset(key: dg.AssetKey, lake: Any, instance: dg.DagsterInstance) -> dict[str, Any]:
    manifests = lake.manifests("/".join(key.path))
    return {
        "materialized": instance.get_latest_materialization_event(key) is not None,
        "partitions": sum(name != "_" for name in manifests),
        "rows": sum(manifest.rows for manifest in manifests.values()) if manifests else None,
        "red": [name for name, manifest in manifests.items() if manifest.red],
    }


def _checks(graph: Any, instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return the latest outcome of every check: counts, and the names of those that did not pass."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    outcomes = {key: _outcome(latest.get(key)) for key in graph.asset_check_keys}
    named = sorted((f"{key.asset_key.to_user_string()}: {key.name}", outcome) for key, outcome in outcomes.items())
    return {
        "outcomes": dict(Counter(outcomes.values())),
        "not passed": {name: outcome for name, outcome in named if outcome not in ("passed", "not run")},
    }


def _outcome(record: Any) -> str:
    if record is None or record.event is None or record.event.dagster_event is None:
        return "not run"
    evaluation = record.event.dagster_event.event_specific_data
    if not isinstance(evaluation, dg.AssetCheckEvaluation):
        return "not run"
    return "passed" if evaluation.passed else f"failed ({evaluation.severity.value.lower()})"


def _problem(name: str, lake: Any, resources: dict[str, Any]) -> dict[str, Any]:
    from ml_assets.monitoring.realised import latest_performance
    from ml_assets.monitoring.watching import latest_drift

    champion = resources["tracking"].open().champion(name)
    drift = latest_drift(lake, name)
    return {
        "champion": _champion(champion) if champion else None,
        "drift": drift and {"window": [drift.first, drift.last], "verdict": drift.verdict, "reason": drift.reason},
        "realised": _plain(latest_performance(lake, name)),
    }


def _champion(champion: Any) -> dict[str, Any]:
    import json

    from ml_assets.packaging.champion import DATA_HASH, TEST_METRICS

    return {
        "version": champion.version,
        "data_hash": champion.tags.get(DATA_HASH),
        "test_metrics": json.loads(champion.tags.get(TEST_METRICS, "{}")),
    }


def _plain(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the row with times as ISO text."""
    return row and {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
