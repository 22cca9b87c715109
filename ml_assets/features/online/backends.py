"""Where online rows are kept: one interface, two backends, chosen by the URL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from ml_assets.features.online.rows import Change, OnlineRow
from ml_assets.features.point_in_time import FeatureError


class Backend(Protocol):
    """What the online side asks of a place. All methods may be called from several threads and processes at once."""

    def apply(self, view: str, change: Change) -> int:
        """Do what the change says and return how many rows were written; see `Change` and `newer`."""

    def read(self, view: str, keys: Sequence[str]) -> list[OnlineRow | None]:
        """Return the row of each key, in order; None for a key without one."""

    def rows(self, view: str, origins: Collection[str] | None = None) -> list[OnlineRow]:
        """Return all rows of a view, or those of the given origins. Reads the whole view: not for serving."""

    def keys(self, view: str, *, most: int) -> list[str]:
        """Return up to `most` keys of a view, spread over all of them. Reads all keys: not for serving."""

    def versions(self, view: str, partitions: Collection[str]) -> dict[str, str]:
        """Return the remembered versions of those partitions that have one."""

    def tell(self, view: str, verdict: str) -> None:
        """Remember the outcome of the view's last parity check: "" is green, anything else is why it is red."""

    def verdicts(self) -> dict[str, str]:
        """Return the remembered outcomes by view."""

    def drop(self, view: str) -> None:
        """Forget the view: rows, versions and verdict."""


def open_backend(url: str, *, project: str) -> Backend:
    """Return the backend at `redis://host:port/db`, `rediss://…`, or a file path (`sqlite:///path` too)."""
    if url.startswith(("redis://", "rediss://", "unix://")):
        from ml_assets.features.online.redis import RedisBackend

        return RedisBackend(url, project=project)
    if "://" in url and not url.startswith("sqlite:///"):
        raise FeatureError(f"online store {url!r} is not known; give a file path or redis://host:port/db")
    from ml_assets.features.online.sqlite import SqliteBackend

    return SqliteBackend(Path(url.removeprefix("sqlite:///")), project=project)
