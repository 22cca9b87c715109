"""Business value: money adds up, nothing unknown counts as zero, and a model that decides badly is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.evaluation.metrics import with_answers
from ml_assets.lake import Lake
from ml_assets.monitoring.kpi import Baseline, Kpi, Office, Terms, baseline_of, earns_more, recent_gain, report_kpi
from ml_assets.monitoring.kpi_shown import cumulative_plot, daily_plot, days_table, money, slices_table
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.tasks.value import declared_value
from ml_assets_tests.development.samples import TASKS

START = datetime(2013, 11, 1, tzinfo=UTC)
DAYS, A_DAY = 30, 40
LATER = START + timedelta(days=DAYS + 5)
DECLARED: dict[str, dict[str, Any]] = {
    "binary": {"true_positive": 40, "false_positive": -15, "currency": "USD"},
    "multiclass": {"right": 5, "wrong": -2},
    "regression": {"per_unit_of_error": -1.5, "currency": "EUR"},
}
KINDS = list(DECLARED)
THRESHOLD = 0.4


class FakeBundle:
    """What business value asks of a bundle."""

    threshold = THRESHOLD

    def __init__(self, kind: str) -> None:
        self.task = TASKS[kind]


def champion(kind: str, data_hash: str = "", version: str = "3") -> Champion:
    made = cast(Bundle, FakeBundle(kind))
    return Champion(version, made, data_hash, START - timedelta(days=30), START, {})


def terms(kind: str, **more: Any) -> Terms:
    return Terms(declared_value(TASKS[kind], DECLARED[kind]), slices=("place",), **more)


def asked(days: int = DAYS, *, a_day: int = A_DAY, seed: int = 0) -> pl.DataFrame:
    """Questions of `days` days, with the chance of a yes in `chance`."""
    random, rows = np.random.default_rng(seed), days * a_day
    return pl.DataFrame(
        {
            "who": [str(number) for number in range(rows)],
            "event_timestamp": [START + timedelta(days=row // a_day, minutes=row % a_day) for row in range(rows)],
            "place": random.choice(["x", "y", "z"], rows, p=[0.6, 0.37, 0.03]),
            "last": random.normal(0, 1, rows),
            "chance": random.beta(1, 2, rows),
        },
        schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
    )


def labels_of(frame: pl.DataFrame, kind: str, *, seed: int = 1) -> pl.Series:
    random, chance = np.random.default_rng(seed), frame["chance"].to_numpy()
    if kind == "regression":
        return pl.Series("label", 10 * chance + random.normal(0, 1, frame.height))
    yes = random.random(frame.height) < chance
    if kind == "binary":
        return pl.Series("label", yes.astype(np.int64))
    return pl.Series("label", np.array(TASKS[kind].classes)[np.where(yes, 2, 0)])


def scores_of(chance: np.ndarray, kind: str) -> np.ndarray:
    if kind == "multiclass":
        return np.column_stack([1 - chance, np.zeros(len(chance)), chance])
    return 10 * chance if kind == "regression" else chance


def observed(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The outcomes, each known a day later."""
    when = pl.col("event_timestamp") + timedelta(days=1)
    return frame.select("who", "event_timestamp", labels_of(frame, kind), label_timestamp=when)


def predicted(frame: pl.DataFrame, kind: str, chance: np.ndarray | None = None, *, version: str = "3") -> pl.DataFrame:
    """What a model answers that sees the chance, or takes it to be another."""
    score = scores_of(frame["chance"].to_numpy() if chance is None else chance, kind)
    answers = with_answers(frame.drop("chance"), score, TASKS[kind], THRESHOLD)
    return answers.with_columns(model_version=pl.lit(version), in_sample=pl.lit(False))


def report(
    lake: Lake, kind: str, predictions: pl.DataFrame, observations: pl.DataFrame, *, now: datetime = LATER, **more: Any
) -> Kpi:
    """Write the tables, with a training set alike the live rows, and report."""
    training = asked(seed=7)
    told = training.with_columns(labels_of(training, kind, seed=8), split=pl.lit("train"))
    written = lake.write("p/training_set", told, written_at=now)
    lake.write("p/predictions", predictions, written_at=now)
    lake.write("p/observations", observations, written_at=now)
    said = {"terms": terms(kind)} | more
    return report_kpi(lake, "p", champion(kind, written.version), key=["who"], now=now, **said)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


