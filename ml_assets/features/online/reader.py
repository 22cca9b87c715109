"""Reading online features without Feast: one query for each view, values equal to Feast's `get_online_features`.

What a service is made of comes from the compiled repository; it is looked at once, when the reader is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ml_assets.features.compiled import CompiledRepo, CompiledView
from ml_assets.features.on_demand import POLARS_TYPES, OnDemand, with_request_features
from ml_assets.features.online.backends import Backend
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.rows import MICROSECOND, OnlineRow, Packing, micros, moment, pack_key
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.reading import DeclaredView

Status = Literal["present", "missing", "outside_ttl"]
KINDS: Mapping[str, type] = {
    "String": str,
    "Int32": int,
    "Int64": int,
    "Float32": float,
    "Float64": float,
    "Bool": bool,
    "Bytes": bytes,
    "UnixTimestamp": datetime,
}


@dataclass(frozen=True)
class OnlineAnswer:
    """What was asked for, by column; for each view when its values were true, and whether there were any.

    `values` has the keys as asked and the features; a feature is None when its view's row is missing, older than the TTL, or has none.
    """

    values: dict[str, list[Any]]
    events: dict[str, list[datetime | None]]
    statuses: dict[str, list[Status]]


class OnlineReader:
    """Answers for the feature services of one repository; safe to share between threads."""

    def __init__(self, repo: CompiledRepo, backend: Backend) -> None:
        """Nothing is read before the first question."""
        self._repo, self.backend = repo, backend
        self._plans: dict[str, list[ViewPlan]] = {}

    @classmethod
    def open(cls, repo: Path | str) -> OnlineReader:
        """Return the reader of an applied repository, over the online store that it names; see `repository_backend`."""
        side = OnlineSide.open(repo)
        return cls(side.repo, side.backend)

    def read(self, service: str, keys: Mapping[str, Sequence[Any]], *, now: datetime) -> dict[str, list[Any]]:
        """Return keys and features by column, in the order of the keys: `{"origin": ["EWR"], "temp": [39.0]}`.

        Raises `FeatureError` for an unknown service, a missing key column, keys of the wrong type or of different lengths.
        """
        return self.answer(service, keys, now=now).values

    def answer(self, service: str, keys: Mapping[str, Sequence[Any]], *, now: datetime) -> OnlineAnswer:
        """Return the same with event times and statuses."""
        plans = self._plan(service)
        _check_lengths(keys)
        found = OnlineAnswer({name: list(values) for name, values in keys.items()}, {}, {})
        for plan in plans:
            plan.check(keys)
            rows = self.backend.read(plan.view, plan.pack(keys))
            plan.fill(found, rows, now)
        _compute(found.values, self._repo.services[service].on_demand)
        return found

    def _plan(self, service: str) -> list[ViewPlan]:
        plans = self._plans.get(service)
        if plans is None:
            plans = self._plans[service] = list(_plans(self._repo, service))
        return plans


@dataclass(frozen=True)
class ViewPlan:
    """How one view of a service is read. `keys` are the asked columns in the order of the view's join keys, with their types."""

    view: str
    label: str
    keys: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    packing: Packing
    ttl: timedelta | None

    def check(self, asked: Mapping[str, Sequence[Any]]) -> None:
        """Raise `FeatureError` for keys that cannot be looked up."""
        for name, dtype in self.keys:
            if name not in asked:
                raise FeatureError(f"feature view {self.view!r}: no key {name!r}; it has {list(asked)}. Add the column")
            wanted = KINDS.get(dtype, object)
            for found in set(map(type, asked[name])) - {wanted, type(None)}:
                if wanted is not object:
                    example = next(value for value in asked[name] if type(value) is found)
                    raise FeatureError(
                        f"feature view {self.view!r}: key {name!r} has the value {example!r} ({found.__name__}), but is declared "
                        f"{dtype}; give {wanted.__name__}"
                    )

    def pack(self, asked: Mapping[str, Sequence[Any]]) -> list[str]:
        """Return the packed key of each row."""
        if len(self.keys) == 1:
            values = asked[self.keys[0][0]]
            packed = {value: pack_key((value,)) for value in set(values)}  # many rows ask for the same few entities
            return [packed[value] for value in values]
        if not self.keys:
            return [pack_key(())] * len(next(iter(asked.values()), ()))
        return [pack_key(row) for row in zip(*(asked[name] for name, _ in self.keys), strict=True)]

    def fill(self, answer: OnlineAnswer, rows: Sequence[OnlineRow | None], now: datetime) -> None:
        """Add the view's columns to the answer."""
        oldest = None if self.ttl is None else micros(now) - self.ttl // MICROSECOND
        statuses: list[Status] = [_status(row, oldest) for row in rows]
        unpacked: dict[str, dict[str, Any]] = {}
        shown = []
        for row, status in zip(rows, statuses, strict=True):
            if row is None or status != "present":
                shown.append(NOTHING)
                continue
            if row.key not in unpacked:
                unpacked[row.key] = self.packing.unpack(row.values)
            shown.append(unpacked[row.key])
        for name, output in self.outputs:
            answer.values[output] = [values.get(name) for values in shown]
        answer.statuses[self.label] = statuses
        answer.events[self.label] = [None if row is None else moment(row.event) for row in rows]


