"""Examine a challenger: its answers to the test split, at its own threshold, beside the baseline and the champion in office."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from ml_assets.development.challenger import Challenger
from ml_assets.development.lifecycle import Plan
from ml_assets.development.model_files import Model
from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.behaviour import behaviour_gate
from ml_assets.evaluation.fairness import Incumbent
from ml_assets.evaluation.gates import Gate, Limits, PromotionPolicy, calibration_gate, gates, slices_gate
from ml_assets.evaluation.leaks import leak_gate
from ml_assets.evaluation.metrics import Answered, EvaluationError, answered
from ml_assets.evaluation.report import EvaluationReport, make_report
from ml_assets.evaluation.rivals import champion_rival, simple_rival
from ml_assets.evaluation.worth import Worth, worth
from ml_assets.preparation.observations import EVENT_TIMESTAMP
from ml_assets.preparation.observations import unlabelled as without_label
from ml_assets.preparation.splits import SPLITS, SplitWindows

MONTH = "month"
SHOWN = (
    "roc_auc",
    "pr_auc",
    "log_loss",
    "f1_macro",
    "accuracy",
    "rmse",
    "mae",
    "r2",
    "silhouette",
    "davies_bouldin",
    "stability",
)
"""Metrics of the candidates, of which a table shows the declared one and the first three others that the task has."""
SMALL_SLICE, LARGE_SLICE = 20, 100
"""Rows below which a slice is not measured: a twentieth of the test rows, within these limits."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is examined: the challenger, the candidates beside it, and how they came about.

    `reason` says why the winner won. `champion` is the model in office, if there is one; of a
    random split `seen` names the rows that it was fitted or selected on (see `seen_rows`).
    """

    problem: str
    version: str
    plan: Plan
    challenger: Challenger
    results: Sequence[CandidateResult]
    reason: str = ""
    champion: Incumbent | None = None
    seen: pl.DataFrame | None = None
    currency: str = ""


@dataclass(frozen=True, eq=False)
class Examination:
    """The report, and what it was made from.

    `test` are the test rows with the challenger's answers. `reference` are the validation rows, answered by the same candidate
    as it was before it was fitted on them too (for a clustering, by the challenger). `train` are the rows of the train split.
    """

    subject: Subject
    report: EvaluationReport
    model: Model
    test: Answered
    reference: Answered
    train: pl.DataFrame
    worth: Worth | None = None


def examine(
    subject: Subject,
    training_set: pl.DataFrame,
    *,
    made_at: datetime,
    slices: Sequence[str] = (),
    unlabelled: Mapping[str, int] | None = None,
) -> Examination:
    """Return the challenger's report on the test split; its rivals' metrics are on the same rows.

    A slice is a column of the training set; where the test rows are of several months, `month` is one too. `unlabelled` (see
    `left_out`) is told in the report.
    """
    plan, challenger = subject.plan, subject.challenger
    model = challenger.result.load()
    test = _answers(_with_month(_of(training_set, "test")), model, plan, challenger.threshold)
    before = {one.name: one for one in subject.results}[challenger.result.name] if plan.task.supervised else None
    reference = _answers(
        _of(training_set, "validation"), before.load() if before else model, plan, challenger.threshold
    )
    if not len(test):
        raise EvaluationError("the test split has no labelled rows: check the split's lengths and the labels")
    simple = simple_rival(test, subject.results, plan, plan.rows(training_set))
    champion = champion_rival(test, subject.champion, plan, seen=subject.seen)
    found = worth(test, plan.value, currency=subject.currency, seed=plan.seed)
    least = int(np.clip(len(test) // 20, SMALL_SLICE, LARGE_SLICE))
    report = make_report(
        test,
        problem=subject.problem,
        model_version=subject.version,
        split="test",
        made_at=made_at,
        metric=plan.metric.name,
        slices=[*slices, *_months(test.frame, slices, least)],
        minimum_rows=least,
        unlabelled=unlabelled,
        baseline=simple[0].metrics if simple else {},
        rivals=[*([simple[0]] if simple else []), champion],
        candidates=_candidates(subject),
        told=_told(subject, found),
        seed=plan.seed,
    )
    return Examination(subject, report, model, test, reference, _of(training_set, "train"), found)


def left_out(
    observations: pl.LazyFrame,
    training_set: pl.DataFrame,
    *,
    as_known_at: datetime,
    by_time: bool = True,
    supervised: bool = True,
) -> dict[str, int]:
    """Count the observations that have no label, by reason and (by time) split: they are in no metric."""
    if not supervised:
        return {}
    if not by_time:
        found = without_label(observations.collect(), as_known_at)
        return {"with no outcome ever": found["never"], "with an outcome not known yet": found["not yet"]}
    moments = training_set.group_by("split").agg(
        first=pl.col(EVENT_TIMESTAMP).min(), last=pl.col(EVENT_TIMESTAMP).max()
    )
    first, last = (dict(moments.select("split", name).iter_rows()) for name in ("first", "last"))
    end = last["test"] + timedelta(microseconds=1)
    windows = SplitWindows(first["train"], first["validation"], first["test"], end)
    inside = observations.with_columns(split=windows.expression()).filter(pl.col("split").is_not_null()).collect()
    counts = {}
    for split in SPLITS:
        found = without_label(inside.filter(pl.col("split") == split), as_known_at)
        counts[f"in {split} with no outcome ever"] = found["never"]
        counts[f"in {split} with an outcome not known yet"] = found["not yet"]
    return counts


def judge(
    found: Examination,
    training_set: pl.DataFrame,
    *,
    limits: Limits,
    policy: PromotionPolicy,
    slices: Sequence[str] = (),
    key: Sequence[str] = (),
) -> list[Gate]:
    """Return the verdict of every gate that applies to the task or is declared.

    `slices` are the declared columns, `key` tells observations apart.
    """
    plan = found.subject.plan
    task, metric = plan.task, plan.metric
    verdicts = gates(found.report, metric, limits, baseline=task.supervised)
    if policy.worst_slice is not None:
        verdicts.append(slices_gate(found.report, metric, slices, policy.worst_slice))
    if task.output.startswith("probab"):
        verdicts.append(calibration_gate(found.test, policy.most_calibration_error, seed=plan.seed))
    verdicts.append(leak_gate(training_set, plan, key=key, most=policy.most_of_one_column))
    if policy.behaves:
        verdicts.append(behaviour_gate(found.model, found.test.frame, task, policy, seed=plan.seed))
    return verdicts


def _of(training_set: pl.DataFrame, split: str) -> pl.DataFrame:
    return training_set.filter(pl.col("split") == split)


def _answers(frame: pl.DataFrame, model: Model, plan: Plan, threshold: float) -> Answered:
    matrix = None if plan.task.supervised else model.encoder.dense(frame)
    return answered(frame, model.predict(frame), task=plan.task, threshold=threshold, matrix=matrix)


def _with_month(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the month of each row, unless the rows have such a column of their own."""
    if EVENT_TIMESTAMP not in frame.columns or MONTH in frame.columns:
        return frame
    return frame.with_columns(pl.col(EVENT_TIMESTAMP).dt.strftime("%Y-%m").alias(MONTH))


