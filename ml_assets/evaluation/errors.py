"""The rows that a model got most wrong, with what moved its answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ml_assets.evaluation.effects import Effects
from ml_assets.evaluation.metrics import Answered
from ml_assets.preparation.observations import EVENT_TIMESTAMP

WORST = 10
REASONS = 3


def worst(test: Answered, *, most: int = WORST) -> np.ndarray:
    """Return the places of the rows of the largest losses, the worst first; of equal ones, the earlier row."""
    losses = test.task.losses(test.y, test.score)
    return np.argsort(-losses, kind="stable")[:most]


def worst_rows(
    test: Answered, places: np.ndarray, effects: Effects | None, *, key: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a record of each row at `places`: key, moment, label, answer, loss (see `Task.losses`), what moved the answer most.

    `effects` are those of the same rows, in their order.
    """
    task = test.task
    losses = task.losses(test.y, test.score)[places]
    shown = dict.fromkeys([*key, EVENT_TIMESTAMP, "label", "prediction", "score"])
    records = test.frame[places].select(name for name in shown if name in test.frame.columns).to_dicts()
    if task.output == "value":
        records = [{name: value for name, value in record.items() if name != "score"} for record in records]
    loss = "loss" if task.supervised else "distance"
    return [
        {name: _plain(value) for name, value in record.items()}
        | {loss: float(losses[place])}
        | ({"moved by": _moved(effects, place)} if effects else {})
        for place, record in enumerate(records)
    ]


def _moved(effects: Effects, place: int) -> str:
    values = effects.values[place]
    strongest = np.argsort(-np.abs(values), kind="stable")[:REASONS]
    row = effects.frame.row(place, named=True)
    return ", ".join(
        f"{effects.names[one]} = {_plain(row[effects.names[one]])} ({values[one]:+.3g})"
        for one in strongest
        if values[one]
    )


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.4g}" if isinstance(value, float) else value
