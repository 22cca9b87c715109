"""Pushes: refused whole or acknowledged for good, harmless in any order, online what the offline join has."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.features import push as pushing_module
from ml_assets.features import retrieval
from ml_assets.features.compiled import CompiledRepo, CompiledView
from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.materialize import materialize, online_source
from ml_assets.features.online.parity import parity
from ml_assets.features.online.reader import OnlineReader
from ml_assets.features.online.rows import PUSHED, OnlineRow, Packing, micros
from ml_assets.features.point_in_time import point_in_time_join
from ml_assets.features.push import Pusher, PushError, PushReceipt
from ml_assets.features.push_log import RECEIVED, PushLog
from ml_assets.features.reading import Reading, view_joins
from ml_assets.lake import Lake
from ml_assets_tests.features.pushing import NOW, PLAIN, SOURCE, START, at, compiled, push_until_killed, row, view

TIME = pl.Datetime("us", "UTC")
KILLS = 24


class Place:
    """A lake, an online store, and a pusher for views."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *views: CompiledView) -> None:
        self.repo: CompiledRepo = compiled(*(views or (PLAIN,)))
        monkeypatch.setattr(retrieval, "applied_repo", lambda _: self.repo)
        self.folder, self.lake_url = folder, str(folder / "lake")
        self.backend: Backend = open_backend(str(folder / "online.db"), project="test")
        self.pusher = Pusher(folder, lake_url=self.lake_url, backend=self.backend)

    def push(self, *rows: dict[str, Any], now: datetime = NOW, source: str = SOURCE) -> PushReceipt:
        return self.pusher.push(source, rows, now=now)

    def log(self, name: str = "v") -> PushLog:
        return PushLog(self.lake_url, f"features/{name}")

    def logged(self, name: str = "v") -> pl.DataFrame:
        found = self.log(name).scan()
        return pl.DataFrame() if found is None else found.collect()

    def online(self, name: str = "v") -> dict[str, dict[str, Any]]:
        packing = Packing(self.repo.views[name].features)
        return {json.loads(item.key)[0]: packing.unpack(item.values) for item in self.backend.rows(name)}

    def materialize(self, now: datetime = NOW) -> None:
        for found in self.repo.views.values():
            materialize(online_source(found, repo=self.folder, lake_url=self.lake_url), self.backend, now=now)

    def offline(self, keys: Sequence[str], now: datetime = NOW) -> dict[str, list[Any]]:
        asked = pl.DataFrame({"k": keys}).with_columns(event_timestamp=pl.lit(now, TIME))
        declared = self.repo.services["all"].declared or ()
        joins = view_joins(asked, declared, repo=self.folder, how=Reading(lake_url=self.lake_url))
        return point_in_time_join(asked, joins).drop("event_timestamp").to_dict(as_series=False)

    def served(self, keys: Sequence[str], now: datetime = NOW) -> dict[str, list[Any]]:
        return OnlineReader(self.repo, self.backend).read("all", {"k": keys}, now=now)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(tmp_path, monkeypatch)


def faults(place: Place, *rows: Any, now: datetime = NOW, source: str = SOURCE) -> list[str]:
    """Return what a push is refused for, and see that nothing was stored."""
    with pytest.raises(PushError) as found:
        place.pusher.push(source, rows, now=now)
    assert place.log().versions() == {}
    assert place.backend.rows("v") == []
    return [str(fault) for fault in found.value.faults]


# -- what is acknowledged ----------------------------------------------------------------------------------------------


def test_a_push_is_durable_and_online_when_it_returns(place: Place) -> None:
    receipt = place.push(row("p", 1, created=2, x=0.1), row("q", 3, x=None))
    assert receipt == PushReceipt(rows=2, new=2, views=("v",))
    assert place.logged().sort("k").rows() == [
        ("p", 0.1, 1, at(1), at(2), NOW),
        ("q", None, 3, at(3), NOW, NOW),  # its producer gave no version: the time of receipt is one
    ]
    assert place.backend.rows("v") == [
        OnlineRow('["p"]', micros(at(1)), micros(at(2)), PUSHED, '{"x":0.1,"n":1}'),
        OnlineRow('["q"]', micros(at(3)), micros(NOW), PUSHED, '{"x":null,"n":3}'),
    ]


