"""The ledger forgets nothing: not a decision that was replaced, not one of two writers who race."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from ml_assets.collection.ledger import Entry, Ledger, Status
from ml_assets.lake import PreconditionFailed, Store, StoredObject
from ml_assets.lake.verify import AlteredFileError

NOW = datetime(2013, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)


def entry(name: str = "a.csv", status: Status = "ingested", **changes: object) -> Entry:
    made = Entry(
        source="things",
        name=name,
        generation="1",
        size=3,
        sha256="ab",
        partition="2013-01-01",
        status=status,
        reason="3 rows, Zürich",
        landed_at=NOW,
        decided_at=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path))


def test_an_entry_survives_json() -> None:
    assert Entry.from_json(entry().to_json()) == entry()
    assert Entry.from_json(entry(partition=None).to_json()) == entry(partition=None)
    assert "\n" not in entry(reason="two\nlines\u2028here").to_json()


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.entries() == []
    assert ledger.counts() == {"ingested": 0, "quarantined": 0, "superseded": 0, "duplicate": 0}
    ledger.append([])
    assert ledger.entries() == []


def test_the_state_is_the_fold_of_all_decisions(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append([entry("a"), entry("b", "quarantined")])
    ledger.append([entry("a", "superseded"), entry("c")])
    ledger.append([entry("a", generation="2")])
    found = [(item.name, item.generation, item.status) for item in ledger.entries()]
    assert found == [
        ("a", "1", "superseded"),
        ("b", "1", "quarantined"),
        ("c", "1", "ingested"),
        ("a", "2", "ingested"),
    ]
    assert ledger.counts() == {"ingested": 2, "quarantined": 1, "superseded": 1, "duplicate": 0}
    assert Ledger(str(tmp_path)).entries() == ledger.entries()


def test_another_writers_decisions_are_seen(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append([entry("a")])
    Ledger(str(tmp_path)).append([entry("b")])
    assert [item.name for item in ledger.entries()] == ["a", "b"]


def test_unseen_are_new_names_and_new_generations(ledger: Ledger) -> None:
    ledger.append([entry("a"), entry("b", "quarantined")])
    listed = [StoredObject(name, 3, generation, NOW) for name, generation in (("a", "1"), ("b", "2"), ("c", "1"))]
    assert [item.name for item in ledger.unseen(listed)] == ["b", "c"]


def test_live_is_what_holds_now(ledger: Ledger) -> None:
    ledger.append([entry("a"), entry("x", source="others"), entry("p", partition="2013-01-02", status="quarantined")])
    ledger.append([entry("a", "superseded"), entry("b")])
    assert {day: item.name for day, item in ledger.live("things").items()} == {"2013-01-01": "b"}


def test_a_duplicate_confirms_what_is_in(ledger: Ledger) -> None:
    later = NOW + timedelta(hours=1)
    ledger.append([entry("a"), entry("again", "duplicate", landed_at=later)])
    ledger.append([entry("other", "duplicate", landed_at=later, sha256="cd")])  # of bytes that were replaced since
    assert ledger.confirmed("things") == {"2013-01-01": (later, "again")}
    assert ledger.confirmed("others") == {}


def test_of_two_racing_writers_nothing_is_lost(tmp_path: Path) -> None:
    ready, batches = Barrier(2), 15

    def write(who: str) -> None:
        mine = Ledger(str(tmp_path))
        ready.wait()
        for number in range(batches):
            mine.append([entry(f"{who}-{number}-{part}") for part in range(2)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    names = {item.name for item in Ledger(str(tmp_path)).entries()}
    assert names == {f"{who}-{number}-{part}" for who in "ab" for number in range(batches) for part in range(2)}


def test_a_listing_that_lags_behind_does_no_harm(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        ledger.append([entry(name)])
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_names", lambda self: [])
        ledger.append([entry("d")])
    assert [item.name for item in ledger.entries()] == ["a", "b", "c", "d"]


def test_a_ledger_that_never_stands_still_is_an_error(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise PreconditionFailed("exists")

    monkeypatch.setattr(ledger._store, "write", taken)
    with pytest.raises(PreconditionFailed, match="changed 100 times while writing; try again"):
        ledger.append([entry()])


def test_what_was_decided_before_others_decided_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    at = ledger.position()
    Ledger(str(tmp_path)).append([entry("a")])
    with pytest.raises(PreconditionFailed, match="changed since it was read"):
        ledger.append([entry("b")], at=at)
    ledger.append([entry("b")], at=ledger.position())
    assert [item.name for item in ledger.entries()] == ["a", "b"]


def test_a_file_that_was_gone_and_is_there_again_is_open(ledger: Ledger) -> None:
    ledger.append([entry("a", "gone")])
    assert ledger.unseen([StoredObject("a", 3, "1", NOW)])
    assert ledger.counts()["gone"] == 1


# -- the state beside the batches ---------------------------------------------------------------------------------------


@pytest.fixture
def folded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Ten batches, of which the first eight are folded."""
    monkeypatch.setattr("ml_assets.collection.ledger.FOLD_EVERY", 3)
    for number in range(10):
        ledger.append([entry(f"{number}"), entry("a", sha256=f"{number}")])
    return ledger


def test_who_comes_anew_begins_with_the_last_state(
    folded: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folded._store.names("_folded") == ["_folded/00000004.jsonl.gz", "_folded/00000008.jsonl.gz"]
    known, read, real = folded.entries(), [], Store.read

    def noted(store: Store, name: str) -> bytes:
        read.append(name)
        return real(store, name)

    monkeypatch.setattr(Store, "read", noted)
    again = Ledger(str(tmp_path))
    assert again.entries() == known
    assert read == ["_folded/00000008.jsonl.gz", "_ledger/00000008.jsonl", "_ledger/00000009.jsonl"]
    assert again.position() == 10


@pytest.mark.parametrize("at", [5, -5], ids=["head", "tail"])
def test_a_damaged_state_is_left_aside(folded: Ledger, tmp_path: Path, at: int) -> None:
    for name in folded._store.names("_folded"):
        data = bytearray(folded._store.read(name))
        data[at] ^= 255
        folded._store.write(name, bytes(data[: len(data) if at > 0 else at]))
    assert Ledger(str(tmp_path)).entries() == folded.entries()


def test_a_flipped_byte_in_a_batch_is_refused(folded: Ledger, tmp_path: Path) -> None:
    name = "_ledger/00000009.jsonl"
    data = folded._store.read(name)
    for at in (0, 5, 30, 78, 90, len(data) - 1):
        folded._store.write(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(AlteredFileError, match="00000009"):
            Ledger(str(tmp_path)).entries()


def test_batches_of_before_there_were_digests_are_read(ledger: Ledger) -> None:
    old = {"checksum", "version", "note"}
    lines = json.dumps({name: value for name, value in json.loads(entry().to_json()).items() if name not in old})
    ledger._store.write("_ledger/00000000.jsonl", lines.encode())
    assert ledger.entries() == [entry()]
