"""The challenger learns from train and validation, never from test; its threshold is the one that is worth most."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.development.candidates.base import Candidate
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.candidates.linear import Linear
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.challenger import Challenger, make_challenger
from ml_assets.development.links import Logistic
from ml_assets.development.model_files import hashes, load
from ml_assets.development.rows import DevelopmentRows
from ml_assets.development.training import CandidateResult, keep_scores, train_candidate
from ml_assets.tasks import task
from ml_assets_tests.development.samples import small
from ml_assets_tests.development.toys import BINARY, NUMBERS, Fitting, development, fitting, numbered, table


def made(
    known: Candidate, rows: DevelopmentRows, folder: Path, how: Fitting | None = None, **more: object
) -> tuple[CandidateResult, Challenger]:
    how = how or fitting()
    result = train_candidate(known, rows, how, folder=folder / known.name)
    found = make_challenger(known.name, [result], rows, how, folder=folder / "challenger", **more)  # type: ignore[arg-type]
    return result, found


def test_it_is_fitted_again_on_train_and_validation(tmp_path: Path) -> None:
    frame = table(400).with_columns(
        place=pl.when(pl.col("split") == "train").then(pl.lit("old")).otherwise(pl.lit("new"))
    )
    rows = development(frame, features=["x", "place"])
    result, found = made(Linear(), rows, tmp_path)
    assert "new" not in result.load().encoder.columns[1].categories
    model = found.result.load()
    assert set(model.encoder.columns[1].categories) == {"old", "new"}
    assert found.result.notes[-1] == "fitted again on 320 rows of train and validation"
    assert found.result.sha256 != result.sha256 and Path(found.result.folder) == tmp_path / "challenger"
    assert found.result.metrics == result.metrics, "what it is known by is of rows that it had not seen"


def test_test_rows_are_never_touched(tmp_path: Path) -> None:
    frame = table(400)
    test = pl.col("split") == "test"
    spoiled = frame.with_columns(
        x=pl.when(test).then(float("nan")).otherwise("x"),
        label=pl.when(test).then(99).otherwise("label"),
        event_timestamp=pl.when(~test).then("event_timestamp"),
    )
    for known in (Linear(), small("xgboost")):
        one, two = (
            made(known, development(part), tmp_path / name)[1] for name, part in (("one", frame), ("two", spoiled))
        )
        assert one.result.sha256 == two.result.sha256 and one.threshold == two.threshold


def test_a_boosted_challenger_takes_as_many_rounds_as_were_enough(tmp_path: Path) -> None:
    rows = development(table(600))
    result, found = made(small("xgboost"), rows, tmp_path)
    assert result.size and found.result.load().parameters["rounds_kept"] >= result.size
    assert found.result.size == result.size


def overconfident(rows: DevelopmentRows, folder: Path, power: float) -> CandidateResult:
    """Return a linear model's result, but with scores whose log-odds are `power` times those of the truth."""
    result = train_candidate(Linear(), rows, fitting(), folder=folder / "linear")
    x = rows.frame["x"].to_numpy()[rows.scored]
    keep_scores(folder / "linear", 1 / (1 + np.exp(-power * 2 * x)))
    return result


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_threshold_is_near_what_the_declared_values_ask_for(power: float, tmp_path: Path) -> None:
    # Elkan (IJCAI 2001): act from p* = (FP loss) / (FP loss + FN loss) on, where probabilities mean what they say.
    rows = development(table(6_000))
    value = {"true_positive": 40.0, "false_positive": -15.0}
    result = overconfident(rows, tmp_path, power)
    found = make_challenger("linear", [result], rows, fitting(), folder=tmp_path / "challenger", value=value)
    assert found.threshold == pytest.approx(15 / 55, abs=0.08)
    links = found.result.load().links
    if power == 1.0:
        assert links == () and found.calibration.startswith("not applied")
    else:
        assert len(links) == 1 and " applied: log-loss" in found.calibration
        BINARY.check(rows.y[rows.scored], found.result.scores())
        raw = replace(found.result.load(), links=()).predict(rows.frame)
        np.testing.assert_allclose(found.result.load().predict(rows.frame), links[0].apply(raw), atol=1e-9)
        assert found.calibration_losses["as it is"] > min(found.calibration_losses.values())


def test_without_values_the_threshold_is_of_the_best_f1_after_calibration(tmp_path: Path) -> None:
    rows = development(table(1_000))
    result = overconfident(rows, tmp_path, 3.0)
    found = make_challenger("linear", [result], rows, fitting(), folder=tmp_path / "challenger")
    y = rows.y[rows.scored]
    assert isinstance(found.result.load().links[0], Logistic)
    assert found.threshold == BINARY.choose_threshold(y, found.result.scores())


def test_an_ensembles_members_are_fitted_again(tmp_path: Path) -> None:
    frame = table(400).with_columns(
        place=pl.when(pl.col("split") == "train").then(pl.lit("old")).otherwise(pl.lit("new"))
    )
    rows, how = development(frame, features=["x", "place"]), fitting()
    results = [train_candidate(one, rows, how, folder=tmp_path / one.name) for one in (Linear(), Baseline())]
    weights = {"linear": 0.75, "baseline": 0.25}
    keep_scores(tmp_path / "ensemble", sum(weights[one.name] * one.scores() for one in results))  # type: ignore[arg-type]
    blended = CandidateResult("ensemble", "trained", str(tmp_path / "ensemble"), variant={"weights": weights})
    found = make_challenger("ensemble", [*results, blended], rows, how, folder=tmp_path / "challenger")
    again = {
        one.name: make_challenger(one.name, results, rows, how, folder=tmp_path / f"again_{one.name}")
        for one in results
    }
    raw = {name: replace(one.result.load(), links=()).predict(frame) for name, one in again.items()}
    expected = 0.75 * raw["linear"] + 0.25 * raw["baseline"]
    np.testing.assert_allclose(replace(found.result.load(), links=()).predict(frame), expected, atol=1e-9)
    assert sorted(path.name for path in tmp_path.glob("challenger*")) == ["challenger", "challenger.scores.npy"]


def test_numbers_and_clusters_have_no_calibration(tmp_path: Path) -> None:
    frame = table(300)
    numbers = development(numbered(frame, frame["x"].to_numpy()), NUMBERS)
    _, found = made(Linear(), numbers, tmp_path / "numbers", fitting(NUMBERS))
    assert found.calibration == "not applicable: the answers are no probabilities"
    groups = task("clustering", clusters=(2, 3))
    result, grouped = made(
        candidate("k_means"), development(frame.drop("label"), groups), tmp_path / "groups", fitting(groups)
    )
    assert grouped.calibration == found.calibration
    assert (grouped.result.scores() == result.scores()).all()
    assert grouped.result.load().predict(frame).shape == (300,)


def test_it_survives_json_and_its_files_are_what_it_says(tmp_path: Path) -> None:
    _, found = made(Linear(), development(table(300)), tmp_path)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Challenger.from_dict(told | {"reason": "best"}) == found and told["winner"] == "linear"
    model = load(tmp_path / "challenger", sha256=found.result.sha256)
    assert hashes(model.files()) == found.result.sha256


def test_another_winner_leaves_nothing_of_the_last(tmp_path: Path) -> None:
    rows = development(table(300))
    for known in (small("xgboost"), Baseline()):
        found = made(known, rows, tmp_path)[1]
        assert {path.name for path in (tmp_path / "challenger").iterdir()} == set(found.result.sha256)