def test_the_same_push_again_is_nothing_new(place: Place) -> None:
    rows = [row("p", 1, created=1, x=0.1), row("p", 2, created=2, x=0.2)]
    place.push(*rows)
    before = (place.logged().rows(), place.backend.rows("v"))
    assert place.push(*rows, now=NOW + timedelta(hours=1)).new == 0
    assert (place.logged().rows(), place.backend.rows("v")) == before


def test_an_older_push_does_not_replace_a_newer_one(place: Place) -> None:
    place.push(row("p", 5, x=0.5))
    place.push(row("p", 3, x=0.3))
    assert place.online()["p"]["x"] == 0.5
    assert place.offline(["p"])["x"] == [0.5]
    assert place.offline(["p"], now=at(4))["x"] == [0.3]  # but it has its place in history


def test_all_views_of_the_source_get_their_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = view("w", {"k": "String", "part": "Int32"}, {"y": "Float32"}, created=None, stored="stored_")
    place = Place(tmp_path, monkeypatch, PLAIN, other, view("z", {"k": "String"}, {"x": "Float64"}, push_source="else"))
    assert place.pusher.sources() == {"reports": ["v", "w"], "else": ["z"]}
    receipt = place.push(row("p", 1, x=0.1) | {"part": 7, "y": 0.1})
    assert receipt == PushReceipt(1, 1, ("v", "w"))
    assert place.logged("w").drop(RECEIVED).to_dicts() == [
        {"stored_k": "p", "stored_part": 7, "stored_y": pytest.approx(0.1), "event_timestamp": at(1)}
    ]
    assert [json.loads(item.key) for item in place.backend.rows("w")] == [["p", 7]]
    assert place.logged("z").is_empty()


def test_values_of_every_type_come_back_online_and_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types = {
        "text": "String",
        "blob": "Bytes",
        "yes": "Bool",
        "small": "Int32",
        "whole": "Int64",
        "short": "Float32",
        "real": "Float64",
        "when": "UnixTimestamp",
        "many": "Array(Int64)",
        "moments": "Array(UnixTimestamp)",
    }
    place = Place(tmp_path, monkeypatch, view("v", {"k": "String"}, types))
    values: dict[str, Any] = {
        "text": "é|\n",
        "blob": "AP8=",
        "yes": True,
        "small": -(2**31),
        "whole": 2**63 - 1,
        "short": 0.1,
        "real": math.nan,
        "when": "2013-01-01T01:00:00.000001+01:00",
        "many": [1, None],
        "moments": [at(1)],
    }
    nulls = dict.fromkeys(types)
    place.push(
        *({"k": key, "event_timestamp": "2013-01-02T00:00:00Z", **row} for key, row in [("p", values), ("q", nulls)])
    )
    offline, online = place.offline(["p", "q"]), place.served(["p", "q"])
    assert repr(offline).replace("zoneinfo.ZoneInfo(key='UTC')", "datetime.timezone.utc") == repr(online)
    assert online["short"][0] == pytest.approx(0.1, abs=1e-8)
    assert (online["when"][0], online["blob"][0]) == (START + timedelta(microseconds=1), b"\x00\xff")
    assert {name: column[1] for name, column in online.items() if name != "k"} == nulls


