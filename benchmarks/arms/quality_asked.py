"""What an arm of the quality bench is asked, and how it answers. `quality_autogluon` reads the same files without Polars."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

LABEL = "label"


@dataclass(frozen=True)
class Asked:
    """ASKED.json: the problem, and the Parquet files of the development rows and the test rows."""

    kind: str
    metric: str
    classes: Sequence[str]
    features: Sequence[str]
    by_time: bool
    seed: int
    threads: int
    development: str
    test: str
    small: bool = False

    @classmethod
    def read(cls, path: Path) -> Asked:
        """Read what the bench wrote."""
        return cls(**json.loads(path.read_text()))

    def rows(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the development rows and the test rows."""
        return pl.read_parquet(self.development), pl.read_parquet(self.test)

    def y(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the label as numbers; of a text its place in `classes`."""
        label = frame[LABEL]
        return (label.cast(pl.Enum(self.classes)).to_physical() if self.classes else label).to_numpy()


def pandas_rows(asked: Asked) -> tuple[Any, ...]:
    """Return the features of the development rows and of the test rows in pandas.

    Texts are categories of the development rows; what only the test rows have is null.
    """
    development, test = (frame.select(asked.features) for frame in asked.rows())
    known = {
        name: pl.Enum(development[name].drop_nulls().unique().sort())
        for name in asked.features
        if development[name].dtype == pl.String
    }
    return tuple(
        frame.with_columns(pl.col(name).cast(kind, strict=False) for name, kind in known.items()).to_pandas()
        for frame in (development, test)
    )


def score_frame(asked: Asked, score: np.ndarray) -> pl.DataFrame:
    """Return an arm's answer: `score`, or a probability for each class."""
    if asked.classes:
        return pl.DataFrame(score.astype(np.float64), schema=list(asked.classes))
    return pl.DataFrame({"score": score.astype(np.float64)})


def answer(fit: Callable[[Asked], tuple[Callable[[], np.ndarray], str]]) -> None:
    """Answer ASKED.json INTO: `fit` returns how to score the test rows, and what the model is in a few words.

    Its seconds go to INTO/told.json, the scores to INTO/scores.parquet.
    """
    asked, into = Asked.read(Path(sys.argv[1])), Path(sys.argv[2])
    started = time.perf_counter()
    scored, model = fit(asked)
    told: Mapping[str, Any] = {"seconds": time.perf_counter() - started, "model": model}
    score_frame(asked, scored()).write_parquet(into / "scores.parquet")
    (into / "told.json").write_text(json.dumps(told))
