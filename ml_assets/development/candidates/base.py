"""What every candidate is: a name, declared defaults, what it supports, a search space, and one way to be fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.encoding import Encoder, Matrix
from ml_assets.development.links import Link, Spread, Target
from ml_assets.development.model_files import FORMATS, MISSING, Model, Scores, finished, packed
from ml_assets.tasks import Metric, Task
from ml_assets.tasks.base import Output

if TYPE_CHECKING:
    import optuna

PARITY_ROWS = 2_000
"""Training rows on which a saved model is compared with the fitted one."""


class CandidateError(ValueError):
    """A candidate does not exist, or the rows it was given cannot teach it anything."""


@dataclass(frozen=True)
class Support:
    """Whether a candidate applies, and why not; true or false by itself."""

    applies: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.applies


@dataclass(frozen=True)
class Rows:
    """Rows with labels (`y`, see `Task`; empty for a clustering) and their matrices, each made once, when first asked for."""

    frame: pl.DataFrame
    y: np.ndarray
    encoder: Encoder

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def codes(self) -> Matrix:
        """Return `Encoder.codes`: for trees that take NaN."""
        return self.encoder.codes(self.frame)

    @cached_property
    def filled(self) -> Matrix:
        """Return `Encoder.codes` with a number for null: for trees that do not take NaN."""
        return np.where(np.isnan(self.codes), np.float32(MISSING), self.codes)

    @cached_property
    def dense(self) -> Matrix:
        """Return `Encoder.dense`: for linear models, kernels and networks."""
        return self.encoder.dense(self.frame)

    def take(self, index: np.ndarray) -> Rows:
        """Return the rows at `index`, in that order; matrices that are made already are not made again."""
        taken = Rows(self.frame[index], self.y[index] if len(self.y) else self.y, self.encoder)
        for name in ("codes", "filled", "dense"):
            if name in self.__dict__:
                taken.__dict__[name] = self.__dict__[name][index]
        return taken


@dataclass(frozen=True)
class Fitting:
    """How to fit, the same for all candidates: for which task and metric, from which seed, with how many threads.

    `size` is what an earlier fit found enough (rounds, epochs), for rows that leave none to watch.
    """

    task: Task
    metric: Metric
    seed: int = 0
    threads: int = 2
    size: int | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted estimator in memory: `raw` says what it says of a matrix, `links` and `output` make that an answer."""

    format: str
    estimator: Any
    raw: Callable[[Matrix], Scores]
    output: Output
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    size: int | None = None
    threads: int = 2

    def scores(self, rows: Rows) -> Scores:
        """Return the answers for rows, see `Task`."""
        return finished(self.raw(self._matrix(rows)), self.links, self.output)

    def packed(self, rows: Rows, *, seed: int) -> Model:
        """Return the model in its saved form; `ModelFileError` when that says something else of some of these rows."""
        like = self._matrix(rows.take(sampled(len(rows), PARITY_ROWS, seed)))
        return packed(
            self.format,
            rows.encoder,
            self.estimator,
            like=like,
            reference=self.raw(like),
            parameters=self.parameters,
            notes=self.notes,
            links=self.links,
            output=self.output,
            threads=self.threads,
        )

    def _matrix(self, rows: Rows) -> Any:
        return FORMATS[self.format].of_rows(rows)


