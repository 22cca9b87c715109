"""How groups of rows are measured: by their centroids, by silhouettes, and by how far two groupings agree.

Rows are a matrix (n, d) of finite numbers, groups are integers (n,): 0, 1, … and -1 for rows in no group.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOISE = -1
SAMPLE_ROWS = 5_000
SAMPLE_SEED = 0
WORKING_MEMORY_MIB = 64


class Silhouettes(NamedTuple):
    """Of a sample of the rows in groups: the group of each, and its silhouette in [-1, 1]."""

    cluster: np.ndarray
    value: np.ndarray


def sample(rows: int, most: int = SAMPLE_ROWS) -> np.ndarray:
    """At most `most` row numbers of `rows`, in order; the same ones every time."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(SAMPLE_SEED).choice(rows, most, replace=False))


def grouped(y: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray] | str:
    """The rows in groups and their groups, or why they cannot be compared: fewer than two groups, or nothing but groups of one."""
    if y.shape[1] == 0:
        return "the rows have no feature"
    inside = cluster != NOISE
    groups, rows = len(np.unique(cluster[inside])), int(np.count_nonzero(inside))
    if groups < 2:
        return f"{groups} clusters: a comparison needs two"
    if groups == rows:
        return f"each of the {rows} rows is a cluster of its own"
    return y[inside], cluster[inside]


def silhouettes(y: np.ndarray, cluster: np.ndarray) -> Silhouettes | str:
    """The silhouettes of at most 5,000 rows in groups (the cost grows with the square of the rows), or why there are none."""
    chosen = grouped(y, cluster)
    if isinstance(chosen, str):
        return chosen
    rows = sample(len(chosen[0]))
    drawn = grouped(chosen[0][rows], chosen[1][rows])
    return drawn if isinstance(drawn, str) else Silhouettes(drawn[1], _silhouettes(*drawn))


def _silhouettes(y: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    with config_context(working_memory=WORKING_MEMORY_MIB):
        return silhouette_samples(y, cluster)


def centroids(y: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the groups (k,), ascending, and the mean of each one's rows (k, d); rows in no group do not count."""
    inside = cluster != NOISE
    names, place = np.unique(cluster[inside], return_inverse=True)
    rows = np.bincount(place, minlength=len(names))
    sums = [np.bincount(place, weights=column, minlength=len(names)) for column in y[inside].T]
    return names, np.array(sums).reshape(y.shape[1], len(names)).T / rows[:, None]


def distances(y: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """How far each row is from its group's centroid (n,); a row in no group, from the nearest centroid.

    Without any group it is the distance from the mean of all rows.
    """
    names, middle = centroids(y, cluster)
    if not len(names):
        return np.linalg.norm(y - y.mean(axis=0), axis=1) if len(y) else np.empty(0)
    found = np.linalg.norm(y - middle[np.searchsorted(names, cluster).clip(0, len(names) - 1)], axis=1)
    lost = cluster == NOISE
    found[lost] = np.min([np.linalg.norm(y[lost] - one, axis=1) for one in middle], axis=0)
    return found


def stability(labels_a: np.ndarray, labels_b: np.ndarray) -> float:
    """How far two groupings of the same rows agree: 1 is wholly, 0 is by chance (adjusted Rand index).

    Hubert & Arabie, J. Classification 2, 1985. The names of the groups do not matter; rows in no group count as one group.
    """
    from sklearn.metrics import adjusted_rand_score

    if labels_a.shape != labels_b.shape:
        raise ValueError(f"two groupings of {len(labels_a)} and {len(labels_b)} rows: give the groups of the same rows")
    return float(adjusted_rand_score(labels_a, labels_b))
