"""Evidently's classification report: made, self-contained, bounded; and its numbers agree with ours."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.evidently import bounded_sample, page, task_report
from ml_assets.evaluation.metrics import Answered, answered, evaluate
from ml_assets.tasks import task

# Evidently 0.7 and what it imports warn about numpy and litestar at import time
pytestmark = pytest.mark.filterwarnings("ignore")


def scored(rows: int, seed: int = 0) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    score = generator.random(rows)
    frame = pl.DataFrame({"label": (generator.random(rows) < score).astype(int), "score": score})
    return frame.with_columns(prediction=(pl.col("score") >= 0.4).cast(pl.Int64))


def rows(frame: pl.DataFrame, threshold: float = 0.4) -> Answered:
    return answered(frame, frame["score"].to_numpy(), task=task("classification"), threshold=threshold)


def test_sample_is_bounded_seeded_and_without_repeats() -> None:
    frame = pl.DataFrame({"row": range(1000)})
    sample = bounded_sample(frame, rows=100, seed=1)
    assert sample.height == sample["row"].n_unique() == 100
    assert sample["row"].is_sorted()
    assert sample.equals(bounded_sample(frame, rows=100, seed=1))
    assert not sample.equals(bounded_sample(frame, rows=100, seed=2))
    assert bounded_sample(frame, rows=1000).equals(frame)


@pytest.fixture(scope="module")
def html() -> str:
    unlabelled = scored(10).with_columns(label=pl.lit(None, pl.Int64))
    return task_report(
        rows(pl.concat([scored(1500), unlabelled])), rows(scored(900, 1)), told=["a & b"], sample_rows=1000
    )


def test_the_page_is_self_contained_and_not_huge(html: str) -> None:
    assert re.findall(r"<(?:script|link|img)[^>]*\b(?:src|href)\s*=\s*[\"']?https?:", html) == []
    assert 1_000_000 < len(html) < 6_000_000


def test_the_page_says_what_it_was_made_from(html: str) -> None:
    assert "current: 1,000 of 1,500 rows" in html
    assert "reference: 900 of 900 rows" in html
    assert "a &amp; b" in html


def test_evidentlys_numbers_are_ours() -> None:
    from evidently import BinaryClassification, DataDefinition, Dataset, Report
    from evidently.presets import ClassificationPreset

    frame = scored(800)
    ours = evaluate(frame["label"].to_numpy(), frame["score"].to_numpy(), threshold=0.4, task=task("classification"))
    classification = BinaryClassification(target="label", prediction_labels="prediction", prediction_probas="score")
    definition = DataDefinition(classification=[classification], categorical_columns=["label", "prediction"])
    data = Dataset.from_pandas(frame.to_pandas(), data_definition=definition)
    result = Report([ClassificationPreset(probas_threshold=0.4)]).run(data, None).dict()
    theirs = {metric["metric_name"].split("(")[0]: metric["value"] for metric in result["metrics"]}
    for name, their_name in (
        ("accuracy", "Accuracy"),
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("f1", "F1Score"),
        ("roc_auc", "RocAuc"),
        ("log_loss", "LogLoss"),
    ):
        assert ours[name] == pytest.approx(theirs[their_name], rel=1e-9), name


def test_rows_that_evidently_cannot_show_give_a_small_page() -> None:
    single = task_report(rows(scored(30).with_columns(label=pl.lit(1))))
    assert "needs labels of two classes or more" in single
    assert len(single) < 2_000
    assert "needs labels of two classes or more" in task_report(rows(scored(0)))


def test_page_escapes_what_it_is_told() -> None:
    assert "&lt;script&gt;" in page("Drift", ["<script>"])
