"""Why the challenger answers as it does, and where it errs: everything that explains one examination."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import sampled
from ml_assets.evaluation.breakdown import Breakdown, breakdown
from ml_assets.evaluation.challenge import Examination
from ml_assets.evaluation.effects import Effects, effects, explainable
from ml_assets.evaluation.errors import worst, worst_rows
from ml_assets.evaluation.importance import Importance, importance
from ml_assets.evaluation.learning import LearningCurve, learning_curve


@dataclass(frozen=True, eq=False)
class Explanation:
    """What explains a model; a text in the place of a part says why it is not there.

    `errors` are the worst rows (of a clustering, those farthest from their cluster), with what moved the answers.
    """

    importance: Importance | str
    effects: Effects | str
    errors: Sequence[dict[str, Any]]
    curve: LearningCurve | str
    parts: Breakdown | None

    def told(self) -> dict[str, Any]:
        """Return what programs may want of it, as values that JSON has."""
        found: dict[str, Any] = {}
        if isinstance(self.importance, Importance):
            found["importance"] = asdict(self.importance)
        if isinstance(self.effects, Effects):
            found["effects"] = {"unit": self.effects.unit, "means": self.effects.means()}
        if isinstance(self.curve, LearningCurve):
            found["learning_curve"] = asdict(self.curve)
        return {"explanation": found}

    def absent(self) -> Iterator[tuple[str, str]]:
        """Yield what is not there, and why."""
        for title, part in (
            ("Permutation importance", self.importance),
            ("SHAP", self.effects),
            ("Learning curve", self.curve),
        ):
            if isinstance(part, str):
                yield title, part


def explain(found: Examination, training_set: pl.DataFrame, *, key: Sequence[str]) -> Explanation:
    """Return what explains the challenger; `key` names the columns that tell rows apart. The same input gives the same."""
    subject, test, model = found.subject, found.test, found.model
    plan = subject.plan
    ranked = importance(model, test, plan.metric, seed=plan.seed)
    wrong = worst(test)
    of_wrong: Effects | None
    moved: Effects | str
    if isinstance(ranked, Importance) and ranked.names and found.train.height:
        rows = sampled(len(test), explainable(model, features=len(ranked.names)), plan.seed)
        both = effects(model, test.take(np.concatenate([wrong, rows])), found.train, ranked.names, seed=plan.seed)
        of_wrong, moved = _part(both, slice(0, len(wrong))), _part(both, slice(len(wrong), None))
    else:
        of_wrong, moved = None, ranked if isinstance(ranked, str) else "no feature has an importance"
    errors = worst_rows(test, wrong, of_wrong, key=key)
    by_name = {one.name: one for one in subject.results}
    curve = (
        learning_curve(by_name[subject.challenger.result.name], subject.results, plan.rows(training_set), plan)
        if plan.task.supervised
        else "a clustering has no outcome to be learned"
    )
    return Explanation(ranked, moved, errors, curve, breakdown(test, model.encoder.names))


def _part(whole: Effects, rows: slice) -> Effects:
    """The effects of some of the rows."""
    return replace(whole, frame=whole.frame[rows], values=whole.values[rows], numbers=whole.numbers[rows])
