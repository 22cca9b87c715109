"""The outside world asks: travellers want to know of flights, and the feature server answers from the online store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake

PROBLEM, SERVICE = "flight_delay", "flight_delay_v2"
FLIGHTS = 50  # in one request


def ask(repo: Path, lake: Lake, day: str, *, clock: Callable[[], datetime]) -> int:
    """Ask for the features of flights like the first ones of `day`, as of now, and return how many were answered.

    It is the server's own code without HTTP in between; each answer is logged, and the asset `served_requests` replays it.
    """
    from ml_assets.features.retrieval import applied_repo
    from ml_assets.features.served import asked_types
    from ml_assets.features.server import FeatureServer

    flights = lake.read(keys.problem(PROBLEM, "observations"), [day]).head(FLIGHTS)
    wanted = asked_types(applied_repo(repo), SERVICE)
    floats = [pl.col(name).cast(pl.Float64) if dtype == "Float64" else pl.col(name) for name, dtype in wanted.items()]
    server = FeatureServer(repo, lake_url=lake.url, clock=clock)
    server.features(SERVICE, flights.select(floats).to_dict(as_series=False))
    server.flush()
    return flights.height
