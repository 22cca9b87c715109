"""What was pushed to a feature view, durably: files in the lake beside the table that the view's asset writes.

`<lake>/_pushed/<table>/<day of event, UTC>/<hash of the rows>-<columns>.parquet`. A file is there whole or not at all, the same batch
twice is one file, and no file is ever changed, so writers need no lock. `compact` merges the small files of past days.

Besides the table's columns a row has `_received`, when the platform got it first: that is since when it was known, whatever its producer
says. Of rows with equal keys and times the online store keeps the one whose packed values sort last; `_packed` holds that text, and the
rows come in its order, so the join's rule (of equal rows the last one) finds the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.features.day_files import DayFiles
from ml_assets.features.point_in_time import FeatureError, require_columns, require_zone
from ml_assets.lake import Lake, content_hash

if TYPE_CHECKING:
    from ml_assets.features.reading import Period

FOLDER = "_pushed"
RECEIVED, PACKED = "_received", "_packed"
TIME = pl.Datetime("us", "UTC")
MERGED = "merged-"  # begins the name of a file that holds the rows of others
MEMBERS, MERGED_AT = "members", "merged_at"
RECENT = timedelta(days=2)  # days that still get most of their rows are not merged
GRACE = timedelta(hours=1)  # for readers that listed the files before they were merged
DAY = "_day"


class PushLog:
    """The rows that were pushed to one lake table; see the module. Many threads and processes may use it at once."""

    def __init__(self, lake_url: str, table: str) -> None:
        """`table` is a lake table such as `features/origin_weather`; nothing is touched before the first call."""
        self._lake, self._table = Lake(lake_url), table
        self._files = DayFiles(lake_url, f"{FOLDER}/{table}")

    def __repr__(self) -> str:
        """Show where."""
        return f"PushLog({self._lake.url!r}, {self._table!r})"

    def append(self, rows: pl.DataFrame, *, event_timestamp: str, received_at: datetime, packed: Sequence[str]) -> int:
        """Store rows, in the table's columns, and return how many are new; they are durable when it returns.

        `packed` is each row's features as `online.rows.Packing.pack` has them. A batch of several days is a file for each day: a crash
        may leave some of them, each whole. Rows of an identical batch of a day are not new. Raises `FeatureError` for rows without
        event time.
        """
        self._check(rows, event_timestamp)
        self._lake.mark()
        time = pl.col(event_timestamp).dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        stamped = rows.with_columns(
            time,
            pl.Series(PACKED, packed, dtype=pl.String),
            pl.lit(received_at.astimezone(UTC), dtype=TIME).alias(RECEIVED),
            time.dt.strftime("%Y-%m-%d").alias(DAY),
        ).unique(maintain_order=True)
        parts = stamped.partition_by(DAY, as_dict=True, include_key=False, maintain_order=True)
        days = [str(day) for (day,) in parts]
        if len(days) < 2:
            return sum(map(self._append, days, parts.values()))
        with ThreadPoolExecutor(min(8, len(days))) as pool:  # waiting for the disk or the network
            return sum(pool.map(self._append, days, parts.values()))

    def _append(self, day: str, part: pl.DataFrame) -> int:
        new = self._files.write(day, content_hash(part.drop(RECEIVED))[:20], part)
        return part.height if new else 0

    def versions(self, days: Collection[str] | None = None) -> dict[str, str]:
        """Return a hash of the files of each day that has some (default: all days), by one listing."""
        found = self._files.names(days)
        return {day: hashlib.sha256("\n".join(names).encode()).hexdigest()[:20] for day, names in found.items()}

    def scan(
        self,
        *,
        days: Collection[str] | None = None,
        period: Period | None = None,
        as_known_at: datetime | None = None,
    ) -> pl.LazyFrame | None:
        """Return the rows with `_received`, without `_packed` but in its order; None when there are none.

        Identical rows count once, with their first receipt. `days` and `period` (of the event timestamp) limit what is read;
        with `as_known_at` rows received later do not exist.
        """
        found = self._files.scan(_inside(self._files.names(days), period))
        if found is None:
            return None
        if period is not None:
            found = found.filter(_within(period))
        if as_known_at is not None:
            found = found.filter(pl.col(RECEIVED) <= as_known_at.astimezone(UTC))
        identical = [name for name in found.collect_schema().names() if name not in (RECEIVED, PACKED)]
        ordered = found.sort(PACKED, RECEIVED, maintain_order=True, nulls_last=False)
        return ordered.unique(identical, keep="first", maintain_order=True).drop(PACKED)

    def compact(self, *, now: datetime) -> int:
        """Merge the files of each day that is over for two days; return how many were merged or removed.

        What was merged is removed by a later call, an hour or more afterwards: a reader that listed it before loses nothing.
        """
        last = (now.astimezone(UTC) - RECENT).date()
        past = {day: names for day, names in self._files.names().items() if date.fromisoformat(day) < last}
        return sum(self._compact(day, names, now) for day, names in past.items())

    def _compact(self, day: str, names: Sequence[str], now: datetime) -> int:
        merged = {name: self._files.metadata(day, name) for name in names if name.startswith(MERGED)}
        within = {name: set(json.loads(about[MEMBERS])) for name, about in merged.items()}
        settled = [name for name in merged if datetime.fromisoformat(merged[name][MERGED_AT]) + GRACE <= now]
        gone = set(names) & {member for name in settled for member in within[name]}
        for name in gone:
            self._files.remove(day, name)
        live = [name for name in names if not any(name in members for members in within.values())]
        if len(live) < 2:
            return len(gone)
        self._merge(day, live, now)
        return len(gone) + len(live)

    def _merge(self, day: str, names: Sequence[str], now: datetime) -> None:
        found = self._files.scan({day: names})
        assert found is not None
        members = json.dumps(names)
        name = f"{MERGED}{hashlib.sha256(members.encode()).hexdigest()[:20]}"
        rows = found.sort(RECEIVED, PACKED, maintain_order=True).collect()
        self._files.write(day, name, rows, metadata={MEMBERS: members, MERGED_AT: now.isoformat()})

    def _check(self, rows: pl.DataFrame, event_timestamp: str) -> None:
        where = f"{self._table}, rows to push"
        require_columns([event_timestamp], rows.schema, where)
        require_zone(rows.schema[event_timestamp], event_timestamp, where)
        if nulls := rows[event_timestamp].null_count():
            raise FeatureError(f"{where}: {nulls} have no {event_timestamp!r}; say when their values were true")
        if reserved := sorted({RECEIVED, PACKED, DAY} & set(rows.columns)):
            raise FeatureError(f"{where}: columns {reserved} are the log's own; rename them")


def _inside(names: Mapping[str, Sequence[str]], period: Period | None) -> dict[str, Sequence[str]]:
    """Return the files of the days that the period touches; if none, those of one day, which know the columns."""
    first, last = (None, None) if period is None else (_day(period.first), _day(period.last))
    touched = {
        day: listed
        for day, listed in names.items()
        if (first is None or day >= first) and (last is None or day <= last)
    }
    return touched or dict(list(names.items())[:1])


def _day(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d")


def _within(period: Period) -> pl.Expr:
    time, found = pl.col(period.column), pl.lit(True)
    if period.first is not None:
        found &= time >= period.first.astimezone(UTC)
    return found if period.last is None else found & (time <= period.last.astimezone(UTC))
