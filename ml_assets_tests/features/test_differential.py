"""Random small tables and questions, answered by this store and by Feast's DuckDB store: equal to the last value.

Left out are the cases in which Feast's answer is not defined, or wrong: `test_where_feast_is_wrong` has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.types import Float64, Int64, String
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets_tests.features.stores import KEY, OURS, TIME, at, feast_store, feature_view, source

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own experimental interfaces and deprecations

OTHER = Entity(name="other", join_keys=["m"], value_type=ValueType.INT64)
QUICK, DEEP = 40, 300

keys, numbers, hours = st.sampled_from(["p", "q", None]), st.sampled_from([1, 2, None]), st.integers(0, 12)
values = st.none() | st.floats(-1, 1)


@dataclass(frozen=True)
class Stores:
    """Both stores over the same files in one folder; `services` are questions by name."""

    folder: Path
    ours: FeatureStore
    theirs: FeatureStore
    services: Mapping[str, FeatureService]


def views(folder: Path) -> list[FeatureView]:
    """One view for ever, one with a TTL, one with two keys whose file has other names for everything."""
    renamed = {"stored_x": "x", "happened": "event_timestamp", "made": "created", "first": "k", "second": "m"}
    schema = [Field(name="k", dtype=String), Field(name="m", dtype=Int64), Field(name="x", dtype=Float64)]
    pair = FeatureView(
        name="pair",
        entities=[KEY, OTHER],
        ttl=timedelta(hours=4),
        schema=schema,
        source=source(folder / "pair.parquet", field_mapping=renamed),
    )
    return [
        feature_view(source(folder / "always.parquet"), name="always"),
        feature_view(source(folder / "fresh.parquet"), name="fresh", ttl=3),
        pair,
    ]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    pytest.importorskip("duckdb")
    pytest.importorskip("ibis")
    folder = tmp_path_factory.mktemp("differential")
    always, fresh, pair = views(folder)
    write(folder, {"always": [], "fresh": [], "pair": []})
    partner = fresh.with_name("partner").with_join_key_map({"k": "partner"})
    services = {
        "one": FeatureService(name="one", features=[always[["x"]]]),
        "all": FeatureService(name="all", features=[always[["n", "x"]], fresh[["x"]], pair]),
        "aliases": FeatureService(name="aliases", features=[fresh.with_name("own"), partner[["x"]]]),
    }
    objects = [OTHER, always, fresh, pair, *services.values()]
    ours, theirs = (feast_store(folder, objects, kind) for kind in (OURS, "duckdb"))
    return Stores(folder, ours, theirs, services)


def write(folder: Path, tables: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Write the files of the views from rows (key, number, event hour, created hour, x)."""
    schema = {"k": pl.String, "m": pl.Int64, "event_timestamp": TIME, "created": TIME, "x": pl.Float64, "n": pl.Int64}
    for name, rows in tables.items():
        filled = [(k, m, at(event), at(event + later), x, 100 * event + later) for k, m, event, later, x in rows]
        frame = pl.DataFrame(filled, schema=schema, orient="row")
        if name == "pair":
            frame = frame.rename(
                {"x": "stored_x", "event_timestamp": "happened", "created": "made", "k": "first", "m": "second"}
            )
        frame.write_parquet(folder / f"{name}.parquet")


def rows_of(*, twice: bool) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Rows without ties that neither time decides; unless `twice`, one row per key and event."""
    row = st.tuples(keys, numbers, hours, st.integers(0, 6), values)

    def identity(item: tuple[Any, ...]) -> tuple[Any, ...]:
        return (item[0], item[2], item[3]) if twice else (item[0], item[2])

    return st.lists(row, max_size=14, unique_by=identity)


tables = st.fixed_dictionaries(
    {"always": rows_of(twice=True), "fresh": rows_of(twice=True), "pair": rows_of(twice=False)}
)
questions = st.lists(st.tuples(keys, numbers, keys, st.integers(0, 15)), min_size=1, max_size=10)


def observed(rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Return entity rows in any order, with repetitions: `id`, the keys, the moment, half past an hour."""
    schema = {"id": pl.Int64, "k": pl.String, "m": pl.Int64, "partner": pl.String, "event_timestamp": TIME}
    filled = [(number, k, m, partner, at(hour + 0.5)) for number, (k, m, partner, hour) in enumerate(rows)]
    return pl.DataFrame(filled, schema=schema, orient="row")


def differ(
    stores: Stores, tables: Mapping[str, Any], rows: Sequence[Any], service: str, full: bool, created: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return both answers, with the features in the same order, by `id`."""
    write(stores.folder, tables)
    observations, asked = observed(rows), stores.services[service]
    options = {"full_feature_names": full or service != "one", "filter_by_created_timestamp": created}
    frame = observations.to_pandas().astype({"m": "Int64"})
    mine = stores.ours.get_historical_features(entity_df=observations, features=asked, **options).to_polars()
    found = stores.theirs.get_historical_features(entity_df=frame, features=asked, **options).to_arrow()
    names = mine.columns[len(observations.columns) :]
    theirs = pl.from_arrow(found.select(["id", *names]))
    assert isinstance(theirs, pl.DataFrame)
    assert mine["id"].to_list() == list(range(len(rows)))  # ours keep their order; theirs need not
    return mine.select("id", *names), theirs.sort("id")


def check(stores: Stores, *question: Any) -> None:
    mine, theirs = differ(stores, *question)
    assert mine.to_dicts() == theirs.to_dicts()


QUESTION = st.tuples(tables, questions, st.sampled_from(["one", "all", "aliases"]), st.booleans(), st.booleans())


@settings(max_examples=QUICK)
@given(QUESTION)
def test_every_option_has_the_answer_of_feasts_duckdb_store(stores: Stores, question: Any) -> None:
    check(stores, *question)


@pytest.mark.slow
@settings(max_examples=DEEP)
@given(QUESTION)
def test_a_thousand_questions_have_the_answers_of_feasts_duckdb_store(stores: Stores, question: Any) -> None:
    check(stores, *question)
