"""The quarantine, for people: what waits there and why, what is in it, and what becomes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from ml_assets.collection.collect import Landing, decide, kept_name, waiting
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.formats import beginning
from ml_assets.collection.ledger import Entry
from ml_assets.lake import PreconditionFailed
from ml_assets.lake.verify import AlteredFileError

MOST_SHOWN = 20  # lines of a file
MOST_WIDTH = 200  # characters of a line


class QuarantineError(ValueError):
    """There is no such file in quarantine; the message tells which there are."""


def held(contracts: Sequence[SourceContract], places: Landing) -> list[Entry]:
    """Return the quarantined deliveries of the sources that nothing has made good, in the order in which they landed."""
    found = [entry for contract in contracts for entry in waiting(contract, places)]
    return sorted(found, key=lambda entry: entry.arrival)


def find(name: str, places: Landing) -> Entry:
    """Return the last quarantined delivery of a file, also one that was made good since; `QuarantineError` without one."""
    quarantined = [entry for entry in places.ledger.entries() if entry.status == "quarantined"]
    found = [entry for entry in quarantined if entry.name == name]
    if found:
        return max(found, key=lambda entry: entry.landed_at)
    names = sorted({entry.name for entry in quarantined})
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise QuarantineError(f"{name!r} is not in quarantine; {f'there are {shown}' if names else 'nothing is'}")


def bytes_of(entry: Entry, places: Landing) -> bytes:
    """Return the bytes that were kept; `AlteredFileError` when they are not what was delivered, or are gone."""
    where = kept_name(entry)
    try:
        data = places.quarantine.read(where)
    except FileNotFoundError as error:
        raise AlteredFileError(f"{places.quarantine.path(where)} is gone; deliver {entry.name} again") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise AlteredFileError(f"{places.quarantine.path(where)} is not what was delivered; deliver {entry.name} again")
    return data


def show(name: str, places: Landing) -> str:
    """Return in text what is known of a quarantined file: where it is kept, why, and its first lines."""
    entry = find(name, places)
    told = {
        "file": f"{entry.name}, {entry.size} bytes, generation {entry.generation}",
        "source": f"{entry.source}, day {entry.partition}" if entry.partition else entry.source,
        "landed": f"{entry.landed_at:%Y-%m-%d %H:%M}, decided {entry.decided_at:%Y-%m-%d %H:%M}",
        "kept": places.quarantine.path(kept_name(entry)),
        "reason": entry.reason,
    }
    lines = [f"{what:8}{text}" for what, text in told.items()]
    return "\n".join([*lines, "", *_first_lines(bytes_of(entry, places), entry.name)])


def retry(
    name: str, contracts: Sequence[SourceContract], places: Landing, *, now: datetime, code_version: str = ""
) -> list[Entry]:
    """Decide on a quarantined file again, from the bytes that were kept, under the present contract of its source.

    Return the new entries: ingested, superseded by a newer delivery, duplicate, or quarantined again.
    """
    entry = find(name, places)
    contract = next((one for one in contracts if one.name == entry.source), None)
    if contract is None:
        raise QuarantineError(f"{name!r} is of source {entry.source}, which is not declared any more; declare it again")
    return decide(entry, bytes_of(entry, places), contract, places, now=now, code_version=code_version)


def discard(name: str, places: Landing, *, reason: str, now: datetime) -> Entry:
    """Note that nobody waits for a quarantined file to be made good. Nothing is deleted; the ledger keeps both reasons."""
    if not reason.strip():
        raise QuarantineError(f"{name!r}: say why it is discarded, for those who ask later")
    at = places.ledger.position()
    entry = find(name, places)
    discarded = replace(entry, status="discarded", reason=f"{reason.strip()} (it was: {entry.reason})", decided_at=now)
    try:
        places.ledger.append([discarded], at=at)
    except PreconditionFailed as error:
        raise QuarantineError(f"{name!r}: others wrote to the ledger meanwhile; look again, then discard it") from error
    return discarded


def table(entries: Sequence[Entry]) -> str:
    """Return entries as text, one in each line: when the file landed, its name, and the reason."""
    if not entries:
        return "nothing is in quarantine"
    width = max(len(entry.name) for entry in entries)
    return "\n".join(f"{entry.landed_at:%Y-%m-%d %H:%M}  {entry.name:{width}}  {entry.reason}" for entry in entries)


def _first_lines(data: bytes, name: str) -> list[str]:
    """Return the first lines of text, or how other bytes begin; never what a terminal would obey."""
    part = beginning(data, name, most=MOST_SHOWN * MOST_WIDTH)
    if b"\0" in part or part[:2] == b"\x1f\x8b":
        return [f"(not text; it begins with {part[:16].hex(' ')})"]
    lines = part.decode("utf-8", "replace").splitlines()[:MOST_SHOWN]
    return [
        "".join(mark if mark.isprintable() or mark == "\t" else "�" for mark in line[:MOST_WIDTH]) for line in lines
    ]
