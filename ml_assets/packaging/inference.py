"""Answers of one bundle, without the code that made it: this file lies in every bundle and serves it.

    python inference.py --digest SHA-256          (or BUNDLE_DIGEST; the digest of manifest.json, known from elsewhere)

It needs the standard library, numpy, onnxruntime, FastAPI, uvicorn and prometheus-client; XGBoost or scikit-learn only where
bundle.json says that the model is no graph. Every file is checked before anything parses it. Without `--host` only this
machine is served: who may ask is decided by what stands in front.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError

VERSION = 3
"""Of what a bundle's files hold."""
MANIFEST, BUNDLE, EXAMPLE, PIPELINE, ANSWER = (
    "manifest.json",
    "bundle.json",
    "example.json",
    "pipeline.onnx",
    "answer.onnx",
)
DIGEST_VARIABLE = "BUNDLE_DIGEST"
NUMBERS, TEXTS, SCORES, KNOWN = "numbers", "texts", "scores", "known"
"""The graph's inputs: (n, p) float64, where null is NaN, and (n, q) strings; its answer; and the part of it that is a graph."""
NULL = "\uffff"
"""What stands for a null among the texts: Unicode keeps this code point free of any meaning."""
TOLERANCE = 1e-6
"""Largest difference to the answer of the example, by the largest score if that is above 1."""
MOST_BYTES, MOST_ROWS = 8 * 2**20, 10_000
AT_ONCE = 64
"""Rows answered between two other requests; more of them go to a thread."""
SKOPS_TYPES = frozenset(
    {"builtins.dict", "builtins.list", "builtins.str", "builtins.tuple", "numpy.float64", "numpy.ndarray"}
    | {"sklearn.kernel_approximation.Nystroem", "sklearn.pipeline.Pipeline"}
    | {f"sklearn.svm._classes.{name}" for name in ("LinearSVC", "LinearSVR", "SVC", "SVR")}
)

Feed = dict[str, np.ndarray]
Scorer = Callable[[Any], np.ndarray]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class RefusedBundle(ValueError):
    """A bundle is incomplete, altered, of another version, or does not answer as its example says."""


# -- the bundle --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictor:
    """A verified bundle that answers rows given as mappings; safe to share between threads.

    `features` maps each feature, in order, to Float64, Boolean or String. `example` holds a `request` and its `answer`.
    """

    digest: str
    problem: str
    model_version: str
    data_hash: str
    code_version: str
    threshold: float
    output: str
    classes: tuple[str, ...]
    features: Mapping[str, str]
    example: Mapping[str, Any]
    say: Callable[[Feed], np.ndarray] = field(repr=False)
    """From the graph's inputs to the scores: (n,), of more than two classes (n, k), of a clustering (n,) int64."""

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Return the model's score of each row; None is null. `ValueError` names a feature that a row lacks."""
        if not len(rows):
            return self.scores([dict.fromkeys(self.features)])[:0]
        try:
            return self.say(self._feed(rows))
        except KeyError as error:
            raise ValueError(f"a row lacks the feature {error}: give each of {list(self.features)}, or null") from error

    def _feed(self, rows: Sequence[Mapping[str, Any]]) -> Feed:
        numbers, texts = self._names
        feed: Feed = {}
        if numbers:  # NumPy reads None as NaN
            feed[NUMBERS] = np.array([*map(_taking(numbers), rows)], np.float64)
        if texts:
            taken = map(_taking(texts), rows)
            feed[TEXTS] = np.array([[NULL if one is None else one for one in row] for row in taken], dtype=object)
        return feed

    @cached_property
    def _names(self) -> tuple[list[str], list[str]]:
        """The features that are numbers or booleans, and those that are texts."""
        texts = [name for name, kind in self.features.items() if kind == "String"]
        return [name for name in self.features if name not in texts], texts

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the answer to each row as JSON has it: prediction, score where the task has one, model_version."""
        columns = {name: values.tolist() for name, values in self.columns(self.scores(rows)).items()}
        columns["model_version"] = [self.model_version] * len(rows)
        return [dict(zip(columns, values, strict=False)) for values in zip(*columns.values(), strict=True)]

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of the answer, with the decisions at the threshold."""
        if self.output == "probabilities":
            named = np.array(self.classes, dtype=object)[scores.argmax(axis=1)]
            return {"prediction": named, "score": scores.max(axis=1), "scores": scores}
        if self.output == "probability":
            return {"prediction": (scores >= self.threshold).astype(np.int64), "score": scores}
        return {"prediction": scores} if self.output == "cluster" else {"prediction": scores, "score": scores}


