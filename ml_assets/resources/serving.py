"""What the serving API of a problem is made of: registry, lake, log and online store, as this environment has them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_assets.deployment.engine import Engine
    from ml_assets.deployment.entities import OnlineFeatures


def features_of(problem: Any, *, feature_store: Any, clock: Any) -> OnlineFeatures | None:
    """Return the online features of a problem's service, None when it has none; `FeatureError` when the repository is at fault.

    The repository is applied first, before anybody asks. An online store that is away is no fault: it may come back.
    """
    from ml_assets.deployment.entities import OnlineFeatures
    from ml_assets.features.online.place import OnlineSide

    if problem.features is None:
        return None
    feature_store.declared()
    return OnlineFeatures(
        problem.features.service,
        clock=clock.open(problem.clock).now,
        opened=lambda: OnlineSide.open(feature_store.repo, lake_url=feature_store.lake),
    )


def engine_of(
    problem: Any, features: OnlineFeatures | None, *, data: Path, lake: Any, tracking: Any, clock: Any
) -> Engine:
    """Return a problem's engine with its log, neither started; `data` is the local folder of the log's spool and of fetched bundles."""
    from ml_assets.deployment.admission import registered
    from ml_assets.deployment.engine import Engine
    from ml_assets.deployment.prediction_log import PredictionLog

    now, policy = clock.open(problem.clock).now, problem.serving.plain()
    log = PredictionLog(lake.url, problem.name, data / "serving" / problem.name, clock=now, durable=policy.durable)
    return Engine(
        registered(tracking.open(), problem.name, cache=data / "bundles", store=lake.open().store),
        problem=problem.name,
        lake_url=lake.url,
        clock=now,
        policy=policy,
        log=log,
        entity=tuple(features.asked().keys) if features else (),
    )
