"""The reader against Feast's `get_online_features`, on the repository that ships; and what it refuses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from feast import FeatureStore

from ml_assets.features.online.materialize import materialize
from ml_assets.features.online.parity import parity
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.reader import OnlineReader
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import applied_repo, apply, service_features
from ml_assets.lake import Lake
from ml_assets_tests.features.test_compiled import SERVICE, copied, rows_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations

START = datetime(2013, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=58)
SQLITE = "online_store: {type: sqlite, path: ../data/feature_store/feast.db}"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository that ships, applied, over a filled lake, with all views online as of `NOW`."""
    repo = copied(tmp_path_factory.mktemp("online"))
    (repo.parent / "data" / "replay_clock").write_text(NOW.isoformat())
    apply(repo)
    lake, rng = Lake(str(repo.parent / "data" / "lake")), random.Random(0)
    day = pl.col("event_timestamp").dt.strftime("%Y-%m-%d").alias("day")
    for view in applied_repo(repo).views.values():
        rows = rows_of(list(view.keys), list(view.features), rng)
        ago = pl.duration(minutes=pl.int_range(pl.len()) * 7 + 1)
        rows = pl.concat(
            [rows, rows.head(40).with_columns(event_timestamp=NOW - ago, created_timestamp=NOW - ago)],
            how="vertical_relaxed",
        )
        lake.write_partitions(f"features/{view.name}", rows.with_columns(day), by="day", written_at=START)
    side = OnlineSide.open(repo)
    for view in side.repo.views:
        materialize(side.source(view), side.backend, now=NOW)
    return repo


def asked(count: int, seed: int = 1) -> dict[str, list[Any]]:
    """Return entity keys, some of them unknown, and what a request brings."""
    rng = random.Random(seed)
    keys = {key: [rng.choice("ABZ") for _ in range(count)] for key in ("carrier", "origin", "dest", "tailnum")}
    plan = {"distance": [rng.randrange(100, 3_000) for _ in range(count)]}
    request = {
        "event_timestamp": [NOW] * count,
        "scheduled_duration": [90.0] * count,
        "planned_departures": [7] * count,
    }
    return keys | plan | request


def wanted(repo: Path) -> dict[str, list[Any]]:
    """Return what is asked in the types that the on-demand view declares."""
    (view,) = applied_repo(repo).services[SERVICE].on_demand
    types = {item.name: item.declared for item in view.request}
    found = asked(60)
    for name, declared in types.items():
        if declared in ("Float64", "Int64"):
            found[name] = [{"Float64": float, "Int64": int}[declared](value) for value in found[name]]
    return {
        name: values
        for name, values in found.items()
        if name in types or name in ("carrier", "origin", "dest", "tailnum")
    }


def feasts(repo: Path, question: dict[str, list[Any]]) -> dict[str, list[Any]]:
    store = FeatureStore(repo_path=str(repo))
    return dict(store.get_online_features(features=store.get_feature_service(SERVICE), entity_rows=question).to_dict())


def same(ours: dict[str, list[Any]], theirs: dict[str, list[Any]]) -> None:
    """Compare all columns; a float that pandas passed on may be NaN instead of None."""
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert [None if value != value else value for value in values] == ours[name], name


def test_it_answers_as_feast_does_over_the_same_store(repo: Path) -> None:
    question = wanted(repo)
    ours = OnlineReader.open(repo).read(SERVICE, question, now=NOW)
    present = [name for name, values in ours.items() if any(value is not None for value in values)]
    assert len(present) > 30
    theirs = feasts(repo, question)
    same({name: values for name, values in ours.items() if name in theirs}, theirs)
    assert set(ours) - set(theirs) <= set(question)  # Feast leaves request columns out of the answer


def test_it_answers_as_feast_does_over_feasts_own_store(repo: Path) -> None:
    text = (repo / "feature_store.yaml").read_text()
    head, tail = text.split("online_store:")[0], text[text.index("offline_store:") :]
    try:
        (repo / "feature_store.yaml").write_text(f"{head}{SQLITE}\n{tail}")
        apply(repo)
        store = FeatureStore(repo_path=str(repo))
        for view in store.list_feature_views():
            first = NOW - view.ttl if view.ttl else START
            store.materialize(first, NOW, feature_views=[view.name])
        theirs = feasts(repo, wanted(repo))
    finally:
        (repo / "feature_store.yaml").write_text(text)
        apply(repo)
    ours = OnlineReader.open(repo).read(SERVICE, wanted(repo), now=NOW)
    same({name: values for name, values in ours.items() if name in theirs}, theirs)


