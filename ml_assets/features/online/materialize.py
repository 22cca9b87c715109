"""Bringing feature views online: what changed since the last time, and nothing else.

The online store remembers the version of every partition that it holds. A partition whose version is another one is read: the newest
row of each entity goes online when it is newer than what is there. For a partition that was online before (late data, a
correction) what it left behind is put right too: an entity whose row has vanished or moved back in time gets what the offline
join has for it now. Pushed rows count as partitions of their own, so what a crash kept from the online store is found.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from ml_assets.features.compiled import CompiledView
from ml_assets.features.on_demand import POLARS_TYPES
from ml_assets.features.online.backends import Backend
from ml_assets.features.online.rows import NEVER, PUSHED, Change, OnlineRow, Packing, keys_of, moment, spread
from ml_assets.features.point_in_time import FeatureError, ViewJoin, point_in_time_join, require_columns, require_zone
from ml_assets.features.push_log import RECEIVED, PushLog
from ml_assets.features.reading import Period, is_near, lake_table, location, partition_day
from ml_assets.lake import Lake, Live

EVENT, CREATED, ORIGIN, NOW = "_event", "_created", "_origin", "_now"
KNOWN = (
    "_known"  # since when the platform knew a row: its creation, or the receipt of what was pushed when that was later
)
PUSHED_DAY = "pushed/"  # before the day, in the remembered versions
FLOATS = ("Float32", "Float64")
TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class OnlineSource:
    """The table behind an online view: the lake table that its asset writes, and the log of what was pushed."""

    view: CompiledView
    lake: Lake
    table: str

    @property
    def pushed(self) -> PushLog | None:
        """Return the log of pushed rows; None for a view without a push source."""
        return PushLog(self.lake.url, self.table) if self.view.push_source else None

    def near(self, now: datetime, partitions: Collection[str]) -> list[str]:
        """Return the partitions that may hold a row that is no older than the TTL."""
        declared = self.view.declared
        served = Period(declared.event_timestamp, now - declared.ttl if declared.ttl else None, None)
        return [name for name in sorted(partitions) if is_near(partition_day(name), served)]


@dataclass(frozen=True)
class Materialized:
    """What was done: partitions by what they were, rows read, and entities written and removed online."""

    view: str
    new: Sequence[str]
    revised: Sequence[str]
    expired: Sequence[str]
    unchanged: int
    rows: int
    written: int
    removed: int
    newest_event: datetime | None


def online_source(view: CompiledView, *, repo: Path | str, lake_url: str | None = None) -> OnlineSource:
    """Return where an online view comes from; `FeatureError` when that is no table of a lake."""
    path = location(view.declared.path, repo, lake_url)
    found = lake_table(path)
    if found is None:
        raise FeatureError(
            f"feature view {view.name!r}: {path} is no table of a lake; materialize the view's asset first, or bring it online by "
            "`feast materialize`"
        )
    return OnlineSource(view, *found)


def materialize(
    source: OnlineSource, backend: Backend, *, now: datetime, partitions: Collection[str] | None = None
) -> Materialized:
    """Bring the given partitions (default: all) online as of `now`, and what was pushed. The work follows what changed.

    Partitions that are too old to be served are remembered unread. Rows of events later than `now` wait: their partition is looked at
    again next time. Raises `RedPartitionError` for red partitions, `FeatureError` for columns that are missing.
    """
    view = source.view.name
    current = source.lake.live(source.table, partitions)
    known = backend.versions(view, current)
    changed = {name for name, item in current.items() if known.get(name) != item.version}
    revised = changed & set(known)
    read = source.near(now, changed)
    # what is read is what the remembered versions are of, even when somebody writes meanwhile
    rows, later = _newest(source, _batch(source, {name: current[name] for name in read}), now)
    put_right, gone = _left_behind(source, backend, rows, revised, now)
    written = backend.apply(
        view,
        Change(
            rows=[*rows.values(), *put_right],
            revised=revised,
            gone=gone,
            versions={name: current[name].version for name in changed if name not in later},
        ),
    )
    pushed = _push(source, backend, now)
    newest = max((row.event for row in [*rows.values(), *pushed.rows]), default=None)
    return Materialized(
        view=view,
        new=sorted(set(read) - revised),
        revised=sorted(revised),
        expired=sorted(changed - set(read)),
        unchanged=len(current) - len(changed),
        rows=len(rows) + len(pushed.rows),
        written=written + pushed.written,
        removed=len(gone),
        newest_event=None if newest is None else moment(newest),
    )


def joined_as_of(source: OnlineSource, keys: Sequence[str], now: datetime) -> pl.DataFrame:
    """Return the join keys, features and times (`EVENT`, `CREATED`, `ORIGIN`) of each packed key, as the offline join has them at `now`.

    Keys without a row are left out.
    """
    asked, rows, declared = _unpacked(source, keys), all_rows(source, now), source.view.declared
    if rows is None:
        return asked.clear().with_columns(pl.lit(None, dtype=TIME).alias(EVENT))
    names = (EVENT, CREATED, ORIGIN, *source.view.features)
    view = ViewJoin(
        name=source.view.name,
        frame=rows,
        keys={name: name for name in declared.keys},
        features={name: name for name in names},
        event_timestamp=EVENT,
        created_timestamp=CREATED,
        ttl=declared.ttl,
    )
    asked = asked.with_columns(pl.lit(now, dtype=TIME).alias(NOW))
    return point_in_time_join(asked, [view], event_timestamp=NOW).drop_nulls(EVENT)


def offline_keys(source: OnlineSource, now: datetime, *, most: int) -> list[str]:
    """Return up to `most` keys, evenly spread, of the rows that may be online at `now`."""
    rows = all_rows(source, now)
    names = sorted(source.view.keys)
    if rows is None:
        return []
    if not names:
        return keys_of(pl.DataFrame({"": [0]}), ())
    found = rows.filter(pl.col(EVENT) <= now).select(names).drop_nulls().unique().sort(names).collect()
    return spread(keys_of(found, names), most)


# -- reading -----------------------------------------------------------------------------------------------------------


def _batch(source: OnlineSource, live: Mapping[str, Live]) -> pl.LazyFrame | None:
    if not live:
        return None
    return _renamed(source, source.lake.scan(source.table, live=live, partition_column=ORIGIN))


def all_rows(source: OnlineSource, now: datetime) -> pl.LazyFrame | None:
    """Return all rows that may count from `now` on, pushed ones first: of equal times the last one counts.

    Columns: the join keys and features under their declared names, `EVENT`, `CREATED`, `KNOWN` and `ORIGIN`. None without any.
    """
    there = source.lake.store.folders(source.table)
    near = source.near(now, there) or there[:1]  # no row of that one counts, but it knows the columns
    found = [_batch(source, source.lake.live(source.table, near))]
    if source.pushed:
        pushed = source.pushed.scan(days=source.near(now, source.pushed.versions()))
        found.insert(0, None if pushed is None else _renamed(source, pushed.with_columns(pl.lit(PUSHED).alias(ORIGIN))))
    frames = [frame for frame in found if frame is not None]
    return pl.concat(frames, how="vertical_relaxed") if frames else None


def _renamed(source: OnlineSource, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return the rows under the declared names: keys, features, and the helper columns; floats are floats."""
    declared, where = source.view.declared, f"feature view {source.view.name!r}"
    schema = rows.collect_schema()
    columns = [feature.column for feature in declared.features]
    times = [name for name in (declared.event_timestamp, declared.created_timestamp) if name]
    require_columns([*declared.keys.values(), *columns, *times], schema, where)
    for name in times:
        require_zone(schema[name], name, where)
    created = (pl.col(declared.created_timestamp) if declared.created_timestamp else pl.lit(None)).cast(TIME)
    known = pl.max_horizontal(created, *([RECEIVED] if RECEIVED in schema else []))
    if not declared.created_timestamp:
        known = pl.col(declared.event_timestamp).cast(TIME)  # nothing else is said
    return rows.select(
        *(pl.col(stored).alias(name) for name, stored in declared.keys.items()),
        *(
            (pl.col(item.column).cast(pl.Float64) if item.declared in FLOATS else pl.col(item.column)).alias(item.name)
            for item in declared.features
        ),
        pl.col(declared.event_timestamp).cast(TIME).alias(EVENT),
        created.alias(CREATED),
        known.alias(KNOWN),
        ORIGIN,
    )


