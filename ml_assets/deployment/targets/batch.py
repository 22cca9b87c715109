"""Batch: the asset `predictions` has a partition for each day, and Dagster makes it when the day's files are in.

Where Dagster's daemon runs there is nothing to deploy. Where it does not, a Cloud Run job makes one day's partition from the same
definitions, and Cloud Scheduler starts it each morning.
"""

from __future__ import annotations

from ml_assets import keys
from ml_assets.deployment.targets.plan import Plan, Release, Run
from ml_assets.deployment.targets.settings import Settings, outside_name

MODULE = "ml_assets.definitions"
UPDATE_JOB, SCORE_JOB = "update", "score"
"""Dagster's jobs: what new files need, asked for by the landing sensor; and the predictions alone."""
MORNING = "0 5 * * *"
ENVIRONMENT = "/secrets/ml-assets.env"
SHARED = "/app/shared"
SECONDS = 3600
API = "https://run.googleapis.com/v2"


def plan(release: Release, settings: Settings) -> Plan:
    """Return the job and its schedule on Cloud Run; needs the image of this repository, a project, a region and an account."""
    settings.require("batch", "project", "region", "service_account")
    settings.require_image("batch")
    name = f"{settings.name or outside_name(release.problem)}-predictions"
    return Plan(
        "batch",
        (
            Run(_job(release, settings, name), "the image of this repository, made by deploy/Dockerfile"),
            Run(_schedule(settings, name), "each morning, when yesterday's files are in; refused where it exists"),
        ),
        (
            f"where Dagster's daemon runs, neither is needed: its landing sensor asks for job {UPDATE_JOB}, which scores new days",
            f"days of the past: in the web UI launch job {SCORE_JOB} for a range of days, or "
            f"`dagster asset materialize --module-name {MODULE} --select '{select(release)}' --partition-range FIRST...LAST`",
            f"bundles must lie where the registry says: --shared mounts a bucket with them at {SHARED}",
            "predictions are the champion's, whichever version was named: batch follows the registry",
        ),
    )


def select(release: Release) -> str:
    """Return the asset of the predictions, as Dagster's selection has it."""
    return f'key:"{keys.problem(release.problem, "predictions")}"'


def _job(release: Release, settings: Settings, name: str) -> tuple[str, ...]:
    command = (
        f"{f'set -a; . {ENVIRONMENT}; ' if settings.secret else ''}"
        f"exec dagster asset materialize --module-name {MODULE} --select '{select(release)}' "
        '--partition "$(date --utc --date=yesterday +%F)"'
    )
    return (
        *("gcloud", "run", "jobs", "deploy", name, "--quiet"),
        *(f"--project={settings.project}", f"--region={settings.region}", f"--image={settings.image}"),
        *(f"--service-account={settings.service_account}", f"--cpu={settings.cpu}", f"--memory={settings.memory}"),
        *("--command=sh", f"--args=^|^-c|{command}", "--tasks=1", "--max-retries=2", f"--task-timeout={SECONDS}s"),
        *(_mount(settings) if settings.shared else ()),
        *([f"--set-secrets={ENVIRONMENT}={settings.secret}:latest"] if settings.secret else []),
    )


def _mount(settings: Settings) -> tuple[str, str]:
    volume = f"name=shared,type=cloud-storage,bucket={settings.shared},readonly=true"
    return f"--add-volume={volume}", f"--add-volume-mount=volume=shared,mount-path={SHARED}"


def _schedule(settings: Settings, name: str) -> tuple[str, ...]:
    where = f"{API}/projects/{settings.project}/locations/{settings.region}/jobs/{name}:run"
    return (
        *("gcloud", "scheduler", "jobs", "create", "http", name, "--quiet"),
        *(f"--project={settings.project}", f"--location={settings.region}", f"--schedule={MORNING}", "--time-zone=UTC"),
        *(f"--uri={where}", "--http-method=POST", f"--oauth-service-account-email={settings.service_account}"),
    )
