"""Models as files that a parser may read only after their SHA-256 was checked; never pickle, never joblib.

A model folder holds three files: `model.json` (which format, how it was fitted), `encoder.json`, and the model in the
format of its kind: XGBoost UBJ, ONNX, skops, arrays, or JSON. A `Model` predicts through what was parsed from those bytes,
from the moment it is fitted: what is evaluated is what is served.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from ml_assets.development.encoding import Encoder, Matrix
from ml_assets.development.links import Link, applied, link
from ml_assets.tasks.base import Output

MODEL_FILE, ENCODER_FILE = "model.json", "encoder.json"
VERSION = 2
MISSING = -1e6
"""What stands for null where a tree cannot take NaN: far below any other number, so that one split isolates it."""
CHUNK_ROWS = 16_384
"""Rows scored at a time: ONNX Runtime slows down in very large batches, and memory stays bounded."""
PARITY = 1e-5
"""Largest difference of a raw score between a fitted model and its saved form, by the largest score if that is above 1."""

NEAREST_CELLS = 4_000_000
"""Distances that are held at a time: 32 MB."""
REACH_TOLERANCE = 1e-6

Scores = np.ndarray
Scorer = Callable[[Any], Scores]
FrameScorer = Callable[[pl.DataFrame], Scores]


class ModelFileError(ValueError):
    """A model's files are missing, altered, of an unknown format, or do not say what the fitted model says."""


