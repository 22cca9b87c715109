"""The applied feature repository in a form that can be read without Feast, whose import takes seconds.

`retrieval.apply` writes it beside the registry, as `<registry>.compiled.json`, with the hash of the registry that it
was made from: what does not describe the registry as it is now does not count. Format 3::

    {"format": 2, "fingerprint": "<of the definitions>", "registry": "<sha256>", "project": "ml_assets",
     "services": {
        "flight_delay_v1": {"views": ["origin_weather", …], "declared": [{"name": "origin_weather", "path": …}, …],
                            "uses": {"origin_weather": {"temp": "Float64", …}, …}, "tags": {"problem": …}},
        "other": {"views": […], "uses": …, "tags": …, "reason": "why only Feast can answer for it"}},
     "views": {"origin_weather": {"declared": {…}, "keys": {"origin": "String"}, "owner": …}}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.reading import DeclaredView, Feature
from ml_assets.lake import Store

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView

FORMAT = 3  # another one is compiled anew; raise it with every change of what is written or of what it means


@dataclass(frozen=True)
class CompiledService:
    """A feature service: its views by name, and as reading needs them, or None with the `reason` why not.

    `uses` holds every feature that it depends on, with its Feast type, by view; sources of on-demand views included.
    """

    views: tuple[str, ...]
    declared: tuple[DeclaredView, ...] | None
    reason: str = ""
    uses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CompiledView:
    """A feature view with all its features. `keys` maps its join keys to Feast types, `features` its features.

    `declared` is how it is read; `push_source` names the push source that it takes rows from, "" for none;
    `descriptions` are those of its features, "" for none.
    """

    declared: DeclaredView
    keys: Mapping[str, str]
    description: str = ""
    owner: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    push_source: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the view's name."""
        return self.declared.name

    @property
    def features(self) -> dict[str, str]:
        """Return the Feast types of the features, by name."""
        return {feature.name: feature.declared for feature in self.declared.features}


@dataclass(frozen=True)
class CompiledRepo:
    """An applied repository: its project, feature services and feature views by name.

    A view that this house's store cannot read (another kind of source) is left out.
    """

    project: str
    services: Mapping[str, CompiledService]
    views: Mapping[str, CompiledView]


def compiled_repo(registry: Path) -> CompiledRepo | None:
    """Return what was compiled; None when there is no file that describes this registry as it is now."""
    found = _read(registry)
    if found is None or found["registry"] != _digest(registry):
        return None
    return CompiledRepo(
        project=found["project"],
        services={name: _service(entry) for name, entry in found["services"].items()},
        views={name: _compiled_view(entry) for name, entry in found["views"].items()},
    )


def last_services(registry: Path) -> Mapping[str, CompiledService] | None:
    """Return the services as last compiled, though the registry may have changed since; None when they never were."""
    found = _read(registry)
    return None if found is None else {name: _service(entry) for name, entry in found["services"].items()}


def is_current(registry: Path, fingerprint: str) -> bool:
    """Tell whether the services were compiled from these definitions, and the registry has not changed since."""
    found = _read(registry)
    return found is not None and (found["fingerprint"], found["registry"]) == (fingerprint, _digest(registry))


def compile_repo(repo: Path, registry: Path, fingerprint: str) -> None:
    """Compile an applied repository, and replace the file in one step. Imports Feast."""
    from feast import FeatureStore

    digest = _digest(registry)  # before it is opened: what somebody else applies meanwhile makes the file stale
    store = FeatureStore(repo_path=str(repo))
    services = applied_services(store)
    content = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "registry": digest,
        "project": store.project,
        "services": {name: _entry(services[name]) for name in sorted(services)},
        "views": {view.name: asdict(view) | {"declared": _view_entry(view.declared)} for view in _views(store)},
    }
    path = _path(registry)
    Store(str(path.parent)).write(path.name, json.dumps(content, indent=1).encode())


# -- from Feast --------------------------------------------------------------------------------------------------------


def applied_services(store: FeatureStore) -> dict[str, CompiledService]:
    """Return the services that are in the registry now, by name."""
    return {service.name: _compiled(store, service) for service in store.list_feature_services()}


