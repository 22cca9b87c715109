"""Increments: whatever is delivered, corrected, retracted or pushed, in whatever order, online equals the offline join."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.features.online.materialize import online_source
from ml_assets.features.online.parity import parity
from ml_assets.features.online.rows import Change
from ml_assets.features.point_in_time import FeatureError
from ml_assets.lake import RedPartitionError
from ml_assets_tests.features.online.sides import FIRST, NOW, Side, rows, view


@pytest.fixture(params=["sqlite", "redis"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Side]:
    url = str(tmp_path / "online.db") if request.param == "sqlite" else request.getfixturevalue("redis_url")
    return lambda **options: Side(tmp_path, url, **options)


moments = st.tuples(st.sampled_from("pq"), st.sampled_from([1, 2]), st.integers(0, 30), st.integers(0, 3))
days = st.lists(st.tuples(moments, st.none() | st.floats(0, 1)), max_size=4).map(
    lambda found: [(*moment, x) for moment, x in dict(found).items()]
)
steps = st.lists(
    st.tuples(st.sampled_from(["write", "write", "push", "lost push", "materialize"]), st.integers(0, 3), days),
    max_size=7,
)


def shifted(found: list[tuple[Any, ...]], day: int) -> pl.DataFrame:
    return rows(*[(a, b, day * 24 + hour * 23.9 / 30, later, x) for a, b, hour, later, x in found])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.sampled_from([timedelta(hours=20), timedelta(days=2), None]))
def test_online_equals_offline_after_any_history(
    tmp_path_factory: pytest.TempPathFactory, done: list[Any], ttl: timedelta | None
) -> None:
    folder = tmp_path_factory.mktemp("history")
    side = Side(folder, str(folder / "online.db"), ttl=ttl)
    for action, day, found in done:
        if action == "write":
            side.write(shifted(found, day), f"2013-01-0{day + 1}")
        elif action != "materialize" and found:
            side.push(shifted(found, day), online=action == "push")
        elif action == "materialize":
            side.go()
    side.go()
    outcome = parity(side.source, side.backend, now=NOW)
    assert outcome.green, (outcome.reason(), outcome.markdown())
    assert side.go().written == 0


def test_only_what_changed_is_read(side: Callable[..., Side]) -> None:
    one = side()
    for day in (2, 3, 4):
        one.write(rows(("p", 1, day * 24 - 12, 0, day)), f"2013-01-0{day}")
    first = one.go()
    assert (list(first.new), first.written) == (["2013-01-02", "2013-01-03", "2013-01-04"], 1)
    assert (one.go().unchanged, one.go().rows) == (3, 0)
    one.write(rows(("q", 1, 84, 0, 5.0)), "2013-01-04")
    found = one.go(partitions=["2013-01-04"])
    assert (list(found.new), list(found.revised), found.rows) == ([], ["2013-01-04"], 1)


def test_a_late_day_is_written_and_does_not_replace_a_newer_value(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 80, 0, 0.8)), "2013-01-04")
    one.go()
    one.write(rows(("p", 1, 60, 9, 0.6), ("q", 1, 61, 9, 0.61)), "2013-01-03")  # older, and it came later
    assert one.go().written == 1
    assert {key: row.values for key, row in one.held().items()} == {
        '["p",1]': '{"x":0.8,"n":80}',
        '["q",1]': '{"x":0.61,"n":61}',
    }


def test_what_a_correction_takes_back_is_put_right(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 60, 0, 0.6)), "2013-01-03")
    one.write(rows(("p", 1, 80, 0, 0.8), ("q", 1, 81, 0, 0.81)), "2013-01-04")
    one.go()
    one.write(rows(("z", 1, 80, 0, 0.1)), "2013-01-04")  # neither p nor q was there
    found = one.go()
    assert (found.removed, found.written) == (1, 2)
    held = one.held()
    assert held['["p",1]'].origin == "2013-01-03"
    assert sorted(held) == ['["p",1]', '["z",1]']
    assert parity(one.source, one.backend, now=NOW).green


def test_a_push_that_a_crash_kept_from_the_online_store_is_found(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 70, 0, 0.7)), "2013-01-03")
    one.go()
    one.push(rows(("p", 1, 90, 0, 0.9)), online=False)
    red = parity(one.source, one.backend, now=NOW)
    assert red.counts["stale"] == 1
    assert '["p",1]' in red.reason()
    one.go()
    assert one.held()['["p",1]'].values == '{"x":0.9,"n":90}'
    assert parity(one.source, one.backend, now=NOW).green


def test_days_beyond_the_ttl_are_remembered_unread(side: Callable[..., Side]) -> None:
    one = side(ttl=timedelta(hours=1))
    corrupt = rows(("p", 1, -24 * 30, 0, 0.1))
    one.write(corrupt, "2012-12-02")
    for file in Path(one.lake.url).rglob("*.parquet"):
        file.write_bytes(b"nobody reads this")
    assert list(one.go().expired) == ["2012-12-02"]
    assert one.go().unchanged == 1


def test_what_has_not_happened_waits(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 90, 0, 0.1), ("p", 1, 95, 0, 0.2)), "2013-01-04")
    assert one.go(now=FIRST + timedelta(hours=92)).written == 1
    assert one.held()['["p",1]'].values == '{"x":0.1,"n":90}'
    assert one.go().written == 1
    assert one.held()['["p",1]'].values == '{"x":0.2,"n":95}'


def test_a_red_partition_is_refused_and_nothing_is_written(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 70, 0, 0.7)), "2013-01-03")
    one.write(rows(("q", 1, 80, 0, 0.7)), "2013-01-04", verdicts=[{"suite": "range", "success": False}])
    with pytest.raises(RedPartitionError, match="features/v/2013-01-04 is red"):
        one.go()
    assert one.held() == {}


def test_a_column_that_is_missing_is_named(side: Callable[..., Side]) -> None:
    one = side()
    one.write(rows(("p", 1, 70, 0, 0.7)).drop("x"), "2013-01-03")
    with pytest.raises(FeatureError, match=r"feature view 'v': no column \['x'\]"):
        one.go()


def test_a_source_outside_a_lake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"'v': .*elsewhere is no table of a lake"):
        online_source(view(path="elsewhere"), repo=tmp_path)


# -- parity turns red --------------------------------------------------------------------------------------------------


@pytest.fixture
def green(side: Callable[..., Side]) -> Side:
    one = side()
    many = [(name, number, 70 + number / 100, 0, number / 7) for name in "pqrs" for number in range(50)]
    one.write(rows(*many), "2013-01-03")
    one.go()
    found = parity(one.source, one.backend, now=NOW)
    assert (found.green, found.compared, found.reason()) == (True, 200, "")
    return one


def tampered(one: Side, key: str, **changes: Any) -> None:
    row = one.held()[key]._replace(**changes)
    one.backend.apply("v", Change([row], revised=["2013-01-03"]))


def kinds(one: Side) -> dict[str, int]:
    found = parity(one.source, one.backend, now=NOW)
    assert not found.green
    assert found.view in found.reason()
    return {kind: count for kind, count in found.counts.items() if count}


def test_one_broken_online_value(green: Side) -> None:
    tampered(green, '["p",7]', values='{"x":1.0000000000000002,"n":70}')
    assert kinds(green) == {"mismatched": 1}
    (example,) = parity(green.source, green.backend, now=NOW).examples
    assert (example.key, example.online, example.offline) == ('["p",7]', {"x": 1.0000000000000002}, {"x": 1.0})


def test_one_stale_view(green: Side) -> None:
    later = rows(*[(name, 1, 90, 0, 0.5) for name in "pqrs"])
    green.write(later, "2013-01-04")  # and nobody brought it online
    assert kinds(green) == {"stale": 4}


def test_one_changed_unit(green: Side) -> None:
    import json

    for key, row in green.held().items():
        values = json.loads(row.values)
        tampered(green, key, values=json.dumps({**values, "x": values["x"] * 1000}))
    assert kinds(green) == {"mismatched": 196}  # zero is zero in every unit


def test_missing_and_extra_entities(green: Side) -> None:
    green.backend.apply("v", Change(gone=['["p",7]'], revised=["2013-01-03"]))
    extra = green.held()['["p",8]']._replace(key='["ghost",1]')
    green.backend.apply("v", Change([extra]))
    tampered(green, '["q",1]', event=green.held()['["q",1]'].event + 1)
    assert kinds(green) == {"missing": 1, "extra": 2}


def test_a_late_push_is_harmless_and_a_lost_one_is_not(green: Side) -> None:
    green.push(rows(("p", 1, 50, 20, 0.1)))  # an older event: nothing changes
    assert parity(green.source, green.backend, now=NOW).green
    green.push(rows(("p", 1, 90, 0, 0.1)), online=False)
    assert kinds(green) == {"stale": 1}


def test_expired_rows_count_on_neither_side(green: Side) -> None:
    late = NOW + timedelta(days=30)
    found = parity(green.source, green.backend, now=late)
    assert (found.green, found.compared) == (True, 200)  # looked at, and nothing is served or expected


def test_a_sample_is_spread_over_both_sides(green: Side) -> None:
    assert parity(green.source, green.backend, now=NOW, most=60).compared == 60
    assert len(green.backend.keys("v", most=7)) == 7
