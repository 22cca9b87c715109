"""Performance before the labels come: what the metrics would be, were the outcomes what model and test split say they are.

A model of the outcome, given what is known with the prediction, is fitted on the champion's test split. Labels are drawn from
it again and again, and each time the task's own metrics are computed: their mean is the estimate, their spread the interval.

- Probabilities say themselves how likely each outcome is. They are first made to mean what they say on the test split (the same
  `calibrate` that development uses). With labels drawn so, the expected counts of right and wrong decisions are the sums of
  probabilities: Lewis, Evaluating and optimizing autonomous text classification systems, SIGIR 1995; as an estimate of a
  deployed model's performance: Bialek et al., Estimating Model Performance Under Covariate Shift Without Labels, 2024.
- A number says nothing about its error. Gradient boosting learns the size of the error from the prediction and the features, and
  errors are drawn at that size with the shape that they had on the test split (a location-scale model: Koenker & Bassett,
  Econometrica 50, 1982; learning the loss from features: Yoo & Kweon, Learning Loss for Active Learning, CVPR 2019).

The interval is that of a parametric bootstrap (Efron & Tibshirani 1993, ch. 6.5), made wider by how far estimates were off on parts
of the test split beyond what chance explains (a random effect of time, by moments: DerSimonian & Laird, 1986).

What an estimate cannot see: that the same features now lead to other outcomes (concept drift). It stays as it was until labels
come; only features that lie elsewhere move it. The realised performance is there for that, and says how far the estimate was off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol, Self

import numpy as np
import polars as pl

from ml_assets.development.model_files import limited, yielding_threads
from ml_assets.evaluation.metrics import evaluate, known_values
from ml_assets.tasks import Task

DRAWS = 200
FEW_DRAWS = 50
"""Draws for a metric that is not cheap, and for the parts of the test split."""
PARTS = 5
LEAST_ROWS = 200
"""Test rows from which an outcome can be modelled: 40 in each part."""
MOST_ROWS = 10_000
"""Test rows that a model of the outcome is fitted on at most."""
CONFIDENCE = 0.95
SMALL = 1e-12

Sampler = Callable[[np.random.Generator], np.ndarray]


class Outcomes(Protocol):
    """A model of the outcome, given the score of rows and, when it `reads_features`, their features."""

    reads_features: ClassVar[bool]

    @classmethod
    def fit(cls, frame: pl.DataFrame, y: np.ndarray, score: np.ndarray, task: Task, seed: int) -> Self:
        """Fit it on rows of a test split."""

    def of(self, frame: pl.DataFrame, score: np.ndarray) -> Sampler:
        """Return what draws a label for each row, as `Task.labels` gives them."""


@dataclass(frozen=True)
class Estimate:
    """What a metric is expected to be, and the interval in which the realised one should lie in 95 of 100 weeks.

    `chance` is the variance of the draws: what is left when the model of the outcome is right.
    """

    value: float
    low: float
    high: float
    chance: float

    def excess(self, realised: float) -> float:
        """Return the squared error beyond what chance explains on average."""
        return (self.value - realised) ** 2 - self.chance


@dataclass(frozen=True)
class Estimator:
    """Estimates the metrics of a champion's answers to rows without labels.

    `excess` are, by metric, the squared errors of estimates of parts of the test split beyond chance (`Estimate.excess`); metrics
    that do not apply to the test split are not in it, and not estimated. `columns` are the features that it reads.
    """

    task: Task
    threshold: float
    outcomes: Outcomes
    columns: tuple[str, ...]
    excess: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def estimate(
        self,
        frame: pl.DataFrame,
        score: np.ndarray,
        *,
        seen: Mapping[str, Sequence[float]] | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> dict[str, Estimate]:
        """Return the metrics that can be estimated, by name, for the rows of `frame` (n) with their `score` (n,) or (n, classes).

        seen: by metric the excess of estimates whose labels have come since; they count as those of the test split do.
        """
        drawn = self.draws(frame, score, list(self.excess), draws=draws, seed=seed)
        beyond = {name: [*known, *(seen or {}).get(name, ())] for name, known in self.excess.items()}
        return {name: _estimate(values, beyond[name]) for name, values in drawn.items() if len(values)}

    def draws(
        self, frame: pl.DataFrame, score: np.ndarray, metrics: Sequence[str], *, draws: int, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Return each metric's values (draws,) on labels drawn anew; draws to which it does not apply are left out."""
        order = np.argsort(score, kind="stable") if score.ndim == 1 else np.arange(len(score))
        frame, score = _at(frame.select(self.columns), order), score[order]  # sorted again almost for free
        chosen = [self.task.metric(name) for name in metrics]
        sample, generator = self.outcomes.of(frame, score), np.random.default_rng(seed)
        found: dict[str, list[float]] = {name: [] for name in metrics}
        for number in range(draws if len(score) else 0):
            y = sample(generator)
            for metric in chosen:
                if metric.cheap or number < FEW_DRAWS:
                    value = metric.compute(y, score, self.threshold)
                    found[metric.name] += [] if value is None else [value]
        return {name: np.array(values) for name, values in found.items()}


