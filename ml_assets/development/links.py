"""Links: the small functions between what an estimator says and what a model answers. Each is a few numbers, kept as JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

Scores = np.ndarray
_LIMIT = 500.0  # exp beyond it would overflow
_TINY = 1e-12


class LinkError(ValueError):
    """A link is of an unknown kind."""


@dataclass(frozen=True)
class Link(ABC):
    """A function of scores that keeps their number of rows. `kind` names it in a file."""

    kind: ClassVar[str]

    @abstractmethod
    def apply(self, scores: Scores) -> Scores:
        """Return what the model answers where the estimator, or the link before, said `scores`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the link as values that JSON has."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Platt(Link):
    """Decision values d (n,) as probabilities 1 / (1 + exp(-(slope d + offset))) (Platt 1999)."""

    kind: ClassVar[str] = "platt"
    slope: float
    offset: float

    def apply(self, scores: Scores) -> Scores:
        return _sigmoid(self.slope * np.asarray(scores, dtype=np.float64) + self.offset)


@dataclass(frozen=True)
class PlattEach(Link):
    """Decision values (n, k), one class against the rest each, as probabilities: Platt's of each, made to sum to 1."""

    kind: ClassVar[str] = "platt_each"
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def apply(self, scores: Scores) -> Scores:
        values = np.asarray(scores, dtype=np.float64) * np.array(self.slopes) + np.array(self.offsets)
        return normalised(_sigmoid(values))


@dataclass(frozen=True)
class Spread(Link):
    """Probabilities of the classes `known` (codes) as those of all `classes`: the others have 0."""

    kind: ClassVar[str] = "spread"
    known: tuple[int, ...]
    classes: int

    def apply(self, scores: Scores) -> Scores:
        found = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores
        full = np.zeros((len(scores), self.classes))
        full[:, list(self.known)] = found
        return full


@dataclass(frozen=True)
class Logistic(Link):
    """Probabilities p (n,) moved on the scale of log-odds: Platt's curve of logit(p)."""

    kind: ClassVar[str] = "logistic"
    slope: float
    offset: float

    def apply(self, scores: Scores) -> Scores:
        inside = np.clip(scores, _TINY, 1 - _TINY)
        return _sigmoid(self.slope * np.log(inside / (1 - inside)) + self.offset)


@dataclass(frozen=True)
class Temperature(Link):
    """Probabilities (n, k) to the power of 1 / temperature, made to sum to 1 (Guo et al., ICML 2017)."""

    kind: ClassVar[str] = "temperature"
    temperature: float

    def apply(self, scores: Scores) -> Scores:
        logs = np.log(np.clip(scores, _TINY, 1)) / self.temperature
        return normalised(np.exp(logs - logs.max(axis=1, keepdims=True)))


@dataclass(frozen=True)
class Isotonic(Link):
    """Probabilities by a rising line through the points (x, y); constant outside (Zadrozny & Elkan, KDD 2002)."""

    kind: ClassVar[str] = "isotonic"
    x: tuple[float, ...]
    y: tuple[float, ...]

    def apply(self, scores: Scores) -> Scores:
        return np.interp(scores, self.x, self.y)


@dataclass(frozen=True)
class Target(Link):
    """Numbers back in the outcome's unit: the inverse of what `forward` did to the outcome before fitting.

    Forward: y, or log(1 + y - low) with `log`, less `center`, by `scale`. Backward also multiplies by `smear`, so that the
    mean of a model of logarithms is that of the outcome (after Duan, JASA 78, 1983), and stays within what log can mean.
    """

    kind: ClassVar[str] = "target"
    center: float
    scale: float
    log: bool = False
    low: float = 0.0
    smear: float = 1.0

    @classmethod
    def fit(cls, y: np.ndarray, *, log: bool = False) -> Target:
        """Return the transformation that makes the outcomes (n,) of mean 0 and deviation 1, of their logarithms with `log`."""
        low = float(min(0.0, y.min())) if log else 0.0
        shaped = np.log1p(y - low) if log else y
        return cls(center=float(shaped.mean()), scale=float(shaped.std()) or 1.0, log=log, low=low)

    def forward(self, y: np.ndarray) -> np.ndarray:
        """Return outcomes as what an estimator is fitted on."""
        shaped = np.log1p(np.maximum(y - self.low, 0.0)) if self.log else y
        return (shaped - self.center) / self.scale

    def apply(self, scores: Scores) -> Scores:
        shaped = np.asarray(scores, dtype=np.float64) * self.scale + self.center
        if not self.log:
            return shaped
        # Ten deviations above the mean of the logarithms: an estimator that extrapolates must not answer infinity.
        highest = self.center + 10 * self.scale
        return self.smear * np.expm1(np.clip(shaped, 0.0, highest)) + self.low


KINDS: dict[str, type[Link]] = {
    known.kind: known for known in (Platt, PlattEach, Spread, Logistic, Temperature, Isotonic, Target)
}


def link(content: Mapping[str, Any]) -> Link:
    """Read what `Link.to_dict` returned; `LinkError` for a kind that does not exist."""
    told = dict(content)
    known = KINDS.get(told.pop("kind", ""))
    if known is None:
        raise LinkError(f"link {content} is of no known kind: this code knows {sorted(KINDS)}")
    return known(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})


def applied(links: Sequence[Link], scores: Scores) -> Scores:
    """Return the scores after all links, in order."""
    for one in links:
        scores = one.apply(scores)
    return scores


def normalised(scores: Scores) -> Scores:
    """Return rows (n, k) that sum to 1; a row of zeros becomes equal shares."""
    sums = scores.sum(axis=1, keepdims=True)
    return np.where(sums > 0, scores / np.where(sums > 0, sums, 1), 1 / scores.shape[1])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.reciprocal(1.0 + np.exp(-np.clip(values, -_LIMIT, _LIMIT)))
