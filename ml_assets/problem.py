"""The MlProblem component: a problem as a person would state it. From it comes the whole lifecycle as assets."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Literal, Self

import dagster as dg
from pydantic import Field, ValidationInfo, field_validator, model_validator

from ml_assets.preparation.spans import Span
from ml_assets.resources.literal import Text, Texts
from ml_assets.resources.scaffolder import ExampleScaffolder

TABLE = re.compile(r"\b(?:FROM|JOIN)\s+(raw|clean)_(\w+)", re.IGNORECASE)
CLUSTERING, ENSEMBLE = "clustering", "ensemble"
Clock = Literal["replay", "system"]


class Task(dg.Model, dg.Resolvable):
    """What kind of answer is asked for.

    Classification: `positive` names the outcome that label 1 stands for; of three classes or more, `classes` names them all and
    the label is one of them. Regression: the label is a number in `unit`. Clustering has no label; between the two numbers of
    `clusters` are tried.
    """

    kind: Literal["classification", "regression", "clustering"] = Field(description="what kind of answer is asked for")
    positive: Text = Field(default="positive", description="the outcome that label 1 stands for")
    classes: Texts = Field(default=(), description="all classes, when there are three or more")
    unit: str = Field(default="", description="of the number that is predicted, such as minutes")
    clusters: Sequence[int] = Field(default=(2, 10), description="the fewest and the most clusters that are tried")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.plain()
        return self

    def plain(self) -> Any:
        """Return the `ml_assets.tasks.Task` of this declaration."""
        from ml_assets.tasks import task

        return task(self.kind, classes=self.classes, clusters=self.clusters)


class Availability(dg.Model, dg.Resolvable):
    """What is known of the data before anything is built: since when, how often it comes, how late outcomes are known."""

    history_from: str | None = Field(default=None, description="first day of usable history, such as 2013-01-01")
    refreshed: str = Field(default="", description="how often new data comes, in words")
    label_delay: str = Field(default="", description="how long after the question its outcome is known, such as 1d")
    notes: str = Field(default="", description="what else there is to know, for people")

    @field_validator("label_delay")
    @classmethod
    def _delay(cls, value: str) -> str:
        if value:
            Span.parse(value)
        return value

    @field_validator("history_from", mode="before")
    @classmethod
    def _first(cls, value: Any) -> str | None:
        return None if value is None else date.fromisoformat(str(value)).isoformat()

    @property
    def declared(self) -> dict[str, Any]:
        """Return what can be held against the data: the first day, and the label delay as a length of time."""
        return {
            "history_from": date.fromisoformat(self.history_from) if self.history_from else None,
            "label_delay": Span.parse(self.label_delay).length if self.label_delay else None,
        }


class Observations(dg.Model, dg.Resolvable):
    """What is predicted, for whom, and as of when.

    `query` is one SELECT over clean tables, named like `clean_flights`; its first table gives the day of each row. It has the entity
    columns, `event_timestamp` (the moment of prediction), whatever is known at that moment, `label` (null when there
    is none) and `label_timestamp` (when the label became known).
    """

    query: Text = Field(
        description="one SELECT FROM clean_<source>: keys, event_timestamp, columns, label, label_timestamp"
    )
    key: Sequence[str] = Field(description="columns that, with event_timestamp, name one observation")
    every_day: bool = Field(
        default=True, description="false: there are days on which nothing is asked, and none is a fault"
    )

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

    service: str = Field(description="name of the Feast feature service, with its version")
    views: Sequence[str] = Field(
        description="the service's feature views; a training set refuses a service with others"
    )
    ignore: Sequence[str] = Field(default=(), description="columns of observations and views that are not learned from")
    last_value: str = Field(
        default="", description="the feature that is the entity's last known outcome, for persistence"
    )


class Split(dg.Model, dg.Resolvable):
    """How rows are divided: by time (train before validation before test), or at random.

    By time the three lengths are spans counted back from the last complete month or day (`8mo`, `4w`, `7d`), or shares of the rows
    in order of time (0.6). At random they are shares; rows that are equal in all features, or of one `group`, stay together.
    """

    by: Literal["time", "random"] = Field(default="time", description="in order of time, or at random")
    train: str | float = Field(default="8mo", description="a span such as 8mo, or a share such as 0.6")
    validation: str | float = Field(default="1mo", description="a span such as 1mo, or a share such as 0.2")
    test: str | float = Field(default="1mo", description="a span such as 1mo, or a share such as 0.2")
    gap: str | None = Field(
        default=None, description="between splits, when observations have no label_timestamp, such as 1d"
    )
    group: str | None = Field(default=None, description="column whose rows stay on one side of a random split")

    @field_validator("train", "validation", "test", "gap")
    @classmethod
    def _span(cls, value: str | float | None) -> str | float | None:
        if isinstance(value, str):
            Span.parse(value)
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        lengths = [self.train, self.validation, self.test]
        shares = [one for one in lengths if not isinstance(one, str)]
        if shares and (len(shares) < 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6):
            raise ValueError(f"split {lengths}: write three spans such as 8mo, or three shares above 0 that sum to 1")
        if self.by == "random" and not shares:
            raise ValueError(f"split {lengths} at random: write shares, such as train: 0.6, validation: 0.2, test: 0.2")
        if self.by == "time" and self.group:
            raise ValueError(f"split.group {self.group!r}: rows are grouped in a random split only; write by: random")
        return self

    def plain(self, seed: int) -> Any:
        """Return the `ml_assets.preparation.splits.SplitPlan` of this declaration."""
        from ml_assets.preparation.splits import SplitPlan

        gap = Span.parse(self.gap).length if self.gap else timedelta(0)
        lengths = {"train": self.train, "validation": self.validation, "test": self.test}
        return SplitPlan(by_time=self.by == "time", gap=gap, group=self.group, seed=seed, **lengths)


class Search(dg.Model, dg.Resolvable):
    """How long each candidate's hyperparameters are searched. `trials: 0` trains the defaults."""

    trials: int = Field(default=10, ge=0, description="variants that are tried, the defaults among them")
    seconds: float | None = Field(
        default=None, gt=0, description="stop after this long; the outcome then depends on speed"
    )
    rows: int = Field(default=20_000, ge=100, description="rows that one trial fits at most")
    folds: int = Field(default=3, ge=2, description="folds that each trial is measured on")


