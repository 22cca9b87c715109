"""From landing zone to raw partitions: each delivered file ends as ingested, superseded, duplicate or quarantined.

The order of writes makes a crash harmless: quarantine copy and raw partition first, ledger last. A raw partition names
the delivery that it was made from; one that the ledger does not know is entered before anything else. Decisions are
written only where the ledger is still as it was when they were made: of two who collect at once, one decides again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import polars as pl

from ml_assets import keys
from ml_assets.collection.contract import (
    LANDED_AT,
    ContractError,
    RefusedError,
    SourceContract,
    check_day,
    check_expected,
    check_past,
    read_file,
)
from ml_assets.collection.ledger import MOST_TRIES, Entry, Ledger, Status
from ml_assets.lake import Lake, Manifest, MissingPartitionError, PreconditionFailed, Store, StoredObject
from ml_assets.lake.verify import AlteredFileError
from ml_assets.quality import Verdict, evaluate
from ml_assets.quality.contract import suite_for

BATCH = 128  # files held in memory at once
MOST_AT_ONCE = 16 * 2**20  # bytes of them, as delivered; one larger file comes alone
AT_ONCE = 8  # files that are read or written at the same time
MOST_NAME = 150  # bytes of a file's name in quarantine
DELIVERY = "_delivery"
_In = TypeVar("_In")
_Out = TypeVar("_Out")


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


@dataclass(frozen=True, eq=False)
class Delivery:
    """One file on its way: as listed, the hash of its bytes, its day, and its rows or the reason why it has none.

    `note` says how it differs from the contract, `refused` that nothing may be decided on it, `gone` that there were no
    bytes any more. `before` is the decision that is to be replaced.
    """

    item: StoredObject
    data: bytes = b""
    sha256: str = ""
    day: str | None = None
    rows: pl.DataFrame | None = None
    reason: str = ""
    note: str = ""
    verdict: Verdict | None = None
    refused: bool = False
    gone: bool = False
    before: Entry | None = None

    @property
    def arrival(self) -> tuple[datetime, str]:
        """Return what orders deliveries, as `Entry.arrival` does."""
        return self.item.modified_at, self.item.name

    @property
    def identity(self) -> tuple[str, str]:
        """Return name and generation, as `Entry.identity` does."""
        return self.item.name, self.item.generation

    @property
    def frame(self) -> pl.DataFrame:
        """Return the rows of a delivery that has some."""
        assert self.rows is not None
        return self.rows


@dataclass(frozen=True)
class _Job:
    """One call of `collect` or `decide`: what stays the same from file to file."""

    contract: SourceContract
    places: Landing
    now: datetime
    code_version: str = ""

    @property
    def table(self) -> str:
        return keys.raw(self.contract.name)

    def entry(self, delivery: Delivery, status: Status, reason: str, *, version: str = "") -> Entry:
        name, generation = delivery.identity
        return Entry(
            source=self.contract.name,
            name=name,
            generation=generation,
            size=delivery.item.size,
            sha256=delivery.sha256,
            partition=delivery.day,
            status=status,
            reason=reason,
            landed_at=delivery.item.modified_at,
            decided_at=self.now,
            checksum=delivery.item.checksum,
            version=version,
            note=delivery.note,
        )


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

    A file whose name has no expected day is always taken: it goes to quarantine. Raises `RefusedError`, after all else
    is done, when the source refuses how a file's schema changed.
    """
    job, done = _Job(contract, places, now, code_version), Collected()
    _settle(_leftovers(job, partitions), job, done, align=True)
    wanted = [
        item
        for item in new_files(contract, places)
        if partitions is None or (day := expected_day(contract, item.name, now)) is None or day in partitions
    ]
    refused: list[Delivery] = []
    for items in _batches(wanted):
        read = _at_once(lambda item: _read(item, job), items)
        refused += [delivery for delivery in read if delivery.refused]
        _settle(_judged([delivery for delivery in read if not delivery.refused], contract), job, done)
    if refused:
        raise RefusedError(_refused(refused))
    return done


def decide(
    before: Entry, data: bytes, contract: SourceContract, places: Landing, *, now: datetime, code_version: str = ""
) -> list[Entry]:
    """Decide on a quarantined delivery again, under the present contract; `data` are its bytes. Return the new entries."""
    job, done = _Job(contract, places, now, code_version), Collected()
    delivery = replace(_parsed(Delivery(_item(before), data, before.sha256), job), before=before)
    if delivery.refused:
        raise RefusedError(_refused([delivery]))
    _settle(_judged([delivery], contract), job, done)
    return done.entries


