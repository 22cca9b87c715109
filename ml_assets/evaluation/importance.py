"""Permutation importance: what a model's answers lose by the declared metric when one column is shuffled among the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import sampled
from ml_assets.development.model_files import Model, unzipped
from ml_assets.evaluation.metrics import Answered, Interval
from ml_assets.tasks import Metric

REPEATS = 5
STUDENT = 2.776
"""The 97.5 % quantile of Student's t with REPEATS - 1 degrees of freedom."""
MOST_COLUMNS = 60
LEAST_ROWS, MOST_ROWS = 200, 2_000
MICROSECONDS = 4_000_000.0
"""What predictions may take, by `cost`: the rows of the sample follow from it, so that they are the same on every machine."""
COSTS = {"prior": 0.1, "lookup": 0.5, "ubj": 4.0, "onnx": 1.0, "onnx_trees": 10.0}
PER_BYTE = 6e-5
"""Of a skops machine, which goes through all its numbers for each row."""
PER_COLUMN = 0.12
LEAST_RANKED, MOST_RANKED, AT_ONCE = 20, 100, 50


@dataclass(frozen=True)
class Importance:
    """By feature, what `metric` loses on `rows` test rows when it is shuffled, largest first, with 95 % intervals.

    `note` says which features were not tried, and why.
    """

    metric: str
    rows: int
    losses: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    note: str = ""

    @property
    def names(self) -> list[str]:
        """Return the features, the most important first."""
        return list(self.losses)


def importance(model: Model, test: Answered, metric: Metric, *, seed: int = 0) -> Importance | str:
    """Return the importance of the model's columns on a seeded sample of the test rows, or why there is none.

    Each column is shuffled five times (Breiman, Machine Learning 45, 2001; Fisher, Rudin & Dominici, JMLR 20, 2019). Of more than
    60 columns those are tried whose shuffling moves the answers most (`sensitivity`).
    """
    if not test.task.supervised:
        return "a clustering has no outcome: see the profile of its clusters"
    columns = model.encoder.names
    rows = affordable(model, min(len(columns), MOST_COLUMNS) * REPEATS, most=MOST_ROWS)
    sample = test.take(sampled(len(test), max(rows, LEAST_ROWS), seed))
    whole = metric.compute(sample.y, sample.score, sample.threshold)
    if whole is None:
        return f"{metric.name} does not apply to the sample: {metric.why_not(sample.y, sample.score, sample.threshold)}"
    tried, note = _tried(model, sample, columns, seed)
    frame, losses = sample.frame.select(columns), {}
    for name in tried:
        losses[name] = _losses(model, frame, sample, metric, name, seed=seed + columns.index(name))
    means = {name: float(np.mean(values)) for name, values in losses.items() if len(values) == REPEATS}
    order = sorted(means, key=lambda name: (-means[name], name))
    return Importance(
        metric.name,
        len(sample),
        {name: means[name] for name in order},
        {name: _interval(losses[name]) for name in order},
        note,
    )


def affordable(model: Model, times: int, *, most: int) -> int:
    """Return how many rows, at most `most`, the model can answer `times` times in about four seconds of one core."""
    return int(min(most, MICROSECONDS / (cost(model) * max(times, 1))))


def cost(model: Model) -> float:
    """Return about how many microseconds the model's answer to one row takes; from its files, not from a clock."""
    if model.format == "ensemble":
        return sum(cost(member) for member in unzipped(model.content).values())
    own = PER_BYTE * len(model.content) if model.format == "skops" else COSTS.get(model.format, 10.0)
    return own + PER_COLUMN * len(model.encoder.names)


def sensitivity(model: Model, frame: pl.DataFrame, columns: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """Return how much the answers to a few rows change, in the mean, when a column is shuffled: a cheap first ranking.

    It needs no outcome, and sees features that only matter together with others.
    """
    rows = max(LEAST_RANKED, affordable(model, len(columns), most=MOST_RANKED))
    sample = frame[sampled(frame.height, rows, seed)]
    generator = np.random.default_rng(seed)
    found: dict[str, float] = {}
    own, before = np.arange(sample.height), model.predict(sample)
    for start in range(0, len(columns), AT_ONCE):
        names = columns[start : start + AT_ONCE]
        whole = pl.concat([sample] * len(names))
        shuffled = {}
        for place, name in enumerate(names):  # of each copy of the rows another column is shuffled
            order = np.tile(own, len(names))
            order[place * len(own) : (place + 1) * len(own)] = generator.permutation(len(own))
            shuffled[name] = sample[name].gather(order)
        answers = model.predict(whole.with_columns(**shuffled)).reshape(len(names), *before.shape)
        found |= dict(zip(names, np.abs(answers - before).reshape(len(names), -1).mean(axis=1).tolist(), strict=True))
    return found


def _tried(model: Model, sample: Answered, columns: Sequence[str], seed: int) -> tuple[list[str], str]:
    if len(columns) <= MOST_COLUMNS:
        return list(columns), ""
    moved = sensitivity(model, sample.frame.select(columns), columns, seed=seed)
    best = set(sorted(columns, key=lambda name: (-moved[name], name))[:MOST_COLUMNS])
    left = len(columns) - MOST_COLUMNS
    note = f"{left:,} of {len(columns):,} features were not tried: shuffled, each moves the answers less than the {MOST_COLUMNS} that were"
    return [name for name in columns if name in best], note


def _losses(
    model: Model, frame: pl.DataFrame, sample: Answered, metric: Metric, name: str, *, seed: int
) -> list[float]:
    """What the metric loses in each repeat: all repeats are answered in one go."""
    if frame[name].n_unique() < 2:
        return [0.0] * REPEATS
    generator, rows = np.random.default_rng(seed), frame.height
    order = np.concatenate([generator.permutation(rows) for _ in range(REPEATS)])
    shuffled = pl.concat([frame] * REPEATS).with_columns(frame[name].gather(order).alias(name))
    scores = model.predict(shuffled).reshape(REPEATS, rows, *sample.score.shape[1:])
    whole = metric.compute(sample.y, sample.score, sample.threshold)
    found = [metric.compute(sample.y, score, sample.threshold) for score in scores]
    return [metric.gain(whole, one) for one in found if one is not None and whole is not None]


def _interval(losses: Sequence[float]) -> Interval:
    middle = float(np.mean(losses))
    half = STUDENT * float(np.std(losses, ddof=1)) / REPEATS**0.5
    return middle - half, middle + half
