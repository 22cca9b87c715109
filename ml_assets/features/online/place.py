"""The online side of a Feast repository: where it is, read from feature_store.yaml without Feast, and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_assets.features.compiled import CompiledRepo
from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.materialize import OnlineSource, online_source
from ml_assets.features.point_in_time import FeatureError

STORE: Final = "ml_assets.features.online_store.PackedOnlineStore"
VARIABLE = "ML_ASSETS_ONLINE"  # the one setting that moves the online store, to redis://host:port/db for example
DEFAULT_URL = "data/online.db"


@dataclass(frozen=True)
class OnlineSide:
    """An applied repository's online store and the lake that its views come from."""

    root: Path
    repo: CompiledRepo
    backend: Backend
    lake_url: str | None = None

    @classmethod
    def open(cls, repo: Path | str, *, lake_url: str | None = None) -> OnlineSide:
        """Return the online side; the repository is applied first if need be. See `repository_backend` for what is raised."""
        from ml_assets.features.retrieval import applied_repo

        root = Path(repo).resolve()
        found = applied_repo(root)
        return cls(root, found, repository_backend(root, project=found.project), lake_url)

    def source(self, view: str) -> OnlineSource:
        """Return where a view comes from; `FeatureError` for a view that is not declared or not in a lake."""
        if view not in self.repo.views:
            raise FeatureError(
                f"feature view {view!r} is not declared in {self.root}; it has {sorted(self.repo.views)}"
            )
        return online_source(self.repo.views[view], repo=self.root, lake_url=self.lake_url)


def repository_backend(repo: Path, *, project: str) -> Backend:
    """Return the backend that feature_store.yaml or `ML_ASSETS_ONLINE` names.

    Raises `FeatureError` when the repository is configured with another online store, which has other guarantees.
    """
    config = _online_store(repo)
    if config.get("type") != STORE:
        raise FeatureError(
            f"{repo}/feature_store.yaml: online_store.type is {config.get('type')!r}, which lets older values replace newer ones "
            f"and does not honour the TTL; use {STORE}"
        )
    return open_backend(online_url(str(config.get("url", DEFAULT_URL)), repo), project=project)


def online_url(url: str, repo: Path | str | None) -> str:
    """Return the URL of the online store: `ML_ASSETS_ONLINE` if set, else `url`; file paths are relative to the repository.

    A path in the variable is relative to the folder above the repository, as in `ML_ASSETS_LAKE`.
    """
    named = os.environ.get(VARIABLE)
    base = Path(repo or ".").resolve()
    if named:
        return named if "://" in named else str((base.parent / named).resolve())
    return url if "://" in url else str((base / url).resolve())


def _online_store(repo: Path) -> Mapping[str, Any]:
    import yaml

    path = repo / "feature_store.yaml"
    if not path.is_file():
        raise FeatureError(f"{repo} is no Feast repository: it has no feature_store.yaml")
    found = yaml.safe_load(os.path.expandvars(path.read_text())).get("online_store")
    return found if isinstance(found, dict) else {"type": found}
