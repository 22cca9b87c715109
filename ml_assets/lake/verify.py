"""No byte reaches a parser before its SHA-256 was compared with the one that was noted when it was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

REPAIR = "something else changed it: materialize it again, or restore it from a copy"
State = tuple[str, int, int, int]  # the hash that was found, and the file's size, time and inode then
_verified: dict[str, State] = {}


class AlteredFileError(ValueError):
    """A stored file does not hold the bytes that were written: it is damaged, or was changed behind the lake's back."""


def require_sha256(data: bytes, expected: str, where: str) -> None:
    """Raise `AlteredFileError` unless the bytes have the expected SHA-256 (hex); `where` names them."""
    _require(hashlib.sha256(data).hexdigest(), expected, where)


def require_files(expected: Iterable[tuple[str, str]]) -> None:
    """The same for local files, given as path and hash.

    A file is read once, for as long as its size, time and inode stay what they were.
    """
    found = [(path, _state(path, sha256)) for path, sha256 in expected]
    new = [(path, state) for path, state in found if _verified.get(path) != state]
    if len(new) == 1:
        _read(*new[0])
    elif new:
        with ThreadPoolExecutor() as pool:  # hashing needs no interpreter lock
            list(pool.map(lambda item: _read(*item), new))


def _state(path: str, expected: str) -> State:
    status = os.stat(path)
    return expected, status.st_size, status.st_mtime_ns, status.st_ino


def _read(path: str, state: State) -> None:
    with open(path, "rb", buffering=0) as file:
        _require(hashlib.file_digest(file, "sha256").hexdigest(), state[0], path)
    _verified[path] = state


def _require(actual: str, expected: str, where: str) -> None:
    if actual != expected:
        raise AlteredFileError(f"{where} has SHA-256 {actual}, but {expected} was written; {REPAIR}")
