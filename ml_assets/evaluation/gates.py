"""Gates before promotion: each is a plain function that gives a verdict, with the numbers that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ml_assets.evaluation.metrics import Answered
from ml_assets.evaluation.report import EvaluationReport
from ml_assets.tasks import Metric

SUCCESS, BASELINE, SLICES, CALIBRATION = "success_threshold", "beats_baseline", "slices", "calibration"
ECE = "expected_calibration_error"
SIMULATIONS = 200
PARITY = 1e-6
"""Largest difference between two answers of one model to one row, by the largest answer if that is above 1."""


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate, with the numbers that decided."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Limits:
    """What the declaration asks of a challenger; None and 0 are not declared."""

    at_least: float | None = None
    at_most: float | None = None
    beats_baseline_by: float = 0.0

    @property
    def target(self) -> float | None:
        """Return the value to be reached."""
        return self.at_most if self.at_least is None else self.at_least


@dataclass(frozen=True)
class PromotionPolicy:
    """What a challenger must prove before it takes office: block `promotion:` of the declaration, which says what each means."""

    margin: float = 0.0
    confidence: float = 0.95
    minimum_rows: int = 50
    ties: Literal["better", "keep", "newer"] = "better"
    first: Literal["promote", "approve"] = "promote"
    approval: bool = False
    most_milliseconds: float | None = None
    most_megabytes: float | None = None
    worst_slice: float | None = None
    most_calibration_error: float = 0.1
    most_of_one_column: float = 0.995
    invariant: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    falling: tuple[str, ...] = ()
    tolerance: float = 0.02
    share: float = 0.05

    @property
    def behaves(self) -> bool:
        """Tell whether any behaviour is declared."""
        return bool(self.invariant or self.rising or self.falling)


def gates(report: EvaluationReport, metric: Metric, limits: Limits, *, baseline: bool = True) -> list[Gate]:
    """Return the verdicts on the metric alone. A metric that does not apply to the rows fails every gate.

    Without a `baseline` (a clustering has none) there is no gate for it.
    """
    value = report.metrics.get(metric.name)
    found = [_reaches(metric, value, limits)]
    if baseline:
        found.append(_beats(metric, value, report.baseline.get(metric.name), limits.beats_baseline_by))
    return found


def slices_gate(report: EvaluationReport, metric: Metric, columns: Sequence[str], worst: float | None) -> Gate:
    """Return whether the metric reaches `worst` in every slice of the declared `columns`.

    Slices with too few rows or without the metric are not judged; where none can be, a declared limit is not met.
    """
    if worst is None:
        return Gate(SLICES, True, "no limit is declared (promotion.worst_slice)")
    rows = [row for row in report.slices if row["slice"] in columns]
    judged = [row for row in rows if row.get(metric.name) is not None]
    if not judged:
        return Gate(SLICES, False, f"{metric.name} applies to none of {len(rows)} slices: declare success.slices")
    failed = [row for row in judged if metric.better(worst, row[metric.name])]
    shown = min(judged, key=lambda row: metric.gain(row[metric.name], 0.0))
    words = f"worst of {len(judged)} slices ({len(rows) - len(judged)} not judged): {shown['slice']} {shown['value']}"
    asked = "at least" if metric.greater_is_better else "at most"
    more = f"; {len(failed)} slices miss it" if len(failed) > 1 else ""
    return Gate(
        SLICES, not failed, f"{words}, {metric.name} {shown[metric.name]:.4f}, declared {asked} {worst:g}{more}"
    )


def calibration_gate(rows: Answered, most: float, *, seed: int = 0) -> Gate:
    """Return whether the expected calibration error stays within `most`, or within what chance gives perfect probabilities.

    A perfectly calibrated model has an error too, the larger the fewer its rows: outcomes drawn from the scores themselves tell
    how large (consistency resampling, Bröcker and Smith, Weather and Forecasting 22, 2007).
    """
    metric = rows.task.metric(ECE)
    found = metric.compute(rows.y, rows.score, rows.threshold)
    if found is None:
        return Gate(CALIBRATION, False, f"{ECE} does not apply to the {len(rows)} test rows")
    words = f"{ECE} is {found:.4f}, declared at most {most:g}"
    if found <= most:
        return Gate(CALIBRATION, True, words)
    chance = _error_by_chance(rows, metric, seed)
    return Gate(
        CALIBRATION, found <= chance, f"{words}; perfect probabilities have up to {chance:.4f} on {len(rows)} rows"
    )


def parity_gate(given: np.ndarray, expected: np.ndarray, *, of: str = "bundle") -> Gate:
    """Return whether what was packed gives the `expected` answers (n,) or (n, classes); a NaN is a difference."""
    if given.shape != expected.shape or not len(given):
        return Gate(
            "parity", False, f"{of}: answers of shape {given.shape}, expected {expected.shape}, of at least one row"
        )
    largest, limit = float(np.max(np.abs(given - expected))), PARITY * max(1.0, float(np.max(np.abs(expected))))
    words = f"{of}: largest difference {largest:.1e} on {len(given):,} rows, limit {limit:.0e}"
    return Gate("parity", largest <= limit, words)


def budget_gate(milliseconds: float, megabytes: float, policy: PromotionPolicy) -> Gate:
    """Return whether one answer (median, in milliseconds) and the packed model (in megabytes) stay within what is declared."""
    told = (("ms", milliseconds, policy.most_milliseconds), ("MB", megabytes, policy.most_megabytes))
    over = [unit for unit, value, most in told if most is not None and not value <= most]
    words = [
        f"{value:.3g} {unit}, {'no limit declared' if most is None else f'at most {most:g}'}"
        for unit, value, most in told
    ]
    return Gate("budget", not over, f"one row takes {words[0]}; the bundle has {words[1]}")


def gates_table(verdicts: Sequence[Gate]) -> str:
    """Return the verdicts as a Markdown table."""
    rows = [
        f"| {gate.name} | {'passed' if gate.passed else '**failed**'} | {gate.reason.replace('|', '/')} |"
        for gate in verdicts
    ]
    return "\n".join(["| gate | verdict | why |", "|---|---|---|", *rows])


def _reaches(metric: Metric, value: float | None, limits: Limits) -> Gate:
    asked = "at least" if limits.at_least is not None else "at most"
    if limits.target is None:
        wanted = "at_least" if metric.greater_is_better else "at_most"
        return Gate(SUCCESS, True, f"no threshold is declared (success.{wanted})")
    if value is None or not np.isfinite(value):
        return Gate(SUCCESS, False, f"{metric.name} does not apply to the test rows")
    passed = value >= limits.target if metric.greater_is_better else value <= limits.target
    return Gate(SUCCESS, passed, f"{metric.name} is {value:.4f}, declared {asked} {limits.target:g}")


def _beats(metric: Metric, value: float | None, baseline: float | None, margin: float) -> Gate:
    if value is None or baseline is None or not np.isfinite([value, baseline]).all():
        return Gate(BASELINE, False, f"{metric.name} does not apply to challenger ({value}) or baseline ({baseline})")
    gain = metric.gain(value, baseline)
    passed = gain >= margin and gain > 0  # a tie with the baseline is not a success
    return Gate(
        BASELINE, passed, f"{metric.name} {value:.4f} against {baseline:.4f}: gain {gain:.4f}, declared {margin:g}"
    )


def _error_by_chance(rows: Answered, metric: Metric, seed: int) -> float:
    """Return the error that 99 % of perfectly calibrated models with these scores stay below."""
    generator = np.random.default_rng(seed)
    shares = np.column_stack([1 - rows.score, rows.score]) if rows.score.ndim == 1 else rows.score
    bounds = np.cumsum(shares, axis=1)[:, :-1]
    errors = []
    for _ in range(SIMULATIONS):
        drawn = (generator.random(len(rows))[:, None] > bounds).sum(axis=1)
        errors.append(metric.compute(drawn.astype(rows.y.dtype), rows.score, rows.threshold) or 0.0)
    return float(np.quantile(errors, 0.99))
