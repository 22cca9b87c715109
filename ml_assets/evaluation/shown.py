"""What an evaluation shows as pictures, and the report in short for the web UI."""

from __future__ import annotations

from collections.abc import Iterator

from ml_assets.evaluation.challenge import Examination
from ml_assets.evaluation.effects import Effects
from ml_assets.evaluation.explanation import Explanation
from ml_assets.evaluation.gates import Limits
from ml_assets.evaluation.importance import Importance
from ml_assets.evaluation.learning import LearningCurve
from ml_assets.evaluation.plots import (
    as_markdown,
    candidates_plot,
    importance_plot,
    learning_curve_plot,
    shap_plot,
    trials_plot,
    value_plot,
)
from ml_assets.evaluation.report import cells, table
from ml_assets.evaluation.worth import Worth

MOST_BYTES = 150_000
"""Of the pictures in the web UI, as PNG: Dagster stores them with each materialization. The page has all of them."""


def pictures(found: Examination, explained: Explanation, limits: Limits) -> dict[str, bytes]:
    """Return all pictures as PNG by title, the most telling first."""
    test = found.test
    return {
        "candidates": _candidates(found, limits),
        **dict(_worth(found.worth)),
        **test.task.plots(test.y, test.score, test.threshold),
        **dict(_explained(explained)),
        **dict(_search(found)),
    }


def short(found: Examination, explained: Explanation, limits: Limits) -> str:
    """Return the report as markdown: the summary, as many pictures as fit, then the tables."""
    parts = [
        found.report.summary(),
        " ".join(_fitting(pictures(found, explained, limits))),
        found.report.tables(),
        *_sections(found, explained),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def errors_title(found: Examination) -> str:
    """Return what the worst rows are called."""
    return "The ten worst errors" if found.test.task.supervised else "The ten rows farthest from their cluster"


def _fitting(images: dict[str, bytes]) -> Iterator[str]:
    room = MOST_BYTES
    for title, png in images.items():
        if len(png) <= room:
            room -= len(png)
            yield as_markdown(png, title)


def _sections(found: Examination, explained: Explanation) -> Iterator[str]:
    if explained.parts:
        yield f"### {explained.parts.title}"
        if explained.parts.records:
            yield table(*cells(explained.parts.records))
        yield from explained.parts.sentences
    if explained.errors:
        yield f"### {errors_title(found)}\n\n{table(*cells(explained.errors))}"
    yield from (f"{title}: {why}." for title, why in explained.absent())


def _candidates(found: Examination, limits: Limits) -> bytes:
    report = found.report
    values = {str(row["candidate"]): row.get(f"validation {report.metric}") for row in report.candidates}
    selected = next(str(row["candidate"]) for row in report.candidates if row["selected"])
    return candidates_plot(
        values,
        metric=report.metric,
        selected=selected,
        target=limits.target,
        title="Candidates, on rows not fitted on",
    )


def _worth(worth: Worth | None) -> Iterator[tuple[str, bytes]]:
    if worth:
        yield (
            "value by threshold",
            value_plot(
                worth.thresholds,
                worth.values,
                threshold=worth.threshold,
                chosen=worth.chosen,
                everything=worth.everything,
                nothing=worth.nothing,
                unit=worth.currency,
            ),
        )


def _explained(explained: Explanation) -> Iterator[tuple[str, bytes]]:
    ranked, moved, curve = explained.importance, explained.effects, explained.curve
    if isinstance(ranked, Importance) and ranked.losses:
        yield "importance", importance_plot(ranked.losses, metric=ranked.metric, intervals=ranked.intervals)
    if isinstance(moved, Effects):
        yield "SHAP", shap_plot(moved.values, moved.numbers, moved.names, unit=moved.unit)
    if isinstance(curve, LearningCurve):
        title = f"Learning curve of {curve.candidate}"
        yield (
            "learning curve",
            learning_curve_plot(curve.rows, curve.train, curve.validation, metric=curve.metric, title=title),
        )


def _search(found: Examination) -> Iterator[tuple[str, bytes]]:
    winner, metric = found.subject.challenger.result, found.subject.plan.metric
    if winner.trials:
        values = [trial["value"] for trial in winner.trials]
        yield (
            "search",
            trials_plot(
                values,
                metric=metric.name,
                greater_is_better=metric.greater_is_better,
                title=f"Search of {winner.name.replace('_', ' ')}",
            ),
        )
