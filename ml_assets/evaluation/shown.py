"""What an evaluation shows as pictures, and the report in short for the web UI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ml_assets.evaluation.challenge import Examination, Limits
from ml_assets.evaluation.explanation import Explanation
from ml_assets.evaluation.plots import candidates_plot
from ml_assets.tasks.drawing import as_markdown

MOST_BYTES = 190_000
"""Of the pictures in the web UI, as PNG: what Dagster stores with each materialization. The page has all of them."""


def pictures(found: Examination, explained: Explanation, limits: Limits) -> dict[str, bytes]:
    """Return all pictures as PNG by title, the most telling first."""
    return dict(_pictures(found, explained, limits))


def _pictures(found: Examination, explained: Explanation, limits: Limits) -> Iterator[tuple[str, bytes]]:
    report, test = found.report, found.test
    values = {str(row["candidate"]): row.get(f"validation {report.metric}") for row in report.candidates}
    selected = next(str(row["candidate"]) for row in report.candidates if row["selected"])
    yield (
        "candidates",
        candidates_plot(
            values, metric=report.metric, selected=selected, target=limits.target, title="Candidates on validation"
        ),
    )
    yield from test.task.plots(test.y, test.score, test.threshold).items()
    yield from explained.pictures().items()


def short(found: Examination, explained: Explanation, limits: Limits) -> str:
    """Return the report as markdown with as many pictures as fit, behind the summary and before the tables."""
    images = pictures(found, explained, limits)
    shown, bytes_left = [], MOST_BYTES
    for title, png in images.items():
        bytes_left -= len(png)
        if bytes_left >= 0:
            shown.append(as_markdown(png, title))
    parts = [found.report.summary(), " ".join(shown), *explained.texts(), found.report.tables()]
    return "\n\n".join(part for part in parts if part) + "\n"


def texts(parts: Mapping[str, str]) -> list[str]:
    """Return titled texts as markdown."""
    return [f"### {title}\n\n{text}" for title, text in parts.items() if text]
