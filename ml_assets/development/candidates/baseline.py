"""An answer that is the same for every row: what a model must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows, constant
from ml_assets.development.model_files import FORMATS


@dataclass(frozen=True)
class Baseline(Candidate):
    """Answers with the training rows' class shares; for numbers with their mean, or the quantile that the metric asks for.

    The shares are the best constant by log-loss and by Brier score, the mean by squared, the median by absolute error.
    """

    name: ClassVar[str] = "baseline"
    complexity: ClassVar[int] = 0
    least_rows: ClassVar[int] = 1

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        prior = constant(train.y, how)
        told = {"prior": np.asarray(prior).tolist()}
        raw = FORMATS["prior"].parse(FORMATS["prior"].dump(prior, np.empty(0)), how.threads)
        return Fitted("prior", prior, raw, how.task.output, parameters=told, threads=how.threads)
