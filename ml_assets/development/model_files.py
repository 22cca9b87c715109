"""Models as files that a parser may read only after their SHA-256 was checked; never pickle, never joblib.

A model folder holds three files: `model.json` (which format, how it was fitted), `encoder.json`, and the model in the
format of its kind: XGBoost UBJ, ONNX, skops, or JSON. A `Model` predicts through what was parsed from those bytes, from
the moment it is fitted: what is evaluated is what is served.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl

from ml_assets.development.encoding import Encoder, Matrix

MODEL_FILE, ENCODER_FILE = "model.json", "encoder.json"
VERSION = 1
MISSING = -1e6
"""What stands for null where a tree cannot take NaN: far below any other number, so that one split isolates it."""
CHUNK_ROWS = 16_384
"""Rows scored at a time: ONNX Runtime slows down in very large batches, and memory stays bounded."""
PARITY = 1e-5
"""Largest difference of a probability between a fitted model and its saved form; beyond it nothing is saved."""

Scores = np.ndarray
Scorer = Callable[[Matrix], Scores]


class ModelFileError(ValueError):
    """A model's files are missing, altered, of an unknown format, or do not say what the fitted model says."""


class FittedModel(Protocol):
    """What a candidate's `fit` returns, and what `load` returns."""

    @property
    def encoder(self) -> Encoder: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the probability of the positive class for each row, float64 in [0, 1]."""

    def files(self) -> dict[str, bytes]:
        """Return the content of the model's files by name."""

    def save(self, folder: Path) -> None:
        """Write the model's files to `folder`, replacing what was there."""


@dataclass(frozen=True)
class Model:
    """A fitted model as its files' content, scored through the parsed content.

    `parameters` and `notes` tell how it was fitted. `detail` are the few numbers that a format needs beside its file,
    such as the two of Platt's calibration. `threads` bounds what scoring may use and is not part of the model.
    """

    format: str
    encoder: Encoder
    content: bytes
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    detail: Mapping[str, float] = field(default_factory=dict)
    threads: int = 2

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the probability of the positive class for each row, float64 in [0, 1]; may raise `EncodingError`."""
        known = FORMATS[self.format]
        parts = [self._scorer(known.matrix(self.encoder, part)) for part in frame.iter_slices(CHUNK_ROWS)]
        return np.clip(np.concatenate(parts).astype(np.float64), 0.0, 1.0) if parts else np.empty(0)

    def save(self, folder: Path) -> None:
        """Write the three files to `folder`, replacing what was there; a half-written folder is never seen."""
        write_folder(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """Return the content of the model's files by name."""
        told = {
            "version": VERSION,
            "format": self.format,
            "parameters": dict(self.parameters),
            "notes": list(self.notes),
            "detail": dict(self.detail),
        }
        return {
            MODEL_FILE: json.dumps(told, sort_keys=True, indent=1, allow_nan=False).encode(),
            ENCODER_FILE: self.encoder.to_json().encode(),
            FORMATS[self.format].file: self.content,
        }

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return the distributions that scoring imports."""
        return ("numpy", "polars", *FORMATS[self.format].requirements)

    @cached_property
    def _scorer(self) -> Scorer:
        return FORMATS[self.format].parse(self.content, self.detail, self.threads)


def load(folder: Path, *, sha256: Mapping[str, str], threads: int = 2) -> Model:
    """Read a model whose files have the given SHA-256, which must come from outside the folder.

    Raises `ModelFileError` for a file that is missing or differs, before any parser sees a byte of any file.
    """
    return parse(read_verified(folder, sha256), threads=threads)


def parse(files: Mapping[str, bytes], *, threads: int = 2) -> Model:
    """Make a model of the content of its files, whose hashes the caller has checked."""
    missing = [name for name in (MODEL_FILE, ENCODER_FILE) if name not in files]
    if missing:
        raise ModelFileError(f"a model needs {missing}, but only {sorted(files)} were given: save the model again")
    told = json.loads(files[MODEL_FILE])
    known = FORMATS.get(told["format"])
    if told["version"] != VERSION or known is None or known.file not in files:
        raise ModelFileError(
            f"format {told['format']!r} version {told['version']} with files {sorted(files)} cannot be read: "
            f"this code reads version {VERSION} of {sorted(FORMATS)}"
        )
    return Model(
        format=told["format"],
        encoder=Encoder.from_json(files[ENCODER_FILE]),
        content=files[known.file],
        parameters=told["parameters"],
        notes=tuple(told["notes"]),
        detail=told["detail"],
        threads=threads,
    )


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file's content by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def read_verified(folder: Path, sha256: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of the named files, each read once; `ModelFileError` unless its SHA-256 is as given."""
    if not sha256:
        raise ModelFileError(f"no hashes were given for {folder}: a model is read only against hashes kept elsewhere")
    return {name: _read_one(Path(folder), name, expected) for name, expected in sha256.items()}


