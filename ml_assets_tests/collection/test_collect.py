"""Each delivered file comes to its end with a reason, whatever is broken and in whichever order files are taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.collection import collect as room
from ml_assets.collection.collect import Delivery, Landing, collect, expected_day, new_files, waiting
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Entry, Ledger
from ml_assets.lake import Lake, Manifest, PreconditionFailed, Store, StoredObject
from ml_assets.quality import Verdict
from ml_assets.replay import faults
from ml_assets.replay.world import World
from ml_assets_tests.collection.outside import NOW, START, THINGS, declared, open_places, put

DAYS = [date(2013, 1, 5), date(2013, 1, 6)]
JANUARY = datetime(2013, 1, 10, tzinfo=UTC)
DAY = "2013-01-31"
FILE = f"things/things-{DAY}.csv"
ONE, TWO = "id,value\n1,0.5\n", "id,value\n1,0.5\n2,0.25\n"
QUARANTINED = {
    "truncated_gzip": "truncated; the upload was cut off, deliver it again",
    "missing_column": "column missing: tailnum; deliver all declared columns",
    "renamed_column": r"column missing: dep_delay \(renamed to departure_delay\?\); deliver all declared columns",
    "empty_file": "the file is empty; deliver it again with its rows",
    "negative_distance": "distance.*3",
    "far_future": r"day 2032-01-05 is in the future \(now is 2013-01-10\); correct the day in the file's name",
}


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    return open_places(tmp_path)


def take(places: Landing, **how: object) -> dict[str, str]:
    """Collect the small source; return the status of every delivery in the ledger by file name."""
    collect(THINGS, places, now=NOW, **how)  # type: ignore[arg-type]
    return {entry.name: entry.status for entry in places.ledger.entries()}


# -- the faults of the outside world, on real files --------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False], ids=["with the good files", "after them"])
@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_ends_in_the_ledger_and_good_files_go_through(
    places: Landing, fault: Callable[[World, date], str], together: bool
) -> None:
    world, flights = World(places.landing), declared("flights").contract()
    world.deliver_days(DAYS)
    if not together:
        collect(flights, places, now=JANUARY)
    broken = fault(world, DAYS[0])
    data = places.landing.read(broken)
    collect(flights, places, now=JANUARY)

    entries = {entry.name: entry for entry in places.ledger.entries()}
    assert sorted(entries) == places.landing.names("flights")  # nothing is lost
    assert len(places.ledger.entries()) == len(entries)
    entry = entries[broken]
    rows = {str(day): world.rows("flights", day).height for day in DAYS}
    assert {day: item.rows for day, item in places.lake.manifests("raw/flights").items()} == rows
    if fault.__name__ in QUARANTINED:
        assert entry.status == "quarantined"
        assert pl.Series([entry.reason]).str.contains(QUARANTINED[fault.__name__])[0], entry.reason
        (kept,) = [name for name in places.quarantine.names() if not name.endswith(".reason.json")]
        assert places.quarantine.read(kept) == data
        assert entry.reason.encode() in places.quarantine.read(f"{kept}.reason.json")
        assert waiting(flights, places) == [entry]
    good = entries[f"flights/flights-{DAYS[0]}.csv.gz"]
    ends = (entry.status, good.status)
    assert ends == {"delivered_twice": ("duplicate", "ingested"), "corrected": ("ingested", "superseded")}.get(
        fault.__name__, ("quarantined", "ingested")
    )


def test_all_faults_at_once(places: Landing) -> None:
    world, flights = World(places.landing), declared("flights").contract()
    world.deliver_days(DAYS)
    for fault in faults.FAULTS:
        fault(world, DAYS[0])
    done = collect(flights, places, now=JANUARY)
    assert places.ledger.counts() == {"ingested": 2, "quarantined": 6, "superseded": 1, "duplicate": 1}
    assert len(done.entries) == 10
    assert all(isinstance(verdict, Verdict) and verdict.success for verdict in done.verdicts.values())
    assert collect(flights, places, now=JANUARY).entries == []


def test_a_row_that_the_contract_forbids_is_told_apart_from_its_neighbours(places: Landing) -> None:
    """The files are judged in one pass: the verdict on one must not fall on another."""
    put(places, FILE, ONE)
    put(places, "things/things-2013-02-01.csv", "id,value\n1,-0.5\n", after=1)
    put(places, "things/things-2013-02-02.csv", "id,value\n1,1\n1,2\n", after=2)
    put(places, "things/things-2013-02-03.csv", ONE, after=3)
    found = take(places)
    assert [found[name] for name in sorted(found)] == ["ingested", "quarantined", "quarantined", "ingested"]
    reasons = [entry.reason for entry in places.ledger.entries() if entry.status == "quarantined"]
    assert "value" in reasons[0]
    assert "id" in reasons[1]


# -- rivals for one day ------------------------------------------------------------------------------------------------------


def test_a_correction_replaces_and_says_so(places: Landing) -> None:
    put(places, FILE, ONE)
    take(places)
    put(places, f"things/things-{DAY}.fixed.csv", TWO, after=90)
    take(places)
    old, new = places.ledger.entries()
    assert (old.status, new.status, new.reason) == ("superseded", "ingested", "2 rows")
    assert old.reason == f"corrected by things/things-{DAY}.fixed.csv of 2013-02-01 01:30"
    assert places.lake.read("raw/things")["id"].to_list() == [1, 2]


def test_the_raw_rows_know_when_they_landed_and_from_what(places: Landing) -> None:
    put(places, FILE, ONE, after=5)
    take(places, code_version="c0de")
    manifest = places.lake.manifest("raw/things", DAY)
    assert manifest is not None
    (entry,) = places.ledger.entries()
    assert manifest.inputs == {f"landing/{FILE}#{entry.generation}": entry.sha256}
    assert (manifest.code_version, manifest.red, len(manifest.verdicts)) == ("c0de", [], 1)
    assert places.lake.read("raw/things")["landed_at"].to_list() == [START + timedelta(minutes=5)]


@pytest.mark.parametrize("together", [True, False])
def test_a_file_that_is_older_than_what_is_in_changes_nothing(places: Landing, together: bool) -> None:
    put(places, FILE, TWO, after=10)
    if not together:
        take(places)
    put(places, f"things/things-{DAY}.late.csv", ONE, after=5)
    found = take(places)
    assert found == {FILE: "ingested", f"things/things-{DAY}.late.csv": "superseded"}
    assert places.lake.read("raw/things").height == 2


def test_a_duplicate_confirms_what_is_in_against_older_files(places: Landing) -> None:
    """Delivered: one (0), two (5), one again (10). Whichever is seen first, `one` holds: it is the newest."""
    put(places, FILE, ONE)
    take(places)
    put(places, f"things/things-{DAY}.again.csv", ONE, after=10)
    take(places)
    late = put(places, f"things/things-{DAY}.late.csv", TWO, after=5)
    assert take(places) == {FILE: "ingested", f"things/things-{DAY}.again.csv": "duplicate", late: "superseded"}
    assert places.lake.read("raw/things").height == 1
    assert f"older than things/things-{DAY}.again.csv" in places.ledger.entries()[-1].reason


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_files_of_one_moment_the_name_decides_in_any_order(places: Landing, order: str) -> None:
    for part in order:
        put(places, f"things/things-{DAY}.{part}.csv", {"a": ONE, "b": TWO}[part])
        take(places)
    assert places.lake.read("raw/things").height == 2


def test_the_same_name_again_is_another_delivery(places: Landing) -> None:
    put(places, FILE, ONE)
    take(places)
    put(places, FILE, "id\n1\n", after=5)
    take(places)
    put(places, FILE, TWO, after=10)
    take(places)
    assert [entry.status for entry in places.ledger.entries()] == ["superseded", "quarantined", "ingested"]
    assert places.lake.read("raw/things").height == 2


def test_the_quarantine_keeps_equal_files_of_several_names_with_their_reasons(places: Landing) -> None:
    for day in ("2013-01-30", "2013-01-31"):
        put(places, f"things/things-{day}.csv", "")
    take(places)
    kept = [name.rsplit("/", 1)[1] for name in places.quarantine.names("things")]
    names = [f"things-{day}.csv" for day in ("2013-01-30", "2013-01-31")]
    assert kept == sorted([*names, *(f"{name}.reason.json" for name in names)])


# -- what is waited for ------------------------------------------------------------------------------------------------------


def test_a_quarantined_file_waits_for_a_later_good_one(places: Landing) -> None:
    put(places, FILE, ONE)
    put(places, f"things/things-{DAY}.bad.csv", "", after=5)
    take(places)
    (held,) = waiting(THINGS, places)
    assert held.name.endswith(".bad.csv")
    put(places, f"things/things-{DAY}.again.csv", ONE, after=10)  # the bytes that are in are good after all
    take(places)
    assert waiting(THINGS, places) == []


def test_a_good_day_that_came_before_heals_nothing(places: Landing) -> None:
    put(places, FILE, "", after=5)
    put(places, f"things/things-{DAY}.old.csv", ONE)
    take(places)
    assert [entry.name for entry in waiting(THINGS, places)] == [FILE]


# -- parts of the landing zone -----------------------------------------------------------------------------------------------


def test_only_the_days_that_are_asked_for_are_taken(places: Landing) -> None:
    other = "things/things-2013-02-01.csv"
    put(places, FILE, ONE)
    put(places, other, ONE)
    put(places, "things/notes.txt", "hello")
    assert take(places, partitions=[DAY]) == {FILE: "ingested", "things/notes.txt": "quarantined"}
    assert [item.name for item in new_files(THINGS, places)] == [other]
    assert take(places)[other] == "ingested"


def test_a_name_without_an_expected_day_has_none() -> None:
    assert expected_day(THINGS, FILE, NOW) == DAY
    assert expected_day(THINGS, "things/notes.txt", NOW) is None
    assert expected_day(THINGS, "things/things-2013-06-01.csv", NOW) is None  # it has not begun


def test_other_folders_are_left_alone(places: Landing) -> None:
    put(places, "others/things-2013-01-31.csv", ONE)
    assert take(places) == {}


def test_many_files_are_taken_in_batches(places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BATCH", 2)
    for after in range(5):
        put(places, f"things/things-{DAY}.{after}.csv", f"id,value\n{after},1\n", after=after)
    found = take(places)
    assert sorted(found.values()) == ["ingested"] + ["superseded"] * 4
    assert places.lake.read("raw/things")["id"].to_list() == [4]


# -- crashes -----------------------------------------------------------------------------------------------------------------


def test_a_crash_before_the_ledger_is_repaired_by_the_next_run(places: Landing, tmp_path: Path) -> None:
    put(places, FILE, ONE)
    put(places, "things/things-2013-02-01.csv", "")
    take(places)
    put(places, f"things/things-{DAY}.fixed.csv", TWO, after=90)
    put(places, "things/things-2013-02-02.csv", ONE, after=91)
    put(places, "things/things-2013-02-03.csv", "id\n", after=92)

    def killed(self: Ledger, entries: object, **_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "append", killed)
        take(places)
    assert len(open_places(tmp_path).ledger.entries()) == 2

    again = open_places(tmp_path)
    assert sorted(take(again).values()) == ["ingested", "ingested", "quarantined", "quarantined", "superseded"]
    rows = {day: manifest.rows for day, manifest in again.lake.manifests("raw/things").items()}
    assert rows == {DAY: 2, "2013-02-02": 1}
    assert len(again.quarantine.names()) == 4


def test_what_a_killed_run_wrote_is_entered_even_if_the_file_was_overwritten_since(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE, after=5)
    killed(monkeypatch, places)
    put(places, FILE, "", after=10)  # and broken
    again = open_places(tmp_path)
    take(again)
    ingested, broken = again.ledger.entries()
    assert (ingested.status, ingested.partition, broken.status) == ("ingested", DAY, "quarantined")
    assert ingested.sha256 == hashlib.sha256(ONE.encode()).hexdigest()
    assert ingested.landed_at == START + timedelta(minutes=5)
    assert again.ledger.live("things")[DAY].version == manifest_of(again).version


def test_what_a_killed_run_wrote_is_entered_even_if_the_file_was_deleted_since(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE)
    killed(monkeypatch, places)
    places.landing.remove(FILE)
    again = open_places(tmp_path)
    assert take(again) == {FILE: "ingested"}
    assert collect(THINGS, again, now=NOW).entries == []


def killed(monkeypatch: pytest.MonkeyPatch, places: Landing) -> None:
    """Collect, and be killed before the ledger is written."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "append", stop)
        collect(THINGS, places, now=NOW)


