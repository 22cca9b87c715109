"""What the benches of batch scoring and of serving answer about: seeded rows, and a bundle of a small fitted model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Fitted, Fitting, Rows
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import Model, hashes
from ml_assets.development.training import CandidateResult
from ml_assets.packaging.bundle import Bundle, build_bundle, load_bundle
from ml_assets.tasks import task

NUMBERS = tuple(f"number_{place}" for place in range(10))
TEXTS = {"place": ("north", "east", "south", "west"), "kind": tuple(f"kind_{number}" for number in range(12))}
FEATURES = (*NUMBERS, *TEXTS)
TRAINING_ROWS = 20_000
PROBLEM = "synthetic"
FIRST = date(2024, 1, 1)
TASK = task("classification")


@dataclass(frozen=True)
class Stored:
    """A bundle's folder and digest, as one process tells another."""

    folder: str
    digest: str

    def load(self, *, threads: int = 2) -> Bundle:
        """Return the verified bundle."""
        return load_bundle(Path(self.folder), digest=self.digest, threads=threads)


def rows(count: int, *, day: int = 0) -> pl.DataFrame:
    """Return a day's seeded observations with their features and labels; `row` is the key."""
    random = np.random.default_rng(day)
    numbers = random.normal(size=(len(NUMBERS), count))
    texts = {name: random.choice(values, count) for name, values in TEXTS.items()}
    chance = 1 / (1 + np.exp(-numbers[0] - numbers[1] * numbers[2] - 2.0 * (texts["place"] == "north")))
    moment = datetime.combine(FIRST + timedelta(days=day), time(), UTC)
    return pl.DataFrame(
        {
            "row": day * 10**9 + np.arange(count),
            "event_timestamp": pl.repeat(moment, count, dtype=pl.Datetime("us", "UTC"), eager=True),
            **dict(zip(NUMBERS, numbers, strict=True)),
            **texts,
            "label": (random.random(count) < chance).astype(np.int64),
        }
    )


def fitted(name: str, **change: Any) -> tuple[Fitted, Rows]:
    """Fit a candidate on seeded rows, with its defaults changed so; return also what it was fitted on."""
    frame = rows(TRAINING_ROWS)
    parts = frame.head(TRAINING_ROWS * 4 // 5), frame.tail(TRAINING_ROWS // 5)
    encoder = Encoder.fit(parts[0], FEATURES)
    train, watched = (Rows(part, TASK.labels(part["label"]), encoder) for part in parts)
    how = Fitting(TASK, TASK.metric(TASK.default_metric), seed=0, threads=2, size=None)
    return replace(candidate(name), **change).fit(train, watched, how), train


def stored(folder: Path, name: str, model: Model) -> Stored:
    """Write the bundle of a candidate's model below `folder`."""
    model.save(folder / "model")
    result = CandidateResult(name, "trained", str(folder / "model"), sha256=hashes(model.files()))
    frame = rows(20)
    built = build_bundle(
        folder / "bundle",
        result=result,
        problem=PROBLEM,
        features={feature: str(frame.schema[feature]) for feature in FEATURES},
        example_rows=frame,
        model_version="1",
        data_hash="synthetic",
        code_version="1",
        threshold=0.5,
        task=TASK,
    )
    return Stored(str(folder / "bundle"), built.digest)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's features as a request has them."""
    return {name: row[name] for name in FEATURES}
