"""The examination of a challenger, for each task on real data: judged on the test rows, at its own threshold, beside others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.development.training import CandidateResult, TrainingError
from ml_assets.evaluation.challenge import Examination, Subject, examine, left_out
from ml_assets.evaluation.gates import Gate, Limits, gates
from ml_assets.evaluation.metrics import EvaluationError, evaluate, known_values
from ml_assets.evaluation.report import EvaluationReport, Rival
from ml_assets.evaluation.rivals import champion_rival
from ml_assets.tasks import task
from ml_assets_tests.evaluation import problems

KINDS: dict[str, Callable[[Path], tuple[Subject, pl.DataFrame]]] = {
    "binary": problems.binary,
    "multiclass": problems.multiclass,
    "regression": problems.regression,
    "clustering": problems.clustering,
}


@dataclass(frozen=True)
class Case:
    subject: Subject
    frame: pl.DataFrame
    found: Examination


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    made: dict[str, Case] = {}

    def case(kind: str) -> Case:
        if kind not in made:
            subject, frame = KINDS[kind](tmp_path_factory.mktemp(kind))
            made[kind] = Case(subject, frame, examined(subject, frame))
        return made[kind]

    return case


def examined(subject: Subject, frame: pl.DataFrame) -> Examination:
    return examine(subject, frame, made_at=problems.MADE_AT, slices=["half"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_is_about_the_test_rows_and_scores_are_those_of_the_saved_model(
    kind: str, cases: Callable[[str], Case]
) -> None:
    case = cases(kind)
    test = case.frame.filter(pl.col("split") == "test")
    assert case.found.report.rows == case.found.test.frame.height == test.height
    np.testing.assert_array_equal(case.found.test.score, case.subject.challenger.result.load().predict(test))
    threshold, kind = case.subject.challenger.threshold, case.subject.plan.task
    found = evaluate(case.found.test.y, case.found.test.score, threshold=threshold, task=kind)
    assert case.found.report.metrics == known_values(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_says_the_same_after_json_and_names_what_counts(kind: str, cases: Callable[[str], Case]) -> None:
    report = cases(kind).found.report
    assert EvaluationReport.from_json(report.to_json()).to_json() == report.to_json()
    text = f"{report.summary()}\n\n{report.tables()}"
    for expected in ("### Metrics", "### Candidates", "### Slices", "| half | even |", "no champion yet"):
        assert expected in text
    assert f"| {report.metric} |" in text


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_value(kind: str, cases: Callable[[str], Case]) -> None:
    report = cases(kind).found.report
    low, high = report.intervals[report.metric] or (1.0, 0.0)
    assert low <= (report.metrics[report.metric] or 0.0) <= high


@pytest.mark.parametrize(("kind", "better"), [("binary", 0.3), ("multiclass", 0.5), ("regression", 5.0)])
def test_the_baseline_is_measured_on_the_same_rows_and_beaten_for_sure(
    kind: str, better: float, cases: Callable[[str], Case]
) -> None:
    case = cases(kind)
    rival = case.found.report.rivals[0]
    assert (rival.name, rival.metrics) == ("baseline", case.found.report.baseline)
    gain = rival.gains[case.subject.plan.metric.name]
    assert gain is not None and gain[0] > better
    verdicts = gates(case.found.report, case.subject.plan.metric, Limits(beats_baseline_by=better))
    assert [(gate.name, gate.passed) for gate in verdicts] == [("success_threshold", True), ("beats_baseline", True)]


def test_a_clustering_has_no_baseline_and_no_gate_for_one(cases: Callable[[str], Case]) -> None:
    case = cases("clustering")
    assert case.found.report.baseline == {}
    assert [rival.name for rival in case.found.report.rivals] == ["champion"]
    verdicts = gates(case.found.report, case.subject.plan.metric, Limits(at_least=0.2), baseline=False)
    assert [(gate.name, gate.passed) for gate in verdicts] == [("success_threshold", True)]
    assert not gates(case.found.report, case.subject.plan.metric, Limits(at_least=0.9), baseline=False)[0].passed


def test_the_outcomes_of_the_test_rows_change_no_decision(cases: Callable[[str], Case]) -> None:
    case = cases("binary")
    flipped = pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise(pl.col("label"))
    other = examined(case.subject, case.frame.with_columns(label=flipped))
    assert other.report.threshold == case.found.report.threshold == case.subject.challenger.threshold
    assert other.test.frame["prediction"].equals(case.found.test.frame["prediction"])
    assert other.report.metrics["roc_auc"] == pytest.approx(1 - (case.found.report.metrics["roc_auc"] or 0))


def test_the_reference_was_answered_by_a_model_that_had_not_seen_it(cases: Callable[[str], Case]) -> None:
    case = cases("binary")
    before = next(one for one in case.subject.results if one.name == "linear").load()
    validation = case.frame.filter(pl.col("split") == "validation")
    np.testing.assert_array_equal(case.found.reference.score, before.predict(validation))


def test_the_better_of_baseline_and_persistence_is_to_be_beaten(cases: Callable[[str], Case]) -> None:
    case = cases("regression")
    by_name = {one.name: one for one in case.subject.results}
    pretender = replace(by_name["linear"], name="persistence")
    found = examined(replace(case.subject, results=(*case.subject.results, pretender)), case.frame)
    assert found.report.rivals[0].name == "persistence"
    assert not gates(found.report, case.subject.plan.metric, Limits(beats_baseline_by=5.0))[1].passed


def test_a_baseline_that_could_not_be_trained_is_an_error(cases: Callable[[str], Case]) -> None:
    case = cases("regression")
    results = [
        CandidateResult("baseline", "failed", "", reason="no memory") if one.name == "baseline" else one
        for one in case.subject.results
    ]
    with pytest.raises(EvaluationError, match="no trained baseline"):
        examined(replace(case.subject, results=results), case.frame)


def test_a_challenger_without_a_model_cannot_be_examined(cases: Callable[[str], Case]) -> None:
    case = cases("regression")
    lost = replace(case.subject.challenger, result=CandidateResult("linear", "failed", "", reason="no memory"))
    with pytest.raises(TrainingError, match="'linear' has no model"):
        examined(replace(case.subject, challenger=lost), case.frame)


def test_every_candidate_is_listed_with_its_outcome(cases: Callable[[str], Case]) -> None:
    case = cases("binary")
    failed = CandidateResult("svm", "not_applicable", "", reason="LinAlgError: singular")
    found = examined(replace(case.subject, results=(*case.subject.results, failed)), case.frame)
    rows = {row["candidate"]: row for row in found.report.candidates}
    assert [name for name, row in rows.items() if row["selected"]] == ["linear"]
    assert (rows["svm"]["outcome"], rows["svm"]["note"]) == ("not applicable", "LinAlgError: singular")
    assert rows["linear"]["validation roc_auc"] == case.subject.results[1].metrics["roc_auc"]


def test_declared_values_are_told_against_deciding_nothing_and_everything(cases: Callable[[str], Case]) -> None:
    found = cases("binary").found
    assert found.worth is not None
    y, decided = found.test.y, found.test.frame["prediction"].to_numpy()
    counted = np.sum((y == 1) & (decided == 1)) * 10 - np.sum((y == 0) & (decided == 1)) * 3
    counted -= np.sum((y == 1) & (decided == 0)) * 20
    assert found.worth.chosen == pytest.approx(counted * 1000 / len(y))
    assert found.worth.interval[0] < found.worth.chosen < found.worth.interval[1]
    assert found.worth.nothing == pytest.approx(-20_000 * y.mean())
    assert found.worth.nothing < found.worth.everything < found.worth.chosen <= found.worth.perfect
    assert "USD" in found.report.told["value"]
    assert cases("regression").found.worth is None


# -- the champion ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bundle:
    """The challenger's own model, as a champion's."""

    case: Case
    threshold: float = 0.5

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        return self.case.subject.challenger.result.load().predict(frame)


@dataclass(frozen=True)
class Champion:
    bundle: object
    data_hash: str = "another"
    fitted_until: datetime = problems.START
    version: str = "3"


def against(case: Case, champion: Champion | None, *, seen: pl.DataFrame | None = None) -> Rival:
    return champion_rival(case.found.test, champion, case.subject.plan, seen=seen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_champion_is_compared_on_the_same_rows(kind: str, cases: Callable[[str], Case]) -> None:
    case = cases(kind)
    champion = Champion(Bundle(case, case.subject.challenger.threshold))
    rival = against(case, champion)
    assert (rival.name, rival.metrics) == ("champion 3", case.found.report.metrics)
    assert rival.gains[case.subject.plan.metric.name] == pytest.approx((0.0, 0.0))
    assert against(case, None).note == "no champion yet"
    told = examined(replace(case.subject, champion=champion), case.frame).report
    assert told.rivals[-1].name == "champion 3"


def test_a_champion_that_was_fitted_on_the_test_rows_is_not_compared(cases: Callable[[str], Case]) -> None:
    case = cases("binary")
    first = case.found.test.frame["event_timestamp"].min()
    assert isinstance(first, datetime)
    day = datetime(first.year, first.month, first.day, tzinfo=UTC)
    assert against(case, Champion(Bundle(case), fitted_until=day)).metrics
    later = against(case, Champion(Bundle(case), fitted_until=day + timedelta(days=1)))
    assert later.metrics == {}
    assert later.note == f"not compared: it was fitted on rows up to {day:%Y-%m-%d}, and these begin {day:%Y-%m-%d}"


def test_of_a_random_split_only_rows_that_the_champion_has_not_seen_count(cases: Callable[[str], Case]) -> None:
    case = cases("binary")
    test = case.found.test.frame
    late = Champion(Bundle(case), fitted_until=problems.MADE_AT + timedelta(days=400))
    assert against(case, late).metrics == {}, "without knowing what it has seen, nothing is new to it"
    half = against(case, late, seen=test[:50].select("row"))
    assert half.note == f"compared on the {test.height - 50} of {test.height} rows that it has not seen"
    rest = case.found.test.take(np.arange(50, test.height))
    assert half.metrics["roc_auc"] == rest.metrics["roc_auc"]
    none = against(case, late, seen=test.select("row"))
    assert none.note == "not compared: it has seen all of these rows"


def test_a_champion_that_cannot_answer_says_so(cases: Callable[[str], Case]) -> None:
    class Other:
        threshold = 0.5

        def predict(self, frame: pl.DataFrame) -> np.ndarray:
            raise ValueError("column 'height' is missing")

    rival = against(cases("binary"), Champion(Other()))
    assert rival.note == "not compared: it cannot answer these rows (column 'height' is missing)"


# -- gates -----------------------------------------------------------------------------------------------------------------


def verdicts(report: EvaluationReport, metric: str, limits: Limits) -> dict[str, Gate]:
    kind = task("regression") if "rmse" in report.metrics else task("classification")
    return {gate.name: gate for gate in gates(report, kind.metric(metric), limits)}


def test_the_gates_say_what_decided(cases: Callable[[str], Case]) -> None:
    report = cases("binary").found.report
    told = verdicts(report, "roc_auc", Limits(at_least=0.6, beats_baseline_by=0.02))
    auc = report.metrics["roc_auc"]
    assert told["success_threshold"].reason == f"roc_auc is {auc:.4f}, declared at least 0.6"
    assert told["beats_baseline"].reason.startswith(f"roc_auc {auc:.4f} against 0.5000: gain ")
    undeclared = verdicts(report, "roc_auc", Limits())["success_threshold"]
    assert (undeclared.passed, undeclared.reason) == (True, "no threshold is declared (success.at_least)")


def test_gates_know_which_way_is_better(cases: Callable[[str], Case]) -> None:
    report = cases("regression").found.report
    value = report.metrics["rmse"] or 0.0
    for limit, passed in ((value + 0.01, True), (value - 0.01, False)):
        assert verdicts(report, "rmse", Limits(at_most=limit))["success_threshold"].passed is passed
    gain = (report.baseline["rmse"] or 0.0) - value
    for margin, passed in ((gain - 0.01, True), (gain + 0.01, False)):
        assert verdicts(report, "rmse", Limits(beats_baseline_by=margin))["beats_baseline"].passed is passed


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_baseline_itself_is_stopped(kind: str, cases: Callable[[str], Case]) -> None:
    case = cases(kind)
    baseline = replace(case.subject.challenger, result=case.subject.results[0])
    found = examined(replace(case.subject, challenger=baseline), case.frame)
    metric = case.subject.plan.metric
    limit = Limits(at_least=0.6) if metric.greater_is_better else Limits(at_most=0.5)
    assert [gate.passed for gate in gates(found.report, metric, limit)] == [False, False]


# -- rows left out ---------------------------------------------------------------------------------------------------------


def test_observations_without_an_outcome_are_counted_by_split_or_in_all() -> None:
    frame = problems.dated(pl.DataFrame({"label": [1, 0] * 10}))
    observed = frame.with_columns(label=pl.when(pl.int_range(pl.len()) % 5 > 0).then("label")).lazy()
    late = problems.MADE_AT + timedelta(days=400)
    by_split = left_out(observed, frame, as_known_at=late)
    assert by_split["in train with no outcome ever"] == 3
    assert sum(by_split.values()) == 4
    at_random = left_out(observed, frame, as_known_at=late, by_time=False)
    assert at_random == {"with no outcome ever": 4, "with an outcome not known yet": 0}
    assert left_out(observed, frame, as_known_at=late, supervised=False) == {}
