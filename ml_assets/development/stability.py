"""Whether a clustering would be found again in other rows of the same kind."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ml_assets.development.candidates.base import Candidate, CandidateError, Fitting, Rows, sampled
from ml_assets.tasks.grouping import stability

SHARE = 0.8
MOST_ROWS = 5_000


def resampled_stability(
    candidate: Candidate, rows: Rows, how: Fitting, *, resamples: int = 10, most_rows: int = MOST_ROWS
) -> float:
    """Return how far clusterings of random subsamples of 80 % agree on their common rows: 1 wholly, 0 as by chance.

    It is the mean adjusted Rand index over all pairs of subsamples (Ben-Hur et al., Pacific Symposium on Biocomputing
    2002; von Luxburg, Foundations and Trends in Machine Learning 2, 2010). Give the `variant` of a fitted
    clustering's `parameters`: else each subsample chooses its own number of clusters. Of large data `most_rows` are drawn first.
    Rows in no cluster count as one group; a subsample that has no clusters at all counts as one that agrees with none.
    """
    drawn = rows.take(sampled(len(rows), most_rows, how.seed))
    random = np.random.default_rng(how.seed)
    parts = [np.sort(random.choice(len(drawn), round(SHARE * len(drawn)), replace=False)) for _ in range(resamples)]
    labels = [_labels(candidate, drawn, part, how) for part in parts]
    return float(np.mean([_agreement(*pair) for pair in combinations(labels, 2)]))


def _labels(candidate: Candidate, rows: Rows, part: np.ndarray, how: Fitting) -> np.ndarray | None:
    """Return the cluster of each row (-2 outside of the part), or None when the part has no clusters."""
    taken = rows.take(part)
    found = np.full(len(rows), -2)
    try:
        found[part] = candidate.fit(taken, None, how).scores(taken)
    except CandidateError:
        return None
    return found


def _agreement(one: np.ndarray | None, other: np.ndarray | None) -> float:
    if one is None or other is None:
        return 0.0
    common = (one > -2) & (other > -2)
    return stability(one[common], other[common])
