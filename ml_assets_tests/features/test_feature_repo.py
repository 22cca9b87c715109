"""The repository that ships, in a copy: it applies, its declarations fit what is computed, retrieval works on it."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from ml_assets.defs.flights.feature_views import compute as computing
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import ViewSchema, applied_repo, apply, historical_features, view_schemas
from ml_assets.lake import Lake

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "flight_delay_v2"
REQUEST = ("event_timestamp", "distance", "scheduled_duration", "planned_departures")
START = datetime(2013, 1, 5, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Return a copy beside an empty data folder, as in a fresh clone."""
    (tmp_path / "data").mkdir()
    shutil.copytree(ROOT / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "feature_repo"


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an applied copy with a lake in which every view has two rows per entity: 1.0, then 2.0 a day later."""
    folder = tmp_path_factory.mktemp("applied")
    shutil.copytree(ROOT / "feature_repo", folder / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    assert apply(folder / "feature_repo")
    lake = Lake(str(folder / "data" / "lake"))
    for schema in view_schemas(folder / "feature_repo").values():
        rows = pl.concat([view_row(schema, START, 1.0), view_row(schema, START + timedelta(days=1), 2.0)])
        lake.write(f"features/{schema.name}", rows, written_at=START)
    return folder / "feature_repo"


def view_row(schema: ViewSchema, moment: datetime, value: float) -> pl.DataFrame:
    keys = dict.fromkeys(schema.keys, "A")
    created = moment + timedelta(hours=3)
    values = dict.fromkeys(schema.features, value)
    row = {**keys, "event_timestamp": moment, **values, "created_timestamp": created}
    types = {**schema.keys, "event_timestamp": TIME, **schema.features, "created_timestamp": TIME}
    return pl.DataFrame([row], schema=types)


def observed(*hours: float) -> pl.DataFrame:
    keys = dict.fromkeys(["carrier", "origin", "dest", "tailnum"], "A")
    plan = {"distance": 500.0, "scheduled_duration": 100.0, "planned_departures": 7.0}
    rows = [
        {"flight_id": str(n), **keys, "event_timestamp": START + timedelta(hours=h), **plan}
        for n, h in enumerate(hours)
    ]
    return pl.DataFrame(rows, schema_overrides={"event_timestamp": TIME})


def stored_features(repo: Path) -> list[str]:
    return [name for schema in view_schemas(repo, service=SERVICE).values() for name in schema.features]


def test_features_are_joined_in_order_with_each_views_ttl(applied: Path) -> None:
    observations = observed(7 * 24, 25, -1, 1).with_columns(tailnum=pl.Series(["A", None, "A", "A"]), label=pl.lit(1))
    found = historical_features(applied, SERVICE, observations)
    assert_frame_equal(found.select(observations.columns), observations)
    assert found.width == observations.width + 36
    assert found["temp"].to_list() == [None, 2.0, None, 1.0]  # 6 hours
    assert found["carrier_arr_late_share_7d"].to_list() == [2.0, 2.0, None, 1.0]  # 7 days
    assert found["route_arrivals_30d"].to_list() == [2.0, 2.0, None, 1.0]
    assert found["aircraft_seats"].to_list() == [2.0, None, None, 1.0]  # for ever, but nobody knows which aircraft
    assert found["planned_speed"].to_list() == [300.0] * 4
    assert found["departures_above_last_hour"].to_list() == [None, 5.0, None, 6.0]
    assert found["inherited_delay_share"].to_list() == [None, None, None, 0.01]  # 3 days
    assert found["aircraft_age_years"].to_list() == [2011.0, None, None, 2012.0]


def test_as_known_at_forgets_what_came_later(applied: Path) -> None:
    before = historical_features(applied, SERVICE, observed(25), as_known_at=START + timedelta(hours=26))
    assert before["aircraft_seats"].to_list() == [1.0]  # the second row was created at 27 hours


def test_another_lake_can_stand_in(applied: Path, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for schema in view_schemas(applied, service=SERVICE).values():
        lake.write(f"features/{schema.name}", view_row(schema, START, 5.0), written_at=START)
    found = historical_features(applied, SERVICE, observed(1), lake_url=lake.url)
    assert set(found.select(stored_features(applied)).row(0)) == {5.0}


def test_applying_again_does_nothing_and_leaves_no_trace_in_the_process(repo: Path) -> None:
    folder, path, modules = os.getcwd(), list(sys.path), set(sys.modules)
    assert [apply(repo), apply(repo)] == [True, False]
    assert (os.getcwd(), sys.path) == (folder, path)
    assert not {"views", "entities", "services"} & (set(sys.modules) - modules)
    assert sorted(item.name for item in repo.iterdir()) == sorted(
        item.name for item in (ROOT / "feature_repo").iterdir() if item.name != "__pycache__"
    )


def test_a_view_that_is_no_longer_declared_is_removed(repo: Path) -> None:
    apply(repo)
    text = (repo / "views.py").read_text()
    (repo / "views.py").write_text(text[: text.index("aircraft_spec = ")])
    services = (repo / "services.py").read_text().replace("    views.aircraft_spec,\n", "")
    services = services.replace("    views.departure_context,\n", "")
    (repo / "services.py").write_text(services)
    with pytest.raises(FeatureError, match=r"'aircraft_seats' \(Float64\) is gone, but .* \(problem flight_delay\)"):
        apply(repo)
    (repo / "services.py").write_text(services.replace(SERVICE, "flight_delay_v3").replace("delay_v1", "delay_v2"))
    assert apply(repo)
    assert "aircraft_spec" not in view_schemas(repo)
    assert len(view_schemas(repo)) == 7


def test_the_lake_is_taken_from_the_environment(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast import FeatureStore

    def paths() -> list[str]:
        return [view.batch_source.path for view in FeatureStore(repo_path=str(repo)).list_feature_views()]

    apply(repo)
    assert "../data/lake/features/origin_weather" in paths()
    monkeypatch.setenv("ML_ASSETS_LAKE", "gs://bucket/lake/")
    assert apply(repo)
    assert "gs://bucket/lake/features/origin_weather" in paths()
    monkeypatch.setenv("ML_ASSETS_LAKE", "elsewhere")
    assert apply(repo)
    assert str(repo.parent / "elsewhere/features/origin_weather") in paths()


def test_declarations_fit_what_is_computed(applied: Path) -> None:
    text = dict.fromkeys(["origin", "dest", "carrier", "tailnum"], pl.String)
    numbers = [*computing.MEASURED, "dep_delay", "arr_delay", "distance", "seats", "year"]
    measured = dict.fromkeys(numbers, pl.Float64)
    times = dict.fromkeys(["scheduled_departure", "departed_at", "arrived_at", "observed_at", "landed_at"], TIME)
    source = pl.LazyFrame(schema=text | measured | times | {"cancelled": pl.Boolean})
    beside = {"airport_profile": {"clean_weather": source}}
    for name, declared in view_schemas(applied).items():
        computed = dict(getattr(computing, name)(source, **beside.get(name, {})).collect_schema())
        assert computed.pop("event_timestamp") == computed.pop("created_timestamp") == TIME
        assert computed == {**declared.keys, **declared.features}, name


def test_request_time_features_are_declared_with_units_and_what_they_read(applied: Path) -> None:
    service = applied_repo(applied).services[SERVICE]
    (view,) = service.on_demand
    assert all(item.description for item in view.outputs)
    assert [item.name for item in view.request] == list(REQUEST)
    assert view.hidden == ()  # the service asks for all stored views whole
    assert "departure_context" not in service.views


def test_each_problem_has_a_service_and_one_that_asks_for_what_is_declared(applied: Path) -> None:
    services = applied_repo(applied).services
    for path in sorted((ROOT / "ml_assets" / "defs" / "flights").glob("*/defs.yaml")):
        declared = yaml.safe_load(path.read_text().split("\n---")[0])
        if declared["type"] == "ml_assets.MlProblem":
            problem = declared["attributes"]
            service = services[problem["features"]["service"]]
            assert sorted(service.views) == sorted(problem["features"]["views"]), path
            assert service.tags["problem"] == problem["name"], path


def test_every_view_and_feature_is_described_and_owned(applied: Path) -> None:
    from feast import FeatureStore

    for view in FeatureStore(repo_path=str(applied)).list_feature_views():
        assert view.owner
        assert view.description
        assert view.tags
        assert all(field.description for field in view.features)


def test_unknown_services_and_places_are_refused_by_name(applied: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FeatureError,
        match=r"no feature service 'flight_delay_v9' .* it has \['airport_segments_v1', 'arrival_delay_v1', '",
    ):
        historical_features(applied, "flight_delay_v9", observed(1))
    with pytest.raises(FeatureError, match=r"is no Feast repository: it has no feature_store.yaml"):
        apply(tmp_path)
    shutil.copy(applied / "feature_store.yaml", tmp_path)
    with pytest.raises(FeatureError, match=r"has not been applied; call `retrieval.apply` or run `feast apply` there"):
        historical_features(tmp_path, SERVICE, observed(1))
