"""A small problem over a raw table in a folder: trained by its assets, corrected later, and made again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from ml_assets import keys
from ml_assets.development.assets import (
    candidate_asset,
    candidate_results,
    challenger_asset,
    challenger_of,
    open_experiment,
    plan_of,
)
from ml_assets.evaluation.challenge import Subject, examine
from ml_assets.features.assets import training_set_asset
from ml_assets.lake import Lake
from ml_assets.packaging.assets import bundle_asset, champion_asset
from ml_assets.preparation.assets import clean_asset, observations_asset
from ml_assets.problem import MlProblem
from ml_assets.resources.clock import Clock
from ml_assets.resources.places import (
    ClockResource,
    FeatureStoreResource,
    FilesResource,
    LakeResource,
    TrackingResource,
)
from ml_assets.source import Source

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 20
TABLE = keys.raw("visits")


def problem(**more: Any) -> MlProblem:
    """Return who comes back, asked of 20 days of visits."""
    return MlProblem.resolve_from_dict(
        {
            "name": "returns",
            "question": "Will the visitor return?",
            "task": {"kind": "classification"},
            "days": "2024-01-01/2024-12-31",
            "observations": {
                "key": ["visit"],
                "query": "SELECT visit, minutes, place, event_timestamp, label, label_timestamp FROM clean_visits",
            },
            "split": {"train": "10d", "validation": "4d", "test": "4d"},
            "candidates": ["baseline", "linear", "ensemble"],
            "search": {"trials": 2, "rows": 200},
            "success": {"metric": "roc_auc"},
        }
        | more
    )


def source() -> Source:
    """Return the source of the visits."""
    return Source.resolve_from_dict(
        {
            "name": "visits",
            "description": "Who came when, and stayed how long.",
            "pattern": "visits/{day}.csv",
            "days": "2024-01-01/2024-12-31",
            "key": ["visit"],
            "columns": [
                {"name": "visit", "type": "String"},
                {"name": "minutes", "type": "Float64"},
                {"name": "place", "type": "String"},
                {"name": "event_timestamp", "type": "Datetime"},
                {"name": "label", "type": "Int64"},
                {"name": "label_timestamp", "type": "Datetime"},
            ],
            "clean": {"plausible": {"minutes": [0, 500]}},
        }
    )


def visits(day: int, *, known_after: timedelta = timedelta(hours=2)) -> pl.DataFrame:
    """Return the visits of one day: who stayed long comes back more often."""
    rng = np.random.default_rng(day)
    rows = 40
    minutes = rng.gamma(2.0, 20.0, rows).round(1)
    moments = [START + timedelta(days=day, hours=8, minutes=10 * row) for row in range(rows)]
    return pl.DataFrame(
        {
            "visit": [f"{day}-{row}" for row in range(rows)],
            "minutes": minutes,
            "place": rng.choice(["north", "south", "west"], rows),
            "event_timestamp": moments,
            "label": (minutes + rng.normal(0, 25, rows) > 40).astype(int),
            "label_timestamp": [moment + known_after for moment in moments],
            "landed_at": START + timedelta(days=day + 1),
        },
        schema_overrides=dict.fromkeys(("event_timestamp", "label_timestamp", "landed_at"), pl.Datetime("us", "UTC")),
    )


class World:
    """The folder of a platform with one problem; its lake may lie elsewhere."""

    def __init__(self, folder: Path, lake: Path | None = None) -> None:
        self.folder, self.problem = folder, problem()
        self.lake = Lake(str(lake or folder / "lake"))
        self.clock = Clock(folder / "clock")
        self.resources = {
            "lake": LakeResource(url=self.lake.url),
            "models": FilesResource(root=str(folder / "models")),
            "reports": FilesResource(root=str(folder / "reports")),
            "tracking": TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")),
            "feature_store": FeatureStoreResource(repo=str(folder / "none"), lake=self.lake.url),
            "clock": ClockResource(replay_file=str(folder / "clock")),
        }
        self.asked = {name: self.resources[name] for name in ("lake", "feature_store", "tracking")}

    def deliver(self, day: int, frame: pl.DataFrame | None = None) -> None:
        """Write one day of the raw table, as its asset would."""
        rows = visits(day) if frame is None else frame
        name = keys.day(START + timedelta(days=day))
        self.lake.write(TABLE, rows, partition=name, written_at=START + timedelta(days=DAYS))

    def observe(self, day: int) -> None:
        """Let the clock say that this day is over, and bring the clean table and the observations up to it."""
        self.clock.set(START + timedelta(days=day + 1))
        first, last = (keys.day(START + timedelta(days=count)) for count in (0, day))
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        visits_of = source()
        assert visits_of.clean is not None
        made = [clean_asset(visits_of, visits_of.clean), observations_asset(self.problem)]
        assert dg.materialize(made, resources=self.resources, tags=tags).success

    def train(self) -> None:
        """Run all from the training set to the champion."""
        one = self.problem
        self._run(training_set_asset(one), *(candidate_asset(one, kind) for kind in one.kinds), challenger_asset(one))
        self._evaluate()
        self._run(bundle_asset(one), champion_asset(one))

    def _run(self, *assets: dg.AssetsDefinition) -> None:
        assert dg.materialize(assets, resources=self.resources).success

    def _evaluate(self) -> None:
        """Leave the report that the champion wants, without the page and the libraries that draw it."""
        frame = self.lake.read("returns/training_set")
        experiment = open_experiment(self.problem, self.resources["lake"], self.resources["models"])
        subject = Subject(
            problem="returns",
            version="1",
            plan=plan_of(self.problem, frame.columns),
            challenger=challenger_of(experiment),
            results=candidate_results(self.problem, experiment),
        )
        report = examine(subject, frame, made_at=self.clock.now()).report
        experiment.write("evaluation_report", {"report": report.to_json()})


def trained(folder: Path) -> World:
    """Return a world with a champion."""
    world = World(folder)
    for day in range(DAYS):
        world.deliver(day)
    world.observe(DAYS - 1)
    world.train()
    return world
