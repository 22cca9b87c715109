"""Served requests replayed: what was answered then, against the point-in-time join that a training set would get.

A served row must be one that the table or the push log has, with the same values, and not older than what had been known for
`lag` when it was served (`KNOWN`): it takes a while to go online. An answer that was right then, but that a training set of today
contradicts, because a row or a correction came to be known later, is `late`: the model learns from what it will not see
when it serves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta

import polars as pl

from ml_assets.features.on_demand import OnDemand, with_request_features
from ml_assets.features.online.materialize import CREATED, EVENT, KNOWN, OnlineSource, all_rows
from ml_assets.features.online.parity import Parity
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.reader import labelled_views
from ml_assets.features.point_in_time import FeatureError, ViewJoin, point_in_time_join, require_columns
from ml_assets.features.reading import EVENT_TIMESTAMP, DeclaredView, partition_day

LAG = timedelta(hours=1)
SERVED_EVENT = "_event_"  # before the view's name, in the log: when the values were true
THEN, BEFORE, TODAY, KIND, ROW = "then", "before", "today", "_kind", "_row"
SAME, WAS_KNOWN, REVISED, HELD = "_same", "_was_known", "_revised", "held"
TIME = pl.Datetime("us", "UTC")


def replay(
    side: OnlineSide, service: str, served: pl.DataFrame, *, lag: timedelta = LAG, late_share: float = 0.0
) -> list[Parity]:
    """Return the outcome for each view of the service, on-demand views last.

    `served` has a row for each entity that was answered: `event_timestamp` (when), the join keys and request columns, the features,
    and `_event_<view>` for each view. Raises `FeatureError` for a service that is not known and for columns that are missing.
    """
    views = list(labelled_views(side.repo, service))
    on_demand = side.repo.services[service].on_demand
    hidden = {name for view in on_demand for name in view.hidden}
    outcomes, joined = [], served
    for view, label in views:
        differing, known = _replay_view(side.source(view.name), view, label, served, hidden, lag)
        outcomes.append(Parity(label, served.height, late_share))
        _count(outcomes[-1], differing, [item.output for item in view.features if item.output not in hidden], view.keys)
        joined = joined.with_columns(known)
    return outcomes + [_replay_request(view, served, joined) for view in on_demand]


def _replay_view(
    source: OnlineSource, view: DeclaredView, label: str, served: pl.DataFrame, hidden: Collection[str], lag: timedelta
) -> tuple[pl.DataFrame, list[pl.Series]]:
    """Return the served rows that differ, with their kind; and the features of all rows as they were known then."""
    event = f"{SERVED_EVENT}{label}"
    outputs = [feature.output for feature in view.features if feature.output not in hidden]
    require_columns([EVENT_TIMESTAMP, *view.keys, *outputs, event], served.schema, f"served requests of view {label!r}")
    first = served[EVENT_TIMESTAMP].min()
    assert isinstance(first, datetime)
    stored = all_rows(source, first)
    if stored is None:
        raise FeatureError(f"feature view {view.name!r} has no rows at all; materialize it first")
    rows = stored.collect().lazy()  # read once, joined four times
    asked = served.select(EVENT_TIMESTAMP, *view.keys)
    then = _join(source, view, asked, rows, THEN, known=timedelta())
    before = _join(source, view, asked, rows, BEFORE, known=lag)
    today = _join(source, view, asked, rows, TODAY, known=None)
    oldest = pl.lit(True) if view.ttl is None else pl.col(event) >= pl.col(EVENT_TIMESTAMP) - view.ttl
    there = served.with_columns(pl.when(oldest).then(pl.col(event)).alias(event)).with_row_index(ROW)
    found = there.join(_held(source, view, there, rows, event, outputs), on=ROW, how="left", maintain_order="left")
    found = _with_revisions(source, found, event, first)
    judged = found.hstack([*then, *before, *today]).with_columns(_kind(event, outputs).alias(KIND))
    known = [then[f"{THEN}{feature.output}"].alias(feature.output) for feature in view.features]
    return judged.filter(pl.col(KIND).is_not_null()).rename({event: SERVED_EVENT}), known


def _join(
    source: OnlineSource,
    view: DeclaredView,
    asked: pl.DataFrame,
    rows: pl.LazyFrame,
    prefix: str,
    *,
    known: timedelta | None,
) -> pl.DataFrame:
    """Return event time and features of each row from what had been known for the time `known`; None is all that is known today."""
    stored = {column: name for name, column in source.view.declared.keys.items()}
    joined = ViewJoin(
        name=view.name,
        frame=rows.with_columns(pl.col(KNOWN) + (known or timedelta())),
        keys={alias: stored[column] for alias, column in view.keys.items()},
        features={EVENT: f"{prefix}{SERVED_EVENT}"} | {item.name: f"{prefix}{item.output}" for item in view.features},
        event_timestamp=EVENT,
        created_timestamp=CREATED if known is None else KNOWN,
        ttl=view.ttl,
    )
    found = point_in_time_join(asked, [joined], known_at_event_time=known is not None)
    return found.drop(asked.columns)


def _held(
    source: OnlineSource,
    view: DeclaredView,
    served: pl.DataFrame,
    rows: pl.LazyFrame,
    event: str,
    outputs: Sequence[str],
) -> pl.DataFrame:
    """Return, for each served row whose moment the table or the log has, whether any version has its values or was known."""
    stored = {column: name for name, column in source.view.declared.keys.items()}
    keys = {alias: pl.col(stored[column]).alias(alias) for alias, column in view.keys.items()}
    names = {
        item.output: pl.col(item.name).alias(f"{HELD}{item.output}") for item in view.features if item.output in outputs
    }
    held = rows.select(*keys.values(), pl.col(EVENT).alias(event), KNOWN, *names.values())
    schema = held.collect_schema()
    asked = served.lazy().with_columns(pl.col(name).cast(schema[name]) for name in keys)
    values = [pl.col(name).eq_missing(pl.col(f"{HELD}{name}")) for name in outputs]
    return (
        asked.join(held, on=[*keys, event], how="inner")
        .group_by(ROW)
        .agg(
            pl.all_horizontal([pl.lit(True), *values]).any().alias(SAME),
            (pl.col(KNOWN) <= pl.col(EVENT_TIMESTAMP)).any().alias(WAS_KNOWN),
        )
        .collect()
    )


def _with_revisions(source: OnlineSource, served: pl.DataFrame, event: str, first: datetime) -> pl.DataFrame:
    """Add when the partitions around each row's moment were last written: what they held before, nobody can tell any more."""
    folders = source.lake.store.folders(source.table)
    latest: dict[date, datetime] = {}
    for name, manifest in source.lake.manifests(source.table, source.near(first, folders)).items():
        for day in _around(name, served[event]):
            latest[day] = max(manifest.written_at, latest.get(day, manifest.written_at))
    days = pl.DataFrame({"_day": list(latest), REVISED: list(latest.values())}, schema={"_day": pl.Date, REVISED: TIME})
    return served.with_columns(pl.col(event).dt.date().alias("_day")).join(
        days, on="_day", how="left", maintain_order="left"
    )


