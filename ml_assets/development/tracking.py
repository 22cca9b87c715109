"""Runs and versions of models in MLflow, on a SQL backend: one experiment and one registered model per problem.

Only MLflow's client is used: no autologging, no flavors (a model is our own files), no stages (aliases). A fresh SQLite
backend takes 4 s for MLflow's migrations, importing MLflow 4-7 s, a run 30 ms.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from ml_assets.development.model_files import read_verified
from ml_assets.development.training import CandidateResult

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
"""Aliases of a problem's versions: the one in office, the one that stands for it, and the one to which a rollback goes back."""
MODEL_FOLDER, BUNDLE_FOLDER = "model", "bundle"
_HASH = "sha256."
_ALL = 10_000  # versions, which MLflow gives at once
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
"""MLflow's error codes for a registered model, and for an alias, that does not exist."""


class TrackingError(ValueError):
    """The tracking backend is not one that MLflow supports, or lacks what was asked for."""


@dataclass(frozen=True)
class ChampionRef:
    """A registered version by its alias: where its bundle lies, and the tags it was registered with.

    `tags` hold what the caller registered (such as the bundle's digest); `sha256` are its file hashes by file name.
    """

    problem: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tracking:
    """MLflow at `uri` (`sqlite:///data/mlflow.db`, `postgresql://…`, `https://…`), artifacts below `artifact_root`.

    Instances on one backend see the same. Raises `TrackingError` for a folder as `uri`: MLflow's file store is gone.
    """

    uri: str
    artifact_root: str

    def __post_init__(self) -> None:
        scheme = self.uri.partition(":")[0]
        if "://" not in self.uri or scheme == "file":
            raise TrackingError(
                f"tracking uri {self.uri!r} is not a database or server: use sqlite:///path.db, or https://…"
            )

    def log_candidate(
        self,
        problem: str,
        result: CandidateResult,
        *,
        tags: Mapping[str, str],
        metric: str = "value",
        texts: Mapping[str, str] | None = None,
    ) -> str:
        """Record what became of a candidate, with its model's files and a run for each trial of its search; return the run's id.

        `tags` should name code version, data hash, declaration and Dagster run; `texts` are kept as files beside the model. The run
        ends FINISHED, or FAILED when the candidate failed or recording broke off. A trial's run is below it, with `metric` over the
        trial's folds.
        """
        run = self._client.create_run(self._experiment(problem), run_name=result.name, tags=self._tags(result, tags))
        status = "FAILED"
        try:
            self._log(run, result)
            for name, text in (texts or {}).items():
                self._client.log_text(run.info.run_id, text, name)
            for trial in result.trials:
                self._log_trial(run, result.name, trial, metric)
            status = "FAILED" if result.outcome == "failed" else "FINISHED"
        finally:
            self._client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    def register(
        self,
        problem: str,
        run_id: str,
        *,
        source: str,
        tags: Mapping[str, str],
        sha256: Mapping[str, str] | None = None,
    ) -> str:
        """Register the bundle at `source` as a new version of the problem's model, and return the version.

        Registering the same run, source and tags again returns the version that exists, whatever tags it got since: a retried step
        adds nothing.
        """
        self._ensure_model(problem)
        told = {**tags, **{f"{_HASH}{name}": value for name, value in (sha256 or {}).items()}}
        for known in self._client.search_model_versions(f"name = '{problem}'"):
            if (known.run_id, known.source) == (run_id, source) and told.items() <= known.tags.items():
                return str(known.version)
        made = self._client.create_model_version(problem, source=source, run_id=run_id, tags=told)
        return str(made.version)

    def set_alias(self, problem: str, alias: str, version: str) -> None:
        """Point an alias at a version; whatever held the alias before loses it in the same transaction."""
        self._client.set_registered_model_alias(problem, alias, version)

    def remove_alias(self, problem: str, alias: str) -> None:
        """Let an alias name nothing; it is no error when it did so already."""
        self._client.delete_registered_model_alias(problem, alias)

    def aliases(self, problem: str) -> dict[str, str]:
        """Return the version that each alias names, in one look; {} when the problem has no registered model."""
        from mlflow.exceptions import MlflowException

        try:
            return {name: str(version) for name, version in self._client.get_registered_model(problem).aliases.items()}
        except MlflowException as error:
            if error.error_code in _MISSING:
                return {}
            raise

    def registered_at(self, problem: str, version: str) -> datetime:
        """Return when a version was registered, by MLflow's clock."""
        return datetime.fromtimestamp(self._client.get_model_version(problem, version).creation_timestamp / 1000, UTC)

    def champion(self, problem: str, *, alias: str = CHAMPION) -> ChampionRef | None:
        """Return the version that holds the alias, or None when none does."""
        return self._found(lambda: self._client.get_model_version_by_alias(problem, alias))

    def version(self, problem: str, version: str) -> ChampionRef | None:
        """Return a registered version by its number, or None when there is none."""
        return self._found(lambda: self._client.get_model_version(problem, version))

    def versions(self, problem: str = "") -> list[ChampionRef]:
        """Return every registered version of a problem's model; without `problem`, of all."""
        wanted = f"name = '{problem}'" if problem else None
        return [_ref(found) for found in self._client.search_model_versions(wanted, max_results=_ALL)]

    def log_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text with a run, in place of one that has the same name."""
        self._client.log_text(run_id, text, name)

    def text(self, run_id: str, name: str) -> str | None:
        """Return one of the `texts` of a run, or None when it has none of that name."""
        from mlflow.artifacts import load_text

        if name not in [found.path for found in self._client.list_artifacts(run_id)]:
            return None
        return str(load_text(f"{self.run(run_id).info.artifact_uri}/{name}"))

    def _found(self, ask: Callable[[], Any]) -> ChampionRef | None:
        from mlflow.exceptions import MlflowException

        try:
            return _ref(ask())
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise

    def tag_version(self, problem: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a registered version."""
        for name, text in tags.items():
            self._client.set_model_version_tag(problem, version, name, text)

    def log_bundle(self, run_id: str, folder: Path) -> str:
        """Store a bundle's folder with the run, and return its URI: the `source` to register."""
        if not any(Path(folder).iterdir() if Path(folder).is_dir() else ()):
            raise TrackingError(f"bundle folder {folder} is missing or empty: build the bundle first")
        self._client.log_artifacts(run_id, str(folder), BUNDLE_FOLDER)
        return f"{self.run(run_id).info.artifact_uri}/{BUNDLE_FOLDER}"

    def bundle_folder(self, ref: ChampionRef, cache: Path) -> Path:
        """Return a local folder with a version's bundle: where it lies, or a copy in `cache` when that is elsewhere.

        Nothing is checked here: `load_bundle` does, with the digest. An incomplete copy is never seen under its name.
        """
        if (local := _local(ref.source)) is not None:
            return local
        target = Path(cache) / hashlib.sha256(ref.source.encode()).hexdigest()[:16]
        if not target.exists():
            self._download(ref, target)
        return target

    def _download(self, ref: ChampionRef, target: Path) -> None:
        from mlflow.artifacts import download_artifacts

        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as draft:
            Path(download_artifacts(artifact_uri=ref.source, dst_path=draft, tracking_uri=self.uri)).rename(target)

    def run(self, run_id: str) -> Run:
        """Return a run with its parameters, metrics and tags."""
        return self._client.get_run(run_id)

    def _log(self, run: Run, result: CandidateResult) -> None:
        from mlflow.entities import Metric, Param

        # MLflow's own stamp of the run: this code asks no clock.
        stamp, numbers = run.info.start_time, {**result.metrics, "seconds": result.seconds}
        params = {**result.parameters, "seed": result.seed, **{f"{split}_rows": n for split, n in result.rows.items()}}
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, float(value), stamp, 0) for name, value in numbers.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
        )
        if result.trained:
            # MLflow logs a folder that is not there, or half of one, without a word.
            read_verified(Path(result.folder), result.sha256)
            self._client.log_artifacts(run.info.run_id, result.folder, MODEL_FOLDER)

    def _log_trial(self, parent: Run, name: str, trial: Mapping[str, Any], metric: str) -> None:
        from mlflow.entities import Metric, Param

        tags = {"mlflow.parentRunId": parent.info.run_id, "candidate": name, "trial": trial["state"]}
        run = self._client.create_run(parent.info.experiment_id, run_name=f"{name} {trial['number']}", tags=tags)
        numbers = {"seconds": trial["seconds"]} | ({metric: trial["value"]} if trial["value"] is not None else {})
        self._client.log_batch(
            run.info.run_id,
            metrics=[Metric(one, float(value), run.info.start_time, 0) for one, value in numbers.items()],
            params=[Param(one, str(value)) for one, value in trial["parameters"].items()],
        )
        self._client.set_terminated(run.info.run_id, "FINISHED" if trial["state"] != "fail" else "FAILED")

    @staticmethod
    def _tags(result: CandidateResult, tags: Mapping[str, str]) -> dict[str, str]:
        own: dict[str, Any] = {
            "candidate": result.name,
            "outcome": result.outcome,
            "reason": result.reason,
            "notes": "; ".join(result.notes),
            "features": ", ".join(result.features),
        }
        hashes = {f"{_HASH}{name}": value for name, value in result.sha256.items()}
        return {name: str(value) for name, value in {**own, **hashes, **tags}.items() if value}

    @cached_property
    def _client(self) -> MlflowClient:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "1")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # of files that take no time
        for noisy in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if self.uri.startswith("sqlite:///"):
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _experiment(self, problem: str) -> str:
        found = self._client.get_experiment_by_name(problem)
        if found is None:
            return str(self._client.create_experiment(problem, artifact_location=f"{self._root}/{problem}"))
        return str(found.experiment_id)

    @property
    def _root(self) -> str:
        """The artifact root as a URI: MLflow would take a relative path for one below its own working folder."""
        root = self.artifact_root if "://" in self.artifact_root else Path(self.artifact_root).resolve().as_uri()
        return root.rstrip("/")

    def _ensure_model(self, problem: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(problem)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _ref(found: ModelVersion) -> ChampionRef:
    tags = {name: value for name, value in found.tags.items() if not name.startswith(_HASH)}
    sha256 = {name.removeprefix(_HASH): value for name, value in found.tags.items() if name.startswith(_HASH)}
    return ChampionRef(found.name, str(found.version), found.run_id or "", found.source or "", tags, sha256)


def _local(source: str) -> Path | None:
    """Return the path that a source names, when it is one of this machine."""
    if "://" not in source:
        return Path(source)
    return Path(unquote(urlparse(source).path)) if source.startswith("file://") else None
