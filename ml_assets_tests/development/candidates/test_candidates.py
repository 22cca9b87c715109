"""Every candidate on every task it does: learns, is the same again under a seed, says what it did, refuses what cannot teach it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml_assets.development.candidates.base import Candidate, CandidateError, Fitted, Rows, sampled
from ml_assets.development.candidates.registry import candidate, candidates, names
from ml_assets.development.encoding import Encoder
from ml_assets_tests.development.samples import (
    EVERY,
    FEATURES,
    SUPERVISED,
    TASKS,
    features_of,
    fit,
    fit_of,
    fitted,
    how,
    labelled,
    made,
    model_of,
    names_for,
    pair,
    sample,
    small,
)

LEARNING = ("linear", "random_forest", "xgboost", "svm", "neural")
CONSTANT = ("baseline", "persistence")
EVERY_SUPERVISED = [(kind, name) for kind, name in EVERY if kind in SUPERVISED]
EVERY_LEARNING = [(kind, name) for kind in SUPERVISED for name in LEARNING]


def _error(kind: str, y: np.ndarray, score: np.ndarray) -> float:
    """Return log-loss, or the squared error as a share of the variance."""
    if kind == "regression":
        return float(np.mean((score - y) ** 2) / y.var())
    value = TASKS[kind].metric("log_loss").compute(y, score)
    assert value is not None
    return value


@pytest.mark.parametrize(("kind", "name"), EVERY_SUPERVISED)
def test_it_answers_in_the_shape_of_its_task_and_learns(kind: str, name: str) -> None:
    test = sample(kind).filter(pl.col("split") == "test")
    y, score = TASKS[kind].labels(test["label"]), model_of(kind, name).predict(test)
    TASKS[kind].check(y, score)
    assert score.dtype == np.float64
    prior = _error(kind, y, model_of(kind, "baseline").predict(test))
    if name in LEARNING:
        assert _error(kind, y, score) < 0.8 * prior


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_saved_form_says_what_the_fitted_one_does(kind: str, name: str) -> None:
    rows = pair(sample(kind), features_of(kind), kind)[1]
    saved, known = model_of(kind, name), fit_of(kind, name)
    scale = max(1.0, float(np.abs(known.scores(rows)).max()))
    np.testing.assert_allclose(saved.predict(rows.frame), known.scores(rows), atol=1e-5 * scale)
    assert saved.threads == 1 and saved.output == TASKS[kind].output


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_seed_gives_the_same_files_again(kind: str, name: str) -> None:
    again = fitted(small(name, kind), sample(kind), features_of(kind), kind=kind)
    assert again.files() == model_of(kind, name).files()


def test_several_threads_give_the_same_files_again() -> None:
    train, watched = pair(sample("regression"), FEATURES, "regression")
    for name in ("random_forest", "xgboost", "linear"):
        known = replace(small(name), log_target=True)
        two = [known.fit(train, watched, how("regression", threads=2)).packed(train, seed=0) for _ in range(2)]
        assert two[0].files() == two[1].files()


@pytest.mark.parametrize("name", ["random_forest", "xgboost", "neural"])
def test_another_seed_is_another_model(name: str) -> None:
    other = fitted(small(name), sample("binary"), FEATURES, seed=1)
    assert other.content != model_of("binary", name).content


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_it_scores_unseen_categories_nulls_and_one_row(kind: str, name: str) -> None:
    model = model_of(kind, name)
    odd = sample(kind).head(2).with_columns(place=pl.lit("never seen"), delay=None, seats=None, weekend=None)
    scores = model.predict(odd)
    assert np.isfinite(scores).all()
    if TASKS[kind].supervised:
        TASKS[kind].check(np.zeros(2, dtype=np.int64), scores)
    nothing = model.predict(odd.head(0))
    assert nothing.shape == (0, *scores.shape[1:]) and nothing.dtype == scores.dtype
    np.testing.assert_allclose(model.predict(odd.head(1)), scores[:1], atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), EVERY_SUPERVISED)
def test_a_handful_of_rows_with_a_constant_column_and_little_train(kind: str, name: str) -> None:
    frame = labelled(made(42).with_columns(seats=pl.lit(100)), kind)
    known = small(name, kind)
    train, watched = pair(frame, FEATURES, kind)
    assert len(train) == 26
    if not known.supports(TASKS[kind], len(train)):
        assert name == "neural"
        return
    scores = known.fit(train, None, how(kind)).packed(train, seed=0).predict(watched.frame)
    TASKS[kind].check(watched.y, scores)


@pytest.mark.parametrize("name", [name for name in names_for("regression") if name != "persistence"])
@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_the_unit_of_a_number_does_not_matter(name: str, unit: float) -> None:
    known = small(name, "regression")
    one, other = (
        fit(known, labelled(made(400), "regression", unit=size), FEATURES, kind="regression") for size in (1.0, unit)
    )
    rows = pair(labelled(made(400), "regression"), FEATURES, "regression")[1]
    np.testing.assert_allclose(other.scores(rows) / unit, one.scores(rows), rtol=0.02)


@pytest.mark.parametrize("name", LEARNING)
def test_a_model_of_logarithms_answers_in_the_unit_with_the_mean_of_the_outcomes(name: str) -> None:
    frame = labelled(made(600), "regression")
    skewed = frame.with_columns(label=(pl.col("label") / 2).exp())
    known = replace(small(name), log_target=True)
    train, watched = pair(skewed, FEATURES, "regression")
    scores = known.fit(train, watched, how("regression")).scores(watched)
    assert 0.6 < scores.mean() / watched.y.mean() < 1.6
    assert np.corrcoef(np.log(np.maximum(scores, 1)), np.log(watched.y))[0, 1] > 0.7
    median = known.fit(train, watched, how("regression", metric="mae")).scores(watched)
    assert median.mean() < 1.2 * scores.mean(), "a metric of the median asks for no mean"


def test_linear_models_of_an_outcome_that_is_always_the_same_say_so() -> None:
    frame = sample("regression").with_columns(label=pl.lit(7.0))
    for name in names_for("regression"):
        if name == "persistence":
            continue
        scores = fitted(small(name), frame, FEATURES, kind="regression").predict(frame)
        np.testing.assert_allclose(scores, 7.0, atol=0.35)


@pytest.mark.parametrize("name", names_for("multiclass"))
def test_a_class_that_training_never_saw_has_no_probability_but_a_place(name: str) -> None:
    frame = sample("multiclass").filter((pl.col("split") != "train") | (pl.col("label") != "middle"))
    model = fitted(small(name, "multiclass"), frame, FEATURES, kind="multiclass")
    scores = model.predict(frame)
    TASKS["multiclass"].check(np.zeros(len(scores), dtype=np.int64), scores)
    assert (scores[:, 1] < 0.05).all() and scores[:, [0, 2]].min() >= 0
    low, high = (scores[(frame["label"] == one).to_numpy()].mean(axis=0) for one in ("low", "high"))
    assert name == "baseline" or (low[0] > high[0] and high[2] > low[2]), "the classes are in their places"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in EVERY_LEARNING if kind != "regression"])
def test_one_class_is_refused(kind: str, name: str) -> None:
    alone = 0 if kind == "binary" else "low"
    with pytest.raises(CandidateError, match=r"the labels are all \[0\]: a classifier needs rows of two classes"):
        fit(small(name), sample(kind).with_columns(label=pl.lit(alone)), FEATURES, kind=kind)


@pytest.mark.parametrize("name", CONSTANT)
def test_one_class_is_no_matter_for_a_constant(name: str) -> None:
    frame = sample("binary").with_columns(label=pl.lit(0))
    assert fitted(small(name), frame, FEATURES).predict(frame).max() == 0


def test_the_baseline_is_the_best_constant_of_the_metric() -> None:
    train, _ = pair(sample("regression"), FEATURES, "regression")
    mean, median = (candidate("baseline").fit(train, None, how("regression", metric=m)) for m in ("rmse", "mae"))
    assert mean.scores(train)[0] == pytest.approx(train.y.mean())
    assert median.scores(train)[0] == pytest.approx(np.median(train.y))


def test_watched_rows_only_say_when_to_stop() -> None:
    """Other watched labels: the same model, or the same trees, fewer or more of them."""
    train, watched = pair(sample("binary"), FEATURES)
    flipped = Rows(watched.frame, 1 - watched.y, watched.encoder)
    full, stopped = (small("xgboost").fit(train, rows, how()) for rows in (watched, flipped))
    assert stopped.size is not None and full.size is not None and stopped.size < full.size
    for name in set(names_for("binary")) - {"xgboost", "neural"}:
        one, two = (small(name).fit(train, rows, how()).packed(train, seed=0) for rows in (watched, flipped))
        assert one.files() == two.files()


@pytest.mark.parametrize(("name", "all_of_them"), [("xgboost", 40), ("neural", 15)])
def test_without_watched_rows_it_trains_to_the_end_or_as_long_as_an_earlier_fit(name: str, all_of_them: int) -> None:
    train, _ = pair(sample("binary"), FEATURES)
    assert small(name).fit(train, None, how()).size == all_of_them
    assert small(name).fit(train, None, how(size=7)).size == 7


@pytest.mark.parametrize("name", sorted(set(names_for("binary")) - {"xgboost", "neural"}))
def test_what_does_not_repeat_has_no_size(name: str) -> None:
    assert fit_of("binary", name).size is None


@pytest.mark.parametrize(("kind", "name"), EVERY_LEARNING)
def test_what_a_trial_suggests_are_fields_and_can_be_fitted(kind: str, name: str) -> None:
    """The search stores a trial's parameters by name: each has to be a field."""
    import optuna

    train, watched = pair(sample(kind), FEATURES, kind)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    known = small(name, kind)
    suggested = known.space(trial, train, how(kind))
    assert trial.params and set(trial.params) <= set(known.defaults)
    assert known.variant(trial.params) == suggested
    assert "log_target" in trial.params or kind != "regression"
    quick = suggested.variant(
        {"rounds": 10, "trees": 5, "least_steps": 50, "epochs": 1, "learning_rate": 0.01, "cost": 1.0}
    )
    assert np.isfinite(quick.fit(train, watched, how(kind)).scores(watched)).all()


