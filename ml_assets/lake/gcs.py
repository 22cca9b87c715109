"""Objects in a bucket of Google Cloud Storage, through its own client: the bucket decides every race by generations.

Credentials are the application's default ones; with STORAGE_EMULATOR_HOST there are none. The client repeats what failed for
a moment (429, 503, a cut connection), so a write may succeed unheard and be refused the second time: it is then read back.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ml_assets.lake.objects import ABSENT, StoredObject, lost

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket, Client

LISTED = "items(name,size,generation,updated,crc32c),nextPageToken"
CONNECTIONS = 32  # at once; the client's own ten make sixteen readers wait
MOST_TRIES = 3  # of a download whose bytes do not have the bucket's checksum


class GcsBucket:
    """A backend below `gs://bucket/prefix`."""

    def __init__(self, url: str, client: Client | None = None) -> None:
        """Nothing is asked before the first use, not even credentials."""
        self._url = url
        self._name, _, self._root = url.split("://", 1)[1].partition("/")
        self._given = client

    def path(self, name: str) -> str:
        """Return the URL."""
        return f"{self._url}/{name}"

    def read(self, name: str, generation: str | None) -> bytes:
        """Return the bytes as they are stored (also those that the bucket would decompress), compared with its checksum."""
        from google.cloud.exceptions import NotFound

        pinned = _number(generation, self.path(name))
        with _told(self.path(name)):
            try:
                return self._download(self._blob(name, generation=pinned))
            except NotFound as error:
                if generation is None:
                    raise FileNotFoundError(f"{self.path(name)} is not there") from error
                raise lost(self.path(name), generation) from error

    def _download(self, blob: Blob) -> bytes:
        """Return the bytes, which have the checksum that came with them.

        The client compares too, but not what it put together from several answers after one was cut.
        """
        for _ in range(MOST_TRIES):
            data = bytes(blob.download_as_bytes(checksum=None, raw_download=True))
            if blob.crc32c in (None, _crc32c(data)):  # the emulator may say none
                return data
        raise OSError(
            f"{self._url}: {blob.name} came {MOST_TRIES} times with other bytes than the bucket's checksum; look at the network"
        )

    def write(self, name: str, data: bytes, only: str | None) -> str:
        """Upload; the bucket refuses bytes that do not arrive whole. An unknown outcome is read back, never deleted."""
        from google.api_core.exceptions import GoogleAPIError, PreconditionFailed
        from requests import RequestException

        checksum, expected = _crc32c(data), 0 if only == ABSENT else _number(only, self.path(name))
        with _told(self.path(name)):
            blob = self._blob(name)
            try:
                blob.upload_from_string(
                    data,
                    content_type="application/octet-stream",
                    if_generation_match=expected,
                    checksum="crc32c",
                    crc32c_checksum_value=checksum,
                )
            except (GoogleAPIError, RequestException, OSError) as error:
                if generation := self._generation_of(name, len(data), checksum):
                    return generation
                if isinstance(error, PreconditionFailed):
                    raise lost(self.path(name), only) from error
                raise
        return str(blob.generation)

    def _generation_of(self, name: str, size: int, checksum: str) -> str | None:
        """Return the generation of the object when it holds just these bytes."""
        found = self.stat(name)
        same = found and (found.size, found.checksum) == (size, f"crc32c:{checksum}")
        return found.generation if found and same else None

    def stat(self, name: str) -> StoredObject | None:
        """Return the object without its bytes, or None."""
        with _told(self.path(name)):
            blob = self._bucket.get_blob(self._key(name))
        return self._object(blob) if blob else None

    def remove(self, name: str, generation: str | None) -> None:
        """Remove the object."""
        from google.cloud.exceptions import NotFound, PreconditionFailed

        with _told(self.path(name)), contextlib.suppress(NotFound):
            try:
                self._blob(name).delete(if_generation_match=_number(generation, self.path(name)))
            except PreconditionFailed as error:
                raise lost(self.path(name), generation) from error

    def objects(self, prefix: str, after: str) -> Iterator[StoredObject]:
        """Yield the objects below a folder, page by page; the empty objects that stand for folders are left out."""
        offset = self._key(after) if after else None
        with _told(self.path(prefix)):
            for blob in self._bucket.list_blobs(prefix=self._below(prefix), start_offset=offset, fields=LISTED):
                found = self._object(blob)
                if found.name > after and (found.size or not found.name.endswith("/")):
                    yield found

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the folders in a folder."""
        below = self._below(prefix) or ""
        with _told(self.path(prefix)):
            listing = self._bucket.list_blobs(prefix=below, delimiter="/", fields="prefixes,nextPageToken")
            for page in listing.pages:
                yield from (found.removeprefix(below).rstrip("/") for found in page.prefixes)

    @cached_property
    def _bucket(self) -> Bucket:
        client = self._given or _client(os.environ.get("STORAGE_EMULATOR_HOST", ""))
        return client.bucket(self._name)

    def _blob(self, name: str, **options: Any) -> Blob:
        return self._bucket.blob(self._key(name), **options)

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    def _below(self, prefix: str) -> str | None:
        key = self._key(prefix).strip("/")
        return f"{key}/" if key else None

    def _object(self, blob: Blob) -> StoredObject:
        return StoredObject(
            name=blob.name.removeprefix(f"{self._root}/") if self._root else blob.name,
            size=int(blob.size),
            generation=str(blob.generation),
            modified_at=blob.updated,
            checksum=f"crc32c:{blob.crc32c}",
        )


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Let what the client raises in the end be an `OSError` that names the place, as it is for a folder and other buckets."""
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except NotFound as error:  # an object that may be missing was seen to before
        raise FileNotFoundError(f"{path}: {error.message}") from error
    except (GoogleAPIError, GoogleAuthError) as error:
        raise OSError(f"{path}: {error}") from error


@lru_cache
def _client(emulator: str) -> Client:
    """Return one client for the whole process, which threads may share; another one when the emulator moves."""
    from google.cloud.storage import Client

    return widened(Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT")))  # objects need none


def widened(client: Client) -> Client:
    """Return the client with as many connections as there are threads that read and write."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        client._http.mount(scheme, HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS))
    return client


def _number(generation: str | None, path: str) -> int | None:
    if generation is None:
        return None
    if not generation.isdecimal():  # of a folder, before it moved to the bucket
        raise lost(path, generation)
    return int(generation)


def _crc32c(data: bytes) -> str:
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
