"""This project with its default budget, nothing tuned: `python -m benchmarks.arms.quality_ml_assets ASKED.json INTO`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.arms.quality_asked import Asked, answer
from ml_assets.development.lifecycle import Plan, develop
from ml_assets.tasks import task


def fit(asked: Asked) -> tuple[Callable[[], np.ndarray], str]:
    """Develop a model from the development rows, as the asset graph does: its default candidates, its default budget."""
    known, test = asked.rows()
    found = develop(known, plan(asked), folder=Path(sys.argv[2]) / "models", tell=log)
    model = found.model
    return lambda: model.predict(test), found.selection.winner


def plan(asked: Asked) -> Plan:
    """Return what a declaration without a word more than needed would say."""
    kind = task("regression" if asked.kind == "regression" else "classification", classes=tuple(asked.classes))
    return Plan(
        task=kind,
        metric=kind.metric(asked.metric),
        features=tuple(asked.features),
        seed=asked.seed,
        by_time=asked.by_time,
        threads=asked.threads,
    )


def log(text: str) -> None:
    """Keep what development tells in the arm's log."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    answer(fit)
