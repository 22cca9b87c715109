"""Examine a challenger: score the test split through the saved models, decide at a threshold chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from ml_assets.development.training import CandidateResult
from ml_assets.evaluation.metrics import choose_threshold, evaluate
from ml_assets.evaluation.plots import as_markdown, calibration_plot, candidates_plot, confusion_plot, pr_plot, roc_plot
from ml_assets.evaluation.report import EvaluationReport, make_report
from ml_assets.preparation.observations import EVENT_TIMESTAMP
from ml_assets.preparation.observations import unlabelled as without_label
from ml_assets.preparation.splits import SPLITS, SplitWindows
from ml_assets.tasks import Metric, task

BASELINE = "baseline"
SHOWN = ("roc_auc", "pr_auc", "log_loss")  # of each candidate, on validation


@dataclass(frozen=True)
class Examination:
    """The report, and the test rows with `score` and `prediction` that it was made from."""

    report: EvaluationReport
    test: pl.DataFrame
    validation: pl.DataFrame


@dataclass(frozen=True)
class Gate:
    """The verdict of one gate, with the numbers that decided."""

    name: str
    passed: bool
    reason: str


def examine(
    problem: str,
    training_set: pl.DataFrame,
    results: Mapping[str, CandidateResult],
    winner: str,
    *,
    kind: str,
    version: str,
    made_at: datetime,
    slices: Sequence[str] = (),
    unlabelled: Mapping[str, int] | None = None,
) -> Examination:
    """Return the winner's report on the test split; the baseline's metrics are on the same rows.

    The threshold maximises F1 on validation. A slice is a column of the training set, or `month` of the event. `unlabelled`
    (see `left_out`) is told in the report.
    """
    model = results[winner].load()
    validation, test = (training_set.filter(pl.col("split") == split) for split in ("validation", "test"))
    validation = validation.with_columns(score=pl.Series(model.predict(validation)))
    threshold = choose_threshold(validation["label"].to_numpy(), validation["score"].to_numpy())
    test = test.with_columns(
        score=pl.Series(model.predict(test)), month=pl.col("event_timestamp").dt.strftime("%Y-%m")
    ).with_columns(prediction=(pl.col("score") >= threshold).cast(pl.Int64))
    baseline = results[BASELINE].load().predict(test)
    report = make_report(
        test,
        problem=problem,
        model_version=version,
        split="test",
        threshold=threshold,
        task=task(kind),
        made_at=made_at,
        slices=[*slices, "month"],
        baseline=evaluate(test["label"].to_numpy(), baseline, threshold=threshold, task=task(kind)),
        candidates=[_row(result, result.name == winner) for result in results.values()],
    )
    return Examination(replace(report, unlabelled=dict(unlabelled or {})), test, validation)


def left_out(observations: pl.LazyFrame, training_set: pl.DataFrame, *, as_known_at: datetime) -> dict[str, int]:
    """Count the observations in the splits' windows that have no label, by reason and split: they are in no metric."""
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


def gates(report: EvaluationReport, metric: Metric, *, at_least: float | None, margin: float) -> list[Gate]:
    """Return the verdicts before promotion. A metric that does not apply to the rows fails every gate."""
    value, baseline = report.metrics.get(metric.name), report.baseline.get(metric.name)
    return [_reaches(metric, value, at_least), _beats(metric, value, baseline, margin)]


def plots(found: Examination, metric: Metric, *, target: float | None = None) -> dict[str, str]:
    """Return the plots as Markdown images by name."""
    values = {str(row["candidate"]): row.get(f"validation {metric.name}") for row in found.report.candidates}
    selected = next(str(row["candidate"]) for row in found.report.candidates if row["selected"])
    y, score = found.test["label"].to_numpy(), found.test["score"].to_numpy()
    threshold = found.report.threshold
    images = {
        "candidates on validation": candidates_plot(values, metric=metric.name, selected=selected, target=target),
        "ROC": roc_plot(y, score, threshold=threshold),
        "precision-recall": pr_plot(y, score, threshold=threshold),
        "calibration": calibration_plot(y, score),
        "confusion": confusion_plot(y, score, threshold=threshold),
    }
    return {name: as_markdown(image, name) for name, image in images.items()}


def write_html(found: Examination, path: Path) -> Path:
    """Write Evidently's classification report (test as current, validation as reference) and return its path."""
    from ml_assets.evaluation.evidently import classification_report

    columns = ["label", "prediction", "score"]
    reference = found.validation.with_columns(prediction=(pl.col("score") >= found.report.threshold).cast(pl.Int64))
    html = classification_report(
        found.test.select(columns), reference.select(columns), threshold=found.report.threshold
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(html)
    return draft.replace(path)


def _reaches(metric: Metric, value: float | None, at_least: float | None) -> Gate:
    if at_least is None:
        return Gate("success_threshold", True, "no threshold is declared (success.at_least)")
    if value is None:
        return Gate("success_threshold", False, f"{metric.name} does not apply to the test rows")
    passed = value >= at_least if metric.greater_is_better else value <= at_least
    return Gate("success_threshold", passed, f"{metric.name} is {value:.4f}, declared {at_least}")


def _beats(metric: Metric, value: float | None, baseline: float | None, margin: float) -> Gate:
    if value is None or baseline is None or not np.isfinite([value, baseline]).all():
        return Gate(
            "beats_baseline", False, f"{metric.name} does not apply to challenger ({value}) or baseline ({baseline})"
        )
    gain = value - baseline if metric.greater_is_better else baseline - value
    passed = gain >= margin and gain > 0  # a tie with the baseline is not a success
    return Gate(
        "beats_baseline",
        passed,
        f"{metric.name} {value:.4f} against {baseline:.4f}: gain {gain:.4f}, declared {margin}",
    )


def _row(result: CandidateResult, selected: bool) -> dict[str, object]:
    return {
        "candidate": result.name,
        "selected": selected,
        "outcome": result.outcome,
        **{f"validation {name}": result.metrics.get(name) for name in SHOWN},
        "seconds": round(result.seconds, 1),
        "note": result.reason or "; ".join(result.notes),
    }
