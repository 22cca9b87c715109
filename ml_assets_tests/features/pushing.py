"""A small repository with push sources, as compiled, and a process that pushes until it is killed; no Feast."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from ml_assets.features import retrieval
from ml_assets.features.compiled import CompiledRepo, CompiledService, CompiledView
from ml_assets.features.on_demand import POLARS_TYPES
from ml_assets.features.online.backends import open_backend
from ml_assets.features.push import Pusher
from ml_assets.features.reading import DeclaredView, Feature, kind

START = datetime(2013, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=4)
SOURCE = "reports"


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def view(
    name: str,
    keys: dict[str, str],
    features: dict[str, str],
    *,
    push_source: str = SOURCE,
    ttl: timedelta | None = None,
    created: str | None = "created_timestamp",
    stored: str = "",
) -> CompiledView:
    """Return a view over the lake table `features/<name>`, whose columns have the prefix `stored`."""
    found = [
        Feature(item, stored + item, item, dtype, kind(POLARS_TYPES[dtype]) if dtype in POLARS_TYPES else "other")
        for item, dtype in features.items()
    ]
    columns = {item: stored + item for item in keys}
    path = f"lake/features/{name}"
    declared = DeclaredView(name, path, columns, tuple(found), "event_timestamp", created, ttl, bool(push_source))
    return CompiledView(declared, keys, push_source=push_source)


def compiled(*views: CompiledView) -> CompiledRepo:
    """Return a repository with a service of all views."""
    names = tuple(item.name for item in views)
    services = {"all": CompiledService(names, tuple(item.declared for item in views))}
    return CompiledRepo("test", services, {item.name: item for item in views})


PLAIN = view("v", {"k": "String"}, {"x": "Float64", "n": "Int64"})


def row(key: str, event: float, *, created: float | None = None, x: float | None = None) -> dict[str, Any]:
    """Return a row to push to `PLAIN`."""
    times = {"event_timestamp": at(event)} | ({} if created is None else {"created_timestamp": at(created)})
    return {"k": key, **times, "x": x, "n": round(event)}


def push_until_killed(folder: Path, first: int) -> None:
    """Push one row after the other, each of the next event, and write down the number of each that was acknowledged."""
    retrieval.applied_repo = lambda _: compiled(PLAIN)  # type: ignore[assignment]
    backend = open_backend(str(folder / "online.db"), project="test")
    pusher = Pusher(folder, lake_url=str(folder / "lake"), backend=backend)
    with (folder / "acknowledged").open("ab", buffering=0) as file:
        for number in count(first):
            event = number / 3600
            pusher.push(SOURCE, [row(f"k{number % 5}", event, x=float(number))], now=NOW)
            file.write(f"{number}\n".encode())


def serving(folder: Path, port: int) -> None:
    """Serve `PLAIN` until the process is told to end."""
    from ml_assets.features.server import create_app, serve

    retrieval.applied_repo = lambda _: compiled(PLAIN)  # type: ignore[assignment]
    app = create_app(folder, lake_url=str(folder / "lake"), online_url=str(folder / "online.db"), clock=lambda: NOW)
    serve(app, port=port)
