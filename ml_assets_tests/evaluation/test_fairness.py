"""On which rows a champion may be compared: of the same key it may be asked again, and a group is known as a whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from ml_assets.evaluation.fairness import seen_rows, unfair, unseen

START = datetime(2013, 1, 1, tzinfo=UTC)


def asked(keys: list[str], days: list[int], splits: list[str], shops: list[str | None] | None = None) -> pl.DataFrame:
    moments = pl.Series([START + timedelta(days=day) for day in days], dtype=pl.Datetime("us", "UTC"))
    frame = pl.DataFrame({"customer": keys, "event_timestamp": moments, "split": splits})
    return frame.with_columns(shop=pl.Series(shops, dtype=pl.String)) if shops else frame


def left(known: pl.DataFrame, test: pl.DataFrame, group: str | None = None) -> list[int]:
    return unseen(test, seen_rows(known.lazy(), key=["customer"], group=group)).tolist()


def test_an_observation_is_new_although_its_key_was_seen_at_another_time() -> None:
    known = asked(["a", "a", "b", "b"], [1, 2, 1, 2], ["train", "test", "validation", "test"])
    assert left(known, asked(["a", "a", "b", "c"], [1, 3, 1, 3], ["test"] * 4)) == [1, 3]
    assert left(known, known.filter(split="test")) == [0, 1], "its own test rows are new to it"


def test_one_row_of_a_group_makes_the_group_known() -> None:
    known = asked(["a", "b", "c", "d"], [1] * 4, ["train", "test", "train", "test"], ["x", "y", None, "z"])
    test = asked(["e", "f", "g", "h"], [2] * 4, ["test"] * 4, ["x", "y", None, "w"])
    assert left(known, test, "shop") == [1, 3]
    assert left(known.drop("shop"), test, "shop") == [0, 1, 2, 3], "an older set that has no such column"


@pytest.mark.parametrize(("days", "reason"), [(0, ""), (1, "it was fitted on rows up to 2013-01-01, and these begin")])
def test_by_time_the_rows_begin_when_its_own_test_did(days: int, reason: str) -> None:
    champion: Any = SimpleNamespace(fitted_until=START + timedelta(days=days))
    rows = asked(["a"], [0], ["test"])
    assert unfair(champion, rows, by_time=True).startswith(reason) and bool(
        unfair(champion, rows, by_time=True)
    ) == bool(days)
    assert unfair(champion, rows, by_time=False) == ""
    assert unfair(champion, rows.clear(), by_time=False) == "it has seen all of these rows"
