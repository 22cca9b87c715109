"""What a bundle is held to before it may stand for office: it answers as the trained model does, fast enough, small enough."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import polars as pl

from ml_assets.development.model_files import Model
from ml_assets.evaluation.gates import Gate, PromotionPolicy, budget_gate, parity_gate
from ml_assets.packaging import graph
from ml_assets.packaging.bundle import Bundle, BundleManifest

PARITY, BUDGET = "parity", "budget"
TIMES = 101
WARM = 5


def bundle_gates(
    bundle: Bundle, manifest: BundleManifest, trained: Model, rows: pl.DataFrame, policy: PromotionPolicy
) -> list[Gate]:
    """Return the gates `parity` and `budget`.

    What the bundle answers online is compared with the `trained` model on `rows` (its features). One row is timed as a server
    would ask it; the size is that of all files in the bundle.
    """
    given = graph.scored(bundle.small.say, rows, bundle.model.encoder)
    one = bundle.small.example["request"]["rows"][:1]
    milliseconds = median_milliseconds(lambda: bundle.small.answers(one))
    megabytes = sum(manifest.sizes.values()) / 1e6
    return [parity_gate(given, trained.predict(rows)), budget_gate(milliseconds, megabytes, policy)]


def median_milliseconds(answer: Callable[[], object], *, times: int = TIMES) -> float:
    """Return the median of how long one answer takes, after a few that do not count."""
    for _ in range(WARM):
        answer()
    return statistics.median(_seconds(answer) for _ in range(times)) * 1000


def _seconds(answer: Callable[[], object]) -> float:
    started = time.perf_counter()
    answer()
    return time.perf_counter() - started
