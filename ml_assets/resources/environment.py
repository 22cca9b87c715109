"""Where this environment keeps things: defaults below `data/`, each moved by one environment variable."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_assets.resources.places import (
    BUCKET,
    ClockResource,
    FeatureStoreResource,
    FilesResource,
    LakeResource,
    LandingResource,
    TrackingResource,
)

NONE = "none"  # for ML_ASSETS_REPLAY_CLOCK: the system's time
VARIABLES = {
    "ML_ASSETS_LANDING": "data/landing",
    "ML_ASSETS_QUARANTINE": "data/quarantine",
    "ML_ASSETS_LAKE": "data/lake",
    "ML_ASSETS_MODELS": "data/models",
    "ML_ASSETS_REPORTS": "data/reports",
    "ML_ASSETS_MLFLOW": "sqlite:///data/mlflow.db",
    "ML_ASSETS_MLFLOW_ARTIFACTS": "data/mlartifacts",
    "ML_ASSETS_FEATURE_REPO": "feature_repo",
    "ML_ASSETS_REPLAY_CLOCK": "data/replay_clock",
    "ML_ASSETS_DVC_REMOTE": "data/dvc-remote",
}


def setting(name: str, root: Path) -> str:
    """Return an environment variable or its default; relative paths are below `root`, the repository."""
    value = os.environ.get(name) or VARIABLES[name]
    if value == NONE:
        return ""
    if value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
        return f"sqlite:///{root / value.removeprefix('sqlite:///')}"
    return value if "://" in value else str(root / value)


def resources(root: Path) -> dict[str, Any]:
    """Return the resources by name; `gcs`, dagster-gcp's `GCSResource`, only where something is on gs://."""
    lake, landing = setting("ML_ASSETS_LAKE", root), setting("ML_ASSETS_LANDING", root)
    quarantine = setting("ML_ASSETS_QUARANTINE", root)
    gcs = _gcs([lake, landing, quarantine])
    return gcs | {
        "lake": LakeResource(url=lake, **gcs),
        "landing": LandingResource(url=landing, quarantine=quarantine, lake=lake, **gcs),
        "feature_store": FeatureStoreResource(repo=setting("ML_ASSETS_FEATURE_REPO", root), lake=lake),
        "tracking": TrackingResource(
            uri=setting("ML_ASSETS_MLFLOW", root), artifacts=setting("ML_ASSETS_MLFLOW_ARTIFACTS", root)
        ),
        "models": FilesResource(root=setting("ML_ASSETS_MODELS", root)),
        "reports": FilesResource(root=setting("ML_ASSETS_REPORTS", root)),
        "clock": ClockResource(replay_file=setting("ML_ASSETS_REPLAY_CLOCK", root)),
    }


def serving_addresses() -> list[str]:
    """Return the addresses of /metrics of what serves, from `ML_ASSETS_SERVING_METRICS`, separated by spaces; none by default."""
    return os.environ.get("ML_ASSETS_SERVING_METRICS", "").split()


def serving_key() -> str:
    """Return the API key that /metrics is asked with, from `ML_ASSETS_SERVING_KEY`; read when it is needed, kept nowhere."""
    return os.environ.get("ML_ASSETS_SERVING_KEY", "")


def serving_limit() -> float:
    """Return the seconds in which 99 of 100 requests are to be answered, from `ML_ASSETS_SERVING_P99`; 0.25 by default."""
    value = os.environ.get("ML_ASSETS_SERVING_P99") or "0.25"
    try:
        if 0 < (seconds := float(value)) < float("inf"):
            return seconds
    except ValueError:
        pass
    raise ValueError(f"ML_ASSETS_SERVING_P99: {value!r} is no number of seconds above 0; write 0.25")


def _gcs(urls: Sequence[str]) -> dict[str, Any]:
    """Return the resource of Google Cloud Storage by its name, or nothing: importing dagster-gcp takes a second."""
    if not any(url.startswith(BUCKET) for url in urls):
        return {}
    from dagster_gcp.gcs.resources import GCSResource

    return {"gcs": GCSResource(project=os.environ.get("GOOGLE_CLOUD_PROJECT"))}