@dataclass(frozen=True)
class Model:
    """A fitted model as its files' content, scored through the parsed content.

    `parameters` and `notes` tell how it was fitted. `links` lead from what the estimator says to what the model answers, which
    `output` names. `threads` bounds what scoring may use and is not part of the model.
    """

    format: str
    encoder: Encoder
    content: bytes
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    output: Output = "probability"
    threads: int = 2

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return the answer for each row, as `output` names it; may raise `EncodingError`.

        A probability is float64 (n,) in [0, 1], probabilities (n, classes), a value float64 (n,), a cluster int64 (n,).
        """
        if frame.is_empty():
            return self.predict(frame.clear(1))[:0]  # of a row of nulls, for the answer's shape and type
        parts = [self._scorer(part) for part in frame.iter_slices(CHUNK_ROWS)]
        return finished(np.concatenate(parts), self.links, self.output)

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
            "links": [one.to_dict() for one in self.links],
            "output": self.output,
        }
        return {
            MODEL_FILE: json.dumps(told, sort_keys=True, indent=1, allow_nan=False).encode(),
            ENCODER_FILE: self.encoder.to_json().encode(),
            FORMATS[self.format].file: self.content,
        }

    @property
    def requirements(self) -> tuple[str, ...]:
        """Return the distributions that scoring imports."""
        return ("numpy", "polars", *FORMATS[self.format].needs(self))

    @cached_property
    def _scorer(self) -> FrameScorer:
        return FORMATS[self.format].scorer(self)


def finished(raw: Scores, links: Sequence[Link], output: Output) -> Scores:
    """Return what a model answers where its estimator said `raw`: after the links, in the type and range of `output`."""
    if output == "cluster":
        return raw.astype(np.int64)
    scores = applied(links, raw.astype(np.float64))
    return scores if output == "value" else np.clip(scores, 0.0, 1.0)


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
        links=tuple(link(one) for one in told["links"]),
        output=told["output"],
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

    `reference` is what the fitted estimator says of the rows of the matrix `like`, before any link; `told` are the other
    fields of `Model`. Raises `ModelFileError` when a score differs by more than `PARITY` of the largest.
    """
    known = FORMATS[format]
    model = Model(format=format, encoder=encoder, content=known.dump(fitted, like), **told)
    found = known.parse(model.content, model.threads)(like)
    limit = PARITY * max(1.0, float(np.max(np.abs(reference), initial=0.0)))
    difference = float(np.max(np.abs(found - reference), initial=0.0))
    if not difference <= limit:
        raise ModelFileError(
            f"saved as {format}, a score differs by {difference:.1e} from the fitted model (limit {limit:.0e}): "
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
    def parse(self, content: bytes, threads: int) -> Scorer:
        """Return the function from a matrix to what the estimator says of its rows."""

    @abstractmethod
    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        """Return the matrix that the estimator reads."""

    @abstractmethod
    def of_rows(self, rows: Any) -> Matrix:
        """Return the same of a candidate's `Rows`, which make each matrix once."""

    def needs(self, model: Model) -> tuple[str, ...]:
        """Return the distributions that scoring the model imports beside those of every model."""
        return self.requirements

    def scorer(self, model: Model) -> FrameScorer:
        """Return the function from a frame to what the model's estimator says of its rows."""
        raw = self.parse(model.content, model.threads)
        return lambda frame: raw(self.matrix(model.encoder, frame))


class Prior(Format):
    """An answer that is the same for every row, as JSON: a number, or a probability for each class."""

    name, file = "prior", "prior.json"

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        return json.dumps({"prior": np.asarray(fitted, dtype=np.float64).tolist()}).encode()

    def parse(self, content: bytes, threads: int) -> Scorer:
        prior = np.array(json.loads(content)["prior"], dtype=np.float64)
        return lambda matrix: np.broadcast_to(prior, (len(matrix), *prior.shape)).copy()

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return np.empty((frame.height, 0), dtype=np.float32)

    def of_rows(self, rows: Any) -> Matrix:
        return np.empty((len(rows), 0), dtype=np.float32)


class Ubj(Format):
    """An XGBoost booster in its own binary JSON, over the matrix of codes."""

    name, file, requirements = "ubj", "model.ubj", ("xgboost",)

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        return bytes(fitted.save_raw("ubj"))

    def parse(self, content: bytes, threads: int) -> Scorer:
        yielding_threads()
        import xgboost

        booster = xgboost.Booster(params={"nthread": threads})
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": threads})
        return lambda matrix: booster.inplace_predict(matrix, validate_features=False)

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.codes(frame)

    def of_rows(self, rows: Any) -> Matrix:
        return rows.codes


class Onnx(Format):
    """A scikit-learn classifier or regressor as an ONNX graph, over the dense matrix."""

    name, file, requirements = "onnx", "model.onnx", ("onnxruntime",)

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        from skl2onnx import to_onnx

        # The name is given because the converter would make up a random one, and equal models should be equal files.
        options = {id(fitted): {"zipmap": False}} if hasattr(fitted, "predict_proba") else None
        graph = to_onnx(fitted, like[:1], name="model", options=options, target_opset={"": 18, "ai.onnx.ml": 3})
        return bytes(graph.SerializeToString())

    def parse(self, content: bytes, threads: int) -> Scorer:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        answer = session.get_outputs()[-1].name
        return lambda matrix: flat(session.run([answer], {name: matrix})[0])

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.dense(frame)

    def of_rows(self, rows: Any) -> Matrix:
        return rows.dense


class OnnxTrees(Onnx):
    """A scikit-learn forest as an ONNX graph, over the matrix of codes with a number for null."""

    name = "onnx_trees"

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.codes(frame, missing=MISSING)

    def of_rows(self, rows: Any) -> Matrix:
        return rows.filled


class Skops(Format):
    """A scikit-learn machine in skops' form, over the dense matrix: its decision values, or its predictions without any.

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
            "sklearn.svm._classes.LinearSVR",
            "sklearn.svm._classes.SVC",
            "sklearn.svm._classes.SVR",
        }
    )

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        import skops.io

        return _without_addresses(skops.io.dumps(fitted))

    def parse(self, content: bytes, threads: int) -> Scorer:
        estimator = self.estimator(content)
        return lambda matrix: self._score(estimator, threads, matrix)

    @classmethod
    def estimator(cls, content: bytes) -> Any:
        """Return the machine itself; `ModelFileError` for a file that holds anything else."""
        import skops.io

        unknown = sorted(set(_skops_types(content)) - cls.TYPES)
        if unknown:
            raise ModelFileError(f"a skops file may not hold {unknown}: train the model again with this code")
        return skops.io.loads(content, trusted=sorted(cls.TYPES))

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.dense(frame)

    def of_rows(self, rows: Any) -> Matrix:
        return rows.dense

    @staticmethod
    def _score(estimator: Any, threads: int, matrix: Matrix) -> Scores:
        with limited(threads):
            return decisions(estimator, matrix)


class Lookup(Format):
    """An answer by the value of one column, as JSON: a table by value, or the column's own number; a fallback for all others."""

    name, file = "lookup", "lookup.json"

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        return json.dumps(fitted, sort_keys=True).encode()

    def parse(self, content: bytes, threads: int) -> Scorer:
        told = json.loads(content)
        return lambda frame: looked_up(frame[told["column"]], told["table"], told["fallback"])

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Any:
        return frame

    def of_rows(self, rows: Any) -> Any:
        return rows.frame


def lookup_keys(column: pl.Series) -> pl.Series:
    """Return values as the text that a lookup's table has: a number is the same as integer, float or boolean."""
    if column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null):
        return column.cast(pl.Float64).cast(pl.String)
    return column.cast(pl.String)