class Success(dg.Model, dg.Resolvable):
    """When the model is good enough to be used."""

    metric: str = Field(default="", description="default: the task's own")
    at_least: float | None = Field(default=None, description="of a metric of which more is better")
    at_most: float | None = Field(default=None, description="of a metric of which less is better")
    beats_baseline_by: float = Field(default=0.0, description="so much better than the baseline's must the metric be")
    slices: Sequence[str] = Field(default=(), description="columns by whose values the metric is also reported")


class Drift(dg.Model, dg.Resolvable):
    """When a column counts as drifted, and how long a window is. Judged are the features, the prediction, and the label."""

    window_days: int = Field(default=7, ge=1, description="days that are compared with the reference")
    reference: Literal["training", "previous", "seasonal"] = Field(
        default="training",
        description="what a window is held against: the rows that the model was trained on, the windows before, or the same "
        "season of earlier years",
    )
    earlier: int = Field(default=4, ge=1, description="so many windows before are the previous reference")
    psi: float = Field(default=0.2, gt=0, description="population stability index from which a change counts")
    wasserstein: float = Field(
        default=0.35, gt=0, description="or distance, in standard deviations of the reference, from which it counts"
    )
    false_discovery_rate: float = Field(
        default=0.01, gt=0, lt=1, description="share of false ones among the columns called drifted, by chance alone"
    )
    windows: int = Field(
        default=2, ge=1, description="windows in a row that a change must last; faults of a source are told at once"
    )
    minimum_rows: int = Field(default=200, ge=1, description="rows below which nothing is said")
    share: float = Field(
        default=0.3, gt=0, le=1, description="share of drifted columns from which the data counts as drifted"
    )
    important: Sequence[str] = Field(
        default=(), description="columns whose drift alone is enough; score or prediction, and label, may be among them"
    )

    def plain(self) -> Any:
        """Return the `ml_assets.monitoring.drift.DriftPolicy` of this declaration."""
        from ml_assets.monitoring.drift import DriftPolicy

        told = ("minimum_rows", "psi", "wasserstein", "false_discovery_rate", "windows", "share")
        return DriftPolicy(**{name: getattr(self, name) for name in told}, important=tuple(self.important))


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
    cron: str = Field(default="0 7 * * 1", description="when drift and performance are looked at, as a cron schedule")
    tolerance: float = Field(
        default=0.03, description="realised metric below the test's by more than this is a warning"
    )


