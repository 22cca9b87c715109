"""The applied feature repository in a form that can be read without Feast, whose import takes seconds.

`retrieval.apply` writes it beside the registry, as `<registry>.compiled.json`, with the hash of the registry that it
was made from: what does not describe the registry as it is now does not count. Format 4::

    {"format": 4, "fingerprint": "<of the definitions>", "registry": "<sha256>", "project": "ml_assets",
     "functions": {"package.module.function": "<hash of its module>"},
     "services": {
        "flight_delay_v2": {"views": ["origin_weather", …], "declared": [{"name": "origin_weather", "path": …}, …],
                            "on_demand": [{"name": "departure_context", "function": …, "inputs": […], …}],
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

from ml_assets.features.on_demand import OnDemand, asked_on_demand, hiding_unasked, module_version, on_demand_of
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.reading import DeclaredView, Feature
from ml_assets.lake import Store

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore, FeatureView

FORMAT = 4  # another one is compiled anew; raise it with every change of what is written or of what it means


@dataclass(frozen=True)
class CompiledService:
    """A feature service: its stored views by name, and as reading needs them, or None with the `reason` why not.

    `views` and `declared` include what is read only as an input of the `on_demand` views, which drop it again.
    `uses` holds every feature that it depends on, with its Feast type, by view; sources of on-demand views included.
    """

    views: tuple[str, ...]
    declared: tuple[DeclaredView, ...] | None
    reason: str = ""
    uses: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    on_demand: tuple[OnDemand, ...] = ()


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
    """Tell whether the services were compiled from these definitions, and the registry has not changed since.

    The modules of on-demand functions belong to the definitions, wherever they are.
    """
    found = _read(registry)
    if found is None or (found["fingerprint"], found["registry"]) != (fingerprint, _digest(registry)):
        return False
    return all(_is_version(function, version) for function, version in found["functions"].items())


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
        "functions": _functions(store),
        "services": {name: _entry(services[name]) for name in sorted(services)},
        "views": {view.name: asdict(view) | {"declared": _view_entry(view.declared)} for view in _views(store)},
    }
    path = compiled_path(registry)
    Store(str(path.parent)).write(path.name, json.dumps(content, indent=1).encode())


# -- from Feast --------------------------------------------------------------------------------------------------------


def applied_services(store: FeatureStore) -> dict[str, CompiledService]:
    """Return the services that are in the registry now, by name."""
    return {service.name: compiled_service(store, service) for service in store.list_feature_services()}


def compiled_service(store: FeatureStore, service: FeatureService) -> CompiledService:
    """Return a service of the registry as reading needs it, or with the reason why only Feast can answer for it."""
    from feast.errors import FeastError

    known, uses = {view.name for view in store.list_feature_views()}, _uses(store, service)
    views = tuple(name for name in uses if name in known)
    about: Any = {"uses": uses, "tags": dict(sorted(service.tags.items()))}
    try:
        declared, on_demand = _declared(store, service)
    except (ValueError, KeyError, TypeError, FeastError) as error:  # let Feast refuse it in its own words
        return CompiledService(views, None, f"{type(error).__name__}: {error}", **about)
    return CompiledService(views, declared, on_demand=on_demand, **about)


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


def _declared(store: FeatureStore, service: FeatureService) -> tuple[tuple[DeclaredView, ...], tuple[OnDemand, ...]]:
    """Take the steps that Feast takes before it hands over to the offline store, with its own functions."""
    from feast import utils

    from ml_assets.features.offline_store import asked_features, declared_view, require_polars_store

    require_polars_store(store)
    views, on_demand = utils._get_feature_views_to_use(store.registry, store.project, service)
    refs = utils._get_features(store.registry, store.project, service)
    ours = asked_on_demand(on_demand, refs)
    if ours is None:
        raise ValueError(f"on-demand views {[view.name for view in on_demand]} are computed by Feast")
    utils._validate_feature_refs(refs)
    inputs = [f"{item.view}:{item.name}" for view in ours for item in view.inputs if item.view]
    wanted = list(dict.fromkeys([*refs, *inputs]))
    declared = (declared_view(view, asked) for view, asked in asked_features(views, wanted) if asked)
    return tuple(declared), hiding_unasked(ours, refs)


def _functions(store: FeatureStore) -> dict[str, str]:
    """Return the functions of all on-demand views that are made here, each with the hash of its module as applied."""
    views = (asked_on_demand([view], []) or () for view in store.list_on_demand_feature_views())
    return {view.function: view.version for found in views for view in found}


def _is_version(function: str, version: str) -> bool:
    try:
        return module_version(function) == version
    except FeatureError:  # it is gone; applying again says where it is missed
        return False


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
    on_demand = [asdict(view) for view in service.on_demand]
    return about | {"declared": [_view_entry(view) for view in service.declared], "on_demand": on_demand}


def _view_entry(view: DeclaredView) -> dict[str, Any]:
    return asdict(view) | {"ttl": view.ttl.total_seconds() if view.ttl else None}


def _service(entry: Mapping[str, Any]) -> CompiledService:
    declared = tuple(map(_view, entry["declared"])) if "declared" in entry else None
    return CompiledService(
        tuple(entry["views"]),
        declared,
        entry.get("reason", ""),
        uses=entry["uses"],
        tags=entry["tags"],
        on_demand=tuple(map(on_demand_of, entry.get("on_demand", ()))),
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
        found = json.loads(compiled_path(registry).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def compiled_path(registry: Path) -> Path:
    """Return the file beside a registry that holds what was compiled from it."""
    return registry.with_suffix(".compiled.json")


def _digest(registry: Path) -> str:
    """Return the hash of the registry's bytes; "" when there is none."""
    return hashlib.sha256(registry.read_bytes()).hexdigest() if registry.exists() else ""