def test_defaults_are_within_what_is_searched() -> None:
    """A search starts from the defaults; Optuna warns, and an error is a warning here, of a value out of its range."""
    import optuna

    train, _ = pair(sample("regression"), FEATURES, "regression")
    for known in candidates():
        if not known.searches:
            continue
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        names = set(_params(known, study.ask(), train))
        study.enqueue_trial({name: value for name, value in known.defaults.items() if name in names})
        found = known.space(study.ask(), train, how("regression"))
        outside = {name for name in names if found.defaults[name] != known.defaults[name]}
        assert outside <= {"column_share"}, f"{known.name}: {outside}"


def _params(known: Candidate, trial, rows: Rows) -> dict:
    known.space(trial, rows, how("regression"))
    return trial.params


@pytest.mark.parametrize(
    ("kind", "share", "columns", "seen"),
    [("binary", 0.0, 9, 3), ("regression", 0.0, 9, 3), ("binary", 0.5, 9, 4), ("regression", 0.0, 600, 100)],
)
def test_a_split_of_the_forest_sees_a_bounded_share_of_the_columns(
    kind: str, share: float, columns: int, seen: int
) -> None:
    random = np.random.default_rng(0)
    frame = pl.DataFrame({f"x{place}": random.normal(size=30) for place in range(columns)})
    rows = Rows(frame, np.arange(30) % 2, Encoder.fit(frame))
    known = replace(candidate("random_forest"), trees=2, column_share=share).fit(rows, None, how(kind))
    assert known.parameters["split_columns"] == seen


