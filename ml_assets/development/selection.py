"""Choose the best candidate, with every rule said: noise, failures, metrics that do not exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_assets.development.search import measured
from ml_assets.development.training import CandidateResult
from ml_assets.tasks import Metric, Task

RESAMPLES = 200
MOST_ROWS = 5_000
"""Rows that are resampled; the standard error of more is scaled from that of these. Of 20,000 it took 10 s for 6 candidates."""


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
    """The winner, its metric, why it won, and all candidates: best first, those without a chance last."""

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
    metric: Metric,
    *,
    order: Sequence[str],
    errors: Mapping[str, float] | None = None,
) -> Selection:
    """Return the best candidate by the metric; within noise the simplest wins, the first in `order`.

    `errors` are standard errors of the difference to the best, by candidate (see `standard_errors`): a candidate that is
    worse by at most one is tied with the best (the one-standard-error rule of Breiman et al. 1984). Failed and inapplicable
    candidates, and those without a finite metric, are ranked last and never win. Raises `SelectionError` when none is left.
    """
    values = values_of(results, metric)
    hopeless = [Standing(one.name, None, why) for one in results if (why := _obstacle(one, metric.name))]
    if not values:
        reasons = "; ".join(f"{standing.name}: {standing.reason}" for standing in hopeless) or "there are none"
        raise SelectionError(f"no candidate can be selected by {metric.name!r}: {reasons}")
    best = best_of(values, metric)
    noise = {name: (errors or {}).get(name, 0.0) for name in values}
    tied = [name for name in values if metric.gain(values[best], values[name]) <= noise[name] + 1e-12]
    tied.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
    reason = _reason(values, tied, metric.name, best, noise)
    ranked = sorted(values, key=lambda name: (name != tied[0], -metric.gain(values[name], 0.0)))
    standings = [Standing(name, values[name], _said(name, tied, reason)) for name in ranked]
    return Selection(tied[0], metric.name, values[tied[0]], reason, (*standings, *hopeless))


def values_of(results: Sequence[CandidateResult], metric: Metric) -> dict[str, float]:
    """Return the metric of each candidate that may win."""
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SelectionError(f"candidates {twice} come twice: give each once")
    return {one.name: one.metrics[metric.name] for one in results if not _obstacle(one, metric.name)}


def best_of(values: Mapping[str, float], metric: Metric) -> str:
    """Return the name of the best value."""
    return max(values, key=lambda name: metric.gain(values[name], 0.0))


def standard_errors(
    task: Task,
    metric: Metric,
    y: np.ndarray,
    scores: Mapping[str, np.ndarray],
    best: str,
    *,
    value: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Return the standard error of each candidate's difference to the best: paired bootstrap over the rows.

    Both are measured on the same resamples, so what makes a row hard for all of them is not taken for noise.
    """
    generator = np.random.default_rng(seed)
    chosen = np.arange(len(y)) if len(y) <= MOST_ROWS else generator.choice(len(y), MOST_ROWS, replace=False)
    shrunk = math.sqrt(len(chosen) / len(y))
    others = [name for name in scores if name != best]
    draws: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(RESAMPLES):
        rows = chosen[generator.integers(0, len(chosen), len(chosen))]
        reference = measured(task, metric, y[rows], scores[best][rows], value)
        for name in others:
            draws[name].append(reference - measured(task, metric, y[rows], scores[name][rows], value))
    return {best: 0.0} | {name: _deviation(values) * shrunk for name, values in draws.items()}


def _deviation(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.std(known)) if known else 0.0


def _obstacle(result: CandidateResult, metric: str) -> str:
    """Return why a candidate cannot win, or nothing."""
    if not result.trained:
        return f"{result.outcome.replace('_', ' ')}: {result.reason}"
    if metric not in result.metrics:
        return f"has no {metric}: {result.undefined.get(metric, f'it has {sorted(result.metrics)}')}"
    value = result.metrics[metric]
    return "" if math.isfinite(value) else f"its {metric} is {value}"


def _reason(
    values: Mapping[str, float], tied: Sequence[str], metric: str, best: str, noise: Mapping[str, float]
) -> str:
    winner = tied[0]
    if len(values) == 1:
        return f"the only candidate with {metric} ({values[best]:.4g})"
    if len(tied) == 1:
        return f"best {metric} ({values[best]:.4g}){', by more than one standard error' if any(noise.values()) else ''}"
    if winner == best:
        return f"best {metric} ({values[best]:.4g}), and the simplest of those within one standard error"
    return (
        f"{metric} {values[winner]:.4g} is within one standard error ({noise[winner]:.2g}) of the best, "
        f"{best} ({values[best]:.4g}): the simpler wins"
    )


def _said(name: str, tied: Sequence[str], reason: str) -> str:
    if name == tied[0]:
        return f"selected: {reason}"
    return "within one standard error of the best, but less simple" if name in tied else ""


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
