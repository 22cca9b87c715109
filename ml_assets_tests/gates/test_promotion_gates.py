"""Negative controls of the gates before promotion: for each a broken input that turns it red, beside a clean one that stays green."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.development.lifecycle import Plan
from ml_assets.evaluation.assets import gates_of
from ml_assets.evaluation.behaviour import behaviour_gate
from ml_assets.evaluation.comparison import compare
from ml_assets.evaluation.fairness import learned_rows
from ml_assets.evaluation.gates import (
    Gate,
    Limits,
    PromotionPolicy,
    budget_gate,
    calibration_gate,
    gates,
    parity_gate,
    slices_gate,
)
from ml_assets.evaluation.leaks import forest, leak_gate
from ml_assets.evaluation.metrics import Answered, answered
from ml_assets.evaluation.report import make_report
from ml_assets.packaging.budget import median_milliseconds
from ml_assets.packaging.bundle import Bundle, BundleError, load_bundle
from ml_assets.packaging.champion import Champion
from ml_assets.packaging.promotion import Decision, decide
from ml_assets.problem import MlProblem, Promotion
from ml_assets.tasks import task

BINARY, NUMBER = task("classification"), task("regression")
AUC = BINARY.metric("roc_auc")
START = datetime(2013, 1, 1, tzinfo=UTC)
ROWS = 2_000
FEATURES = ("age", "income", "member")
KEY = ("customer",)


@cache
def world(kind: str = "classification") -> pl.DataFrame:
    """Customers by the hour, whose outcome the features tell in part; the last fifth are test rows."""
    generator = np.random.default_rng(0)
    age, income, noise = generator.normal(size=(3, ROWS))
    member = generator.random(ROWS) < 0.5
    told = age - income + member
    label = told + noise if kind == "regression" else (told + noise > 0.5).astype(int)
    split = np.repeat(["train", "validation", "test"], [ROWS * 3 // 5, ROWS // 5, ROWS // 5])
    return pl.DataFrame(
        {"customer": np.arange(ROWS), "age": age, "income": income, "member": member, "label": label, "split": split}
    ).with_columns(
        event_timestamp=(pl.lit(START) + pl.duration(hours=pl.int_range(ROWS))).dt.cast_time_unit("us"),
        shop=pl.when(pl.int_range(ROWS) % 4 == 0).then(pl.lit("small")).otherwise(pl.lit("large")),
        told=pl.lit(pl.Series(1 / (1 + np.exp(-2 * (told - 0.5))))),
    )


def test_rows() -> pl.DataFrame:
    return world().filter(split="test")


test_rows.__test__ = False  # type: ignore[attr-defined]


def plan(kind: str = "classification", *more: str) -> Plan:
    one = task(kind)
    return Plan(one, one.metric(one.default_metric), (*FEATURES, *more), by_time=False)


# -- no leak -----------------------------------------------------------------------------------------------------------


def leaks(frame: pl.DataFrame, kind: str = "classification", *more: str, **options: Any) -> Gate:
    return leak_gate(frame, plan(kind, *more), key=KEY, most=0.995, **options)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_planted_column_that_knows_the_future_is_found(kind: str) -> None:
    frame = world(kind)
    assert leaks(frame, kind).passed
    noise = pl.Series(np.random.default_rng(1).normal(scale=0.01, size=ROWS))
    red = leaks(frame.with_columns(settled=pl.col("label") + noise), kind, "settled")
    assert not red.passed and "alone foretells the label: settled (" in red.reason
    honest = leaks(frame.with_columns(settled=noise), kind, "settled")
    assert honest.passed and "the best, " in honest.reason


def test_test_rows_that_are_development_rows_too_are_found_under_their_key_and_under_others() -> None:
    frame, twins = world(), test_rows().with_columns(split=pl.lit("train"))
    red = leaks(pl.concat([frame, twins]))
    assert not red.passed and "400 of 400 test rows are development rows too (by customer and time)" in red.reason
    renamed = leaks(pl.concat([frame, twins.with_columns(pl.col("customer") + ROWS)]))
    assert not renamed.passed and "400 test rows equal a development row in all features" in renamed.reason
    others = test_rows().with_columns(pl.col("customer") + ROWS, pl.col("age") + 1e-9, split=pl.lit("train"))
    assert leaks(pl.concat([frame, others])).passed, "close is not equal"


def test_twins_alone_make_shuffled_labels_foretellable() -> None:
    twins = test_rows().with_columns(split=pl.lit("train"))
    red = leaks(pl.concat([world(), twins])).reason
    assert "fitted on shuffled labels, answers correlate +" in red


def test_rows_of_few_values_repeat_each_other_without_a_leak() -> None:
    frame = world().with_columns(pl.col("age", "income").round(0))
    green = leaks(frame)
    assert green.passed and "too many to tell" not in green.reason.split(";")[0]


def test_a_pipeline_that_looks_at_labels_of_the_test_rows_scores_above_chance_on_shuffled_ones() -> None:
    def peeks(fit: pl.DataFrame, asked: pl.DataFrame) -> np.ndarray:
        return np.asarray(0.4 + 0.2 * asked["label"].to_numpy())

    assert leaks(world(), answer=forest(plan())).passed
    red = leaks(world(), answer=peeks)
    assert not red.passed and "answers correlate +1.000 with those of 400 test rows" in red.reason


def test_a_clustering_is_looked_at_without_labels() -> None:
    frame = world().drop("label")
    made = Plan(task("clustering"), task("clustering").metric("silhouette"), FEATURES, by_time=False)
    assert leak_gate(frame, made, key=KEY, most=0.995).passed
    twins = pl.concat([frame, frame.filter(split="test").with_columns(split=pl.lit("train"))])
    assert not leak_gate(twins, made, key=KEY, most=0.995).passed


# -- the evaluation's verdicts -----------------------------------------------------------------------------------------


def answers(score: Any, frame: pl.DataFrame | None = None, y: Any = None) -> Answered:
    rows = test_rows() if frame is None else frame
    rows = rows if y is None else rows.with_columns(label=pl.Series(y))
    return answered(rows, np.asarray(score, dtype=float), task=BINARY, threshold=0.5)


def report(rows: Answered, **more: Any) -> Any:
    told: dict[str, Any] = {
        "problem": "p",
        "model_version": "1",
        "split": "test",
        "made_at": START,
        "metric": "roc_auc",
    }
    return make_report(rows, **told | more)


def test_shuffled_labels_are_learned_no_better_than_the_baseline() -> None:
    def beats(frame: pl.DataFrame) -> bool:
        fit, asked = frame.filter(pl.col("split") != "test"), frame.filter(split="test")
        rows = answers(forest(plan())(fit, asked), asked)
        found = gates(report(rows, baseline={"roc_auc": 0.5}), AUC, Limits(beats_baseline_by=0.1))
        return {gate.name: gate.passed for gate in found}["beats_baseline"]

    order = np.random.default_rng(3).permutation(ROWS)
    assert beats(world())
    assert not beats(world().with_columns(label=world()["label"].gather(order)))


def test_probabilities_that_say_too_much_are_not_calibrated() -> None:
    drawn = np.random.default_rng(5).random(400)
    outcomes = (np.random.default_rng(6).random(400) < drawn).astype(int)
    assert calibration_gate(answers(drawn, y=outcomes), 0.1).passed
    red = calibration_gate(answers(np.round(drawn), y=outcomes), 0.1)
    assert not red.passed and "declared at most 0.1; perfect probabilities have up to" in red.reason


def test_few_rows_are_no_proof_of_a_calibration_error() -> None:
    score = np.full(30, 0.5)
    score[::2] = np.linspace(0.3, 0.7, 15)
    outcomes = (np.random.default_rng(8).random(30) < score).astype(int)
    rows = answers(score, test_rows()[:30], outcomes)
    assert rows.metrics["expected_calibration_error"] > 0.05  # type: ignore[operator]
    assert calibration_gate(rows, 0.05).passed


def test_one_slice_below_its_limit_is_red() -> None:
    small = (test_rows()["shop"] == "small").to_numpy()
    score = test_rows()["told"].to_numpy()
    for scores, passed in ((score, True), (np.where(small, 1 - score, score), False)):
        found = slices_gate(report(answers(scores), slices=["shop"]), AUC, ["shop"], 0.7)
        assert found.passed is passed, found.reason
    assert found.reason.startswith("worst of 2 slices (0 not judged): shop small, roc_auc 0.")
    none = slices_gate(report(answers(score), slices=["shop"], minimum_rows=1_000), AUC, ["shop"], 0.7)
    assert not none.passed and "applies to none of 2 slices" in none.reason


class Linear:
    """A model that answers what the class says: the odds rise with age, fall with income, and ignore the shop."""

    def __init__(self, shop: float = 0.0, age: float = 1.0) -> None:
        self.shop, self.age = shop, age

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        shop = (frame["shop"] == "small").cast(float).to_numpy()
        told = self.age * frame["age"].to_numpy() - frame["income"].to_numpy() + frame["member"].cast(float).to_numpy()
        return np.asarray(1 / (1 + np.exp(-told - self.shop * shop)))


@pytest.mark.parametrize(
    ("model", "failed"),
    [(Linear(), ""), (Linear(shop=2.0), "invariant shop: "), (Linear(age=-1.0), "rising age: 98.8% of 400 answers")],
    ids=["as declared", "the shop counts", "the old are refused"],
)
def test_answers_move_as_declared(model: Linear, failed: str) -> None:
    policy = PromotionPolicy(invariant=("shop",), rising=("age", "member"), falling=("income",))
    found = behaviour_gate(model, test_rows(), BINARY, policy)
    assert found.passed is not bool(failed), found.reason
    assert found.reason.startswith(failed)


@pytest.mark.parametrize("wrong", ["height", "shop"])
def test_a_behaviour_of_a_column_that_has_none_is_red(wrong: str) -> None:
    found = behaviour_gate(Linear(), test_rows(), BINARY, PromotionPolicy(rising=(wrong,)))
    assert not found.passed and "correct promotion.rising" in found.reason


def test_one_of_several_classes_neither_rises_nor_falls() -> None:
    class Several(Linear):
        def predict(self, frame: pl.DataFrame) -> np.ndarray:
            one = super().predict(frame)
            return np.column_stack([one / 2, one / 2, 1 - one])

    kind = task("classification", classes=["a", "b", "c"])
    assert not behaviour_gate(Several(), test_rows(), kind, PromotionPolicy(rising=("age",))).passed
    assert behaviour_gate(Several(), test_rows(), kind, PromotionPolicy(invariant=("shop",))).passed
    assert not behaviour_gate(Several(shop=2.0), test_rows(), kind, PromotionPolicy(invariant=("shop",))).passed


def test_what_is_declared_becomes_blocking_checks_and_what_is_not_declared_has_one_default() -> None:
    assert Promotion().plain() == PromotionPolicy()
    told = {
        "name": "sample",
        "question": "?",
        "observations": {"key": ["row"], "query": "SELECT row FROM clean_samples"},
    }
    binary = {"kind": "classification"}
    problem = MlProblem.resolve_from_dict(told | {"task": binary, "promotion": {"worst_slice": 0.6, "rising": ["age"]}})
    assert gates_of(problem) == [
        *("success_threshold", "beats_baseline", "slices", "calibration", "no_leak", "behaviour")
    ]
    assert gates_of(MlProblem.resolve_from_dict(told | {"task": {"kind": "regression"}})) == [
        *("success_threshold", "beats_baseline", "no_leak")
    ]


# -- challenger and champion -------------------------------------------------------------------------------------------


class Scored:
    """A bundle that answers with a column, after what it was told to do to the rows."""

    threshold, task = 0.5, BINARY

    def __init__(self, digest: str, column: str = "score") -> None:
        self.digest, self.column = digest, column

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        if self.column not in frame.columns:
            raise ValueError(f"column {self.column!r} is missing")
        return frame[self.column].to_numpy()


def scored(good: float, *, worse_in: str = "", seed: int = 11) -> pl.Series:
    """Return scores that follow what the features tell, the better the larger `good`; in one shop the other way round."""
    frame = world()
    noise = np.random.default_rng(seed).random(ROWS)
    score = good * frame["told"].to_numpy() + (1 - good) * noise
    return pl.Series(np.where((frame["shop"] == worse_in).to_numpy(), 1 - score, score))


def champion(column: str = "office", until: datetime | None = None, **more: Any) -> Champion:
    first = test_rows()["event_timestamp"].dt.truncate("1d").min()
    until = until or cast(datetime, first)
    return Champion("3", cast(Bundle, Scored("old", column)), "h", until, until + timedelta(days=30), {"roc_auc": 0.99})


def decided(challenger: pl.Series, office: pl.Series | None, *, keep: Champion | None = None, **more: Any) -> Decision:
    frame = world().with_columns(score=challenger)
    frame = frame if office is None else frame.with_columns(office=office)
    more = {"slices": ["shop"], "key": KEY} | more
    return decide(frame, cast(Bundle, Scored("new")), keep or champion(), AUC, **more)


def red(found: Decision) -> set[str]:
    return {gate.name for gate in found.gates if not gate.passed}


GOOD, POOR, WEAK = scored(1.0), scored(0.4), scored(0.1)


def test_a_better_challenger_passes_every_gate_and_the_table_tells_each_slice() -> None:
    found = decided(GOOD, POOR)
    assert found.promote and not red(found) and not found.approval
    assert [part.name for part in found.comparison] == ["all rows", "shop large", "shop small"]
    assert found.table().count("| not worse |") == 3 and "| ties | passed |" in found.table()


def test_worse_in_one_slice_is_red_although_better_overall() -> None:
    mixed = scored(1.0, worse_in="small")
    found = decided(mixed, WEAK)
    assert found.comparison[0].gain > 0  # type: ignore[operator]
    assert not found.promote and red(found) == {"not_worse_in_slices"}
    assert "shop small: gain -0." in found.reason
    assert decided(mixed, WEAK, slices=[]).promote, "no slice is declared"


def test_a_champion_trained_on_the_holdout_is_not_beaten_on_it() -> None:
    frame = world()
    own = learned_rows(frame.lazy(), key=KEY)
    assert decided(GOOD, POOR, learned=own).promote
    seen = pl.concat([own, test_rows()[:7].select(own.columns)])
    found = decided(GOOD, POOR, learned=seen)
    assert not found.promote and red(found) == {"holdout", "comparable"}
    assert "7 of 400 test rows are among the 1,607 that champion 3 was fitted or selected on" in found.reason
    late = decided(GOOD, POOR, keep=champion(until=START + timedelta(days=80)))
    assert not late.promote and red(late) == {"comparable"} and "deliver newer data" in late.reason


def test_a_challenger_trained_on_the_holdout_is_not_compared_at_all() -> None:
    frame = world().with_columns(score=GOOD, office=POOR)
    copied = pl.concat([frame, frame.filter(split="test").with_columns(split=pl.lit("train"))])
    found = decide(copied, cast(Bundle, Scored("new")), champion(), AUC, key=KEY)
    assert not found.promote and red(found) == {"holdout"}
    assert decide(frame, cast(Bundle, Scored("new")), champion(), AUC, key=KEY).promote


def test_a_stale_champion_is_asked_again_and_its_old_number_counts_for_nothing() -> None:
    stale = champion()
    assert stale.test_metrics["roc_auc"] == 0.99
    assert decided(GOOD, POOR, keep=stale).promote, "it was measured on other rows then"
    gone = decided(GOOD, None, keep=champion("retired_feature"))
    assert not gone.promote and red(gone) == {"comparable"}
    assert "cannot answer these rows (ValueError: column 'retired_feature' is missing)" in gone.reason


def test_a_challenger_that_fails_is_refused_with_what_it_said() -> None:
    found = decide(world(), cast(Bundle, Scored("new", "nothing")), None, AUC)
    assert found == Decision(False, "the challenger failed on the test rows: ValueError: column 'nothing' is missing")


def test_a_holdout_that_is_too_small_compares_nobody() -> None:
    found = decided(GOOD, POOR, policy=PromotionPolicy(minimum_rows=401))
    assert not found.promote and red(found) == {"minimum_rows"}
    assert "400 test rows are new to both, promotion.minimum_rows asks for 401" in found.reason
    assert decided(GOOD, POOR, policy=PromotionPolicy(minimum_rows=400)).promote


def test_the_first_model_takes_office_or_waits_for_a_person_as_declared() -> None:
    frame = world().with_columns(score=GOOD)
    for policy, waits in (
        (PromotionPolicy(), False),
        (PromotionPolicy(first="approve"), True),
        (PromotionPolicy(approval=True), True),
    ):
        found = decide(frame, cast(Bundle, Scored("new")), None, AUC, policy=policy)
        assert (found.promote, found.approval) == (True, waits)
    assert decided(GOOD, POOR, policy=PromotionPolicy(approval=True)).approval
    assert not decided(GOOD, POOR, policy=PromotionPolicy(first="approve")).approval


SLIGHTLY = scored(0.4, seed=13)
"""Hardly better than POOR: within chance."""


@pytest.mark.parametrize(
    ("challenger", "margin", "better", "keep", "newer"),
    [
        (GOOD, 0.0, True, True, True),
        (SLIGHTLY, 0.0, True, False, True),
        (POOR, 0.0, False, False, True),
        (WEAK, 0.0, False, False, False),
        (POOR, 0.01, False, False, True),
        (WEAK, 0.01, False, False, False),
    ],
    ids=["better", "by chance", "a tie", "worse", "a tie, with a margin", "worse than the margin"],
)
def test_who_wins_is_a_declared_policy(
    challenger: pl.Series, margin: float, better: bool, keep: bool, newer: bool
) -> None:
    for ties, wins in (("better", better), ("keep", keep), ("newer", newer)):
        policy = PromotionPolicy(ties=ties, margin=margin)  # type: ignore[arg-type]
        assert decided(challenger, POOR, policy=policy, slices=[]).promote is wins, ties


def test_with_a_margin_the_rows_must_show_that_no_more_is_lost() -> None:
    """On 40 rows nothing is shown: what is not proved does not pass."""
    few, others = (answers(one.tail(400)).take(np.arange(40)) for one in (POOR, SLIGHTLY))
    assert not compare(others, few, AUC)[0].worse
    assert compare(others, few, AUC, margin=0.01)[0].worse
    assert not compare(few, few, AUC, margin=0.01)[0].worse


SCORES = st.lists(st.integers(0, 20), min_size=60, max_size=60).map(lambda values: np.array(values) / 20)


@settings(max_examples=10)
@given(SCORES, SCORES)
def test_an_equal_is_never_worse_the_interval_holds_the_gain_and_decisions_repeat(
    one: np.ndarray, other: np.ndarray
) -> None:
    rows = test_rows()[:60]
    first, second = answers(one, rows), answers(other, rows)
    assert not any(part.worse for part in compare(first, first, AUC, slices=["shop"], margin=0.01))
    found = compare(first, second, AUC, slices=["shop"])
    assert found == compare(first, second, AUC, slices=["shop"])
    for part in found:
        if part.interval is not None and part.gain is not None:
            assert part.interval[0] <= part.gain <= part.interval[1]


# -- the bundle --------------------------------------------------------------------------------------------------------


def test_a_corrupted_bundle_is_refused_and_a_packed_model_that_answers_otherwise_is_red(tmp_path: Path) -> None:
    from ml_assets_tests.development.samples import model_of, sample
    from ml_assets_tests.packaging.bundles import built, stored

    frame, model = sample("binary"), model_of("binary", "linear")
    packed = built(tmp_path / "bundle", stored(tmp_path / "linear", model))
    bundle = load_bundle(tmp_path / "bundle", digest=packed.digest)
    given, expected = bundle.predict(frame), model.predict(frame)
    assert parity_gate(given, expected).passed
    assert not parity_gate(given + np.eye(1, len(given)).ravel() * 1e-4, expected).passed
    assert not parity_gate(np.where(np.arange(len(given)) == 5, np.nan, given), expected).passed
    assert not parity_gate(given[1:], expected).passed
    largest = max(packed.sizes, key=lambda name: packed.sizes[name])
    content = bytearray((tmp_path / "bundle" / largest).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bundle" / largest).write_bytes(content)
    with pytest.raises(BundleError, match="bundle refused"):
        load_bundle(tmp_path / "bundle", digest=packed.digest)


def test_a_slow_model_and_a_large_one_are_over_budget() -> None:
    policy = PromotionPolicy(most_milliseconds=4.0, most_megabytes=10.0)
    quick = median_milliseconds(lambda: None, times=5)
    slow = median_milliseconds(lambda: time.sleep(0.005), times=5)
    assert budget_gate(quick, 1.0, policy).passed
    found = budget_gate(slow, 1.0, policy)
    assert not found.passed and "at most 4" in found.reason
    assert not budget_gate(quick, 11.0, policy).passed
    assert budget_gate(slow, 1e6, PromotionPolicy()).passed, "nothing is declared"
