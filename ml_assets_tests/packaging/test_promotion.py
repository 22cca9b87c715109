"""A challenger takes office only when it is better on rows that neither has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.packaging.promotion import Boundaries, Decision, PromotionPolicy, boundaries, decide
from ml_assets.tasks import Metric, Task, task

FEW = PromotionPolicy(minimum_rows=1)
TIMES = 10
"""How often the four test rows are there: of four rows a resample often has one class only."""
OCTOBER, NOVEMBER = datetime(2013, 10, 1, tzinfo=UTC), datetime(2013, 11, 1, tzinfo=UTC)
AUC = task("classification").metric("roc_auc")
LOSS = task("classification").metric("log_loss")
LABELS = [0, 0, 1, 1]
SILHOUETTE = task("clustering").metric("silhouette")
TRAINING_SET = pl.DataFrame(
    {
        "event_timestamp": [
            OCTOBER - timedelta(days=9),
            OCTOBER + timedelta(hours=3),
            OCTOBER + timedelta(days=2),
            OCTOBER + timedelta(days=3),
            NOVEMBER - timedelta(minutes=1),
        ],
        "label": [1, *LABELS],
        "split": ["train", "test", "test", "test", "test"],
        "champions_score": [1.0, 0.1, 0.6, 0.4, 0.9],  # ROC-AUC 0.75 on the test rows
    }
)


def repeated(frame: pl.DataFrame) -> pl.DataFrame:
    """Repeat the four test rows."""
    return pl.concat([frame[:1], *[frame[1:]] * TIMES])


class FakeBundle:
    """A bundle whose answers are a column. Of a clustering its matrix is the column `place`."""

    threshold = 0.5

    def __init__(self, digest: str = "old", *, column: str = "champions_score", kind: str = "classification") -> None:
        self.digest, self.column = digest, column
        self.task: Task = task(kind)
        self.seen: list[int] = []
        """Rows of each question."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        self.seen.append(frame.height)
        return frame[self.column].to_numpy()

    def truth(self, frame: pl.DataFrame) -> np.ndarray:
        return self.task.labels(frame["label"]) if self.task.supervised else frame.select("place").to_numpy()


def champion(bundle: Any = None, fitted_until: datetime = OCTOBER) -> Champion:
    made = cast(Bundle, bundle or FakeBundle())
    return Champion("3", made, "data", fitted_until, fitted_until + timedelta(days=31), {"roc_auc": 0.99})


def decided(
    frame: pl.DataFrame,
    challengers: list[float],
    incumbent: Champion | None,
    *,
    metric: Metric = AUC,
    seen: pl.DataFrame | None = None,
    kind: str = "classification",
) -> Decision:
    """Let a challenger with these scores of the test rows stand for office."""
    asked = repeated(frame.with_columns(challengers_score=pl.Series([challengers[0], *challengers])))
    challenger = cast(Bundle, FakeBundle("new", column="challengers_score", kind=kind))
    return decide(asked, challenger, incumbent, metric, policy=FEW, seen=seen)


BETTER, EQUAL, WORSE = [0.1, 0.2, 0.8, 0.9], [0.2, 0.7, 0.3, 0.8], [0.2, 0.7, 0.1, 0.8]
"""Scores of ROC-AUC 1, 0.75, 0.5."""


def test_the_edges_are_midnights_around_the_test_rows() -> None:
    assert boundaries(TRAINING_SET) == Boundaries(fitted_until=OCTOBER, live_from=NOVEMBER)


def test_at_random_both_edges_are_the_day_after_the_last_row_of_any_split() -> None:
    mixed = TRAINING_SET.with_columns(split=pl.Series(["test", "train", "test", "validation", "train"]))
    assert boundaries(mixed, by_time=False) == Boundaries(fitted_until=NOVEMBER, live_from=NOVEMBER)


def test_the_first_is_promoted() -> None:
    found = decided(TRAINING_SET, EQUAL, None)
    assert found.promote
    assert found.reason == "the first champion: roc_auc 0.7500 on the test split, all gates passed"


@pytest.mark.parametrize(("scores", "promoted"), [(BETTER, True), (EQUAL, False), (WORSE, False)])
def test_the_better_on_the_same_rows_wins_and_a_tie_changes_nothing(scores: list[float], promoted: bool) -> None:
    bundle, value = FakeBundle(), AUC.compute(np.array(LABELS), np.array(scores), 0.5)
    found = decided(TRAINING_SET, scores, champion(bundle))
    assert found.promote is promoted
    assert found.reason.startswith(f"roc_auc on the same test rows: challenger {value:.4f}, champion 3 0.7500; gain ")
    assert bundle.seen == [4 * TIMES]  # the test rows, and nothing else; not its own old number either


@pytest.mark.parametrize(("scores", "promoted"), [(BETTER, True), ([0.9, 0.8, 0.2, 0.1], False)])
def test_where_less_is_better_less_wins(scores: list[float], promoted: bool) -> None:
    assert decided(TRAINING_SET, scores, champion(), metric=LOSS).promote is promoted