# -- races -------------------------------------------------------------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """Let something happen once, just before the ledger is written."""
    real, waiting_ = Ledger.append, [what]

    def append(ledger: Ledger, entries: Iterable[Entry], **how: int) -> None:
        while waiting_:
            waiting_.pop()()
        real(ledger, entries, **how)

    monkeypatch.setattr(Ledger, "append", append)


def test_two_who_collect_the_same_file_enter_it_once(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE)
    other: dict[str, str] = {}
    meanwhile(monkeypatch, lambda: other.update(take(open_places(tmp_path))))
    done = collect(THINGS, places, now=NOW)
    assert (other, done.entries) == ({FILE: "ingested"}, [])
    assert [entry.status for entry in places.ledger.entries()] == ["ingested"]


@pytest.mark.parametrize("after", [-5, 5], ids=["older", "newer"])
def test_two_who_collect_rivals_end_with_the_newer_one(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """The other one takes a rival, decides and is done, after this one has written and before it enters that."""
    rival = f"things/things-{DAY}.rival.csv"
    put(places, FILE, ONE)

    def other() -> None:
        theirs = open_places(tmp_path)
        put(theirs, rival, TWO, after=after)
        collect(THINGS, replace(theirs, landing=_Only(theirs.landing, rival)), now=NOW)  # type: ignore[arg-type]

    meanwhile(monkeypatch, other)
    take(places)
    winner = rival if after > 0 else FILE
    live = places.ledger.live("things")
    assert {day: entry.name for day, entry in live.items()} == {DAY: winner}
    assert [entry.status for entry in places.ledger.entries()].count("ingested") == 1
    assert places.lake.read("raw/things").height == (2 if after > 0 else 1)
    assert live[DAY].version == manifest_of(places).version


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_partition_whose_manifest_is_damaged_or_gone_is_made_again(places: Landing, harm: str) -> None:
    put(places, FILE, ONE)
    put(places, "things/things-2013-01-30.csv", TWO)
    take(places)
    before, name = manifest_of(places), f"raw/things/{DAY}/manifest.json"
    if harm == "gone":
        places.lake.store.remove(name)
    else:
        places.lake.store.write(name, places.lake.store.read(name)[:-9])
    take(places)
    assert manifest_of(places).version == before.version
    assert manifest_of(places).inputs == before.inputs
    assert [entry.status for entry in places.ledger.entries()] == ["ingested"] * 2


@pytest.mark.parametrize("collected", [False, True], ids=["from the lake", "from the file"])
def test_an_older_delivery_written_over_a_newer_one_is_taken_back(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collected: bool
) -> None:
    """One who lost the race was killed between raw and ledger: what holds is brought back, wherever it still is."""
    put(places, FILE, ONE)
    theirs = open_places(tmp_path)
    take(places)
    version = manifest_of(places).version
    late = put(places, f"things/things-{DAY}.late.csv", TWO, after=-5)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "live", lambda *_: {})
        patch.setattr(Ledger, "confirmed", lambda *_: {})
        killed(patch, theirs)
    assert manifest_of(places).version != version
    if collected:
        places.lake.store.remove(f"raw/things/{DAY}/{version[:20]}.parquet")
    assert take(open_places(tmp_path))[late] == "superseded"
    assert manifest_of(places).version == version
    assert manifest_of(places).inputs[f"landing/{FILE}#{places.ledger.live('things')[DAY].generation}"]


