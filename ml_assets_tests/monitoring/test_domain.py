"""The domain classifier: it finds what no column shows by itself, says by what, and sees nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.monitoring.domain import domain_classifier, roc_area
from ml_assets.monitoring.drift import drift_verdict


def rows(count: int, seed: int, *, linked: bool = True) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    one = random.normal(0, 1, count)
    other = one + random.normal(0, 0.5, count) if linked else random.normal(0, np.sqrt(1.25), count)
    return pl.DataFrame(
        {
            "one": one,
            "other": other,
            "noise": np.where(random.random(count) < 0.1, np.nan, random.normal(0, 1, count)),
            "shop": random.choice(["north", "south", "east"], count),
            "open": random.random(count) < 0.5,
        }
    )


BEFORE = rows(3_000, 0)
FEATURES = BEFORE.columns


def test_of_windows_of_one_population_about_all_intervals_contain_a_half() -> None:
    found = [domain_classifier(rows(300, seed), rows(300, seed + 500), features=FEATURES) for seed in range(8)]
    inside = sum(one.low is not None and one.high is not None and one.low <= 0.5 <= one.high for one in found)
    print(f"AUC intervals that contain 0.5 without drift: {inside} of {len(found)}")
    assert inside >= 7
    quiet = next(one for one in found if not one.apart)
    assert quiet.features == () and quiet.text.endswith("no better than chance.")


def test_a_broken_link_between_two_columns_is_found_and_named_though_each_is_stable() -> None:
    now = rows(3_000, 1, linked=False)
    assert drift_verdict(BEFORE, now, features=FEATURES).drifted == []
    found = domain_classifier(BEFORE, now, features=FEATURES)
    assert found.apart and found.auc is not None and found.auc > 0.65
    assert {name for name, _ in found.features[:2]} == {"one", "other"}
    assert "by one" in found.text or "by other" in found.text


def test_a_shift_and_a_new_category_are_named() -> None:
    now = rows(3_000, 1).with_columns(
        pl.col("noise") + 2, shop=pl.when(pl.int_range(pl.len()) % 3 > 0).then("shop").otherwise(pl.lit("west"))
    )
    found = domain_classifier(BEFORE, now, features=FEATURES)
    assert {name for name, _ in found.features[:2]} == {"noise", "shop"}


def test_the_same_rows_give_the_same_answer_and_a_sample_is_bounded() -> None:
    now = rows(3_000, 1, linked=False)
    first, again = (domain_classifier(BEFORE, now, features=FEATURES, most_rows=500) for _ in range(2))
    assert first == again and first.rows == 1_000


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (BEFORE[:0], "0 rows on a side, fewer than 100"),
        (BEFORE[:1], "1 rows on a side, fewer than 100"),
        (pl.DataFrame({"elsewhere": range(200)}), "no column that both sides have"),
    ],
)
def test_what_cannot_be_told_says_why(now: pl.DataFrame, reason: str) -> None:
    found = domain_classifier(BEFORE, now, features=FEATURES)
    assert found.auc is None and not found.apart and reason in found.text


@pytest.mark.parametrize("column", [pl.lit(None, pl.Float64), pl.lit(np.inf), pl.lit(1.0), pl.lit("text")])
def test_columns_of_any_kind_are_taken(column: pl.Expr) -> None:
    found = domain_classifier(BEFORE, rows(500, 1).with_columns(noise=column), features=[*FEATURES, "nowhere"])
    assert found.apart and found.features[0][0] == "noise"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    positive=st.lists(st.integers(0, 8), min_size=2, max_size=30),
    negative=st.lists(st.integers(0, 8), min_size=2, max_size=30),
)
def test_the_area_counts_pairs(positive: list[int], negative: list[int]) -> None:
    pairs = [(one > other) + (one == other) / 2 for one in positive for other in negative]
    area, variance = roc_area(np.array(positive, float), np.array(negative, float))
    assert area == pytest.approx(np.mean(pairs))
    assert variance >= 0


def test_the_variance_is_that_of_many_samples() -> None:
    random = np.random.default_rng(0)
    found = [roc_area(random.normal(0.5, 1, 200), random.normal(0, 1, 150)) for _ in range(400)]
    spread = np.var([area for area, _ in found])
    assert np.mean([variance for _, variance in found]) == pytest.approx(spread, rel=0.2)
