"""Every method of Feast's two base classes, with what ours does; and saved datasets, validation, logs, exports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import FeatureService, FeatureStore, Field, RequestSource
from feast.dqm.errors import ValidationFailed
from feast.dqm.profilers.profiler import Profile, Profiler, ValidationError, ValidationReport
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64
from polars.testing import assert_frame_equal

from ml_assets.features.offline_store import PolarsOfflineStore, PolarsRetrievalJob
from ml_assets.features.point_in_time import FeatureError
from ml_assets_tests.features.stores import ANSWER, ASKED, TABLE, TIME, at, feast_store, feature_view, join, source

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own experimental interfaces and deprecations

OURS, BASE, NOT = "ours", "Feast's, which calls ours", "not implemented, and says so"
STORE = {
    "get_historical_features": OURS,
    "pull_latest_from_table_or_query": OURS,
    "pull_all_from_table_or_query": OURS,
    "offline_write_batch": OURS,
    "write_logged_features": OURS,
    "validate_data_source": OURS,
    "get_table_column_names_and_types_from_data_source": OURS,
    "ensure_filter_by_created_timestamp_supported": BASE,
    # Feast's own monitoring, an experiment of 0.67; `ml_assets.monitoring` and the views' statistics stand for it.
    "compute_monitoring_metrics": NOT,
    "get_monitoring_max_timestamp": NOT,
    "ensure_monitoring_tables": NOT,
    "save_monitoring_metrics": NOT,
    "query_monitoring_metrics": NOT,
    "clear_monitoring_baseline": NOT,
}
JOB = {
    "to_df": BASE,
    "to_arrow": BASE,
    "to_feast_df": BASE,
    "to_tensor": BASE,  # needs torch, and says so
    "to_ray_dataset": BASE,  # needs Ray, and says so
    "to_sql": NOT,
    "_to_df_internal": OURS,
    "_to_arrow_internal": OURS,
    "persist": OURS,
    "full_feature_names": OURS,
    "on_demand_feature_views": OURS,
    "metadata": OURS,
    "supports_remote_storage_export": OURS,
    "to_remote_storage": OURS,
}


def methods(of: type) -> set[str]:
    return {
        name for name in vars(of) if not name.startswith("__") and (callable(getattr(of, name)) or _property(of, name))
    }


def _property(of: type, name: str) -> bool:
    return isinstance(vars(of)[name], property)


@pytest.mark.parametrize(
    ("base", "ours", "table"), [(OfflineStore, PolarsOfflineStore, STORE), (RetrievalJob, PolarsRetrievalJob, JOB)]
)
def test_every_method_of_the_base_class_is_accounted_for(base: type, ours: type, table: dict[str, str]) -> None:
    assert methods(base) - {"_abc_impl"} == set(table)
    own = {name for name, what in table.items() if name in vars(ours)}
    assert own - {"to_sql"} == {name for name, what in table.items() if what == OURS}


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    TABLE.write_parquet(tmp_path / "v.parquet")
    return feast_store(tmp_path, [feature_view(source("v.parquet"))], staging_location="staging")


@pytest.fixture
def job(store: FeatureStore) -> PolarsRetrievalJob:
    found = store.get_historical_features(entity_df=ASKED, features=["v:x"])
    assert isinstance(found, PolarsRetrievalJob)
    return found


# -- results -----------------------------------------------------------------------------------------------------------


def test_all_forms_of_a_result_have_the_same_values(job: PolarsRetrievalJob) -> None:
    forms: list[Callable[[], Any]] = [job.to_polars, job.to_arrow, job.to_df, lambda: job.to_feast_df().data]
    for form in forms:
        assert pl.DataFrame(form())["x"].fill_nan(None).to_list() == ANSWER


def test_a_result_has_no_sql(job: PolarsRetrievalJob) -> None:
    with pytest.raises(NotImplementedError, match=r"has no SQL; take to_polars\(\), to_arrow\(\) or to_df\(\)"):
        job.to_sql()


def test_a_result_is_exported_as_parquet_files(
    job: PolarsRetrievalJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.features.offline_store.EXPORTED_ROWS", 3)
    assert job.supports_remote_storage_export()
    paths = job.to_remote_storage()
    assert len(paths) == 3
    assert all(path.startswith(str(tmp_path / "staging")) for path in paths)
    assert pl.read_parquet(paths)["x"].to_list() == ANSWER
    assert job.to_remote_storage() == paths


def test_without_a_place_nothing_is_exported(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "v.parquet")
    plain = feast_store(tmp_path, [feature_view(source("v.parquet"))])
    found = plain.get_historical_features(entity_df=ASKED, features=["v:x"])
    assert not found.supports_remote_storage_export()
    with pytest.raises(FeatureError, match=r"set offline_store.staging_location in feature_store.yaml"):
        found.to_remote_storage()


def test_an_unknown_option_of_the_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="memory_limit_mb"):
        feast_store(tmp_path, [], memory_limit_mb=0)
    with pytest.raises(ValueError, match="memory"):
        feast_store(tmp_path, [], memory="2 GB")


def test_a_memory_limit_changes_no_value(tmp_path: Path, store: FeatureStore) -> None:
    limited = feast_store(tmp_path, [feature_view(source("v.parquet"))], memory_limit_mb=1)
    assert_frame_equal(join(limited, ASKED), join(store, ASKED))


# -- saved datasets ----------------------------------------------------------------------------------------------------


def test_a_saved_dataset_has_on_demand_features_too(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "v.parquet")
    view = feature_view(source("v.parquet"))
    request = RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[view, request], schema=[Field(name="scaled", dtype=Float64)])
    def scaled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["x"] * inputs["factor"]})

    service = FeatureService(name="both", features=[view[["x"]], scaled])
    store = feast_store(tmp_path, [view, scaled, service])
    job = store.get_historical_features(entity_df=ASKED.with_columns(factor=10.0), features=service)
    storage = SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet"))
    store.create_saved_dataset(from_=job, name="saved", storage=storage, feature_service=service)
    found = store.get_saved_dataset("saved").to_df()
    assert found["scaled"].fillna(-1).tolist()[:3] == pytest.approx([4.0, 2.0, 1.0])
    assert len(found) == ASKED.height


class Bounds(Profile):
    """The range of a column, as it was in the reference."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def validate(self, dataset: pd.DataFrame) -> ValidationReport:
        outside = dataset[(dataset["x"] < self.low) | (dataset["x"] > self.high)]
        return Report(len(outside))

    def to_proto(self) -> Any:
        raise NotImplementedError

    @classmethod
    def from_proto(cls, proto: Any) -> Profile:
        raise NotImplementedError


