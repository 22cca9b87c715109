"""Choose the best candidate on validation, with every rule said: ties, failures, metrics that do not exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ml_assets.development.candidates.registry import NAMES
from ml_assets.development.training import CandidateResult

TOLERANCE = 0.001
"""Difference of a metric that is a tie: about a third of the standard error of ROC-AUC on 27,000 flights."""


class SelectionError(ValueError):
    """No candidate can be selected."""


@dataclass(frozen=True)
class Standing:
    """One candidate in the ranking: its value (None when it could not win) and why it stands there."""

    name: str
    value: float | None
    reason: str


@dataclass(frozen=True)
class Selection:
    """The winner, its validation metric, why it won, and all candidates: best first, those without a chance last."""

    winner: str
    metric: str
    value: float
    reason: str
    ranking: tuple[Standing, ...]

    @property
    def failures(self) -> dict[str, str]:
        """Return the candidates that could not win, with the reason."""
        return {standing.name: standing.reason for standing in self.ranking if standing.value is None}

    def markdown(self) -> str:
        """Return the ranking as a Markdown table."""
        rows = [f"| {one.name} | {_digits(one.value)} | {_cell(one.reason)} |" for one in self.ranking]
        return "\n".join([f"| candidate | {self.metric} | |", "|---|---|---|", *rows])


def select(
    results: Sequence[CandidateResult],
    metric: str,
    greater_is_better: bool,
    *,
    tolerance: float = TOLERANCE,
    order: Sequence[str] = NAMES,
) -> Selection:
    """Return the best candidate by a validation metric.

    Candidates within `tolerance` (in the metric's unit, inclusive) of the best are tied, and the simplest of them wins:
    the first in `order`. Failed and inapplicable candidates, and those without a finite metric, are ranked last and
    never win. Raises `SelectionError` when none is left, a name comes twice, or the tolerance is not a number from 0.
    """
    _refuse_ambiguous(results, tolerance)
    values = {result.name: result.metrics[metric] for result in results if not _obstacle(result, metric)}
    hopeless = [Standing(result.name, None, why) for result in results if (why := _obstacle(result, metric))]
    if not values:
        reasons = "; ".join(f"{standing.name}: {standing.reason}" for standing in hopeless) or "there are none"
        raise SelectionError(f"no candidate can be selected by {metric!r}: {reasons}")
    best = max(values.values()) if greater_is_better else min(values.values())
    tied = sorted(
        (name for name in values if _close(values[name], best, tolerance)), key=lambda name: _place(name, order)
    )
    winner = tied[0]
    reason = _reason(values, tied, metric, best, tolerance)
    ranked = sorted(values, key=lambda name: (name != winner, -values[name] if greater_is_better else values[name]))
    standings = [Standing(name, values[name], _said(name, winner, tied, reason)) for name in ranked]
    return Selection(winner, metric, values[winner], reason, (*standings, *hopeless))


def _refuse_ambiguous(results: Sequence[CandidateResult], tolerance: float) -> None:
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        raise SelectionError(
            f"candidates {sorted({name for name in names if names.count(name) > 1})} come twice: give each once"
        )
    if not 0 <= tolerance < math.inf:
        raise SelectionError(f"tolerance {tolerance} is not a number from 0: give the difference that counts as a tie")


def _obstacle(result: CandidateResult, metric: str) -> str:
    """Return why a candidate cannot win, or nothing."""
    if not result.trained:
        return f"{result.outcome.replace('_', ' ')}: {result.reason}"
    if metric not in result.metrics:
        return f"has no {metric}: {result.undefined.get(metric, f'it has {sorted(result.metrics)}')}"
    value = result.metrics[metric]
    return "" if math.isfinite(value) else f"its {metric} is {value}"


def _close(value: float, best: float, tolerance: float) -> bool:
    # A little more than the tolerance: 0.700 and 0.699 are 0.001 apart only up to rounding.
    return abs(value - best) <= tolerance + 1e-12


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _reason(values: Mapping[str, float], tied: Sequence[str], metric: str, best: float, tolerance: float) -> str:
    winner = tied[0]
    if len(tied) == 1:
        return (
            f"best {metric} on validation ({best:.4f})"
            if len(values) > 1
            else f"the only candidate with {metric} ({best:.4f})"
        )
    others = ", ".join(f"{name} ({values[name]:.4f})" for name in tied[1:])
    return (
        f"tied on {metric} ({values[winner]:.4f}, best {best:.4f}) within {tolerance:g} with {others}: the simpler wins"
    )


def _said(name: str, winner: str, tied: Sequence[str], reason: str) -> str:
    if name == winner:
        return f"selected: {reason}"
    return "tied, but less simple" if name in tied else ""


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
