"""A small training set with everything that an encoder meets, and candidates small enough to be fitted in a blink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows
from ml_assets.development.candidates.registry import candidate, candidates
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import Model
from ml_assets.tasks import Task, task

FEATURES = ("delay", "place", "weekend", "seats", "empty")
POINTS = ("delay", "seats", "place")
"""Features of the clustering: without those that say nothing of the place."""

TASKS: dict[str, Task] = {
    "binary": task("classification"),
    "multiclass": task("classification", classes=("low", "middle", "high")),
    "regression": task("regression"),
    "clustering": task("clustering", clusters=(2, 4)),
}
SUPERVISED = ("binary", "multiclass", "regression")


def made(rows: int, *, seed: int = 0, train: float = 0.6) -> pl.DataFrame:
    """Return rows whose label depends on `delay` and `place`, split in order into train, validation and test."""
    random = np.random.default_rng(seed)
    delay, place = random.normal(10, 20, rows), random.choice(["x", "y", "z"], rows, p=[0.6, 0.3, 0.1])
    chance = 1 / (1 + np.exp(-(delay - 10) / 8 - 2.0 * (place == "y")))
    split = np.where(
        np.arange(rows) < train * rows, "train", np.where(np.arange(rows) < 0.8 * rows, "validation", "test")
    )
    return pl.DataFrame(
        {
            "delay": np.where(random.random(rows) < 0.1, np.nan, delay),
            "place": place,
            "weekend": random.random(rows) < 0.3,
            "seats": random.integers(50, 300, rows),
            "empty": pl.Series([None] * rows, dtype=pl.Float64),
            "label": (random.random(rows) < chance).astype(np.int64),
            "split": split,
        }
    )


def labelled(frame: pl.DataFrame, kind: str, *, unit: float = 1.0, seed: int = 0) -> pl.DataFrame:
    """Return the frame with the label of another task: by `delay` and `place` as well, and for a regression in `unit`.

    For a clustering the rows come to lie around three points, by `place`.
    """
    random = np.random.default_rng(seed)
    place = frame["place"]
    if kind == "binary":
        return frame
    if kind == "clustering":
        middle = place.replace_strict({"x": 0.0, "y": 60.0, "z": 120.0}).to_numpy()
        return frame.drop("label").with_columns(
            delay=pl.Series(middle + random.normal(0, 5, frame.height)),
            seats=pl.Series(middle + random.normal(0, 5, frame.height)),
        )
    value = frame["delay"].fill_nan(10.0) / 10 + 2.0 * (place == "y").cast(float) + random.normal(0, 0.5, frame.height)
    if kind == "regression":
        return frame.with_columns(label=unit * (value + 10))
    cut = np.digitize(value.to_numpy(), np.quantile(value.to_numpy(), [0.4, 0.8]))
    return frame.with_columns(label=pl.Series(np.array(TASKS[kind].classes)[cut]))


SMALL = {
    "random_forest": {"trees": 20},
    "xgboost": {"rounds": 40},
    "neural": {"epochs": 3, "least_steps": 300},
    "persistence": {"last_value": "place"},
}


def small(name: str, kind: str = "binary") -> Candidate:
    """Return the candidate, small; persistence takes `place` for the last class, and `delay` for the last number."""
    known = replace(candidate(name), **SMALL.get(name, {}))
    return replace(known, last_value="delay") if name == "persistence" and kind == "regression" else known


def names_for(kind: str) -> list[str]:
    """Return the names of the candidates that do a kind of task."""
    return [known.name for known in candidates() if TASKS[kind].output in known.outputs]


EVERY = [(kind, name) for kind in TASKS for name in names_for(kind)]
"""Every kind of task with every candidate that does it."""


def how(kind: str = "binary", *, metric: str = "", seed: int = 0, threads: int = 1, size: int | None = None) -> Fitting:
    """Return how to fit a kind of task."""
    known = TASKS[kind]
    return Fitting(known, known.metric(metric or known.default_metric), seed=seed, threads=threads, size=size)


def pair(frame: pl.DataFrame, features: Sequence[str], kind: str = "binary") -> tuple[Rows, Rows]:
    """Return the rows of splits `train` and `validation`, under the encoder of the former."""
    parts = [frame.filter(pl.col("split") == split) for split in ("train", "validation")]
    encoder = Encoder.fit(parts[0], features)
    known = TASKS[kind]
    first, second = (
        Rows(part, known.labels(part["label"]) if known.supervised else np.empty(0), encoder) for part in parts
    )
    return first, second


def fit(
    known: Candidate, frame: pl.DataFrame, features: Sequence[str], *, kind: str = "binary", seed: int = 0
) -> Fitted:
    """Return the candidate fitted on split `train`, with split `validation` to watch."""
    train, watched = pair(frame, features, kind)
    return known.fit(train, watched if len(watched) else None, how(kind, seed=seed))


def fitted(
    known: Candidate, frame: pl.DataFrame, features: Sequence[str], *, kind: str = "binary", seed: int = 0
) -> Model:
    """Return the model of the candidate fitted on split `train`, in its saved form."""
    return fit(known, frame, features, kind=kind, seed=seed).packed(pair(frame, features, kind)[0], seed=seed)


def features_of(kind: str) -> tuple[str, ...]:
    """Return the features of a kind of task."""
    return POINTS if kind == "clustering" else FEATURES


@cache
def sample(kind: str) -> pl.DataFrame:
    """Return the small training set with the label of a kind of task."""
    return labelled(made(1_000), kind)


@cache
def fit_of(kind: str, name: str) -> Fitted:
    """Return the small candidate, fitted on the sample of a kind of task; once for all tests."""
    return fit(small(name, kind), sample(kind), features_of(kind), kind=kind)


@cache
def model_of(kind: str, name: str) -> Model:
    """Return the saved form of `fit_of`."""
    return fit_of(kind, name).packed(pair(sample(kind), features_of(kind), kind)[0], seed=0)
