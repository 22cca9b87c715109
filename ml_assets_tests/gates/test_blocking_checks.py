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

import polars as pl
import pytest
import yaml

from ml_assets.collection.contract import SourceContract, parse
from ml_assets.defs.flights.feature_views import compute
from ml_assets.defs.flights.sources import cleaning
from ml_assets.deployment.scoring import predictions_suite
from ml_assets.evaluation.challenge import Limits, gates
from ml_assets.evaluation.metrics import answered
from ml_assets.evaluation.report import make_report
from ml_assets.features.training import training_suite
from ml_assets.features.views import view_suite
from ml_assets.lake import Lake, RedPartitionError
from ml_assets.preparation.observations import suite as observations_suite
from ml_assets.preparation.writing import PARTITION, write_checked
from ml_assets.quality import Expectation, Suite, Verdict, evaluate, suite_for
from ml_assets.source import Source
from ml_assets.tasks import task

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


def passed(found: Any, *, at_least: float | None, margin: float) -> dict[str, bool]:
    limits = Limits(at_least=at_least, beats_baseline_by=margin)
    return {gate.name: gate.passed for gate in gates(found, METRIC, limits)}


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
