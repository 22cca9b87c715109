"""What the rest of the house asks of the feature store: features for observations, the views' schemas, and `apply`.

All goes through a real `feast.FeatureStore`, so a Feast user finds nothing hidden; but for `service_features` and
`service_views`, which give the same answers from what `apply` compiled, without the seconds that Feast takes to import.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets.features.compiled import (
    CompiledRepo,
    CompiledService,
    applied_services,
    compile_repo,
    compiled_path,
    compiled_repo,
    compiled_service,
    is_current,
    last_services,
)
from ml_assets.features.on_demand import POLARS_TYPES, polars_type, require_request, with_request_features
from ml_assets.features.point_in_time import FeatureError, point_in_time_join, require_zone
from ml_assets.features.reading import Reading, moment_column, view_joins
from ml_assets.features.usage import require_unused

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

CONFIG = "feature_store.yaml"
_APPLYING = threading.Lock()  # definitions are imported under names like `views`; one repository at a time


@dataclass(frozen=True)
class ViewSchema:
    """A feature view as declared: `keys` and `features` map column names to Polars types; `ttl` None is for ever."""

    name: str
    keys: Mapping[str, pl.DataType]
    features: Mapping[str, pl.DataType]
    ttl: timedelta | None
    description: str = ""
    owner: str = ""


def historical_features(
    repo: Path | str,
    service: str,
    observations: pl.DataFrame,
    *,
    as_known_at: datetime | None = None,
    lake_url: str | None = None,
) -> pl.DataFrame:
    """Return the observations, all columns and rows in order, with the service's features as of `event_timestamp`.

    On-demand views read their request columns from the observations; the stored features that they read are there only
    when the service asks for them, as in Feast's online answers.

    `as_known_at`: rows created later do not exist, so the same call next year gives the same frame. `lake_url`: read
    from this lake instead of the one in the registry. Raises `FeatureError`; `RedPartitionError` for red partitions.
    """
    from ml_assets.features.offline_store import PolarsRetrievalJob, reading, require_polars_store

    store = _store(repo)
    require_polars_store(store)
    asked = _service(store, service)
    with reading(as_known_at=as_known_at, lake_url=lake_url):
        # Feast hands the frame to the offline store untouched; a detour over pandas would change types and cost time
        job = store.get_historical_features(entity_df=observations, features=asked)
    assert isinstance(job, PolarsRetrievalJob)
    return _only_asked(job.to_polars(), asked, observations.columns)


def _only_asked(found: pl.DataFrame, service: FeatureService, observed: Collection[str]) -> pl.DataFrame:
    """Drop the features that were read only for on-demand views: Feast leaves them in offline, and out online."""
    asked = {field.name for projection in service.feature_view_projections for field in projection.features}
    if missing := sorted(asked - set(found.columns)):
        raise FeatureError(
            f"feature service {service.name!r}: Feast does not compute {missing} offline; take on-demand views into a "
            "service by their own names, without `with_name`"
        )
    return found.drop(name for name in found.columns if name not in asked and name not in observed)


def service_features(
    repo: Path | str,
    service: str,
    observations: pl.DataFrame,
    *,
    as_known_at: datetime | None = None,
    lake_url: str | None = None,
) -> pl.DataFrame:
    """Return what `historical_features` returns, without importing Feast.

    Feast does answer when the service has on-demand views that `on_demand_view` did not make, or when the registry
    changed since the last `apply`.
    """
    found = _compiled_service(repo, service)
    if found is None or found.declared is None:
        return historical_features(repo, service, observations, as_known_at=as_known_at, lake_url=lake_url)
    moment = moment_column(observations)
    require_zone(observations.schema[moment], moment, "observations")
    require_request(observations.schema, found.on_demand)
    joins = view_joins(observations, found.declared, repo=Path(repo).resolve(), how=Reading(as_known_at, lake_url))
    joined = point_in_time_join(observations, joins, event_timestamp=moment, as_known_at=as_known_at)
    return with_request_features(joined, found.on_demand)


def service_views(repo: Path | str, service: str) -> list[str]:
    """Return the names of the stored feature views that a service reads, in its order; without importing Feast.

    What only its on-demand views read is among them; the on-demand views themselves are not: nothing is stored for
    them. Feast does answer when the registry changed since the last `apply`.
    """
    return list((_compiled_service(repo, service) or _applied_service(repo, service)).views)


def _applied_service(repo: Path | str, name: str) -> CompiledService:
    """Return the service as it is in the registry now; imports Feast."""
    store = _store(repo)
    return compiled_service(store, _service(store, name))


def _compiled_service(repo: Path | str, name: str) -> CompiledService | None:
    """Return the service; None when it was not compiled from the registry as it is now."""
    root = Path(repo).resolve()
    found = compiled_repo(_registry_path(root))
    if found is None:
        return None
    if name not in found.services:
        raise _no_service(name, root, found.services)
    return found.services[name]


def applied_repo(repo: Path | str) -> CompiledRepo:
    """Return what was compiled from the repository's registry, without importing Feast; it is applied first if need be.

    Raises `FeatureError` when `repo` is no Feast repository.
    """
    root = Path(repo).resolve()
    found = compiled_repo(_registry_path(root))
    if found is None:
        apply(root)
        found = compiled_repo(_registry_path(root))
    if found is None:
        raise FeatureError(f"{root}: the registry changes while it is read; try again when nobody applies it")
    return found


def current_repo(repo: Path | str) -> CompiledRepo | None:
    """Return what was compiled from the definitions as they are now; None when they have to be applied first.

    Nothing is imported and nothing is written. Raises `FeatureError` when `repo` is no Feast repository.
    """
    root = Path(repo).resolve()
    registry = _registry_path(root)
    return compiled_repo(registry) if _is_applied(registry, _fingerprint(root)) else None


def compiled_file(repo: Path | str) -> Path:
    """Return where the repository's compiled form is kept, beside its registry; there may be none yet."""
    return compiled_path(_registry_path(Path(repo).resolve()))


