"""The MlProblem component: a problem as a person would state it. From it comes the whole lifecycle as assets."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator

from ml_assets.preparation.spans import Span

# Spelled here because the modules that own these names load numeric libraries; a test compares.
CANDIDATES = ("baseline", "random_forest", "xgboost", "svm", "neural")
TABLE = re.compile(r"\b(?:FROM|JOIN)\s+(raw|clean)_(\w+)", re.IGNORECASE)
METRICS = {
    "classification": (
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "brier",
        "expected_calibration_error",
    )
}


class Task(dg.Model, dg.Resolvable):
    """What kind of answer is asked for. `positive` names the outcome that label 1 stands for."""

    kind: Literal["classification"]
    positive: str = "positive"


class Observations(dg.Model, dg.Resolvable):
    """What is predicted, for whom, and as of when.

    `query` is one SELECT over clean tables, named like `clean_flights`; its first table gives the day of each row. It has the entity
    columns, `event_timestamp` (the moment of prediction), whatever is known at that moment, `label` (null when there
    is none) and `label_timestamp` (when the label became known).
    """

    query: str
    key: Sequence[str] = Field(description="columns that, with event_timestamp, name one observation")

    @field_validator("query")
    @classmethod
    def _query(cls, value: str) -> str:
        if not re.match(r"\s*SELECT\s", value, flags=re.IGNORECASE):
            raise ValueError(f"query {value[:30]!r}: must begin with SELECT")
        if not TABLE.search(value):
            raise ValueError(f"query {value[:60]!r}: names no table; write FROM clean_<source> or raw_<source>")
        return value

    @property
    def tables(self) -> list[str]:
        """Return the lake tables in the query, in the order in which they appear."""
        return list(dict.fromkeys(f"{layer.lower()}/{name}" for layer, name in TABLE.findall(self.query)))


class FeatureSet(dg.Model, dg.Resolvable):
    """Which Feast feature service the model sees, beside what the observations know, and the views it is made of."""

    service: str
    views: Sequence[str] = Field(
        description="the service's feature views; a training set refuses a service with others"
    )
    ignore: Sequence[str] = Field(
        default=(), description="columns of the observations that serve to look up, not to learn"
    )


class Split(dg.Model, dg.Resolvable):
    """Lengths of the three windows, counted back from the last complete month (or day): `8mo`, `4w`, `7d`."""

    train: str = "8mo"
    validation: str = "1mo"
    test: str = "1mo"

    @field_validator("train", "validation", "test")
    @classmethod
    def _span(cls, value: str) -> str:
        Span.parse(value)
        return value


class Success(dg.Model, dg.Resolvable):
    """When the model is good enough to be used."""

    metric: str = "roc_auc"
    at_least: float | None = None
    beats_baseline_by: float = 0.0
    slices: Sequence[str] = ()


class Drift(dg.Model, dg.Resolvable):
    """When a feature counts as drifted, and how long a window is."""

    window_days: int = 7
    psi: float = 0.2
    minimum_rows: int = 200
    share: float = 0.3


class Served(dg.Model, dg.Resolvable):
    """How the requests that were answered online are held against the point-in-time join."""

    days: int = Field(default=7, description="requests of this many days back are replayed")
    lag_minutes: float = Field(default=60, description="so long a row may take to go online after it became known")
    late_share: float = Field(
        default=0.01,
        description="share of requests that a training set of today may contradict, because rows came late",
    )


class Monitoring(dg.Model, dg.Resolvable):
    """What is watched once the model is in use."""

    drift: Drift = Drift()
    served: Served = Served()
    cron: str = "0 7 * * 1"
    tolerance: float = Field(
        default=0.03, description="realised metric below the test's by more than this is a warning"
    )


class Retrain(dg.Model, dg.Resolvable):
    """When the candidates are trained again."""

    cron: str = "0 6 1 * *"


class MlProblem(dg.Component, dg.Model, dg.Resolvable):
    """A problem, declared.

    ```yaml
    type: ml_assets.MlProblem
    attributes:
      name: flight_delay
      question: Will this flight arrive more than 15 minutes late, two hours before departure?
      owners: [team:operations]
      task: {kind: classification, positive: late}
      days: 2013-01-01/2013-12-31
      observations:
        key: [flight_id]
        query: SELECT flight_id, carrier, event_timestamp, label, label_timestamp FROM clean_flights
      features: {service: flight_delay_v2, views: [origin_weather, carrier_history]}
      split: {train: 8mo, validation: 1mo, test: 1mo}
      candidates: [baseline, random_forest, xgboost, svm, neural]
      success: {metric: roc_auc, at_least: 0.68, beats_baseline_by: 0.02, slices: [origin, carrier]}
    ```

    Gives the assets `<name>/observations`, `training_set`, `candidates/*`, `challenger`, `evaluation_report`, `bundle`, `champion`,
    `predictions`, `drift_report`, `performance_report`, `served_requests`, with their checks, and the schedules that keep them current.
    """

    name: str
    question: str
    task: Task
    observations: Observations
    features: FeatureSet
    days: str = Field(description="first and last day, 2013-01-01/2013-12-31, or open ended, 2013-01-01/")
    owners: Sequence[str] = ()
    split: Split = Split()
    candidates: Sequence[str] = CANDIDATES
    success: Success = Success()
    monitoring: Monitoring = Monitoring()
    retrain: Retrain = Retrain()
    value: Mapping[str, Any] = Field(
        default={}, description="what outcomes are worth, e.g. {true_positive: 40, currency: USD}"
    )
    seed: int = 2013

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
            raise ValueError(f"name {value!r} is not a name; use lower-case letters, digits and underscores")
        return value

    @field_validator("success")
    @classmethod
    def _success(cls, value: Success, info: ValidationInfo) -> Success:
        task = info.data.get("task")
        if task and value.metric not in METRICS[task.kind]:
            known = ", ".join(METRICS[task.kind])
            raise ValueError(f"metric {value.metric!r} does not fit task {task.kind!r}; use one of: {known}")
        return value

    @field_validator("candidates")
    @classmethod
    def _candidates(cls, value: Sequence[str]) -> Sequence[str]:
        unknown = [name for name in value if name not in CANDIDATES]
        if unknown or len(set(value)) < len(value) or "baseline" not in value:
            raise ValueError(f"candidates {list(value)}: name each once, out of {list(CANDIDATES)}, with the baseline")
        return value

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Merge what each stage makes of the problem."""
        from ml_assets.deployment.assets import predictions_asset
        from ml_assets.development.assets import candidate_asset, challenger_asset
        from ml_assets.evaluation.assets import evaluation_asset
        from ml_assets.features.assets import training_set_asset
        from ml_assets.features.online.assets import served_asset
        from ml_assets.monitoring.assets import drift_asset, performance_asset, schedules
        from ml_assets.packaging.assets import bundle_asset, champion_asset
        from ml_assets.preparation.assets import observations_asset

        return dg.Definitions(
            assets=[
                observations_asset(self),
                training_set_asset(self),
                *(candidate_asset(self, kind) for kind in self.candidates),
                challenger_asset(self),
                evaluation_asset(self),
                bundle_asset(self),
                champion_asset(self),
                predictions_asset(self),
                drift_asset(self),
                performance_asset(self),
                served_asset(self),
            ],
            schedules=schedules(self),
        )
