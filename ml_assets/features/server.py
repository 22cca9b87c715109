"""The feature server: pushes that are durable when they are answered, and online features with every answer logged.

Without API keys it serves the machine that it runs on and nobody else. FastAPI is imported at the top because the bodies derive from
pydantic's models; only `ml-assets feature-server` and tests import this module.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from ml_assets.features.compiled import CompiledRepo
from ml_assets.features.guard import Guard, refuse_open, require_hashes
from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.place import repository_backend
from ml_assets.features.online.reader import OnlineAnswer, OnlineReader
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push import REFRESH_SECONDS, Fault, Pusher, PushError, read_value, told
from ml_assets.features.reading import EVENT_TIMESTAMP
from ml_assets.features.served import ServedLog, asked_types, served_rows, served_types

MOST_ENTITIES = 10_000
FLUSH_EVERY = 1.0  # seconds between looks at the logs
COMPACT_EVERY = 3600.0  # seconds between looks at what was pushed on past days
UNREACHABLE = (OSError, sqlite3.Error, RedisError)


class PushBody(BaseModel):
    """Rows for a push source: join keys, features, the event timestamp, and optionally the created timestamp."""

    model_config = ConfigDict(strict=True, extra="forbid")
    push_source_name: str = Field(examples=["station_reports"])
    rows: list[dict[str, Any]] = Field(
        examples=[[{"station": "A1", "event_timestamp": "2026-11-03T12:00:00Z", "temperature": 3.5, "gusts": None}]]
    )


class FeaturesBody(BaseModel):
    """Join keys and request columns, as columns of one length."""

    model_config = ConfigDict(strict=True, extra="forbid")
    entities: dict[str, list[Any]] = Field(examples=[{"station": ["A1", "B2"]}])


class PushAnswer(BaseModel):
    """What an acknowledged push did: rows pushed, rows that were new, and the views that they went to."""

    rows: int = Field(examples=[1])
    new: int = Field(examples=[1])
    views: list[str] = Field(examples=[["station_weather"]])


class FeaturesAnswer(BaseModel):
    """Values by column; by view the status of each row and when its values were true.

    A float that JSON cannot have is null in `values`, and named in `not_finite` by column and row.
    """

    request: str = Field(examples=["5f0c6a1e9b1d4c0f8a7e3d2c1b0a9f8e"])
    values: dict[str, list[Any]] = Field(examples=[{"station": ["A1", "B2"], "temperature": [3.5, None]}])
    statuses: dict[str, list[str]] = Field(examples=[{"station_weather": ["present", "outside_ttl"]}])
    event_timestamps: dict[str, list[str | None]] = Field(
        examples=[{"station_weather": ["2026-11-03T12:00:00+00:00", "2026-11-02T23:00:00+00:00"]}]
    )
    not_finite: dict[str, dict[str, str]] = Field(examples=[{}])


class FaultAnswer(BaseModel):
    """One thing that is wrong with a request; `row` counts from 0, null when it is not about one row."""

    row: int | None = Field(examples=[3])
    field: str = Field(examples=["temperature"])
    value: str = Field(examples=["'warm'"])
    problem: str = Field(examples=["is no number; send a number"])


class RefusedAnswer(BaseModel):
    """Everything that is wrong with a request, of which nothing was done."""

    detail: list[FaultAnswer]


# -- what it does ------------------------------------------------------------------------------------------------------


@dataclass
class _Service:
    """What the server keeps for one feature service."""

    asked: Mapping[str, str]
    types: Mapping[str, pl.DataType]
    log: ServedLog


class FeatureServer:
    """Everything but HTTP; safe to share between threads."""

    def __init__(
        self,
        repo: Path,
        *,
        lake_url: str,
        clock: Callable[[], datetime],
        online_url: str | None = None,
        sampled: float = 1.0,
    ) -> None:
        """`sampled` is the share of requests, 0 to 1, that is logged. Nothing is read before the first request."""
        self._root, self._lake_url, self._clock, self._sampled = repo.resolve(), lake_url, clock, sampled
        self._online_url = online_url
        self._looked = -math.inf
        self._backend: Backend | None = None
        self._repo: CompiledRepo | None = None
        self._services: dict[str, _Service] = {}
        self._logs: dict[str, ServedLog] = {}

    def push(self, source: str, rows: Sequence[Mapping[str, Any]]) -> PushAnswer:
        """See `Pusher.push`."""
        self._current()
        done = self._pusher.push(source, rows, now=self._clock())
        return PushAnswer(rows=done.rows, new=done.new, views=list(done.views))

    def features(self, service: str, entities: Mapping[str, Sequence[Any]]) -> tuple[str, OnlineAnswer]:
        """Return the request's number and the answer, and log it. `KeyError` for an unknown service, `PushError` for faults."""
        repo, now, request = self._current(), self._clock(), uuid4()
        known = self._service(repo, service)
        asked = _asked(service, known.asked, entities)
        if any(item.name == EVENT_TIMESTAMP for view in repo.services[service].on_demand for item in view.request):
            asked[EVENT_TIMESTAMP] = [now] * len(next(iter(asked.values()), []))
        answer = self._reader.answer(service, asked, now=now)
        if request.int < self._sampled * 2**128:
            known.log.record(served_rows(answer, known.types, request=request.hex, now=now))
        return request.hex, answer

    def answer_rows(self, service: str, rows: pl.DataFrame) -> dict[str, list[Any]]:
        """Answer for what the service asks of the columns in `rows`, and return the values by column; see `features`."""
        types = self._service(self._current(), service).asked
        floats = [name for name, dtype in types.items() if dtype.startswith("Float") and name in rows.columns]
        asked = rows.select(name for name in types if name in rows.columns).cast(dict.fromkeys(floats, pl.Float64))
        return self.features(service, asked.to_dict(as_series=False))[1].values

    def red(self) -> list[str]:
        """Return the views whose last parity check was red, sorted."""
        self._current()
        assert self._backend
        return sorted(view for view, verdict in self._backend.verdicts().items() if verdict)

    def flush(self, *, due: bool = False) -> None:
        """Write the logs, or those that are `due`; rows that could not be written stay."""
        for log in list(self._logs.values()):
            if log.due() or not due:
                log.flush()

    def compact(self) -> int:
        """Merge the small files of what was pushed on past days; see `Pusher.compact`."""
        self._current()
        return self._pusher.compact(now=self._clock())

    def logged(self) -> dict[str, dict[str, int]]:
        """Return for each service how many rows were written, wait, were dropped, and how many writes failed."""
        return {
            name: {"written": log.written, "waiting": log.waiting, "dropped": log.dropped, "failed": log.failed}
            for name, log in list(self._logs.items())
        }

    def _current(self) -> CompiledRepo:
        """Return the repository as applied; looked at every few seconds."""
        if self._repo is None or time.monotonic() - self._looked > REFRESH_SECONDS:
            from ml_assets.features.retrieval import applied_repo

            found = applied_repo(self._root)
            if self._backend is None:
                self._backend = self._opened(found.project)
                self._pusher = Pusher(self._root, lake_url=self._lake_url, backend=self._backend)
            if found != self._repo:
                self._reader, self._services, self._repo = OnlineReader(found, self._backend), {}, found
            self._looked = time.monotonic()
        assert self._repo
        return self._repo

    def _opened(self, project: str) -> Backend:
        return (
            open_backend(self._online_url, project=project)
            if self._online_url
            else repository_backend(self._root, project=project)
        )

    def _service(self, repo: CompiledRepo, name: str) -> _Service:
        if name not in self._services:
            if name not in repo.services:
                raise KeyError(name)
            log = self._logs.setdefault(name, ServedLog(self._lake_url, name))
            self._services[name] = _Service(asked_types(repo, name), served_types(repo, name), log)
        return self._services[name]