def _newest(source: OnlineSource, rows: pl.LazyFrame | None, now: datetime) -> tuple[dict[str, OnlineRow], set[str]]:
    """Return the newest row of each entity by key, and the partitions with rows of events that have not happened."""
    if rows is None:
        return {}, set()
    names = list(source.view.keys)
    found = rows.drop_nulls([EVENT, *names]).sort(EVENT, CREATED, maintain_order=True).collect()
    happened = found.filter(pl.col(EVENT) <= now)
    newest = happened.unique(names, keep="last", maintain_order=True) if names else happened.tail(1)
    later = set(found.filter(pl.col(EVENT) > now)[ORIGIN].unique().to_list())
    return {row.key: row for row in _packed(source, newest)}, later


def _left_behind(
    source: OnlineSource, backend: Backend, rows: Mapping[str, OnlineRow], revised: Collection[str], now: datetime
) -> tuple[list[OnlineRow], list[str]]:
    """Return what entities get whose online row came from a revised partition that no longer has it, and who gets nothing."""
    if not revised:
        return [], []
    orphans = [
        held.key
        for held in backend.rows(source.view.name, revised)
        if held.key not in rows or (rows[held.key].event, rows[held.key].created) < (held.event, held.created)
    ]
    found = _packed(source, joined_as_of(source, orphans, now)) if orphans else []
    there = {row.key for row in found}
    return found, [key for key in orphans if key not in there]


