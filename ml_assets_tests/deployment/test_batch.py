"""Predictions made in portions are those made at once: rows, versions, verdicts, and what they are made from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.deployment.admission import native_answers, small_answers
from ml_assets.deployment.batch import Scoring, portions, score_table
from ml_assets.lake import Lake, MissingPartitionError
from ml_assets.packaging.bundle import load_bundle
from ml_assets.packaging.champion import Champion
from ml_assets_tests.development.samples import TASKS, model_of, sample
from ml_assets_tests.packaging.bundles import built, stored

NOW = datetime(2013, 2, 1, tzinfo=UTC)
DAYS = ["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"]
ROWS = dict(zip(DAYS, (300, 5, 0, 400), strict=True))
SCORING = Scoring("p/observations", "p/predictions", key=["row"], keep=["row"])
KINDS = {"binary": "xgboost", "multiclass": "xgboost", "regression": "random_forest", "clustering": "k_means"}


@cache
def champion(kind: str, root: Path) -> Champion:
    result = stored(root / "model", model_of(kind, KINDS[kind]), KINDS[kind])
    packed = built(root / "bundle", result, kind, problem="p", threshold=0.5)
    bundle = load_bundle(root / "bundle", digest=packed.digest)
    return Champion("7", bundle, "d", datetime(2013, 1, 2, tzinfo=UTC), NOW, {})


@pytest.fixture(scope="module", params=KINDS)
def scored_by(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    """A champion of each kind of task."""
    return champion(request.param, tmp_path_factory.mktemp("champion"))


def observed(root: Path, kind: str = "binary", rows: dict[str, int] | None = None, **changes: Any) -> Lake:
    """Return a lake with observations, with so many rows by day."""
    lake, start = Lake(str(root / "lake")), 0
    frame = sample(kind).drop("split").with_columns(row=pl.int_range(pl.len()).cast(pl.String)).with_columns(**changes)
    for day, count in (ROWS if rows is None else rows).items():
        moment = pl.lit(datetime.fromisoformat(day).replace(tzinfo=UTC)).dt.cast_time_unit("us")
        part = frame.slice(start, count).with_columns(event_timestamp=moment)
        lake.write("p/observations", part, partition=day, written_at=NOW)
        start += count
    return lake


def kind_of(model: Champion) -> str:
    return next(kind for kind, task in TASKS.items() if task == model.bundle.task)


@pytest.mark.parametrize("most", [1, 305, 500])
def test_portions_make_what_one_write_makes(scored_by: Champion, tmp_path: Path, most: int) -> None:
    kind = kind_of(scored_by)
    told: list[str] = []
    at_once, apart = observed(tmp_path / "a", kind), observed(tmp_path / "b", kind)
    whole = score_table(at_once, SCORING, scored_by, DAYS, now=NOW)
    found = score_table(apart, SCORING, scored_by, DAYS, now=NOW, most_rows=most, tell=told.append)
    assert len(told) > 1 and told[-1] == "scored 400 rows, 2013-01-04"
    assert {day: item.to_json() for day, item in found.written.manifests.items()} == {
        day: item.to_json() for day, item in whole.written.manifests.items()
    }
    assert found.written.verdict == whole.written.verdict and found.written.verdict.success
    assert found.in_sample == whole.in_sample == 300
    assert found.mean_score == (None if kind == "clustering" else pytest.approx(whole.mean_score, rel=1e-12))


def test_every_answer_is_the_models_own(scored_by: Champion, tmp_path: Path) -> None:
    lake = observed(tmp_path, kind_of(scored_by))
    score_table(lake, SCORING, scored_by, DAYS, now=NOW, most_rows=100)
    rows, found = lake.read("p/observations", DAYS), lake.read("p/predictions", DAYS)
    assert found["row"].to_list() == rows["row"].to_list()
    answers, bundle = scored_by.bundle.task.stored(found), scored_by.bundle
    days = [lake.read("p/observations", [day]) for day in DAYS]
    np.testing.assert_array_equal(answers, np.concatenate([bundle.predict(day) for day in days]))
    np.testing.assert_allclose(answers, bundle.predict(rows), rtol=1e-6)


def test_a_bad_day_is_red_and_the_others_are_not(tmp_path: Path) -> None:
    model = champion("binary", tmp_path)
    lake = observed(tmp_path, row=pl.when(pl.int_range(pl.len()) < 300).then(pl.lit("same")).otherwise(pl.col("row")))
    found = score_table(lake, SCORING, model, DAYS, now=NOW, most_rows=1)
    assert [day for day, item in found.written.manifests.items() if item.red] == DAYS[:1]


def test_a_table_without_days_is_scored_whole(tmp_path: Path) -> None:
    lake, rows = Lake(str(tmp_path / "lake")), sample("binary").head(9).drop("split")
    moment = pl.lit(NOW).dt.cast_time_unit("us")
    lake.write("p/observations", rows.with_columns(event_timestamp=moment, row=pl.int_range(9)), written_at=NOW)
    found = score_table(lake, SCORING, champion("binary", tmp_path), None, now=NOW)
    manifest = found.written.manifests["_"]
    assert (manifest.rows, dict(manifest.inputs)) == (
        9,
        {"champion": "7", "p/observations": lake.live("p/observations")["_"].version},
    )


def test_days_without_observations_lose_their_predictions(tmp_path: Path) -> None:

    lake, model = observed(tmp_path), champion("binary", tmp_path)
    scoring = replace(SCORING, may_be_empty=True)
    score_table(lake, scoring, model, DAYS, now=NOW)
    lake = observed(tmp_path, rows=ROWS | {DAYS[1]: 0})
    found = score_table(lake, scoring, model, DAYS, now=NOW, most_rows=1)
    assert {day: item.rows for day, item in found.written.manifests.items()} == {
        DAYS[0]: 300,
        DAYS[1]: 0,
        DAYS[3]: 400,
    }
    assert found.written.verdict.success


def test_without_observations_there_is_nothing_to_score(tmp_path: Path) -> None:
    with pytest.raises(MissingPartitionError, match="materialize it first"):
        score_table(Lake(str(tmp_path)), SCORING, champion("binary", tmp_path / "m"), DAYS, now=NOW)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, [[0], [1, 2], [3]]), (305, [[0, 1, 2], [3]]), (400, [[0, 1, 2], [3]]), (705, [[0, 1, 2, 3]])],
)
def test_a_portion_is_whole_days(tmp_path: Path, most: int, expected: list[list[int]]) -> None:
    live = observed(tmp_path).live("p/observations", DAYS)
    assert portions(live, most) == [[DAYS[number] for number in days] for days in expected]
    assert portions({}, most) == [[]]


def test_online_answers_are_those_of_the_batch(scored_by: Champion, tmp_path: Path) -> None:
    lake = observed(tmp_path, kind_of(scored_by))
    score_table(lake, SCORING, scored_by, DAYS, now=NOW)
    found, bundle = lake.read("p/predictions", DAYS), scored_by.bundle
    rows = bundle.frame(lake.read("p/observations", DAYS).select(bundle.features).to_dicts()).to_dicts()
    singly = [answer for row in rows for answer in small_answers(bundle, [row])]
    for answers in (singly, small_answers(bundle, rows), native_answers(bundle, rows)):
        online = pl.DataFrame(answers, infer_schema_length=None)
        if "score" in found.columns:
            scores = found["score"].to_numpy()
            np.testing.assert_allclose(online["score"].to_numpy(), scores, rtol=1e-6, atol=1e-6)
        if scored_by.bundle.task.output == "value":
            continue  # the prediction is the score
        differing = (online["prediction"] != found["prediction"]).to_numpy()
        assert not differing.any() or np.all(np.abs(found["score"].to_numpy()[differing] - bundle.threshold) < 1e-6)