def view_schemas(repo: Path | str, service: str | None = None) -> dict[str, ViewSchema]:
    """Return the applied feature views by name; with `service`, only its views with only its features."""
    store = _store(repo)
    wanted = None
    if service:
        projections = _service(store, service).feature_view_projections
        wanted = {item.name: {field.name for field in item.features} for item in projections}
    views = [view for view in store.list_feature_views() if wanted is None or view.name in wanted]
    return {
        view.name: ViewSchema(
            name=view.name,
            keys={field.name: _polars_type(field.dtype) for field in view.entity_columns},
            features={
                field.name: _polars_type(field.dtype)
                for field in view.features
                if wanted is None or field.name in wanted[view.name]
            },
            ttl=view.ttl or None,
            description=view.description,
            owner=view.owner,
        )
        for view in views
    }


def apply(repo: Path | str) -> bool:
    """Bring the registry and the online store in line with the definitions, as `feast apply` does; tell if it had to.

    When the definitions, `ML_ASSETS_LAKE`, Feast and the registry are those of the last time, nothing is imported.
    Objects that are no longer defined are removed; the services are compiled for `service_features`. Raises
    `FeatureError` when `repo` is no Feast repository, or when a feature in use would be removed or change its type.
    """
    root = Path(repo).resolve()
    registry, state = _registry_path(root), _fingerprint(root)
    if _is_applied(registry, state):
        return False
    with _APPLYING:
        registry.parent.mkdir(parents=True, exist_ok=True)
        _apply(root)
        compile_repo(root, registry, state)
        _stamp(registry).write_text(state)
    return True


def _is_applied(registry: Path, state: str) -> bool:
    """Tell whether definitions of this fingerprint were applied, and the registry has not changed since."""
    stamp = _stamp(registry)
    return stamp.exists() and stamp.read_text() == state and is_current(registry, state)


def _stamp(registry: Path) -> Path:
    return registry.with_suffix(".applied")


def _apply(root: Path) -> None:
    from feast import FeatureStore, Project
    from feast.repo_operations import extract_objects_for_apply_delete

    store = FeatureStore(repo_path=str(root))
    repo = _definitions(root)
    if not repo.projects:
        repo.projects.append(Project(name=store.project))
    _require_unused(store, repo)
    for view in repo.feature_views:
        if view.batch_source is not None:
            store._get_provider().validate_data_source(store.config, view.batch_source)
    changed, gone, *_ = extract_objects_for_apply_delete(store.project, store.registry, repo)
    with warnings.catch_warnings():
        # not news to whoever declares one; and that they do not scale does not hold for this offline store
        warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
        store.apply(changed, objects_to_delete=gone, partial=False)


