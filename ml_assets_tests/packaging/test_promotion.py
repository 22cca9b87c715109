"""A challenger takes office only when it is better on rows that neither has seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.champion import Champion
from ml_assets.packaging.promotion import Boundaries, Decision, boundaries, decide
from ml_assets.tasks import task

OCTOBER, NOVEMBER = datetime(2013, 10, 1, tzinfo=UTC), datetime(2013, 11, 1, tzinfo=UTC)
AUC = task("classification").metric("roc_auc")
LOSS = task("classification").metric("log_loss")
LABELS = [0, 0, 1, 1]
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


class FakeBundle:
    """A bundle whose answers are a column."""

    threshold = 0.5

    def __init__(self, digest: str = "old") -> None:
        self.digest = digest
        self.seen: list[int] = []

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        self.seen.append(frame.height)
        return frame["champions_score"].to_numpy()


def champion(bundle: Any = None, fitted_until: datetime = OCTOBER) -> Champion:
    made = cast(Bundle, bundle or FakeBundle())
    return Champion("3", made, "data", fitted_until, fitted_until + timedelta(days=31), {"roc_auc": 0.99})


def decided(challenger: float | None, incumbent: Champion | None, frame: pl.DataFrame = TRAINING_SET) -> Decision:
    return decide(frame, challenger, incumbent, AUC, digest="new")


def test_the_edges_are_midnights_around_the_test_rows() -> None:
    assert boundaries(TRAINING_SET) == Boundaries(fitted_until=OCTOBER, live_from=NOVEMBER)


def test_the_first_is_promoted() -> None:
    found = decided(0.7, None)
    assert found.promote
    assert found.reason == "the first champion: roc_auc 0.7000 on the test split, all gates passed"


@pytest.mark.parametrize(("challenger", "promoted"), [(0.76, True), (0.75, False), (0.74, False)])
def test_the_better_on_the_same_rows_wins_and_a_tie_changes_nothing(challenger: float, promoted: bool) -> None:
    bundle = FakeBundle()
    found = decided(challenger, champion(bundle))
    assert found.promote is promoted
    assert found.reason == f"roc_auc on the same test rows: challenger {challenger:.4f}, champion 3 0.7500"
    assert bundle.seen == [4]  # the test rows, and nothing else; not its own old number either


def test_where_less_is_better_less_wins() -> None:
    score = champion()
    worse = LOSS.compute(np.array(LABELS), TRAINING_SET["champions_score"].to_numpy()[1:], 0.5)
    assert worse is not None
    assert decide(TRAINING_SET, worse - 0.01, score, LOSS, digest="new").promote
    assert not decide(TRAINING_SET, worse + 0.01, score, LOSS, digest="new").promote


def test_the_same_bundle_is_in_office_already() -> None:
    bundle = FakeBundle("new")
    found = decided(0.99, champion(bundle))
    assert (found.promote, bundle.seen) == (False, [])
    assert "this very bundle" in found.reason


def test_a_champion_that_has_seen_the_rows_is_not_compared_on_them() -> None:
    bundle = FakeBundle()
    found = decided(0.99, champion(bundle, fitted_until=OCTOBER + timedelta(days=1)))
    assert (found.promote, bundle.seen) == (False, [])
    assert "fitted on rows up to 2013-10-02, the test split begins 2013-10-01" in found.reason
    assert "deliver newer data" in found.reason


def test_a_metric_that_does_not_apply_promotes_nobody() -> None:
    assert decided(None, None) == Decision(False, "roc_auc does not apply to the challenger's test rows")
    one_class = TRAINING_SET.with_columns(label=pl.lit(1))
    found = decided(0.9, champion(), one_class)
    assert found == Decision(False, "roc_auc does not apply to the champion on the test split")