def looked_up(column: pl.Series, table: Mapping[str, Any] | None, fallback: Any) -> Scores:
    """Return the table's answer for each value; without a table the number itself; `fallback` for null and unknown ones."""
    if table is None:
        numbers = column.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_finite(), None).fill_null(fallback).to_numpy()
    known = lookup_keys(column).cast(pl.Enum(list(table)), strict=False).to_physical()
    answers = np.array([*table.values(), fallback], dtype=np.float64)
    return answers[known.cast(pl.Int64).fill_null(len(table)).to_numpy()]


class Clusters(Format):
    """A clustering as arrays, over the dense matrix: nearest centre, most likely component, or dense rows in reach."""

    name, file = "clusters", "clusters.npz"

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for name, array in sorted(fitted.items()):
                part = io.BytesIO()
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())
        return written.getvalue()

    def parse(self, content: bytes, threads: int) -> Scorer:
        arrays = self.arrays(content)
        say = CLUSTERINGS.get(str(arrays.pop("kind", "")))
        if say is None:
            raise ModelFileError(f"a clustering is one of {sorted(CLUSTERINGS)}: train the model again with this code")
        return lambda matrix: say(np.asarray(matrix, dtype=np.float64), **arrays)

    @staticmethod
    def arrays(content: bytes) -> dict[str, np.ndarray]:
        """Return the arrays by name; `kind` is which of `CLUSTERINGS` they are for."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return encoder.dense(frame)

    def of_rows(self, rows: Any) -> Matrix:
        return rows.dense


def nearest_centre(matrix: Matrix, *, centres: np.ndarray) -> np.ndarray:
    """Return the number of the nearest of the centres (k, d) for each row; of equals the first."""
    return nearest(matrix, centres)[0]


def likeliest_component(
    matrix: Matrix, *, means: np.ndarray, precisions: np.ndarray, log_weights: np.ndarray
) -> np.ndarray:
    """Return the number of the normal density that is the most likely for each row.

    `means` are (k, d); `precisions` the Cholesky factors of the inverse covariances (k, d, d), or their diagonals (k, d).
    """
    logs = np.empty((len(matrix), len(means)))
    for place, (mean, factor) in enumerate(zip(means, precisions, strict=True)):
        diagonal = np.diag(factor) if factor.ndim == 2 else factor
        moved = (matrix - mean) @ factor if factor.ndim == 2 else (matrix - mean) * factor
        logs[:, place] = log_weights[place] + np.log(diagonal).sum() - 0.5 * np.einsum("nd,nd->n", moved, moved)
    return logs.argmax(axis=1)


def within_density(
    matrix: Matrix, *, rows: np.ndarray, labels: np.ndarray, reach: np.ndarray, neighbours: np.ndarray
) -> np.ndarray:
    """Return the cluster of each row by the rows (m, d) and their `labels` (m,), of which -1 is none; -1 where none is in reach.

    It is that of the nearest row with a cluster, if its distance, and that of the `neighbours`-th row of all, are within the
    cluster's `reach` (k,).
    """
    inside = labels >= 0
    if not inside.any():
        return np.full(len(matrix), -1)
    place, own = nearest(matrix, rows, neighbours=int(neighbours), among=inside)
    far = np.linalg.norm(matrix - rows[place], axis=1)
    return np.where(np.maximum(far, own) <= reach[labels[place]] * (1 + REACH_TOLERANCE), labels[place], -1)


def nearest(
    matrix: Matrix, others: np.ndarray, *, neighbours: int = 1, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of `others` (m, d), those that are true in `among`, is nearest to each row, and how far the `neighbours`-th
    nearest of all is. `matrix` is float64. Memory stays at `NEAREST_CELLS` distances.
    """
    others = np.asarray(others, dtype=np.float64)
    squares = np.einsum("md,md->m", others, others)
    barred = np.zeros(len(others)) if among is None else np.where(among, 0.0, np.inf)
    place, far = np.empty(len(matrix), dtype=np.int64), np.empty(len(matrix))
    step, rank = max(1, NEAREST_CELLS // max(1, len(others))), min(neighbours, len(others)) - 1
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step]
        distances = squares - 2 * (part @ others.T)
        place[start : start + step] = (distances + barred).argmin(axis=1)
        ranked = np.argpartition(distances, rank, axis=1)[:, rank] if rank else distances.argmin(axis=1)
        far[start : start + step] = np.linalg.norm(part - others[ranked], axis=1)
    return place, far


