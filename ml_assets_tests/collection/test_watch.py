"""What the sensor asks for: every new file once, in few runs, and the days that depend on what changed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.watch import MOST_REQUESTS, Request, cursor_of, look, remembered
from ml_assets.lake import StoredObject
from ml_assets_tests.collection import tick
from ml_assets_tests.collection.outside import NOW, THINGS, open_places, put

OTHERS = replace(THINGS, name="others", pattern="others/others-{day}*.csv")
REFERENCE = replace(THINGS, name="reference", pattern="reference/reference*.csv", days=None)
CONTRACTS = [THINGS, OTHERS, REFERENCE]
GOOD = "id,value\n1,0.5\n"


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def deliver(
    places: Landing, *days: str, source: str = "things", tag: str = "", text: str = GOOD, after: int = 0
) -> None:
    for day in days:
        put(places, f"{source}/{source}-{day}{tag}.csv", text, after=after)


def take(places: Landing) -> None:
    for contract in CONTRACTS:
        collect(contract, places, now=NOW)


def asked(places: Landing, **how: object) -> list[Request]:
    found = look(places, CONTRACTS, now=NOW, **how)  # type: ignore[arg-type]
    assert not isinstance(found, str), found
    return found


def stretches(places: Landing, **how: object) -> list[tuple[str | None, str | None]]:
    return [(request.first, request.last) for request in asked(places, **how)]


def test_nothing_new(places: Landing) -> None:
    assert look(places, CONTRACTS, now=NOW) == "no new files"
    deliver(places, "2013-01-05")
    take(places)
    assert look(places, CONTRACTS, now=NOW) == "no new files"


def test_consecutive_days_are_one_run(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-01-06", "2013-01-07")
    deliver(places, "2013-01-06", source="others")
    (request,) = asked(places)
    assert (request.first, request.last) == ("2013-01-05", "2013-01-07")
    assert (request.files, request.sources) == (4, ("others", "things"))
    assert request.key.startswith(request.batch)


def test_days_far_apart_are_runs_of_their_own(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-01-06", "2013-02-10")
    requests = asked(places)
    assert [(item.first, item.last) for item in requests] == [
        ("2013-01-05", "2013-01-06"),
        ("2013-02-10", "2013-02-10"),
    ]
    assert len({item.key for item in requests}) == 2
    assert len({item.batch for item in requests}) == 1


def test_there_are_few_runs_however_scattered_the_days(places: Landing) -> None:
    days = [f"2013-01-{day:02}" for day in range(1, 29, 3)]
    deliver(places, *days)
    found = stretches(places)
    assert len(found) == MOST_REQUESTS
    assert all(any(first <= day <= last for first, last in found if first and last) for day in days)


def test_the_same_files_are_the_same_request_and_others_are_not(places: Landing) -> None:
    deliver(places, "2013-01-05")
    first = asked(places)
    assert asked(places) == first
    deliver(places, "2013-01-05", after=5)  # the same name again
    second = asked(places)
    assert second[0].key != first[0].key
    deliver(places, "2013-01-05", source="others")
    assert asked(places)[0].key != second[0].key


def test_a_run_that_is_collecting_is_waited_for(places: Landing) -> None:
    deliver(places, "2013-01-05")
    assert look(places, CONTRACTS, now=NOW, in_flight=["abc", "def"]) == "run abc is still collecting"


def test_a_batch_that_fails_is_asked_for_three_times(places: Landing) -> None:
    deliver(places, "2013-01-05")
    (request,) = asked(places)
    tried = [asked(places, failures={request.batch: count})[0].key for count in range(3)]
    assert len(set(tried)) == 3
    found = look(places, CONTRACTS, now=NOW, failures={request.batch: 3, "other": 9})
    assert found == f"the same 1 files failed 3 times; look at the runs of batch {request.batch}"
    deliver(places, "2013-01-06")
    assert asked(places, failures={request.batch: 3})  # another batch


def test_each_stretch_of_a_batch_may_fail_three_times(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-02-10")
    batch = asked(places)[0].batch
    assert len(asked(places, failures={batch: 5})) == 2
    assert "failed 6 times" in look(places, CONTRACTS, now=NOW, failures={batch: 6})


def test_a_correction_reaches_the_days_after_it_that_are_in(places: Landing) -> None:
    deliver(places, *(f"2013-01-{day:02}" for day in range(1, 11)))
    take(places)
    deliver(places, "2013-01-03", tag=".fixed", text="id,value\n2,1\n", after=5)
    assert stretches(places) == [("2013-01-03", "2013-01-03")]
    assert stretches(places, reach=4) == [("2013-01-03", "2013-01-07")]
    assert stretches(places, reach=30) == [("2013-01-03", "2013-01-10")]


def test_a_new_last_day_reaches_nothing(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-01-06")
    take(places)
    deliver(places, "2013-01-07")
    assert stretches(places, reach=30) == [("2013-01-07", "2013-01-07")]


def test_a_late_day_reaches_the_days_after_it_even_of_other_sources(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-01-06", source="others")
    take(places)
    deliver(places, "2013-01-04")
    assert stretches(places, reach=30) == [("2013-01-04", "2013-01-06")]


@pytest.mark.parametrize("name", ["things/notes.txt", "things/things-2032-01-01.csv", "things/things-2012-01-01.csv"])
def test_files_without_an_expected_day_still_fire_a_run(places: Landing, name: str) -> None:
    put(places, name, GOOD)
    assert stretches(places) == [("2013-01-01", "2013-01-01")]  # the first day that the source declares
    deliver(places, "2013-01-05", source="others")
    take(places)
    put(places, name, GOOD, after=5)
    assert stretches(places) == [("2013-01-05", "2013-01-05")]  # the last day that is in
    deliver(places, "2013-01-09")
    assert stretches(places) == [("2013-01-09", "2013-01-09")]


def test_a_source_that_declares_no_days_yet(places: Landing) -> None:
    put(places, "things/notes.txt", GOOD)
    found = look(places, [replace(THINGS, days=None)], now=NOW)
    assert not isinstance(found, str)
    (request,) = found
    assert request.first == "2013-03-01"


def test_reference_files_alone_need_no_days(places: Landing) -> None:
    put(places, "reference/reference.csv", GOOD)
    (request,) = asked(places)
    assert (request.first, request.last, request.sources) == (None, None, ("reference",))
    deliver(places, "2013-01-05")
    (request,) = asked(places)
    assert (request.first, request.sources) == ("2013-01-05", ("reference", "things"))


def test_very_many_files_come_in_several_looks(places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.collection.watch.MOST_FILES", 3)
    deliver(places, *(f"2013-01-{day:02}" for day in range(1, 8)))
    assert [(item.files, item.first, item.last) for item in asked(places)] == [(3, "2013-01-01", "2013-01-03")]


# -- what is asked for again when all files are in ------------------------------------------------------------------------


def test_a_run_that_failed_after_its_files_were_in_is_asked_for_again_three_times_in_all(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-02-10")
    asked_for = asked(places)
    take(places)
    assert look(places, CONTRACTS, now=NOW, failed_runs={}) == "no new files"
    again = [asked(places, failed_runs={asked_for[1]: failed})[0] for failed in (1, 2)]
    assert [(item.first, item.last, item.sources) for item in again] == [("2013-02-10", "2013-02-10", ("things",))] * 2
    assert len({item.key for item in (*asked_for, *again)}) == 4
    found = look(places, CONTRACTS, now=NOW, failed_runs={asked_for[1]: 3})
    assert found == f"no new files, but runs of batch {asked_for[1].batch} failed 3 times after their files were in"


def test_new_files_go_before_what_failed(places: Landing) -> None:
    deliver(places, "2013-01-05")
    (old,) = asked(places)
    take(places)
    deliver(places, "2013-01-06")
    assert [item.first for item in asked(places, failed_runs={old: 1})] == ["2013-01-06"]


def test_the_cursor_remembers_requests_and_not_too_many(places: Landing) -> None:
    deliver(places, "2013-01-05", "2013-02-10")
    assert remembered(cursor_of(asked(places))) == asked(places)
    assert remembered(None) == []
    many = [replace(asked(places)[0], batch=str(number)) for number in range(60)]
    assert remembered(cursor_of(many)) == many[-25:]


def test_a_thousand_new_files_are_at_most_five_runs(places: Landing) -> None:
    listed = [
        StoredObject(f"things/things-2013-{month:02}-{day:02}.{part}.csv", 1, f"{part}", NOW)
        for month in range(1, 13)
        for day in range(1, 29, 2)
        for part in range(6)
    ]
    assert len(listed) > 1000
    places = replace(places, landing=Listing(listed))  # type: ignore[arg-type]
    assert len(asked(places)) == MOST_REQUESTS
    assert sum({item.batch: item.files for item in asked(places)}.values()) == len(listed)


class Listing:
    """A landing zone that only lists."""

    def __init__(self, listed: list[StoredObject]) -> None:
        self._listed = listed

    def objects(self, prefix: str) -> list[StoredObject]:
        return [item for item in self._listed if item.name.startswith(f"{prefix}/")]


def test_only_the_folders_of_the_sources_are_listed(places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []

    def objects(prefix: str) -> list[StoredObject]:
        listed.append(prefix)
        return []

    monkeypatch.setattr(places.landing, "objects", objects)
    look(places, CONTRACTS, now=NOW)
    assert listed == ["things", "others", "reference"]


@pytest.mark.slow
def test_a_look_over_a_hundred_thousand_files_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    """Of which the ledger knows all but a hundred; the process is told apart from this one, with its imports."""
    tick.fill(str(tmp_path), 100_000)
    command = [sys.executable, "-m", tick.__name__, str(tmp_path), "100000"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["files"] == tick.NEW
    assert found["seconds"] < 10
    assert found["bytes"] < 200e6
