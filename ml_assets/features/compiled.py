"""Feature services in a form that can be read without Feast, whose import takes seconds.

`retrieval.apply` writes it beside the registry, as `<registry>.compiled.json`, with the hash of the registry that it
was made from: what does not describe the registry as it is now does not count. Format 1::

    {"format": 1, "fingerprint": "<of the definitions>", "registry": "<sha256>", "services": {
        "flight_delay_v1": {"views": ["origin_weather", …], "declared": [{"name": "origin_weather", "path": …}, …]},
        "other": {"views": […], "reason": "why only Feast can answer for it"}}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.features.reading import DeclaredView, Feature
from ml_assets.lake import Store

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore

FORMAT = 1  # another one is compiled anew; raise it with every change of what is written or of what it means


@dataclass(frozen=True)
class CompiledService:
    """A feature service: its views by name, and as reading needs them, or None with the `reason` why not."""

    views: tuple[str, ...]
    declared: tuple[DeclaredView, ...] | None
    reason: str = ""


def compiled_services(registry: Path) -> dict[str, CompiledService] | None:
    """Return the services by name; None when there is no file that describes this registry as it is now."""
    found = _read(registry)
    if found is None or found["registry"] != _digest(registry):
        return None
    return {name: _service(entry) for name, entry in found["services"].items()}


def is_current(registry: Path, fingerprint: str) -> bool:
    """Tell whether the services were compiled from these definitions, and the registry has not changed since."""
    found = _read(registry)
    return found is not None and (found["fingerprint"], found["registry"]) == (fingerprint, _digest(registry))


def compile_services(repo: Path, registry: Path, fingerprint: str) -> None:
    """Compile all services of an applied repository, and replace the file in one step. Imports Feast."""
    from feast import FeatureStore

    digest = _digest(registry)  # before it is opened: what somebody else applies meanwhile makes the file stale
    store = FeatureStore(repo_path=str(repo))
    services = {service.name: _compiled(store, service) for service in store.list_feature_services()}
    content = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "registry": digest,
        "services": {name: _entry(services[name]) for name in sorted(services)},
    }
    path = _path(registry)
    Store(str(path.parent)).write(path.name, json.dumps(content, indent=1).encode())


# -- from Feast --------------------------------------------------------------------------------------------------------


def _compiled(store: FeatureStore, service: FeatureService) -> CompiledService:
    from feast.errors import FeastError

    known = {view.name for view in store.list_feature_views()}
    views = tuple(dict.fromkeys(item.name for item in service.feature_view_projections if item.name in known))
    try:
        return CompiledService(views, _declared(store, service))
    except (ValueError, KeyError, TypeError, FeastError) as error:  # let Feast refuse it in its own words
        return CompiledService(views, None, f"{type(error).__name__}: {error}")


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


# -- as JSON -----------------------------------------------------------------------------------------------------------


def _entry(service: CompiledService) -> dict[str, Any]:
    if service.declared is None:
        return {"views": service.views, "reason": service.reason}
    return {"views": service.views, "declared": [_view_entry(view) for view in service.declared]}


def _view_entry(view: DeclaredView) -> dict[str, Any]:
    return asdict(view) | {"ttl": view.ttl.total_seconds() if view.ttl else None}


def _service(entry: Mapping[str, Any]) -> CompiledService:
    declared = tuple(map(_view, entry["declared"])) if "declared" in entry else None
    return CompiledService(tuple(entry["views"]), declared, entry.get("reason", ""))


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