def _compiled(store: FeatureStore, service: FeatureService) -> CompiledService:
    from feast.errors import FeastError

    known = {view.name for view in store.list_feature_views()}
    views = tuple(dict.fromkeys(item.name for item in service.feature_view_projections if item.name in known))
    about: Any = {"uses": _uses(store, service), "tags": dict(sorted(service.tags.items()))}
    try:
        return CompiledService(views, _declared(store, service), **about)
    except (ValueError, KeyError, TypeError, FeastError) as error:  # let Feast refuse it in its own words
        return CompiledService(views, None, f"{type(error).__name__}: {error}", **about)


def _uses(store: FeatureStore, service: FeatureService) -> dict[str, dict[str, str]]:
    """Return the features, with their Feast types, that a service depends on, by view.

    An on-demand view is named too, and so is what it is computed from.
    """
    computed = {view.name: view for view in store.list_on_demand_feature_views()}
    used = list(service.feature_view_projections)
    for view in (computed[item.name] for item in service.feature_view_projections if item.name in computed):
        used += view.source_feature_view_projections.values()
    found: dict[str, dict[str, str]] = {}
    for projection in used:
        found.setdefault(projection.name, {}).update({item.name: str(item.dtype) for item in projection.features})
    return found


def _declared(store: FeatureStore, service: FeatureService) -> tuple[DeclaredView, ...]:
    """Take the steps that Feast takes before it hands over to the offline store, with its own functions."""
    from feast import utils

    from ml_assets.features.offline_store import asked_features, declared_view, require_polars_store

    require_polars_store(store)
    views, on_demand = utils._get_feature_views_to_use(store.registry, store.project, service)
    if on_demand:
        raise ValueError(f"on-demand views {[view.name for view in on_demand]} are computed by Feast")
    refs = utils._get_features(store.registry, store.project, service)
    utils._validate_feature_refs(refs)
    return tuple(declared_view(view, asked) for view, asked in asked_features(views, refs) if asked)


def _views(store: FeatureStore) -> list[CompiledView]:
    """Return the views that can be read here, by name."""
    views = (_whole_view(view) for view in [*store.list_feature_views(), *store.list_stream_feature_views()])
    return sorted((view for view in views if view is not None), key=lambda view: view.name)


def _whole_view(view: FeatureView) -> CompiledView | None:
    from feast import PushSource
    from feast.feature_view import DUMMY_ENTITY_ID

    from ml_assets.features.offline_store import declared_view

    try:
        declared = declared_view(view, [field.name for field in view.features])
    except FeatureError:
        return None
    pushed = view.stream_source if isinstance(view.stream_source, PushSource) else None
    return CompiledView(
        declared=declared,
        keys={column.name: str(column.dtype) for column in view.entity_columns if column.name != DUMMY_ENTITY_ID},
        description=view.description,
        owner=view.owner,
        tags=dict(sorted(view.tags.items())),
        push_source=pushed.name if pushed else "",
        descriptions={column.name: column.description for column in view.features},
    )


# -- as JSON -----------------------------------------------------------------------------------------------------------


def _entry(service: CompiledService) -> dict[str, Any]:
    about = {"views": service.views, "uses": service.uses, "tags": service.tags}
    if service.declared is None:
        return about | {"reason": service.reason}
    return about | {"declared": [_view_entry(view) for view in service.declared]}


def _view_entry(view: DeclaredView) -> dict[str, Any]:
    return asdict(view) | {"ttl": view.ttl.total_seconds() if view.ttl else None}


def _service(entry: Mapping[str, Any]) -> CompiledService:
    declared = tuple(map(_view, entry["declared"])) if "declared" in entry else None
    return CompiledService(
        tuple(entry["views"]), declared, entry.get("reason", ""), uses=entry["uses"], tags=entry["tags"]
    )


def _compiled_view(entry: Mapping[str, Any]) -> CompiledView:
    return CompiledView(**{**entry, "declared": _view(entry["declared"])})


def _view(entry: Mapping[str, Any]) -> DeclaredView:
    features = tuple(Feature(**feature) for feature in entry["features"])
    ttl = timedelta(seconds=entry["ttl"]) if entry["ttl"] else None
    return DeclaredView(**{**entry, "features": features, "ttl": ttl})


def _read(registry: Path) -> dict[str, Any] | None:
    """Return the file's content; None when it is missing, damaged, or of another format."""
    try:
        found = json.loads(_path(registry).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _path(registry: Path) -> Path:
    return registry.with_suffix(".compiled.json")


def _digest(registry: Path) -> str:
    """Return the hash of the registry's bytes; "" when there is none."""
    return hashlib.sha256(registry.read_bytes()).hexdigest() if registry.exists() else ""