def test_a_partition_that_is_written_by_another_is_decided_again(
    places: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE)
    real, lost = Lake.write, [True]

    def write(*given: object, **how: object) -> object:
        if lost:
            lost.clear()
            raise PreconditionFailed("somebody was first")
        return real(*given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "write", write)
    assert take(places) == {FILE: "ingested"}


class _Only:
    """A landing zone of which one file is seen."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def objects(self, prefix: str = "") -> list[StoredObject]:
        return [item for item in self._store.objects(prefix) if item.name == self._name]


def manifest_of(places: Landing) -> Manifest:
    """The manifest of the day."""
    found = places.lake.manifest("raw/things", DAY)
    assert found is not None
    return found


# -- between listing and reading ----------------------------------------------------------------------------------------------


def when_read(monkeypatch: pytest.MonkeyPatch, places: Landing, what: Callable[[], object]) -> None:
    """Let something happen once, between listing and reading."""
    real, waiting_ = places.landing.read, [what]

    def read(name: str, **how: str) -> bytes:
        while waiting_:
            waiting_.pop()()
        return real(name, **how)

    monkeypatch.setattr(places.landing, "read", read)


def test_a_file_overwritten_between_listing_and_reading_is_taken_with_the_next_look(
    places: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE)
    when_read(monkeypatch, places, lambda: put(places, FILE, TWO, after=5))
    take(places)
    (entry,) = places.ledger.entries()
    assert (entry.status, entry.partition) == ("gone", DAY)
    assert entry.reason.startswith("overwritten before it was read")
    take(places)
    assert [entry.status for entry in places.ledger.entries()] == ["gone", "ingested"]
    assert places.lake.read("raw/things").height == 2


def test_a_file_deleted_between_listing_and_reading_leaves_its_line(
    places: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places, FILE, ONE)
    when_read(monkeypatch, places, lambda: places.landing.remove(FILE))
    take(places)
    (entry,) = places.ledger.entries()
    assert entry.status == "gone"
    assert entry.reason.startswith("deleted before it was read")
    assert new_files(THINGS, places) == []


def test_a_file_deleted_after_it_was_taken_stays_in(places: Landing) -> None:
    put(places, FILE, ONE)
    take(places)
    places.landing.remove(FILE)
    assert take(places) == {FILE: "ingested"}
    assert places.lake.read("raw/things").height == 1


def test_a_file_uploaded_again_with_the_same_bytes_is_a_duplicate(places: Landing) -> None:
    put(places, FILE, ONE)
    take(places)
    version = manifest_of(places).version
    put(places, FILE, ONE, after=5)
    take(places)
    assert [entry.status for entry in places.ledger.entries()] == ["ingested", "duplicate"]
    assert manifest_of(places).version == version


def test_files_held_at_once_are_bounded_by_their_bytes(places: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_AT_ONCE", 40)
    parts: list[int] = []
    real = room._judged

    def judged(read: Sequence[Delivery], contract: SourceContract) -> list[Delivery]:
        parts.append(len(read))
        return real(read, contract)

    monkeypatch.setattr(room, "_judged", judged)
    for day, rows in enumerate((1, 1, 20, 1), start=10):
        put(
            places,
            f"things/things-2013-01-{day}.csv",
            "id,value\n" + "".join(f"{n},1\n" for n in range(rows)),
            after=day,
        )
    assert set(take(places).values()) == {"ingested"}
    assert parts == [2, 1, 1]
