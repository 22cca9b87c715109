"""SHAP: how far each feature moved a row's answer away from that of background rows, by the shap library."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import sampled
from ml_assets.development.model_files import Model
from ml_assets.evaluation.importance import affordable
from ml_assets.evaluation.metrics import Answered

FEATURES = 15
BACKGROUND = 10
LEAST_ROWS, MOST_ROWS = 30, 100
ORDERS = 2
"""Orders in which features are revealed, each also backwards: exact for pairs of features, near for more (Strumbelj & Kononenko 2014)."""


@dataclass(frozen=True, eq=False)
class Effects:
    """By row of `frame` and feature, how far the feature moved the answer (n, d), in `unit`; `numbers` (n, d) are its values.

    The features are the most important ones; the others kept the row's own values. NaN where a value is no number.
    """

    names: tuple[str, ...]
    frame: pl.DataFrame
    values: np.ndarray
    numbers: np.ndarray
    unit: str
    background: int
    columns: int

    @property
    def note(self) -> str:
        """Return what the effects were made of."""
        held = self.columns - len(self.names)
        rest = f"; the other {held} kept each row's own values" if held else ""
        return (
            f"{len(self.values):,} rows against {self.background} others, {len(self.names)} features{rest}. "
            "An effect is the average of what the answer changes by when the feature's value is revealed"
        )

    def means(self) -> dict[str, float]:
        """Return the mean absolute effect by feature, largest first."""
        found = np.abs(self.values).mean(axis=0)
        return {self.names[place]: float(found[place]) for place in np.argsort(-found, kind="stable")}


def effects(model: Model, rows: Answered, background: pl.DataFrame, names: Sequence[str], *, seed: int = 0) -> Effects:
    """Return the effects of the features `names` on the answers to `rows`, against a seeded sample of the background rows."""
    columns = model.encoder.names
    chosen = tuple(names[:FEATURES])
    frame = rows.frame.select(columns)
    others = background.select(columns)[sampled(background.height, BACKGROUND, seed)]
    pool = pl.concat([frame, others])
    places = np.arange(frame.height, pool.height)
    with _shap() as shap:
        masker = shap.maskers.Independent(np.repeat(places[:, None].astype(float), len(chosen), axis=1))
        values = np.array(
            [_explained(shap, masker, model, pool, chosen, row, rows.score[row], seed) for row in range(frame.height)]
        )
    numbers = np.column_stack([_numbers(frame[name]) for name in chosen])
    return Effects(chosen, rows.frame, values, numbers, _unit(rows), others.height, len(columns))


def explainable(model: Model, *, features: int) -> int:
    """Return how many rows are explained."""
    evaluations = (2 * min(features, FEATURES) + 1) * ORDERS * BACKGROUND
    return max(LEAST_ROWS, affordable(model, evaluations, most=MOST_ROWS))


def _explained(
    shap: Any,
    masker: Any,
    model: Model,
    pool: pl.DataFrame,
    names: Sequence[str],
    row: int,
    score: np.ndarray,
    seed: int,
) -> np.ndarray:
    """The effects on one row's answer (d,).

    The explainer mixes numbers, and a column may hold any type: what it mixes are places in the pool of rows.
    """
    answer = int(score.argmax()) if score.ndim else None

    def answers(places: np.ndarray) -> np.ndarray:
        own = pool[np.full(len(places), row)]
        mixed = own.with_columns(pool[name].gather(places[:, i].astype(int)) for i, name in enumerate(names))
        scores = model.predict(mixed)
        return scores if answer is None else scores[:, answer]

    explainer = shap.PermutationExplainer(answers, masker, seed=seed)
    evaluations = (2 * len(names) + 1) * ORDERS
    found = explainer(np.full((1, len(names)), float(row)), max_evals=evaluations, batch_size=evaluations, silent=True)
    return np.asarray(found.values[0], dtype=np.float64)


@contextmanager
def _shap() -> Iterator[Any]:
    """Import shap, and keep what it would change of this process.

    It compiles its loops for 6 s when they are first used, to save less than that here: they run as plain Python. It also seeds
    NumPy's global generator.
    """
    import numba

    settings: Any = numba.config

    state, compiled = np.random.get_state(), settings.DISABLE_JIT
    settings.DISABLE_JIT = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The set_(bad|over|under) function will be deprecated")
            import shap
        yield shap
    finally:
        settings.DISABLE_JIT = compiled
        np.random.set_state(state)


def _numbers(column: pl.Series) -> np.ndarray:
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.full(len(column), np.nan)


def _unit(rows: Answered) -> str:
    return {"probability": "probability", "probabilities": "probability of the answer"}.get(
        rows.task.output, "prediction"
    )
