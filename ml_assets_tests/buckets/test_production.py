"""The production configuration loads, and what steps print goes to the bucket that it names."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance import InstanceRef
from dagster._core.instance.config import dagster_instance_config

from ml_assets_tests.buckets.conftest import BUCKET, Bucket
from ml_assets_tests.fakes.gcs_server import GcsServer

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "deploy" / "dagster.production.yaml"
PLACES = {"storage", "local_artifact_storage", "compute_logs"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as DAGSTER_HOME, with the production configuration and what it asks of the environment."""
    shutil.copy(PRODUCTION, tmp_path / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://me:secret@127.0.0.1:5432/dagster")
    monkeypatch.setenv("ML_ASSETS_COMPUTE_LOGS", BUCKET)
    return tmp_path


def test_it_differs_only_in_where_things_are_kept() -> None:
    ours, small = (yaml.safe_load(path.read_text()) for path in (PRODUCTION, ROOT / "dagster.yaml"))
    assert {name: ours[name] for name in ours.keys() - PLACES} == {name: small[name] for name in small.keys() - PLACES}


def test_dagster_takes_every_setting(home: Path) -> None:
    settings, _ = dagster_instance_config(str(home))
    assert settings["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    found = InstanceRef.from_dir(str(home))
    assert found.storage_data is not None
    assert (found.storage_data.module_name, found.storage_data.class_name) == (
        "dagster_postgres",
        "DagsterPostgresStorage",
    )
    assert found.compute_logs_data.class_name == "GCSComputeLogManager"


def test_what_a_step_prints_goes_to_the_bucket(
    strict: tuple[Bucket, GcsServer], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = yaml.safe_load(PRODUCTION.read_text())
    configured["storage"] = {"sqlite": {"base_dir": str(home)}}  # the rest as in production
    configured["compute_logs"]["config"]["local_dir"] = str(home / "printed")
    (home / "dagster.yaml").write_text(yaml.safe_dump(configured))
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    @dg.asset
    def speaking() -> None:
        print("forty-two")

    with dg.DagsterInstance.get() as instance:
        done = dg.materialize([speaking], instance=instance)
        store = strict[0].store("compute_logs")
        (name,) = [name for name in store.names() if name.endswith(".out")]
        assert b"forty-two" in store.read(name)
        assert done.run_id in name
        manager = instance.compute_log_manager
        key = manager.build_log_key_for_run(done.run_id, name.rsplit("/", 1)[-1].removesuffix(".out"))
        shutil.rmtree(home / "printed")  # another machine has no copy
        assert b"forty-two" in (manager.get_log_data(key).stdout or b"")