def test_minus_zero_is_zero_on_both_sides(place: Place) -> None:
    place.push(row("p", 1, created=1, x=0.0))
    place.push(row("p", 1, created=1, x=-0.0))
    assert repr(place.offline(["p"])) == repr(place.served(["p"]))
    assert place.logged().height == 1


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_every_fault_is_named_with_row_field_value_and_fix(place: Place) -> None:
    bad = [
        row("p", 1, x=0.1),
        {"k": None, "event_timestamp": at(1), "x": True, "n": 1.0},
        {"k": 7, "event_timestamp": datetime(2013, 1, 1), "x": "0.1", "n": True, "weight": 1},
        {"event_timestamp": NOW + timedelta(seconds=1), "created_timestamp": NOW + timedelta(seconds=1), "x": 10**400},
        {"k": "\ud800", "event_timestamp": "yesterday", "x": None, "n": 2**63},
    ]
    assert faults(place, *bad) == [
        "row 1, k: is null; every row needs one (got None)",
        "row 1, x: is no number; send a number (got True)",
        "row 1, n: is no whole number; send one without a decimal point (got 1.0)",
        "row 2, k: is no text; send a string (got 7)",
        "row 2, x: is no number; send a number (got '0.1')",
        "row 2, n: is no whole number; send one without a decimal point (got True)",
        "row 2, event_timestamp: has no time zone; add one, such as Z or +01:00 (got datetime.datetime(2013, 1, 1, 0, 0))",
        "row 2, weight: is no column of the source; it has ['k', 'x', 'n', 'event_timestamp', 'created_timestamp'] (got 1)",
        "row 3, k: is missing; add it",
        f"row 3, x: is too large for a float (got 1{'0' * 76}…)",
        "row 3, n: is missing; send null when there is no value",
        *(
            f"row 3, {name}: is after now, {NOW.isoformat()}; send what has happened, or correct the producer's clock "
            "(got datetime.datetime(2013, 1, 5, 0, 0, 1, tzinfo=datetime.timezone.utc))"
            for name in ("event_timestamp", "created_timestamp")
        ),
        "row 4, k: is no valid Unicode; send text without lone surrogates (got '\\ud800')",
        "row 4, n: does not fit into 64 bits (got 9223372036854775808)",
        "row 4, event_timestamp: is no time; send ISO text such as 2013-01-31T12:00:00Z (got 'yesterday')",
    ]


@pytest.mark.parametrize(
    ("rows", "source", "told"),
    [
        ([], SOURCE, "rows: there are none; send at least one"),
        (
            [row("p", 1, x=0.1)] * 10_001,
            SOURCE,
            "rows: there are more than 10000; send them in several pushes (got 10001)",
        ),
        ([row("p", 1)], "else", "push source: there is no such push source; there are ['reports'] (got 'else')"),
    ],
)
def test_a_push_that_is_wrong_as_a_whole(place: Place, rows: list[Any], source: str, told: str) -> None:
    assert faults(place, *rows, source=source) == [told]


def test_many_faults_are_all_kept_but_not_all_told(place: Place) -> None:
    with pytest.raises(PushError, match=r"(?s)because of 60 faults.*… and 40 more") as found:
        place.push(*([{"k": 1, "event_timestamp": 1, "x": None}] * 20))
    assert len(found.value.faults) == 60


def test_views_that_disagree_or_cannot_be_pushed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = view("w", {"k": "Int64"}, {"y": "Map"})
    place = Place(tmp_path, monkeypatch, PLAIN, odd)
    assert faults(place, row("p", 1)) == [
        "k: its views declare it String and Int64; make them agree",
        "y: values of type Map cannot be pushed",
    ]