def _around(partition: str, moments: pl.Series) -> list[date]:
    """Return the days whose rows a partition may hold: those around its own, in whatever time zone, or all."""
    own = partition_day(partition)
    if own is None:
        return list(moments.drop_nulls().dt.date().unique())
    return [own + timedelta(days=shift) for shift in (-1, 0, 1)]


def _kind(event: str, outputs: Sequence[str]) -> pl.Expr:
    """Return how a served row differs; null when it does not."""
    served, before = pl.col(event), pl.col(f"{BEFORE}{SERVED_EVENT}")
    contradicted = ~_same(TODAY, event, outputs)
    revised = pl.col(REVISED) > pl.col(EVENT_TIMESTAMP)
    return (
        pl.when(served.is_null() & before.is_not_null())
        .then(pl.lit("missing"))
        .when(served.is_not_null() & pl.col(SAME).is_null() & ~revised.fill_null(False))
        .then(pl.lit("extra"))
        .when(pl.col(WAS_KNOWN) & ~pl.col(SAME))
        .then(pl.lit("mismatched"))
        .when(served < before)
        .then(pl.lit("stale"))
        .when(contradicted)
        .then(pl.lit("late"))
    )


def _same(prefix: str, event: str, outputs: Sequence[str]) -> pl.Expr:
    """Return whether a served row is the joined one: both absent, or of the same moment and with the same values."""
    moments = pl.col(event).eq_missing(pl.col(f"{prefix}{SERVED_EVENT}"))
    values = [pl.col(name).eq_missing(pl.col(f"{prefix}{name}")) for name in outputs]
    return moments & pl.all_horizontal([pl.lit(True), *values])


def _count(outcome: Parity, differing: pl.DataFrame, outputs: Sequence[str], keys: Iterable[str]) -> None:
    """Count the rows that differ; a late one is shown beside what is known today, the others beside what was known then."""
    for row in differing.iter_rows(named=True):
        kind = row[KIND]
        prefix = TODAY if kind == "late" else THEN
        pairs = {name: (row[name], row[f"{prefix}{name}"]) for name in (SERVED_EVENT, *outputs)}
        told = {"at" if name == SERVED_EVENT else name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        key = ", ".join(str(row[name]) for name in keys)
        outcome.add(
            kind,
            f"{key} at {row[EVENT_TIMESTAMP].isoformat()}",
            {name: pair[0] for name, pair in told.items()},
            {name: pair[1] for name, pair in told.items()},
        )


def _replay_request(view: OnDemand, served: pl.DataFrame, joined: pl.DataFrame) -> Parity:
    """Compute request-time features again, where what they are computed from is as it was served."""
    stored = [item.name for item in view.inputs if item.view and item.name in served]
    there = [name for name in view.added.values() if name in served]
    same = pl.all_horizontal([pl.lit(True), *(served[name].eq_missing(joined[name]) for name in stored)])
    rows = joined.with_columns(same.alias(KIND))
    computed = with_request_features(rows.drop(view.added.values(), strict=False), [view])
    outcome = Parity(view.name, int(rows[KIND].sum()))
    for name in there:
        differs = served[name].ne_missing(computed[name]) & rows[KIND]
        for row, value in zip(
            served.filter(differs).iter_rows(named=True), computed.filter(differs)[name], strict=True
        ):
            key = f"request at {row[EVENT_TIMESTAMP].isoformat()}"
            outcome.add("mismatched", key, {name: row[name]}, {name: value})
    return outcome
