"""Objects at any other URL that fsspec knows: `s3://`, `az://`, `memory://`.

On `s3://` the store itself decides races, by If-None-Match and If-Match with the ETag. Other file systems of fsspec have
no such condition on what they replace: there a comparison goes before the write, and only threads of one process exclude each other.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ml_assets.lake.objects import ABSENT, StoredObject, lost, safe

S3 = ("s3", "s3a")
# What file systems call an object's version and the time of its last change, the most exact first.
ETAGS = ("etag", "ETag")
SINCE = "@"  # between ETag and time in a generation: equal bytes that come back later have the same ETag
MOMENTS = ("updated", "mtime", "LastModified", "created")
# What S3 says when a condition does not hold; the last when that which is to be replaced is not there.
REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey")
_comparing = threading.Lock()


class RemoteFolder:
    """A backend below an fsspec URL."""

    def __init__(self, url: str) -> None:
        """Nothing is asked before the first use."""
        self._url = url
        self._scheme, _, self._root = url.partition("://")

    @property
    def _fs(self) -> Any:
        import fsspec

        return fsspec.filesystem(self._scheme, use_listings_cache=False)

    def path(self, name: str) -> str:
        """Return the URL."""
        return f"{self._url}/{safe(name)}"

    def read(self, name: str, generation: str | None) -> bytes:
        """Return the bytes. With `generation`, it is compared before and after, so what changes meanwhile is refused."""
        if generation is None:
            return bytes(self._fs.cat_file(self._remote(name)))
        self._require(name, generation)
        try:
            data = bytes(self._fs.cat_file(self._remote(name)))
        except FileNotFoundError as error:
            raise lost(self.path(name), generation) from error
        self._require(name, generation)
        return data

    def _require(self, name: str, generation: str) -> None:
        found = self.stat(name)
        if found is None or found.generation != generation:
            raise lost(self.path(name), generation)

    def write(self, name: str, data: bytes, only: str | None) -> str:
        """Upload. An unknown outcome is read back, never deleted."""
        from fsspec.exceptions import FSTimeoutError

        try:
            answer = self._put(name, data, only)
        except (OSError, FSTimeoutError) as error:
            if not self._holds(name, data):
                raise (lost(self.path(name), only) if _refused(error) else error) from error
            answer = None
        return self._written(name, _etag(answer))

    def _put(self, name: str, data: bytes, only: str | None) -> Any:
        path = self._remote(name)
        if only is None:
            return self._fs.pipe_file(path, data)
        if only == ABSENT:
            return self._fs.pipe_file(path, data, mode="create")
        if self._scheme in S3:
            return self._fs.pipe_file(path, data, IfMatch=only.partition(SINCE)[0])
        with _comparing:
            self._require(name, only)
            return self._fs.pipe_file(path, data)

    def _holds(self, name: str, data: bytes) -> bool:
        found = self.stat(name)
        return bool(found) and hashlib.sha256(self.read(name, None)).digest() == hashlib.sha256(data).digest()

    def _written(self, name: str, etag: str) -> str:
        """Return the generation of what was just written; one that is there no more when another writer was next."""
        found = self.stat(name)
        if found and (not etag or found.checksum == f"etag:{etag}"):
            return found.generation
        return f"{etag}{SINCE}"

    def stat(self, name: str) -> StoredObject | None:
        """Return the object without its bytes, or None."""
        try:
            info = self._fs.info(self._remote(name))
        except FileNotFoundError:
            return None
        return _object(name, info) if info["type"] == "file" else None

    def remove(self, name: str, generation: str | None) -> None:
        """Remove the object; nothing but a comparison before it protects another generation."""
        try:
            if generation is not None and self.stat(name):
                self._require(name, generation)
            self._fs.rm_file(self._remote(name))
        except FileNotFoundError:
            return

    def objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        """Yield the objects below a folder."""
        root = self._fs._strip_protocol(self._url)
        try:
            found = self._fs.find(self._remote(prefix), detail=True)
        except FileNotFoundError:
            return
        for path, info in found.items():
            name = path.removeprefix(root).lstrip("/")
            if name > after and not path.endswith("/"):
                yield _object(name, info)

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the folders in a folder."""
        try:
            entries = self._fs.ls(self._remote(prefix), detail=True)
        except FileNotFoundError:
            return
        for entry in entries:
            if entry["type"] == "directory":
                yield entry["name"].rstrip("/").rsplit("/", 1)[-1]

    def _remote(self, name: str) -> str:
        return f"{self._root}/{safe(name)}" if name else self._root


def _refused(error: BaseException) -> bool:
    """Tell whether the store said that the condition does not hold: s3fs has an exception for absence only."""
    response = getattr(error.__cause__, "response", None) or {}
    return isinstance(error, FileExistsError) or response.get("Error", {}).get("Code") in REFUSED


def _object(name: str, info: Mapping[str, Any]) -> StoredObject:
    etag, modified_at = _first(info, *ETAGS), _moment(_first(info, *MOMENTS))
    return StoredObject(
        name=name,
        size=int(info["size"]),
        generation=f"{etag}{SINCE}{modified_at:%Y-%m-%dT%H:%M:%S}" if etag else modified_at.isoformat(),
        modified_at=modified_at,
        checksum=f"etag:{etag}" if etag else "",
    )


def _etag(answer: Any) -> str:
    return str(_first(answer, *ETAGS) or "") if isinstance(answer, Mapping) else ""


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