@pytest.mark.parametrize(
    ("dtype", "value", "told"),
    [
        ("Bool", 1, "is no truth value"),
        ("Int32", 2**31, "does not fit into 32 bits"),
        ("Float32", 1e39, "is too large for a float of 32 bits"),
        ("Bytes", "é", "is no base64 text"),
        ("Bytes", 1, "is neither bytes nor base64 text"),
        ("UnixTimestamp", 1.5, "is no time"),
        ("UnixTimestamp", datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "is out of range"),
        ("Array(Int64)", 1, "is no list; send a list of Int64"),
        ("Array(Int64)", ["1"], "is no whole number"),
    ],
)
def test_a_value_of_another_type_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, value: Any, told: str
) -> None:
    place = Place(tmp_path, monkeypatch, view("v", {"k": "String"}, {"x": dtype}))
    (found,) = faults(place, {"k": "p", "event_timestamp": at(1), "x": value})
    assert found.startswith(f"row 0, x: {told}")


def test_a_repository_that_was_applied_anew_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.push(row("p", 1))
    place.repo = compiled(view("v", {"k": "String"}, {"x": "Float64"}))
    monkeypatch.setattr(pushing_module, "REFRESH_SECONDS", -1.0)
    place.push({"k": "p", "event_timestamp": at(2), "x": 0.5})
    assert place.offline(["p"])["x"] == [0.5]


# -- any order, any crash ----------------------------------------------------------------------------------------------

hours = st.integers(0, 60)
rows = st.tuples(st.sampled_from("pq"), hours, st.integers(0, 3), st.sampled_from([None, 0.5, 1.0, 20.0, math.nan]))
steps = st.one_of(
    st.tuples(st.just("push"), st.lists(rows, min_size=1, max_size=4)),
    st.tuples(st.just("lost online"), st.lists(rows, min_size=1, max_size=4)),
    st.tuples(st.just("deliver"), st.lists(rows, max_size=4)),
    st.tuples(st.just("materialize"), st.just([])),
    st.tuples(st.just("merge"), st.just([])),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=8), st.randoms(use_true_random=False))
def test_any_interleaving_and_repetition_leaves_online_equal_to_the_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: list[tuple[str, list[Any]]], rng: random.Random
) -> None:
    place = Place(
        tmp_path / uuid4().hex, monkeypatch, view("v", {"k": "String"}, dict(PLAIN.features), ttl=timedelta(3))
    )
    Lake(place.lake_url).mark()
    again = rng.sample(done, rng.randrange(len(done) + 1))
    for number, (what, given_rows) in enumerate([*done, *(step for step in again if step[0] == "push")]):
        run(place, what, given_rows, number)
    place.materialize()
    found = parity(online_source(place.repo.views["v"], repo=tmp_path, lake_url=place.lake_url), place.backend, now=NOW)
    assert found.green, found.reason()
    if place.logged().height or Lake(place.lake_url).store.folders("features/v"):
        assert repr(place.served(["p", "q", "z"])) == repr(place.offline(["p", "q", "z"]))


def run(place: Place, what: str, given_rows: list[Any], number: int) -> None:
    if what == "materialize":
        place.materialize()
    elif what == "merge":
        place.log().compact(now=NOW + timedelta(hours=number))
    elif what == "deliver":
        deliver(place, given_rows)
    else:
        found = [row(key, event, created=event + later, x=x) for key, event, later, x in given_rows]
        if what == "push":
            place.push(*found)
        else:
            with pytest.raises(OSError, match="killed"):
                Pusher(place.folder, lake_url=place.lake_url, backend=Broken()).push(SOURCE, found, now=NOW)


def deliver(place: Place, given_rows: list[Any]) -> None:
    """Write the partition of each day anew, as its asset does."""
    found = [row(key, event, created=event + later, x=x) for key, event, later, x in given_rows]
    types = {"k": pl.String, "event_timestamp": TIME, "created_timestamp": TIME, "x": pl.Float64, "n": pl.Int64}
    frame = pl.DataFrame(found, schema=types).unique(["k", "event_timestamp"], maintain_order=True)
    days = frame.with_columns(day=pl.col("event_timestamp").dt.strftime("%Y-%m-%d"))
    Lake(place.lake_url).write_partitions("features/v", days, by="day", written_at=NOW)


