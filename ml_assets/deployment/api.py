"""The serving API: answers of the model in office over HTTP.

| route | what it does |
|---|---|
| `POST /predict` | answers rows of all the model's features |
| `POST /predict/entities` | answers entity keys, with features from the online store |
| `POST /explain`, `POST /explain/entity` | says how far each feature moved one answer |
| `GET /model` | which model answers, what was refused, who is on trial |
| `GET /health` | the process runs |
| `GET /ready` | there is a model that answers; else 503. What else fails is a warning |
| `GET /metrics` | for Prometheus; see `metrics.NAMES` |

While the registry, the online store or the log fails, full rows are still answered: a server that is taken out for it answers nobody.

One request of few rows is answered between two others, a large one in a thread. FastAPI is imported at the top; only `ml-assets serve`
and tests import this module.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from ml_assets.deployment.api_description import described
from ml_assets.deployment.bodies import Bodies, RefusedBody
from ml_assets.deployment.contributions import contributions
from ml_assets.deployment.engine import Engine, NoModelError
from ml_assets.deployment.entities import UNREACHABLE, Asked, Looked, OnlineFeatures, model_rows
from ml_assets.deployment.metrics import Counted, Metrics
from ml_assets.features.guard import Guard, RateLimit, refuse_open, require_hashes
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push import Fault

if TYPE_CHECKING:
    from ml_assets.deployment.admission import Served

SMALL_BODY = 64 * 2**10
"""Bytes of a body that is parsed between two other requests."""
LARGE_AT_ONCE = 2
"""Large requests at one time: what one may take of memory is bounded, and so is this many times that."""
ONLINE_AT_ONCE = 16
"""Questions to the online store at one time, in threads of their own: one that hangs holds up no other answer."""
ONLINE_SECONDS, READY_SECONDS = 5.0, 0.5
"""How long the online store may take: for an answer, and to be called ready."""
MOST_CONNECTIONS = 1_000
"""Connections and requests at one time, above which uvicorn answers 503."""
JSON = "application/json"
T = TypeVar("T")
Answer = Callable[[bytes], Awaitable[dict[str, Any]]]


class OfflineError(RuntimeError):
    """Something that the answer needs cannot be reached now."""


class Api:
    """Everything but HTTP's routes: reads bodies, asks the engine and the online store, and words the answers."""

    def __init__(self, engine: Engine, features: OnlineFeatures | None, metrics: Metrics) -> None:
        self.engine, self.features, self.metrics = engine, features, metrics
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._asking = ThreadPoolExecutor(ONLINE_AT_ONCE, "online")
        self._bodies: dict[bool, tuple[Served, Asked, Bodies]] = {}

    async def predict(self, body: bytes) -> dict[str, Any]:
        """Answer rows of all features."""

        async def work(served: Served) -> dict[str, Any]:
            rows = await self._read(self.bodies(served), "rows", body)
            return self._told(await self._run(served, len(rows), lambda: self.engine.answer(rows)))

        return await self._by_current(work)

    async def predict_entities(self, body: bytes) -> dict[str, Any]:
        """Answer entities. One that a view does not know is answered with nulls, and marked."""

        async def work(served: Served) -> dict[str, Any]:
            bodies = await self._entity_bodies(served)
            entities = await self._read(bodies, "entities", body)
            looked = await self._online(lambda: self._look_up(entities))
            rows = model_rows(looked.rows, bodies.features)
            by_view = {view: [one[view] for one in looked.statuses] for view in looked.statuses[0]}
            answered = await self._run(
                served, len(rows), lambda: self.engine.answer(rows, entities=entities, statuses=by_view)
            )
            told = self._told(answered)
            told["rows"] = [row | _seen(views) for row, views in zip(told["rows"], looked.statuses, strict=True)]
            self.metrics.incomplete.inc(sum(not row["complete"] for row in told["rows"]))
            return told

        return await self._by_current(work)

    async def explain(self, body: bytes) -> dict[str, Any]:
        """Explain the answer to one row."""

        async def work(served: Served) -> dict[str, Any]:
            row = await self._read(self.bodies(served), "row", body)
            return await self._thread(lambda: _explained(served, row))

        return await self._by_current(work)

    async def explain_entity(self, body: bytes) -> dict[str, Any]:
        """Explain the answer to one entity."""

        async def work(served: Served) -> dict[str, Any]:
            bodies = await self._entity_bodies(served)
            entity = await self._read(bodies, "entity", body)
            looked = await self._online(lambda: self._look_up([entity]))
            row = model_rows(looked.rows, bodies.features)[0]
            return await self._thread(lambda: _explained(served, row)) | _seen(looked.statuses[0])

        return await self._by_current(work)

    async def ready(self) -> dict[str, Any]:
        """Return whether there is a model that answers, and what else fails, each with a reason."""
        state = self.engine.state()
        failing = {f"log to {place}": told for place, told in ((state["log"] or {}).get("failing") or {}).items()}
        warnings = {"registry": state["registry"], "online store": await self._store(), **failing}
        reason = (
            "" if state["model"] else "no model is in office: run job train, or look at what /model says was refused"
        )
        return {
            "ready": not reason,
            "reason": reason,
            "warnings": {name: told for name, told in warnings.items() if told},
        }

    def bodies(self, served: Served, asked: Asked | None = None) -> Bodies:
        """Return what may be sent while a model is in office; kept until there is another."""
        told = asked or NOTHING_ASKED
        known = self._bodies.get(asked is None)
        if known and known[0] is served and known[1] == told:
            return known[2]
        example = served.bundle.small.example["request"]["rows"][0]
        made = Bodies(served.bundle.small.features, example, told.keys, told.columns, told.online)
        self._bodies[asked is None] = (served, told, made)
        return made

    async def _entity_bodies(self, served: Served) -> Bodies:
        return self.bodies(served, await self._online(self.asked))

    def asked(self) -> Asked:
        """Return what the online store is asked with; `OfflineError` when the repository does not answer."""
        assert self.features
        try:
            return self.features.asked()
        except FeatureError as error:  # the repository's fault, not the caller's
            raise OfflineError(
                f"the feature repository does not answer for {self.features.service!r}: {error}"
            ) from error

    def _look_up(self, entities: Sequence[Mapping[str, Any]]) -> Looked:
        assert self.features
        try:
            return self.features.look_up(entities)
        except FeatureError as error:
            raise RefusedBody([Fault(None, "entities", "", str(error))]) from error

    async def _store(self) -> str:
        """Return what is wrong with the online store."""
        if self.features is None:
            return ""
        try:
            red = await self._online(self.features.red, READY_SECONDS)
        except (OfflineError, FeatureError) as error:
            return str(error)
        return f"the last parity check was red for {red}; materialize them again" if red else ""

    async def _online(self, work: Callable[[], T], seconds: float | None = None) -> T:
        """Ask the online store, within `ONLINE_SECONDS` if no other limit is given; `OfflineError` when it cannot be reached."""
        asked = asyncio.get_running_loop().run_in_executor(self._asking, work)
        try:
            return await asyncio.wait_for(asked, seconds or ONLINE_SECONDS)
        except UNREACHABLE as error:  # a timeout too
            raise OfflineError(
                f"the online store cannot be reached ({type(error).__name__}); try again, or send full rows to /predict"
            ) from error

    def _told(self, answered: Any) -> dict[str, Any]:
        self.metrics.answered(len(answered.rows), answered.arm)
        return {"request": answered.request, "version": answered.version, "rows": answered.rows}

    async def _by_current(self, work: Callable[[Served], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Do the work for the model in office; once more where another one, of other features, took office meanwhile."""
        served = self.current()
        try:
            return await work(served)
        except (ValueError, KeyError):
            if self.engine.current is served:
                raise
        return await work(self.current())

    def current(self) -> Served:
        """Return the model in office, or raise `NoModelError`."""
        served = self.engine.current
        if served is None:
            raise NoModelError("no model is in office; see /ready")
        return served

    async def _read(self, bodies: Bodies, what: str, body: bytes) -> Any:
        if len(body) <= SMALL_BODY:
            return bodies.read(what, body)
        return await self._thread(lambda: bodies.read(what, body))

    async def _run(self, served: Served, rows: int, work: Callable[[], T]) -> T:
        return work() if rows <= served.break_even.beside else await self._thread(work)

    async def _thread(self, work: Callable[[], T]) -> T:
        async with self._large:
            return await asyncio.to_thread(work)


NOTHING_ASKED = Asked({}, {}, frozenset())


def _seen(statuses: Mapping[str, str]) -> dict[str, Any]:
    return {"complete": all(status == "present" for status in statuses.values()), "views": dict(statuses)}


def _explained(served: Served, row: Mapping[str, Any]) -> dict[str, Any]:
    model = served.bundle.small
    if model.output == "cluster":
        raise RefusedBody(
            [Fault(None, "body", "", "a clustering answers with the number of a cluster, which has no parts")]
        )
    found = contributions(row, model.example["request"]["rows"], model.scores, classes=model.classes)
    return {
        "version": served.version,
        "explained": found.explained,
        "answer": found.answer,
        "reference": found.reference,
        "contributions": found.by_feature,
        "method": found.method,
    }


# -- HTTP --------------------------------------------------------------------------------------------------------------


def create_app(
    engine: Engine,
    *,
    features: OnlineFeatures | None = None,
    api_keys: Collection[str] = (),
    rate: float | None = None,
    lifespan: bool = True,
) -> FastAPI:
    """Return the application over an engine.

    `features` reads the online store; without it, there are no entities to ask about. `api_keys` are SHA-256 hashes of the keys that
    are let in, and `rate` the requests per second of each. With `lifespan` the engine is started and closed with the application.
    Raises `FeatureError` for a key that is no hash.
    """
    metrics = Metrics(engine, ages=features.ages if features else dict)
    api = Api(engine, features, metrics)
    app = FastAPI(
        title="Predictions",
        description="Answers of the model in office.",
        lifespan=(lambda _: _running(engine)) if lifespan else None,
    )
    app.state.api = api
    _add_answers(app, api)
    _add_probes(app, api)
    _add_errors(app)
    app.openapi = lambda: described(app, api)  # type: ignore[method-assign]
    limit = RateLimit(rate) if rate else None
    app.add_middleware(Guard, key_hashes=require_hashes(api_keys), rate=limit)
    app.add_middleware(Counted, metrics=metrics, routes=[str(getattr(route, "path", "")) for route in app.routes])
    return app


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=JSON)


def _add_answers(app: FastAPI, api: Api) -> None:
    answering: dict[str, Answer] = {
        "/predict": api.predict,
        "/explain": api.explain,
    }
    if api.features:
        answering |= {"/predict/entities": api.predict_entities, "/explain/entity": api.explain_entity}
    for path, answer in answering.items():
        app.add_route(path, _endpoint(answer), methods=["POST"])


def _endpoint(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint as Starlette has it: without FastAPI's reading of requests, a fifth of one row's time."""

    async def endpoint(request: Request) -> Response:
        return _json(await answer(await request.body()))

    endpoint.__name__, endpoint.__doc__ = answer.__name__, answer.__doc__
    return endpoint


def _add_probes(app: FastAPI, api: Api) -> None:
    @app.get("/health")
    async def health() -> Response:
        """Tell that the process runs."""
        return _json({"status": "running"})

    @app.get("/ready")
    async def ready() -> Response:
        """Tell whether there is a model that answers. What else fails is a warning."""
        found = await api.ready()
        return _json(found, 200 if found["ready"] else 503)

    @app.get("/model")
    async def model() -> Response:
        """Tell which model answers, with its features, what was refused, who is on trial, and how the log goes."""
        served = api.engine.current
        features = dict(served.bundle.small.features) if served else {}
        known = {"features": features, "threshold": served.bundle.threshold if served else None}
        return _json(api.engine.state() | known)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Tell Prometheus."""
        return Response(api.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedBody)
        return _json({"detail": [fault.to_dict() for fault in error.faults]}, 422)

    def offline(_: Request, error: Exception) -> Response:
        return _json({"detail": str(error)}, 503)

    def broken(_: Request, error: Exception) -> Response:
        return _json({"detail": f"the answer failed ({type(error).__name__}); the server's log has more"}, 500)

    def gone(_: Request, error: Exception) -> Response:
        return _json({"detail": "the connection was closed before the whole body was here"}, 400)

    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RefusedBody, refused)
    app.add_exception_handler(NoModelError, offline)
    app.add_exception_handler(OfflineError, offline)
    app.add_exception_handler(Exception, broken)


@contextlib.asynccontextmanager
async def _running(engine: Engine) -> AsyncIterator[None]:
    """Start the engine, beside the first requests: a registry may take a minute to say that it is down. Close it at the end."""
    starting = asyncio.create_task(asyncio.to_thread(engine.start))
    yield
    await starting
    await asyncio.to_thread(engine.close)


def serve(
    app: FastAPI, *, host: str = "127.0.0.1", port: int = 8000, api_keys: Collection[str] = (), drain: int = 20
) -> None:
    """Serve until the process is told to end; then requests get `drain` seconds, and the log is written.

    Raises `FeatureError` for an address that others reach, without API keys.
    """
    import uvicorn

    refuse_open(host, api_keys)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=drain,
    )