def _asked(service: str, types: Mapping[str, str], entities: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Return the columns in Python's types; `PushError`, which names every fault, when they are not what the service needs."""
    found: dict[str, list[Any]] = {}
    faults = list(_shape_faults(types, entities))
    for name, values in entities.items():
        found[name] = []
        for row, value in enumerate(values if name in types else ()):
            try:
                found[name].append(None if value is None else read_value(value, types[name]))
            except ValueError as error:
                faults.append(Fault(row, name, told(value), str(error)))
    if faults:
        raise PushError(service, faults)
    return found


def _shape_faults(types: Mapping[str, str], entities: Mapping[str, Sequence[Any]]) -> Iterator[Fault]:
    for name in types:
        if name not in entities:
            yield Fault(None, name, "", f"is missing; the service needs {list(types)}")
    for name in entities:
        if name not in types:
            yield Fault(None, name, "", f"is not asked for; the service needs {list(types)}")
    lengths = {name: len(values) for name, values in entities.items()}
    if len(set(lengths.values())) > 1:
        yield Fault(None, "entities", str(lengths), "the columns have different lengths")
    if max(lengths.values(), default=0) > MOST_ENTITIES:
        yield Fault(None, "entities", str(lengths), f"there are more than {MOST_ENTITIES} rows; ask several times")


def _answer(request: str, answer: OnlineAnswer) -> dict[str, Any]:
    """Return an answer as JSON can have it."""
    odd: dict[str, dict[str, str]] = {}
    for name, values in answer.values.items():
        found = {str(row): str(value) for row, value in enumerate(values) if _not_finite(value)}
        if found:
            odd[name] = found
    return {
        "request": request,
        "values": {name: [_plain(value) for value in values] for name, values in answer.values.items()},
        "statuses": answer.statuses,
        "event_timestamps": {view: [_plain(item) for item in moments] for view, moments in answer.events.items()},
        "not_finite": odd,
    }


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return None if _not_finite(value) else value


# -- HTTP --------------------------------------------------------------------------------------------------------------


def create_app(
    repo: Path,
    *,
    lake_url: str,
    clock: Callable[[], datetime],
    online_url: str | None = None,
    api_keys: Collection[str] = (),
    sampled: float = 1.0,
) -> FastAPI:
    """Return the application over an applied Feast repository.

    `online_url`: instead of the online store that feature_store.yaml names. `api_keys`: SHA-256 hashes of the keys that are let in.
    `sampled`: the share of answers that is logged. Raises `FeatureError` for a key that is no hash.
    """
    server = FeatureServer(repo, lake_url=lake_url, clock=clock, online_url=online_url, sampled=sampled)
    app = FastAPI(
        title="Feature server",
        description="Pushes rows to feature views, durably, and answers with online features.",
        lifespan=lambda _: _housekeeping(server),
        responses={401: {"description": "No valid API key"}, 403: {"description": "Not from this machine"}},
    )
    app.state.server = server
    app.add_middleware(Guard, key_hashes=require_hashes(api_keys))
    _add_errors(app)
    _add_routes(app, server)
    return app


def _add_routes(app: FastAPI, server: FeatureServer) -> None:
    refused: dict[int | str, dict[str, Any]] = {
        413: {"description": "Body too large"},
        422: {"description": "Nothing was done; everything that is wrong", "model": RefusedAnswer},
        503: {"description": "A store cannot be reached; try again, which is harmless"},
    }

    @app.post("/push", responses=refused)
    def push(body: PushBody) -> PushAnswer:
        """Store rows; they are durable and online when the answer comes. Again, late or in another order is harmless."""
        return server.push(body.push_source_name, body.rows)

    @app.post(
        "/features/{service}",
        response_model=FeaturesAnswer,
        responses=refused | {404: {"description": "No such feature service"}},
    )
    def features(service: str, body: FeaturesBody) -> Response:
        """Return the service's features of each entity as of now. What is older than its view's TTL is null."""
        try:
            found = server.features(service, body.entities)
        except KeyError as error:
            raise HTTPException(404, f"there is no feature service {service!r}") from error
        return JSONResponse(_answer(*found))

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Tell that the server runs, and how much of its log was written."""
        return {"status": "running", "served": server.logged()}

    @app.get("/ready", responses={503: {"description": "Not to be asked, and why"}})
    def ready() -> Response:
        """Tell whether the answers can be relied on: the online store answers, and no view's parity check is red."""
        try:
            red = server.red()
        except UNREACHABLE as error:
            return JSONResponse({"ready": False, "reason": f"no online store: {type(error).__name__}"}, 503)
        reason = f"the last parity check was red for {red}; materialize them again" if red else ""
        return JSONResponse({"ready": not red, "reason": reason}, 503 if red else 200)


def _add_errors(app: FastAPI) -> None:
    def refused(faults: Sequence[Fault]) -> Response:
        return JSONResponse({"detail": [one.to_dict() for one in faults]}, 422)

    def wrong(_: Request, error: Exception) -> Response:
        if isinstance(error, PushError):
            return refused(error.faults)
        return refused([Fault(None, "request", "", str(error))])

    def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # its own answer repeats the input, which may be NaN
        return refused(
            [Fault(None, ".".join(map(str, item["loc"][1:])) or "body", "", item["msg"]) for item in error.errors()]
        )

    def unreachable(_: Request, error: Exception) -> Response:
        return JSONResponse({"detail": f"a store cannot be reached ({type(error).__name__}); try again"}, 503)

    app.add_exception_handler(FeatureError, wrong)
    app.add_exception_handler(RequestValidationError, invalid)
    for kind in UNREACHABLE:
        app.add_exception_handler(kind, unreachable)


@contextlib.asynccontextmanager
async def _housekeeping(server: FeatureServer) -> AsyncIterator[None]:
    """Write the logs while the server runs and once more when it ends, and merge old files. What fails is tried again later."""

    async def again(every: float, work: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(every)
            await asyncio.gather(asyncio.to_thread(work), return_exceptions=True)

    flushing = asyncio.create_task(again(FLUSH_EVERY, lambda: server.flush(due=True)))
    compacting = asyncio.create_task(again(COMPACT_EVERY, server.compact))
    yield
    flushing.cancel()
    compacting.cancel()
    await asyncio.gather(flushing, compacting, asyncio.to_thread(server.flush), return_exceptions=True)


def serve(app: FastAPI, *, host: str = "127.0.0.1", port: int = 6566, api_keys: Collection[str] = ()) -> None:
    """Serve until the process is told to end. `FeatureError` for an address that others reach, without API keys."""
    import uvicorn

    refuse_open(host, api_keys)
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
