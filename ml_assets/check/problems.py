"""What is wrong with a declared problem, beyond its form: its query, its columns, and what it asks of the feature store."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets import keys
from ml_assets.check import common
from ml_assets.check.documents import Keys
from ml_assets.check.fault import Fault
from ml_assets.check.shape import Declared
from ml_assets.check.tables import Tables, attempt
from ml_assets.features.on_demand import with_request_features
from ml_assets.features.point_in_time import ViewJoin, point_in_time_join
from ml_assets.preparation.observations import LABEL, LABEL_TIMESTAMP, Label, observed
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality.errors import nearest

if TYPE_CHECKING:
    from ml_assets.features.compiled import CompiledRepo, CompiledService

Schema = Mapping[str, pl.DataType]
LABELS: Mapping[str, Label] = {
    "probability": "binary",
    "probabilities": "classes",
    "value": "number",
    "cluster": "none",
}
"""What the label must be, by what the task answers with."""
QUERY: Keys = ("observations", "query")
MISSING = re.compile(
    r"unable to find column \"(?P<name>[^\"]+)\"|(?P<sql>\w+) column found; |column not found: (?P<other>\w+)"
)


def problem_faults(found: Declared, tables: Tables, repo: CompiledRepo | None) -> Iterator[Fault]:
    """Yield the faults of one problem; without `repo`, what Feast declares, those that need it are left out."""
    problem = found.component
    yield from common.owners(found, problem.owners)
    yield from common.days(found, problem.days)
    for field in ("monitoring", "retrain"):
        yield from common.cron(found, (field, "cron"), getattr(problem, field).cron)
    seen = yield from _observed(found, problem, tables)
    yield from _views(found, problem, tables)
    if seen is not None:
        yield from _observation_columns(found, problem, seen, tables)
        yield from _feature_columns(found, problem, seen, tables, repo)
    elif repo is not None:
        yield from _service(found, problem, repo)


# -- the query ---------------------------------------------------------------------------------------------------------


def _observed(found: Declared, problem: Any, tables: Tables) -> Generator[Fault, None, Schema | None]:
    """Yield what is wrong with the query; return its columns, None when they cannot be told."""
    named = problem.observations.tables
    known = tables.names()
    unknown = [table for table in named if table not in known]
    for table in unknown:
        about = nearest(keys.sql_name(table), map(keys.sql_name, known)).removeprefix("; ")
        fix = about or f"declare a source for it, or use one of: {', '.join(map(keys.sql_name, known))}"
        yield from found.fault(
            QUERY, f"no source declares the table {keys.sql_name(table)!r}", fix, about=keys.sql_name(table)
        )
    if not unknown and problem.days and not tables.partitioned(named[0]):
        sql = keys.sql_name(named[0])
        fix = "name a table with days first, or leave out `days`"
        yield from found.fault(QUERY, f"the first table, {sql!r}, has no days, but the problem has", fix, about=sql)
    frames = _frames(tables, {table: keys.sql_name(table) for table in named})
    if unknown or frames is None:
        return None
    result = attempt(lambda: _columns(problem, frames))
    if isinstance(result, str):
        yield from _refused_query(found, result, frames)
        return None
    return result


def _columns(problem: Any, frames: Mapping[str, pl.LazyFrame]) -> dict[str, pl.DataType]:
    """Return the columns of the query's result, checked as observations are; the first table's rows have a day."""
    label = LABELS[problem.task.plain().output]
    by_day, first = bool(problem.days), keys.sql_name(problem.observations.tables[0])
    if by_day:
        frames = {**frames, first: frames[first].with_columns(pl.lit(None, dtype=pl.String).alias(PARTITION))}
    result = observed(problem.observations.query, frames, by_day=by_day, supervised=label != "none", label=label)
    return {name: dtype for name, dtype in result.collect_schema().items() if name != PARTITION}


def _refused_query(found: Declared, message: str, frames: Mapping[str, pl.LazyFrame]) -> Iterator[Fault]:
    """Yield a refused query, at the column that it lacks and with the nearest one, if it is about a column."""
    match = MISSING.search(message)
    name = next(filter(None, match.groups()), "") if match else ""
    if not name:
        yield from found.refused(QUERY, message)
        return
    known = {column for frame in frames.values() for column in frame.collect_schema()}
    yield from common.no_column(found, QUERY, name, dict.fromkeys(sorted(known)), of=f"table {', '.join(frames)}")


def _observation_columns(found: Declared, problem: Any, seen: Schema, tables: Tables) -> Iterator[Fault]:
    """Yield columns that are named elsewhere and that the query does not give."""
    of = "the observations"
    yield from common.columns(found, ("observations", "key"), problem.observations.key, seen, of=of)
    views = (
        _frames(tables, {keys.feature_view(view): view for view in problem.features.views}) if problem.features else {}
    )
    if problem.features and views is not None:
        known = {**seen, **{name: dtype for view in views.values() for name, dtype in view.collect_schema().items()}}
        yield from common.columns(
            found, ("features", "ignore"), problem.features.ignore, known, of="observations and views"
        )
    group = problem.split.group
    if group and group not in seen:
        yield from common.no_column(found, ("split", "group"), group, seen, of=of)


# -- the feature store -------------------------------------------------------------------------------------------------


def _views(found: Declared, problem: Any, tables: Tables) -> Iterator[Fault]:
    """Yield views that nothing computes."""
    for number, view in enumerate(problem.features.views if problem.features else ()):
        if view not in tables.views:
            about = nearest(view, tables.views).removeprefix("; ")
            fix = about or "declare it in an ml_assets.FeatureViews"
            yield from found.fault(("features", "views", number), f"no FeatureViews declares the view {view!r}", fix)


def _feature_columns(
    found: Declared, problem: Any, seen: Schema, tables: Tables, repo: CompiledRepo | None
) -> Iterator[Fault]:
    """Yield what does not fit between observations and features, and names that are no column of the two together."""
    known: Schema | None = _without_outcome(seen)
    service = (yield from _service(found, problem, repo)) if repo is not None else None
    if problem.features:
        known = (yield from _joined(found, seen, tables, service)) if service else None
    if known is None:
        return  # what the service gives cannot be told, so no name can be called unknown
    of = "observations and features"
    yield from common.columns(found, ("success", "slices"), problem.success.slices, known, of=of)
    last = problem.features.last_value if problem.features else ""
    if last and last not in known:
        yield from common.no_column(found, ("features", "last_value"), last, known, of=of)


def _service(found: Declared, problem: Any, repo: CompiledRepo) -> Generator[Fault, None, CompiledService | None]:
    """Yield what is wrong with the service that the problem asks for; return it as Feast declares it, if it does."""
    if problem.features is None:
        return None
    wanted = problem.features.service
    service = repo.services.get(wanted)
    if service is None:
        about = (
            nearest(wanted, repo.services).removeprefix("; ") or f"declare it; there are: {', '.join(repo.services)}"
        )
        yield from found.fault(("features", "service"), f"Feast declares no feature service {wanted!r}", about)
        return None
    declared = list(problem.features.views)
    for number, view in enumerate(declared):
        if view not in service.views:
            fix = "take it out, or make a new version of the service with it"
            yield from found.fault(("features", "views", number), f"view {view!r} is not in service {wanted!r}", fix)
    if missing := [view for view in service.views if view not in declared]:
        problem_text = f"service {wanted!r} also reads {', '.join(missing)}"
        yield from found.fault(("features", "views"), problem_text, f"add to views: {', '.join(missing)}")
    return service


def _joined(
    found: Declared, seen: Schema, tables: Tables, service: CompiledService
) -> Generator[Fault, None, Schema | None]:
    """Join observations and features, without a row, by the join itself; return the columns, None when it refuses."""
    frames = _frames(tables, {keys.feature_view(view): view for view in service.views})
    if service.declared is None or frames is None:
        return None
    joins = [
        ViewJoin(
            name=view.name,
            frame=frames[view.name],
            keys=view.keys,
            features={feature.column: feature.output for feature in view.features},
            event_timestamp=view.event_timestamp,
            created_timestamp=view.created_timestamp,
            ttl=view.ttl,
        )
        for view in service.declared
    ]
    if not all(_fits(join) for join in joins):
        return None  # what is computed is not what Feast declares, which is told of the view
    rows = pl.DataFrame(schema=_without_outcome(seen))
    result = attempt(lambda: with_request_features(point_in_time_join(rows, joins), service.on_demand))
    if not isinstance(result, str):
        return dict(result.schema)
    yield from found.refused(QUERY, result)
    return None


def _fits(join: ViewJoin) -> bool:
    """Tell whether a view has the columns that Feast reads."""
    times = filter(None, (join.event_timestamp, join.created_timestamp))
    return {*join.keys.values(), *join.features, *times} <= set(join.frame.collect_schema())


def _frames(tables: Tables, names: Mapping[str, str]) -> dict[str, pl.LazyFrame] | None:
    """Return the tables without rows, under other names; None when the columns of one cannot be told."""
    found = {other: tables.frame(table) for table, other in names.items()}
    there = {other: frame for other, frame in found.items() if frame is not None}
    return there if len(there) == len(found) else None


def _without_outcome(seen: Schema) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in seen.items() if name not in (LABEL, LABEL_TIMESTAMP)}