def _months(frame: pl.DataFrame, slices: Sequence[str], least: int) -> list[str]:
    """Return the column of months when it tells two or more parts of the rows apart that are large enough."""
    if MONTH not in frame.columns or MONTH in slices or frame.schema[MONTH] != pl.String:
        return []
    return [MONTH] if (frame[MONTH].value_counts()["count"] >= least).sum() > 1 else []


def _candidates(subject: Subject) -> list[dict[str, object]]:
    known = {name for result in subject.results for name in result.metrics}
    metric = subject.plan.metric.name
    shown = [metric, *[name for name in SHOWN if name in known and name != metric][:3]]
    return [
        {
            "candidate": result.name,
            "selected": result.name == subject.challenger.result.name,
            "outcome": result.outcome.replace("_", " "),
            **{f"validation {name}": result.metrics.get(name) for name in shown},
            "seconds": round(result.seconds, 1),
            "note": result.reason or "; ".join(result.notes),
        }
        for result in subject.results
    ]


def _told(subject: Subject, found: Worth | None) -> dict[str, str]:
    told = {
        "selected": f"{subject.challenger.result.name}, {subject.reason}" if subject.reason else "",
        "fit": "; ".join(subject.challenger.result.notes),
        "calibration": subject.challenger.calibration if subject.plan.task.output.startswith("probab") else "",
        "decision": _decision(subject),
        "value": found.sentence() if found else "",
    }
    return {topic: text for topic, text in told.items() if text}


def _decision(subject: Subject) -> str:
    if subject.plan.task.output != "probability":
        return ""
    decides, threshold = subject.plan.decides, subject.challenger.threshold
    why = "F1" if decides is None else "declared value" if subject.plan.value else "right decisions"
    return f"positive from a score of {threshold:.4g} on, the threshold of most {why} on rows that the model was not fitted on"
