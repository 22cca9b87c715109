"""The trials of a search as a table, for the page of a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_assets.tasks import Metric


def table(trials: Sequence[Mapping[str, Any]], metric: Metric) -> str:
    """Return the trials as a Markdown table in their order; the best is marked, one that was cut short has no value."""
    known = [trial for trial in trials if trial["value"] is not None]
    best = max(known, key=lambda trial: metric.gain(trial["value"], 0.0), default=None)
    rows = [
        f"| {trial['number']}{' (best)' if trial is best else ''} | {_shown(trial['value'])} | {trial['state']} | "
        f"{trial['seconds']:.1f} | {_parameters(trial['parameters'])} |"
        for trial in trials
    ]
    return "\n".join([f"| trial | {metric.name} | state | s | hyperparameters |", "|---:|---:|---|---:|---|", *rows])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _parameters(parameters: Mapping[str, Any]) -> str:
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in parameters.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
