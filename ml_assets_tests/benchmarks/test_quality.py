"""The quality bench: who runs where, what is kept, what is counted, and how the real arms answer."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import quality
from benchmarks.arms.quality_asked import Asked, score_frame
from benchmarks.datasets import Dataset, cut, dataset
from benchmarks.processes import BenchError
from benchmarks.quality import FOREST, OURS, XGBOOST, Played, aligned, autogluon, counts, limits, summary
from benchmarks.quality_contest import Contest, Contestant, Found, Tried, allowed, answered, ask, attempt
from benchmarks.quality_scores import Answer, Difference, difference
from benchmarks.runner import Measured, Options

FAKE = "ml_assets_tests.benchmarks.quality_fake_arm"
LINE = Dataset(
    "line", "regression", "", "", lambda: pl.DataFrame({"x": range(40), "label": [2.0 * x for x in range(40)]})
)


def fake(how: str, name: str = "") -> Contestant:
    return Contestant(name or how, FAKE, preset=how)


def found_of(values: Mapping[str, float], *, failed: Mapping[str, str] | None = None) -> Found:
    """A data set of 60 rows, where each arm's error is known: a constant, so that there is no noise."""
    y = np.arange(60.0)
    tried = {name: [Tried(Answer(y, y + error), seconds=3.0)] for name, error in values.items()}
    return Found(LINE, 60, tried, failed or {})


def contest_of(*peers: Contestant, folder: Path = Path()) -> Contest:
    return Contest(folder, OURS, peers)


def asked_in(place: Path, problem: Dataset) -> Asked:
    return ask(place, problem, cut(problem), seed=1, small=True)


def test_a_peer_gets_at_least_our_time() -> None:
    assert allowed(0.3) == 10
    assert allowed(10) == 10
    assert allowed(10.1) == 15
    assert all(seconds <= allowed(seconds) < 1.5 * seconds + 10 for seconds in (1, 14, 77, 1_000))


def test_ours_runs_first_and_peers_get_its_time(tmp_path: Path) -> None:
    said: list[str] = []
    contest = Contest(tmp_path, fake("truth"), [fake("mean"), fake("fails")], tell=said.append)
    found = contest.found(LINE)
    assert [text.split(":")[1].split()[0] for text in said] == ["truth", "mean", "fails"]
    assert "no models were trained" in said[-1]
    assert found.value("truth") == 0
    assert found.against("mean", ours="truth").verdict == "better"
    assert (found.seconds("truth"), found.seconds("mean"), found.seconds("fails")) == (0, 10, 0)
    assert dict(found.failed) == {"fails": "failed"}