def _item(entry: Entry) -> StoredObject:
    """Return a file as it was listed when it was decided on."""
    return StoredObject(entry.name, entry.size, entry.generation, entry.landed_at, entry.checksum)


def _refused(deliveries: Sequence[Delivery]) -> str:
    named = "; ".join(f"{delivery.item.name}: {delivery.reason}" for delivery in deliveries[:3])
    more = f"; and {len(deliveries) - 3} more files" if len(deliveries) > 3 else ""
    return f"{named}{more}. The source's schema_changes refuse this: change its columns or this setting, or replace the file"


def _batches(items: Iterable[StoredObject]) -> Iterator[list[StoredObject]]:
    """Yield files in parts that fit into memory."""
    part: list[StoredObject] = []
    for item in items:
        if part and (len(part) == BATCH or sum(one.size for one in part) + item.size > MOST_AT_ONCE):
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def _at_once(work: Callable[[_In], _Out], items: Iterable[_In]) -> list[_Out]:
    """Do the same for each, some at once: it waits for the disk or the network, and leaves the interpreter to compute."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


def _read(item: StoredObject, job: _Job) -> Delivery:
    """Read just the generation that was listed, as far as it goes."""
    try:
        data = job.places.landing.read(item.name, generation=item.generation)
    except PreconditionFailed:
        return _gone(item, job)
    return _parsed(Delivery(item, data, hashlib.sha256(data).hexdigest()), job)


def _gone(item: StoredObject, job: _Job) -> Delivery:
    with contextlib.suppress(ContractError):
        return _without_bytes(item, job, job.contract.day_of(item.name))
    return _without_bytes(item, job, None)


def _without_bytes(item: StoredObject, job: _Job, day: str | None) -> Delivery:
    there = job.places.landing.exists(item.name)
    reason = (
        "overwritten before it was read; what lies there now is taken with the next look"
        if there
        else "deleted before it was read; deliver it again if it is needed"
    )
    return Delivery(item, day=day, reason=reason, gone=True)


def _parsed(delivery: Delivery, job: _Job) -> Delivery:
    name, contract = delivery.item.name, job.contract
    try:
        day = contract.day_of(name)
        delivery = replace(delivery, day=day)
        check_expected(day, contract, now=job.now)
        found = read_file(delivery.data, contract, name=name)
        check_day(found.rows, contract, day)
        check_past(found.rows, contract, now=job.now)
    except ContractError as error:
        return replace(delivery, reason=str(error), refused=isinstance(error, RefusedError))
    return replace(delivery, rows=found.rows, note=found.note)


def _judged(read: Sequence[Delivery], contract: SourceContract) -> list[Delivery]:
    """Evaluate the contract's suite on all readable files in one pass, with one verdict for each."""
    readable = [(str(number), delivery.rows) for number, delivery in enumerate(read) if delivery.rows is not None]
    if not readable:
        return list(read)
    tagged = [rows.with_columns(_repeated(DELIVERY, number, rows.height)) for number, rows in readable]
    suite = suite_for(keys.raw(contract.name), contract.columns, key=contract.key)
    verdicts = evaluate(pl.concat(tagged).lazy(), suite, by=DELIVERY)
    return [_with_verdict(delivery, verdicts.get(str(number))) for number, delivery in enumerate(read)]


def _repeated(name: str, value: str | datetime, count: int) -> pl.Series:
    return pl.Series(name, [value]).new_from_index(0, count)


def _with_verdict(delivery: Delivery, verdict: Verdict | None) -> Delivery:
    if verdict is None or verdict.success:
        return replace(delivery, verdict=verdict)
    return replace(delivery, verdict=verdict, rows=None, reason=verdict.reason())


# -- decisions --------------------------------------------------------------------------------------------------------------


def _settle(deliveries: Sequence[Delivery], job: _Job, done: Collected, *, align: bool = False) -> None:
    """Decide on each delivery, write what is new, and enter everything in the ledger at once, last.

    Whoever else wrote to the ledger or to a partition meanwhile is heard: what they decided is left out, the rest is
    decided again. Then, and with `align`, what was written in vain is taken back.
    """
    if not deliveries:
        return
    ledger = job.places.ledger
    for _ in range(MOST_TRIES):
        at = ledger.position()
        known = {entry.identity: entry for entry in ledger.entries()}
        try:
            round_ = _decide([one for one in deliveries if _still_open(one, known.get(one.identity))], job)
            ledger.append(round_.entries, at=at)
        except PreconditionFailed:
            align = True
            continue
        if align:
            _align({delivery.day for delivery in deliveries if delivery.rows is not None}, job)
        done.entries += round_.entries
        done.manifests |= round_.manifests
        done.verdicts |= round_.verdicts
        return
    raise PreconditionFailed(f"source {job.contract.name}: others decided {MOST_TRIES} times meanwhile; collect again")