class Broken:
    """An online store that is gone, as seen by a process that dies between log and online store."""

    def apply(self, view: str, change: object) -> int:
        raise OSError("killed")


def test_what_the_log_has_and_online_lacks_is_brought_online(place: Place) -> None:
    with pytest.raises(OSError, match="killed"):
        Pusher(place.folder, lake_url=place.lake_url, backend=Broken()).push(SOURCE, [row("p", 1, x=0.1)], now=NOW)  # type: ignore[arg-type]
    assert (place.online(), place.logged().height) == ({}, 1)
    place.materialize()
    assert place.online()["p"]["x"] == 0.1


def test_pushes_of_many_threads_are_all_there(place: Place) -> None:
    def push(number: int) -> PushReceipt:
        return place.push(row(f"k{number % 5}", number / 10, created=number / 10, x=float(number)))

    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(push, [*range(60), *reversed(range(60))]))
    assert sum(receipt.new for receipt in receipts) >= 60  # what is written in another group counts as new again
    assert sorted(place.logged()["x"]) == list(range(60))
    assert {key: held["x"] for key, held in place.online().items()} == {f"k{n % 5}": n for n in range(55, 60)}


def test_pushes_that_come_meanwhile_are_written_together(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started, go, append = threading.Event(), threading.Event(), PushLog.append

    def slow(self: PushLog, *given: Any, **how: Any) -> int:
        started.set()
        assert go.wait(20)
        return append(self, *given, **how)

    monkeypatch.setattr(PushLog, "append", slow)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(place.push, row("p", 0, x=0.0))
        assert started.wait(20)
        others = [pool.submit(place.push, row("p", number, x=float(number))) for number in range(1, 9)]
        while len(place.pusher._writers[SOURCE]._open.pushes) < 8:
            time.sleep(0.005)
        go.set()
    assert [found.result().new for found in [first, *others]] == [1] * 9
    assert len(list((place.folder / "lake").rglob("*.parquet"))) == 2
    assert place.online()["p"]["x"] == 8.0


def test_a_write_that_fails_fails_every_push_that_waited_for_it(place: Place) -> None:
    broken = Pusher(place.folder, lake_url=place.lake_url, backend=Broken())  # type: ignore[arg-type]

    def push(number: int) -> str:
        with pytest.raises(OSError, match="killed") as found:
            broken.push(SOURCE, [row("p", number)], now=NOW)
        return str(found.value)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(push, range(24))) == ["killed"] * 24


def test_a_killed_process_loses_nothing_that_it_acknowledged(place: Place) -> None:
    """`kill -9` at random moments, from before its first push until after some dozens."""
    rng, context, first = random.Random(3), multiprocessing.get_context("forkserver"), 0
    context.set_forkserver_preload(["ml_assets_tests.features.pushing"])
    for _ in range(KILLS):
        process = context.Process(target=push_until_killed, args=(place.folder, first))
        process.start()
        wait_for_more(place.folder, len(acknowledged(place.folder)), seconds=rng.choice([0.2, 20]))
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.join()
        assert process.exitcode == -9
        first = max([first, *(number + 1 for number in acknowledged(place.folder))])
    done, logged = acknowledged(place.folder), {round(x) for x in place.logged()["x"]}
    assert len(done) > KILLS / 2
    assert set(done) <= logged
    assert len(logged - set(done)) <= KILLS  # at most one of each process got there unacknowledged
    assert all(key == f"k{round(x) % 5}" for key, x in place.logged().select("k", "x").rows())
    place.materialize()
    newest = {f"k{rest}": max(n for n in logged if n % 5 == rest) for rest in {n % 5 for n in logged}}
    assert {key: held["x"] for key, held in place.online().items()} == newest


def acknowledged(folder: Path) -> list[int]:
    file = folder / "acknowledged"
    return [int(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []


def wait_for_more(folder: Path, known: int, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and len(acknowledged(folder)) <= known:
        time.sleep(0.005)
