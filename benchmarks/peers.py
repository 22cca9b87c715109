"""The models of the serving benches, each as our bundle and in the forms in which others serve it: the same fitted trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.scored import FEATURES, NUMBERS, TEXTS, Stored, fitted, stored
from ml_assets.development.candidates.base import Fitted, Rows
from ml_assets.development.model_files import MISSING


def write_peers(folder: Path) -> None:
    """Fit a random forest and an XGBoost model, and write each of them with its peers below `folder`."""
    for name, peers in {"random_forest": _forest, "xgboost": _xgboost}.items():
        home = folder / name
        home.mkdir(parents=True)
        found, train = fitted(name)
        model = found.packed(train, seed=0)
        bundle: Stored = stored(home, name, model)
        (home / "bundle.json").write_text(json.dumps(vars(bundle)))
        peers(home, found, train, model.content)


def _forest(home: Path, found: Fitted, train: Rows, _: bytes) -> None:
    """Write the fitted forest in a scikit-learn pipeline, for a server of skops' file and for MLflow's."""
    import mlflow.sklearn
    import skops.io

    pipeline = _pipeline(found.estimator, train)
    skops.io.dump(pipeline, home / "peer.skops")
    trusted = skops.io.get_untrusted_types(file=home / "peer.skops")
    mlflow.sklearn.save_model(
        pipeline,
        str(home / "mlflow"),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
        skops_trusted_types=trusted,
    )


def _pipeline(forest: Any, train: Rows) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    known = [list(_categories(train)[name]) for name in TEXTS]
    texts = OrdinalEncoder(categories=known, handle_unknown="use_encoded_value", unknown_value=int(MISSING))
    numbers = SimpleImputer(strategy="constant", fill_value=MISSING)
    prepare = ColumnTransformer([("numbers", numbers, list(NUMBERS)), ("texts", texts, list(TEXTS))])
    prepare.fit(train.frame.select(FEATURES).to_pandas())
    return Pipeline([("prepare", prepare), ("forest", forest)])


def _xgboost(home: Path, found: Fitted, train: Rows, content: bytes) -> None:
    """Write the booster as XGBoost reads it, with the categories in the order of their codes."""
    (home / "peer.ubj").write_bytes(content)
    (home / "categories.json").write_text(json.dumps({name: list(_categories(train)[name]) for name in TEXTS}))


def _categories(train: Rows) -> dict[str, tuple[str, ...]]:
    return {column.name: column.categories for column in train.encoder.columns}