@dataclass(frozen=True)
class Candidate(ABC):
    """A kind of model that may win a problem.

    Subclasses are frozen dataclasses whose fields are the hyperparameters with their defaults. `complexity` orders them: of
    equals the least complex wins. `outputs` are the tasks that it does, `least_rows` the training rows below which it says
    nothing, `search_rows` those that a trial of a search fits at most. `watches` tells that watched rows say when to stop.
    """

    name: ClassVar[str]
    complexity: ClassVar[int]
    outputs: ClassVar[frozenset[Output]] = frozenset({"probability", "probabilities", "value"})
    least_rows: ClassVar[int] = 2
    search_rows: ClassVar[int] = 20_000
    library: ClassVar[str] = "scikitlearn"
    watches: ClassVar[bool] = False

    log_target: bool = False
    """For numbers: fit the logarithm of the outcome."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the hyperparameters by name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def supports(self, task: Task, rows: int) -> Support:
        """Say whether the candidate applies to a task with this many training rows."""
        if task.output not in self.outputs:
            return Support(False, f"{self.name} does not do {task.kind}")
        if rows < self.least_rows:
            return Support(False, f"{self.name} needs at least {self.least_rows} training rows, and there are {rows}")
        return Support(True)

    def space(self, trial: optuna.Trial, rows: Rows, how: Fitting) -> Candidate:
        """Return the variant that a trial suggests; a candidate without anything to search returns itself."""
        return self

    def variant(self, parameters: Mapping[str, Any]) -> Candidate:
        """Return the candidate with these hyperparameters; names that it does not have are left out."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in parameters.items()
            if name in self.defaults
        }
        return replace(self, **known)

    @property
    def searches(self) -> bool:
        """Tell whether there is anything to search."""
        return type(self).space is not Candidate.space

    @abstractmethod
    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        """Fit on `train`; `watched` may only say when to stop. The same input and seed give the same scores.

        Raises `CandidateError` for rows that cannot teach it anything.
        """


def skewed(y: np.ndarray) -> bool:
    """Tell whether outcomes are of one sign and lean far to the right: where a logarithm may help."""
    if len(y) < 3 or y.min() < 0 or y.std() == 0:
        return False
    return float(np.mean(((y - y.mean()) / y.std()) ** 3)) > 1.0


def suggest_log(trial: optuna.Trial, rows: Rows, how: Fitting) -> bool:
    """Return whether a trial fits logarithms: only of outcomes that are numbers from 0."""
    if how.task.output != "value" or not len(rows.y) or rows.y.min() < 0:
        return False
    return bool(trial.suggest_categorical("log_target", [False, True]))


def target_of(rows: Rows, how: Fitting, *, log: bool) -> tuple[np.ndarray, tuple[Target, ...]]:
    """Return what to fit on, and the links that lead back: for numbers standardised (logarithms of) outcomes, else labels."""
    if how.task.output != "value":
        return rows.y, ()
    target = Target.fit(rows.y, log=log)
    return target.forward(rows.y), (target,)


def centred(links: tuple[Link, ...], raw: Scores, y: np.ndarray, metric: Metric) -> tuple[Link, ...]:
    """Return links under which a model of logarithms has the outcomes' mean, where the metric asks for means.

    `raw` is what the estimator says of rows with outcomes `y`, better of rows that it was not fitted on.
    """
    if metric.quantile is not None or not links or not isinstance(links[0], Target) or not links[0].log:
        return links
    said = links[0].apply(raw) - links[0].low
    smear = float(np.clip((y - links[0].low).mean() / said.mean(), 0.5, 2.0)) if said.mean() > 0 else 1.0
    return (replace(links[0], smear=smear), *links[1:])


def both_classes(rows: Rows, how: Fitting) -> None:
    """Refuse rows that hold fewer classes than a classifier needs to learn anything."""
    if how.task.output != "value" and len(np.unique(rows.y)) < 2:
        raise CandidateError(
            f"the labels are all {rows.y[:1].tolist()}: a classifier needs rows of two classes or more"
        )


def constant(y: np.ndarray, how: Fitting) -> float | list[float]:
    """Return the best answer that is the same for all rows with outcomes `y`: class shares, the mean, the metric's quantile."""
    if how.task.output == "probabilities":
        shares: list[float] = (np.bincount(y, minlength=len(how.task.classes)) / len(y)).tolist()
        return shares
    return float(y.mean() if how.metric.quantile is None else np.quantile(y, how.metric.quantile))


def spread(known: np.ndarray, how: Fitting) -> tuple[Link, ...]:
    """Return the link that gives probability 0 to the classes that the training rows did not have; none when all were there."""
    if how.task.output != "probabilities" or len(known) == len(how.task.classes):
        return ()
    return (Spread(tuple(int(code) for code in known), len(how.task.classes)),)


def sampled(rows: int, most: int, seed: int) -> np.ndarray:
    """Return the sorted indices of at most `most` of `rows` rows, drawn without replacement."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def told(defaults: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return hyperparameters for the record, with what was found while fitting."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (dict(defaults) | more).items()}
