"""The ensemble: a weighted mean of candidates, whose weights are found on rows that none of them was fitted on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml_assets.development.candidates.base import Fitting
from ml_assets.development.failures import FAILURES
from ml_assets.development.folds import Fold, thinned
from ml_assets.development.model_files import ensemble, hashes
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.search import measured
from ml_assets.development.training import CandidateResult, keep_scores, task_metrics

NAME = "ensemble"
STEPS = 30
"""Members drawn with replacement: weights are multiples of 1/30."""
HALVES = 2
MOST_ROWS = 10_000
"""Rows that weights are found on, evenly of those that there are: a weight of 1/30 needs no more."""


def blend_weights(
    scores: Mapping[str, np.ndarray], y: np.ndarray, how: Fitting, *, value: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Return a weight for each member, summing to 1: greedy forward selection with replacement (Caruana et al., ICML 2004).

    `scores` are the members' answers for rows with labels `y`; the best member is the start, each step adds the one that
    helps the metric most, and the best of all steps is kept. Members that never help weigh 0.
    """
    some = thinned(len(y), MOST_ROWS, seed=how.seed)
    y, scores = y[some], {name: one[some] for name, one in scores.items()}
    names = list(scores)
    counts = dict.fromkeys(names, 0)
    best: tuple[float, dict[str, int]] | None = None
    total: np.ndarray | float = 0.0
    for step in range(1, STEPS + 1):
        tried = {name: _of(how, y, (total + scores[name]) / step, value) for name in names}
        name = max(names, key=lambda one: tried[one])
        counts[name] += 1
        total = total + scores[name]
        if best is None or tried[name] > best[0]:
            best = tried[name], dict(counts)
    assert best is not None
    drawn = sum(best[1].values())
    return {name: count / drawn for name, count in best[1].items()}


def _of(how: Fitting, y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None) -> float:
    """Return the metric so that more is better; what is not defined is worst."""
    found = measured(how.task, how.metric, y, score, value)
    return -np.inf if np.isnan(found) else found if how.metric.greater_is_better else -found


def train_ensemble(
    results: Sequence[CandidateResult],
    rows: DevelopmentRows,
    how: Fitting,
    *,
    folder: Path,
    value: Mapping[str, float] | None = None,
) -> CandidateResult:
    """Weigh the trained candidates and save their weighted mean to `folder`.

    Its own scores are honest: each half of the compared rows (the earlier and the later, or a seeded draw) is scored with the
    weights that the other half gave. Fewer than two candidates, or none that helps, is "not applicable".
    """
    told: dict[str, Any] = {"name": NAME, "folder": str(folder), "features": rows.features, "seed": how.seed}
    members = [result for result in results if result.trained and result.name != NAME]
    if len(members) < HALVES:
        return CandidateResult(outcome="not_applicable", reason="fewer than two candidates were trained", **told)
    started = time.perf_counter()
    try:
        weights = blend_weights({one.name: one.scores() for one in members}, rows.y[rows.scored], how, value=value)
        used = [one for one in members if weights[one.name]]
        if len(used) < HALVES:
            reason = f"no mean with other candidates is better than {used[0].name} alone"
            return CandidateResult(outcome="not_applicable", reason=reason, **told)
        made = _blended(members, weights, rows, how, Path(folder), value)
    except FAILURES as error:
        return CandidateResult(outcome="failed", reason=f"{type(error).__name__}: {error}", **told)
    return CandidateResult(outcome="trained", seconds=time.perf_counter() - started, **told, **made)


def _blended(
    members: Sequence[CandidateResult],
    weights: Mapping[str, float],
    rows: DevelopmentRows,
    how: Fitting,
    folder: Path,
    value: Mapping[str, float] | None,
) -> dict[str, Any]:
    scores = {result.name: result.scores() for result in members}
    y = rows.y[rows.scored]
    honest = np.empty_like(next(iter(scores.values())))
    for fold in _halves(rows, how.seed):
        found = blend_weights({name: one[fold.fit] for name, one in scores.items()}, y[fold.fit], how, value=value)
        honest[fold.score] = sum(weight * scores[name][fold.score] for name, weight in found.items() if weight)
    used = {result.name: result for result in members if weights[result.name]}
    shown = ", ".join(f"{weights[name]:.0%} {name}" for name in sorted(used, key=lambda one: -weights[one]))
    model = ensemble({name: result.load() for name, result in used.items()}, weights, notes=(shown,))
    model.save(folder)
    keep_scores(folder, honest)
    metrics, undefined = task_metrics(how.task, y, honest, value)
    return {
        "metrics": metrics,
        "undefined": undefined,
        "parameters": dict(model.parameters),
        "notes": model.notes,
        "sha256": hashes(model.files()),
        "rows": dict(members[0].rows),
        "variant": {"weights": {name: weights[name] for name in used}},
    }


def _halves(rows: DevelopmentRows, seed: int) -> Sequence[Fold]:
    count = len(rows.scored)
    order = np.arange(count) if rows.layout.by_time else np.random.default_rng(seed).permutation(count)
    first, second = np.sort(order[: count // HALVES]), np.sort(order[count // HALVES :])
    return [Fold(first, second), Fold(second, first)]
