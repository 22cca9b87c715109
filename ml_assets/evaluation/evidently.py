"""Evidently's HTML reports, made from a bounded, seeded sample: Evidently's cost grows with every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.evaluation.metrics import EvaluationError

if TYPE_CHECKING:
    import pandas as pd
    from evidently import Dataset, Report

SAMPLE_ROWS = 5_000
COLUMNS = ("label", "prediction", "score")


def classification_report(
    frame_current: pl.DataFrame,
    frame_reference: pl.DataFrame | None = None,
    *,
    threshold: float = 0.5,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
) -> str:
    """Evidently's classification preset as one self-contained HTML page (about 4 MB).

    Both frames have the columns label (0, 1; rows with null are left out), prediction (0, 1) and score (probability of
    the positive class). The page states how many of how many rows it was made from.
    """
    from evidently import BinaryClassification, DataDefinition, Report
    from evidently.presets import ClassificationPreset

    definition = DataDefinition(
        classification=[
            BinaryClassification(target="label", prediction_labels="prediction", prediction_probas="score")
        ],
        categorical_columns=["label", "prediction"],
        numerical_columns=["score"],
    )
    frames = {"current": _known(frame_current, "current")}
    if frame_reference is not None:
        frames["reference"] = _known(frame_reference, "reference")
    samples = {name: bounded_sample(frame, rows=sample_rows, seed=seed) for name, frame in frames.items()}
    notes = [sample_note(name, frame, samples[name]) for name, frame in frames.items()]
    report = Report([ClassificationPreset(probas_threshold=threshold)])
    return run_html(report, {name: dataset(sample, definition) for name, sample in samples.items()}, notes)


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
    html = report.run(data["current"], data.get("reference")).get_html_str(as_iframe=False)
    return html.replace("<body>", f"<body>{_banner(notes)}", 1) if notes else html


def page(title: str, notes: Sequence[str]) -> str:
    """A small HTML page for when there is nothing that Evidently could show: it says so, and why."""
    from html import escape

    head = f"<head><meta charset='utf-8'><title>{escape(title)}</title></head>"
    body = f"<h1 style='font:600 20px sans-serif;padding:0 16px'>{escape(title)}</h1>{_banner(notes)}"
    return f"<!doctype html><html>{head}<body>{body}</body></html>"


def _banner(notes: Sequence[str]) -> str:
    from html import escape

    style = "font:14px/1.5 sans-serif;padding:10px 16px;background:#fff7e6;border-bottom:1px solid #e4e7eb"
    return f'<div id="ml-assets-notes" style="{style}">{"<br>".join(escape(note) for note in notes)}</div>'


def _known(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise EvaluationError(f"the {name} frame lacks {missing}; it has: {', '.join(frame.columns)}")
    known = frame.select(COLUMNS).drop_nulls()
    if known["label"].n_unique() < 2:
        raise EvaluationError(f"the {name} frame has {known.height} labelled rows of fewer than two classes: widen it")
    return known


def _pandas(frame: pl.DataFrame) -> pd.DataFrame:
    """As pandas without pyarrow's types: null numbers become NaN, null texts None."""
    import pandas as pd

    return pd.DataFrame({column: frame[column].to_numpy() for column in frame.columns})
