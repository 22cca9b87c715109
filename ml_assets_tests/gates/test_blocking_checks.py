"""Negative controls: for every blocking check a broken input that turns it red, beside the clean one that stays green.

Each goes through the functions that the assets call. A red partition must also be refused by every later reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from ml_assets.collection.contract import SourceContract, parse
from ml_assets.defs.flights.feature_views import compute
from ml_assets.defs.flights.sources import cleaning
from ml_assets.deployment.scoring import predictions_suite
from ml_assets.evaluation.gates import Limits, gates
from ml_assets.evaluation.metrics import answered, with_answers
from ml_assets.evaluation.report import make_report
from ml_assets.features.training import training_suite
from ml_assets.features.views import view_suite
from ml_assets.lake import Lake, RedPartitionError
from ml_assets.preparation.observations import suite as observations_suite
from ml_assets.preparation.writing import PARTITION, write_checked
from ml_assets.quality import Expectation, Suite, Verdict, evaluate, suite_for
from ml_assets.source import Source
from ml_assets.tasks import Metric, Task, task

ROOT = Path(__file__).parents[2]
NOW = datetime(2013, 11, 3, tzinfo=UTC)
MOMENT = datetime(2013, 6, 1, tzinfo=UTC)
Change = Callable[[pl.DataFrame], pl.DataFrame]


def verdict(frame: pl.DataFrame, suite: Suite) -> Verdict:
    return evaluate(frame.lazy(), suite)[""]


def first_rows(**changes: pl.Expr) -> Change:
    """Change columns in the first three rows only."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) < 3).then(change).otherwise(pl.col(name)).alias(name)
        for name, change in changes.items()
    )


def all_null(name: str) -> Change:
    return lambda frame: frame.with_columns(pl.lit(None, dtype=frame.schema[name]).alias(name))


def doubled(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.head(1)])