def fit_estimator(
    frame: pl.DataFrame,
    y: np.ndarray,
    score: np.ndarray,
    *,
    task: Task,
    threshold: float,
    features: Sequence[str],
    seed: int = 0,
) -> Estimator | str:
    """Return an estimator fitted on a test split, or why there is none.

    frame: the test rows (n) in order of time, with the `features`; y (n,) their labels and score the champion's answers, see `Task`.
    """
    model = MODELS.get(task.output)
    if model is None:
        return f"a {task.kind} has no outcome"
    if len(y) < LEAST_ROWS:
        return f"the test split has {len(y):,} rows, fewer than {LEAST_ROWS}"
    columns = tuple(features) if model.reads_features else ()
    frame = frame.select(columns)
    whole = Estimator(task, threshold, model.fit(frame, y, score, task, seed), columns)
    return replace(whole, excess=_excess(whole, model, frame, y, score, seed))


def _excess(
    whole: Estimator, model: type[Outcomes], frame: pl.DataFrame, y: np.ndarray, score: np.ndarray, seed: int
) -> dict[str, tuple[float, ...]]:
    """Estimate each part of the test split from the others, and hold it against what was realised there."""
    known = known_values(evaluate(y, score, threshold=whole.threshold, task=whole.task))
    found: dict[str, list[float]] = {name: [] for name, value in known.items() if value is not None}
    for part in np.array_split(np.arange(len(y)), PARTS):
        rest = np.setdiff1d(np.arange(len(y)), part)
        outcomes = model.fit(_at(frame, rest), y[rest], score[rest], whole.task, seed)
        one = replace(whole, outcomes=outcomes, excess=dict.fromkeys(found, ()))
        realised = known_values(evaluate(y[part], score[part], threshold=whole.threshold, task=whole.task))
        for name, estimate in one.estimate(_at(frame, part), score[part], draws=FEW_DRAWS, seed=seed).items():
            if (value := realised[name]) is not None:
                found[name].append(estimate.excess(value))
    return {name: tuple(values) for name, values in found.items()}


def _at(frame: pl.DataFrame, places: np.ndarray) -> pl.DataFrame:
    """Return the rows at these places; of a frame without columns, itself."""
    return frame[places] if frame.width else frame


def _estimate(drawn: np.ndarray, excess: Sequence[float]) -> Estimate:
    """Widen the draws about their mean, so that their variance has the mean excess too."""
    middle, chance = float(drawn.mean()), float(drawn.var())
    beyond = max(float(np.mean(excess)), 0.0) if len(excess) else 0.0
    wider = float(np.sqrt((chance + beyond) / max(chance, SMALL)))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(middle, middle + wider * float(low - middle), middle + wider * float(high - middle), chance)


