"""What an arm tells when its work is done: the time, what it made, and where the time went."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plain_lifecycle import Places


def tell(
    path: Path, *, root: Path, seconds: float, parts: Mapping[str, float], problem: str = "", **details: float
) -> None:
    """Write time, outcome and details (`parts` are seconds by asset) as JSON; without a problem there is no champion."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    found = {
        "seconds": seconds,
        "outcome": outcome(Places(root), problem),
        "parts": dict(parts),
        "details": {**details, "in_parts": sum(parts.values()), "peak_mb": peak},
    }
    path.write_text(json.dumps(found, indent=1))


def outcome(places: Places, problem: str) -> dict[str, Any]:
    """Return the version of every lake partition, the ledger's counts, and the champion with its test metrics."""
    lake = places.lake
    versions = {f"{table}/{name}": one.version for table in lake.tables() for name, one in lake.live(table).items()}
    found = versions | {"ledger": places.landing.ledger.counts()}
    return found | (_champion(places, problem) if problem else {})


def _champion(places: Places, problem: str) -> dict[str, Any]:
    from ml_assets.packaging.champion import in_office

    champion = in_office(places.tracking, problem)
    return {
        "champion": champion.bundle.digest,
        "champion's test metrics": champion.test_metrics,
    }