@dataclass(frozen=True)
class _Pushed:
    rows: Sequence[OnlineRow] = ()
    written: int = 0


def _push(source: OnlineSource, backend: Backend, now: datetime) -> _Pushed:
    """Write online what was pushed but did not get there."""
    if source.pushed is None:
        return _Pushed()
    current = source.pushed.versions()
    known = backend.versions(source.view.name, [PUSHED_DAY + day for day in current])
    changed = [day for day, version in current.items() if known.get(PUSHED_DAY + day) != version]
    read = source.near(now, changed)
    scanned = source.pushed.scan(days=read) if read else None
    if scanned is not None:
        scanned = _renamed(source, scanned.with_columns(pl.lit(PUSHED).alias(ORIGIN)))
    rows, later = _newest(source, scanned, now)
    versions = {} if later else {PUSHED_DAY + day: current[day] for day in changed}
    return _Pushed(list(rows.values()), backend.apply(source.view.name, Change(list(rows.values()), versions=versions)))


# -- between frames and rows -------------------------------------------------------------------------------------------


def _packed(source: OnlineSource, frame: pl.DataFrame) -> list[OnlineRow]:
    if frame.is_empty():
        return []
    values = Packing(source.view.features).pack_all(frame)
    created = frame[CREATED].to_physical().fill_null(NEVER)
    columns = (keys_of(frame, list(source.view.keys)), frame[EVENT].to_physical(), created, frame[ORIGIN], values)
    return [OnlineRow(*row) for row in zip(*columns, strict=True)]


def _unpacked(source: OnlineSource, keys: Sequence[str]) -> pl.DataFrame:
    """Return packed keys as the join key columns."""
    types = {name: source.view.keys[name] for name in sorted(source.view.keys)}
    if not types:
        return pl.DataFrame({"_row": range(len(keys))})
    packing = Packing(types)
    rows = [packing.decoded(dict(zip(types, json.loads(key), strict=True))) for key in keys]
    return pl.DataFrame(rows, schema={name: POLARS_TYPES[dtype] for name, dtype in types.items()})
