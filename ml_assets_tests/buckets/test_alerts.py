"""Alerts remembered in a bucket: of many senders one sends, and what was sent is known to all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from ml_assets.monitoring.alerts import QUIET, notify, standing
from ml_assets.monitoring.channels import Files, sent
from ml_assets_tests.buckets.conftest import Bucket
from ml_assets_tests.monitoring.test_alerts import Told, alert

NOW = datetime(2013, 6, 1, 7, tzinfo=UTC)


def test_alerts_are_sent_once_and_remembered(exact: Bucket) -> None:
    channel, store = Told(), exact.store()
    for moment in (NOW, NOW + timedelta(hours=1), NOW + QUIET):
        notify(store, [alert()], [channel, Files(store)], now=moment)
    notify(store, [], [channel], now=NOW + QUIET, well=[alert().subject])
    assert [one.resolved for one in channel.alerts] == [False, False, True]
    assert len(sent(exact.store(), "late")) == 2
    assert [one.open for one in standing(exact.store(), "late")] == [False]


def test_of_many_who_send_the_same_at_once_one_does(exact: Bucket) -> None:
    channel = Told()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: notify(exact.store(), [alert()], [channel], now=NOW), range(6)))
    assert len(channel.alerts) == 1
