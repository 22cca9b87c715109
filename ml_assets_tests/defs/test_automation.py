"""The public surface of the deployment: assets with their labels, the named jobs, schedules, and the landing sensor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from ml_assets import keys
from ml_assets.collection.collect import collect
from ml_assets.lake import Store
from ml_assets.replay.faults import truncated_gzip
from ml_assets.replay.world import World, delivered_at
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import resources
from ml_assets_tests.collection.outside import declared

JOBS = {"ingest", "train", "score", "monitor", "everything", "update"}
PROBLEMS = ("flight_delay", "arrival_delay", "airport_segments")
FIRST = date(2013, 1, 1)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty deployment below a folder, at noon of 10 January 2013."""
    for name in ("LANDING", "QUARANTINE", "LAKE", "MODELS", "REPORTS"):
        monkeypatch.setenv(f"ML_ASSETS_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("ML_ASSETS_REPLAY_CLOCK", str(tmp_path / "clock"))
    Clock(tmp_path / "clock").set(datetime(2013, 1, 10, 12, tzinfo=UTC))
    return tmp_path


@pytest.fixture
def loaded(data: Path) -> dg.Definitions:
    """The project's definitions, bound to that deployment."""
    from ml_assets.definitions import defs

    return defs()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that lives as long as the test."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def world(data: Path) -> World:
    """The outside world, delivering into the deployment's landing zone."""
    return World(Store(str(data / "landing")))


def tick(loaded: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorExecutionData:
    """Evaluate the landing sensor once, as the daemon does."""
    repository = loaded.get_repository_def()
    sensor = repository.get_sensor_def("landing_sensor")
    names = ("landing", "clock", "lake")
    bound = {name: resource for name, resource in resources(Path()).items() if name in names}
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=bound, cursor=cursor
    ) as context:
        return sensor.evaluate_tick(context)


def test_every_asset_says_what_it_is(loaded: dg.Definitions) -> None:
    for spec in loaded.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners == ["team:operations"], spec.key
        assert spec.kinds, spec.key
        assert spec.group_name in keys.GROUPS, spec.key
        assert spec.tags.get("stage") == spec.group_name, spec.key


def test_the_named_jobs_and_schedules_are_there(loaded: dg.Definitions) -> None:
    repository = loaded.get_repository_def()
    assert {job.name for job in repository.get_all_jobs()} >= JOBS
    wanted = {
        f"{problem}_{what}" for problem in PROBLEMS for what in ("retrain", "monitor", "rebuild", "staleness_curve")
    }
    assert {schedule.name for schedule in repository.schedule_defs} == wanted | {"infrastructure_watch"}


def test_jobs_cover_the_graph_without_overlap(loaded: dg.Definitions) -> None:
    repository = loaded.get_repository_def()
    parts = [
        set(repository.get_job(name).asset_layer.selected_asset_keys)
        for name in ("ingest", "train", "score", "monitor")
    ]
    everything = set(repository.get_job("everything").asset_layer.selected_asset_keys)
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)


