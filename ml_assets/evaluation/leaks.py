"""Whether the test rows are new, and nothing tells the outcome before it is known: what a leak would show, looked for.

Three looks, each on what it needs: rows of the test split that development has seen; a refit on shuffled labels, which must
score like chance; a column that alone foretells the outcome. Leakage as Kaufman et al. (2012) describe it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from ml_assets.development.candidates.base import Fitting, Rows
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.encoding import Encoder
from ml_assets.development.lifecycle import Plan
from ml_assets.evaluation.fairness import overlap, row_hashes
from ml_assets.evaluation.gates import Gate
from ml_assets.tasks.alone import MOST_ROWS, goals_of, single_score

NAME = "no_leak"
MOST_REPEATED = 0.05
"""Share of development rows that repeat another's features from which equal features are no sign of a leak."""
HARDLY_REPEATED = 0.001
"""The same, up to which rows of equal features are taken for one row."""
FIT_ROWS, ASKED_ROWS = 4_000, 2_000
FEWEST_ROWS = 30
SIGMAS = 4.0
"""Standard deviations of chance beyond which something is no chance: once in 30,000 times."""
FOREST = {"trees": 20, "leaves": 4_096, "least_leaf_rows": 1, "column_share": 0.5}
"""A forest that knows its rows by heart: what it has seen before, it says again."""
Answer = Callable[[pl.DataFrame, pl.DataFrame], np.ndarray]
"""Fit on the first rows, whose label may be used, and return the scores of the second."""


def leak_gate(
    training_set: pl.DataFrame, plan: Plan, *, key: Sequence[str], most: float, answer: Answer | None = None
) -> Gate:
    """Return whether no look found a leak; the reason tells what each saw.

    `key` tells observations apart, with their time. `most` is the score of one column alone from which it counts as a leak.
    `answer` is how the refit fits and scores: by default a small forest on the plan's features, through its encoder.
    """
    development, test = (training_set.filter((pl.col("split") == "test") == side) for side in (False, True))
    looks = [_rows_seen(development, test, key), _twins(development, test, plan.features)]
    if plan.task.supervised:
        known = [part.filter(pl.col("label").is_not_null()) for part in (development, test)]
        looks.append(_foretold(pl.concat(known), plan, most))
        looks.append(_shuffled(known[0], known[1], plan, answer or forest(plan)))
    failed = [reason for passed, reason in looks if not passed]
    return Gate(NAME, not failed, "; ".join(failed or [reason for _, reason in looks]))


def forest(plan: Plan) -> Answer:
    """Return an `Answer` by a small forest that knows its rows by heart, encoded as every candidate's are."""

    def answer(fit: pl.DataFrame, asked: pl.DataFrame) -> np.ndarray:
        encoder = Encoder.fit(fit.select(plan.features), plan.features)
        known = Rows(fit.select(plan.features), plan.task.labels(fit["label"]), encoder)
        how = Fitting(plan.task, plan.metric, seed=plan.seed, threads=plan.threads)
        fitted = candidate("random_forest").variant(FOREST).fit(known, None, how)
        return fitted.scores(Rows(asked.select(plan.features), np.empty(0), encoder))

    return answer


def _rows_seen(development: pl.DataFrame, test: pl.DataFrame, key: Sequence[str]) -> tuple[bool, str]:
    found = overlap(test, development, key)
    return not found, f"{found} of {test.height:,} test rows are development rows too (by {', '.join(key)} and time)"


def _twins(development: pl.DataFrame, test: pl.DataFrame, features: Sequence[str]) -> tuple[bool, str]:
    """Look for test rows that are equal to a development row in all features, more than the data's own repetition explains.

    A test row is about as likely to repeat one as the last development row was: at most twice as likely as they were on average.
    """
    known, asked = (row_hashes(part, features) for part in (development, test))
    repeated = _repeated(known)
    found = int(asked.is_in(known.implode()).sum())
    words = (
        f"{found} test rows equal a development row in all features, where {repeated:.1%} of those repeat each other"
    )
    if repeated > MOST_REPEATED:
        return True, f"{words}: too many to tell"
    chance = 2 * repeated * test.height
    return found <= chance + SIGMAS * max(chance, 1.0) ** 0.5, words