def _require_unused(store: FeatureStore, repo: Any) -> None:
    """Refuse definitions that break a service. What was compiled last counts, since `feast apply` asks nobody."""
    before = last_services(_registry_path(Path(store.repo_path)))
    views = [*repo.feature_views, *repo.stream_feature_views, *repo.on_demand_feature_views]
    after = {view.name: {field.name: str(field.dtype) for field in view.features} for view in views}
    require_unused(
        applied_services(store) if before is None else before,
        after,
        services={service.name for service in repo.feature_services},
    )


def _definitions(root: Path) -> Any:
    """Return the Feast objects that the repository's modules define.

    Feast's own `parse_repo` changes the working directory of the process, which threads share.
    """
    from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project, StreamFeatureView
    from feast.data_source import DataSource
    from feast.feature_view import DUMMY_ENTITY
    from feast.permissions.permission import Permission
    from feast.repo_contents import RepoContents

    with _modules(root) as modules:
        found = list({id(item): item for module in modules for item in vars(module).values()}.values())

    def of(kind: type, *without: type) -> list[Any]:
        return [item for item in found if isinstance(item, kind) and not isinstance(item, without)]

    views = of(FeatureView, StreamFeatureView)
    sources = {id(item): item for item in of(DataSource)}
    for view in [*views, *of(StreamFeatureView)]:
        sources |= {id(item): item for item in (view.batch_source, view.stream_source) if item is not None}
    return RepoContents(
        projects=of(Project),
        data_sources=list(sources.values()),
        entities=[*of(Entity), DUMMY_ENTITY],
        feature_views=views,
        on_demand_feature_views=of(OnDemandFeatureView),
        stream_feature_views=of(StreamFeatureView),
        feature_services=of(FeatureService),
        permissions=of(Permission),
        label_views=[],
    )


@contextmanager
def _modules(root: Path) -> Iterator[list[Any]]:
    """Import the repository's modules under their plain names, as Feast does, and forget them afterwards."""
    names = [".".join(path.relative_to(root).with_suffix("").parts) for path in _python_files(root)]
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(root))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def _python_files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if path.name != "__init__.py" and "__pycache__" not in path.parts)


def _fingerprint(root: Path) -> str:
    from importlib.metadata import version

    digest = hashlib.sha256(f"{version('feast')} {os.environ.get('ML_ASSETS_LAKE', '')}".encode())
    for path in [root / CONFIG, *_python_files(root)]:
        digest.update(f"\n{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _registry_path(root: Path) -> Path:
    import yaml

    path = root / CONFIG
    if not path.is_file():
        raise FeatureError(f"{root} is no Feast repository: it has no {CONFIG}")
    registry = yaml.safe_load(os.path.expandvars(path.read_text())).get("registry", "data/registry.db")
    location = registry["path"] if isinstance(registry, dict) else registry
    return root / (location if "://" not in location else ".registry")


def _store(repo: Path | str) -> FeatureStore:
    from feast import FeatureStore

    root = Path(repo).resolve()
    if not _registry_path(root).exists():
        raise FeatureError(f"{root} has not been applied; call `retrieval.apply` or run `feast apply` there")
    return FeatureStore(repo_path=str(root))


def _service(store: FeatureStore, name: str) -> FeatureService:
    from feast.errors import FeatureServiceNotFoundException

    try:
        return store.get_feature_service(name)
    except FeatureServiceNotFoundException as error:
        known = [item.name for item in store.list_feature_services()]
        raise _no_service(name, store.repo_path, known) from error


def _no_service(name: str, repo: Path | str, known: Iterable[str]) -> FeatureError:
    return FeatureError(f"no feature service {name!r} in {repo}; it has {sorted(known)}")


def _polars_type(dtype: Any) -> pl.DataType:
    found = polars_type(str(dtype))
    if found is None:
        raise FeatureError(f"Feast type {dtype} has no Polars type here; use one of {list(POLARS_TYPES)}")
    return found
