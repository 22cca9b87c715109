"""Effects and a test: how far two samples of a column are apart, from counts in bins, from moments, or from the values.

Arrays of counts are of one length, the bins of both sides the same. Nothing here knows a policy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PRIOR = 0.5
EXPECTED = 5
"""Rows that a bin must be expected to have on either side before a chi-square test counts it (Cochran, Biometrics 10, 1954)."""


class Spread(NamedTuple):
    """The finite values of a numeric column, as far as a profile knows them.

    counts (k + 2,) are rows of the bins (-inf, e0], (e0, e1], ..., (ek, inf) of edges (k + 1,) that ascend; `low`, `high`,
    `mean` and the standard deviation are of the values.
    """

    counts: np.ndarray
    edges: np.ndarray
    low: float
    high: float
    mean: float
    deviation: float

    def share_until(self, grid: np.ndarray) -> np.ndarray:
        """Return the share of values at or below each point of an ascending grid: known at the edges, straight between them."""
        inside = (self.edges >= self.low) & (self.edges < self.high)
        points = np.concatenate([[np.nextafter(self.low, -np.inf)], self.edges[inside], [self.high]])
        shares = np.cumsum(self.counts)[:-1][inside] / self.counts.sum()
        return np.interp(grid, points, np.concatenate([[0.0], shares, [1.0]]))

    def quantile(self, share: float) -> float:
        """Return about the value below which this share of the values lies."""
        grid = np.unique(np.concatenate([np.clip(self.edges, self.low, self.high), [self.low, self.high]]))
        return float(np.interp(share, self.share_until(grid), grid))


def population_stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """PSI of two arrays of row counts over the same bins: sum of (c - r) ln(c / r) of shares, 0 for equal shares.

    So that an empty bin has a finite effect, each bin gets half a row of the side with fewer rows (the Jeffreys prior
    of a multinomial), and the same share on the other side. Source: Siddiqi 2006, see DriftPolicy.
    """
    prior = PRIOR / min(reference.sum(), current.sum())
    r, c = ((counts / counts.sum() + prior) / (1 + prior * len(counts)) for counts in (reference, current))
    return float(np.sum((c - r) * np.log(c / r)))


def jensen_shannon_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """Jensen-Shannon distance, base 2, in [0, 1], of two arrays of row counts over the same bins.

    Square root of the divergence; Endres & Schindelin, IEEE Trans. Inf. Theory 49, 2003.
    """
    r, c = reference / reference.sum(), current / current.sum()
    middle = (r + c) / 2
    halves = [np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) for side in (r, c)]
    return float(np.sqrt(max(sum(halves) / 2, 0.0)))


def wasserstein_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """1-Wasserstein distance of two *sorted* arrays of finite numbers: the area between their distribution functions.

    In the unit of the numbers, exact up to rounding. Source: Vallender, Theory Probab. Appl. 18, 1974. Between two
    neighbours of the smaller array its distribution function is flat, so the larger one's is integrated there in closed
    form from running sums: a sum and a few binary searches instead of a merge of the two.
    """
    many, few = (reference, current) if len(reference) >= len(current) else (current, reference)
    middle = many[len(many) // 2]
    many, few = many - middle, few - middle
    n, sums = len(many), np.concatenate([[0.0], np.cumsum(many)])
    level = np.arange(len(few) + 1) / len(few)
    ends = np.concatenate([[min(many[0], few[0])], few, [max(many[-1], few[-1])]])
    rank = np.clip(np.ceil(level * n - 1e-9).astype(int) - 1, 0, n - 1)
    crossing = np.clip(many[rank], ends[:-1], ends[1:])

    def below(points: np.ndarray) -> np.ndarray:
        """The integral of the larger array's distribution function up to each point."""
        found = np.searchsorted(many, points, side="right")
        return (found * points - sums[found]) / n

    at_ends, at_crossing = below(ends), below(crossing)
    under = level * (crossing - ends[:-1]) - (at_crossing - at_ends[:-1])
    over = (at_ends[1:] - at_crossing) - level * (ends[1:] - crossing)
    return max(float(np.sum(under + over)), 0.0)


def binned_wasserstein(reference: Spread, current: Spread) -> float:
    """About the 1-Wasserstein distance, in the unit of the values: the area between both distribution functions.

    Between the first and the last decile both are straight from edge to edge. Of the tails the sum is known, because the
    signed areas add up to the difference of the means; how they share it follows from what lies in them, and how far out. So
    a plain shift comes out exact, and the distance is never below the difference of the means.
    """
    inner = reference.edges[1:-1] if len(reference.edges) > 2 else reference.edges[:1]
    bounds = np.clip([current.low, current.high, np.nextafter(current.low, -np.inf)], inner[0], inner[-1])
    grid = np.unique(np.concatenate([inner, bounds]))
    gap = reference.share_until(grid) - current.share_until(grid)
    signed, area = _areas(gap, np.diff(grid))
    lower, upper = gap[0] * _further(gap[0], reference, current), gap[-1] * _further(-gap[-1], reference, current)
    lacking = (current.mean - reference.mean - signed - lower - upper) / 2
    return float(area + abs(lower + lacking) + abs(upper + lacking))


def _further(more: float, reference: Spread, current: Spread) -> float:
    """How far beyond the outer decile that lies which one side has more: as for normal values that get narrower or wider."""
    return 0.5 * reference.deviation if more > 0 else 0.65 * current.deviation


def _areas(gap: np.ndarray, width: np.ndarray) -> tuple[float, float]:
    """The signed and the absolute area under a line through gaps (n,) that are `width` (n - 1,) apart."""
    left, right = gap[:-1], gap[1:]
    size = np.abs(left) + np.abs(right)
    crossed = np.divide(left**2 + right**2, size, out=np.zeros_like(size), where=size > 0)
    whole = np.where(left * right < 0, crossed, size)
    return float(np.sum((left + right) / 2 * width)), float(np.sum(whole / 2 * width))


def homogeneity_p_value(reference: np.ndarray, current: np.ndarray) -> float:
    """The probability that two samples of one population differ by this much: Pearson's chi-square over the bins.

    Bins of which a side expects fewer than five rows are one bin together; 1 where no two bins are left. It takes rows
    for independent, which neighbours in time are not: the effect and its persistence have to speak as well.
    """
    from scipy.special import chdtrc

    table = _pooled(np.vstack([reference, current]).astype(float))
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    return float(chdtrc(table.shape[1] - 1, np.sum((table - expected) ** 2 / expected)))


def benjamini_hochberg(p_values: np.ndarray) -> np.ndarray:
    """The q-value of each p-value: the lowest false discovery rate at which it counts as a discovery.

    Benjamini & Hochberg, J. R. Statist. Soc. B 57, 1995.
    """
    order = np.argsort(p_values, kind="stable")[::-1]
    ranks = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum.accumulate(np.minimum(p_values[order] * len(p_values) / ranks, 1.0))
    found = np.empty(len(p_values))
    found[order] = adjusted
    return found


def _pooled(table: np.ndarray) -> np.ndarray:
    """The table (2, bins) with its rare bins as one, and that one with the next smallest while it is rare itself."""
    together = table.sum(axis=0)
    needed = EXPECTED * table.sum() / max(table.sum(axis=1).min(), 1.0)
    order = np.argsort(together, kind="stable")
    least = np.searchsorted(together[order], needed)
    while least < len(order) and 0 < together[order[:least]].sum() < needed:
        least += 1
    rare = table[:, order[:least]].sum(axis=1, keepdims=True)
    common = table[:, order[least:]]
    return np.hstack([common, rare]) if rare.sum() else common
