"""Profiles beside the lake: made once for each version of a partition, found again, and never stale."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.keys import PROFILES_FOLDER as FOLDER
from ml_assets.lake import Lake, PreconditionFailed, RedPartitionError
from ml_assets.monitoring import profile_store
from ml_assets.monitoring.profile_store import days_in, profiles_of
from ml_assets.monitoring.profiles import Cut, merge
from ml_assets.versions.garbage import UNUSED, Need, find, remove

NOW = datetime(2013, 3, 1, tzinfo=UTC)
CUTS = {"x": Cut("numeric", edges=(0.0, 2.0))}


def rows(*values: float | None, version: str = "3") -> pl.DataFrame:
    return pl.DataFrame({"x": values, "model_version": [version] * len(values)}, schema_overrides={"x": pl.Float64})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(str(tmp_path / "lake"))
    for number, day in enumerate(["2012-12-31", "2013-01-01", "2013-01-02"]):
        found.write("p/predictions", rows(number, number + 1.0, None), partition=day, written_at=NOW)
    return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note what is profiled, and not found: the smallest value of each frame."""
    noted: list[str] = []
    own = profile_store.View.of

    def of(view: profile_store.View, frame: pl.LazyFrame) -> Any:
        found = own(view, frame)
        noted.append(f"{found.columns['x'].low:g}")
        return found

    monkeypatch.setattr(profile_store.View, "of", of)
    yield noted


def test_a_partition_is_profiled_once_for_each_version(lake: Lake, made: list[str]) -> None:
    first = profiles_of(lake, "p/predictions", None, cuts=CUTS)
    assert list(first) == ["2012-12-31", "2013-01-01", "2013-01-02"]
    assert merge(list(first.values())).columns["x"].nulls == 3
    again = profiles_of(lake, "p/predictions", ["2013-01-02", "2012-12-31", "2013-06-01"], cuts=CUTS)
    assert {day: one.to_dict() for day, one in again.items()} == {day: first[day].to_dict() for day in again}
    assert list(again) == ["2012-12-31", "2013-01-02"]
    assert sorted(made) == ["0", "1", "2"]
    lake.write("p/predictions", rows(7.0), partition="2013-01-01", written_at=NOW)
    assert profiles_of(lake, "p/predictions", None, cuts=CUTS)["2013-01-01"].columns["x"].low == 7.0
    assert sorted(made) == ["0", "1", "2", "7"], "only the day that was written again"
    files = [name for name in lake.store.names(FOLDER) if "p/predictions" in name]
    assert [name.rsplit("/", 1)[1] for name in files] == ["2012.json.gz", "2013.json.gz"], "one file a year"


def test_what_is_asked_differently_is_kept_apart(lake: Lake) -> None:
    assert profiles_of(lake, "p/predictions", None)["2013-01-01"].columns["x"].counts is None
    assert profiles_of(lake, "p/predictions", None, cuts=CUTS)["2013-01-01"].columns["x"].counts is not None
    assert list(profiles_of(lake, "p/predictions", None, columns=["x"])["2013-01-01"].columns) == ["x"]
    lake.write("p/predictions", pl.concat([rows(1.0), rows(2.0, version="4")]), partition="2013-01-03", written_at=NOW)
    found = profiles_of(lake, "p/predictions", None, where=("model_version", "4"))
    assert (found["2013-01-03"].rows, found["2013-01-01"].rows) == (1, 0)


def test_a_table_without_partitions_is_profiled_by_its_days(lake: Lake, made: list[str]) -> None:
    moments = [datetime(2013, 1, day, 5, tzinfo=UTC) for day in (1, 1, 2)]
    frame = rows(1.0, 2.0, 5.0).with_columns(event_timestamp=pl.Series(moments))
    lake.write("q/predictions", frame, written_at=NOW)
    found = profiles_of(lake, "q/predictions", None)
    assert {day: one.rows for day, one in found.items()} == {"2013-01-01": 2, "2013-01-02": 1}
    assert list(profiles_of(lake, "q/predictions", ["2013-01-02"])) == ["2013-01-02"]
    assert len(made) == 2
    assert days_in(lake, "q/predictions") == ["2013-01-01", "2013-01-02"]
    lake.write("q/predictions", frame.head(1), written_at=NOW)
    assert list(profiles_of(lake, "q/predictions", None)) == ["2013-01-01"], "a day that is gone is gone"
    lake.write("raw/airlines", rows(3.0), written_at=NOW)
    assert (days_in(lake, "raw/airlines"), days_in(lake, "raw/nothing")) == ([], [])
    assert days_in(lake, "p/predictions") == ["2012-12-31", "2013-01-01", "2013-01-02"]
    assert {day: one.rows for day, one in profiles_of(lake, "raw/airlines", None).items()} == {"_": 1}
    assert profiles_of(lake, "raw/nothing", None) == {}


