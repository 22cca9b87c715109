"""Servers that are measured: `python -m benchmarks.arms.serve ours|empty|sklearn|xgboost PORT FOLDER`.

FOLDER holds `bundle.json` (folder and digest of our bundle) or `peer.skops` / `peer.ubj`. The peers are what tutorials show: pydantic
rows, a pandas frame, and the model's `predict_proba`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.scored import FEATURES, NUMBERS, PROBLEM, TEXTS, Stored


def empty(folder: Path) -> Any:
    """Return a FastAPI application whose handler does nothing."""
    from fastapi import FastAPI

    app = FastAPI()
    _add_health(app)

    @app.post("/predict")
    async def predict() -> dict[str, Any]:
        return {}

    return app


def sklearn(folder: Path) -> Any:
    """Return scikit-learn's pipeline behind pydantic and pandas."""
    import skops.io

    file = folder / "peer.skops"
    pipeline = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    return _peer(lambda frame: pipeline.predict_proba(frame)[:, 1])


def xgboost(folder: Path) -> Any:
    """Return XGBoost's scikit-learn class behind pydantic and pandas, with pandas' categories."""
    import pandas as pd
    from xgboost import XGBClassifier

    model = XGBClassifier(enable_categorical=True, n_jobs=1)
    model.load_model(folder / "peer.ubj")
    categories = json.loads((folder / "categories.json").read_text())
    types = {name: pd.CategoricalDtype(values) for name, values in categories.items()}
    return _peer(lambda frame: model.predict_proba(frame.astype(types))[:, 1])


def _peer(score: Callable[[Any], Any]) -> Any:
    import pandas as pd
    from fastapi import FastAPI
    from pydantic import create_model

    fields: dict[str, Any] = {
        **dict.fromkeys(NUMBERS, (float | None, None)),
        **dict.fromkeys(TEXTS, (str | None, None)),
    }
    row = create_model("Row", **fields)
    body = create_model("Body", rows=(list[row], ...))  # type: ignore[valid-type]
    app = FastAPI()
    _add_health(app)

    def predict(asked: Any) -> dict[str, Any]:
        frame = pd.DataFrame([one.model_dump() for one in asked.rows], columns=list(FEATURES))
        return {"rows": [{"score": float(one), "prediction": int(one >= 0.5)} for one in score(frame)]}

    predict.__annotations__["asked"] = body
    app.post("/predict")(predict)
    return app


def _add_health(app: Any) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}


def ours(folder: Path) -> Any:
    """Return our API over a bundle, with its log of predictions on."""
    from ml_assets.deployment.admission import Appointed, Offices
    from ml_assets.deployment.api import create_app
    from ml_assets.deployment.engine import Engine
    from ml_assets.deployment.prediction_log import PredictionLog

    stored = Stored(**json.loads((folder / "bundle.json").read_text()))
    appointed = Appointed("1", Path(stored.folder), stored.digest)
    lake = str(folder / "lake")
    log = PredictionLog(lake, PROBLEM, folder / "spool", clock=_now)
    return create_app(Engine(lambda: Offices(appointed), problem=PROBLEM, lake_url=lake, clock=_now, log=log))


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Serve until SIGTERM."""
    from ml_assets.deployment.api import serve

    kind, port, folder = sys.argv[1:]
    app = {"ours": ours, "empty": empty, "sklearn": sklearn, "xgboost": xgboost}[kind](Path(folder))
    serve(app, port=int(port), drain=2)  # all of them by the same server with the same settings


if __name__ == "__main__":
    main()