class Report(ValidationReport):
    """How many values are outside."""

    def __init__(self, outside: int) -> None:
        self.outside = outside

    @property
    def is_success(self) -> bool:
        return not self.outside

    @property
    def errors(self) -> list[ValidationError]:
        return [ValidationError("range", "x", unexpected_count=self.outside)] if self.outside else []


class Ranges(Profiler):
    """A profiler as a user would write it, without Great Expectations."""

    def analyze_dataset(self, dataset: pd.DataFrame) -> Profile:
        return Bounds(dataset["x"].min(), dataset["x"].max())

    def to_proto(self) -> Any:
        raise NotImplementedError

    @classmethod
    def from_proto(cls, proto: Any) -> Profiler:
        raise NotImplementedError


def test_a_result_is_validated_against_a_saved_one(store: FeatureStore, tmp_path: Path) -> None:
    first = store.get_historical_features(entity_df=ASKED.filter(pl.col("k") == "p"), features=["v:x"])
    storage = SavedDatasetFileStorage(path=str(tmp_path / "reference"))
    store.create_saved_dataset(from_=first, name="reference", storage=storage)
    reference = store.get_saved_dataset("reference").as_reference(name="ranges", profiler=Ranges())
    job = store.get_historical_features(entity_df=ASKED, features=["v:x"])
    for form in (job.to_df, job.to_arrow):
        assert len(form(validation_reference=reference)) == ASKED.height
    TABLE.with_columns(pl.col("x") * 10).write_parquet(tmp_path / "v.parquet")
    for form in (job.to_df, job.to_arrow):
        with pytest.raises(ValidationFailed) as failed:
            form(validation_reference=reference)
        assert failed.value.report.errors[0].unexpected_count == 4


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition_by", [None, ["__log_date"]])
@pytest.mark.parametrize("as_file", [False, True])
def test_served_features_are_logged_and_read_back(
    tmp_path: Path, partition_by: list[str] | None, as_file: bool
) -> None:
    TABLE.write_parquet(tmp_path / "v.parquet")
    view = feature_view(source("v.parquet"))
    destination = FileLoggingDestination(path="logs", partition_by=partition_by)
    service = FeatureService(name="served", features=[view[["x"]]], logging_config=LoggingConfig(destination))
    store = feast_store(tmp_path, [view, service])
    logs = pl.DataFrame(
        {
            "k": ["p", "q"],
            "v__x": [0.1, 0.2],
            "v__x__timestamp": [at(1), at(2)],
            "v__x__status": pl.Series([0, 0], dtype=pl.Int32),
            "__log_timestamp": [at(4), at(30)],
            "__log_date": [at(4).date(), at(30).date()],
            "__request_id": ["one", "two"],
        }
    )
    given: pa.Table | Path = logs.to_arrow()
    if as_file:
        given = tmp_path / "incoming.parquet"
        logs.write_parquet(given)
    for _ in range(2):  # a retry adds nothing
        store.write_logged_features(given, source=service)
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 3, tzinfo=UTC)
    read = store._get_provider().retrieve_feature_service_logs(service, start, end, store.config, store.registry)
    found = pl.from_pandas(read.to_df()).sort("k")
    assert found.select("k", "v__x", "__request_id").rows() == [("p", 0.1, "one"), ("q", 0.2, "two")]
    assert found["__log_timestamp"].cast(TIME).to_list() == [at(4), at(30)]
    assert len(list((tmp_path / "logs").rglob("*.parquet"))) == (2 if partition_by else 1)


