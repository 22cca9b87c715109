"""From entity keys to the rows that a model reads: features from the online store, and what only the caller knows.

An entity that the store does not know is answered as well: its features are null, which training knew, and the answer says so.
"""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.reader import OnlineReader, labelled_views, view_plan
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push import REFRESH_SECONDS
from ml_assets.features.reading import EVENT_TIMESTAMP
from ml_assets.features.served import asked_types, served_types

UNREACHABLE = (OSError, sqlite3.Error, RedisError)
Rows = list[dict[str, Any]]
Entities = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Looked:
    """Rows of what the store answered beside what the caller sent, and by row the status of each view."""

    rows: Rows
    statuses: list[dict[str, str]]


@dataclass(frozen=True)
class Asked:
    """What a feature service is asked with, by name with Feast's types, and the columns that it answers with."""

    keys: Mapping[str, str]
    columns: Mapping[str, str]
    online: frozenset[str]


class OnlineFeatures:
    """The features of one service, as of now; safe to share between threads. Nothing is read before the first question."""

    def __init__(
        self,
        service: str,
        *,
        clock: Callable[[], datetime],
        opened: Callable[[], OnlineSide],
    ) -> None:
        """`opened` returns the online side of the repository as applied; it is asked again every few seconds."""
        self.service = service
        self._newest: dict[str, datetime] = {}
        self._clock, self._opened = clock, opened
        self._lock, self._looked = threading.Lock(), -math.inf
        self._side: OnlineSide | None = None

    @classmethod
    def of(cls, repo: Path | str, service: str, *, clock: Callable[[], datetime]) -> OnlineFeatures:
        """Return the features of a service of a Feast repository, from the online store that it names."""
        return cls(service, clock=clock, opened=lambda: OnlineSide.open(repo))

    def asked(self) -> Asked:
        """Return what the service is asked with. `FeatureError` when the repository does not have it."""
        self._current()
        return self._asked

    def look_up(self, entities: Entities) -> Looked:
        """Return keys, request columns, other columns as sent, and the features of each entity.

        Raises `FeatureError` for request columns that a request-time feature cannot take, and what a store that cannot be reached raises.
        """
        reader, now, names = self._current(), self._clock(), [*self._asked.keys, *self._asked.columns]
        asked: dict[str, list[Any]] = {name: [row[name] for row in entities] for name in names}
        if self._timed:
            asked[EVENT_TIMESTAMP] = [now] * len(entities)
        found = reader.answer(self.service, asked, now=now)
        self._note(found.events)
        values = zip(*found.values.values(), strict=True)
        rows = [
            dict(sent) | dict(zip(found.values, row, strict=True)) for sent, row in zip(entities, values, strict=True)
        ]
        by_row = [dict(zip(found.statuses, row, strict=True)) for row in zip(*found.statuses.values(), strict=True)]
        return Looked(rows, [dict(one) for one in by_row] or [{} for _ in rows])

    def ages(self) -> dict[str, float]:
        """Return by view the seconds since the newest value that was answered was true."""
        now = self._clock()
        return {view: (now - moment).total_seconds() for view, moment in dict(self._newest).items()}

    def red(self) -> list[str]:
        """Return the views of the service whose last parity check was red; raises what a store that cannot be reached raises."""
        self._current()
        assert self._side
        return sorted(
            view for view, verdict in self._side.backend.verdicts().items() if verdict and view in self._views
        )

    def _note(self, events: Mapping[str, Sequence[datetime | None]]) -> None:
        for view, moments in events.items():
            known = [moment for moment in moments if moment is not None]
            if known:
                self._newest[view] = max(*known, self._newest.get(view, known[0]))

    def _current(self) -> OnlineReader:
        """Return the reader of the repository as applied."""
        with self._lock:
            if self._side is None or time.monotonic() - self._looked > REFRESH_SECONDS:
                self._look()
                self._looked = time.monotonic()
            return self._reader

    def _look(self) -> None:
        try:
            found = self._opened()
            if self._side is None or found.repo != self._side.repo:
                self._plan(found)
        except (FeatureError, *UNREACHABLE):
            if self._side is None:
                raise  # else what was read before goes on

    def _plan(self, side: OnlineSide) -> None:
        repo = side.repo
        views = list(labelled_views(repo, self.service))
        asked = asked_types(repo, self.service)
        keys = {name for view, label in views for name, _ in view_plan(repo.views[view.name], view, label=label).keys}
        self._views = {view.name for view, _ in views}
        self._timed = any(
            item.name == EVENT_TIMESTAMP for view in repo.services[self.service].on_demand for item in view.request
        )
        self._asked = Asked(
            {name: kind for name, kind in asked.items() if name in keys},
            {name: kind for name, kind in asked.items() if name not in keys},
            frozenset(set(served_types(repo, self.service)) - set(asked)),
        )
        self._reader, self._side = OnlineReader(repo, side.backend), side


def model_rows(rows: Sequence[Mapping[str, Any]], features: Mapping[str, str]) -> Rows:
    """Return the model's features of each row in the types that it reads: Float64, Boolean or String; null where a value is not finite."""
    readers = {name: READERS[kind] for name, kind in features.items()}
    return [
        {name: None if (value := row.get(name)) is None else read(value) for name, read in readers.items()}
        for row in rows
    ]


def _finite(value: Any) -> float | None:
    found = float(value)
    return found if math.isfinite(found) else None


READERS: Mapping[str, Callable[[Any], Any]] = {"Float64": _finite, "Boolean": bool, "String": str}