def _still_open(delivery: Delivery, known: Entry | None) -> bool:
    return known == delivery.before or (delivery.before is None and known is not None and known.status == "gone")


def _decide(deliveries: Sequence[Delivery], job: _Job) -> Collected:
    """Write quarantine copies and raw partitions; return the entries that say so, and are yet to be written."""
    done, source = Collected(), job.contract.name
    live, confirmed = job.places.ledger.live(source), job.places.ledger.confirmed(source)
    bad = [delivery for delivery in deliveries if delivery.rows is None]
    done.entries += _at_once(lambda one: _without_rows(one, job), bad)
    winners: list[Delivery] = []
    for day, rivals in _by_day(deliveries).items():
        late = [rival for rival in rivals if day in confirmed and rival.arrival < confirmed[day]]
        done.entries += [job.entry(rival, "superseded", _older(confirmed[day])) for rival in late]
        winner, decided = _elect([rival for rival in rivals if rival not in late], live.get(day), job)
        done.entries += decided
        winners += [winner] if winner else []
    for winner, manifest in zip(winners, _at_once(lambda one: _write(one, job), winners), strict=True):
        done.manifests[winner.day or "_"] = manifest
        done.verdicts[winner.day or "_"] = winner.verdict
        done.entries.append(job.entry(winner, "ingested", f"{winner.frame.height} rows", version=manifest.version))
    return done


def _by_day(deliveries: Iterable[Delivery]) -> dict[str | None, list[Delivery]]:
    found = defaultdict(list)
    for delivery in deliveries:
        if delivery.rows is not None:
            found[delivery.day].append(delivery)
    return found


def _elect(rivals: Sequence[Delivery], current: Entry | None, job: _Job) -> tuple[Delivery | None, list[Entry]]:
    """Of the good deliveries of one day, oldest first, and the one already in, find the one that holds from now on."""
    winner: Delivery | None = None
    entries: list[Entry] = []
    for rival in rivals:
        if rival.sha256 == (winner.sha256 if winner else current and current.sha256):
            entries.append(job.entry(rival, "duplicate", "the same bytes are in already"))
        else:
            if winner:
                entries.append(job.entry(winner, "superseded", _corrected(rival.arrival)))
            winner = rival
    if winner and current:
        reason = _corrected(winner.arrival)
        entries.append(replace(current, status="superseded", reason=reason, decided_at=job.now))
    return winner, entries


def _older(arrival: tuple[datetime, str]) -> str:
    return f"older than {_told(arrival)}, which is in"


def _corrected(arrival: tuple[datetime, str]) -> str:
    return f"corrected by {_told(arrival)}"


def _told(arrival: tuple[datetime, str]) -> str:
    """Name a delivery in the reason of another one."""
    return f"{arrival[1]} of {arrival[0]:%Y-%m-%d %H:%M}"


def _write(delivery: Delivery, job: _Job) -> Manifest:
    name, generation = delivery.identity
    return job.places.lake.write(
        job.table,
        delivery.frame.with_columns(_repeated(LANDED_AT, delivery.item.modified_at, delivery.frame.height)),
        partition=delivery.day,
        written_at=job.now,
        inputs={f"landing/{name}#{generation}": delivery.sha256},
        code_version=job.code_version,
        verdicts=[delivery.verdict.to_dict()] if delivery.verdict else [],
    )


def _without_rows(delivery: Delivery, job: _Job) -> Entry:
    """Keep a bad file whole, with its reason; one that is gone leaves only its entry."""
    if delivery.gone:
        return job.entry(delivery, "gone", delivery.reason)
    entry = job.entry(delivery, "quarantined", delivery.reason)
    kept = kept_name(entry)
    job.places.quarantine.write(kept, delivery.data)
    job.places.quarantine.write(f"{kept}.reason.json", entry.to_json().encode())
    return entry


def kept_name(entry: Entry) -> str:
    """Return where the quarantine keeps a file: the folder carries the bytes' hash, so nothing is overwritten.

    Of the file's name the last part is kept, without what a file system could take amiss.
    """
    last = entry.name.rsplit("/", 1)[-1].lstrip(".")
    plain = "".join(mark if mark.isprintable() and mark != "\\" else "_" for mark in last)
    while len(plain.encode()) > MOST_NAME:
        plain = plain[1:]
    return f"{entry.source}/{entry.sha256[:12]}/{plain or 'file'}"