def _read_one(folder: Path, name: str, expected: str) -> bytes:
    if Path(name).name != name:
        raise ModelFileError(f"file name {name!r} leads out of {folder}: name files of the folder only")
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{folder / name} cannot be read ({error.strerror}): save the model again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelFileError(
            f"{folder / name} has SHA-256 {found}, not {expected}: altered, or another version; it was not parsed"
        )
    return content


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` as the whole content of `folder`: first to a temporary sibling, then renamed into place."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        if folder.exists():
            shutil.move(folder, Path(temporary) / "old")
        fresh.rename(folder)


def packed(format: str, encoder: Encoder, fitted: Any, *, like: Matrix, reference: Scores, **told: Any) -> Model:
    """Turn a fitted estimator into a `Model`, and check that it still says the same.

    `reference` are the fitted estimator's probabilities for the rows of the matrix `like`; `told` are the fields
    `parameters`, `notes`, `detail` and `threads`. Raises `ModelFileError` when one differs by more than `PARITY`.
    """
    content = FORMATS[format].dump(fitted, like)
    model = Model(format=format, encoder=encoder, content=content, **told)
    difference = float(np.max(np.abs(model._scorer(like) - reference), initial=0.0))
    if not difference <= PARITY:
        raise ModelFileError(
            f"saved as {format}, a probability differs by {difference:.1e} from the fitted model (limit {PARITY:.0e}): "
            "the converter does not fit this estimator; use another format"
        )
    return model


class Format(ABC):
    """One way to write a fitted estimator down: `dump` and `parse` are the two halves."""

    name: ClassVar[str]
    file: ClassVar[str]
    requirements: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def dump(self, fitted: Any, like: Matrix) -> bytes:
        """Return the estimator as bytes; `like` has the shape and type of its input."""

    @abstractmethod
    def parse(self, content: bytes, detail: Mapping[str, float], threads: int) -> Scorer:
        """Return the function from a matrix to probabilities."""

    @abstractmethod
    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        """Return the matrix that the estimator reads."""


class Prior(Format):
    """A probability that is the same for every row, as JSON."""

    name, file = "prior", "prior.json"

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        return json.dumps({"prior": float(fitted)}).encode()

    def parse(self, content: bytes, detail: Mapping[str, float], threads: int) -> Scorer:
        prior = float(json.loads(content)["prior"])
        return lambda matrix: np.full(len(matrix), prior)

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return np.empty((frame.height, 0), dtype=np.float32)


class Ubj(Format):
    """An XGBoost booster in its own binary JSON, over the matrix of codes."""

    name, file, requirements = "ubj", "model.ubj", ("xgboost",)

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        return bytes(fitted.save_raw("ubj"))

    def parse(self, content: bytes, detail: Mapping[str, float], threads: int) -> Scorer:
        yielding_threads()
        import xgboost

        booster = xgboost.Booster(params={"nthread": threads})
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": threads})
        return lambda matrix: booster.inplace_predict(matrix, validate_features=False)

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.codes(frame)


class Onnx(Format):
    """A scikit-learn classifier as an ONNX graph, over the dense matrix."""

    name, file, requirements = "onnx", "model.onnx", ("onnxruntime",)

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        from skl2onnx import to_onnx

        # The name is given because the converter would make up a random one, and equal models should be equal files.
        options = {id(fitted): {"zipmap": False}}
        graph = to_onnx(fitted, like[:1], name="model", options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        return bytes(graph.SerializeToString())

    def parse(self, content: bytes, detail: Mapping[str, float], threads: int) -> Scorer:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda matrix: session.run(["probabilities"], {name: matrix})[0][:, 1]

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.dense(frame)


class OnnxTrees(Onnx):
    """A scikit-learn forest as an ONNX graph, over the matrix of codes with a number for null."""

    name = "onnx_trees"

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.codes(frame, missing=MISSING)


class Skops(Format):
    """A scikit-learn decision function in skops' form, over the dense matrix, with Platt's calibration beside it.

    skops would trust every type that scikit-learn and SciPy have; `TYPES` is what our own candidates are made of, and a
    file that names any other type is refused before skops reads it. The list is never taken from a file.
    """

    name, file, requirements = "skops", "model.skops", ("scikit-learn", "skops", "threadpoolctl")
    TYPES: ClassVar[frozenset[str]] = frozenset(
        {
            "builtins.dict",
            "builtins.list",
            "builtins.str",
            "builtins.tuple",
            "numpy.float64",
            "numpy.ndarray",
            "sklearn.kernel_approximation.Nystroem",
            "sklearn.pipeline.Pipeline",
            "sklearn.svm._classes.LinearSVC",
            "sklearn.svm._classes.SVC",
        }
    )

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        import skops.io

        return _without_addresses(skops.io.dumps(fitted))

    def parse(self, content: bytes, detail: Mapping[str, float], threads: int) -> Scorer:
        import skops.io

        unknown = sorted(set(_skops_types(content)) - self.TYPES)
        if unknown:
            raise ModelFileError(f"a skops file may not hold {unknown}: train the model again with this code")
        estimator = skops.io.loads(content, trusted=sorted(self.TYPES))
        return lambda matrix: self._score(estimator, detail, threads, matrix)

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.dense(frame)

    @staticmethod
    def _score(estimator: Any, detail: Mapping[str, float], threads: int, matrix: Matrix) -> Scores:
        with limited(threads):
            return platt(estimator.decision_function(matrix), detail["slope"], detail["offset"])


def platt(decisions: Scores, slope: float, offset: float) -> Scores:
    """Return the probabilities 1 / (1 + exp(-(slope d + offset))) of decision values d (Platt 1999)."""
    return np.reciprocal(1.0 + np.exp(-np.clip(slope * np.asarray(decisions, dtype=np.float64) + offset, -500, 500)))


def limited(threads: int) -> AbstractContextManager[Any]:
    """Bound the threads of BLAS and OpenMP: no fight for cores, and the same sums in the same order on each run."""
    yielding_threads()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads)


def yielding_threads() -> None:
    """Have OpenMP's threads sleep while they wait. Call it before XGBoost or scikit-learn is first imported.

    By default they spin: with 2 threads on 2 busy cores, training XGBoost on the flights took 77 s of CPU time and
    140 s in all; when they sleep 24 s and 38 s. A person's own setting is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _skops_types(content: bytes) -> Iterable[str]:
    """Yield every type that a skops file names, from its schema alone."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        waiting: list[Any] = [json.loads(archive.read("schema.json"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__class__" in node:
                yield f"{node['__module__']}.{node['__class__']}"
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _without_addresses(content: bytes) -> bytes:
    """Number the objects of a skops file, which skops names by memory address: equal models should be equal files."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = files.pop("schema.json").decode()
    numbers: dict[str, str] = {}
    schema = re.sub(
        r'("__id__": |"file": ")(\d+)', lambda found: found[1] + numbers.setdefault(found[2], str(len(numbers))), schema
    )
    renamed = {f"{numbers[Path(name).stem]}{Path(name).suffix}": part for name, part in files.items()}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, part in {**renamed, "schema.json": schema.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return written.getvalue()


FORMATS: dict[str, Format] = {known.name: known for known in (Prior(), Ubj(), Onnx(), OnnxTrees(), Skops())}