def test_ours_may_not_fail(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no models were trained"):
        Contest(tmp_path, fake("fails"), []).found(LINE)


def test_an_answer_is_kept_until_rows_question_limit_or_code_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    asked, who = asked_in(tmp_path, LINE), fake("mean")
    for limit, times in ((10, 1), (10, 1), (15, 2)):
        attempt(tmp_path, asked, who, limit)
        assert len(runs.read_text().splitlines()) == times
    attempt(tmp_path, replace(asked, seed=2), who, 15)
    assert len(runs.read_text().splitlines()) == 3
    shorter = replace(LINE, load=lambda: LINE.load().head(35))
    attempt(tmp_path, replace(asked_in(tmp_path, shorter), seed=2), who, 15)
    assert len(runs.read_text().splitlines()) == 4
    monkeypatch.setattr("benchmarks.quality_contest.code_of", lambda *rooms: "new")
    attempt(tmp_path, replace(asked, seed=2), who, 15)
    assert len(runs.read_text().splitlines()) == 4, "this arm runs none of our code"
    attempt(tmp_path, replace(asked, seed=2), replace(who, rooms=("tasks",)), 15)
    assert len(runs.read_text().splitlines()) == 5


@pytest.mark.parametrize("how", ["short", "infinite"])
def test_an_answer_that_is_none_is_refused(tmp_path: Path, how: str) -> None:
    with pytest.raises(BenchError, match=f"{how} answered .* to 8 rows"):
        attempt(tmp_path, asked_in(tmp_path, LINE), fake(how), 10)


def test_counts_and_limits() -> None:
    medium = Contestant("AutoGluon medium", "", preset="medium_quality")
    best = Contestant("AutoGluon best", "", preset="best_quality", missing="not installed")
    contest = contest_of(XGBOOST, FOREST, medium, best)
    names = [OURS.name, XGBOOST.name, FOREST.name, medium.name]
    absent = {best.name: "not installed"}
    found = [
        found_of(dict(zip(names, errors, strict=True)), failed=absent)
        for errors in [(1, 2, 2, 1), (1, 0.5, 2, 0.5), (1, 1, 1, 0.5)]
    ]
    told = counts(contest, found)
    assert told["losses"] == told["worse_default_xgboost"] == 1
    assert told["share_not_above_tuned_random_forest"] == pytest.approx(1 / 3)
    assert told["worse_less_better_autogluon_medium"] == 2
    judged = {limit.detail: limit.found([Measured("", 1, told)], []) <= limit.highest for limit in limits(contest)}
    assert judged == {"share_not_above_tuned_random_forest": True, "worse_less_better_autogluon_medium": False}
    lines = summary(contest, found)
    assert lines[0] == "against default XGBoost: 1 better, 1 within noise, 1 worse; above on 1 of 3"
    assert lines[-1] == "against AutoGluon best: not installed"


def test_what_is_printed_tells_all_values_and_who_is_missing() -> None:
    gone = autogluon({"AUTOGLUON_PYTHON": "no/such/python"})
    assert [one.missing for one in gone] == ["not installed"] * 2
    contest = contest_of(XGBOOST, FOREST, *gone)
    played = Played(contest, [])
    assert played.pace == FOREST
    played.found = [
        found_of({OURS.name: 1, XGBOOST.name: 2, FOREST.name: 1}, failed={one.name: one.missing for one in gone})
    ]
    text = "\n".join(played._remarks())
    assert "line      60    rmse ↓  1" in text
    assert text.count("not installed") == 6
    assert "+1 [+1, +1] better" in text
    assert played.peer_measured().seconds == 3


def test_the_bench_is_judged_by_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOGLUON_PYTHON", sys.executable)
    with quality.bench(Options(tmp_path, small=True)) as bench:
        assert (bench.judged, bench.target, bench.warm_up) == ("losses", 0, False)
        assert [limit.detail for limit in bench.limits] == [
            "share_not_above_tuned_random_forest",
            "worse_less_better_autogluon_medium",
            "worse_less_better_autogluon_best",
        ]
        assert bench.theirs.name == "AutoGluon medium"


def test_a_cell_is_short() -> None:
    assert quality.cell(Difference(-0.5, -1.0, 0.25)) == "-0.5 [-1, +0.25]"
    assert quality.cell(Difference(-0.5, -1.0, -0.25)) == "-0.5 [-1, -0.25] worse"
    assert aligned([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"


class Predictor:
    """Stands for AutoGluon's TabularPredictor, which lives in another environment: it records, and says the mean."""

    fitted: Mapping[str, Any]
    complaint = ""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def fit(self, known: Any, **options: Any) -> Predictor:
        if self.complaint and "dynamic_stacking" not in options:
            raise AssertionError(self.complaint)
        type(self).fitted = {**self.options, **options, "known": known}
        return self


@pytest.fixture
def autogluon_arm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The arm's module, with a stand-in for AutoGluon."""
    module = type(sys)("autogluon.tabular")
    module.TabularPredictor, module.__version__ = Predictor, "0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "autogluon", type(sys)("autogluon"))
    monkeypatch.setitem(sys.modules, "autogluon.tabular", module)
    monkeypatch.setattr(Predictor, "complaint", "")
    monkeypatch.delitem(sys.modules, "benchmarks.arms.quality_autogluon", raising=False)
    yield importlib.import_module("benchmarks.arms.quality_autogluon")
    del sys.modules["benchmarks.arms.quality_autogluon"]


def test_autogluon_is_told_the_problem(tmp_path: Path, autogluon_arm: Any) -> None:
    asked_in(tmp_path, dataset("fertility"))
    asked = json.loads((tmp_path / "asked.json").read_text())
    for preset, holdout in (("medium_quality", True), ("best_quality", False)):
        autogluon_arm.fitted(asked, str(tmp_path), preset, 12.0)
        told = Predictor.fitted
        assert (told["problem_type"], told["eval_metric"]) == ("regression", "root_mean_squared_error")
        assert (told["presets"], told["time_limit"], told["num_cpus"]) == (preset, 12.0, 2)
        extra = [] if holdout else ["event_timestamp"]
        assert list(told["known"].columns) == [*asked["features"], "label", *extra]
        assert told["learner_kwargs"] == {"ignored_columns": ["event_timestamp"]}
        assert told.get("validation_structure") == (None if holdout else {"time_on": "event_timestamp"})
        assert str(told["known"]["country"].dtype) == "category"
        assert ("tuning_data" in told) == holdout
        rows = len(told["known"]) + (len(told["tuning_data"]) if holdout else 0)
        assert rows == pl.read_parquet(asked["development"]).height


def test_autogluon_gets_a_second_go_without_its_trial_of_stacking(
    tmp_path: Path, autogluon_arm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_in(tmp_path, LINE)
    asked = json.loads((tmp_path / "asked.json").read_text())
    monkeypatch.setattr(Predictor, "complaint", "not enough time left; consider dynamic_stacking=False")
    autogluon_arm.fitted(asked, str(tmp_path), "best_quality", 12.0)
    assert (Predictor.fitted["dynamic_stacking"], Predictor.fitted["time_limit"]) == (False, 12.0)
    with pytest.raises(AssertionError, match="not enough time"):
        autogluon_arm.fitted(asked, str(tmp_path), "medium_quality", 12.0)


@pytest.mark.parametrize("name", ["iris", "vote", "maths", "plane_built"])
def test_xgboost_answers_every_kind(tmp_path: Path, name: str) -> None:
    from benchmarks.arms import quality_xgboost

    check_arm(quality_xgboost.fit, tmp_path, name)


@pytest.mark.parametrize("name", ["iris", "fertility"])
def test_the_forest_answers_every_kind(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.arms import quality_forest

    monkeypatch.setattr(quality_forest, "TREES", 5)
    monkeypatch.setattr(quality_forest, "FOLDS", 2)
    check_arm(quality_forest.fit, tmp_path, name)


def check_arm(fit: Any, place: Path, name: str) -> None:
    """Fit a real arm in this process, on one thread, and see that its answer is better than a constant."""
    asked = replace(asked_in(place, dataset(name)), threads=1)
    scored, model = fit(asked)
    assert model
    score_frame(asked, scored()).write_parquet(place / "scores.parquet")
    (place / "told.json").write_text(json.dumps({"seconds": 1.0, "model": model}))
    answer = answered(place, asked, XGBOOST).answer
    constant = {"binary": 0.0, "multiclass": np.full(answer.score.shape, 1 / answer.score.shape[-1])}
    flat = Answer(answer.y, np.zeros(answer.score.shape) + constant.get(asked.kind, float(np.mean(answer.y))))
    assert difference(asked.metric, [answer], [flat]).verdict == "better"
