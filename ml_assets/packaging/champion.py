"""The champion in office: found by its alias in the registry, its bundle verified before a parser reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.development.tracking import CHAMPION
from ml_assets.packaging.bundle import Bundle, load_bundle, verify

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

# Tags of a version in the registry.
FITTED_UNTIL, LIVE_FROM, TEST_METRICS = "fitted_until", "live_from", "test_metrics"
BUNDLE_DIGEST, DATA_HASH = "bundle_digest", "data_hash"


class ChampionError(ValueError):
    """There is no champion, or its registry entry lacks what scoring needs."""


@dataclass(frozen=True)
class Champion:
    """The bundle in office. It was fitted or selected on rows before `fitted_until`, tested on rows before `live_from`."""

    version: str
    bundle: Bundle
    data_hash: str
    fitted_until: datetime
    live_from: datetime
    test_metrics: dict[str, float]


def in_office(tracking: Tracking, problem: str) -> Champion:
    """Return the model that the alias `champion` names; `ChampionError` when none does."""
    found = incumbent(tracking, problem)
    if found is None:
        raise ChampionError(f"{problem} has no champion; run job train, and look at its gates when it ends without one")
    return found


def incumbent(tracking: Tracking, problem: str) -> Champion | None:
    """Return the model that the alias `champion` names, or None."""
    found = tracking.champion(problem)
    if found is None:
        return None
    missing = [
        name for name in (FITTED_UNTIL, LIVE_FROM, TEST_METRICS, BUNDLE_DIGEST, DATA_HASH) if name not in found.tags
    ]
    if missing:
        raise ChampionError(
            f"{problem} version {found.version}: the registry lacks tags {missing}; promote it by job train"
        )
    return Champion(
        version=found.version,
        bundle=load_bundle(Path(found.source), digest=found.tags[BUNDLE_DIGEST]),
        data_hash=found.tags[DATA_HASH],
        fitted_until=datetime.fromisoformat(found.tags[FITTED_UNTIL]),
        live_from=datetime.fromisoformat(found.tags[LIVE_FROM]),
        test_metrics=json.loads(found.tags[TEST_METRICS]),
    )


def promote(
    tracking: Tracking, problem: str, *, run_id: str, folder: Path, digest: str, champion_tags: Mapping[str, str]
) -> str:
    """Register the bundle in `folder` and give it the alias `champion`, in that order; return its version.

    The alias moves in one transaction: until then the old champion is in office. The bytes of the bundle are verified first.
    """
    verify(folder, digest)
    tags = {**champion_tags, BUNDLE_DIGEST: digest}
    version = tracking.register(problem, run_id, source=str(folder), tags=tags)
    tracking.set_alias(problem, CHAMPION, version)
    return version


def tags_of(
    *,
    data_hash: str,
    fitted_until: datetime,
    live_from: datetime,
    test_metrics: Mapping[str, float | None],
    reason: str,
) -> dict[str, str]:
    """Return the tags that a champion's version carries in the registry."""
    known = {name: value for name, value in test_metrics.items() if value is not None}
    return {
        DATA_HASH: data_hash,
        FITTED_UNTIL: fitted_until.isoformat(),
        LIVE_FROM: live_from.isoformat(),
        TEST_METRICS: json.dumps(known),
        "promotion_reason": reason,
    }
