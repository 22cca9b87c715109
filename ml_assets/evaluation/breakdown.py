"""Where a model is right and wrong: by how high its answers are, by confused classes, or cluster by cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_assets.evaluation.metrics import Answered
from ml_assets.tasks.cluster_profile import profile
from ml_assets.tasks.counting import crosstab

GROUPS = 10
LEAST_IN_GROUP = 5
CONFUSIONS = 10


@dataclass(frozen=True)
class Breakdown:
    """A titled table, or sentences."""

    title: str
    records: tuple[dict[str, Any], ...] = ()
    sentences: tuple[str, ...] = ()


def breakdown(test: Answered, features: Sequence[str]) -> Breakdown | None:
    """Return what the task's answers can be broken down by; None without rows."""
    return _WAYS[test.task.output](test, features) if len(test) else None


def _by_score(test: Answered, _: Sequence[str]) -> Breakdown:
    positives = max(int((test.y == 1).sum()), 1)
    records, found = [], 0
    for part in _parts(test.score)[::-1]:
        own = int((test.y[part] == 1).sum())
        found += own
        records.append(
            {
                "scores": _range(test.score[part]),
                "rows": len(part),
                "mean score": float(test.score[part].mean()),
                "share of positives": own / len(part),
                "decided positive": int((test.score[part] >= test.threshold).sum()),
                "of all positives, found so far": found / positives,
            }
        )
    return Breakdown("By score, highest first", tuple(records))


def _by_prediction(test: Answered, _: Sequence[str]) -> Breakdown:
    error = test.score - test.y
    records = [
        {
            "predictions": _range(test.score[part]),
            "rows": len(part),
            "mean prediction": float(test.score[part].mean()),
            "mean label": float(test.y[part].mean()),
            "mean absolute error": float(np.abs(error[part]).mean()),
            "mean error": float(error[part].mean()),
        }
        for part in _parts(test.score)
    ]
    return Breakdown("By prediction, lowest first", tuple(records))


def _by_confusion(test: Answered, _: Sequence[str]) -> Breakdown:
    classes = test.task.classes
    counts = crosstab(test.y, test.score.argmax(axis=1), len(classes))
    rows = counts.sum(axis=1)
    pairs = [(code, other) for code in range(len(classes)) for other in range(len(classes)) if code != other]
    pairs.sort(key=lambda pair: -counts[pair])
    records = [
        {
            "label": classes[code],
            "predicted": classes[other],
            "rows": int(counts[code, other]),
            "share of the label's rows": float(counts[code, other] / rows[code]),
        }
        for code, other in pairs[:CONFUSIONS]
        if counts[code, other]
    ]
    sentences = () if records else ("No row was confused.",)
    return Breakdown("Most frequent confusions", tuple(records), sentences)


def _by_cluster(test: Answered, features: Sequence[str]) -> Breakdown:
    frame = test.frame.select(name for name in features if name in test.frame.columns)
    return Breakdown("Clusters in words", sentences=tuple(profile(frame, test.score)))


_WAYS = {
    "probability": _by_score,
    "value": _by_prediction,
    "probabilities": _by_confusion,
    "cluster": _by_cluster,
}


def _parts(score: np.ndarray) -> list[np.ndarray]:
    """Places of the rows in ten groups of about equally many, from the lowest scores up; fewer groups of few rows."""
    groups = max(1, min(GROUPS, len(score) // LEAST_IN_GROUP))
    return [part for part in np.array_split(np.argsort(score, kind="stable"), groups) if len(part)]


def _range(values: np.ndarray) -> str:
    return f"{values.min():.4g} to {values.max():.4g}"