def emptied(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.clear()


def without(name: str) -> Change:
    return lambda frame: frame.drop(name)


# -- the clean inputs: real rows -------------------------------------------------------------------------------------------


@cache
def source(name: str) -> Source:
    documents = yaml.safe_load_all((ROOT / "ml_assets/defs/flights/sources/defs.yaml").read_text())
    declared = next(item["attributes"] for item in documents if item["attributes"]["name"] == name)
    return Source.resolve_from_dict(declared)


def contract() -> SourceContract:
    return source("flights").contract()


@cache
def raw() -> pl.DataFrame:
    from ml_assets.replay.world import csv

    day = pl.read_parquet(ROOT / "data/sample/flights.parquet").filter((pl.col("month") == 6) & (pl.col("day") == 1))
    return parse(csv(day), contract(), name="flights.csv").with_columns(landed_at=pl.lit(MOMENT + timedelta(days=1)))


@cache
def clean() -> pl.DataFrame:
    airports = pl.scan_parquet(ROOT / "data/sample/airports.parquet")
    return cleaning.flights(raw().lazy(), raw_airports=airports).collect()


@cache
def view() -> pl.DataFrame:
    return compute.origin_congestion(clean().lazy()).collect()


@cache
def observations() -> pl.DataFrame:
    moment = pl.col("scheduled_departure") - pl.duration(hours=2)
    return clean().select(
        "flight_id",
        "carrier",
        event_timestamp=moment,
        label=(pl.col("arr_delay") > 15).cast(pl.Int64),
        label_timestamp=pl.col("arrived_at") + pl.duration(days=1),
    )


CLASSES = ("early", "on time", "late")


@cache
def observed_classes() -> pl.DataFrame:
    """The same questions with one of three outcomes."""
    known = clean()["arr_delay"]
    label = pl.when(known < -5).then(pl.lit("early")).when(known > 15).then(pl.lit("late")).otherwise(pl.lit("on time"))
    return observations().with_columns(label=pl.when(known.is_not_null()).then(label))


@cache
def rows_without_outcome() -> pl.DataFrame:
    """What a clustering is about: the same rows, no label."""
    return training_set().drop("label", "label_timestamp")


@cache
def training_set() -> pl.DataFrame:
    row = pl.int_range(pl.len())
    split = (
        pl.when(row % 3 == 0)
        .then(pl.lit("train"))
        .when(row % 3 == 1)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test"))
    )
    return observations().filter(pl.col("label").is_not_null()).with_columns(feature=row.cast(pl.Float64), split=split)


@cache
def predictions() -> pl.DataFrame:
    return observations().select("flight_id", "event_timestamp", score=pl.lit(0.25), prediction=pl.lit(0, pl.Int64))


def answers(kind: Task, score: np.ndarray) -> pl.DataFrame:
    """Predictions as they are stored, of as many observations as there are scores."""
    rows = observations().select("flight_id", "event_timestamp").head(len(score))
    return with_answers(rows, score, kind, 0.5)


@cache
def predicted_classes() -> pl.DataFrame:
    shares = np.random.default_rng(0).dirichlet([3, 4, 2], 200)
    return answers(task("classification", classes=CLASSES), shares)


@cache
def predicted_numbers() -> pl.DataFrame:
    return answers(task("regression"), np.random.default_rng(0).normal(7, 30, 200))


@cache
def predicted_clusters() -> pl.DataFrame:
    return answers(task("clustering"), np.random.default_rng(0).integers(-1, 4, 200))


# -- the suites that the assets use ----------------------------------------------------------------------------------------


def contract_suite() -> Suite:
    return suite_for("raw/flights", contract().columns, key=contract().key)


def clean_suite() -> Suite:
    declared = source("flights").clean
    assert declared is not None
    return suite_for("clean/flights", (), extra=[Expectation.from_dict(item) for item in declared.expectations])


def congestion_suite() -> Suite:
    views = yaml.safe_load((ROOT / "ml_assets/defs/flights/feature_views/defs.yaml").read_text())["attributes"]["views"]
    declared: dict[str, Any] = next(item for item in views if item["name"] == "origin_congestion")
    return view_suite("features/origin_congestion", declared["entity"], declared["expectations"])


CASES: dict[str, tuple[Callable[[], pl.DataFrame], Callable[[], Suite], dict[str, Change]]] = {
    "raw": (
        raw,
        contract_suite,
        {
            "negative distance": first_rows(distance=pl.lit(-1)),
            "unknown origin": first_rows(origin=pl.lit("XXX")),
            "a flight twice": doubled,
            "no scheduled time": first_rows(sched_dep_time=pl.lit(None, pl.Int64)),
            "a column gone": without("carrier"),
            "no rows": emptied,
        },
    ),
    "clean": (
        clean,
        clean_suite,
        {
            "arrived before departed": first_rows(arrived_at=pl.col("departed_at") - pl.duration(minutes=1)),
            "a flight twice": doubled,
            "no scheduled departure": first_rows(scheduled_departure=pl.lit(None, pl.Datetime("us", "UTC"))),
            "impossible distance": first_rows(distance=pl.lit(60_000.0)),
            "no rows": emptied,
        },
    ),
    "features": (
        view,
        congestion_suite,
        {
            "share above one": first_rows(origin_dep_late_share_3h=pl.lit(1.5)),
            "mean is gone": all_null("origin_dep_delay_mean_1h"),
            "one moment twice": doubled,
            "no moment": first_rows(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))),
            "no rows": emptied,
        },
    ),
    "observations": (
        observations,
        lambda: observations_suite("flight_delay/observations", key=["flight_id"]),
        {
            "outcome known before the question": first_rows(label_timestamp=pl.col("event_timestamp")),
            "asked twice": doubled,
            "no moment": first_rows(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))),
            "no rows": emptied,
        },
    ),
    "observations of classes": (
        observed_classes,
        lambda: observations_suite("p/observations", key=["flight_id"], label="classes", classes=CLASSES),
        {
            "a class that is not declared": first_rows(label=pl.lit("Late")),
            "outcome known before the question": first_rows(label_timestamp=pl.col("event_timestamp")),
            "asked twice": doubled,
        },
    ),
    "observations without label_timestamp": (
        lambda: observations().drop("label_timestamp"),
        lambda: observations_suite("p/observations", key=["flight_id"], timed=False),
        {
            "neither yes nor no": first_rows(label=pl.lit(2, pl.Int64)),
            "asked twice": doubled,
            "no moment": first_rows(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))),
        },
    ),
    "observations without outcome": (
        lambda: observations().drop("label", "label_timestamp"),
        lambda: observations_suite("p/observations", key=["flight_id"], supervised=False, timed=False),
        {
            "asked twice": doubled,
            "no moment": first_rows(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))),
            "no rows": emptied,
        },
    ),
    "training set": (
        training_set,
        lambda: training_suite("flight_delay/training_set", training_set().schema, key=["flight_id"]),
        {
            "a label unknown": first_rows(label=pl.lit(None, pl.Int64)),
            "a feature never filled": all_null("feature"),
            "no test split": lambda frame: frame.filter(pl.col("split") != "test"),
            "a row twice": doubled,
            "no rows": emptied,
        },
    ),
    "training set of a clustering": (
        rows_without_outcome,
        lambda: training_suite("p/training_set", rows_without_outcome().schema, key=["flight_id"], supervised=False),
        {
            "a feature never filled": all_null("feature"),
            "no test split": lambda frame: frame.filter(pl.col("split") != "test"),
            "a row twice": doubled,
            "no rows": emptied,
        },
    ),
    "predictions": (
        predictions,
        lambda: predictions_suite("flight_delay/predictions", key=["flight_id"], task=task("classification")),
        {
            "no score": first_rows(score=pl.lit(None, pl.Float64)),
            "not a probability": first_rows(score=pl.lit(1.25)),
            "not a number": first_rows(score=pl.lit(float("nan"))),
            "not a decision": first_rows(prediction=pl.lit(2, pl.Int64)),
            "scored twice": doubled,
            "no rows": emptied,
        },
    ),
    "predicted classes": (
        predicted_classes,
        lambda: predictions_suite("p/predictions", key=["flight_id"], task=task("classification", classes=CLASSES)),
        {
            "no score": first_rows(score=pl.lit(None, pl.Float64)),
            "not a probability": first_rows(score=pl.lit(1.25)),
            "another class": first_rows(prediction=pl.lit("cancelled")),
            "scored twice": doubled,
        },
    ),
    "predicted numbers": (
        predicted_numbers,
        lambda: predictions_suite("p/predictions", key=["flight_id"], task=task("regression")),
        {
            "no score": first_rows(score=pl.lit(None, pl.Float64)),
            "no prediction": first_rows(prediction=pl.lit(None, pl.Float64)),
            "scored twice": doubled,
        },
    ),
    "predicted clusters": (
        predicted_clusters,
        lambda: predictions_suite("p/predictions", key=["flight_id"], task=task("clustering")),
        {
            "no cluster": first_rows(prediction=pl.lit(None, pl.Int64)),
            "a cluster that cannot be": first_rows(prediction=pl.lit(-2, pl.Int64)),
            "scored twice": doubled,
        },
    ),
}
BROKEN = [(name, fault) for name, (_, _, faults) in CASES.items() for fault in faults]


