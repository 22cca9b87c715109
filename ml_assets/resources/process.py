"""What every process of the project finds in its environment: where Dagster lives, and no telemetry.

Networks here are closed: a phone-home costs a time-out. The Makefile exports the same values for commands run
from it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",  # Evidently, DVC, dlt and others
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "FEAST_USAGE": "False",
    "GX_ANALYTICS_ENABLED": "false",
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow looks for git, and complains without it
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # else gcsfs asks for the bucket's type, 60 s where nobody answers
    "MPLBACKEND": "Agg",
    "OMP_WAIT_POLICY": "passive",  # OpenMP threads that spin take four times as long when the cores are busy
}
EVENT_BATCH = {
    "DAGSTER_EVENT_BATCH_SIZE": "500"
}  # events of a range of partitions in one transaction, see sqlite_storage


def prepare(environ: MutableMapping[str, str], root: Path) -> None:
    """Set what is not yet set: the values above, and `DAGSTER_HOME` to `root`, where `dagster.yaml` lies."""
    for name, value in {**QUIET, **EVENT_BATCH, "DAGSTER_HOME": str(root)}.items():
        environ.setdefault(name, value)