class Promotion(dg.Model, dg.Resolvable):
    """What a challenger must prove before it takes office. Columns of `invariant`, `rising` and `falling` are features."""

    margin: float = Field(
        default=0.0,
        ge=0,
        description="so much of the metric may be lost to the champion, overall and in each slice of success.slices, and the "
        "interval must show that it is not more; 0: it must only not be shown worse",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of the interval of the difference")
    minimum_rows: int = Field(default=50, ge=1, description="test rows below which nobody is compared, nor in a slice")
    ties: Literal["better", "keep", "newer"] = Field(
        default="better",
        description="who wins when nobody is worse: the better value, the champion unless beaten for sure, the newer model",
    )
    first: Literal["promote", "approve"] = Field(
        default="promote", description="whether the first model takes office by itself or after a person's approval"
    )
    approval: bool = Field(default=False, description="a person must approve each promotion")
    most_milliseconds: float | None = Field(default=None, gt=0, description="one answer may take, median of many")
    most_megabytes: float | None = Field(default=None, gt=0, description="the packed model may have")
    worst_slice: float | None = Field(default=None, description="the metric must reach in each slice of success.slices")
    most_calibration_error: float = Field(
        default=0.1, gt=0, le=1, description="expected calibration error of probabilities on the test split"
    )
    most_of_one_column: float = Field(
        default=0.995,
        gt=0.5,
        le=1,
        description="AUC or R² from which a column that alone foretells the label counts as a leak",
    )
    invariant: Sequence[str] = Field(default=(), description="columns whose values may not matter to the answer")
    rising: Sequence[str] = Field(default=(), description="columns of which more may not lower the answer")
    falling: Sequence[str] = Field(default=(), description="columns of which more may not raise the answer")
    tolerance: float = Field(
        default=0.02,
        ge=0,
        description="so far an answer may move: a probability, or a share of the answers' standard deviation",
    )
    share: float = Field(default=0.05, ge=0, le=1, description="share of rows that may move further")

    def plain(self) -> Any:
        """Return the `ml_assets.evaluation.gates.PromotionPolicy` of this declaration."""
        from ml_assets.evaluation.gates import PromotionPolicy

        told: dict[str, Any] = self.model_dump()
        for name in ("invariant", "rising", "falling"):
            told[name] = tuple(told[name])
        return PromotionPolicy(**told)


class Stop(dg.Model, dg.Resolvable):
    """When a challenger that answers or scores requests beside the champion is stopped by itself."""

    errors: float = Field(default=0.01, ge=0, le=1, description="share of the window's requests that may fail")
    latency: float = Field(
        default=2.0, gt=0, description="the challenger's 95th percentile of latency may be so many times the champion's"
    )
    window: int = Field(default=200, ge=4, description="requests of each model that are looked at, the newest ones")


class Serving(dg.Model, dg.Resolvable):
    """What happens beside an online answer: what is logged, and what a challenger is tried on."""

    log: float = Field(default=1.0, ge=0, le=1, description="share of requests whose predictions are logged")
    durable: bool = Field(default=False, description="answer only after the disk of the server has the prediction")
    shadow: float = Field(default=0.0, ge=0, le=1, description="share of requests that the challenger scores as well")
    canary: float = Field(default=0.0, ge=0, le=1, description="share of entities that the challenger answers")
    stop: Stop = Stop()

    def plain(self) -> Any:
        """Return the `ml_assets.deployment.trial.ServingPolicy` of this declaration."""
        from ml_assets.deployment.trial import ServingPolicy, StopRule

        return ServingPolicy(**{**dict(self), "stop": StopRule(**dict(self.stop))})


class Retrain(dg.Model, dg.Resolvable):
    """When the candidates are trained again: by the calendar, and when drift or loss asks for it and a backtest agrees."""

    cron: str = Field(default="0 6 1 * *", description="as a cron schedule")
    when_needed: bool = Field(
        default=True,
        description="whether a decision to retrain is carried out; false: it is told, and a person does it",
    )
    cooldown: str = Field(
        default="7d", description="least time from a retraining or a promotion to the next retraining, such as 7d"
    )
    window_days: int = Field(default=28, ge=1, description="the latest labelled days, which the backtest is on")
    weeks: int = Field(default=2, ge=1, description="weeks in a row with a loss beyond monitoring.tolerance that ask")
    least_gain: float = Field(
        default=0.0, ge=0, description="so much better must a retrained model have been in the backtest, beyond chance"
    )
    rows: int = Field(default=20_000, ge=100, description="rows that each model of a backtest is trained on at most")

    @field_validator("cooldown")
    @classmethod
    def _cooldown(cls, value: str) -> str:
        Span.parse(value)
        return value

    def plain(self) -> Any:
        """Return the `ml_assets.monitoring.retraining.RetrainPolicy` of this declaration."""
        from ml_assets.monitoring.retraining import RetrainPolicy

        return RetrainPolicy(cooldown=Span.parse(self.cooldown).length, least_gain=self.least_gain)


@dg.scaffold_with(ExampleScaffolder)
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
      search: {trials: 10}
      success: {metric: roc_auc, at_least: 0.68, beats_baseline_by: 0.02, slices: [origin, carrier]}
    ```

    Gives the assets `<name>/observations`, `training_set`, `candidates/*`, `challenger`, `evaluation_report`, `bundle`, `champion`,
    `model_card`, `predictions`, `drift_report`, `performance_report`, `kpi_report`, `served_requests`, `retrain_decision`,
    `staleness_curve`, with their checks, and the schedules and the sensor that keep them current.
    """

    name: str = Field(description="in lower case; the assets are <name>/…")
    question: Text = Field(description="what is asked, about whom and when, for people")
    task: Task
    observations: Observations
    features: FeatureSet | None = Field(default=None, description="what Feast adds to what the observations know")
    days: str | None = Field(
        default=None,
        description="first and last day, 2013-01-01/2013-12-31, or open ended, 2013-01-01/; without it, no day partitions",
    )
    clock: Clock = Field(
        default="replay", description="whose time it is: the replay's while there is one, or the system's"
    )
    owners: Sequence[str] = Field(default=(), description="e-mail addresses, or teams as team:name")
    availability: Availability = Availability()
    split: Split = Split()
    candidates: Sequence[str] = Field(default=(), description="default: all of the task")
    search: Search = Search()
    success: Success = Success()
    promotion: Promotion = Promotion()
    monitoring: Monitoring = Monitoring()
    retrain: Retrain = Retrain()
    serving: Serving = Serving()
    value: Mapping[str, Any] = Field(
        default={},
        description="what outcomes are worth: {true_positive: 40, false_positive: -15, currency: USD}, of classes {right: 5, wrong: -2}, "
        "of numbers {per_unit_of_error: -1.5}",
    )
    seed: int = Field(default=2013, description="of everything that is drawn at random")

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
            raise ValueError(f"name {value!r} is not a name; use lower-case letters, digits and underscores")
        return value

    @field_validator("success")
    @classmethod
    def _success(cls, value: Success, info: ValidationInfo) -> Success:
        if "task" not in info.data:
            return value
        metrics = {metric.name: metric for metric in info.data["task"].plain().metrics if metric.declarable}
        if value.metric and value.metric not in metrics:
            kind = info.data["task"].kind
            raise ValueError(f"metric {value.metric!r} does not fit task {kind!r}; use one of: {', '.join(metrics)}")
        metric = metrics[value.metric or info.data["task"].plain().default_metric]
        wrong = "at_most" if metric.greater_is_better else "at_least"
        if getattr(value, wrong) is not None:
            right = "at_least" if metric.greater_is_better else "at_most"
            better = "more" if metric.greater_is_better else "less"
            raise ValueError(f"{wrong} does not fit metric {metric.name!r}, of which {better} is better; write {right}")
        return value

    @field_validator("candidates")
    @classmethod
    def _candidates(cls, value: Sequence[str], info: ValidationInfo) -> Sequence[str]:
        if not value or "task" not in info.data:
            return value
        known = candidates_of(info.data["task"].kind)
        unknown = [name for name in value if name not in known]
        lacks = "baseline" in known and "baseline" not in value
        if unknown or len(set(value)) < len(value) or lacks:
            raise ValueError(
                f"candidates {list(value)}: name each once, out of {list(known)}, with the baseline if there is one"
            )
        return value

    @field_validator("value")
    @classmethod
    def _value(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        from ml_assets.tasks.value import declared_value

        if "task" in info.data:
            declared_value(info.data["task"].plain(), value)
        return value

    @property
    def metric(self) -> str:
        """Return the name of the metric that the declaration calls success."""
        return self.success.metric or str(self.task.plain().default_metric)

    @property
    def kinds(self) -> Sequence[str]:
        """Return the names of the candidates, the ensemble last: it is made of the others."""
        wanted = self.candidates or candidates_of(self.task.kind)
        return sorted(wanted, key=lambda name: name == ENSEMBLE)

    @property
    def views(self) -> Sequence[str]:
        """Return the names of the feature views that the model sees."""
        return self.features.views if self.features else ()

    @property
    def ignored(self) -> Sequence[str]:
        """Return the columns of the observations that serve to look up, not to learn."""
        group = [self.split.group] if self.split.group else []
        return [*self.observations.key, *(self.features.ignore if self.features else ()), *group]

    @property
    def declared(self) -> tuple[str, str]:
        """Return the whole declaration, defaults filled in, as YAML, and 12 hex digits for it."""
        from hashlib import sha256

        from yaml import safe_dump

        text = safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
        return text, sha256(text.encode()).hexdigest()[:12]

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Merge what each stage makes of the problem."""
        from ml_assets.deployment.assets import predictions_asset, served_predictions_asset
        from ml_assets.development.assets import candidate_asset, challenger_asset
        from ml_assets.evaluation.assets import evaluation_asset
        from ml_assets.features.assets import training_set_asset
        from ml_assets.features.online.assets import served_asset
        from ml_assets.monitoring.alert_assets import alerts_asset, timeline_asset
        from ml_assets.monitoring.assets import drift_asset, schedules
        from ml_assets.monitoring.kpi_assets import kpi_asset
        from ml_assets.monitoring.performance_assets import performance_asset, skew_check
        from ml_assets.monitoring.profile_assets import prediction_profiles
        from ml_assets.monitoring.retrain_assets import (
            decision_asset,
            retrain_schedule,
            retrain_sensor,
            staleness_asset,
            staleness_schedule,
        )
        from ml_assets.packaging.assets import bundle_asset, champion_asset, model_card_asset
        from ml_assets.preparation.assets import observations_asset
        from ml_assets.versions.assets import rebuilds_check, rebuilds_schedule

        watched = [drift_asset(self)]
        if self.task.kind != CLUSTERING:  # without labels there is no performance to measure
            watched += [performance_asset(self), kpi_asset(self)]
        if self.features:
            watched.append(served_asset(self))
        watched += [decision_asset(self), *prediction_profiles(self)]
        assets = [
            observations_asset(self),
            training_set_asset(self),
            *(candidate_asset(self, kind) for kind in self.kinds),
            challenger_asset(self),
            evaluation_asset(self),
            bundle_asset(self),
            champion_asset(self),
            model_card_asset(self),
            predictions_asset(self),
            served_predictions_asset(self),
            *watched,
            staleness_asset(self),
        ]
        checks = [rebuilds_check(self), skew_check(self)]
        alerts = alerts_asset(self, [*assets, *checks], after=watched)
        return dg.Definitions(
            assets=[*assets, alerts, timeline_asset(self, after=[*watched, alerts])],
            asset_checks=checks,
            schedules=[*schedules(self), retrain_schedule(self), staleness_schedule(self), rebuilds_schedule(self)],
            sensors=[retrain_sensor(self)] if self.retrain.when_needed else [],
        )


def candidates_of(kind: str) -> tuple[str, ...]:
    """Return the names of a task's candidates: those of their modules, so that no numeric library is loaded for them."""
    from ml_assets.development.candidates import CLUSTERS, module_names

    found = module_names(CLUSTERS if kind == CLUSTERING else "")
    return tuple(found) if kind == CLUSTERING else (*found, ENSEMBLE)
