"""The least that a person would do: `python -m benchmarks.arms.own_script DATA TARGET TIME KEY TOLD.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import xgboost

SHARES = (0.6, 0.2)  # of train and validation: what `ml-assets new` declares
EARLY = 10  # rounds without improvement


def main() -> None:
    """Read, split by time, fit XGBoost as it comes with early stopping, and tell its ROC-AUC on the last rows."""
    data, target, time, key, told = sys.argv[1:]
    frame = pl.read_csv(data, try_parse_dates=True).with_columns(pl.col(pl.String).cast(pl.Categorical))
    train, validation, test = by_time(frame, time)
    model = xgboost.XGBClassifier(enable_categorical=True, early_stopping_rounds=EARLY, eval_metric="auc")
    columns = [name for name in frame.columns if name not in (target, time, key)]
    x, y = (lambda rows: rows.select(columns).to_pandas()), (lambda rows: rows[target].to_numpy())
    model.fit(x(train), y(train), eval_set=[(x(validation), y(validation))], verbose=False)
    auc = roc_auc(y(test), model.predict_proba(x(test))[:, 1])
    Path(told).write_text(json.dumps({"auc": auc, "test": sorted(test[key].to_list())}))


def by_time(frame: pl.DataFrame, time: str) -> list[pl.DataFrame]:
    """Return the rows of train, validation and test: rows of one day are on one side."""
    days, shares = frame[time].sort(), (SHARES[0], sum(SHARES))
    first, second = (days[round(share * len(days))] for share in shares)
    moment = pl.col(time)
    return [frame.filter(one) for one in (moment < first, (first <= moment) & (moment < second), moment >= second)]


def roc_auc(y: object, scores: object) -> float:
    """Return scikit-learn's ROC-AUC."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(y, scores))


if __name__ == "__main__":
    main()
