"""Pushed rows in the lake: nothing is lost, nothing counts twice, and the offline join sees them at their place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.features.online.rows import PUSHED, OnlineRow, Packing, micros, newer
from ml_assets.features.point_in_time import FeatureError, point_in_time_join
from ml_assets.features.push_log import FOLDER, PACKED, RECEIVED, PushLog
from ml_assets.features.reading import DeclaredView, Feature, Period, Reading, scan_with_pushed, view_joins
from ml_assets.lake import Lake

TABLE = "features/v"
START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
SCHEMA = {"k": pl.String, "event_timestamp": TIME, "created_timestamp": TIME, "x": pl.Float64}
PACKING = Packing({"x": "Float64"})
VIEW = DeclaredView(
    name="v",
    path=TABLE,
    keys={"k": "k"},
    features=(Feature("x", "x", "x", "Float64", "float"),),
    event_timestamp="event_timestamp",
    created_timestamp="created_timestamp",
    ttl=None,
    pushed=True,
)
Row = tuple[str, float, float, float | None]  # key, event and created in hours, x


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def table(rows: Sequence[Row]) -> pl.DataFrame:
    return pl.DataFrame([(k, at(e), at(c), x) for k, e, c, x in rows], schema=SCHEMA, orient="row")


def push(log: PushLog, rows: Sequence[Row], received: float = 100) -> int:
    frame = table(rows)
    packed = PACKING.pack_all(frame)
    return log.append(frame, event_timestamp="event_timestamp", received_at=at(received), packed=packed)


def held(log: PushLog, **options: Any) -> list[tuple[Any, ...]]:
    found = log.scan(**options)
    return [] if found is None else found.drop(RECEIVED).collect().rows()


def joined(
    log: PushLog, asked: Sequence[tuple[str, float]], lake: Lake, *, view: DeclaredView = VIEW, **how: Any
) -> list[float | None]:
    observations = pl.DataFrame(
        [(k, at(hour)) for k, hour in asked], schema={"k": pl.String, "event_timestamp": TIME}, orient="row"
    )
    views = view_joins(observations, [view], repo=lake.url, how=Reading(as_known_at=how.get("as_known_at")))
    return point_in_time_join(observations, views, **how)["x"].to_list()


@pytest.fixture(params=["folder", "memory URL"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> PushLog:
    return PushLog({"folder": str(tmp_path / "lake"), "memory URL": f"memory://{uuid4().hex}"}[request.param], TABLE)


# -- the log -----------------------------------------------------------------------------------------------------------


def test_what_was_pushed_is_there_in_the_folder_of_its_day(log: PushLog) -> None:
    assert (log.versions(), log.scan()) == ({}, None)
    assert push(log, [("p", 1, 1, 0.1), ("p", 25, 25, 0.2), ("q", 26, 26, None)]) == 3
    assert list(log.versions()) == ["2013-01-01", "2013-01-02"]
    assert sorted(held(log)) == sorted(
        table([("p", 1, 1, 0.1), ("p", 25, 25, 0.2), ("q", 26, 26, None)]).rows(),
    )
    assert held(log, days=["2013-01-01"]) == table([("p", 1, 1, 0.1)]).rows()


def test_the_same_batch_twice_is_one_file_with_its_first_receipt(log: PushLog) -> None:
    batch = [("p", 1.0, 1.0, 0.1), ("q", 1.0, 1.0, 0.2)]
    assert push(log, batch, received=50) == 2
    before = log.versions()
    assert push(log, batch, received=60) == 0
    assert log.versions() == before
    assert push(log, [("p", 1, 1, 0.1), ("p", 2, 2, 0.3)], received=70) == 2  # another batch with a row of the first
    found = log.scan()
    assert found is not None
    assert sorted(found.collect()[RECEIVED].to_list()) == [at(50), at(50), at(70)]


def test_a_file_that_is_new_changes_the_version_of_its_day_only(log: PushLog) -> None:
    push(log, [("p", 1, 1, 0.1), ("p", 25, 25, 0.2)])
    before = log.versions()
    push(log, [("p", 26, 26, 0.3)])
    after = log.versions()
    assert after["2013-01-01"] == before["2013-01-01"]
    assert after["2013-01-02"] != before["2013-01-02"]
    assert log.versions(["2013-01-02", "2013-01-09"]) == {"2013-01-02": after["2013-01-02"]}


def test_a_period_reads_its_days_only(log: PushLog) -> None:
    push(log, [("p", hour, hour, hour) for hour in (1.0, 25.0, 26.0, 50.0)])
    assert [row[3] for row in held(log, period=Period("event_timestamp", at(2), at(25)))] == [25.0]
    assert held(log, period=Period("event_timestamp", at(200), None)) == []
    assert len(held(log, period=Period("event_timestamp", None, None))) == 4


def test_rows_received_later_do_not_exist(log: PushLog) -> None:
    push(log, [("p", 1, 1, 0.1)], received=5)
    push(log, [("p", 1, 2, 0.2)], received=9)
    assert [row[3] for row in held(log, as_known_at=at(5))] == [0.1]
    assert held(log, as_known_at=at(4)) == []


def test_of_equal_times_the_row_whose_packed_values_sort_last_comes_last(log: PushLog) -> None:
    for x in (7.0, None, 30.0, 5.0):
        push(log, [("p", 1, 1, x)])
    ordered = [row[3] for row in held(log)]
    assert ordered == sorted([7.0, None, 30.0, 5.0], key=lambda x: PACKING.pack({"x": x}))
    assert ordered[-1] is None  # `null` sorts after digits


def test_a_feature_that_came_later_is_null_before(log: PushLog) -> None:
    push(log, [("p", 1, 1, 0.1)])
    later = table([("p", 2, 2, 0.2)]).with_columns(y=pl.lit("new"))
    log.append(later, event_timestamp="event_timestamp", received_at=at(9), packed=["{}"])
    found = log.scan()
    assert found is not None
    assert sorted(found.select("x", "y").collect().rows()) == [(0.1, None), (0.2, "new")]


def test_what_cannot_be_stored_is_refused_by_name(log: PushLog) -> None:
    rows = table([("p", 1, 1, 0.1)])
    how: Any = {"event_timestamp": "event_timestamp", "received_at": at(9), "packed": [""]}
    with pytest.raises(FeatureError, match=r"no column \['event_timestamp'\]"):
        log.append(rows.drop("event_timestamp"), **how)
    with pytest.raises(FeatureError, match="has no time zone"):
        log.append(rows.with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)), **how)
    with pytest.raises(FeatureError, match="1 have no 'event_timestamp'"):
        log.append(rows.with_columns(pl.lit(None, TIME).alias("event_timestamp")), **how)
    with pytest.raises(FeatureError, match=r"columns \['_packed'\] are the log's own"):
        log.append(rows.with_columns(pl.lit("").alias(PACKED)), **how)
    assert log.versions() == {}


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    batches = [[(f"k{n % 7}", n % 60.0, n % 60.0, float(n)), ("same", 1.0, 1.0, 1.0)] for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda rows: push(PushLog(str(tmp_path), TABLE), rows), [*batches, *batches]))
    found = held(PushLog(str(tmp_path), TABLE))
    assert sorted(found) == sorted(set(table([row for batch in batches for row in batch]).rows()))


# -- merging -----------------------------------------------------------------------------------------------------------


def test_past_days_are_merged_and_members_removed_later(log: PushLog) -> None:
    for hour in (1.0, 2.0, 3.0):
        push(log, [("p", hour, hour, hour)], received=hour)
    push(log, [("p", 70, 70, 70)], received=70)
    before, reader = held(log), log.scan()
    assert reader is not None
    assert log.compact(now=at(71)) == 0  # 2013-01-01 is not over for two days
    assert log.compact(now=at(73)) == 3
    assert log.compact(now=at(73)) == 0  # a reader may still hold the members
    assert reader.drop(RECEIVED).collect().rows() == held(log) == before
    assert log.compact(now=at(75)) == 3
    assert log.compact(now=at(75)) == 0
    assert held(log) == before


def test_a_late_push_is_merged_with_what_was_merged(log: PushLog) -> None:
    for hour in (1.0, 2.0):
        push(log, [("p", hour, hour, hour)], received=hour)
    log.compact(now=at(90))
    push(log, [("p", 3, 3, 3)], received=90)
    push(log, [("p", 1, 1, 1)], received=91)  # once more, as its file may be gone already
    before = sorted(held(log))
    assert log.compact(now=at(95)) == 4  # two members are removed, the merged file and the late one are merged
    assert log.compact(now=at(99)) == 2
    assert sorted(held(log)) == before
    assert sorted(held(log, as_known_at=at(2))) == before[:2]  # receipts are kept


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(0, 5), st.none()), max_size=14), st.randoms(use_true_random=False))
def test_merging_at_any_time_changes_nothing(tmp_path: Path, steps: list[int | None], rng: random.Random) -> None:
    log, plain = (PushLog(str(tmp_path / uuid4().hex), TABLE) for _ in range(2))
    for hour, step in enumerate(steps):
        if step is None:
            log.compact(now=at(100 + hour * rng.random()))
        else:
            for target in (log, plain):
                push(target, [("p", step, 0, step), ("q", 0, step, 1.0)], received=hour)
    assert held(log) == held(plain)
    for known in (0, 3, 99):
        assert held(log, as_known_at=at(known)) == held(plain, as_known_at=at(known))


# -- what the offline side sees ----------------------------------------------------------------------------------------


def lake_with(folder: Path, rows: Sequence[Row]) -> tuple[Lake, PushLog]:
    lake = Lake(str(folder))
    if rows:
        days = table(rows).with_columns(day=pl.col("event_timestamp").dt.strftime("%Y-%m-%d"))
        lake.write_partitions(TABLE, days, by="day", written_at=START)
    return lake, PushLog(lake.url, TABLE)


def test_pushed_rows_are_joined_with_the_tables_own(tmp_path: Path) -> None:
    lake, log = lake_with(tmp_path, [("p", 1, 1, 0.1), ("p", 5, 5, 0.5)])
    push(log, [("p", 3, 3, 0.3), ("q", 3, 3, 9.0)])
    asked = [("p", 2.0), ("p", 4.0), ("p", 6.0), ("q", 4.0), ("q", 2.0)]
    assert joined(log, asked, lake) == [0.1, 0.3, 0.5, 9.0, None]


def test_of_equal_times_the_tables_row_counts_whatever_the_values(tmp_path: Path) -> None:
    lake, log = lake_with(tmp_path, [("p", 1, 1, 0.1)])
    push(log, [("p", 1, 1, 0.9)])
    assert joined(log, [("p", 2)], lake) == [0.1]
    push(log, [("p", 1, 2, 0.9)])  # created later
    assert joined(log, [("p", 2)], lake) == [0.9]


def test_a_table_may_have_pushed_rows_only(tmp_path: Path) -> None:
    lake, log = lake_with(tmp_path, [])
    with pytest.raises(FeatureError, match="materialize the view"):
        joined(log, [("p", 2)], lake)
    push(log, [("p", 1, 1, 0.9)])
    assert joined(log, [("p", 2), ("p", 0)], lake) == [0.9, None]
    assert joined(log, [("p", -1000)], lake) == [None]


def test_narrower_columns_of_the_table_are_kept(tmp_path: Path) -> None:
    lake, log = Lake(str(tmp_path)), PushLog(str(tmp_path), TABLE)
    narrow = table([("p", 1, 1, 0.5)]).with_columns(pl.col("x").cast(pl.Float32), extra=pl.lit(1))
    lake.write(TABLE, narrow, written_at=START)
    push(log, [("p", 2, 2, 0.25)])
    rows = scan_with_pushed(f"{lake.url}/{TABLE}", "test").collect()
    assert rows.schema["x"] == pl.Float32
    assert rows.select("x", "extra").rows() == [(0.25, None), (0.5, 1)]


def test_the_past_is_the_same_whatever_is_pushed_later(tmp_path: Path) -> None:
    lake, log = lake_with(tmp_path, [("p", 1, 1, 0.1)])
    push(log, [("p", 2, 2, 0.2)], received=3)
    before = joined(log, [("p", 50)], lake, as_known_at=at(10))
    push(log, [("p", 4, 4, 0.4)], received=11)  # its producer says that it was created before
    assert joined(log, [("p", 50)], lake, as_known_at=at(10)) == before == [0.2]
    assert joined(log, [("p", 50)], lake, as_known_at=at(11)) == [0.4]


moments = st.integers(0, 4)
rows = st.lists(
    st.tuples(st.sampled_from("pq"), moments, moments, st.sampled_from([None, 1.0, 2.0, 10.0, float("nan")])),
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.randoms(use_true_random=False))
def test_the_join_as_of_now_has_what_the_online_rule_keeps(
    tmp_path: Path, pushed: list[Row], rng: random.Random
) -> None:
    log, online = PushLog(str(tmp_path / uuid4().hex), TABLE), {}
    for row in rng.sample(pushed, len(pushed)):
        push(log, [row])
    for key, event, created, x in pushed:
        row = OnlineRow(key, micros(at(event)), micros(at(created)), PUSHED, PACKING.pack({"x": x}))
        if newer(row, online.get(key)):
            online[key] = row
    if pushed:
        found = joined(log, [("p", 99), ("q", 99)], log._lake)
        wanted = [PACKING.unpack(online[key].values)["x"] if key in online else None for key in "pq"]
        assert repr(found) == repr(wanted)  # as text, because NaN is not equal to itself


batches = st.lists(st.tuples(st.sampled_from("pq"), moments, moments, st.sampled_from([None, 1.0, 2.0])), max_size=4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(rows, st.integers(0, 6)), max_size=4), batches, st.integers(0, 4))
def test_what_was_known_at_each_moment_is_what_had_been_received(
    tmp_path: Path, pushes: list[tuple[list[Row], int]], batch: list[Row], ttl: int
) -> None:
    lake, log = lake_with(tmp_path / uuid4().hex, batch)
    for pushed, received in pushes:
        push(log, pushed, received)
    times = range(8)
    if not (batch or any(pushed for pushed, _ in pushes)):
        return
    view = replace(VIEW, ttl=timedelta(hours=ttl) or None)
    found = joined(log, [("p", hour) for hour in times], lake, view=view, known_at_event_time=True)
    logged = [(*row, received, False) for pushed, received in pushes for row in pushed]
    everything = [*logged, *((*row, row[2], True) for row in batch)]
    assert repr(found) == repr([known(everything, hour, ttl) for hour in times])


def known(rows: Sequence[tuple[Any, ...]], now: int, ttl: int) -> float | None:
    """Return the value of p that could be known then, by looking at every row."""
    there = [row for row in rows if row[0] == "p" and max(row[1], row[2], row[4]) <= now]
    best = max(
        enumerate(there),
        key=lambda item: (*item[1][1:3], item[1][5], "" if item[1][5] else text(item[1]), item[0]),
        default=None,
    )
    return None if best is None or (ttl and best[1][1] < now - ttl) else best[1][3]


def text(row: tuple[Any, ...]) -> str:
    return PACKING.pack({"x": row[3]})


def test_it_lies_where_no_table_is_looked_for(tmp_path: Path) -> None:
    lake, log = lake_with(tmp_path, [("p", 1, 1, 0.1)])
    push(log, [("p", 2, 2, 0.2)])
    assert lake.tables() == [TABLE]
    assert (tmp_path / FOLDER / TABLE / "2013-01-01").is_dir()
