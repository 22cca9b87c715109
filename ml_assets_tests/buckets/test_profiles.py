"""Profiles beside a lake in a bucket: few requests, and of two who add at once neither loses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import polars as pl

from ml_assets.keys import PROFILES_FOLDER
from ml_assets.lake import Lake
from ml_assets.monitoring.profile_store import profiles_of
from ml_assets.monitoring.profiles import Profile
from ml_assets_tests.buckets.conftest import Bucket
from ml_assets_tests.fakes.gcs_server import GcsServer

AT = datetime(2013, 3, 1, tzinfo=UTC)
TABLE = "p/predictions"
DAYS = [f"2013-01-{day:02d}" for day in range(1, 7)]


def filled(bucket: Bucket) -> Lake:
    lake = Lake(f"{bucket.url}/lake")
    for number, day in enumerate(DAYS):
        lake.write(TABLE, pl.DataFrame({"x": [float(number), number + 1.0]}), partition=day, written_at=AT)
    return lake


def lowest(found: dict[str, Profile]) -> dict[str, float | None]:
    return {day: one.columns["x"].low for day, one in found.items()}


def test_profiles_are_made_found_and_made_again(bucket: Bucket) -> None:
    lake = filled(bucket)
    expected = {day: float(number) for number, day in enumerate(DAYS)}
    assert lowest(profiles_of(lake, TABLE, None)) == expected
    lake.write(TABLE, pl.DataFrame({"x": [9.0]}), partition=DAYS[2], written_at=AT)
    assert lowest(profiles_of(lake, TABLE, None)) == expected | {DAYS[2]: 9.0}
    assert len(lake.store.names(PROFILES_FOLDER)) == 1


def test_days_that_two_add_at_once_are_both_kept(exact: Bucket) -> None:
    lake = filled(exact)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda days: profiles_of(Lake(lake.url), TABLE, days), [DAYS[:2], DAYS[2:4], DAYS[4:]]))
    assert len(profiles_of(lake, TABLE, DAYS)) == len(DAYS)
    assert len(lake.store.names(PROFILES_FOLDER)) == 1


def test_stored_profiles_are_one_request_beside_the_manifests(strict: tuple[Bucket, GcsServer]) -> None:
    bucket, server = strict
    lake = filled(bucket)
    profiles_of(lake, TABLE, DAYS)
    before = len(server.log)
    profiles_of(lake, TABLE, DAYS)
    asked = server.log[before:]
    assert sum(PROFILES_FOLDER in str(one) for one in asked) == 1
    assert not any(".parquet" in str(one) for one in asked)