@pytest.mark.parametrize("name", CASES)
def test_the_clean_input_stays_green(name: str) -> None:
    make, suite, _ = CASES[name]
    found = verdict(make(), suite())
    assert found.success, found.reason()


@pytest.mark.parametrize(("name", "fault"), BROKEN)
def test_the_broken_input_turns_it_red(name: str, fault: str) -> None:
    make, suite, faults = CASES[name]
    found = verdict(faults[fault](make()), suite())
    assert not found.success
    assert found.reason()


def test_a_red_partition_is_refused_in_every_later_run(tmp_path: Path) -> None:
    good, bad = predictions(), first_rows(score=pl.lit(1.25))(predictions())
    days = pl.concat(
        [
            good.with_columns(pl.lit("2013-06-01").alias(PARTITION)),
            bad.with_columns(pl.lit("2013-06-02").alias(PARTITION)),
        ]
    )
    suite = predictions_suite("p/predictions", key=["flight_id"], task=task("classification"))
    written = write_checked(
        Lake(str(tmp_path)), "p/predictions", days, suite, now=NOW, partitions=["2013-06-01", "2013-06-02"]
    )
    assert not written.verdict.success

    later = Lake(str(tmp_path))
    assert later.read("p/predictions", ["2013-06-01"]).height == good.height
    with pytest.raises(RedPartitionError, match=r"p/predictions/2013-06-02 is red.*score"):
        later.scan("p/predictions")
    assert later.read("p/predictions", allow_red=True).height == 2 * good.height


def report(*, separation: float) -> Any:
    """A report on 400 rows whose scores tell the classes apart as well as `separation` (0: not at all)."""
    label = [row % 2 for row in range(400)]
    score = [0.5 + separation * (value - 0.5) * (0.5 + (row % 7) / 14) for row, value in enumerate(label)]
    noise = [((row * 37) % 101) / 101 - 0.5 for row in range(400)]
    frame = pl.DataFrame(
        {"label": label, "score": [0.5 + 0.5 * (s - 0.5) + 0.2 * n for s, n in zip(score, noise, strict=True)]}
    )
    known = task("classification")
    rows = answered(frame, frame["score"].to_numpy(), task=known, threshold=0.5)
    made = make_report(rows, problem="p", model_version="1", split="test", made_at=NOW, resamples=2)
    return replace(made, baseline={"roc_auc": 0.5})


METRIC = task("classification").metric("roc_auc")


def passed(
    found: Any,
    *,
    margin: float,
    at_least: float | None = None,
    at_most: float | None = None,
    metric: Metric = METRIC,
    baseline: bool = True,
) -> dict[str, bool]:
    limits = Limits(at_least=at_least, at_most=at_most, beats_baseline_by=margin)
    return {gate.name: gate.passed for gate in gates(found, metric, limits, baseline=baseline)}


