"""Feast's answer beside ours, where they differ; `docs/decisions/0007-where-feast-is-wrong.md` says why ours is right.

A test that fails here because Feast's answer became ours is good news: remove it, and the case from the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.features.point_in_time import FeatureError
from ml_assets_tests.features.stores import OURS, TIME, asked, at, feast_store, feature_view, source, stored

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own experimental interfaces and deprecations

ONE = stored([("p", 1, 1, 0.1)])
NANOSECOND = pl.duration(nanoseconds=1)
LATER = ONE.with_columns(pl.col("event_timestamp").dt.cast_time_unit("ns") + NANOSECOND)


@dataclass(frozen=True)
class Case:
    """A view's table, the entity rows, and the values of `x` by the row's number, as each store has them."""

    name: str
    store: str
    table: pl.DataFrame
    rows: Sequence[tuple[Any, float]]
    ours: dict[int, float | None]
    theirs: dict[int, float | None]
    ttl: float = 0
    options: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("rows past the TTL vanish", "dask", ONE, [("p", 10), ("p", 2)], {0: None, 1: 0.1}, {1: 0.1}, ttl=3),
    Case("rows before the first value vanish", "dask", ONE, [("p", 0), ("p", 2)], {0: None, 1: 0.1}, {1: 0.1}),
    Case("repeated rows vanish", "dask", ONE, [("p", 2), ("p", 2)], {0: 0.1, 1: 0.1}, {1: 0.1}),
    Case("a row without key gets values", "dask", stored([(None, 1, 1, 0.7)]), [(None, 2)], {0: None}, {0: 0.7}),
    Case("a value from the future", "duckdb", LATER, [("p", 1), ("p", 2)], {0: None, 1: 0.1}, {0: 0.1, 1: 0.1}),
    Case(
        "of equal times the first one stored",
        "duckdb",
        stored([("p", 1, 1, 0.1), ("p", 1, 1, 0.2), ("p", 1, 1, 0.3)]),
        [("p", 2)],
        {0: 0.3},
        {0: 0.1},
    ),
]


def answer(folder: Path, kind: str, table: pl.DataFrame, rows: pl.DataFrame, ttl: float = 0, **options: Any) -> Any:
    """Return `x` by `id`, in the order of the store's rows."""
    table.write_parquet(folder / "v.parquet")
    store = feast_store(folder, [feature_view(source(folder / "v.parquet"), ttl=ttl)], kind)
    job = store.get_historical_features(entity_df=rows.to_pandas(), features=["v:x"], **options)
    found = pl.from_pandas(job.to_df())
    return dict(found.select("id", pl.col("x").cast(pl.Float64)).iter_rows())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.store}: {case.name}")
def test_the_answers_differ(tmp_path: Path, case: Case) -> None:
    rows = asked(case.rows)
    assert answer(tmp_path, OURS, case.table, rows, case.ttl) == case.ours
    assert answer(tmp_path, case.store, case.table, rows, case.ttl) == case.theirs


def test_the_order_of_rows_is_lost_by_dask(tmp_path: Path) -> None:
    rows = asked([("p", 2), ("z", 2)])
    assert list(answer(tmp_path, OURS, ONE, rows)) == [0, 1]
    assert list(answer(tmp_path, "dask", ONE, rows)) == [1, 0]


@pytest.mark.parametrize("kind", ["dask", "duckdb"])
def test_a_row_without_moment_is_answered_or_dropped(tmp_path: Path, kind: str) -> None:
    rows = asked([("p", 2), ("p", 3)])
    rows = rows.with_columns(event_timestamp=pl.when(pl.col("id") == 0).then("event_timestamp"))
    with pytest.raises(FeatureError, match="1 of 2 rows have no 'event_timestamp'"):
        answer(tmp_path, OURS, ONE, rows)
    assert answer(tmp_path, kind, ONE, rows) == ({0: 0.1} if kind == "dask" else {0: 0.1, 1: None})


def test_a_column_of_the_features_name_is_kept_beside_it_by_dask(tmp_path: Path) -> None:
    rows = asked([("p", 2)]).with_columns(x=5.0)
    with pytest.raises(FeatureError, match="column 'x' exists already; rename the observations' column"):
        answer(tmp_path, OURS, ONE, rows)
    assert answer(tmp_path, "dask", ONE, rows) == {0: 5.0}  # the feature is in a column `x__`


def test_corrections_leak_into_the_past_by_default(tmp_path: Path) -> None:
    corrected, rows = stored([("p", 1, 1, 0.1), ("p", 1, 9, 0.2)]), asked([("p", 2)])
    for kind in (OURS, "duckdb", "dask"):  # it is Feast's documented default, so it is ours through Feast
        assert answer(tmp_path, kind, corrected, rows) == {0: 0.2}
        assert answer(tmp_path, kind, corrected, rows, filter_by_created_timestamp=True) == {0: 0.1}


# -- entity rows that are no pandas frame ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "error"), [("dask", ValueError), ("duckdb", AttributeError)])
def test_sql_polars_and_arrow_are_refused(tmp_path: Path, kind: str, error: type[Exception]) -> None:
    ONE.write_parquet(tmp_path / "v.parquet")
    rows = asked([("p", 2)])

    def values(name: str, entity_df: Any) -> list[float]:
        store = feast_store(tmp_path, [feature_view(source(tmp_path / "v.parquet"))], name)
        return store.get_historical_features(entity_df=entity_df, features=["v:x"]).to_df()["x"].tolist()

    for entity_df in ("SELECT 0 AS id, k, event_timestamp FROM v", rows, rows.to_arrow()):
        assert values(OURS, entity_df) == [0.1]
        with pytest.raises(error):
            values(kind, entity_df)


def test_between_dates_dask_answers_as_of_the_last_and_duckdb_not_at_all(tmp_path: Path) -> None:
    table = stored([("p", 1, 1, 0.1), ("p", 3, 3, 0.3), ("q", 2, 2, 0.2)])
    table.write_parquet(tmp_path / "v.parquet")

    def between(kind: str) -> Any:
        store = feast_store(tmp_path, [feature_view(source(tmp_path / "v.parquet"))], kind)
        job = store.get_historical_features(features=["v:x"], start_date=at(2.5), end_date=at(4))
        found = pl.from_pandas(job.to_df()).with_columns(pl.col("event_timestamp").cast(TIME))
        return found.select("event_timestamp", "k", "x").sort("k").rows()

    assert between(OURS) == [(at(3), "p", 0.3)]
    assert between("dask") == [(at(4), "p", 0.3), (at(4), "q", 0.2)]  # q has nothing between the dates
    with pytest.raises(TypeError, match="unexpected keyword argument 'start_date'"):
        between("duckdb")


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "drop", "message"),
    [
        (OURS, "k", r"observations: no column \['k'\]; it has \['id', 'event_timestamp'\]. Add the column"),
        ("dask", "k", "^'k'$"),
        (OURS, "x", r"feature view 'v': no column \['x'\]; it has \['k', 'event_timestamp', 'created', 'n'\]"),
        ("dask", "x", "not in index"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, kind: str, drop: str, message: str) -> None:
    table, rows = ONE.drop(drop, strict=drop == "x") if drop == "x" else ONE, asked([("p", 2)])
    with pytest.raises((FeatureError, KeyError), match=message):
        answer(tmp_path, kind, table, rows.drop(drop) if drop == "k" else rows)
