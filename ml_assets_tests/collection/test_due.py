"""A pull is due by the clock; its run is for a day that has rows, and what it brings fires runs of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.collection.collect import Landing
from ml_assets.collection.due import Due, due
from ml_assets.collection.pull import pull
from ml_assets.collection.watch import look
from ml_assets_tests.collection.outside import open_places
from ml_assets_tests.collection.test_pull import NOW, ORDERS, TABLE, Shop, by_change

HOUR = timedelta(hours=1)


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    found = Shop(tmp_path / "shop.db")
    found.put((1, "03-04", 10.0, "01 09:00"), (2, "03-02", 10.0, "02 09:00"))
    return found


def asked(places: Landing, *found: Due | None) -> Any:
    return look(places, [ORDERS], now=NOW, due=[one for one in found if one])


def test_the_first_pull_of_days_is_left_to_a_run(shop: Shop, places: Landing) -> None:
    assert due(places, ORDERS, now=NOW, hours=24) is None
    shop.run("delete from orders")
    pull(by_change(shop), ORDERS, places, now=NOW)
    assert due(places, ORDERS, now=NOW + 24 * HOUR, hours=24) is None


def test_the_next_is_due_a_day_later_for_the_last_day_that_came(shop: Shop, places: Landing) -> None:
    pull(by_change(shop), ORDERS, places, now=NOW)
    assert due(places, ORDERS, now=NOW + 23 * HOUR, hours=24) is None
    found = due(places, ORDERS, now=NOW + 24 * HOUR, hours=24)
    assert found is not None
    assert found.day == "2024-03-04"


def test_what_came_fires_a_run_with_the_pull_or_without(shop: Shop, places: Landing) -> None:
    pull(by_change(shop), ORDERS, places, now=NOW)
    stretches = [(request.first, request.last) for request in asked(places)]
    assert stretches == [("2024-03-02", "2024-03-02"), ("2024-03-04", "2024-03-04")]
    with_pull = asked(places, due(places, ORDERS, now=NOW + 24 * HOUR, hours=24))
    assert [(request.first, request.last) for request in with_pull] == stretches


def test_a_table_without_days_is_a_run_without_days(places: Landing) -> None:
    found = due(places, TABLE, now=NOW, hours=24)
    assert found is not None
    assert found.day is None
    (request,) = asked(places, found)
    assert (request.first, request.sources) == (None, ("orders",))


def test_a_pull_that_failed_three_times_is_asked_for_again_in_its_next_turn(places: Landing) -> None:
    def failed(now: datetime) -> Any:
        found = due(places, TABLE, now=now, hours=24)
        assert found is not None
        return look(places, [TABLE], now=now, due=[found], failures={batch: 3})

    (request,) = asked(places, due(places, TABLE, now=NOW, hours=24))
    batch = request.batch
    assert "failed 3 times" in failed(NOW)
    assert "failed 3 times" in failed(NOW + HOUR)
    assert isinstance(failed(NOW + 24 * HOUR), list)


def test_without_a_pull_nothing_is_new(places: Landing) -> None:
    assert asked(places) == "no new files"
