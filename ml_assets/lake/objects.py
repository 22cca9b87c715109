"""What every kind of store has in common: an object as listed, the lost race, and the operations of a backend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

ABSENT = ""  # as the generation that a write replaces: none, the object must not exist


class PreconditionFailed(ValueError):
    """The object changed (or appeared, or went) since it was read: somebody else was first. Read again and retry."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as listed.

    `generation` changes with every overwrite: a bucket's generation number, an ETag with the second of its upload, or time,
    size and inode in a folder. `checksum` is the store's own: `crc32c:<base64>` on gs://, `etag:…` on s3://, "" in a folder.
    """

    name: str
    size: int
    generation: str
    modified_at: datetime
    checksum: str = ""


class Backend(Protocol):
    """Objects in one kind of place. Names are relative to the store's root, and "" is the root.

    `only` of a write is the generation that it replaces, `ABSENT` for none, or None for whatever is there.
    """

    def path(self, name: str) -> str:
        """Return the full path or URL."""

    def read(self, name: str, generation: str | None) -> bytes:
        """Return the bytes; `FileNotFoundError`, or `PreconditionFailed` when a generation is given and is not there."""

    def write(self, name: str, data: bytes, only: str | None) -> str:
        """Write all or nothing and return the new generation; `PreconditionFailed` when `only` is not what is there."""

    def stat(self, name: str) -> StoredObject | None:
        """Return the object without its bytes, or None."""

    def remove(self, name: str, generation: str | None) -> None:
        """Remove the object; one that is already gone is no error. `PreconditionFailed` when it is not that generation."""

    def objects(self, prefix: str, after: str) -> Iterable[StoredObject]:
        """Yield the objects below the folder `prefix` whose names are greater than `after`, in any order."""

    def folders(self, prefix: str) -> Iterable[str]:
        """Yield the names of the folders directly below `prefix`, in any order."""


def safe(name: str) -> str:
    """Return `name`; `ValueError` when it leaves its folder."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"object name {name!r} leaves its folder; use a relative name without '..'")
    return name


def lost(path: str, only: str | None) -> PreconditionFailed:
    """Return the error of a write (or a pinned read) that came too late."""
    if only == ABSENT:
        return PreconditionFailed(f"{path} exists already; read it and decide again")
    return PreconditionFailed(f"{path} is no longer generation {only}; read it and decide again")
