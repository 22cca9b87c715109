"""`ml-assets deploy`: from a registered version to a target, or to the plan of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.deployment.targets import api, batch, cloud_function, container, kubernetes
from ml_assets.deployment.targets.plan import DeployError, Plan, Release, carry_out
from ml_assets.deployment.targets.settings import Settings
from ml_assets.packaging.bundle import verify
from ml_assets.packaging.champion import BUNDLE_DIGEST, DATA_HASH

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

TARGETS: dict[str, Callable[[Release, Settings], Plan]] = {
    "api": api.plan,
    "container": container.plan,
    "kubernetes": kubernetes.plan,
    "cloud_function": cloud_function.plan,
    "batch": batch.plan,
}


def registered(tracking: Tracking, problem: str, *, version: str = "", cache: Path) -> Release:
    """Return a registered version, by default the champion, after its bytes matched the digest in the registry.

    Raises `DeployError` when there is none, `BundleError` for altered bytes. `cache` keeps bundles that lie elsewhere.
    """
    found = tracking.version(problem, version) if version else tracking.champion(problem)
    if found is None or BUNDLE_DIGEST not in found.tags:
        raise DeployError(
            f"{problem} has no {f'version {version}' if version else 'champion'} with a bundle: run job train"
        )
    folder, digest = tracking.bundle_folder(found, cache), found.tags[BUNDLE_DIGEST]
    verify(folder, digest)
    return Release(problem, found.version, folder, digest, found.tags.get(DATA_HASH, ""))


def deploy(target: str, release: Release, settings: Settings, *, dry_run: bool, tell: Callable[[str], None]) -> None:
    """Tell the plan, or carry it out; see `plan.carry_out` for what it raises."""
    made = TARGETS[target](release, settings)
    if dry_run:
        tell(f"{target}: {release.problem} version {release.version}; files go to {settings.folder}\n\n{made.text()}")
        return
    carry_out(made, settings.folder, tell=tell)