@pytest.mark.parametrize(("off", "promoted"), [(1.0, True), (2.0, False), (3.0, False)])
def test_of_numbers_the_smaller_error_wins(off: float, promoted: bool) -> None:
    label = TRAINING_SET["label"].cast(float) * 10
    numbers = TRAINING_SET.with_columns(label=label, champions_score=label + 2.0)
    found = decided(
        numbers,
        [value - off for value in label[1:]],
        champion(FakeBundle(kind="regression")),
        metric=task("regression").metric("mae"),
        kind="regression",
    )
    assert found.promote is promoted
    assert found.reason.startswith(f"mae on the same test rows: challenger {off:.4f}, champion 3 2.0000; gain ")


@pytest.mark.parametrize(("clusters", "promoted"), [([0, 0, 1, 1], True), ([0, 1, 1, 0], False), ([1, 0, 0, 0], False)])
def test_of_clusterings_the_one_that_holds_together_better_wins(clusters: list[int], promoted: bool) -> None:
    points = TRAINING_SET.drop("label").with_columns(
        place=pl.Series([0.0, 0.0, 0.1, 9.0, 9.1]), champions_score=pl.Series([1, 1, 0, 0, 0])
    )
    found = decided(
        points, cast(Any, clusters), champion(FakeBundle(kind="clustering")), metric=SILHOUETTE, kind="clustering"
    )
    assert found.promote is promoted
    assert found.reason.startswith("silhouette on the same test rows: challenger ")


def test_one_cluster_of_everything_promotes_nobody() -> None:
    points = TRAINING_SET.drop("label").with_columns(place=pl.Series([0.0, 0.0, 0.1, 9.0, 9.1]))
    found = decided(points, cast(Any, [0, 0, 0, 0]), None, metric=SILHOUETTE, kind="clustering")
    assert found == Decision(False, "silhouette does not apply to the challenger's test rows")


def test_the_same_bundle_is_in_office_already() -> None:
    bundle = FakeBundle("new")
    found = decided(TRAINING_SET, BETTER, champion(bundle))
    assert (found.promote, bundle.seen) == (False, [])
    assert "this very bundle" in found.reason


def test_a_champion_that_has_seen_the_rows_is_not_compared_on_them() -> None:
    bundle = FakeBundle()
    found = decided(TRAINING_SET, BETTER, champion(bundle, fitted_until=OCTOBER + timedelta(days=1)))
    assert (found.promote, bundle.seen) == (False, [])
    assert "fitted on rows up to 2013-10-01, and these begin 2013-10-01" in found.reason
    assert "deliver newer data" in found.reason


# -- of a random split, rows that the champion was fitted on may be test rows of the challenger ------------------------------

KEYED = TRAINING_SET.with_columns(key=pl.Series(list("abcde")))


def test_rows_that_the_champion_has_seen_are_left_out() -> None:
    bundle = FakeBundle()
    late = champion(bundle, fitted_until=NOVEMBER)
    # The challenger orders c and d right, which the champion was fitted on; the champion b and e.
    found = decided(KEYED, [0.5, 0.2, 0.8, 0.4], late, seen=pl.DataFrame({"key": ["a", "c", "d", "z"]}))
    assert bundle.seen == [2 * TIMES]
    assert not found.promote
    assert found.reason.startswith("roc_auc on the same test rows: challenger 0.0000, champion 3 1.0000; gain -1.0000 ")


def test_the_rows_that_are_left_may_change_who_is_better() -> None:
    scores = [0.5, 0.2, 0.8, 0.4]  # on all four rows as good as the champion
    assert not decided(KEYED, scores, champion()).promote
    found = decided(KEYED, scores, champion(), seen=pl.DataFrame({"key": ["b", "e"]}))
    assert found.promote
    assert found.reason.startswith("roc_auc on the same test rows: challenger 1.0000, champion 3 0.0000; gain +1.0000 ")


def test_without_any_row_that_is_new_to_both_nobody_is_promoted() -> None:
    found = decided(KEYED, BETTER, champion(), seen=KEYED.select("key"))
    assert not found.promote
    assert "it has seen all of these rows; deliver newer data" in found.reason


def test_a_metric_that_does_not_apply_to_the_rows_that_are_left_promotes_nobody() -> None:
    found = decided(KEYED, BETTER, champion(), seen=pl.DataFrame({"key": ["b", "c"]}))
    assert not found.promote
    assert (
        found.reason
        == "roc_auc does not apply to challenger (None) and champion (None) on the 20 test rows that are new to both"
    )


def test_a_metric_that_does_not_apply_promotes_nobody() -> None:
    one_class = TRAINING_SET.with_columns(label=pl.lit(1))
    for incumbent in (None, champion()):
        found = decided(one_class, BETTER, incumbent)
        assert found == Decision(False, "roc_auc does not apply to the challenger's test rows")