def test_a_good_model_passes_both_gates() -> None:
    assert passed(report(separation=0.8), at_least=0.68, margin=0.02) == {
        "success_threshold": True,
        "beats_baseline": True,
    }


def test_a_model_below_the_threshold_is_stopped() -> None:
    assert passed(report(separation=0.1), at_least=0.99, margin=0.02)["success_threshold"] is False


def test_a_model_that_guesses_is_stopped() -> None:
    assert passed(report(separation=0.0), at_least=0.68, margin=0.02) == {
        "success_threshold": False,
        "beats_baseline": False,
    }


def test_a_tie_with_the_baseline_is_no_success() -> None:
    found = report(separation=0.8)
    tied = replace(found, baseline={"roc_auc": found.metrics["roc_auc"]})
    assert passed(tied, at_least=None, margin=0.0)["beats_baseline"] is False


def test_a_metric_that_does_not_apply_stops_both() -> None:
    found = replace(report(separation=0.8), metrics={"roc_auc": None})
    assert passed(found, at_least=0.68, margin=0.02) == {"success_threshold": False, "beats_baseline": False}


# -- numbers: the delay on arrival by that on departure, which the real rows of a day tell well ---------------------------

MAE = task("regression").metric("mae")
LEFT = pl.col("dep_delay") - 10
AT_MOST, MARGIN = 13.0, 1.0
"""What a declaration might ask: the forecast is 10 minutes off, the median 14."""


def forecast(change: pl.Expr) -> Any:
    """A report on a day's arrivals, forecast by `change` of the delay on departure; the baseline is their median."""
    known = clean().filter(pl.col("arr_delay").is_not_null())
    score = known.with_columns(score=change.cast(pl.Float64))["score"].to_numpy()
    kind, frame = task("regression"), known.select(label=pl.col("arr_delay").cast(pl.Float64))
    rows = answered(frame, score, task=kind, threshold=0.5)
    made = make_report(rows, problem="p", model_version="1", split="test", made_at=NOW, resamples=2)
    median = np.full(frame.height, frame["label"].median())
    return replace(made, baseline={"mae": MAE.compute(kind.labels(frame["label"]), median)})


FORECASTS: dict[str, tuple[pl.Expr, tuple[bool, bool]]] = {
    "as it left, less what is made up for": (LEFT, (True, True)),
    "as it left": (pl.col("dep_delay"), (False, False)),
    "in hours": (LEFT / 60, (False, False)),
    "with the wrong sign": (-LEFT, (False, False)),
    "half an hour off": (LEFT + 30, (False, False)),
    "a little better than the median": (pl.col("arr_delay").median() + pl.col("dep_delay") * 0.1, (False, False)),
}


@pytest.mark.parametrize("name", FORECASTS)
def test_an_error_above_the_declared_is_stopped(name: str) -> None:
    change, (reaches, beats) = FORECASTS[name]
    found = passed(forecast(change), metric=MAE, at_most=AT_MOST, margin=MARGIN)
    assert found == {"success_threshold": reaches, "beats_baseline": beats}


def test_a_declared_error_below_that_of_the_model_stops_it() -> None:
    assert passed(forecast(LEFT), metric=MAE, at_most=1.0, margin=0.0)["success_threshold"] is False


# -- clusters: no baseline, and the metric has to exist --------------------------------------------------------------------

SILHOUETTE = task("clustering").metric("silhouette")


def grouped(clusters: pl.Expr) -> Any:
    """A report on a day's flights, grouped by `clusters`, and compared by distance."""
    matrix = clean().select(pl.col("distance").cast(pl.Float64) / 1000).to_numpy()
    score = clean().with_columns(cluster=clusters.cast(pl.Int64))["cluster"].to_numpy()
    rows = answered(clean(), score, task=task("clustering"), threshold=0.5, matrix=matrix)
    return make_report(rows, problem="p", model_version="1", split="test", made_at=NOW, resamples=2)


GROUPS: dict[str, tuple[pl.Expr, bool]] = {
    "near and far": (pl.col("distance") > 1_700, True),
    "by number": (pl.col("flight") % 3, False),
    "all in one": (pl.lit(0), False),
    "none at all": (pl.lit(-1), False),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_do_not_hold_together_are_stopped(name: str) -> None:
    clusters, holds = GROUPS[name]
    found = passed(grouped(clusters), metric=SILHOUETTE, at_least=0.5, margin=0.0, baseline=False)
    assert found == {"success_threshold": holds}
