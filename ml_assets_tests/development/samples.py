"""A small training set with everything that an encoder meets, and candidates small enough to be fitted in a blink."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Candidate
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import Model

FEATURES = ("delay", "place", "weekend", "seats", "empty")


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


SMALL = {
    "random_forest": {"trees": 20},
    "xgboost": {"rounds": 40},
    "neural": {"epochs": 3, "least_steps": 300},
}


def small(name: str) -> Candidate:
    return replace(candidate(name), **SMALL.get(name, {}))


def fitted(known: Candidate, frame: pl.DataFrame, features: list[str], *, seed: int = 0, threads: int = 1) -> Model:
    train, validation = (frame.filter(pl.col("split") == split) for split in ("train", "validation"))
    encoder = Encoder.fit(train, features)
    model = known.fit(train, validation, encoder=encoder, label="label", seed=seed, threads=threads)
    assert isinstance(model, Model)
    return model
