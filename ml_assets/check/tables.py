"""The columns of every table that is declared: raw, clean, and of features; found on frames without rows, nothing is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, update_wrapper
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from ml_assets import keys
from ml_assets.check.shape import Declared
from ml_assets.collection.contract import LANDED_AT
from ml_assets.collection.values import MOMENT
from ml_assets.features.views import ViewError, compute_view
from ml_assets.preparation.writing import PARTITION
from ml_assets.resources.code import load

# What a person's own module or function may raise: every mistake in it is to be told, none is to end the check.
FAILURES = (
    pl.exceptions.PolarsError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """The columns of a table; None when they cannot be told, with what is wrong in the function that makes it, if it is."""

    schema: Mapping[str, pl.DataType] | None = None
    message: str = ""


@dataclass
class Tables:
    """All declared tables. Of two with one name the first counts, as the other is a fault anyway."""

    sources: Mapping[str, Declared]
    views: Mapping[str, tuple[Declared, Any]]
    _found: dict[str, Outcome] = field(default_factory=dict)

    @classmethod
    def of(cls, declarations: Sequence[Declared]) -> Tables:
        """Return the tables of all declarations."""
        sources = {item.name: item for item in reversed(declarations) if item.type == "Source" and item.name}
        bundles = [item for item in reversed(declarations) if item.type == "FeatureViews" and item.component]
        return cls(sources, {view.name: (item, view) for item in bundles for view in reversed(item.component.views)})

    def names(self) -> list[str]:
        """Return the names of all tables, such as raw/orders."""
        return [*self._of_sources(), *map(keys.feature_view, self.views)]

    def _of_sources(self) -> Iterator[str]:
        for name, item in self.sources.items():
            yield keys.raw(name)
            if item.component is None or item.component.clean:
                yield keys.clean(name)

    def schema(self, table: str) -> Mapping[str, pl.DataType] | None:
        """Return the columns of a declared table with their types; None when they cannot be told."""
        return self.outcome(table).schema

    def outcome(self, table: str) -> Outcome:
        """Return the columns of a table, or what is wrong with the function that computes them."""
        if table not in self._found:
            self._found[table] = Outcome()  # while it is made: a table that uses itself has no columns
            self._found[table] = self._outcome(table)
        return self._found[table]

    def partitioned(self, table: str) -> bool:
        """Tell whether a declared table has a partition for each day."""
        layer, _, name = table.partition("/")
        if layer == keys.FEATURES:
            return bool(name in self.views and self.views[name][1].partitioned)
        found = self.sources.get(name)
        return bool(found and found.component and found.component.days)

    def told(self, table: str) -> bool:
        """Tell whether the declaration of a table could be read."""
        layer, _, name = table.partition("/")
        return (
            name in self.views
            if layer == keys.FEATURES
            else bool(name in self.sources and self.sources[name].component)
        )

    def frame(self, table: str) -> pl.LazyFrame | None:
        """Return the table without rows; None when its columns cannot be told."""
        found = self.schema(table)
        return None if found is None else pl.LazyFrame(schema=dict(found))

    def _outcome(self, table: str) -> Outcome:
        layer, _, name = table.partition("/")
        if layer == keys.FEATURES:
            return self._view(*self.views[name]) if name in self.views else Outcome()
        found = self.sources.get(name)
        if found is None or found.component is None:
            return Outcome()
        return self._raw(found.component) if layer == keys.RAW else self._clean(found.component)

    def _raw(self, source: Any) -> Outcome:
        columns = attempt(lambda: {column.name: column.polars_type for column in source.contract().columns})
        return Outcome() if isinstance(columns, str) else Outcome({**columns, LANDED_AT: MOMENT})

    def _clean(self, source: Any) -> Outcome:
        raw = self.frame(keys.raw(source.name))
        if raw is None or source.clean is None:
            return Outcome()
        if not source.clean.derive:
            return self.outcome(keys.raw(source.name))
        if source.days:
            raw = raw.with_columns(pl.lit(None, dtype=pl.String).alias(PARTITION))
        found = self._run(
            source.clean.derive, raw, source.clean.uses, lambda derive, frame: derive(frame).collect_schema()
        )
        if found.schema is None or not source.days or PARTITION in found.schema:
            return found if found.schema is None else Outcome(_without_partition(found.schema))
        return Outcome(
            message=f"{source.clean.derive} drops the column {PARTITION!r}; keep it: it is the day of each row"
        )

    def _view(self, bundle: Declared, view: Any) -> Outcome:
        source = self.frame(view.source)
        if source is None:
            return Outcome()
        zone = bundle.component.time_zone
        zone = zone if is_time_zone(zone) else "UTC"  # it is told elsewhere
        found = self._run(
            view.compute,
            source,
            view.uses,
            lambda compute, frame: compute_view(compute, frame, time_zone=zone).schema,
        )
        return found if found.schema is None else Outcome(_without_partition(found.schema))

    def _run(
        self,
        path: str,
        source: pl.LazyFrame,
        uses: Sequence[str],
        schema: Callable[[Callable[..., pl.LazyFrame], pl.LazyFrame], Mapping[str, pl.DataType]],
    ) -> Outcome:
        """Return the columns that a function gives over a table without rows."""
        function = attempt(lambda: load(path))
        if isinstance(function, str):
            return Outcome(message=function)
        others = {keys.sql_name(table): self.frame(table) for table in uses}
        if any(frame is None for frame in others.values()):
            return Outcome()
        whole = update_wrapper(partial(function, **others), function)
        found = attempt(lambda: schema(whole, source))
        if not isinstance(found, str):
            return Outcome(found)
        return Outcome(message=f"{path} fails on a table without rows: {found}; correct it, a day may be empty")


def is_time_zone(name: str) -> bool:
    """Tell whether there is a time zone of that name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _without_partition(schema: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    return {name: dtype for name, dtype in schema.items() if name != PARTITION}


def attempt(run: Callable[[], T]) -> T | str:
    """Return what `run` returns, or in one line why it fails: of a message of this house the words, else with its kind."""
    try:
        return run()
    except (ViewError, ValueError) as error:
        return " ".join(str(error).split())
    except FAILURES as error:
        first = next(iter(str(error).splitlines()), "")
        return f"{type(error).__name__}: {first}" if first else type(error).__name__
