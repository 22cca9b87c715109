"""A small model, an online store with one entity, and an engine of few lines: what the API is tested with."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ml_assets.deployment.api import create_app
from ml_assets.deployment.engine import Answered, NoModelError
from ml_assets.deployment.entities import OnlineFeatures
from ml_assets.features.compiled import CompiledRepo
from ml_assets.features.online.backends import open_backend
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.rows import PUSHED, Change, OnlineRow, Packing, micros, pack_key
from ml_assets.packaging.inference import NUMBERS, TEXTS, Predictor
from ml_assets_tests.features.pushing import NOW, PLAIN, at, compiled

with warnings.catch_warnings(action="ignore"):  # Starlette wants httpx2, a package that nothing else here needs
    from fastapi.testclient import TestClient

FEATURES = {"x": "Float64", "n": "Float64", "far": "Boolean", "k": "String", "distance km": "Float64"}
ROW = {"x": 0.5, "n": 3.0, "far": True, "k": "p", "distance km": 10.0}
OTHER = {"x": 0.0, "n": 1.0, "far": False, "k": "q", "distance km": 20.0}
LOCAL: Any = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 50_000)}


def said(feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """Answer with a sum of effects and one interaction: null counts as nothing."""
    x, n, far, distance = np.nan_to_num(feed[NUMBERS]).T
    return np.clip(0.1 + 0.2 * x + 0.05 * n + 0.1 * x * far + 0.001 * distance + 0.1 * (feed[TEXTS][:, 0] == "p"), 0, 1)


def predictor(features: Mapping[str, str] | None = None, **change: Any) -> Predictor:
    """Return a predictor over `FEATURES`, with two example rows."""
    told: dict[str, Any] = {
        "digest": "d" * 64,
        "problem": "late",
        "model_version": "m7",
        "data_hash": "abc",
        "code_version": "1",
        "threshold": 0.4,
        "output": "probability",
        "classes": (),
        "features": dict(features or FEATURES),
        "example": {"request": {"rows": [ROW, OTHER]}},
        "say": said,
    }
    return Predictor(**told | change)


def in_office(version: str = "7", small: Predictor | None = None, beside: int = 32) -> Any:
    """Return a model in service, as far as the API looks at it; `beside` rows are answered between two requests."""
    one = small or predictor()
    bundle, measured = SimpleNamespace(small=one, threshold=one.threshold), SimpleNamespace(beside=beside)
    return SimpleNamespace(version=version, bundle=bundle, break_even=measured)


class SmallEngine:
    """An engine whose model is set by hand; it remembers what it was asked."""

    def __init__(self, current: Any = None) -> None:
        self.current = current
        self.asked: list[tuple[Any, Any, Any]] = []
        self.told: dict[str, Any] = {}
        self.started = self.closed = 0

    def start(self) -> None:
        self.started += 1

    def close(self) -> None:
        self.closed += 1

    def answer(self, rows: Sequence[Mapping[str, Any]], *, entities: Any = None, statuses: Any = None) -> Answered:
        if self.current is None:
            raise NoModelError("nobody")
        self.asked.append((list(rows), entities, statuses))
        return Answered(self.current.bundle.small.answers(rows), self.current.version, "champion", 0.001, "r1")

    def state(self) -> dict[str, Any]:
        small = self.current and self.current.bundle.small
        model = small and {
            "version": self.current.version,
            "digest": small.digest,
            "data_hash": small.data_hash,
            "seconds_in_service": 60.0,
        }
        nothing = {"problem": "late", "refused": {}, "registry": {}, "trial": None, "log": None}
        return nothing | {"model": model} | self.told


def online_features(
    folder: Path, *, repo: CompiledRepo | None = None, clock: Callable[[], datetime] = lambda: NOW
) -> OnlineFeatures:
    """Return the features of service `all`, of which the store knows those of entity p."""
    found = repo or compiled(PLAIN)
    backend = open_backend(str(folder / "online.db"), project="test")
    packed = Packing(found.views["v"].features).pack({"x": 0.5, "n": 3})
    row = OnlineRow(pack_key(("p",)), micros(at(90)), micros(at(90)), PUSHED, packed)
    backend.apply("v", Change(rows=[row]))
    return OnlineFeatures("all", clock=clock, opened=lambda: OnlineSide(folder, found, backend))


def client(engine: Any, **options: Any) -> TestClient:
    """Return a client of an application over an engine; it raises what the application does not answer."""
    return TestClient(create_app(engine, **options), **LOCAL)


def hashed(key: str) -> str:
    """Return what is kept of an API key."""
    return hashlib.sha256(key.encode()).hexdigest()
