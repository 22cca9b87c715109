"""Profiles of a lake's tables, made once for each version of a partition and kept beside the tables.

`_profiles/<table>/<view>/<year>.json.gz` holds those of a year's partitions, so that a year is one read. A view is what was
asked for: cuts, columns, rows. Each profile names the version of the partition that it was made from; of another version, or
where the file cannot be read, it is made again. So all of it may be removed at any time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl

from ml_assets.keys import PROFILES_FOLDER as FOLDER
from ml_assets.lake import Lake, Live, PreconditionFailed
from ml_assets.lake.manifest import WHOLE
from ml_assets.monitoring.profiles import Cuts, Profile, cuts_id, profile

FORMAT = 1
MOMENT = "event_timestamp"
PROFILERS = 4  # partitions at once: reading waits for the network
TRIES = 3  # to add to a file that others add to as well
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError)
"""What reading a file raises that is not there, is cut, damaged, or of other code."""
_DAY = pl.col(MOMENT).dt.date().dt.to_string()
Entries = dict[str, tuple[str, Profile]]  # by day: the partition's version, and its profile


@dataclass(frozen=True)
class View:
    """What is profiled of a table: the columns (None: all), how they are cut, and the rows in which a column has a value."""

    table: str
    cuts: Cuts | None = None
    columns: tuple[str, ...] | None = None
    where: tuple[str, str] | None = None

    @property
    def folder(self) -> str:
        """Return the folder of its profiles. Polars is part of its name: another version may hash values otherwise."""
        columns = None if self.columns is None else sorted(self.columns)
        told = [FORMAT, pl.__version__, cuts_id(self.cuts), columns, self.where]
        return f"{FOLDER}/{self.table}/{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]}"

    def of(self, rows: pl.LazyFrame) -> Profile:
        """Return the profile of rows of the table; without the column of `where`, all rows count."""
        if self.where and self.where[0] in rows.collect_schema():
            rows = rows.filter(pl.col(self.where[0]).cast(pl.String) == self.where[1])
        return profile(rows, columns=self.columns, cuts=self.cuts)


def profiles_of(
    lake: Lake,
    table: str,
    days: Sequence[str] | None,
    *,
    cuts: Cuts | None = None,
    columns: Sequence[str] | None = None,
    where: tuple[str, str] | None = None,
    allow_red: bool = False,
) -> dict[str, Profile]:
    """Return a profile for each of the partitions `days` that exist, in order; None for all of them.

    A table without partitions is profiled by the days (UTC) of `event_timestamp`; one without that column has one profile,
    under "_". `where=("model_version", "3")` keeps the rows of one value. A table that was never written has none. Raises
    `RedPartitionError` for a partition that its checks refuse, but with `allow_red`.
    """
    view = View(table, cuts, None if columns is None else tuple(dict.fromkeys(columns)), where)
    whole = lake.live(table, [WHOLE])
    live = whole or lake.live(table, days)
    if not allow_red and any(one.red for one in live.values()):
        lake.files(table, live=live)  # which says what is wrong with them
    found = _of_whole(lake, view, whole[WHOLE], days) if whole else _of_partitions(lake, view, live)
    return {day: found[day] for day in sorted(found) if days is None or day in set(days) or day == WHOLE}


def days_in(lake: Lake, table: str) -> list[str]:
    """Return the days by which a table is profiled, in order: its partitions, or those (UTC) of `event_timestamp`, or none."""
    if lake.manifest(table) is None:
        return lake.partitions(table)
    return [day for day in _days_of(lake.scan(table, allow_red=True)) if day != WHOLE]


def _of_partitions(lake: Lake, view: View, live: Mapping[str, Live]) -> dict[str, Profile]:
    versions = {day: one.version for day, one in live.items()}

    def make(wanted: Iterable[str]) -> dict[str, Profile]:
        def one(day: str) -> tuple[str, Profile]:
            return day, view.of(lake.scan(view.table, live={day: live[day]}, allow_red=True))

        with ThreadPoolExecutor(PROFILERS) as pool:
            return dict(pool.map(one, wanted))

    found: dict[str, Profile] = {}
    for year in sorted({day[:4] for day in versions}):
        own = {day: version for day, version in versions.items() if day[:4] == year}
        found |= _kept_or_made(lake, f"{view.folder}/{year}.json.gz", own, make)
    return found


def _kept_or_made(
    lake: Lake, name: str, versions: Mapping[str, str], make: Callable[[Iterable[str]], dict[str, Profile]]
) -> dict[str, Profile]:
    """Return the profiles in a file as far as they are of these versions, and the others made and added to it."""
    stored = _read(lake, name, versions)
    found = {day: own for day, (version, own) in stored.items() if version == versions[day]}
    missing = [day for day in versions if day not in found]
    if missing:
        made = make(missing)
        _add(lake, name, {day: (versions[day], own) for day, own in made.items()})
        found |= made
    return found


def _of_whole(lake: Lake, view: View, live: Live, days: Sequence[str] | None) -> dict[str, Profile]:
    """Return the profiles of a table without partitions, by day as far as they are wanted: all days change together."""
    name = f"{view.folder}/whole.json.gz"
    found = {day: own for day, (version, own) in _read(lake, name, None).items() if version == live.version}
    if WHOLE in found or (days is not None and found.keys() >= set(days)):
        return found
    rows = lake.scan(view.table, live={WHOLE: live}, allow_red=True)
    there = [day for day in _days_of(rows) if days is None or day in {*days, WHOLE}]
    made = _by_day(view, rows, [day for day in there if day not in found])
    _add(lake, name, {day: (live.version, own) for day, own in made.items()}, alone=not found)
    return found | made


def _days_of(rows: pl.LazyFrame) -> list[str]:
    """Return the days of the rows; "_" alone where they have no moments."""
    if not isinstance(rows.collect_schema().get(MOMENT), (pl.Datetime, pl.Date)):
        return [WHOLE]
    return rows.select(_DAY.drop_nulls().unique().sort()).collect().to_series().to_list()


def _by_day(view: View, rows: pl.LazyFrame, wanted: Sequence[str]) -> dict[str, Profile]:
    if WHOLE in wanted:
        return {WHOLE: view.of(rows)}
    if not wanted:
        return {}
    own = rows.with_columns(_DAY.alias(WHOLE)).filter(pl.col(WHOLE).is_in(list(wanted))).collect()
    parts = own.partition_by(WHOLE, as_dict=True, include_key=False)
    return {str(name): view.of(part.lazy()) for (name,), part in parts.items()}


def _read(lake: Lake, name: str, wanted: Iterable[str] | None) -> Entries:
    """Return the profiles that a file has of the wanted days; none where it is not there, damaged, or of other code."""
    try:
        raw = json.loads(gzip.decompress(lake.store.read(name)))["profiles"]
        days = raw if wanted is None else [day for day in wanted if day in raw]
        return {day: (str(raw[day][0]), Profile.from_dict(raw[day][1])) for day in days}
    except UNREADABLE:
        return {}


def _add(lake: Lake, name: str, made: Entries, *, alone: bool = False) -> None:
    """Add profiles to a file, or with `alone` make it anew. Of those who add at once, each sees what the others added.

    Who loses the race again and again leaves it: the profiles are made again when they are asked for.
    """
    own = {day: [version, found.to_dict()] for day, (version, found) in made.items()}
    for _ in range(TRIES):
        there = lake.store.stat(name)
        profiles = own if alone else _raw(lake, name) | own
        data = gzip.compress(json.dumps({"profiles": profiles}, allow_nan=False).encode(), compresslevel=1, mtime=0)
        try:
            if there is None:
                lake.store.write(name, data, expect="absent")
            else:
                lake.store.write(name, data, generation=there.generation)
        except PreconditionFailed:
            continue
        return


def _raw(lake: Lake, name: str) -> dict[str, Any]:
    try:
        found = json.loads(gzip.decompress(lake.store.read(name)))["profiles"]
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}
