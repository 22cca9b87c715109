"""The manifest of one partition: what it holds, what it was made from, and how its checks went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from ml_assets.lake.verify import AlteredFileError, require_sha256

WHOLE = "_"  # the folder, and so the name, of a table without partitions
DIGEST, END = '{\n "digest": "', '",'  # before and after the digest, with which a manifest begins


@dataclass(frozen=True)
class DataFile:
    """One Parquet file of a partition: name within the partition's folder, bytes, SHA-256 of the bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """One version of one partition (`partition` is None for a table without partitions).

    `version` is the hash of the data's meaning (schema and rows), so the same rows have the same version wherever and
    whenever they were written. `inputs` maps what it was made from to versions. `verdicts` are the checks' verdicts as
    dictionaries with at least `suite` and `success`.
    """

    table: str
    partition: str | None
    rows: int
    schema: Mapping[str, str]
    version: str
    files: tuple[DataFile, ...]
    written_at: datetime
    code_version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    verdicts: tuple[Mapping[str, Any], ...] = ()

    @property
    def red(self) -> list[Mapping[str, Any]]:
        """Return the verdicts that refuse this partition; an empty list when it may be read."""
        return [verdict for verdict in self.verdicts if not verdict["success"]]

    def to_json(self) -> str:
        """Return the manifest as JSON with sorted keys, one a line, after a digest of the text that follows it."""
        fields = vars(self) | {"written_at": self.written_at.isoformat(), "files": [vars(file) for file in self.files]}
        lines = [f' "{name}": {json.dumps(fields[name], sort_keys=True)}' for name in sorted(fields)]
        rest = "\n" + ",\n".join(lines) + "\n}"
        return f"{DIGEST}{hashlib.sha256(rest.encode()).hexdigest()}{END}{rest}"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the manifest") -> Manifest:
        """Read what `to_json` wrote; `AlteredFileError` when a byte of it changed. `where` names it."""
        raw = _verified(text, where)
        try:
            return cls(
                **raw
                | {
                    "files": tuple(DataFile(**file) for file in raw["files"]),
                    "verdicts": tuple(raw["verdicts"]),
                    "written_at": datetime.fromisoformat(raw["written_at"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise _no_manifest(where, error) from error


@dataclass(frozen=True)
class Live:
    """What a reader needs of a manifest: the version, how many rows in which files, and the verdicts that refuse them.

    A manifest has a few hundred more values, and a table has a manifest for each day: kept for all of them at once, they
    take Python longer than reading the files.
    """

    table: str
    partition: str | None
    version: str
    rows: int
    files: tuple[DataFile, ...]
    red: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the manifest") -> Live:
        """Read what `Manifest.to_json` wrote, with the same error."""
        raw = _verified(text, where)
        try:
            return cls(
                table=raw["table"],
                partition=raw["partition"],
                version=raw["version"],
                rows=raw["rows"],
                files=tuple(DataFile(**file) for file in raw["files"]),
                red=tuple(verdict for verdict in raw["verdicts"] if not verdict["success"]),
            )
        except (KeyError, TypeError) as error:
            raise _no_manifest(where, error) from error


def _verified(text: str | bytes, where: str) -> dict[str, Any]:
    """Return the fields of a manifest's JSON, without its digest, which must be that of the text after it."""
    data = text.encode() if isinstance(text, str) else text
    start, end = len(DIGEST), len(DIGEST) + 64
    if not data.startswith(DIGEST.encode()) or not data.startswith(END.encode(), end):
        raise _no_manifest(where, "it does not begin with a digest")
    require_sha256(data[end + len(END) :], data[start:end].decode("ascii", "replace"), where)
    fields: dict[str, Any] = json.loads(data)
    del fields["digest"]
    return fields


def _no_manifest(where: str, why: object) -> AlteredFileError:
    return AlteredFileError(
        f"{where} is no manifest: {why}; it is damaged, or of another version: materialize it again"
    )


def combined_version(versions: Iterable[Manifest | Live]) -> str:
    """Return one hash for a set of partitions: of their tables, names and versions."""
    return version_of((item.table, item.partition or WHOLE, item.version) for item in versions)


def version_of(partitions: Iterable[tuple[str, str, str]]) -> str:
    """Return the same for triples of table, partition ("_" for a whole table) and version."""
    lines = sorted(f"{table}/{partition}={version}" for table, partition, version in partitions)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


MOST_VALUES = 2**24  # that are held once more while they are hashed, or else one column
# As text: NumPy has no integers of 128 bits, which decimals are too.
TEXT_LIKE = (pl.String, pl.Categorical, pl.Enum, pl.Decimal, pl.Int128, pl.UInt128)


def content_hash(frame: pl.DataFrame) -> str:
    """Return the SHA-256 (hex) of a frame's meaning: number of rows, column names, types and rows in order.

    Independent of chunking and of the Parquet writer, so a rebuilt table can be compared with the first one.
    """
    shape = [frame.height, [(name, str(dtype)) for name, dtype in frame.schema.items()]]
    digest = hashlib.sha256(json.dumps(shape).encode())
    at_once = max(1, MOST_VALUES // max(1, frame.height))
    for first in range(0, frame.width, at_once):
        for part in _bytes_of(frame.select(frame.columns[first : first + at_once])):
            digest.update(part)
    return digest.hexdigest()


def _bytes_of(frame: pl.DataFrame) -> Iterator[Any]:
    """Yield what determines each column: nulls, then lengths and text for strings, or fixed-width values.

    Each is one `select` for all columns: calls for every column would take longer than the work in a table of one day.
    """
    plain = [_plain(name, dtype) for name, dtype in frame.schema.items() if not _nested(dtype)]
    nulls = frame.select(pl.all().is_null())
    values = frame.select(plain)
    texts = frame.select(_text(name).str.join("") for name, dtype in frame.schema.items() if dtype in TEXT_LIKE)
    for name, dtype in frame.schema.items():
        yield nulls[name].to_numpy()
        if _nested(dtype):
            yield json.dumps(frame[name].to_list(), default=str).encode()
            continue
        yield values[name].to_numpy()
        if dtype in TEXT_LIKE:
            yield texts[name].item().encode()


def _nested(dtype: pl.DataType) -> bool:
    return dtype.is_nested() or dtype in (pl.Binary, pl.Object)


def _plain(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return a column's values in a fixed width, without nulls: of text their lengths."""
    if dtype in TEXT_LIKE:
        return _text(name).str.len_bytes()
    return pl.col(name).to_physical().fill_null(False if dtype == pl.Boolean else 0)


def _text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String).fill_null("")