# -- money adds up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000), a_day=st.integers(1, 20), known=st.floats(0, 1))
def test_the_total_is_the_sum_of_days_and_of_slices(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, a_day: int, known: float
) -> None:
    frame = asked(12, a_day=a_day, seed=seed)
    outcomes = observed(frame, kind).sample(fraction=known, seed=seed)
    chance = np.random.default_rng(seed).random(frame.height)
    kpi = report(Lake(str(tmp_path_factory.mktemp("lake"))), kind, predicted(frame, kind, chance), outcomes)
    total = kpi.totals
    assert total["rows"] == outcomes.height == kpi.slices["rows"].sum()
    assert total["pending"] == frame.height - outcomes.height == kpi.slices["without_outcome"].sum()
    for name in ("actions", "conversions", "earned", "baseline", "perfect"):
        assert (total[name] or 0) == pytest.approx(kpi.days[name].sum())
        assert (total[name] or 0) == pytest.approx(kpi.slices[name].sum())
    assert (kpi.days["perfect"] >= kpi.days["earned"] - 1e-9).all()
    assert (kpi.slices["perfect"] >= kpi.slices["earned"] - 1e-9).all()
    if kind == "binary" and outcomes.height:
        assert kpi.sweep is not None and kpi.sweep.earned == pytest.approx(total["earned"])


def test_each_day_says_what_its_decisions_were_worth(lake: Lake) -> None:
    frame = asked(3, a_day=4)
    outcomes = observed(frame, "binary").with_columns(label=pl.Series([1, 1, 0, 0] * 3))
    decided = np.array([0.9, 0.1, 0.9, 0.1] + [0.1] * 4 + [0.9] * 4)
    kpi = report(lake, "binary", predicted(frame, "binary", decided), outcomes)
    told = kpi.days.select("day", "rows", "actions", "conversions", "earned", "baseline", "perfect").rows()
    assert told == [
        ("2013-11-01", 4, 2, 1, 25.0, 50.0, 80.0),
        ("2013-11-02", 4, 0, 0, 0.0, 50.0, 80.0),
        ("2013-11-03", 4, 4, 2, 50.0, 50.0, 80.0),
    ]
    assert kpi.baselines == {"3": "always act"}  # a third of the training rows are late: 40 / 3 - 15 * 2 / 3 is above 0
    assert kpi.days["earned_so_far"].to_list() == [25.0, 25.0, 75.0]
    assert lake.read("p/kpi_report").equals(kpi.days)


def test_a_number_is_worth_its_error_and_has_no_action(lake: Lake) -> None:
    frame = asked(10)
    kpi = report(lake, "regression", predicted(frame, "regression"), observed(frame, "regression"))
    error = np.abs(10 * frame["chance"] - labels_of(frame, "regression")).sum()
    assert kpi.totals["earned"] == pytest.approx(-1.5 * error)
    assert (kpi.totals["perfect"], kpi.totals["actions"], kpi.sweep) == (0.0, None, None)
    assert kpi.baselines["3"].startswith("always ")


def test_every_answer_of_several_classes_is_an_action(lake: Lake) -> None:
    frame = asked(10)
    kpi = report(lake, "multiclass", predicted(frame, "multiclass"), observed(frame, "multiclass"))
    right, rows = kpi.totals["conversions"] or 0, frame.height
    assert kpi.totals["actions"] == rows
    assert kpi.totals["earned"] == pytest.approx(5 * right - 2 * (rows - right))
    assert kpi.sweep is None


# -- what is not known is not zero -------------------------------------------------------------------------------------


