"""From landing zone to raw partitions: each delivered file ends as ingested, superseded, duplicate or quarantined.

The order of writes makes a crash harmless: quarantine copy and raw partition first, ledger last. A file without a
ledger entry is simply taken again, and the same bytes give the same partition.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import polars as pl

from ml_assets import keys
from ml_assets.collection.contract import (
    LANDED_AT,
    ContractError,
    SourceContract,
    check_day,
    check_expected,
    check_past,
    parse,
)
from ml_assets.collection.ledger import Entry, Ledger, Status
from ml_assets.lake import Lake, Manifest, Store, StoredObject
from ml_assets.quality import Verdict, evaluate
from ml_assets.quality.contract import suite_for

BATCH = 128  # files held in memory at once
DELIVERY = "_delivery"


@dataclass(frozen=True)
class Landing:
    """Where files arrive, where their rows go, and where the bad ones are kept."""

    landing: Store
    lake: Lake
    ledger: Ledger
    quarantine: Store


@dataclass
class Collected:
    """What one call of `collect` did: ledger entries, new raw partitions, and the verdict for each ingested one."""

    entries: list[Entry] = field(default_factory=list)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    verdicts: dict[str, Verdict | None] = field(default_factory=dict)

    def with_status(self, status: Status) -> list[Entry]:
        """Return the entries of one status."""
        return [entry for entry in self.entries if entry.status == status]


@dataclass(frozen=True)
class _Delivery:
    """One file on its way: as listed, the hash of its bytes, its day, and its rows or the reason why it has none."""

    item: StoredObject
    data: bytes
    sha256: str
    day: str | None = None
    rows: pl.DataFrame | None = None
    reason: str = ""
    verdict: Verdict | None = None

    @property
    def arrival(self) -> tuple[datetime, str]:
        """Return what orders deliveries, as `Entry.arrival` does."""
        return self.item.modified_at, self.item.name


def new_files(contract: SourceContract, places: Landing) -> list[StoredObject]:
    """Return the files of a source on which the ledger has no decision yet, oldest first."""
    listed = places.landing.objects(contract.folder)
    return sorted(places.ledger.unseen(listed), key=lambda item: (item.modified_at, item.name))  # as `Entry.arrival`


def expected_day(contract: SourceContract, name: str, now: datetime) -> str | None:
    """Return the day in a file's name, or None when it has none that is expected (reading will quarantine the file)."""
    try:
        day = contract.day_of(name)
        check_expected(day, contract, now=now)
    except ContractError:
        return None
    return day


def waiting(contract: SourceContract, places: Landing) -> list[Entry]:
    """Return the quarantined deliveries that no later good delivery has made good."""
    good = places.ledger.confirmed(contract.name)
    held = [
        entry for entry in places.ledger.entries() if (entry.source, entry.status) == (contract.name, "quarantined")
    ]
    return [entry for entry in held if entry.partition not in good or good[entry.partition] < entry.arrival]


def collect(
    contract: SourceContract,
    places: Landing,
    *,
    now: datetime,
    partitions: Collection[str] | None = None,
    code_version: str = "",
) -> Collected:
    """Take every new file of the source whose day is among `partitions` (default: all) to its end.

    A file whose name has no expected day is always taken: it goes to quarantine.
    """
    wanted = [
        item
        for item in new_files(contract, places)
        if partitions is None or (day := expected_day(contract, item.name, now)) is None or day in partitions
    ]
    done = Collected()
    for start in range(0, len(wanted), BATCH):
        read = [_read(item, contract, places, now) for item in wanted[start : start + BATCH]]
        _settle(_judged(read, contract), contract, places, now=now, code_version=code_version, done=done)
    return done


def _read(item: StoredObject, contract: SourceContract, places: Landing, now: datetime) -> _Delivery:
    """Read one file as far as it goes."""
    data = places.landing.read(item.name)
    delivery = _Delivery(item, data, hashlib.sha256(data).hexdigest())
    try:
        day = contract.day_of(item.name)
        delivery = replace(delivery, day=day)
        check_expected(day, contract, now=now)
        rows = parse(data, contract, name=item.name)
        check_day(rows, contract, day)
        check_past(rows, contract, now=now)
    except ContractError as error:
        return replace(delivery, reason=str(error))
    return replace(delivery, rows=rows)


def _judged(read: Sequence[_Delivery], contract: SourceContract) -> list[_Delivery]:
    """Evaluate the contract's suite on all readable files in one pass, with one verdict for each."""
    tagged = [
        delivery.rows.with_columns(pl.lit(str(number)).alias(DELIVERY))
        for number, delivery in enumerate(read)
        if delivery.rows is not None
    ]
    if not tagged:
        return list(read)
    suite = suite_for(keys.raw(contract.name), contract.columns, key=contract.key)
    verdicts = evaluate(pl.concat(tagged).lazy(), suite, by=DELIVERY)
    return [_with_verdict(delivery, verdicts.get(str(number))) for number, delivery in enumerate(read)]