def test_every_source_view_and_prediction_has_profiles_that_are_made_after_it(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    profiled = {key.to_user_string() for key in graph.get_all_asset_keys() if key.path[0] in ("raw", "features")}
    profiled |= {f"{problem}/{part}" for problem in PROBLEMS for part in ("predictions", "served_predictions")}
    found = {key for key in graph.get_all_asset_keys() if key.path[0] == "profiles"}
    assert {"/".join(key.path[1:]) for key in found} == profiled
    assert all(graph.get(key).parent_keys == {dg.AssetKey(key.path[1:])} for key in found)


def test_tables_that_guard_correctness_block(loaded: dg.Definitions) -> None:
    graph = loaded.resolve_asset_graph()
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    expected = {
        "raw/flights",
        "clean/flights",
        "clean/weather",
        "features/carrier_history",
        "flight_delay/observations",
    }
    expected |= {"flight_delay/training_set", "flight_delay/predictions", "flight_delay/evaluation_report"}
    assert expected <= blocking


def test_the_sensor_skips_an_empty_landing_zone(loaded: dg.Definitions, instance: dg.DagsterInstance) -> None:
    found = tick(loaded, instance)
    assert (found.run_requests, found.skip_message) == ([], "no new files")


def test_new_files_fire_one_run_for_their_days(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    world.deliver_reference(at=delivered_at(FIRST))
    world.deliver_days([FIRST + timedelta(days=count) for count in range(5)])
    (request,) = tick(loaded, instance).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "2013-01-01"
    assert request.tags["dagster/asset_partition_range_end"] == "2013-01-05"
    selected = {key.to_user_string() for key in request.asset_selection}
    assert {"raw/flights", "raw/planes", "features/carrier_history", "flight_delay/observations"} <= selected
    assert not any("predictions" in key or "report" in key for key in selected)  # no champion, nothing to score


def test_the_same_files_have_the_same_run_key(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    world.deliver_days([FIRST])
    first, second = (tick(loaded, instance).run_requests for _ in range(2))
    assert [request.run_key for request in first] == [request.run_key for request in second]


def test_with_a_champion_new_files_are_scored(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(["flight_delay", "champion"]))
    world.deliver_days([FIRST])
    (request,) = tick(loaded, instance).run_requests
    selected = {key.to_user_string() for key in request.asset_selection}
    assert {"flight_delay/predictions", "flight_delay/drift_report", "flight_delay/performance_report"} <= selected
    assert "raw/planes" not in selected  # no new file of it
    assert "flight_delay/candidates/xgboost" not in selected  # retraining is the schedule's


def test_a_new_reference_table_reaches_the_features_that_are_made_of_it(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(["flight_delay", "champion"]))
    world.deliver_reference(at=delivered_at(FIRST))
    (request,) = tick(loaded, instance).run_requests
    selected = {key.to_user_string() for key in request.asset_selection}
    assert {"raw/planes", "features/aircraft_spec", "feature_store/online/aircraft_spec"} <= selected
    assert not {name for name in selected if "flights" in name or "carrier" in name or "prediction" in name}
    assert "dagster/asset_partition_range_start" not in request.tags


def test_a_run_under_way_is_waited_for(loaded: dg.Definitions, instance: dg.DagsterInstance, world: World) -> None:
    world.deliver_days([FIRST])
    job = loaded.resolve_job_def("update")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"ml_assets/collects": "true"})
    assert tick(loaded, instance).skip_message == f"run {run.run_id} is still collecting"


def test_a_failing_batch_is_tried_three_times(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    world.deliver_days([FIRST])
    job, run_keys = loaded.resolve_job_def("update"), []
    for status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE):
        (request,) = tick(loaded, instance).run_requests
        run_keys.append(request.run_key)
        tags = {**request.tags, "ml_assets/collects": "true"}
        instance.create_run_for_job(job, status=status, tags=tags)
    assert len(set(run_keys)) == 3
    assert "failed 3 times" in (tick(loaded, instance).skip_message or "")


def test_a_run_that_failed_after_its_files_were_in_is_asked_for_again(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    """The ledger knows nothing of later steps; the cursor and the runs do, until one succeeds or three failed."""
    world.deliver_days([FIRST])
    first = tick(loaded, instance)
    (request,) = first.run_requests or []
    places = resources(Path())["landing"].open()
    for name in ("flights", "weather"):
        collect(declared(name).contract(), places, now=datetime(2013, 1, 10, tzinfo=UTC))
    assert tick(loaded, instance, first.cursor).run_requests == []  # under way, for all that one knows

    job, tags = loaded.resolve_job_def("update"), {**request.tags, "ml_assets/collects": "true"}
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE, tags=tags)
    second = tick(loaded, instance, first.cursor)
    (again,) = second.run_requests or []
    assert (again.tags, again.run_key == request.run_key) == (request.tags, False)
    assert [key.to_user_string() for key in again.asset_selection or []] == [
        key.to_user_string() for key in request.asset_selection or []
    ]

    instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS, tags=tags)
    third = tick(loaded, instance, second.cursor)
    assert (third.run_requests, third.skip_message, third.cursor) == ([], "no new files", "[]")

    for _ in range(2):
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE, tags=tags)
    assert "failed 3 times after their files were in" in (tick(loaded, instance, second.cursor).skip_message or "")


def test_a_correction_remakes_the_days_that_depend_on_it(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World, data: Path
) -> None:
    from ml_assets.replay.faults import corrected
    from ml_assets.source import Source

    world.deliver_days([FIRST + timedelta(days=count) for count in range(6)])
    import yaml

    declared = (Path(__file__).parents[2] / "ml_assets/defs/flights/sources/defs.yaml").read_text()
    places = resources(Path())["landing"].open()
    for document in yaml.safe_load_all(declared):
        source = Source.resolve_from_dict(document["attributes"])
        collect(source.contract(), places, now=datetime(2013, 1, 10, tzinfo=UTC))
    corrected(world, FIRST + timedelta(days=2))
    (request,) = tick(loaded, instance).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "2013-01-03"
    assert request.tags["dagster/asset_partition_range_end"] == "2013-01-06"


def test_a_broken_file_alone_fires_a_run_that_will_quarantine_it(
    loaded: dg.Definitions, instance: dg.DagsterInstance, world: World
) -> None:
    truncated_gzip(world, FIRST)
    (request,) = tick(loaded, instance).run_requests
    assert request.tags["dagster/asset_partition_range_start"] == "2013-01-01"