def test_online_is_the_offline_join_of_now(repo: Path) -> None:
    question = wanted(repo)
    ours = pl.DataFrame(OnlineReader.open(repo).read(SERVICE, question, now=NOW), infer_schema_length=None)
    offline = service_features(repo, SERVICE, pl.DataFrame(question).with_columns(pl.lit(NOW).alias("event_timestamp")))
    for name in set(offline.columns) - {"event_timestamp"}:
        assert ours[name].to_list() == offline[name].to_list(), name
    side = OnlineSide.open(repo)
    assert [parity(side.source(view), side.backend, now=NOW).reason() for view in side.repo.views] == [""] * len(
        side.repo.views
    )


def test_redis_by_one_setting(repo: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on_sqlite = OnlineReader.open(repo).read(SERVICE, wanted(repo), now=NOW)
    monkeypatch.setenv("ML_ASSETS_ONLINE", redis_url)
    side = OnlineSide.open(repo)
    for view in side.repo.views:
        side.backend.drop(view)
        materialize(side.source(view), side.backend, now=NOW)
        assert parity(side.source(view), side.backend, now=NOW).green
    same(OnlineReader.open(repo).read(SERVICE, wanted(repo), now=NOW), on_sqlite)
    theirs = feasts(repo, wanted(repo))
    same({name: values for name, values in on_sqlite.items() if name in theirs}, theirs)


def test_events_and_statuses_tell_why_nothing_is_there(repo: Path) -> None:
    reader = OnlineReader.open(repo)
    answer = reader.answer(SERVICE, wanted(repo) | {}, now=NOW + timedelta(days=3))
    assert set(answer.statuses["origin_weather"]) == {"outside_ttl", "missing"}
    assert set(answer.statuses["aircraft_spec"]) == {"present", "missing"}
    for view, statuses in answer.statuses.items():
        assert [event is None for event in answer.events[view]] == [status == "missing" for status in statuses]
    assert answer.values["temp"] == [None] * 60


CODE = """
import json, sys
from datetime import datetime
from ml_assets.features.online.reader import OnlineReader
question = json.loads(sys.argv[2])
question["event_timestamp"] = [datetime.fromisoformat(text) for text in question["event_timestamp"]]
answer = OnlineReader.open(sys.argv[1]).read(sys.argv[3], question, now=question["event_timestamp"][0])
print(json.dumps([answer["temp"], sorted(sys.modules)]))
"""


def test_a_serving_process_loads_neither_feast_nor_pandas(repo: Path) -> None:
    question = json.dumps(wanted(repo), default=datetime.isoformat)
    command = [sys.executable, "-c", CODE, str(repo), question, SERVICE]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    temp, modules = json.loads(done.stdout)
    assert temp == OnlineReader.open(repo).read(SERVICE, wanted(repo), now=NOW)["temp"]
    assert not {name.partition(".")[0] for name in modules} & {"feast", "pandas", "pyarrow", "redis"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"origin": None}, r"feature view 'origin_weather': no key 'origin'; it has .*Add the column"),
        ({"origin": [1] * 60}, r"key 'origin' has the value 1 \(int\), but is declared String; give str"),
        ({"origin": ["A"]}, r"the keys have different lengths: .*give one value of each for every row"),
        ({"distance": None}, r"on-demand view 'departure_context': no column \['distance'\]"),
        ({"distance": ["far"] * 60}, r"request column 'distance' is declared Float64: .*; give such values"),
    ],
)
def test_what_cannot_be_looked_up_is_named(repo: Path, change: dict[str, Any], message: str) -> None:
    question = {name: values for name, values in (wanted(repo) | change).items() if values is not None}
    with pytest.raises(FeatureError, match=message):
        OnlineReader.open(repo).read(SERVICE, question, now=NOW)


def test_an_unknown_service_and_another_store_are_refused(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"no feature service 'wrong'; there are .*'flight_delay_v2'"):
        OnlineReader.open(repo).read("wrong", {}, now=NOW)
    other = copied(tmp_path)
    text = (other / "feature_store.yaml").read_text()
    head, tail = text.split("online_store:")[0], text[text.index("offline_store:") :]
    (other / "feature_store.yaml").write_text(f"{head}online_store: sqlite\n{tail}")
    apply(other)
    with pytest.raises(
        FeatureError, match=r"online_store\.type is 'sqlite', which lets older values replace newer ones"
    ):
        OnlineReader.open(other)
