"""Evidently's HTML reports, made from a bounded, seeded sample: Evidently's cost grows with every row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.evaluation.metrics import Answered

if TYPE_CHECKING:
    import pandas as pd
    from evidently import Dataset, Report
    from evidently.core.report import Snapshot

SAMPLE_ROWS = 5_000
MOST_COLUMNS = 40
TITLE = "Evidently"
SUMMARY = re.compile(r"<!--summary-->.*?<!--/summary-->", re.DOTALL)


def task_report(
    current: Answered,
    reference: Answered | None = None,
    *,
    told: Sequence[str] = (),
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> str:
    """Evidently's report of the task as one self-contained HTML page (about 4 MB).

    The page begins with the lines `told`, and states how many of how many rows it was made from. Rows that Evidently cannot
    show give a small page that says so.
    """
    from evidently import Report

    task = current.task
    frames = {"current": _bounded(task.evidently_frame(current.frame))}
    if reference is not None and len(reference):
        frames["reference"] = _bounded(task.evidently_frame(reference.frame))
    samples = {name: bounded_sample(frame, rows=sample_rows, seed=seed) for name, frame in frames.items()}
    notes = [*told, *(sample_note(name, frame, samples[name]) for name, frame in frames.items())]
    if why := _unfit(current, samples):
        return page(TITLE, [*notes, why])
    definition, presets = task.evidently(current.threshold, list(samples.values()))
    data = {name: dataset(sample, definition) for name, sample in samples.items()}
    return run_html(Report(list(presets)), data, notes)


def bounded_sample(frame: pl.DataFrame, *, rows: int = SAMPLE_ROWS, seed: int = 0) -> pl.DataFrame:
    """At most `rows` rows of `frame`, drawn without replacement, the same for the same seed, in their old order."""
    if frame.height <= rows:
        return frame
    chosen = pl.int_range(frame.height, eager=True).sample(rows, seed=seed).sort()
    return frame[chosen]


def sample_note(name: str, frame: pl.DataFrame, sample: pl.DataFrame) -> str:
    """What a reader should know of a sample: "current: 5,000 of 28,104 rows"."""
    return f"{name}: {sample.height:,} of {frame.height:,} rows"


def dataset(frame: pl.DataFrame, definition: object) -> Dataset:
    """The frame as an Evidently data set (Evidently takes pandas only)."""
    from evidently import Dataset

    return Dataset.from_pandas(_pandas(frame), data_definition=definition)


def run_html(report: Report, data: dict[str, Dataset], notes: Sequence[str] = ()) -> str:
    """Run an Evidently report on data["current"] and, when given, data["reference"]; HTML with the notes on top."""
    return html_of(report.run(data["current"], data.get("reference")), notes)


def html_of(run: Snapshot, notes: Sequence[str] = ()) -> str:
    """A run as one HTML page with the notes on top."""
    html = run.get_html_str(as_iframe=False)
    return html.replace("<body>", f"<body>{_banner(notes)}", 1) if notes else html


def page(title: str, notes: Sequence[str]) -> str:
    """A small HTML page for when there is nothing that Evidently could show: it says so, and why."""
    from html import escape

    head = f"<head><meta charset='utf-8'><title>{escape(title)}</title></head>"
    body = f"<h1 style='font:600 20px sans-serif;padding:0 16px'>{escape(title)}</h1>{_banner(notes)}"
    return f"<!doctype html><html>{head}<body>{body}</body></html>"


def with_summary(html: str, lines: Sequence[str]) -> str:
    """Return a page with these lines on top, in place of those that an earlier call put there."""
    block = f"<!--summary-->{_banner(lines)}<!--/summary-->"
    if SUMMARY.search(html):
        return SUMMARY.sub(lambda _: block, html, count=1)
    return html.replace("<body>", f"<body>{block}", 1)


def _banner(notes: Sequence[str]) -> str:
    from html import escape

    style = "font:14px/1.5 sans-serif;padding:10px 16px;background:#fff7e6;border-bottom:1px solid #e4e7eb"
    return f'<div style="{style}">{"<br>".join(escape(note) for note in notes)}</div>'


def _bounded(frame: pl.DataFrame) -> pl.DataFrame:
    """Of a wide frame its first columns: Evidently's page has a chart for each."""
    return frame.select(frame.columns[:MOST_COLUMNS])


def _unfit(current: Answered, samples: dict[str, pl.DataFrame]) -> str:
    """Why Evidently cannot show these rows, or nothing: it fails on labels of one class."""
    if current.task.output not in ("probability", "probabilities"):
        return "" if samples["current"].height > 1 else "Evidently needs two rows or more."
    few = [name for name, frame in samples.items() if frame.to_series(0).n_unique() < 2]
    return f"Evidently needs labels of two classes or more: {few} has fewer." if few else ""


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """As pandas without pyarrow's types: null numbers become NaN, null texts None."""
    import pandas as pd

    return pd.DataFrame({column: frame[column].to_numpy() for column in frame.columns})