NOTHING: dict[str, Any] = {}


def view_plan(view: CompiledView, asked: DeclaredView | None = None, *, label: str | None = None) -> ViewPlan:
    """Return how a view is read: all its features, or those that a service's `asked` names, under its names for the keys."""
    joined = {stored: name for name, stored in view.declared.keys.items()}
    wanted = asked or view.declared
    names = sorted((joined[stored], alias) for alias, stored in wanted.keys.items())
    return ViewPlan(
        view=view.name,
        label=label or view.name,
        keys=tuple((alias, view.keys[name]) for name, alias in names),
        outputs=tuple((feature.name, feature.output) for feature in wanted.features),
        packing=Packing(view.features),
        ttl=wanted.ttl,
    )


def _plans(repo: CompiledRepo, service: str) -> Iterable[ViewPlan]:
    for asked, label in labelled_views(repo, service):
        yield view_plan(repo.views[asked.name], asked, label=label)


def labelled_views(repo: CompiledRepo, service: str) -> Iterator[tuple[DeclaredView, str]]:
    """Yield each view of a service with its name; one that is there again, under aliases, gets a number.

    Raises `FeatureError` for a service that is not there, or that only Feast can answer for.
    """
    if service not in repo.services:
        raise FeatureError(f"no feature service {service!r}; there are {sorted(repo.services)}")
    found = repo.services[service]
    if found.declared is None:
        raise FeatureError(f"feature service {service!r} can only be answered by Feast itself: {found.reason}")
    times: dict[str, int] = {}
    for view in found.declared:
        times[view.name] = times.get(view.name, 0) + 1
        yield view, view.name if times[view.name] == 1 else f"{view.name}_{times[view.name]}"


def _compute(values: dict[str, list[Any]], views: Sequence[OnDemand]) -> None:
    """Add the request-time features and drop what is only there for them."""
    if not views:
        return
    inputs = {item.name: item.declared for view in views for item in view.inputs if item.name in values}
    frame = pl.DataFrame([_typed(name, values[name], declared) for name, declared in inputs.items()])
    computed = with_request_features(frame, views)
    values |= {name: computed[name].to_list() for view in views for name in view.added.values()}
    for name in {hidden for view in views for hidden in view.hidden}:
        del values[name]


def _typed(name: str, values: Sequence[Any], declared: str) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=POLARS_TYPES[declared])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise FeatureError(f"request column {name!r} is declared {declared}: {reason}; give such values") from error


def _check_lengths(keys: Mapping[str, Sequence[Any]]) -> None:
    lengths = {name: len(values) for name, values in keys.items()}
    if len(set(lengths.values())) > 1:
        raise FeatureError(f"the keys have different lengths: {lengths}; give one value of each for every row")


def _status(row: OnlineRow | None, oldest: int | None) -> Status:
    if row is None:
        return "missing"
    return "outside_ttl" if oldest is not None and row.event < oldest else "present"