def _with_verdict(delivery: _Delivery, verdict: Verdict | None) -> _Delivery:
    if verdict is None or verdict.success:
        return replace(delivery, verdict=verdict)
    return replace(delivery, verdict=verdict, rows=None, reason=verdict.reason())


def _settle(
    deliveries: Sequence[_Delivery],
    contract: SourceContract,
    places: Landing,
    *,
    now: datetime,
    code_version: str,
    done: Collected,
) -> None:
    """Decide on each delivery, write what is new, and enter everything in the ledger at once, last."""
    live, confirmed = places.ledger.live(contract.name), places.ledger.confirmed(contract.name)
    entries = [_quarantine(delivery, contract, places, now) for delivery in deliveries if delivery.rows is None]
    for day, rivals in _by_day(deliveries).items():
        late = [rival for rival in rivals if day in confirmed and rival.arrival < confirmed[day]]
        entries += [_entry(contract, rival, "superseded", _older(confirmed[day]), now) for rival in late]
        winner, decided = _elect(rivals[len(late) :], live.get(day), contract, now)
        entries += decided
        if winner:
            done.manifests[day or "_"] = _write(winner, contract, places, now, code_version)
            done.verdicts[day or "_"] = winner.verdict
    places.ledger.append(entries)
    done.entries += entries


def _by_day(deliveries: Iterable[_Delivery]) -> dict[str | None, list[_Delivery]]:
    found = defaultdict(list)
    for delivery in deliveries:
        if delivery.rows is not None:
            found[delivery.day].append(delivery)
    return found


def _elect(
    rivals: Sequence[_Delivery], current: Entry | None, contract: SourceContract, now: datetime
) -> tuple[_Delivery | None, list[Entry]]:
    """Of the good deliveries of one day, oldest first, and the one already in, find the one that holds from now on."""
    winner: _Delivery | None = None
    entries: list[Entry] = []
    for rival in rivals:
        if rival.sha256 == (winner.sha256 if winner else current and current.sha256):
            entries.append(_entry(contract, rival, "duplicate", "the same bytes are in already", now))
        else:
            if winner:
                entries.append(_entry(contract, winner, "superseded", _corrected(rival.arrival), now))
            winner = rival
    if winner:
        if current:
            entries.append(replace(current, status="superseded", reason=_corrected(winner.arrival), decided_at=now))
        entries.append(_entry(contract, winner, "ingested", f"{_rows(winner).height} rows", now))
    return winner, entries


def _older(arrival: tuple[datetime, str]) -> str:
    return f"older than {_told(arrival)}, which is in"


def _corrected(arrival: tuple[datetime, str]) -> str:
    return f"corrected by {_told(arrival)}"


def _told(arrival: tuple[datetime, str]) -> str:
    """Name a delivery in the reason of another one."""
    return f"{arrival[1]} of {arrival[0]:%Y-%m-%d %H:%M}"


def _write(
    delivery: _Delivery, contract: SourceContract, places: Landing, now: datetime, code_version: str
) -> Manifest:
    return places.lake.write(
        keys.raw(contract.name),
        _rows(delivery).with_columns(pl.lit(delivery.item.modified_at).dt.cast_time_unit("us").alias(LANDED_AT)),
        partition=delivery.day,
        written_at=now,
        inputs={f"landing/{delivery.item.name}": delivery.sha256},
        code_version=code_version,
        verdicts=[delivery.verdict.to_dict()] if delivery.verdict else [],
    )


def _rows(delivery: _Delivery) -> pl.DataFrame:
    assert delivery.rows is not None
    return delivery.rows


def _quarantine(delivery: _Delivery, contract: SourceContract, places: Landing, now: datetime) -> Entry:
    """Keep the whole file with its reason; the folder's name carries the bytes' hash, so nothing is overwritten."""
    kept = f"{contract.name}/{delivery.sha256[:12]}/{delivery.item.name.rsplit('/', 1)[-1]}"
    entry = _entry(contract, delivery, "quarantined", delivery.reason, now)
    places.quarantine.write(kept, delivery.data)
    places.quarantine.write(f"{kept}.reason.json", entry.to_json().encode())
    return entry


def _entry(contract: SourceContract, delivery: _Delivery, status: Status, reason: str, now: datetime) -> Entry:
    return Entry(
        source=contract.name,
        name=delivery.item.name,
        generation=delivery.item.generation,
        size=delivery.item.size,
        sha256=delivery.sha256,
        partition=delivery.day,
        status=status,
        reason=reason,
        landed_at=delivery.item.modified_at,
        decided_at=now,
    )