def test_of_a_table_without_partitions_the_wanted_days_are_made(lake: Lake, made: list[str]) -> None:
    moments = [datetime(2013, 1, day, 5, tzinfo=UTC) for day in (1, 2, 3)]
    frame = rows(1.0, 2.0, 3.0).with_columns(event_timestamp=pl.Series(moments))
    lake.write("q/predictions", frame, written_at=NOW)
    assert list(profiles_of(lake, "q/predictions", ["2013-01-03", "2013-01-09"])) == ["2013-01-03"]
    assert list(profiles_of(lake, "q/predictions", ["2013-01-02", "2013-01-03"])) == ["2013-01-02", "2013-01-03"]
    assert made == ["3", "2"]
    assert len(profiles_of(lake, "q/predictions", None)) == 3
    assert made == ["3", "2", "1"]
    verdict = {"suite": "q", "success": False, "reason": "no"}
    lake.write("q/predictions", frame, written_at=NOW, verdicts=[verdict])
    assert len(profiles_of(lake, "q/predictions", None, allow_red=True)) == 3
    with pytest.raises(RedPartitionError, match="q/predictions is red"):
        profiles_of(lake, "q/predictions", None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no gzip",
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(b'{"profiles": {"2013-01-01": ["x", 3], "2013-01-02": []}}', mtime=0),
        gzip.compress(b'{"profiles": 3}', mtime=0),
    ],
    ids=["empty", "no gzip", "half", "list", "other entries", "number"],
)
def test_a_damaged_file_is_made_again(lake: Lake, data: bytes) -> None:
    first = profiles_of(lake, "p/predictions", None)
    for name in lake.store.names(FOLDER):
        lake.store.write(name, data)
    again = profiles_of(lake, "p/predictions", None)
    assert {day: one.to_dict() for day, one in again.items()} == {day: one.to_dict() for day, one in first.items()}
    for name in lake.store.names(FOLDER):
        assert lake.store.read(name) != data


def test_a_cut_file_and_one_with_a_flipped_bit_are_made_again(lake: Lake) -> None:
    first = {day: one.to_dict() for day, one in profiles_of(lake, "p/predictions", None).items()}
    name = lake.store.names(FOLDER)[-1]
    whole = lake.store.read(name)
    flipped = [whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :] for at in range(10, len(whole), 37)]
    for data in [whole[:-9], whole[: len(whole) // 2], *flipped]:
        lake.store.write(name, data)
        assert {day: one.to_dict() for day, one in profiles_of(lake, "p/predictions", None).items()} == first


@pytest.mark.parametrize("there", [[], ["2013-01-03"]], ids=["a new file", "one that is there"])
def test_of_two_who_add_at_once_both_are_kept(
    lake: Lake, made: list[str], monkeypatch: pytest.MonkeyPatch, there: list[str]
) -> None:
    lake.write("p/predictions", rows(5.0), partition="2013-01-03", written_at=NOW)
    profiles_of(lake, "p/predictions", there)
    write, races = lake.store.write, iter([True])

    def raced(name: str, data: bytes, **how: Any) -> str:
        if next(races, False):  # somebody else was quicker with another day
            profiles_of(Lake(lake.url), "p/predictions", ["2013-01-02"])
        return write(name, data, **how)

    monkeypatch.setattr(lake.store, "write", raced)
    profiles_of(lake, "p/predictions", ["2013-01-01"])
    assert len(profiles_of(lake, "p/predictions", ["2013-01-01", "2013-01-02", *there])) == 2 + len(there)
    assert sorted(made) == ["1", "2", *["5" for _ in there]], "and nothing is made twice"


def test_who_always_loses_has_the_profiles_all_the_same(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any, **__: Any) -> str:
        raise PreconditionFailed("another one was quicker")

    monkeypatch.setattr(lake.store, "write", lost)
    assert len(profiles_of(lake, "p/predictions", None)) == 3


def test_a_red_partition_is_refused_unless_it_is_to_be_looked_at(lake: Lake) -> None:
    verdict = {"suite": "p", "success": False, "reason": "no"}
    lake.write("p/predictions", rows(9.0), partition="2013-01-02", written_at=NOW, verdicts=[verdict])
    with pytest.raises(RedPartitionError, match="p/predictions/2013-01-02 is red"):
        profiles_of(lake, "p/predictions", None)
    assert profiles_of(lake, "p/predictions", None, allow_red=True)["2013-01-02"].columns["x"].low == 9.0
    with pytest.raises(RedPartitionError, match="p/predictions/2013-01-02 is red"):
        profiles_of(lake, "p/predictions", None)


def test_a_year_is_one_read_beside_the_manifests(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [f"2013-02-{day:02d}" for day in range(1, 29)]
    for day in days:
        lake.write("p/predictions", rows(1.0), partition=day, written_at=NOW)
    profiles_of(lake, "p/predictions", days)
    read, names = lake.store.read, list[str]()

    def noted(name: str, **how: Any) -> bytes:
        names.append(name)
        return read(name, **how)

    monkeypatch.setattr(lake.store, "read", noted)
    assert len(profiles_of(lake, "p/predictions", days)) == 28
    assert len([name for name in names if name.startswith(FOLDER)]) == 1


def test_garbage_takes_profiles_that_nobody_used_for_long(lake: Lake) -> None:
    profiles_of(lake, "p/predictions", None)
    (stored, *_) = lake.store.objects(FOLDER)
    nothing = Need({}, {})
    young = find(lake, nothing, now=stored.modified_at + UNUSED - timedelta(days=1))
    assert not any(one.name.startswith(FOLDER) for one in young.objects)
    old = find(lake, nothing, now=stored.modified_at + UNUSED + timedelta(days=1))
    assert {one.name for one in old.objects} == set(lake.store.names(FOLDER))
    assert FOLDER in old.table()
    remove(lake, old)
    assert lake.store.names(FOLDER) == []
    assert len(profiles_of(lake, "p/predictions", None)) == 3
