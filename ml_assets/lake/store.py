"""Objects under one URL: a local folder or a bucket, with the same few operations and the same guarantees.

Every write is whole or invisible. `expect` makes it conditional: a writer that read an old state loses the race cleanly.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

# What file systems call an object's version and the time of its last change, the most exact first.
GENERATIONS = ("generation", "etag", "ETag", "mtime", "created")
MOMENTS = ("updated", "mtime", "LastModified", "created")
NATIVE = ("gs", "gcs", "s3", "az", "abfs")  # schemes that Polars reads itself


class PreconditionFailed(ValueError):
    """The object changed (or appeared) since it was read: somebody else wrote it first. Read again and retry."""


@dataclass(frozen=True)
class StoredObject:
    """One object as listed.

    `generation` changes with every overwrite: the bucket's generation number, or mtime and size for a folder.
    """

    name: str
    size: int
    generation: str
    modified_at: datetime


class Store:
    """Objects under `url`: `data/landing`, `file:///…`, `gs://bucket/prefix`, or any other fsspec URL.

    Local folders are handled without fsspec, because a lake has thousands of small files and fsspec doubles their cost.
    """

    def __init__(self, url: str) -> None:
        """`url` need not exist yet; the first write makes it."""
        self.url = url.rstrip("/")
        self.is_local = "://" not in url or url.startswith("file://")
        self._root = Path(url.removeprefix("file://")) if self.is_local else None

    def __repr__(self) -> str:
        """Show the URL."""
        return f"Store({self.url!r})"

    def path(self, name: str) -> str:
        """Return the full path or URL of `name`, as Polars reads it."""
        return f"{self._root if self.is_local else self.url}/{_safe(name)}"

    @property
    def polars_reads(self) -> bool:
        """Tell whether Polars reads this URL by itself; emulators and exotic schemes it does not."""
        scheme = self.url.split("://", 1)[0]
        return self.is_local or (scheme in NATIVE and "STORAGE_EMULATOR_HOST" not in os.environ)

    def exists(self, name: str) -> bool:
        """Tell whether the object is there."""
        if self.is_local:
            return self._local(name).is_file()
        return bool(self._fs.isfile(self._remote(name)))

    def read(self, name: str) -> bytes:
        """Return the object's bytes; `FileNotFoundError` when it is not there."""
        if self.is_local:
            with open(self.path(name), "rb", buffering=0) as file:  # a third of the time of Path.read_bytes
                return file.read()
        return bytes(self._fs.cat_file(self._remote(name)))

    def write(self, name: str, data: bytes, *, expect: Literal["anything", "absent"] = "anything") -> None:
        """Write the whole object or nothing. With `expect="absent"`, `PreconditionFailed` when it exists already."""
        if self.is_local:
            self._write_local(name, data, absent=expect == "absent")
        else:
            self._write_remote(name, data, absent=expect == "absent")

    def settle(self, folder: str) -> None:
        """Make what was written in a folder survive a power failure under its name; `write` alone survives any crash of ours.

        A bucket needs nothing.
        """
        if self.is_local:
            for place in (folder, *(str(parent) for parent in Path(folder).parents)):
                _sync_folder(self._local("" if place == "." else place))

    def remove(self, name: str) -> None:
        """Remove one object; one that is already gone is no error."""
        if self.is_local:
            self._local(name).unlink(missing_ok=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._remote(name))

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names of the objects below the folder `prefix`; temporary files are left out."""
        return [found.name for found in self.objects(prefix)]

    def objects(self, prefix: str = "") -> list[StoredObject]:
        """Return the objects below the folder `prefix`, sorted by name; temporary files are left out."""
        found = self._list_local(prefix) if self.is_local else self._list_remote(prefix)
        return sorted(found, key=lambda item: item.name)

    def folders(self, prefix: str = "") -> list[str]:
        """Return the sorted names of the folders directly below `prefix`."""
        if self.is_local:
            root = self._local(prefix)
            return sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []
        try:
            entries = self._fs.ls(self._remote(prefix), detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory")

    # -- local ---------------------------------------------------------------------------------------------------------

    def _local(self, name: str) -> Path:
        assert self._root is not None
        return self._root / _safe(name) if name else self._root

    def _write_local(self, name: str, data: bytes, *, absent: bool) -> None:
        target = self._local(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".tmp-{uuid4().hex}"  # not mkstemp, which would leave it to its owner alone
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if absent:
                os.link(temporary, target)
            else:
                os.replace(temporary, target)
        except FileExistsError as error:
            raise PreconditionFailed(f"{target} exists already; read it and decide again") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _list_local(self, prefix: str) -> Iterator[StoredObject]:
        assert self._root is not None
        for folder, folders, files in os.walk(self._local(prefix)):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):  # renamed or removed while we looked
                        yield _local_object(self._root, Path(folder) / name)

    # -- bucket --------------------------------------------------------------------------------------------------------

    @property
    def _fs(self) -> Any:
        import fsspec

        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # a 60 s hang against emulators otherwise
        return fsspec.filesystem(self.url.split("://", 1)[0], use_listings_cache=False)

    def _remote(self, name: str) -> str:
        root = self.url.split("://", 1)[1]
        return f"{root}/{_safe(name)}" if name else root

    def _write_remote(self, name: str, data: bytes, *, absent: bool) -> None:
        from fsspec.exceptions import FSTimeoutError

        try:
            self._fs.pipe_file(self._remote(name), data, mode="create" if absent else "overwrite")
        except FileExistsError as error:
            if self._holds(name, data):  # our own write whose answer was lost, retried
                return
            raise PreconditionFailed(f"{self.path(name)} exists already; read it and decide again") from error
        except (OSError, FSTimeoutError):
            if not self._holds(name, data):
                raise

    def _holds(self, name: str, data: bytes) -> bool:
        """After an unknown outcome: read back and compare, never delete."""
        return self.exists(name) and hashlib.sha256(self.read(name)).digest() == hashlib.sha256(data).digest()

    def _list_remote(self, prefix: str) -> Iterator[StoredObject]:
        root = self._fs._strip_protocol(self.url)
        try:
            found = self._fs.find(self._remote(prefix), detail=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            yield StoredObject(
                name=path.removeprefix(root).lstrip("/"),
                size=int(info["size"]),
                generation=str(_first(info, *GENERATIONS)),
                modified_at=_moment(_first(info, *MOMENTS)),
            )


def _safe(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"object name {name!r} leaves its folder; use a relative name without '..'")
    return name


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_object(root: Path, path: Path) -> StoredObject:
    status = path.stat()
    return StoredObject(
        name=path.relative_to(root).as_posix(),
        size=status.st_size,
        generation=f"{status.st_mtime_ns}-{status.st_size}",
        modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )


def _first(info: Mapping[str, Any], *names: str) -> Any:
    return next((info[name] for name in names if info.get(name) is not None), None)


def _moment(value: Any) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, (int, float)):
        value = datetime.fromtimestamp(value, UTC)
    if not isinstance(value, datetime):
        raise ValueError(f"object time {value!r} is neither a time nor an ISO string")
    return value if value.tzinfo else value.replace(tzinfo=UTC)
