"""The share of positives, for every row: what a model must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Candidate, labels
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FittedModel, packed


@dataclass(frozen=True)
class Baseline(Candidate):
    """Predicts the training rows' share of positives; the best constant by log-loss and by Brier score."""

    name: ClassVar[str] = "baseline"

    def fit(
        self, train: pl.DataFrame, validation: pl.DataFrame, *, encoder: Encoder, label: str, seed: int, threads: int
    ) -> FittedModel:
        prior = float(labels(train, label).mean())
        nothing = np.empty((1, 0), dtype=np.float32)
        return packed("prior", encoder, prior, like=nothing, reference=np.array([prior]), parameters={"prior": prior})
