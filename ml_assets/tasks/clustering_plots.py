"""The plots of a clustering: rows as a matrix (n, d), clusters (n,) with -1 for none; each returns a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml_assets.tasks import drawing
from ml_assets.tasks.grouping import NOISE, sample, silhouettes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 1_500
NOISE_COLOR = "#b6bec7"


def map_plot(y: np.ndarray, cluster: np.ndarray, *, title: str = "Map") -> bytes:
    """At most 1,500 rows on the two directions in which they differ most (PCA); ten clusters have a colour of their own."""
    if len(y) < 3 or y.shape[1] == 0:
        return drawing.sorry(title, "needs 3 rows and a feature")
    rows = sample(len(y), POINTS)
    place, shares = _two_directions(y[rows])
    canvas, axes = drawing.figure(
        f"{title}: the two widest directions", *(f"{share:.0%} of variance" for share in shares)
    )
    known = _largest(cluster)[: len(drawing.PALETTE)]
    rest = ["none"] * (NOISE in cluster) + ["other"] * (len(_largest(cluster)) > len(known))
    _points(axes, place[~np.isin(cluster[rows], known)], NOISE_COLOR, ", ".join(rest))
    for color, number in zip(drawing.PALETTE, known, strict=False):
        _points(axes, place[cluster[rows] == number], color, str(number))
    axes.set(xticks=[], yticks=[])
    drawing.legend(axes, "center left", bbox_to_anchor=(1, 0.5), markerscale=2, handletextpad=0)
    return drawing.png(canvas)


def silhouette_plot(y: np.ndarray, cluster: np.ndarray, *, title: str = "Silhouette by cluster") -> bytes:
    """Mean silhouette of each cluster and the range of its middle half; below 0, rows are nearer to another cluster."""
    found = silhouettes(y, cluster)
    if isinstance(found, str):
        return drawing.sorry(title, found)
    there = [number for number in _largest(cluster) if number in found.cluster][: drawing.BARS]
    values = [found.value[found.cluster == number] for number in there]
    canvas, axes = drawing.figure(title, "nearer to its own cluster than to the next", "")
    drawing.bars(
        axes,
        names=[f"cluster {number}" for number in there],
        values=[float(part.mean()) for part in values],
        colors=_colors(there),
        ranges=[tuple(np.quantile(part, [0.25, 0.75])) for part in values],
    )
    axes.axvline(found.value.mean(), label=f"all {found.value.mean():.2f}", **drawing.DASHED)
    drawing.legend(axes, "lower right")
    return drawing.png(canvas)


def size_plot(cluster: np.ndarray, *, title: str = "Sizes") -> bytes:
    """Rows of each cluster, the largest first, and of those in none."""
    if len(cluster) == 0:
        return drawing.sorry(title, "no rows")
    there = _largest(cluster)
    more = f" (largest {drawing.BARS} of {len(there)} clusters)" if len(there) > drawing.BARS else ""
    there = there[: drawing.BARS]
    noise = int(np.count_nonzero(cluster == NOISE))
    rows = [int(np.count_nonzero(cluster == number)) for number in there] + [noise] * bool(noise)
    canvas, axes = drawing.figure(title + more, "rows", "")
    drawing.bars(
        axes,
        names=[f"cluster {number}" for number in there] + ["in no cluster"] * bool(noise),
        values=rows,
        colors=[*_colors(there), NOISE_COLOR][: len(rows)],
        texts=[f"{count:,} ({count / len(cluster):.1%})" for count in rows],
    )
    axes.margins(x=0.35)
    return drawing.png(canvas)


def _two_directions(y: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """The rows' place on the first two principal components (n, 2), and the share of the variance on each.

    A component's sign is free: its largest weight is made positive, so that the same rows give the same map.
    """
    centred = y - y.mean(axis=0)
    _, width, weights = np.linalg.svd(centred, full_matrices=False)
    first = np.zeros((2, y.shape[1]))
    first[: len(weights[:2])] = weights[:2]
    signs = np.sign(first[np.arange(2), np.abs(first).argmax(axis=1)])
    shares = np.zeros(2)
    shares[: len(width[:2])] = width[:2] ** 2 / max(float(np.sum(width**2)), np.finfo(float).tiny)
    return centred @ (first * signs[:, None]).T, (float(shares[0]), float(shares[1]))


def _largest(cluster: np.ndarray) -> list[int]:
    """The clusters by rows, the largest first."""
    names, rows = np.unique(cluster[cluster != NOISE], return_counts=True)
    return [int(name) for name in names[np.argsort(-rows, kind="stable")]]


def _colors(there: list[int]) -> list[str]:
    return [drawing.PALETTE[place] if place < len(drawing.PALETTE) else drawing.QUIET for place in range(len(there))]


def _points(axes: Axes, place: np.ndarray, color: str, label: str) -> None:
    if len(place):
        axes.plot(*place.T, "o", color=color, markersize=3, markeredgewidth=0, label=label)
