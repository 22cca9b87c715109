"""One HTML file of an evaluation, complete in itself: to be sent to a colleague, read on a phone, or printed."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.evaluation.challenge import Examination
from ml_assets.evaluation.effects import Effects
from ml_assets.evaluation.evidently import task_report
from ml_assets.evaluation.explanation import Explanation
from ml_assets.evaluation.gates import Gate, Limits
from ml_assets.evaluation.importance import Importance
from ml_assets.evaluation.report import EvaluationReport, cells, interval, number, numeric
from ml_assets.evaluation.shown import errors_title, pictures
from ml_assets.tasks.drawing import data_uri

if TYPE_CHECKING:
    from jinja2 import Template

SIDES = {
    True: "Current are the test rows; reference are the validation rows, answered by the same kind of model before it was fitted on them.",
    False: "Current are the test rows, reference the validation rows.",
}
FOLDER = Path(__file__).parent


def write_page(
    path: Path,
    found: Examination,
    explained: Explanation,
    verdicts: Sequence[Gate],
    *,
    declaration: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> Path:
    """Write the page of an examination, whole or not at all, and return its path.

    `declaration` is what the problem's declaration says, for people, by name.
    """
    text = page(
        found,
        explained,
        verdicts,
        declaration=declaration or {},
        limits=limits or Limits(),
        evidently=task_report(found.test, found.reference, told=[SIDES[found.test.task.supervised]]),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    return draft.replace(path)


def page(
    found: Examination,
    explained: Explanation,
    verdicts: Sequence[Gate],
    *,
    declaration: Mapping[str, str],
    limits: Limits,
    evidently: str,
) -> str:
    """Return the page; `evidently` is a page of its own, which is shown inside when it is asked for."""
    report, test = found.report, found.test
    images = pictures(found, explained, limits)
    return template(FOLDER / "page.html").render(
        report=report,
        task=test.task,
        verdicts=verdicts,
        declaration=declaration,
        numbers=list(_numbers(report, found)),
        left_out=", ".join(f"{count:,} {reason}" for reason, count in report.unlabelled.items() if count) or "none",
        metrics=report.metrics_table(),
        slices=report.slices_table(),
        candidates=cells(report.candidates),
        selected=found.subject.challenger.result.name,
        parts=explained.parts,
        breakdown=cells(explained.parts.records if explained.parts else ()),
        errors=cells(explained.errors),
        errors_title=errors_title(found),
        absent=list(explained.absent()),
        notes=list(_notes(explained)),
        plots=[title for title in images if title not in OTHER],
        images={title: data_uri(png) for title, png in images.items()},
        numeric=numeric,
        evidently=base64.b64encode(gzip.compress(evidently.encode(), mtime=0)).decode("ascii"),
    )


def template(path: Path) -> Template:
    """Return a page's template; `style.html` and `grid.html` (a table) of this folder are there for all of them."""
    from jinja2 import Environment, FileSystemLoader

    return Environment(autoescape=True, trim_blocks=True, loader=FileSystemLoader([path.parent, FOLDER])).get_template(
        path.name
    )


OTHER = frozenset({"candidates", "value by threshold", "importance", "SHAP", "learning curve", "search"})
"""Pictures with a place of their own; the rest are the task's."""


def _numbers(report: EvaluationReport, found: Examination) -> Iterator[tuple[str, str, str]]:
    """The few numbers on top: name, value, note."""
    name = report.metric
    yield name, number(report.metrics.get(name)), f"95 %: {interval(report.intervals.get(name))}"
    for rival in report.rivals:
        if rival.metrics:
            gain = interval(rival.gains.get(name))
            yield f"{name} of {rival.name}", number(rival.metrics.get(name)), f"ours is better by {gain}"
    if found.worth:
        low, high = found.worth.interval
        value = f"{found.worth.chosen:,.0f} {found.worth.currency}".strip()
        yield (
            "value of 1,000 rows",
            value,
            f"95 %: {low:,.0f} to {high:,.0f}; deciding nothing {found.worth.nothing:,.0f}",
        )


def _notes(explained: Explanation) -> Iterator[str]:
    ranked, moved = explained.importance, explained.effects
    if isinstance(ranked, Importance):
        yield (
            f"Importance is what {ranked.metric} loses on {ranked.rows:,} test rows when the feature is shuffled among them, "
            "five times. Of features that tell the same, each alone may seem to matter little"
        )
        if ranked.note:
            yield ranked.note
    if isinstance(moved, Effects):
        yield f"SHAP: {moved.note}"