def test_svm_says_which_machine_was_chosen() -> None:
    large = fit(replace(candidate("svm"), exact_rows=100, components=50), sample("binary"), FEATURES)
    assert fit_of("binary", "svm").parameters["chosen"] == "exact"
    assert "3-fold out-of-fold" in fit_of("binary", "svm").notes[0]
    assert large.parameters["chosen"] == "approximate"
    assert "50 components, and a linear machine on 480 sampled rows, calibrated on 120 others" in large.notes[0]


@pytest.mark.parametrize("kind", SUPERVISED)
def test_the_approximate_machine_can_be_saved(kind: str) -> None:
    known = replace(candidate("svm"), exact_rows=100, components=50)
    test = sample(kind).filter(pl.col("split") == "test")
    y, score = TASKS[kind].labels(test["label"]), fitted(known, sample(kind), FEATURES, kind=kind).predict(test)
    assert _error(kind, y, score) < _error(kind, y, model_of(kind, "baseline").predict(test))


def test_svm_with_one_row_of_a_class() -> None:
    train = sample("binary").filter(pl.col("split") == "train").head(60)
    lonely = train.with_columns(label=(pl.int_range(pl.len()) == 7).cast(pl.Int64))
    assert "classes have only one" in fit(candidate("svm"), lonely, FEATURES).notes[0]
    three = (
        sample("multiclass")
        .filter(pl.col("split") == "train")
        .with_columns(
            label=pl.when(pl.int_range(pl.len()) == 7)
            .then(pl.lit("high"))
            .otherwise(pl.when(pl.col("label") == "low").then(pl.lit("low")).otherwise(pl.lit("middle")))
        )
    )
    known = fit(candidate("svm"), three, FEATURES, kind="multiclass")
    assert "out-of-fold" in known.notes[0]
    assert known.scores(pair(three, FEATURES, "multiclass")[0])[:, 2].max() < 0.05


