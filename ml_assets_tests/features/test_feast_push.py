"""`FeatureStore.push` with our stores and a lake table: Feast's own way of streaming ends in the same places."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.push_log import RECEIVED, PushLog
from ml_assets.features.retrieval import applied_repo, apply, historical_features, service_features
from ml_assets.lake import Lake

YAML = """\
project: pushed
provider: local
registry: registry.db
online_store: {type: ml_assets.features.online_store.PackedOnlineStore, url: online.db, replay_clock: clock}
offline_store: {type: ml_assets.features.offline_store.PolarsOfflineStore}
entity_key_serialization_version: 3
"""
DEFINITIONS = """\
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float32, Int64, String

station = Entity(name="station", join_keys=["k"], value_type=ValueType.STRING)

def table(name, **options):
    return FileSource(name=name, path=f"lake/features/{name}", timestamp_field="event_timestamp",
                      created_timestamp_column="created_timestamp", **options)

def view(name, source):
    return FeatureView(name=name, entities=[station], ttl=timedelta(0), source=source,
                       schema=[Field(name="k", dtype=String), Field(name="x", dtype=Float32), Field(name="n", dtype=Int64)])

measured = view("measured", PushSource(name="reports", batch_source=table("measured")))
mapped = view("mapped", PushSource(name="mapped_reports", batch_source=table("mapped", field_mapping={"stored": "x"})))
plain = view("plain", table("plain"))
everything = FeatureService(name="everything", features=[measured])
"""
START = datetime(2013, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=4)

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def frame(*rows: tuple[str, float, float | None, int]) -> pl.DataFrame:
    """Return rows from (key, hour of event and creation, x, n)."""
    return pl.DataFrame(
        [(k, at(hour), at(hour), x, n) for k, hour, x, n in rows],
        schema={
            "k": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "created_timestamp": pl.Datetime("us", "UTC"),
            "x": pl.Float32,
            "n": pl.Int64,
        },
        orient="row",
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an applied repository whose views have one row for p each."""
    folder = tmp_path_factory.mktemp("pushed")
    (folder / "feature_store.yaml").write_text(YAML)
    (folder / "definitions.py").write_text(DEFINITIONS)
    (folder / "clock").write_text(NOW.isoformat())
    assert apply(folder)
    lake = Lake(str(folder / "lake"))
    for name in ("measured", "mapped", "plain"):
        rows = frame(("p", 1, 0.5, 1))
        lake.write(f"features/{name}", rows.rename({"x": "stored"}) if name == "mapped" else rows, written_at=START)
    return folder


def online(repo: Path, view: str, keys: list[str]) -> list[tuple[float | None, int | None]]:
    from feast import FeatureStore

    found = FeatureStore(repo_path=str(repo)).get_online_features([f"{view}:x", f"{view}:n"], [{"k": k} for k in keys])
    return list(zip(*(found.to_dict()[name] for name in ("x", "n")), strict=True))


def push(repo: Path, source: str, rows: pd.DataFrame, to: str = "ONLINE_AND_OFFLINE") -> None:
    from feast import FeatureStore
    from feast.data_source import PushMode

    FeatureStore(repo_path=str(repo)).push(source, rows, to=PushMode[to])


def test_a_push_reaches_online_and_the_log_and_the_join_sees_it(repo: Path) -> None:
    assert applied_repo(repo).views["measured"].declared.pushed
    rows = frame(("p", 3, 0.1, 3), ("q", 2, None, 2), ("p", 2, 0.2, 2))
    push(repo, "reports", rows.to_pandas())
    assert online(repo, "measured", ["p", "q", "z"]) == [(pytest.approx(0.1), 3), (None, 2), (None, None)]
    asked = pl.DataFrame({"k": ["p", "p", "p", "q"], "event_timestamp": [at(1.5), at(2.5), at(9), at(9)]})
    for features in (historical_features, service_features):
        found = features(repo, "everything", asked)
        assert found["n"].to_list() == [1, 2, 3, 2]
        assert found["x"].to_list() == [0.5, pytest.approx(0.2), pytest.approx(0.1), None]
    logged = PushLog(str(repo / "lake"), "features/measured").scan()
    assert logged is not None
    assert set(logged.collect()[RECEIVED]) == {NOW}  # the replay's now


def test_times_without_a_zone_are_utc_as_in_feast_and_names_may_be_mapped(repo: Path) -> None:
    rows = frame(("p", 3, 0.25, 3)).rename({"x": "stored"}).to_pandas()
    for name in ("event_timestamp", "created_timestamp"):
        rows[name] = rows[name].dt.tz_localize(None)
    push(repo, "mapped_reports", rows, "OFFLINE")  # for online Feast itself wants the other names
    logged = PushLog(str(repo / "lake"), "features/mapped").scan()
    assert logged is not None
    assert logged.select("k", "event_timestamp", "stored").collect().rows() == [("p", at(3), 0.25)]


def test_feasts_own_materialization_sees_what_was_pushed(repo: Path) -> None:
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repo))
    late = frame(("m", 5, 0.75, 5))
    PushLog(str(repo / "lake"), "features/measured").append(
        late, event_timestamp="event_timestamp", received_at=NOW, packed=['{"x":0.75,"n":5}']
    )
    assert online(repo, "measured", ["m"]) == [(None, None)]
    store.materialize(start_date=START, end_date=NOW, feature_views=["measured"])
    assert online(repo, "measured", ["m"]) == [(0.75, 5)]


def test_a_lake_table_without_push_source_is_written_by_its_asset_only(repo: Path) -> None:
    from feast import FeatureStore

    with pytest.raises(FeatureError, match=r"lake table is written by its asset .* give the view a push source"):
        FeatureStore(repo_path=str(repo)).write_to_offline_store("plain", frame(("p", 3, 0.1, 3)).to_pandas())
