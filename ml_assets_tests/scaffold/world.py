"""Files as people have them, and the way of a written problem from its landed file to the columns that a model learns from."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import yaml

from ml_assets.collection.contract import parse
from ml_assets.features.assets import FeatureViews
from ml_assets.features.views import compute_view, view_suite
from ml_assets.preparation.cleaning import Repairs, clean
from ml_assets.preparation.observations import LABELS, query, suite
from ml_assets.problem import MlProblem
from ml_assets.quality import Verdict, evaluate
from ml_assets.scaffold.command import new
from ml_assets.source import Source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANDED = datetime(2025, 12, 31, 12, tzinfo=UTC)


def customers(rows: int = 200, seed: int = 0) -> pl.DataFrame:
    """Return customers with a key, a code with leading zeros, a number, a boolean, a day, a category and who left."""
    rng = np.random.default_rng(seed)
    spend = rng.normal(100, 30, rows).round(2)
    return pl.DataFrame(
        {
            "Customer ID": np.arange(1000, 1000 + rows),
            "PLZ": [f"{code:05d}" for code in rng.integers(1000, 1030, rows)],
            "Umsatz €": spend,
            "vip": rng.choice(["yes", "no"], rows),
            "born": [date(1990, 1, 1) - timedelta(days=int(days)) for days in rng.integers(0, 9000, rows)],
            "plan": rng.choice(["basic", "plus", "pro"], rows),
            "churned": np.where(spend + rng.normal(0, 30, rows) < 90, "yes", "no"),
        }
    )


def shops(days: int = 40, seed: int = 0) -> pl.DataFrame:
    """Return the daily sales of five shops, with whether there was a promotion; some sales are not known."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "shop": shop,
            "day": date(2024, 1, 1) + timedelta(days=day),
            "promo": bool(rng.integers(0, 2)),
            "sales": None if rng.random() < 0.05 else round(float(rng.normal(50 + 10 * shop, 5)), 2),
        }
        for day in range(days)
        for shop in range(1, 6)
    ]
    return pl.DataFrame(rows)


def repository(folder: Path) -> Path:
    """Return an empty repository."""
    (folder / "ml_assets" / "defs").mkdir(parents=True)
    (folder / "feature_repo").mkdir()
    return folder


def everything(root: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Written:
    """A problem as it was written, its components as Dagster would resolve them, and its module."""

    root: Path
    name: str
    text: str
    source: Source
    views: FeatureViews
    problem: MlProblem
    module: ModuleType

    @property
    def declaration(self) -> str:
        return (self.root / "ml_assets" / "defs" / self.name / "defs.yaml").read_text()

    def landed(self) -> Path:
        return next((self.root / "data" / "landing" / self.name).iterdir())

    def raw(self) -> pl.DataFrame:
        """Return what collecting makes of the landed file."""
        rows = parse(self.landed().read_bytes(), self.source.contract(), name=f"{self.name}/{self.landed().name}")
        return rows.with_columns(landed_at=pl.lit(LANDED).dt.cast_time_unit("us"))

    def clean(self) -> pl.DataFrame:
        """Return the clean table."""
        return clean(self.raw().lazy(), Repairs(key=self.source.key, derive=self.module.clean)).frame

    def view(self) -> pl.DataFrame:
        """Return the feature view's rows."""
        (view,) = self.views.views
        compute = getattr(self.module, view.compute.rpartition(".")[2])
        return compute_view(compute, self.clean().lazy(), time_zone="UTC").drop("_partition")

    def observations(self) -> pl.DataFrame:
        """Return the observations."""
        task = self.problem.task.plain()
        table = {f"clean_{self.name}": self.clean().lazy()}
        how: Mapping[str, Any] = {"supervised": task.supervised, "label": LABELS[task.output]}
        return query(self.problem.observations.query, table, **how).collect()

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on view and observations."""
        (view,) = self.views.views
        found = self.observations()
        task = self.problem.task.plain()
        how: Mapping[str, Any] = {"supervised": task.supervised, "label": LABELS[task.output], "classes": task.classes}
        judged = suite("o", key=self.problem.observations.key, timed="label_timestamp" in found, **how)
        return [
            evaluate(self.view().lazy(), view_suite(view.name, view.entity, ()))[""],
            evaluate(found.lazy(), judged)[""],
        ]


def written(root: Path, data: Path | str, name: str = "mine", **options: Any) -> Written:
    """Run `new`, and resolve what it wrote."""
    text = new(root, name, data=str(data), now=NOW, **options)
    folder = root / "ml_assets" / "defs" / name
    documents = list(yaml.safe_load_all((folder / "defs.yaml").read_text()))
    source, views, problem = (
        kind.resolve_from_dict(document["attributes"])
        for kind, document in zip((Source, FeatureViews, MlProblem), documents, strict=True)
    )
    source.check()
    return Written(root, name, text, source, views, problem, _module(folder / "features.py"))


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"written_{path.parent.name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