def test_logs_go_to_files_only(store: FeatureStore) -> None:
    class Elsewhere:
        destination = "a table"

    with pytest.raises(FeatureError, match="logs go to 'a table'; this store writes them to a FileLoggingDestination"):
        PolarsOfflineStore.write_logged_features(store.config, pa.table({}), None, Elsewhere(), store.registry)


# -- sources -----------------------------------------------------------------------------------------------------------


def test_other_sources_are_refused_by_name(tmp_path: Path) -> None:
    from feast.data_format import DeltaFormat

    delta = FileSource(name="delta", path="v", file_format=DeltaFormat(), timestamp_field="event_timestamp")
    store = feast_store(tmp_path, [feature_view(delta)])
    with pytest.raises(FeatureError, match="source 'delta' is DeltaFormat; this store reads Parquet"):
        join(store, ASKED)


def test_nulls_in_times_and_keys_of_a_table_match_nothing(tmp_path: Path) -> None:
    odd = TABLE.with_columns(
        k=pl.when(pl.col("x") == 0.2).then(None).otherwise("k"),
        event_timestamp=pl.when(pl.col("x") == 0.4).then(None).otherwise("event_timestamp"),
    )
    odd.write_parquet(tmp_path / "v.parquet")
    store = feast_store(tmp_path, [feature_view(source("v.parquet"))])
    assert join(store, ASKED)["x"].to_list() == [0.3, None, 0.1, 0.3, None, None, None]
    latest = PolarsOfflineStore.pull_latest_from_table_or_query(
        store.config, source("v.parquet"), ["k"], ["x"], "event_timestamp", "created", at(0), at(9)
    )
    assert latest.to_polars().select("k", "x").rows() == [("p", 0.3)]
