"""A pull into a bucket, on every level: the cursor is kept there, and nobody's newer cursor is overwritten."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.databases import Database
from ml_assets.collection.pull import pull, state_of
from ml_assets.lake import PreconditionFailed
from ml_assets_tests.buckets.conftest import Bucket
from ml_assets_tests.buckets.test_collect import opened
from ml_assets_tests.collection.test_pull import NOW, ORDERS, Shop, by_change, raw

DAY = timedelta(days=1)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    found = Shop(tmp_path / "shop.db")
    found.put((1, "03-01", 10.0, "01 09:00"), (2, "03-02", 20.0, "02 09:00"))
    return found


def take(shop: Shop, places: Landing, days: int) -> Any:
    pulled = pull(by_change(shop), ORDERS, places, now=NOW + days * DAY)
    collect(ORDERS, places, now=NOW + days * DAY)
    return pulled


def test_new_and_changed_rows_come_into_a_bucket(shop: Shop, bucket: Bucket) -> None:
    assert len(take(shop, opened(bucket), 0).files) == 2
    assert take(shop, opened(bucket), 1).files == []
    shop.put((1, "03-01", 11.0, "03 09:00"), (3, "03-03", 30.0, "03 10:00"))
    assert len(take(shop, opened(bucket), 2).files) == 2
    assert raw(opened(bucket)) == shop.rows()
    assert state_of(opened(bucket).lake.store, "orders").newest == "2024-03-03"


def test_a_newer_cursor_in_a_bucket_is_not_overwritten(
    shop: Shop, exact: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(shop, opened(exact), 0)
    pages = Database.pages

    def beside(self: Database, *given: Any) -> Any:
        monkeypatch.setattr(Database, "pages", pages)
        shop.put((4, "03-04", 40.0, "04 09:00"))
        take(shop, opened(exact), 1)
        return pages(self, *given)

    monkeypatch.setattr(Database, "pages", beside)
    with pytest.raises(PreconditionFailed):
        take(shop, opened(exact), 2)
    assert state_of(opened(exact).lake.store, "orders").newest == "2024-03-04"
