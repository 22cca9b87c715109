"""Random forest, kept small enough to train in seconds and to serve as one ONNX graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from ml_assets.development.candidates.base import PARITY_ROWS, Candidate, labels, sampled, told
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import MISSING, FittedModel, packed, yielding_threads


@dataclass(frozen=True)
class RandomForest(Candidate):
    """Breiman's forest (2001) by scikit-learn, over numbers and category codes.

    Each tree sees `sample_share` of the rows and grows to `leaves` leaves: on 218,000 flights a share of 0.25 takes
    twice as long for 0.003 more ROC-AUC on validation. Below `SMALL` rows every tree sees them all.
    """

    name: ClassVar[str] = "random_forest"
    least_rows: ClassVar[int] = 20
    SMALL: ClassVar[int] = 20_000

    trees: int = 100
    leaves: int = 512
    least_leaf_rows: int = 20
    sample_share: float = 0.15

    def fit(
        self, train: pl.DataFrame, validation: pl.DataFrame, *, encoder: Encoder, label: str, seed: int, threads: int
    ) -> FittedModel:
        yielding_threads()
        from sklearn.ensemble import RandomForestClassifier

        y, matrix = labels(train, label, both=True), encoder.codes(train, missing=MISSING)
        share = None if train.height < self.SMALL else max(self.sample_share, self.SMALL / train.height)
        forest = RandomForestClassifier(
            n_estimators=self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=min(self.least_leaf_rows, max(1, train.height // 50)),
            max_samples=share,
            n_jobs=threads,
            random_state=seed,
        ).fit(matrix, y)
        like = matrix[sampled(len(matrix), PARITY_ROWS, seed)]
        parameters = told(self.defaults, min_samples_leaf=forest.min_samples_leaf, max_samples=share)
        reference = forest.predict_proba(like)[:, 1]
        return packed(
            "onnx_trees", encoder, forest, like=like, reference=reference, parameters=parameters, threads=threads
        )
