"""This project with its default budget, nothing tuned: `python -m benchmarks.arms.quality_ml_assets ASKED.json INTO`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.arms.quality_asked import Asked, answer
from ml_assets.tasks import task


def fit(asked: Asked) -> tuple[Callable[[], np.ndarray], str]:
    """Develop a model from the development rows, as the asset graph does."""
    known, test = asked.rows()
    found = developed(asked, known, Path(sys.argv[2]) / "models")
    return lambda: found.model.predict(test), str(getattr(found, "winner", ""))


def developed(asked: Asked, known: pl.DataFrame, folder: Path) -> Any:
    """Return what the project makes of rows with a label and a split: the one call into it."""
    from ml_assets.development import lifecycle  # type: ignore[attr-defined]

    kind = task("regression" if asked.kind == "regression" else "classification", classes=tuple(asked.classes))
    return lifecycle.develop(
        known,
        task=kind,
        metric=kind.metric(asked.metric),
        features=list(asked.features),
        seed=asked.seed,
        folder=folder,
        by_time=asked.by_time,
    )


if __name__ == "__main__":
    answer(fit)
