"""The named jobs, and the sensors on the landing zone and on what went wrong. What belongs to a problem is there."""

import os

import dagster as dg

from ml_assets import keys
from ml_assets.collection.assets import COLLECTS, landing_sensor
from ml_assets.monitoring.alert_assets import alerts_sensor
from ml_assets.monitoring.infrastructure_assets import REPORT, infrastructure_asset, infrastructure_schedule


@dg.definitions
def defs() -> dg.Definitions:
    """Return jobs and sensors."""
    groups = dg.AssetSelection.groups
    training = groups(keys.DEVELOPMENT, keys.EVALUATION, keys.PACKAGING)
    ingest = groups(keys.COLLECTION, keys.PREPARATION, keys.FEATURE_STORE)
    seldom = dg.AssetSelection.tag(keys.SELDOM, "true")
    score, monitor = groups(keys.DEPLOYMENT), groups(keys.MONITORING) - seldom
    of_new_files = ingest | score | monitor - dg.AssetSelection.assets(REPORT.split("/"))  # runs are judged by the hour
    collects = {COLLECTS: "true"}
    jobs = {
        "ingest": (ingest, "New files become raw, clean and feature tables.", collects),
        "train": (training, "Trains the candidates, evaluates the best, and promotes it when it passes the gates.", {}),
        "score": (score, "The champion's predictions for a range of days.", {}),
        "monitor": (monitor, "Drift, realised performance, and the deployment itself.", {}),
        "everything": (dg.AssetSelection.all() - seldom, "The whole lifecycle, from files to drift report.", collects),
        "update": (of_new_files, "What new files need: ingest, score, monitor.", collects),
    }
    defined = {
        name: dg.define_asset_job(name, selection=selection, description=text, tags=tags)
        for name, (selection, text, tags) in jobs.items()
    }
    sensor = landing_sensor(
        job=defined["update"],
        selection=of_new_files,
        needs_champion=score | monitor,
        interval=int(os.environ.get("ML_ASSETS_SENSOR_SECONDS", "30")),
        running=os.environ.get("ML_ASSETS_SENSORS", "running") == "running",
    )
    return dg.Definitions(
        assets=[infrastructure_asset(owners=["team:operations"])],
        jobs=list(defined.values()),
        schedules=[infrastructure_schedule()],
        sensors=[sensor, alerts_sensor()],
    )
