"""The quarantine for people: listed, shown, decided again, discarded; whatever the file is called, and nothing is deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ml_assets.collection.collect import Landing, collect, kept_name, new_files, waiting
from ml_assets.collection.contract import ContractError, RefusedError, SchemaChanges
from ml_assets.collection.ledger import Ledger
from ml_assets.collection.quarantine import QuarantineError, bytes_of, discard, find, held, retry, show, table
from ml_assets.lake import StoredObject
from ml_assets.lake.verify import AlteredFileError
from ml_assets.quality.contract import ColumnContract
from ml_assets_tests.collection.outside import NOW, THINGS, open_places, put

FILE = "things/things-2013-01-31.csv"
GOOD, NEW_COLUMN = "id,value\n1,0.5\n", "id,value,extra\n1,0.5,x\n"
WIDER = replace(THINGS, columns=[*THINGS.columns, ColumnContract(name="extra", dtype="String", nullable=True)])


@pytest.fixture
def places(tmp_path: Path) -> Landing:
    """Places with one file in quarantine: it has a column that nobody declared."""
    found = open_places(tmp_path)
    put(found, FILE, NEW_COLUMN)
    collect(THINGS, found, now=NOW)
    return found


def statuses(places: Landing) -> list[str]:
    return [entry.status for entry in places.ledger.entries()]


def test_what_waits_is_listed_with_its_reason(places: Landing) -> None:
    (entry,) = held([THINGS], places)
    assert table([entry]) == f"2013-02-01 00:00  {FILE}  {entry.reason}"
    assert "unknown columns ['extra']" in entry.reason
    assert held([replace(THINGS, name="others")], places) == []
    assert table([]) == "nothing is in quarantine"


def test_one_file_is_shown_with_its_first_lines(places: Landing) -> None:
    found = show(FILE, places)
    assert "unknown columns ['extra']" in found
    assert found.endswith("\n\nid,value,extra\n1,0.5,x")
    assert str(places.quarantine.path("things")) in found


@pytest.mark.parametrize("data", [b"\x1f\x8b\x08\0rest", b"id,value\n\x1b[31m1,2\n"], ids=["gzip", "terminal codes"])
def test_what_is_shown_obeys_nobody(tmp_path: Path, data: bytes) -> None:
    places = open_places(tmp_path)
    put(places, FILE, data)
    collect(THINGS, places, now=NOW)
    found = show(FILE, places)
    assert all(mark.isprintable() or mark == "\n" for mark in found)


def test_a_file_that_is_not_there_is_named_beside_those_that_are(places: Landing) -> None:
    with pytest.raises(QuarantineError, match=f"'nothing.csv' is not in quarantine; there are {FILE}"):
        find("nothing.csv", places)


# -- retry -------------------------------------------------------------------------------------------------------------


def test_a_retry_decides_under_the_present_contract_from_the_kept_bytes(places: Landing) -> None:
    places.landing.remove(FILE)
    (entry,) = retry(FILE, [WIDER], places, now=NOW)
    assert (entry.status, entry.partition, entry.reason) == ("ingested", "2013-01-31", "1 rows")
    assert statuses(places) == ["ingested"]
    assert places.lake.read("raw/things")["extra"].to_list() == ["x"]
    assert waiting(WIDER, places) == []


def test_a_retry_under_the_same_contract_changes_nothing(places: Landing) -> None:
    (entry,) = retry(FILE, [THINGS], places, now=NOW)
    assert (entry.status, statuses(places)) == ("quarantined", ["quarantined"])
    assert bytes_of(entry, places) == NEW_COLUMN.encode()
    assert places.lake.partitions("raw/things") == []


def test_a_retried_file_keeps_its_place_in_time(places: Landing) -> None:
    """A newer good file of the day is in: what is older does not replace it."""
    put(places, "things/things-2013-01-31.fixed.csv", GOOD, after=5)
    collect(THINGS, places, now=NOW)
    (entry,) = retry(FILE, [WIDER], places, now=NOW)
    assert entry.status == "superseded"
    assert places.lake.read("raw/things").columns == ["id", "value", "landed_at"]


def test_a_retry_that_the_source_refuses_decides_nothing(places: Landing) -> None:
    refusing = replace(THINGS, schema_changes=SchemaChanges(new_column="refuse"))
    with pytest.raises(RefusedError, match="extra"):
        retry(FILE, [refusing], places, now=NOW)
    assert statuses(places) == ["quarantined"]


def test_a_retry_needs_the_source_and_the_very_bytes(places: Landing) -> None:
    with pytest.raises(QuarantineError, match="source things, which is not declared any more"):
        retry(FILE, [], places, now=NOW)
    kept = kept_name(find(FILE, places))
    places.quarantine.write(kept, GOOD.encode())
    with pytest.raises(AlteredFileError, match="is not what was delivered"):
        retry(FILE, [THINGS], places, now=NOW)
    places.quarantine.remove(kept)
    with pytest.raises(AlteredFileError, match="is gone"):
        retry(FILE, [THINGS], places, now=NOW)
    assert statuses(places) == ["quarantined"]


# -- discard -----------------------------------------------------------------------------------------------------------


def test_a_discarded_file_is_waited_for_no_longer_and_nothing_is_deleted(places: Landing, tmp_path: Path) -> None:
    entry = discard(FILE, places, reason="a test of the supplier's", now=NOW)
    assert entry.reason.startswith("a test of the supplier's (it was: unknown columns ['extra']")
    assert (waiting(THINGS, places), new_files(THINGS, places)) == ([], [])
    assert places.quarantine.read(kept_name(entry)) == NEW_COLUMN.encode()
    again = open_places(tmp_path)
    assert again.ledger.counts() == {"ingested": 0, "quarantined": 0, "superseded": 0, "duplicate": 0, "discarded": 1}
    assert collect(THINGS, again, now=NOW).entries == []
    with pytest.raises(QuarantineError, match="nothing is"):
        discard(FILE, again, reason="again", now=NOW)


def test_a_discard_needs_a_reason(places: Landing) -> None:
    with pytest.raises(QuarantineError, match="say why"):
        discard(FILE, places, reason=" ", now=NOW)


def test_a_discard_does_not_overrule_what_others_decided_meanwhile(
    places: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.append

    def late(ledger: Ledger, *given: object, **how: int) -> None:
        monkeypatch.undo()
        retry(FILE, [WIDER], open_places(tmp_path), now=NOW)
        real(ledger, *given, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "append", late)
    with pytest.raises(QuarantineError, match="others wrote to the ledger meanwhile"):
        discard(FILE, places, reason="no", now=NOW)
    assert statuses(places) == ["ingested"]


# -- names -------------------------------------------------------------------------------------------------------------

NAMES = [
    "things/../up.csv",
    "things/..",
    "things/",
    "things/.hidden.csv",
    "things/größe 東京.csv",
    "things/a\nb\\c\0.csv",
]
NAMES += ["things/" + "ö" * 120 + ".csv", "things/\udcff.csv"]


@pytest.mark.parametrize("name", NAMES, ids=["up", "dots", "folder", "hidden", "unicode", "control", "long", "no text"])
def test_a_file_of_any_name_is_kept_inside_the_quarantine(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket takes any name; what stands for a folder is an empty object whose name ends in a slash."""
    places = open_places(tmp_path)
    data = b"" if name.endswith("/") else GOOD.encode()
    monkeypatch.setattr(places.landing, "objects", lambda *_: [StoredObject(name, len(data), "1", NOW)])
    monkeypatch.setattr(places.landing, "read", lambda *_, **__: data)
    done = collect(THINGS, places, now=NOW)
    (entry,) = done.entries
    assert entry.status == "quarantined"
    assert "does not fit" in entry.reason
    assert new_files(THINGS, places) == []
    assert places.quarantine.exists(kept_name(entry))
    (kept,) = [found for found in places.quarantine.names("things") if not found.endswith(".reason.json")]
    assert len(kept.rsplit("/", 1)[1].encode()) <= 150
    assert find(name, open_places(tmp_path)) == entry
    assert bytes_of(entry, places) == data
    with pytest.raises(ContractError):
        THINGS.day_of(name)
