"""What was so last time will be so again: the forecast by the last known outcome of the same entity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ml_assets.development.candidates.base import (
    Candidate,
    CandidateError,
    Fitted,
    Fitting,
    Rows,
    Support,
    constant,
    told,
)
from ml_assets.development.model_files import Scores, looked_up, lookup_keys
from ml_assets.tasks import Task

MOST_VALUES = 100
"""Distinct last values, beside the declared classes, above which a column is surely not the last class."""


@dataclass(frozen=True)
class Persistence(Candidate):
    """Answers by the column `last_value`, which holds the entity's last known outcome.

    For a number that is the answer, where it is null the baseline's. For classes the answer is their shares among the
    training rows with the same last class, drawn to the shares of all rows as if `prior_rows` more rows had those; a
    last class that training never saw, or null, has the shares of all rows.
    """

    name: ClassVar[str] = "persistence"
    complexity: ClassVar[int] = 1

    last_value: str = ""
    prior_rows: float = 10.0

    def supports(self, task: Task, rows: int) -> Support:
        found = super().supports(task, rows)
        if found and not self.last_value:
            return Support(False, "features.last_value names no column with the entity's last known outcome")
        return found

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        if self.last_value not in train.encoder.names:
            raise CandidateError(
                f"column {self.last_value!r} is not among the features {list(train.encoder.names)}: "
                "name a feature as features.last_value"
            )
        table = None if how.task.output == "value" else self._table(train, how)
        fallback = np.asarray(constant(train.y, how)).tolist()
        return Fitted(
            format="lookup",
            estimator={"column": self.last_value, "table": table, "fallback": fallback},
            raw=self._raw(table, fallback),
            output=how.task.output,
            parameters=told(self.defaults, values=0 if table is None else len(table)),
            threads=how.threads,
        )

    def _raw(self, table: dict[str, Any] | None, fallback: Any) -> Callable[[Any], Scores]:
        return lambda frame: looked_up(frame[self.last_value], table, fallback)

    def _table(self, train: Rows, how: Fitting) -> dict[str, Any]:
        keys = lookup_keys(train.frame[self.last_value]).to_numpy()
        known = sorted(set(keys) - {None})
        if len(known) > MOST_VALUES + len(how.task.classes):
            raise CandidateError(
                f"column {self.last_value!r} holds {len(known)} distinct values: features.last_value should name the "
                "entity's last known class"
            )
        overall = np.asarray(constant(train.y, how))
        return {key: self._shares(train.y[keys == key], overall, how) for key in known}

    def _shares(self, y: np.ndarray, overall: np.ndarray, how: Fitting) -> Any:
        known = len(y) * np.asarray(constant(y, how)) + self.prior_rows * overall
        return (known / (len(y) + self.prior_rows)).tolist()