def _taking(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return what takes the values of some names out of a row, as a tuple."""
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


def load(folder: Path | str, *, digest: str, threads: int = 1) -> Predictor:
    """Return the bundle in a folder, after its bytes matched `digest`, which must come from outside the folder.

    `threads` are those of one call. Raises `RefusedBundle`, before any parser sees a byte, for a file that differs, is
    missing, or is not in the manifest; and for another version, and another answer than the example's.
    """
    return predictor(verified(Path(folder), digest), digest=digest, threads=threads)


def verified(folder: Path, digest: str) -> dict[str, bytes]:
    """Return the content of the folder's files, each read once and compared with the manifest, and that with `digest`."""
    manifest = _read(folder, MANIFEST, digest)
    files = {name: _read(folder, name, entry["sha256"]) for name, entry in json.loads(manifest)["files"].items()}
    extra = sorted({path.name for path in folder.iterdir()} - {*files, MANIFEST})
    if extra:
        raise RefusedBundle(f"{folder} also holds {extra}, which its manifest does not name: remove them")
    return {MANIFEST: manifest, **files}


def _read(folder: Path, name: str, expected: str) -> bytes:
    if Path(name).name != name:
        raise RefusedBundle(f"file name {name!r} leads out of {folder}: name files of the folder only")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise RefusedBundle(f"{folder / name} cannot be read ({error.strerror}): fetch the bundle again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise RefusedBundle(
            f"{folder / name} has SHA-256 {found}, not {expected}: altered, or another version; it was not parsed"
        )
    return content


def predictor(files: Mapping[str, bytes], *, digest: str, threads: int = 1) -> Predictor:
    """Make a predictor of the content of a bundle's files, which `verified` returned."""
    told = json.loads(files[BUNDLE])
    require_version(told)
    made = Predictor(
        digest=digest,
        output=told["graph"]["output"],
        classes=tuple(told["task"].get("classes", ())),
        features=dict(told["graph"]["features"]),
        example=json.loads(files[EXAMPLE]),
        say=scorer(files, told["graph"]["outside"], threads),
        **{name: told[name] for name in ("problem", "model_version", "data_hash", "code_version", "threshold")},
    )
    _refuse_other_answer(made)
    return made


def require_version(told: Mapping[str, Any]) -> None:
    """Raise `RefusedBundle` for the content of a bundle.json that another version of this code wrote."""
    if told["version"] != VERSION:
        raise RefusedBundle(
            f"a bundle of version {told['version']} cannot be read, only {VERSION}: run job train again, "
            "or use the code that wrote it"
        )


def _refuse_other_answer(made: Predictor) -> None:
    expected = made.example["answer"]["rows"]
    name = {"probabilities": "scores", "cluster": "prediction"}.get(made.output, "score")
    wanted = np.array([row[name] for row in expected])
    difference = differs(made.scores(made.example["request"]["rows"]), wanted)
    if not difference <= TOLERANCE:
        raise RefusedBundle(
            f"the example is answered with a difference of {difference:.1e} (limit {TOLERANCE:.0e}): "
            "install exactly what requirements.txt says"
        )


def differs(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference between scores, by the largest wanted score if that is above 1."""
    scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    return float(np.max(np.abs(found - wanted), initial=0.0)) / scale


# -- the model ---------------------------------------------------------------------------------------------------------


def scorer(
    files: Mapping[str, bytes], outside: Sequence[Mapping[str, str]], threads: int
) -> Callable[[Feed], np.ndarray]:
    """Return the pipeline as a function; models that are no graph stand between the pipeline and the answer's graph."""
    first = session(files[PIPELINE], threads)
    if not outside:
        return lambda feed: np.asarray(first.run([SCORES], feed)[0])
    last, names = session(files[ANSWER], threads), [one.name for one in first.get_outputs()]
    models = {one["name"]: _MODELS[one["format"]](files[one["file"]], threads) for one in outside}

    def say(feed: Feed) -> np.ndarray:
        found = dict(zip(names, first.run(names, feed), strict=True))
        said = {name: np.asarray(model(found[name]), dtype=np.float64) for name, model in models.items()}
        return np.asarray(last.run([SCORES], said | ({KNOWN: found[KNOWN]} if KNOWN in found else {}))[0])

    return say


def session(content: bytes, threads: int = 1) -> Any:
    """Return ONNX Runtime's session of a graph, on the CPU; idle threads sleep."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _ubj(content: bytes, threads: int) -> Scorer:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xgboost

    booster = xgboost.Booster(params={"nthread": threads})
    booster.load_model(bytearray(content))
    booster.set_param({"nthread": threads})
    return lambda matrix: np.asarray(booster.inplace_predict(matrix, validate_features=False))


def _skops(content: bytes, threads: int) -> Scorer:
    import skops.io
    from threadpoolctl import threadpool_limits

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unknown = sorted(set(_types(json.loads(archive.read("schema.json")))) - SKOPS_TYPES)
    if unknown:
        raise RefusedBundle(f"a skops file may not hold {unknown}: train the model again")
    estimator = skops.io.loads(content, trusted=sorted(SKOPS_TYPES))
    said = estimator.decision_function if hasattr(estimator, "decision_function") else estimator.predict

    def score(matrix: Any) -> np.ndarray:
        with threadpool_limits(limits=threads):
            return np.asarray(said(np.asarray(matrix, dtype=np.float64)))

    return score


def _types(node: Any) -> list[str]:
    """Return every type that a part of a skops schema names."""
    if isinstance(node, list):
        return [name for part in node for name in _types(part)]
    if not isinstance(node, dict):
        return []
    own = [f"{node['__module__']}.{node['__class__']}"] if "__class__" in node else []
    return own + _types(list(node.values()))


_MODELS: dict[str, Callable[[bytes, int], Scorer]] = {"ubj": _ubj, "skops": _skops}


# -- HTTP --------------------------------------------------------------------------------------------------------------


def row_type(features: Mapping[str, str], example: Mapping[str, Any] | None = None) -> Any:
    """Return the type of one row of a request: a dict of each feature, of its type or null, and nothing else.

    A number is a JSON number that is finite, not a text and not true; a text is one that UTF-8 can write. `example` is shown
    in the description, see `with_example`.
    """
    from pydantic import AfterValidator, Field

    types: dict[str, Any] = {
        "Float64": Annotated[float, Field(allow_inf_nan=False)],
        "Boolean": bool,
        "String": Annotated[str, AfterValidator(_writable), Field(json_schema_extra={"pattern": f"^[^{NULL}]*$"})],
    }
    return strict_dict("Row", {name: types[kind] | None for name, kind in features.items()}, example)


def strict_dict(name: str, fields: Mapping[str, Any], example: Mapping[str, Any] | None = None) -> Any:
    """Return a type that pydantic checks and leaves a dict: these fields, whatever their names, strictly, and no others."""
    from pydantic import ConfigDict, with_config
    from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

    shown: Any = {"example": dict(example)} if example else None
    made: Any = TypedDict(name, dict(fields))  # type: ignore[misc]
    return with_config(ConfigDict(strict=True, extra="forbid", json_schema_extra=shown))(made)


def _writable(text: str) -> str:
    if text == NULL or (not text.isascii() and any("\ud800" <= sign <= "\udfff" for sign in text)):
        raise ValueError("is no text that Unicode can exchange; send one, or null")
    return text


def with_example(description: dict[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI description with the whole example of a `Row`: FastAPI leaves nulls out, and a row needs them."""
    description["components"]["schemas"]["Row"]["example"] = dict(example)
    return description


def faults(error: RequestValidationError) -> list[dict[str, Any]]:
    """Return what is wrong with a request: row (None: not about one), field, value as text, problem.

    The framework's own answer repeats the input, which may be a NaN that JSON cannot have.
    """
    return [_fault(item) for item in error.errors()]


def _fault(item: Mapping[str, Any]) -> dict[str, Any]:
    loc, value = item["loc"][1:], item.get("input")
    row = loc[1] if len(loc) > 1 and loc[0] == "rows" and isinstance(loc[1], int) else None
    where = () if item["type"] == "json_invalid" else loc[2:] if row is not None else loc
    shown = "" if isinstance(value, (dict, list)) else repr(value)[:80]
    return {"row": row, "field": ".".join(map(str, where)) or "body", "value": shown, "problem": item["msg"]}


class BodyLimit:
    """Refuses bodies of more than `most` bytes with 413, however long they say they are. Plain ASGI around an application."""

    def __init__(self, app: Any, *, most: int = MOST_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Hand a request to the application with its bytes counted."""
        from starlette.exceptions import HTTPException

        received = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                raise HTTPException(413, f"the body is larger than {self._most} bytes; send it in several requests")
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)


def create_app(model: Predictor, *, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> FastAPI:
    """Return the application that answers `POST /predict {"rows": [...]}` with the bundle; see its OpenAPI description."""
    from fastapi import FastAPI
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    app = FastAPI(title=model.problem, version=model.model_version, description=f"Bundle {model.digest}")
    app.add_middleware(BodyLimit, most=most_bytes)

    @app.exception_handler(RequestValidationError)
    async def refused(_: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": faults(error)}, 422)  # type: ignore[arg-type]

    _add_answers(app, model, most_rows)
    _add_probes(app, model)
    with_example(app.openapi(), model.example["request"]["rows"][0])
    return app


def _responses(model: Predictor) -> dict[int | str, dict[str, Any]]:
    text = {"type": "string"}
    fault = {"row": {"type": ["integer", "null"]}, "field": text, "value": text, "problem": text}
    listed = {"type": "array", "items": {"type": "object", "properties": fault, "required": list(fault)}}
    return {
        200: {"content": {"application/json": {"example": model.example["answer"]}}},
        400: {"description": "No JSON"},
        413: {"description": "Body too large"},
        422: {
            "description": "Nothing was answered; everything that is wrong",
            "content": {"application/json": {"schema": {"type": "object", "properties": {"detail": listed}}}},
        },
    }


def _add_answers(app: FastAPI, model: Predictor, most_rows: int) -> None:
    from fastapi import Request, Response
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from pydantic import ConfigDict, Field, create_model

    row = row_type(model.features, model.example["request"]["rows"][0])
    rows: Any = (list[row], Field(min_length=1, max_length=most_rows))  # type: ignore[valid-type]
    body_type = create_model("Rows", __config__=ConfigDict(extra="forbid"), rows=rows)
    registry = CollectorRegistry()
    told = {"problem": model.problem, "model_version": model.model_version}
    answered = Counter("bundle_rows", "Rows answered", list(told), registry=registry).labels(**told)
    seconds = Histogram(
        "bundle_seconds",
        "Seconds of scoring by request",
        list(told),
        registry=registry,
        buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
    ).labels(**told)

    async def predict(body: Any) -> dict[str, Any]:
        """Answer each row, in order."""
        start = time.perf_counter()
        given: list[dict[str, Any]] = body.rows
        made = model.answers(given) if len(given) <= AT_ONCE else await asyncio.to_thread(model.answers, given)
        seconds.observe(time.perf_counter() - start)
        answered.inc(len(given))
        return {"rows": made}

    # FastAPI reads the type of a body from the annotation, and this one is made of the bundle's features.
    predict.__annotations__["body"] = body_type
    app.post("/predict", responses=_responses(model))(predict)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    app.add_route("/metrics", metrics)


def _add_probes(app: FastAPI, model: Predictor) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process runs."""
        return {"status": "running"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """Tell that the bundle was verified and answers its example: otherwise the process would not have started."""
        return {"ready": True, "digest": model.digest}

    @app.get("/model")
    async def about() -> dict[str, Any]:
        """Tell which model answers."""
        names = ("problem", "model_version", "digest", "data_hash", "code_version", "threshold", "output")
        return {name: getattr(model, name) for name in names} | {"features": dict(model.features)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the bundle that this file lies in; return 1 when it is refused."""
    parser = argparse.ArgumentParser(description="Serve this bundle.")
    parser.add_argument(
        "--digest", default=os.environ.get(DIGEST_VARIABLE, ""), help=f"or the variable {DIGEST_VARIABLE}"
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "8080")))
    told = parser.parse_args(arguments)
    try:
        made = load(told.folder, digest=told.digest)
    except RefusedBundle as error:
        parser.exit(1, f"refused: {error}\n")
    import uvicorn

    uvicorn.run(create_app(made), host=told.host, port=told.port, log_level="warning", access_log=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
