"""Objects under one URL: a local folder or a bucket, with the same few operations and the same guarantees.

Every write is whole or invisible. `expect` and `generation` make it conditional: a writer that read an old state loses the race
cleanly. A read with `generation` returns those bytes or none.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from ml_assets.lake.folder import Folder
from ml_assets.lake.gcs import GcsBucket
from ml_assets.lake.objects import ABSENT, Backend, PreconditionFailed, StoredObject, safe
from ml_assets.lake.remote import RemoteFolder

__all__ = ["PreconditionFailed", "Store", "StoredObject"]

NATIVE = ("gs", "gcs", "s3", "az", "abfs")  # schemes that Polars reads itself
EMULATED = ("STORAGE_EMULATOR_HOST", "AWS_ENDPOINT_URL")


class Store:
    """Objects under `url`: `data/landing`, `file:///…`, `gs://bucket/prefix`, or any other fsspec URL such as `s3://…`."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        """`url` need not exist yet; the first write makes it (not a bucket). `client`: a `google.cloud.storage.Client` for gs://.

        Without it the application's default credentials count, or none with STORAGE_EMULATOR_HOST.
        """
        self.url = url.rstrip("/")
        self.is_local = "://" not in url or url.startswith("file://")
        self.backend = _backend(self.url, client)

    def __repr__(self) -> str:
        """Show the URL."""
        return f"Store({self.url!r})"

    def path(self, name: str) -> str:
        """Return the full path or URL of `name`, as Polars reads it."""
        return self.backend.path(safe(name))

    @property
    def polars_reads(self) -> bool:
        """Tell whether Polars reads this URL by itself; emulators and exotic schemes it does not."""
        native = self.url.split("://", 1)[0] in NATIVE and not any(name in os.environ for name in EMULATED)
        return self.is_local or native

    def exists(self, name: str) -> bool:
        """Tell whether the object is there."""
        return self.stat(name) is not None

    def stat(self, name: str) -> StoredObject | None:
        """Return the object as listed, or None when it is not there."""
        return self.backend.stat(name)

    def read(self, name: str, *, generation: str | None = None) -> bytes:
        """Return the object's bytes; `FileNotFoundError` when it is not there.

        With `generation` exactly that generation's bytes; `PreconditionFailed` when it is another one by now, or gone.
        """
        return self.backend.read(name, generation)

    def write(
        self,
        name: str,
        data: bytes,
        *,
        expect: Literal["anything", "absent"] = "anything",
        generation: str | None = None,
    ) -> str:
        """Write the whole object or nothing, and return its new generation.

        `PreconditionFailed` with `expect="absent"` when it exists already, and with `generation` when it is another one by
        now, or gone. In a bucket that holds just these bytes, whoever wrote them, the write has succeeded.
        """
        if expect == "absent" and generation is not None:
            raise ValueError(f"{name}: give generation or expect='absent', not both")
        return self.backend.write(safe(name), data, ABSENT if expect == "absent" else generation)

    def settle(self, folder: str) -> None:
        """Make what was written in a folder survive a power failure under its name; `write` alone survives any crash of ours.

        A bucket needs nothing.
        """
        if isinstance(self.backend, Folder):
            self.backend.settle(folder)

    def remove(self, name: str, *, generation: str | None = None) -> None:
        """Remove one object; one that is already gone is no error.

        With `generation` only that one; `PreconditionFailed` when it is another one by now. S3 has no such condition: there
        it is compared first.
        """
        self.backend.remove(name, generation)

    def names(self, prefix: str = "", *, after: str = "") -> list[str]:
        """Return the sorted names of the objects below the folder `prefix`; temporary files are left out."""
        return [found.name for found in self.objects(prefix, after=after)]

    def objects(self, prefix: str = "", *, after: str = "") -> list[StoredObject]:
        """Return the objects below the folder `prefix`, sorted by name, from the first name greater than `after`.

        Hidden and temporary files of a folder are left out, and in a bucket the empty objects that stand for folders.
        """
        return sorted(self.backend.objects(safe(prefix), after), key=lambda item: item.name)

    def folders(self, prefix: str = "") -> list[str]:
        """Return the sorted names of the folders directly below `prefix`."""
        return sorted(self.backend.folders(safe(prefix)))


def _backend(url: str, client: Any) -> Backend:
    scheme, _, rest = url.rpartition("://")
    if scheme in ("", "file"):
        return Folder(rest)
    if scheme in ("gs", "gcs"):
        return GcsBucket(url, client)
    return RemoteFolder(url)
