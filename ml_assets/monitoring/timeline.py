"""The whole story of a problem in production, on one page: what was seen, what was decided, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

from ml_assets.evaluation.report import cells, number, numeric
from ml_assets.monitoring.story import Story
from ml_assets.tasks.drawing import data_uri


def write_timeline(
    path: Path, told: Story, *, question: str, metric: str, now: datetime, images: Mapping[str, bytes]
) -> Path:
    """Write the page of a story, whole or not at all, and return its path; see `page`."""
    text = page(told, question=question, metric=metric, now=now, images=images)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(text)
    return draft.replace(path)


def page(told: Story, *, question: str, metric: str, now: datetime, images: Mapping[str, bytes]) -> str:
    """Return the page: numbers, pictures over one axis of time, and what happened.

    `metric` is what is declared as success, `images` are those of `timeline_plots.pictures`.
    """
    from ml_assets.evaluation.page import template

    happened = [{"when": f"{one.at:%Y-%m-%d}", "what": one.kind, "told": one.text} for one in reversed(told.events())]
    return template(Path(__file__).with_name("timeline.html")).render(
        problem=told.problem,
        question=question,
        now=now,
        span=told.span,
        numbers=list(_numbers(told, metric)),
        images={title: data_uri(png) for title, png in images.items()},
        happened=cells(happened),
        windows=cells(told.windows.reverse().rename(lambda name: name.removeprefix("window_")).to_dicts()),
        absent=told.absent,
        numeric=numeric,
    )


def _numbers(told: Story, metric: str) -> Iterator[tuple[str, str, str]]:
    """The few numbers on top: name, value, note."""
    last = told.promotions[-1] if told.promotions else None
    yield (
        "in office",
        last.version if last else "nobody",
        f"since {last.when:%Y-%m-%d}" if last else "no model was promoted",
    )
    judged = told.windows["window_verdict"].to_list()
    yield (
        "drift",
        f"{judged.count('drift')} of {len(judged)} windows",
        f"{judged.count('undecided')} could not be judged",
    )
    yield _realised(told.performance, metric)
    yield from _money(told.kpi)
    retrained = sum(one.retrain for one in told.decisions)
    yield "decided to retrain", str(retrained), f"of {len(told.decisions)} times that it was asked"
    wrong = [one for one in told.alerts if not one.resolved]
    yield "alerts", str(len(wrong)), f"{sum(one.severity == 'note' for one in wrong)} of them notes"


def _realised(performance: pl.DataFrame, metric: str) -> tuple[str, str, str]:
    if metric not in performance.columns:
        return metric, "-", "never measured on live rows"
    known = performance.filter(pl.col(metric).is_not_null())
    if known.is_empty():
        return metric, "-", "no outcome is known yet"
    return metric, number(known[metric][-1]), f"realised in the week from {known['start'][-1]:%Y-%m-%d}"


def _money(kpi: pl.DataFrame) -> Iterator[tuple[str, str, str]]:
    if "earned" not in kpi.columns or kpi["earned"].null_count() == kpi.height:
        return
    earned, baseline, perfect = (float(kpi[name].sum() or 0.0) for name in ("earned", "baseline", "perfect"))
    unit = kpi["currency"].drop_nulls().to_list()[-1:] or [""]
    yield "earned", f"{earned:,.0f} {unit[0]}".strip(), f"the baseline {baseline:,.0f}, a perfect model {perfect:,.0f}"