def _foretold(known: pl.DataFrame, plan: Plan, most: float) -> tuple[bool, str]:
    """Look for a column that alone foretells the outcome better than honest columns do."""
    sample = known.gather_every(max(1, -(-known.height // MOST_ROWS)))
    goals = goals_of(plan.task.labels(sample["label"]).astype(float), several=plan.task.output == "probabilities")
    if not goals.shape[1]:
        return True, "no class has enough rows to look for a column that foretells it"
    regression = plan.task.output == "value"
    scores = {
        name: single_score(sample[name], goals, numeric=sample.schema[name].is_numeric(), regression=regression)
        for name in plan.features
    }
    unit, found = "R²" if regression else "AUC", {name: one for name, one in scores.items() if one >= most}
    if found:
        told = ", ".join(f"{name} ({unit} {one:.3f})" for name, one in found.items())
        return False, f"alone foretells the label: {told}, from {most:g} on a leak (promotion.most_of_one_column)"
    best = max(scores, key=lambda name: scores[name])
    return True, f"no column alone foretells the label: the best, {best}, has {unit} {scores[best]:.3f}"


def _shuffled(development: pl.DataFrame, test: pl.DataFrame, plan: Plan, answer: Answer) -> tuple[bool, str]:
    """Fit on shuffled labels, and look whether the answers correlate with the shuffled labels of the test rows.

    Under chance a correlation of n pairs has mean 0 and variance 1 / (n - 1), whatever the values (Pitman, 1937). Rows that are
    equal in all features keep one label in common, unless the data repeat themselves anyway: a test row that was developed on
    is then foretold, and so is every row where the pipeline has looked at labels that it should not see.
    """
    fit, asked = _sampled(development, test, plan)
    if min(fit.height, asked.height) < FEWEST_ROWS:
        return True, f"too few rows to refit on shuffled labels ({fit.height} and {asked.height})"
    together = _repeated(row_hashes(development, plan.features)) <= HARDLY_REPEATED
    labels = _shuffled_labels(pl.concat([fit, asked]), plan, together=together)
    fit = fit.with_columns(label=labels[: fit.height])
    asked = asked.with_columns(label=labels[fit.height :])
    if fit["label"].n_unique() < 2:
        return True, "the sample has one outcome only: nothing to shuffle"
    found = _correlation(plan, plan.task.labels(asked["label"]), answer(fit, asked))
    limit = SIGMAS / (asked.height - 1) ** 0.5
    words = f"fitted on shuffled labels, answers correlate {found:+.3f} with those of {asked.height:,} test rows"
    return found <= limit, f"{words}, by chance up to {limit:.3f}"


def _sampled(development: pl.DataFrame, test: pl.DataFrame, plan: Plan) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return at most so many rows of both that a fit takes a second, of development first those that a test row repeats."""
    asked = test.sample(min(test.height, ASKED_ROWS), seed=plan.seed)
    twins = row_hashes(development, plan.features).is_in(row_hashes(asked, plan.features).implode())
    order = pl.DataFrame({"new": ~twins, "place": np.random.default_rng(plan.seed).permutation(development.height)})
    return development[order.select(pl.arg_sort_by("new", "place")).to_series()[:FIT_ROWS]], asked


def _repeated(hashes: pl.Series) -> float:
    """Return the share of rows that repeat another one."""
    return 1 - hashes.n_unique() / max(len(hashes), 1)


def _shuffled_labels(rows: pl.DataFrame, plan: Plan, *, together: bool) -> pl.Series:
    """Return the labels in another order; `together`, rows of equal features get one label."""
    same = row_hashes(rows, plan.features).rank("dense").cast(pl.Int64).to_numpy() - 1
    places = np.random.default_rng(plan.seed).permutation(rows.height)
    return rows["label"].gather(places[same] if together else places)


def _correlation(plan: Plan, y: np.ndarray, score: np.ndarray) -> float:
    """Return the correlation of answers and labels, of numbers by their ranks; the mean over the classes of several."""
    if plan.task.output == "value":
        y, score = (pl.Series(one).rank().to_numpy() for one in (y, score))
    goals = np.eye(score.shape[1])[y.astype(int)] if score.ndim == 2 else y.astype(float)[:, None]
    scores = score if score.ndim == 2 else score[:, None]
    found = [
        float(np.corrcoef(one, other)[0, 1])
        for one, other in zip(goals.T, scores.T, strict=True)
        if one.std() > 0 and other.std() > 0
    ]
    return float(np.mean(found)) if found else 0.0
