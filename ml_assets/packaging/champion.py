"""The champion in office: found by its alias in the registry, or by the log of promotions; verified before a parser reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.packaging.bundle import Bundle, load_bundle
from ml_assets.packaging.history import BUNDLE_DIGEST, settle

if TYPE_CHECKING:
    from ml_assets.development.tracking import ChampionRef, Tracking
    from ml_assets.lake import Store

# Tags of a version in the registry.
FITTED_UNTIL, LIVE_FROM, TEST_METRICS = "fitted_until", "live_from", "test_metrics"
DATA_HASH = "data_hash"


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


def in_office(tracking: Tracking, problem: str, *, store: Store | None = None) -> Champion:
    """Return the model in office, see `incumbent`; `ChampionError` when there is none."""
    found = incumbent(tracking, problem, store=store)
    if found is None:
        raise ChampionError(f"{problem} has no champion; run job train, and look at its gates when it ends without one")
    return found


def incumbent(tracking: Tracking, problem: str, *, store: Store | None = None) -> Champion | None:
    """Return the model that the alias `champion` names, or None.

    With the lake's `store` the log of promotions is asked first, and the aliases are put right when they lag behind it.
    """
    if store is not None:
        settle(tracking, store, problem)
    found = tracking.champion(problem)
    return loaded(found) if found else None


def loaded(found: ChampionRef) -> Champion:
    """Return a registered version as it would be in office, its bundle verified and loaded; `ChampionError` when tags lack."""
    missing = [
        name for name in (FITTED_UNTIL, LIVE_FROM, TEST_METRICS, BUNDLE_DIGEST, DATA_HASH) if name not in found.tags
    ]
    if missing:
        raise ChampionError(
            f"{found.problem} version {found.version}: the registry lacks tags {missing}; promote it by job train"
        )
    return Champion(
        version=found.version,
        bundle=load_bundle(Path(found.source), digest=found.tags[BUNDLE_DIGEST]),
        data_hash=found.tags[DATA_HASH],
        fitted_until=datetime.fromisoformat(found.tags[FITTED_UNTIL]),
        live_from=datetime.fromisoformat(found.tags[LIVE_FROM]),
        test_metrics=json.loads(found.tags[TEST_METRICS]),
    )


def tags_of(
    *,
    data_hash: str,
    fitted_until: datetime,
    live_from: datetime,
    test_metrics: Mapping[str, float | None],
    reason: str = "",
) -> dict[str, str]:
    """Return the tags that a version carries in the registry."""
    known = {name: value for name, value in test_metrics.items() if value is not None}
    return {
        DATA_HASH: data_hash,
        FITTED_UNTIL: fitted_until.isoformat(),
        LIVE_FROM: live_from.isoformat(),
        TEST_METRICS: json.dumps(known),
        **({"promotion_reason": reason} if reason else {}),
    }
