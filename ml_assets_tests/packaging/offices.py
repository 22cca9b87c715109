"""A registry in memory, with bundles on disk that differ in one number: how good they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from ml_assets.development.tracking import ChampionRef, Tracking
from ml_assets.lake import Store
from ml_assets.packaging.bundle import BundleManifest
from ml_assets.packaging.champion import Champion, tags_of
from ml_assets.packaging.office import Outcome, promote, register
from ml_assets.packaging.promotion import Decision
from ml_assets_tests.development.samples import model_of
from ml_assets_tests.packaging.bundles import built, stored

NOW = datetime(2013, 11, 1, tzinfo=UTC)
PROBLEM = "late"


class FakeRegistry:
    """What the office asks of MLflow, in memory and safe for threads."""

    def __init__(self) -> None:
        self.known: list[ChampionRef] = []
        self.named: dict[str, str] = {}
        self.lock = threading.Lock()

    def register(self, problem: str, run_id: str, *, source: str, tags: Mapping[str, str]) -> str:
        with self.lock:
            self.known.append(ChampionRef(problem, str(len(self.known) + 1), run_id, source, dict(tags)))
            return self.known[-1].version

    def tag_version(self, problem: str, version: str, tags: Mapping[str, str]) -> None:
        with self.lock:
            found = self.known[int(version) - 1]
            self.known[int(version) - 1] = replace(found, tags={**found.tags, **tags})

    def versions(self, problem: str = "") -> list[ChampionRef]:
        return list(self.known)

    def version(self, problem: str, version: str) -> ChampionRef | None:
        return {one.version: one for one in self.known}.get(version)

    def aliases(self, problem: str) -> dict[str, str]:
        return dict(self.named)

    def champion(self, problem: str, *, alias: str = "champion") -> ChampionRef | None:
        return self.version(problem, self.named.get(alias, ""))

    def set_alias(self, problem: str, alias: str, version: str) -> None:
        self.named[alias] = version

    def remove_alias(self, problem: str, alias: str) -> None:
        self.named.pop(alias, None)

    def registered_at(self, problem: str, version: str) -> datetime:
        return NOW


def packed(folder: Path, score: float) -> BundleManifest:
    """Return a bundle whose threshold tells how good it is."""
    result = stored(folder / "model", model_of("binary", "baseline"))
    return built(folder / f"bundle-{score}", result, problem=PROBLEM, threshold=score)


def registered(tracking: Any, folder: Path, score: float, *, run_id: str = "run") -> str:
    """Register a bundle that is as good as `score` (0 to 1), and return its version."""
    bundle, tags = packed(folder, score), tags_of(data_hash="abc", fitted_until=NOW, live_from=NOW, test_metrics={})
    return register(
        cast(Tracking, tracking), PROBLEM, run_id=run_id, folder=Path(bundle.folder), digest=bundle.digest, tags=tags
    )


def judge(score: float) -> Callable[[Champion | None], Decision]:
    """Return who decides for a challenger of this score: it must be better."""

    def decide(office: Champion | None) -> Decision:
        theirs = office.bundle.threshold if office else 0.0
        return Decision(score > theirs, f"{score} against {theirs}")

    return decide


def stand(tracking: Any, store: Store, folder: Path, score: float, **more: Any) -> Outcome:
    """Register a challenger and let it stand for office."""
    version = registered(tracking, folder, score)
    told = {"decide": judge(score), "who": f"retrain {score}", "when": NOW, **more}
    return promote(cast(Tracking, tracking), store, PROBLEM, version, **told)
