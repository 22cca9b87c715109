"""The bundle: everything that scoring needs in one folder, and one digest that stands for all of it.

    model.json, encoder.json, model.onnx | .ubj | .skops | prior.json    the model (see development.model_files)
    pipeline.onnx        encoder, model and links as one graph from typed columns to the answer (see packaging.graph)
    inference.py         serves the graph without this repository (packaging.inference as it is)
    bundle.json          problem, features with types, threshold, versions, and how near the graph comes to the model
    requirements.txt     exact versions of what inference.py imports, with what that needs
    Dockerfile           the image of all this
    example.json         a request and the answer that this bundle must give
    manifest.json        SHA-256 and size of each file above; the bundle's digest is the SHA-256 of this file

A model that no graph answers for within `PARITY` stays as it is: pipeline.onnx leads to its matrix, answer.onnx on from what it
says. The digest is kept outside the folder. Nothing in the folder is parsed before it matched.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ml_assets import tasks
from ml_assets.development import model_files
from ml_assets.development.model_files import FORMATS, Model, Scores
from ml_assets.development.training import CandidateResult
from ml_assets.packaging import container, graph, inference
from ml_assets.packaging.graph import GraphError, Parity, Pipeline
from ml_assets.packaging.inference import BUNDLE, EXAMPLE, MANIFEST, VERSION, Predictor, RefusedBundle
from ml_assets.tasks import Task

REQUIREMENTS, DOCKERFILE, INFERENCE = "requirements.txt", "Dockerfile", "inference.py"
SERVING = ("numpy", "onnxruntime", "fastapi", "uvicorn", "prometheus-client")
"""What inference.py imports for every model."""
PARITY = inference.TOLERANCE
"""Largest difference between two ways to score a row, by the largest score if that is above 1."""
PARITY_ROWS = 10_000
"""Rows on which graph and model are compared."""
EXAMPLE_ROWS = 5


class BundleError(ValueError):
    """A bundle is incomplete, altered, or does not answer as it should."""


@dataclass(frozen=True)
class BundleManifest:
    """A bundle's files: SHA-256 (`files`) and bytes (`sizes`) by name. `digest` stands for the whole."""

    folder: str
    digest: str
    files: Mapping[str, str]
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, ready to score.

    `dtypes` are the Polars types of the `features` as declared. `threshold` is where scores become decisions, if the task has any.
    """

    digest: str
    problem: str
    features: tuple[str, ...]
    dtypes: Mapping[str, str]
    threshold: float
    model_version: str
    data_hash: str
    code_version: str
    task: Task
    model: Model
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """The verified content of the files that `small` is made of."""

    @cached_property
    def small(self) -> Predictor:
        """The same model for small batches of mappings, as the bundle's own inference.py has it; `BundleError` if it differs."""
        try:
            return inference.predictor(self.files, digest=self.digest)
        except RefusedBundle as error:
            raise BundleError(f"bundle refused: {error}") from error

    def parity(self, frame: pl.DataFrame) -> Parity:
        """Return how far `small` is from `predict` on the rows of a frame."""
        found = graph.scored(self.small.say, frame, self.model.encoder)
        return graph.measure(found, self.predict(frame), PARITY)

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the model's score of each row, see `Task`; raise `EncodingError` for a wrong column."""
        return self.model.predict(frame)

    def truth(self, frame: pl.DataFrame) -> np.ndarray:
        """Return what a metric holds the scores of labelled rows against: the labels, or for a clustering the rows' matrix."""
        return self.task.labels(frame["label"]) if self.task.supervised else self.model.encoder.dense(frame)

    def answers(self, scores: Scores) -> dict[str, Any]:
        """Return the columns of the answer, with the decisions at the threshold."""
        return self.task.answers(scores, self.threshold)

    def frame(self, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        """Return records as a frame of the declared types; `EncodingError` when one does not fit."""
        return self.model.encoder.frame({name: row.get(name) for name in self.features} for row in rows)


def build_bundle(
    folder: Path,
    *,
    result: CandidateResult,
    problem: str,
    features: Mapping[str, str],
    example_rows: pl.DataFrame,
    model_version: str,
    data_hash: str,
    code_version: str,
    threshold: float,
    task: Task,
    requirements: Sequence[str] = (),
    parity_rows: pl.DataFrame | None = None,
) -> BundleManifest:
    """Write a bundle of a trained candidate, whose files must have the hashes that `result` tells.

    `features` maps the model's features to Polars types, in any order. The first rows of `example_rows` become the
    example. `requirements` are distributions needed beside those of inference.py. Graph and model are compared on the first
    `PARITY_ROWS` of `parity_rows` (default: the example), and on some with nulls and unseen texts. Equal input gives equal
    bytes. A folder with the same digest is left as it is; another one is refused with `BundleError`: bundles do not change.
    """
    model = result.load()
    files = model.files()
    _refuse_unfit(model, features, example_rows, threshold)
    made, parity = _pipeline(model, example_rows if parity_rows is None else parity_rows.head(PARITY_ROWS))
    told = {
        "version": VERSION,
        "problem": problem,
        "task": task.to_dict(),
        "features": {name: str(features[name]) for name in model.encoder.names},
        "threshold": threshold,
        "model_version": model_version,
        "data_hash": data_hash,
        "code_version": code_version,
        "model_files": sorted(files),
        "graph": {
            "features": list(model.encoder.dtypes.items()),
            "output": model.output,
            "outside": list(made.outside),
            "parity": asdict(parity),
        },
    }
    needed = [name for one in made.outside for name in FORMATS[one["format"]].requirements]
    files |= {**made.files, **_served_by()}
    files[BUNDLE] = _json(told)
    files[REQUIREMENTS] = "".join(f"{line}\n" for line in pinned((*SERVING, *needed, *requirements))).encode()
    files[EXAMPLE] = _json(_example(model, example_rows, task, threshold, model_version))
    files[MANIFEST] = _json({"version": VERSION, "files": _listed(files)})
    return _written(Path(folder), files)


def _pipeline(model: Model, rows: pl.DataFrame) -> tuple[Pipeline, Parity]:
    """Return the model as one graph, or with the parts that can outside of it, where it answers as the model does."""
    rows = _with_gaps(rows.select(_as_declared(model)))
    wanted, without = model.predict(rows), [n for n, part in graph.parts(model).items() if part.format in graph.OUTSIDE]
    told = []
    for outside in ((), without) if without else ((),):
        try:
            made = graph.pipeline(model, outside=outside)
        except GraphError as error:
            told.append(str(error))
            continue
        say = inference.scorer(made.files, made.outside, 1)
        parity = graph.measure(graph.scored(say, rows, model.encoder), wanted, PARITY)
        if not parity.differing:
            return made, parity
        told.append(f"{parity.differing} of {parity.rows} rows differ, by up to {parity.difference:.1e}")
    raise BundleError(f"no graph answers as the model does: {'; '.join(told)}; declare other candidates")


def _with_gaps(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows, and the first thousand of them again with a null in one column each, and with texts never seen."""
    some = rows.head(1_000).with_row_index("row number of gaps")
    turn = pl.col("row number of gaps") % rows.width
    gaps = some.select(pl.when(turn != place).then(pl.col(name)).alias(name) for place, name in enumerate(rows.columns))
    unseen = rows.head(1_000).with_columns(pl.col(pl.String) + " (never seen)")
    return pl.concat([rows, gaps, unseen])


def bundle_name(sha256: Mapping[str, str], code_version: str, threshold: float) -> str:
    """Return a folder name for what decides a bundle: bundles never change, so another one gets another name."""
    code = model_files.hashes({**_served_by(), "graph.py": Path(graph.__file__).read_bytes()})
    told = [sorted(sha256.items()), code_version, threshold, VERSION, sorted(code.items()), pinned(SERVING)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _served_by() -> dict[str, bytes]:
    """Return the files that are the same in every bundle."""
    return {DOCKERFILE: container.dockerfile().encode(), INFERENCE: Path(inference.__file__).read_bytes()}


def verify(folder: Path, digest: str) -> BundleManifest:
    """Compare every file with the manifest, and that with `digest`; `BundleError` says what differs."""
    return _verified(Path(folder), digest)[0]


def load_bundle(folder: Path, *, digest: str, threads: int = 2) -> Bundle:
    """Return the bundle, after its bytes matched `digest` and it gave the answer of its own example.

    Each file is read once, and what was hashed is what is parsed. Raises `BundleError` otherwise.
    """
    manifest, files = _verified(Path(folder), digest)
    told = json.loads(files[BUNDLE])
    try:
        inference.require_version(told)
    except RefusedBundle as error:
        raise BundleError(f"bundle refused: {error}") from error
    model = model_files.parse({name: files[name] for name in told["model_files"]}, threads=threads)
    own = ("problem", "threshold", "model_version", "data_hash", "code_version")
    bundle = Bundle(
        digest=manifest.digest,
        model=model,
        features=model.encoder.names,
        dtypes=told["features"],
        task=tasks.task(**told["task"]),
        files=files,
        **{name: told[name] for name in own},
    )
    _refuse_other_answer(bundle, json.loads(files[EXAMPLE]))
    return bundle


def pinned(names: Sequence[str]) -> list[str]:
    """Return `name==version` of installed distributions and of everything that they need, sorted.

    Raises `BundleError` for a named distribution that is not installed. What a dependency wants but this environment
    leaves out on purpose (XGBoost's NCCL for GPUs) is left out too: install with pip's `--no-deps`.
    """
    found: dict[str, str] = {}
    waiting: list[str] = [canonicalize_name(name) for name in names]
    for name in waiting:
        if not _installed(name):
            raise BundleError(
                f"distribution {name!r} is not installed, so its version is not known: install it, or leave it out"
            )
    while waiting:
        name = waiting.pop()
        if name not in found and (distribution := _installed(name)):
            found[name] = distribution.version
            waiting.extend(_needed(distribution))
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _installed(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _needed(distribution: importlib.metadata.Distribution) -> list[str]:
    parsed = [Requirement(line) for line in distribution.requires or ()]
    return [canonicalize_name(one.name) for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _refuse_unfit(model: Model, features: Mapping[str, str], example_rows: pl.DataFrame, threshold: float) -> None:
    if set(features) != set(model.encoder.names):
        differing = sorted(set(features) ^ set(model.encoder.names))
        raise BundleError(
            f"features {differing} are not in both the declaration and the model: give the model's own features"
        )
    if example_rows.is_empty():
        raise BundleError("no example rows: give at least one row of the training set")
    if not 0 <= threshold <= 1:
        raise BundleError(f"threshold {threshold} is not a probability: give a number from 0 to 1")


def _example(model: Model, rows: pl.DataFrame, task: Task, threshold: float, model_version: str) -> dict[str, Any]:
    """Return request and answer; the answer is for the request as it reads back from JSON."""
    request = rows.head(EXAMPLE_ROWS).select(_as_declared(model)).to_dicts()
    columns = task.answers(model.predict(model.encoder.frame(request)), threshold)
    told = {name: np.asarray(values).tolist() for name, values in columns.items()}
    answer = [
        {name: values[row] for name, values in told.items()} | {"model_version": model_version}
        for row in range(len(request))
    ]
    return {"request": {"rows": request}, "answer": {"rows": answer}}


def _as_declared(model: Model) -> list[pl.Expr]:
    """Return the features as a request can have them: JSON has no NaN and no infinity."""
    types = {"Float64": pl.Float64, "Boolean": pl.Boolean, "String": pl.String}
    found = {name: pl.col(name).cast(types[dtype]) for name, dtype in model.encoder.dtypes.items()}
    numbers = [name for name, dtype in model.encoder.dtypes.items() if dtype == "Float64"]
    return [pl.when(one.is_finite()).then(one).alias(name) if name in numbers else one for name, one in found.items()]


def _refuse_other_answer(bundle: Bundle, example: Mapping[str, Any]) -> None:
    expected = bundle.task.stored(pl.DataFrame(example["answer"]["rows"]))
    given = bundle.predict(bundle.frame(example["request"]["rows"]))
    difference = inference.differs(given, expected)
    if not difference <= PARITY:
        raise BundleError(
            f"the bundle's example is answered with a difference of {difference:.1e} (limit {PARITY:.0e}): "
            f"install exactly what {REQUIREMENTS} says"
        )


def _listed(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    sha256 = model_files.hashes(files)
    return {name: {"sha256": sha256[name], "bytes": len(content)} for name, content in files.items()}


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode()


def _written(folder: Path, files: Mapping[str, bytes]) -> BundleManifest:
    digest = hashlib.sha256(files[MANIFEST]).hexdigest()
    if folder.exists():
        try:
            return verify(folder, digest)
        except BundleError as error:
            raise BundleError(
                f"{folder} holds something else, and bundles do not change: choose another folder"
            ) from error
    model_files.write_folder(folder, files)
    return verify(folder, digest)


def _verified(folder: Path, digest: str) -> tuple[BundleManifest, dict[str, bytes]]:
    """Return the manifest and the content of all files, both checked."""
    try:
        files = inference.verified(folder, digest)
    except RefusedBundle as error:
        raise BundleError(f"bundle refused: {error}") from error
    listed = json.loads(files[MANIFEST])["files"]
    sha256, sizes = ({name: entry[part] for name, entry in listed.items()} for part in ("sha256", "bytes"))
    return BundleManifest(str(folder), digest, sha256, sizes), files