def evenly(rows: int, most: int = MOST_ROWS) -> np.ndarray:
    """Return the places of at most `most` of so many rows, spread evenly."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64)) if rows else np.arange(0)


# -- probabilities -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chances:
    """Outcomes as likely as the calibrated probabilities say: of one class (n,), or of each (n, classes)."""

    reads_features: ClassVar[bool] = False
    links: tuple[Callable[[np.ndarray], np.ndarray], ...]

    @classmethod
    def fit(cls, frame: pl.DataFrame, y: np.ndarray, score: np.ndarray, task: Task, seed: int) -> Self:
        """Calibrate, where that helps on rows that it was not fitted on."""
        from ml_assets.development.calibration import calibrate

        some = evenly(len(y))
        with limited(1):
            return cls(tuple(link.apply for link in calibrate(task, y[some], score[some], seed=seed).links))

    def of(self, frame: pl.DataFrame, score: np.ndarray) -> Sampler:
        """Return what draws 0 or 1, or the code of a class, for each row."""
        chance = score
        for apply in self.links:
            chance = apply(chance)
        if chance.ndim == 1:
            return lambda generator: (generator.random(len(chance)) < chance).astype(np.int64)
        until = np.cumsum(chance, axis=1)
        until[:, -1] = np.inf  # rounding must not leave a row without a class
        return lambda generator: (generator.random((len(chance), 1)) >= until).sum(axis=1)


# -- numbers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """Outcomes as far from the prediction as errors of such rows were: size by features, times a `shape` from the test split."""

    reads_features: ClassVar[bool] = True
    size: Callable[[pl.DataFrame, np.ndarray], np.ndarray]
    shape: np.ndarray

    @classmethod
    def fit(cls, frame: pl.DataFrame, y: np.ndarray, score: np.ndarray, task: Task, seed: int) -> Self:
        """Learn the size from every other row, and the shape from those between: their errors in units of that size."""
        some = evenly(len(y))
        frame, score, error = frame[some], score[some], (y - score)[some]
        learn = np.arange(len(error)) % 2 == 0
        size = _sizes(frame.filter(learn), score[learn], error[learn], seed)
        return cls(size, error[~learn] / size(frame.filter(~learn), score[~learn]))

    def of(self, frame: pl.DataFrame, score: np.ndarray) -> Sampler:
        """Return what draws a number for each row; the shape itself is drawn anew each time, as it is only known from so many rows."""
        size = self.size(frame, score)

        def sample(generator: np.random.Generator) -> np.ndarray:
            shape = generator.choice(self.shape, len(self.shape))
            return score + size * generator.choice(shape, len(score))

        return sample


def _sizes(
    frame: pl.DataFrame, score: np.ndarray, error: np.ndarray, seed: int
) -> Callable[[pl.DataFrame, np.ndarray], np.ndarray]:
    """Return a model of the absolute error by score and features, which is never below a hundredth of the mean one."""
    yielding_threads()
    from sklearn.ensemble import HistGradientBoostingRegressor

    absolute = np.abs(error)
    least = max(float(absolute.mean()) / 100, SMALL)
    known = {
        name: frame[name].cast(pl.String).unique().sort() for name in frame.columns if not _number(frame.schema[name])
    }
    model = HistGradientBoostingRegressor(
        loss="gamma", max_iter=60, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False, random_state=seed
    )
    with limited(1):
        model.fit(_matrix(frame, score, known), np.maximum(absolute, least))

    def size(rows: pl.DataFrame, scores: np.ndarray) -> np.ndarray:
        with limited(1):
            return np.maximum(model.predict(_matrix(rows, scores, known)), least)

    return size


def _matrix(frame: pl.DataFrame, score: np.ndarray, known: Mapping[str, pl.Series]) -> np.ndarray:
    """Return score and features as numbers (n, 1 + d): a text is its place among the `known` ones; NaN for null and unknown."""
    columns = [
        pl.col(name).cast(pl.Float64, strict=False)
        if name not in known
        else pl.col(name).cast(pl.String).replace_strict(known[name], range(len(known[name])), default=None)
        for name in frame.columns
    ]
    numbers = frame.select(columns).cast(pl.Float64).to_numpy()
    return np.column_stack([score, np.where(np.isfinite(numbers), numbers, np.nan)])


def _number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


MODELS: Mapping[str, type[Outcomes]] = {"probability": Chances, "probabilities": Chances, "value": Errors}
"""The model of the outcome by what a task answers (`Task.output`)."""
