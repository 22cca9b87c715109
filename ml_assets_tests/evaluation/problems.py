"""One small problem of each task over scikit-learn's own data, developed by the cheap candidates, ready to be examined."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from ml_assets.development.challenger import Challenger
from ml_assets.development.encoding import Encoder
from ml_assets.development.lifecycle import Plan, develop
from ml_assets.development.model_files import Model, hashes
from ml_assets.development.search import Budget
from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.challenge import Subject
from ml_assets.tasks import Task, task

MADE_AT = datetime(2013, 11, 1, tzinfo=UTC)
START = datetime(2013, 1, 1, tzinfo=UTC)
VALUE = {"true_positive": 10.0, "false_positive": -3.0, "false_negative": -20.0}
CHEAP = ("baseline", "linear")


def loaded(name: str) -> pl.DataFrame:
    """Return scikit-learn's data set as a training set: features, label, key, moment, split."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    columns = [str(column).replace(" (cm)", "").replace(" ", "_") for column in data.feature_names]
    frame = pl.DataFrame(np.asarray(data.data), schema=columns)
    label = pl.Series(data.target)
    if name == "iris":
        label = pl.Series(np.array(data.target_names)[data.target].tolist())
    frame = frame.with_columns(label=label)
    order = np.random.default_rng(0).permutation(frame.height)
    return dated(frame[order])


def dated(frame: pl.DataFrame) -> pl.DataFrame:
    """Add what every training set has."""
    row = pl.int_range(pl.len())
    split = pl.when(row < 0.6 * pl.len()).then(pl.lit("train")).when(row < 0.8 * pl.len()).then(pl.lit("validation"))
    hours = pl.duration(hours=row * (8_000 // frame.height))
    return frame.with_columns(
        row=row.cast(pl.String), event_timestamp=pl.lit(START) + hours, split=split.otherwise(pl.lit("test"))
    ).with_columns(
        pl.col("event_timestamp").dt.cast_time_unit("us"),
        half=pl.when(row % 2 == 0).then(pl.lit("even")).otherwise(pl.lit("odd")),
    )


def plan(frame: pl.DataFrame, kind: Task, metric: str, **more: object) -> Plan:
    features = tuple(name for name in frame.columns if name not in ("label", "row", "event_timestamp", "split", "half"))
    return Plan(kind, kind.metric(metric), features, budget=Budget(trials=0), by_time=False, **more)  # type: ignore[arg-type]


def subject(frame: pl.DataFrame, made: Plan, folder: Path, wanted: Sequence[str] = CHEAP) -> Subject:
    """Develop and return what is examined."""
    found = develop(frame, made, folder=folder, wanted=wanted)
    return Subject(
        problem="sample",
        version="linear@12345678",
        plan=made,
        challenger=found.challenger,
        results=found.results,
        reason=found.selection.reason,
        currency="USD",
    )


def binary(folder: Path) -> tuple[Subject, pl.DataFrame]:
    frame = loaded("breast_cancer")
    return subject(frame, plan(frame, task("classification"), "roc_auc", value=VALUE), folder), frame


def multiclass(folder: Path) -> tuple[Subject, pl.DataFrame]:
    frame = loaded("iris")
    kind = task("classification", classes=["setosa", "versicolor", "virginica"])
    return subject(frame, plan(frame, kind, "log_loss"), folder), frame


def regression(folder: Path) -> tuple[Subject, pl.DataFrame]:
    frame = loaded("diabetes")
    return subject(frame, plan(frame, task("regression"), "rmse"), folder), frame


def clustering(folder: Path) -> tuple[Subject, pl.DataFrame]:
    """The species of iris flowers as clusters: a table that tells the cluster of each species."""
    frame = loaded("iris").rename({"label": "species"})
    made = plan(frame, task("clustering"), "silhouette")
    encoder = Encoder.fit(frame.filter(pl.col("split") == "train"), made.features)
    table = {"setosa": 0, "versicolor": 1, "virginica": 2}
    fitted = {"column": "species", "table": table, "fallback": 0}
    from ml_assets.development.model_files import FORMATS

    model = Model("lookup", encoder, FORMATS["lookup"].dump(fitted, np.empty(0)), output="cluster")
    model.save(folder / "k_means")
    result = CandidateResult(
        "k_means",
        "trained",
        str(folder / "k_means"),
        metrics={"silhouette": 0.5, "stability": 0.9},
        sha256=hashes(model.files()),
        features=made.features,
    )
    examined = Subject("sample", "k_means@12345678", made, Challenger(result, 0.5, "", {}), [result], reason="the best")
    return examined, frame
