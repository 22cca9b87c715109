"""Why one answer is what it is: how far each feature moved it away from the answers to the bundle's example rows.

Shapley values by permutation (Strumbelj & Kononenko 2014): features are revealed one after the other, in random orders and each also
backwards; a feature's contribution is the mean of what the answer changed by when it was revealed. They always sum to the answer less the
reference. The shap library does the same, but changes settings of the whole process while it runs, which a server with threads cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

METHOD = "Shapley values, by permutation against the bundle's example rows"
EVALUATIONS = 4_000
"""Rows that one explanation scores at most, about; a model that has more features than fit is explained with one order both ways."""
MOST_ORDERS = 20
SEED = 2013

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Contributions:
    """`answer` is `reference` plus the sum of `by_feature`, in the output that `explained` names; largest effects come first.

    `scored` is the number of rows that were scored for it.
    """

    explained: str
    answer: float
    reference: float
    by_feature: Mapping[str, float]
    scored: int
    method: str = METHOD


def contributions(
    row: Row, background: Sequence[Row], scores: Callable[[Sequence[Row]], np.ndarray], *, classes: Sequence[str] = ()
) -> Contributions:
    """Return what each feature of `row` contributed; `scores` answers rows with (n,) numbers, or (n, classes) probabilities.

    Features that a background row shares with `row` contribute nothing there. The same input gives the same.
    """
    names = sorted(row)
    orders = list(_orders(len(names), len(background)))
    asked = list(chain.from_iterable(_revealed(row, other, names, order) for other in background for order in orders))
    found = np.asarray(scores([row, *asked]), dtype=np.float64)
    place = int(found[0].argmax()) if found.ndim == 2 else None
    answers = found if place is None else found[:, place]
    steps = np.diff(answers[1:].reshape(len(background), len(orders), len(names) + 1))
    moved = np.zeros(len(names))
    for number, order in enumerate(orders):
        moved[order] += steps[:, number].mean(axis=0) / len(orders)
    starts = answers[1:].reshape(len(background), len(orders), -1)[:, 0, 0]
    by_feature = {names[place]: float(moved[place]) for place in np.argsort(-np.abs(moved), kind="stable")}
    explained = "score" if place is None else f"probability of {classes[place] if classes else place}"
    return Contributions(explained, float(answers[0]), float(starts.mean()), by_feature, len(found))


def _orders(features: int, others: int) -> Iterator[np.ndarray]:
    """Yield orders in pairs, one the other backwards, as many as `EVALUATIONS` has room for."""
    pairs = max(1, min(MOST_ORDERS // 2, EVALUATIONS // (2 * others * (features + 1))))
    random = np.random.default_rng(SEED)
    for _ in range(pairs):
        order = random.permutation(features)
        yield order
        yield order[::-1]


def _revealed(row: Row, other: Row, names: Sequence[str], order: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the other row, and then the same with one more of the row's own values each time."""
    mixed = {name: other.get(name) for name in names}
    yield dict(mixed)
    for place in order:
        mixed[names[place]] = row[names[place]]
        yield dict(mixed)