CLUSTERINGS: dict[str, Callable[..., np.ndarray]] = {
    "centres": nearest_centre,
    "mixture": likeliest_component,
    "density": within_density,
}


class Ensemble(Format):
    """Several models and the weight of each: their answers' weighted mean. Stored files by member, in one archive."""

    name, file = "ensemble", "members.zip"

    def dump(self, fitted: Any, like: Matrix) -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for weight_and_name, model in fitted:
                for name, part in sorted(model.files().items()):
                    archive.writestr(zipfile.ZipInfo(f"{weight_and_name}/{name}"), part)
        return written.getvalue()

    def parse(self, content: bytes, threads: int) -> Scorer:
        raise ModelFileError("an ensemble reads a frame, not a matrix: score it through its Model")

    def matrix(self, encoder: Encoder, frame: pl.DataFrame) -> Matrix:
        return np.empty((frame.height, 0), dtype=np.float32)

    def of_rows(self, rows: Any) -> Matrix:
        return np.empty((len(rows), 0), dtype=np.float32)

    def needs(self, model: Model) -> tuple[str, ...]:
        members = unzipped(model.content).values()
        return tuple(dict.fromkeys(name for one in members for name in FORMATS[one.format].needs(one)))

    def scorer(self, model: Model) -> FrameScorer:
        weights: Mapping[str, float] = model.parameters["weights"]
        members = unzipped(model.content, threads=model.threads)
        return lambda frame: np.sum([weights[name] * one.predict(frame) for name, one in members.items()], axis=0)


def unzipped(content: bytes, *, threads: int = 2) -> dict[str, Model]:
    """Return the members of an ensemble's archive by name; the archive's bytes were checked by whoever read them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        files = {name: archive.read(name) for name in names}
    members = dict.fromkeys(name.partition("/")[0] for name in names)
    inside = {
        member: {name.partition("/")[2]: part for name, part in files.items() if name.startswith(f"{member}/")}
        for member in members
    }
    return {member: parse(part, threads=threads) for member, part in inside.items()}


def ensemble(members: Mapping[str, Model], weights: Mapping[str, float], **told: Any) -> Model:
    """Return one model that answers with the weighted mean of its members, which share columns and output."""
    first = next(iter(members.values()))
    used = [(name, members[name]) for name in members if weights.get(name)]
    return Model(
        format="ensemble",
        encoder=first.encoder,
        content=FORMATS["ensemble"].dump(used, np.empty(0)),
        parameters={"weights": {name: weights[name] for name, _ in used}} | told.pop("parameters", {}),
        output=first.output,
        **told,
    )


def decisions(estimator: Any, matrix: Matrix) -> Scores:
    """Return an estimator's decision values, or its predictions when it has none (a regression).

    Of the matrix in float64: with float32, the approximated kernel loses all but four digits.
    """
    say = estimator.decision_function if hasattr(estimator, "decision_function") else estimator.predict
    return np.asarray(say(np.asarray(matrix, dtype=np.float64)), dtype=np.float64)


def said(estimator: Any, matrix: Matrix) -> Scores:
    """Return a scikit-learn estimator's probabilities, or its predictions when it has none (a regression), see `flat`."""
    say = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.predict
    return flat(np.asarray(say(matrix), dtype=np.float64))


def flat(scores: Scores) -> Scores:
    """Return the scores of a classifier or regressor as (n,) where one number says it all: the positive class, or the value."""
    if scores.ndim == 1 or scores.shape[1] > 2:
        return scores
    return scores[:, -1]


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


FORMATS: dict[str, Format] = {
    known.name: known for known in (Prior(), Lookup(), Ubj(), Onnx(), OnnxTrees(), Skops(), Clusters(), Ensemble())
}
