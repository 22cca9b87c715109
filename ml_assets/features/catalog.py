"""The catalog of the feature store: who owns which view, what is in it, how new it is, and who uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ml_assets import keys
from ml_assets.features.compiled import CompiledRepo, CompiledView
from ml_assets.features.describe import cell, distributions, picture, statistics, statistics_table
from ml_assets.features.lineage import Compute, LineageError, source_columns
from ml_assets.features.usage import User, users
from ml_assets.features.views import CREATED_TIMESTAMP, EVENT_TIMESTAMP, newest_event
from ml_assets.lake import Lake
from ml_assets.preparation.writing import PARTITION

FOR_EVER = "for ever"


@dataclass(frozen=True)
class Entry:
    """One view of the catalog. `ttl` None is for ever; `rows` None: its table was never written; `red` are partitions."""

    view: str
    description: str
    owner: str
    entity: tuple[str, ...]
    ttl: timedelta | None
    features: Mapping[str, str]
    rows: int | None
    newest_event: datetime | None
    red: tuple[str, ...]
    users: tuple[User, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-safe: `ttl_seconds`, times as ISO 8601 text, users as services and problems."""
        return {
            "view": self.view,
            "description": self.description,
            "owner": self.owner,
            "entity": list(self.entity),
            "ttl_seconds": self.ttl.total_seconds() if self.ttl else None,
            "features": dict(self.features),
            "rows": self.rows,
            "newest_event": self.newest_event.isoformat() if self.newest_event else None,
            "red": list(self.red),
            "used_by": [{"service": user.service, "problem": user.problem} for user in self.users],
        }


def catalog(repo: CompiledRepo, lake: Lake) -> list[Entry]:
    """Return one entry for each view that Feast declares, by name; rows and events are those of the view's lake table."""
    return [_entry(repo, view, lake) for _, view in sorted(repo.views.items())]


def _entry(repo: CompiledRepo, view: CompiledView, lake: Lake) -> Entry:
    table = keys.feature_view(view.name)
    live = lake.live(table)
    return Entry(
        view=view.name,
        description=view.description,
        owner=view.owner,
        entity=tuple(view.keys),
        ttl=view.declared.ttl,
        features=view.features,
        rows=sum(item.rows for item in live.values()) if live else None,
        newest_event=newest_event(lake, table),
        red=tuple(name for name, item in live.items() if item.red),
        users=tuple(users(repo.services, view.name)),
    )


def as_text(entries: Sequence[Entry]) -> str:
    """Return the catalog as a table of plain text, and below it the red partitions, if there are any."""
    head = ("view", "entity", "owner", "time to live", "features", "rows", "newest event (UTC)", "used by")
    rows = [head, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *(f"RED: {entry.view}: {', '.join(entry.red[:5])}" for entry in entries if entry.red)])


def _row(entry: Entry) -> tuple[str, ...]:
    return (
        entry.view,
        ", ".join(entry.entity),
        entry.owner or "nobody",
        in_words(entry.ttl),
        str(len(entry.features)),
        "no table" if entry.rows is None else f"{entry.rows:,}",
        f"{entry.newest_event:%Y-%m-%d %H:%M}" if entry.newest_event else "none",
        problems(entry.users),
    )


def problems(found: Sequence[User]) -> str:
    """Return the problems behind the users, in words."""
    return ", ".join(sorted({user.problem for user in found})) or "nobody"


def in_words(ttl: timedelta | None) -> str:
    """Return a time to live in words: "6 hours", "7 days", "for ever"."""
    if ttl is None:
        return FOR_EVER
    for unit, name in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"), (timedelta(minutes=1), "minute")):
        count, rest = divmod(ttl, unit)
        if not rest and count:
            return f"{count} {name}{'s' * (count != 1)}"
    return f"{ttl.total_seconds():g} seconds"


@dataclass(frozen=True)
class Lineage:
    """The columns of the source behind each feature; none, and the `reason`, when they cannot be told."""

    columns: Mapping[str, Sequence[str]]
    reason: str = ""


# -- what a view's page shows ------------------------------------------------------------------------------------------


def about(repo: CompiledRepo, view: str) -> dict[str, str]:
    """Return owner, description, entity, time to live and users of a view, as Feast declares them, in words."""
    declared, found = repo.views.get(view), users(repo.services, view)
    used = {"used by": "; ".join(map(str, found)) or "nobody"}
    if declared is None:
        return {"declared in Feast": f"no view {view!r}"} | used
    return {
        "owner": declared.owner or "nobody",
        "description": declared.description,
        "entity": ", ".join(f"{key} ({dtype})" for key, dtype in declared.keys.items()) or "none",
        "time to live": in_words(declared.declared.ttl),
    } | used


def features_of(frame: pl.DataFrame, entity: Sequence[str]) -> list[str]:
    """Return the columns of a computed view that are neither keys nor times nor the partition."""
    return [name for name in frame.columns if name not in (*entity, EVENT_TIMESTAMP, CREATED_TIMESTAMP, PARTITION)]


def features_table(repo: CompiledRepo, view: str, frame: pl.DataFrame, features: Sequence[str]) -> str:
    """Return a markdown table: type, description, share of nulls and statistics of each feature on the frame's rows."""
    declared = repo.views.get(view)
    types, texts = (declared.features, declared.descriptions) if declared else ({}, {})
    return f"{statistics_table(statistics(frame, features), types, texts)}\n\nOf {frame.height:,} rows."


def lineage_table(repo: CompiledRepo, view: str, source: str, found: Lineage) -> str:
    """Return a markdown table: the columns of the source that each feature is computed from, and who uses it."""
    if found.reason:
        return cell(found.reason)
    lines = [f"| feature | computed from, in {source} | used by |", "|---|---|---|"]
    for feature, read in found.columns.items():
        used = "; ".join(map(str, users(repo.services, view, feature))) or "nobody"
        lines.append(f"| {feature} | {', '.join(read) or 'nothing'} | {cell(used)} |")
    return "\n".join([*lines, "", "As Polars reads them: for the value, to filter rows, or to put them in order."])


def lineage(compute: Compute, source: pl.LazyFrame, features: Sequence[str], entity: Sequence[str]) -> Lineage:
    """Return which columns of the source each feature is computed from, or why that cannot be told."""
    schema = source.collect_schema()
    try:
        return Lineage(source_columns(compute, schema, features, beside=[*entity, EVENT_TIMESTAMP]))
    except LineageError as error:
        return Lineage({}, f"not applicable: {error}")


def page(repo: CompiledRepo, view: str, frame: pl.DataFrame, features: Sequence[str]) -> dict[str, str]:
    """Return what the view's page shows of these rows, as markdown by title: statistics, and the distributions drawn."""
    if not features:
        return {"features": "not applicable: the view has no features"}
    drawn = picture(distributions(frame, features), f"distributions of {view}")
    return {"features": features_table(repo, view, frame, features), "distributions": drawn}