# -- after a crash, or a race --------------------------------------------------------------------------------------------------


def _leftovers(job: _Job, partitions: Collection[str] | None) -> list[Delivery]:
    """Return the deliveries behind raw partitions that the ledger does not know: of a run that ended before it wrote there."""
    live = job.places.ledger.live(job.contract.name)
    days = {day for day in live if partitions is None or (day or "_") in partitions}
    manifests = _manifests(job, partitions)
    _align((day for day in days if (day or "_") not in manifests), job)
    strange = {name: found for name, found in manifests.items() if _version(live.get(_day(name))) != found.version}
    if not strange:
        return []
    known = {entry.identity for entry in job.places.ledger.entries()}
    found = {name: _origin(manifest) for name, manifest in strange.items()}
    _align({_day(name) for name, origin in found.items() if origin and origin[:2] in known}, job)
    unknown = {name: origin for name, origin in found.items() if origin and origin[:2] not in known}
    left = [_leftover(job, strange[name], *origin) for name, origin in unknown.items()]
    return [delivery for delivery in left if delivery]


def _manifests(job: _Job, partitions: Collection[str] | None) -> Mapping[str, Manifest]:
    """Return the manifests of the partitions, without those that are damaged."""
    lake = job.places.lake
    try:
        return lake.manifests(job.table, partitions)
    except AlteredFileError:
        names = lake.store.folders(job.table) if partitions is None else partitions
        return {name: found for name in names if (found := _manifest(job, _day(name)))}


def _manifest(job: _Job, day: str | None) -> Manifest | None:
    try:
        return job.places.lake.manifest(job.table, day)
    except AlteredFileError:
        return None


def _day(partition: str) -> str | None:
    return None if partition == "_" else partition


def _version(entry: Entry | None) -> str | None:
    return entry.version if entry else None


def _origin(manifest: Manifest) -> tuple[str, str, str] | None:
    """Return name, generation and hash of the delivery behind a raw partition; None in those of before they were noted."""
    name, _, generation = next(iter(manifest.inputs), "").removeprefix("landing/").rpartition("#")
    return (name, generation, next(iter(manifest.inputs.values()))) if name else None


def _leftover(job: _Job, manifest: Manifest, name: str, generation: str, sha256: str) -> Delivery | None:
    """Return a delivery as it was, from the rows that it became; None when they are damaged: then the file is taken again."""
    try:
        rows = job.places.lake.read(job.table, manifest.partition and [manifest.partition])
    except AlteredFileError:
        return None
    landed_at, there = rows[LANDED_AT][0], job.places.landing.stat(name)
    item = there if there and there.generation == generation else StoredObject(name, 0, generation, landed_at)
    verdict = next((Verdict.from_dict(found) for found in manifest.verdicts), None)
    return Delivery(item, sha256=sha256, day=manifest.partition, rows=rows.drop(LANDED_AT), verdict=verdict)


def _align(days: Iterable[str | None], job: _Job) -> None:
    """Bring back what holds by the ledger, where one who lost a race has written an older delivery over it, or it is gone.

    A delivery that the ledger does not know is left: somebody is about to enter it, or the next call does.
    """
    live = job.places.ledger.live(job.contract.name)
    known: Mapping[tuple[str, str], Entry] = {entry.identity: entry for entry in job.places.ledger.entries()}
    for day in days:
        manifest, entry = _manifest(job, day), live.get(day)
        if entry is None or entry.version in ("", manifest and manifest.version):
            continue
        origin = _origin(manifest) if manifest else None
        if manifest is None or (origin and origin[:2] in known):
            with contextlib.suppress(PreconditionFailed):  # whoever writes now sees to it
                _bring_back(entry, job)


def _bring_back(entry: Entry, job: _Job) -> None:
    """Write a delivery again, from its version in the lake; when that was removed, from the file, if it still lies there."""
    item = _item(entry)
    try:
        rows = job.places.lake.scan_version(job.table, entry.version, entry.partition).collect().drop(LANDED_AT)
        delivery = Delivery(item, sha256=entry.sha256, day=entry.partition, rows=rows)
    except (MissingPartitionError, AlteredFileError):
        delivery = _read(item, job)
    (judged,) = _judged([delivery], job.contract)
    if delivery.rows is not None:
        _write(replace(judged, rows=delivery.rows), job)
