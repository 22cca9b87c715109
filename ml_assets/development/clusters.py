"""What every clustering candidate does beside its own algorithm: choose how many clusters, and number them by size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from ml_assets.development.candidates.base import CandidateError, Fitted, Fitting, sampled
from ml_assets.development.encoding import Matrix
from ml_assets.development.model_files import FORMATS, Scores
from ml_assets.tasks.clustering import Clustering
from ml_assets.tasks.grouping import NOISE

CHOICE_ROWS = 4_000
"""Rows on which settings are fitted to be compared."""
JUDGED_ROWS = 2_000
"""Rows by which settings are compared: a silhouette costs the square of them."""

S = TypeVar("S", int, float)
Arrays = Mapping[str, np.ndarray]
"""A fitted clustering as the format "clusters" stores it."""


@dataclass(frozen=True)
class Choice(Generic[S]):
    """The setting that was chosen, and the metric of each one that was tried by its name; none where there was one only."""

    setting: S
    scores: dict[str, float | None] = field(default_factory=dict)


def best_of(settings: Sequence[S], cluster: Callable[[S], Arrays], matrix: Matrix, how: Fitting) -> Choice[S]:
    """Return the setting whose clusters are the best by the metric on a sample of the matrix; of equals the first.

    A setting whose metric is not defined (one cluster, say) is chosen only when there is no other.
    """
    if len(settings) == 1:
        return Choice(settings[0])
    judged = some(matrix, JUDGED_ROWS, how)
    scores = {setting: how.metric.compute(judged, scorer(cluster(setting))(judged)) for setting in settings}
    best = settings[0]
    for setting in settings[1:]:
        best = setting if _better(how, scores[setting], scores[best]) else best
    return Choice(best, {str(setting): score for setting, score in scores.items()})


def numbers(clusters: int, matrix: Matrix, how: Fitting) -> list[int]:
    """Return the numbers of clusters to try: `clusters`, else all that the task declares.

    Raises `CandidateError` where the rows have fewer distinct points than that.
    """
    fewest, most = (clusters, clusters) if clusters else span(how)
    distinct = len(np.unique(matrix, axis=0))
    if distinct < fewest:
        raise CandidateError(f"{distinct} distinct rows cannot make {fewest} clusters: declare fewer, or more features")
    return list(range(fewest, min(most, distinct) + 1))


def span(how: Fitting) -> tuple[int, int]:
    """Return the fewest and the most clusters that the task declares."""
    if not isinstance(how.task, Clustering):
        raise CandidateError(f"a {how.task.kind} has no clusters: declare task.kind clustering")
    return how.task.fewest, how.task.most


def by_size(labels: np.ndarray) -> np.ndarray:
    """Return the clusters' own numbers in their new order: the largest first; of equals the one whose row comes first."""
    names, first, rows = np.unique(labels[labels != NOISE], return_index=True, return_counts=True)
    return names[np.lexsort((first, -rows))]


def scorer(arrays: Arrays) -> Callable[[Matrix], Scores]:
    """Return the function from a dense matrix to clusters, the very one that a stored model has."""
    return FORMATS["clusters"].parse(FORMATS["clusters"].dump(arrays, np.empty(0)), 1)


def clustered(arrays: Arrays, choice: Choice[Any], parameters: Mapping[str, Any], note: str, how: Fitting) -> Fitted:
    """Return a fitted clustering. Its `parameters` hold what was chosen: `Candidate.variant` of them chooses no more."""
    by = f", the best {how.metric.name} of {len(choice.scores)} tried" if choice.scores else ""
    return Fitted(
        format="clusters",
        estimator=arrays,
        raw=scorer(arrays),
        output="cluster",
        parameters={**parameters, f"{how.metric.name}_by_setting": choice.scores},
        notes=(note + by,),
        threads=how.threads,
    )


def some(matrix: Matrix, most: int, how: Fitting) -> Matrix:
    """Return at most `most` rows of a matrix, drawn by the seed, in order."""
    return matrix if len(matrix) <= most else matrix[sampled(len(matrix), most, how.seed)]


def _better(how: Fitting, one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or how.metric.better(one, other))
