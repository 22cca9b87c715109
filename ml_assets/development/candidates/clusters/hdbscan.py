"""HDBSCAN: clusters as dense regions of any shape; rows between them are in none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ml_assets.development.candidates.base import Candidate, CandidateError, Fitted, Fitting, Rows, told
from ml_assets.development.clusters import Arrays, best_of, by_size, clustered, some, span
from ml_assets.development.encoding import Matrix
from ml_assets.development.model_files import limited, nearest
from ml_assets.tasks.base import Output
from ml_assets.tasks.grouping import NOISE


@dataclass(frozen=True)
class Hdbscan(Candidate):
    """Clusters by density (Campello et al. 2013) by scikit-learn, over the dense matrix; how many there are, it finds.

    `cluster_share` is the least share of the rows that is a cluster; 0 tries several, and keeps the one of the best metric
    among those that find as many clusters as the task declares and leave at most `most_noise` of the rows in none.
    scikit-learn has no answer for new rows. Here one belongs to the cluster of the nearest row that has one, if both that
    and its own `neighbours` are within the cluster's reach, the largest distance at which a row of the cluster has as
    many: what Campello et al. call the mutual reachability. Of the rows themselves it then says what HDBSCAN said.
    """

    name: ClassVar[str] = "hdbscan"
    complexity: ClassVar[int] = 3
    outputs: ClassVar[frozenset[Output]] = frozenset({"cluster"})
    least_rows: ClassVar[int] = 50
    BRUTE_COLUMNS: ClassVar[int] = 40
    SHARES: ClassVar[tuple[float, ...]] = (0.01, 0.02, 0.05, 0.1)

    cluster_share: float = 0.0
    neighbours: int = 5
    most_noise: float = 0.5
    most_rows: int = 4_000

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        matrix = some(train.dense, self.most_rows, how)
        with limited(how.threads):
            labels = {share: self._labels(matrix, share, how) for share in self._shares(len(matrix))}
            fit = [share for share, found in labels.items() if self._acceptable(found, how)]
            if not fit:
                raise CandidateError(self._refusal(labels, how))
            far = nearest(matrix.astype(np.float64), matrix, neighbours=self.neighbours)[1]
            best = best_of(fit, lambda share: self._dense(matrix, labels[share], far), matrix, how)
            arrays = self._dense(matrix, labels[best.setting], far)
        found, least = labels[best.setting], self._least(len(matrix), best.setting)
        note = f"{found.max() + 1} clusters of {least} rows or more; {np.mean(found == NOISE):.0%} of the rows in none"
        parameters = told(self.defaults, cluster_share=best.setting, clusters=int(found.max() + 1))
        return clustered(arrays, best, parameters, note, how)

    def _shares(self, rows: int) -> list[float]:
        """Return the shares to try, the least first; of those that mean as many rows, one."""
        shares = (self.cluster_share,) if self.cluster_share else self.SHARES
        return list({self._least(rows, share): share for share in reversed(shares)}.values())[::-1]

    def _least(self, rows: int, share: float) -> int:
        return max(self.neighbours, round(share * rows))

    def _labels(self, matrix: Matrix, share: float, how: Fitting) -> np.ndarray:
        from sklearn import cluster

        machine = cluster.HDBSCAN(
            min_cluster_size=self._least(len(matrix), share),
            min_samples=self.neighbours,
            # With many columns a tree of the rows saves nothing: 9 s against 0.4 s for 4,000 rows of 300.
            algorithm="brute" if matrix.shape[1] > self.BRUTE_COLUMNS else "kd_tree",
            n_jobs=how.threads,
            copy=True,
        )
        found: np.ndarray = machine.fit(matrix).labels_
        order = by_size(found)
        places = np.full(len(order) + 1, NOISE)
        places[order] = np.arange(len(order))
        return places[found]

    def _dense(self, matrix: Matrix, labels: np.ndarray, far: np.ndarray) -> Arrays:
        """Return all rows with their clusters, and the reach of each cluster, by how far its rows' neighbours are."""
        reach = [float(far[labels == one].max()) for one in range(labels.max() + 1)]
        return {
            "kind": np.array("density"),
            "rows": matrix,
            "labels": labels,
            "reach": np.array(reach),
            "neighbours": np.array(self.neighbours),
        }

    def _acceptable(self, labels: np.ndarray, how: Fitting) -> bool:
        fewest, most = span(how)
        return fewest <= labels.max() + 1 <= most and float(np.mean(labels == NOISE)) <= self.most_noise

    def _refusal(self, labels: dict[float, np.ndarray], how: Fitting) -> str:
        fewest, most = span(how)
        found = ", ".join(f"{one.max() + 1} ({np.mean(one == NOISE):.0%} in none)" for one in labels.values())
        return (
            f"it finds {found} clusters, not {fewest} to {most} with at most {self.most_noise:.0%} of the rows in none: "
            "declare another span, or leave this candidate out"
        )
