"""k-means: clusters as the rows nearest to one of k centres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows, told
from ml_assets.development.clusters import CHOICE_ROWS, Arrays, best_of, by_size, clustered, numbers, some
from ml_assets.development.encoding import Matrix
from ml_assets.development.model_files import limited
from ml_assets.tasks.base import Output


@dataclass(frozen=True)
class KMeans(Candidate):
    """Lloyd's algorithm from k-means++ starts (Arthur & Vassilvitskii 2007) by scikit-learn, over the dense matrix.

    With `clusters` 0 every number that the task declares is tried, and the one of the best metric is kept.
    """

    name: ClassVar[str] = "k_means"
    complexity: ClassVar[int] = 1
    outputs: ClassVar[frozenset[Output]] = frozenset({"cluster"})
    least_rows: ClassVar[int] = 10

    clusters: int = 0
    starts: int = 5
    most_rows: int = 50_000

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        matrix = some(train.dense, self.most_rows, how)
        few = some(matrix, CHOICE_ROWS, how)
        with limited(how.threads):
            tried = numbers(self.clusters, matrix, how)
            choice = best_of(tried, lambda number: self._centres(few, number, how), few, how)
            arrays = self._centres(matrix, choice.setting, how)
        note = f"{choice.setting} clusters"
        return clustered(arrays, choice, told(self.defaults, clusters=choice.setting), note, how)

    def _centres(self, matrix: Matrix, number: int, how: Fitting) -> Arrays:
        from sklearn import cluster

        machine = cluster.KMeans(number, n_init=self.starts, random_state=how.seed).fit(matrix)
        return {"kind": np.array("centres"), "centres": machine.cluster_centers_[by_size(machine.labels_)]}
