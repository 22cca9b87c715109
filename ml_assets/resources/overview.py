"""`ml-assets status`: the state of this deployment as a dictionary and as a table."""

from pathlib import Path
from typing import Any

import dagster as dg


def current(defs: dg.Definitions, root: Path) -> dict[str, Any]:
    """Return the state of the deployment in the repository at `root`, whose definitions are `defs`."""
    from ml_assets.resources.environment import resources
    from ml_assets.resources.status import status

    with dg.DagsterInstance.get() as instance:
        return status(defs, instance, resources(root))


def headline(root: Path, problem: str) -> str:
    """Return one line on a problem in production: the latest window's drift, and the realised performance so far."""
    from ml_assets.lake import Lake
    from ml_assets.monitoring.realised import latest_performance
    from ml_assets.monitoring.watching import latest_drift
    from ml_assets.resources.environment import setting

    lake = Lake(setting("ML_ASSETS_LAKE", root))
    drift, realised = latest_drift(lake, problem), latest_performance(lake, problem)
    parts = [f"drift of {drift.first}: {drift.verdict} ({len(drift.drifted)} features)" if drift else "no drift report"]
    if realised and realised["status"] == "realised":
        parts.append(f"realised {_metrics(realised, 1)} on {realised['matured']:,} known outcomes")
    return ", ".join(parts)


def table(found: dict[str, Any]) -> str:
    """Return the state for people: one line for each asset, then checks, champions, drift, files."""
    lines = [f"now {found['now']}", ""]
    for name, asset in found["assets"].items():
        rows = "" if asset["rows"] is None else f"{asset['rows']:>12,} rows"
        days = f"{asset['partitions']:>4} days" if asset["partitions"] else ""
        red = f"  RED: {', '.join(asset['red'][:5])}" if asset["red"] else ""
        lines.append(f"  {'made' if asset['materialized'] else 'no  '}  {name:<40} {rows:>17} {days}{red}")
    lines += [
        "",
        "checks      "
        + ", ".join(f"{count} {outcome}" for outcome, count in sorted(found["checks"]["outcomes"].items())),
    ]
    lines += [f"            {outcome}: {name}" for name, outcome in found["checks"]["not passed"].items()]
    lines += [line for name, problem in found["problems"].items() for line in _problem(name, problem)]
    lines += ["files       " + ", ".join(f"{count} {status}" for status, count in found["ledger"].items())]
    return "\n".join(lines)


SHOWN = ("roc_auc", "log_loss", "mae", "rmse", "accuracy", "brier")
"""Of realised metrics, those that a line has room for, in order."""


def _metrics(realised: dict[str, Any], most: int) -> str:
    return ", ".join([f"{name} {realised[name]:.4g}" for name in SHOWN if name in realised][:most])


def _problem(name: str, problem: dict[str, Any]) -> list[str]:
    champion, drift, realised = problem["champion"], problem["drift"], problem["realised"]
    lines = ["", name]
    if champion is None:
        return [*lines, "  no champion yet"]
    metrics = ", ".join(f"{key} {value:.4f}" for key, value in champion["test_metrics"].items())
    lines.append(f"  champion  version {champion['version']}; on the test split: {metrics}")
    if realised and realised["status"] == "realised":
        lines.append(f"  realised  on {realised['matured']:,} known outcomes: {_metrics(realised, 3)}")
    if drift:
        lines.append(f"  drift     {drift['window'][0]} to {drift['window'][1]}: {drift['verdict']}, {drift['reason']}")
    return [*lines, ""]