def test_persistence_answers_by_the_last_outcome() -> None:
    frame = pl.DataFrame({"last": [1, 1, 0, 0, None] * 20, "split": "train"}).with_columns(
        label=pl.when(pl.int_range(pl.len()) % 10 == 0).then(0).otherwise(pl.col("last").fill_null(1))
    )
    model = fitted(replace(candidate("persistence"), last_value="last"), frame, ["last"])
    asked = pl.DataFrame({"last": [1.0, 0.0, None, 5.0]})
    overall = frame["label"].mean()
    yes = (0.75 * 40 + 10 * overall) / 50
    no = (0.0 * 40 + 10 * overall) / 50
    np.testing.assert_allclose(model.predict(asked), [yes, no, overall, overall])
    np.testing.assert_allclose(
        model.predict(asked.select(pl.col("last").cast(pl.Int8))), model.predict(asked), err_msg="whatever its type"
    )


def test_persistence_of_numbers_is_the_last_number() -> None:
    frame = pl.DataFrame({"last": [1.0, float("nan"), None, -3.5], "label": [1.0, 2.0, 3.0, 6.0], "split": "train"})
    model = fitted(replace(candidate("persistence"), last_value="last"), frame, ["last"], kind="regression")
    assert model.predict(frame).tolist() == [1.0, 3.0, 3.0, -3.5]


def test_persistence_needs_a_column_that_holds_outcomes() -> None:
    support = candidate("persistence").supports(TASKS["binary"], 100)
    assert not support and "features.last_value names no column" in support.reason
    with pytest.raises(CandidateError, match=r"column 'nowhere' is not among the features"):
        fit(replace(candidate("persistence"), last_value="nowhere"), sample("binary"), FEATURES)
    with pytest.raises(CandidateError, match=r"column 'seats' holds \d+ distinct values"):
        fit(replace(candidate("persistence"), last_value="seats"), sample("binary"), FEATURES)


def test_order_is_from_simple_to_complex() -> None:
    ordered = tuple(known.name for known in candidates() if known.outputs != frozenset({"cluster"}))
    assert ordered == ("baseline", "persistence", "linear", "random_forest", "xgboost", "svm", "neural")
    assert [name for name in names() if name not in ordered] == ["k_means", "gaussian_mixture", "hdbscan"]


def test_unknown_candidate_is_named_with_the_known() -> None:
    with pytest.raises(CandidateError, match=r"'perceptron' does not exist: use one of \['baseline'"):
        candidate("perceptron")


def test_support_is_said_with_a_reason() -> None:
    assert candidate("neural").supports(TASKS["binary"], 50)
    assert "at least 50 training rows, and there are 49" in candidate("neural").supports(TASKS["binary"], 49).reason
    assert candidate("svm").supports(TASKS["clustering"], 1_000).reason == "svm does not do clustering"
    assert candidate("k_means").supports(TASKS["binary"], 1_000).reason == "k_means does not do classification"
    assert [known.name for known in candidates() if known.supports(TASKS["binary"], 5)] == ["baseline"]


def test_sample_is_seeded_sorted_and_without_repetition() -> None:
    drawn = sampled(100, 10, 5)
    assert len(set(drawn.tolist())) == 10 and (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, sampled(100, 10, 5))
    assert sampled(3, 10, 5).tolist() == [0, 1, 2]


def test_rows_that_are_taken_have_the_same_matrices() -> None:
    train, _ = pair(sample("binary"), FEATURES)
    fresh = Rows(train.frame, train.y, train.encoder)
    for name in ("codes", "filled", "dense"):
        getattr(train, name)
        index = np.array([5, 2, 9])
        np.testing.assert_array_equal(getattr(train.take(index), name), getattr(fresh.take(index), name))


def test_a_fitted_model_says_how_it_was_fitted() -> None:
    assert isinstance(fit_of("binary", "xgboost"), Fitted)
    assert fit_of("binary", "xgboost").parameters["rounds_kept"] == fit_of("binary", "xgboost").size
    assert fit_of("binary", "neural").parameters["epochs_kept"] == fit_of("binary", "neural").size
    assert Encoder.fit(sample("binary"), FEATURES).names == FEATURES