def test_pending_rows_are_counted_apart_and_earn_nothing_yet(lake: Lake) -> None:
    frame, now = asked(10), START + timedelta(days=8)
    kpi = report(lake, "binary", predicted(frame, "binary"), observed(frame, "binary"), now=now)
    by_day = {row["day"]: row for row in kpi.days.to_dicts()}
    assert (by_day["2013-11-07"]["status"], by_day["2013-11-07"]["pending"]) == ("realised", 0)
    assert (by_day["2013-11-10"]["status"], by_day["2013-11-10"]["pending"]) == ("pending", A_DAY)
    assert by_day["2013-11-10"]["rows"] == 0 and by_day["2013-11-10"]["earned"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_labels_that_never_arrive_are_no_money_and_no_green(lake: Lake, kind: str) -> None:
    frame = asked(10)
    kpi = report(lake, kind, predicted(frame, kind), observed(frame, kind).clear())
    assert kpi.totals["rows"] == 0 and kpi.totals["earned"] is None and kpi.totals["pending"] == frame.height
    passed, reason = earns_more(kpi)
    assert not passed and reason == "undecided: no day has its outcomes yet (400 rows are pending)"
    assert kpi.sweep is None


def test_outcomes_that_will_never_come_are_said(lake: Lake) -> None:
    frame = asked(10)
    none = observed(frame, "binary").with_columns(label=pl.lit(None, pl.Int64))
    kpi = report(lake, "binary", predicted(frame, "binary"), none)
    assert kpi.days["status"].unique().to_list() == ["no outcome"]
    assert (kpi.totals["never"], kpi.totals["earned"]) == (400, None)
    assert not earns_more(kpi)[0]


def test_labels_that_disagree_count_apart(lake: Lake) -> None:
    frame = asked(10)
    outcomes = observed(frame, "binary")
    other = outcomes.head(5).with_columns(label=1 - pl.col("label"))
    kpi = report(lake, "binary", predicted(frame, "binary"), pl.concat([outcomes, other]))
    assert (kpi.totals["contradictory"], kpi.totals["rows"]) == (5, 395)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_is_not_enough_to_say_anything(lake: Lake, kind: str) -> None:
    frame = asked(1, a_day=1)
    kpi = report(lake, kind, predicted(frame, kind), observed(frame, kind))
    passed, reason = earns_more(kpi)
    assert not passed and reason == "undecided: 1 rows of 1 days with outcomes; 100 rows of 7 days are needed"
    assert kpi.slices["note"].to_list() == ["too few rows: 1, fewer than 100"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_live_row_there_is_an_empty_report(lake: Lake, kind: str) -> None:
    frame = asked(5).with_columns(pl.col("event_timestamp") - timedelta(days=40))
    kpi = report(lake, kind, predicted(frame, kind), observed(frame, kind))
    assert kpi.days.is_empty() and kpi.slices.is_empty()
    assert not earns_more(kpi)[0]
    assert lake.read("p/kpi_report").height == 0
    assert "all 0 days" in days_table(kpi)
    assert cumulative_plot(kpi) and daily_plot(kpi)


def test_rows_that_the_model_was_trained_on_do_not_count(lake: Lake) -> None:
    frame = asked(10)
    seen = predicted(frame, "binary").with_columns(in_sample=pl.int_range(pl.len()) < 100)
    kpi = report(lake, "binary", seen, observed(frame, "binary"))
    assert kpi.totals["rows"] == 300 and kpi.days["day"][0] == "2013-11-03"


def test_without_a_declared_value_rates_are_told_and_money_does_not_apply(lake: Lake) -> None:
    frame = asked()
    kpi = report(
        lake, "binary", predicted(frame, "binary"), observed(frame, "binary"), terms=Terms(slices=("place", "shop"))
    )
    assert kpi.totals["earned"] is None and kpi.sweep is None and (kpi.totals["conversions"] or 0) > 0
    assert kpi.days["earned_so_far"].null_count() == DAYS
    passed, reason = earns_more(kpi)
    assert not passed and reason.startswith("not applicable: no value declared")
    told = slices_table(kpi)
    assert "Slice shop is not among the columns of the predictions." in told and "by conversion rate" in told


# -- the baseline, and who decided -------------------------------------------------------------------------------------


def test_the_baseline_repeats_the_last_outcome_where_that_is_worth_more() -> None:
    random = np.random.default_rng(0)
    last = random.normal(0, 5, 500)
    training = pl.DataFrame({"label": last + random.normal(0, 1, 500), "last": last})
    told = terms("regression", last_value="last")
    found = baseline_of(training, task=TASKS["regression"], terms=told)
    assert found.name == "last value (last)"
    frame = pl.DataFrame({"last": [3.0, None, float("nan")]})
    assert found.decided(frame).tolist() == [3.0, found.constant, found.constant]
    worse = training.with_columns(last=-pl.col("last"))
    assert baseline_of(worse, task=TASKS["regression"], terms=told).name.startswith("always")


def test_days_of_an_earlier_version_stay_with_its_own_baseline(lake: Lake) -> None:
    frame, half = asked(), START + timedelta(days=15)
    both = pl.concat(
        [
            predicted(frame.filter(pl.col("event_timestamp") < half), "binary", version="2"),
            predicted(frame.filter(pl.col("event_timestamp") >= half), "binary"),
        ]
    )
    rare = asked(seed=5).with_columns(label=pl.lit(0), split=pl.lit("train"))
    before = Office("2", START + timedelta(days=5), lake.write("p/training_set", rare, written_at=START).version)
    kpi = report(lake, "binary", both, observed(frame, "binary"), before=[before])
    assert kpi.days["day"][0] == "2013-11-06"  # before that, version 2 was tested
    assert kpi.days["model_version"].to_list() == ["2"] * 10 + ["3"] * 15
    assert kpi.baselines == {"2": "never act", "3": "always act"}
    assert (kpi.days["baseline"].head(10) == 0).all() and (kpi.days["baseline"].tail(15) != 0).any()
    assert kpi.sweep is not None and kpi.sweep.rows == 15 * A_DAY


def test_a_version_whose_training_set_is_gone_has_no_baseline_and_no_green(lake: Lake) -> None:
    frame = asked()
    lake.write("p/predictions", predicted(frame, "binary"), written_at=LATER)
    lake.write("p/observations", observed(frame, "binary"), written_at=LATER)
    kpi = report_kpi(lake, "p", champion("binary", "gone"), key=["who"], terms=terms("binary"), now=LATER)
    assert kpi.totals["baseline"] is None and (kpi.totals["earned"] or 0) > 0
    assert not earns_more(kpi)[0]


def test_where_no_row_says_who_answered_the_model_in_office_did(lake: Lake) -> None:
    frame = asked()
    known, unknown = predicted(frame, "binary"), predicted(frame, "binary").drop("model_version")
    whole, nameless = (report(lake, "binary", rows, observed(frame, "binary")) for rows in (known, unknown))
    assert nameless.totals == whole.totals and nameless.baselines == whole.baselines
    assert nameless.sweep is not None and nameless.sweep.earned == pytest.approx(whole.totals["earned"])
    assert earns_more(nameless) == earns_more(whole)


def test_tables_by_days_give_the_same_as_whole_ones(lake: Lake, tmp_path: Path) -> None:
    frame, days = asked(10), Lake(str(tmp_path / "days"))
    tables = {"p/predictions": predicted(frame, "binary"), "p/observations": observed(frame, "binary")}
    whole = report(lake, "binary", *tables.values())
    model = champion("binary", lake.manifest("p/training_set").version)  # type: ignore[union-attr]
    days.write("p/training_set", lake.read("p/training_set"), written_at=LATER)
    for table, rows in tables.items():
        for (day,), part in rows.group_by(pl.col("event_timestamp").dt.date().dt.to_string()):
            days.write(table, part, partition=str(day), written_at=LATER)
    found = report_kpi(days, "p", model, key=["who"], terms=terms("binary"), now=LATER)
    assert found.days.equals(whole.days) and found.slices.equals(whole.slices)


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_knows_something_earns_more(lake: Lake, kind: str) -> None:
    frame = asked()
    passed, reason = earns_more(report(lake, kind, predicted(frame, kind), observed(frame, kind)))
    assert passed and reason.startswith("more than the baseline: ")
    assert reason.endswith("1,120 rows, 2013-11-03 to 2013-11-30") and "best in hindsight" in reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["at random", "the other way round"])
def test_a_model_that_knows_nothing_is_red(lake: Lake, kind: str, wrong: str) -> None:
    frame = asked()
    chance = np.random.default_rng(9).random(frame.height) if wrong == "at random" else 1 - frame["chance"].to_numpy()
    passed, reason = earns_more(report(lake, kind, predicted(frame, kind, chance), observed(frame, kind)))
    assert not passed and reason.startswith("less than the baseline: ")


def test_a_model_that_decides_like_the_baseline_is_not_green(lake: Lake) -> None:
    frame = asked()
    kpi = report(lake, "binary", predicted(frame, "binary", np.ones(frame.height)), observed(frame, "binary"))
    passed, reason = earns_more(kpi)
    assert not passed and reason.startswith("not surely more than the baseline or one decision for all: ")


def test_a_coin_is_red_also_where_the_training_rows_gave_a_weak_baseline(lake: Lake) -> None:
    """In training nobody was late, so the baseline never acts; now a third are, and any action earns."""
    frame = asked()
    lake.write(
        "p/predictions", predicted(frame, "binary", np.random.default_rng(9).random(frame.height)), written_at=LATER
    )
    lake.write("p/observations", observed(frame, "binary"), written_at=LATER)
    rare = asked(seed=5).with_columns(label=pl.lit(0), split=pl.lit("train"))
    model = champion("binary", lake.write("p/training_set", rare, written_at=LATER).version)
    passed, reason = earns_more(report_kpi(lake, "p", model, key=["who"], terms=terms("binary"), now=LATER))
    assert not passed and reason.startswith("not surely more than one decision for all: ")
    assert "0 by the baseline (never act), a gain of" in reason and "by always act, best in hindsight" in reason


def test_luck_is_not_sold_as_money() -> None:
    """Of many models that decide no better than the baseline half earn more, and few pass: the upper tail is 2.5 %."""
    random, lucky, passed = np.random.default_rng(0), 0, 0
    for _ in range(200):
        gains = random.normal(0, 50, 28)
        days = pl.DataFrame({"day": [f"2013-11-{number:02}" for number in range(1, 29)], "earned": gains})
        told = days.with_columns(status=pl.lit("realised"), rows=100, baseline=0.0, hindsight=-1e6)
        lucky += gains.sum() > 0
        passed += earns_more(Kpi(told, pl.DataFrame(), terms("binary")))[0]
    assert lucky > 80 and passed <= 10


def test_only_realised_days_are_judged(lake: Lake) -> None:
    frame = asked()
    kpi = report(lake, "binary", predicted(frame, "binary"), observed(frame, "binary"), now=START + timedelta(days=20))
    gain = recent_gain(kpi.days)
    assert gain is not None and (gain.days, gain.last) == (19, "2013-11-19")


# -- how it is shown ---------------------------------------------------------------------------------------------------


def test_tables_name_the_best_and_the_worst_slice_and_those_with_too_few_rows(lake: Lake) -> None:
    frame = asked()
    told = slices_table(report(lake, "binary", predicted(frame, "binary"), observed(frame, "binary")))
    assert "too few rows to judge z" in told and "worst " in told and "best " in told


@pytest.mark.parametrize("kind", KINDS)
def test_plots_and_tables_are_made_of_any_task(lake: Lake, kind: str) -> None:
    frame = asked()
    kpi = report(lake, kind, predicted(frame, kind), observed(frame, kind))
    assert all(plot.startswith(b"\x89PNG") for plot in (cumulative_plot(kpi), daily_plot(kpi)))
    assert "all 30 days" in days_table(kpi)
    assert daily_plot(replace(kpi, days=kpi.days.with_columns(status=pl.lit("pending")))) != daily_plot(kpi)


def test_amounts_are_short() -> None:
    assert [money(amount, "USD") for amount in (None, 0.5, 12.0, 1234.56)] == ["-", "0.50 USD", "12 USD", "1,235 USD"]


def test_a_constant_baseline_needs_no_column() -> None:
    assert Baseline("never act", 0.0).decided(pl.DataFrame({"x": [1, 2]})).tolist() == [0.0, 0.0]
