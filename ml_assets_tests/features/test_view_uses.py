"""A feature view that reads two tables depends on both, is given both, and tells which columns of each it is made of."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from ml_assets.features.assets import FeatureViews, View, _compute, _lineages, feature_asset

HERE = "ml_assets_tests.features.test_view_uses"


def wind_at_departure(clean_a: pl.LazyFrame, *, clean_b: pl.LazyFrame) -> pl.LazyFrame:
    """One row per row of `clean/a`, with what `clean/b` says of its place."""
    return clean_a.join(clean_b, on="place", how="left", maintain_order="left").select("key", "x", "wind")


@pytest.fixture
def view() -> View:
    return View(
        name="v",
        description="",
        compute=f"{HERE}.wind_at_departure",
        source="clean/a",
        uses=["clean/b"],
        entity=["key"],
        lookback_days=3,
    )


@pytest.fixture
def tables() -> dict[str, pl.LazyFrame]:
    return {
        "clean/a": pl.LazyFrame({"key": ["k", "l"], "place": ["p", "q"], "x": [1.0, 2.0], "rest": [0, 0]}),
        "clean/b": pl.LazyFrame({"place": ["q", "p"], "wind": [7.0, 5.0], "rain": [0.0, 1.0]}),
    }


def test_the_function_is_given_the_tables_by_their_names_in_sql(view: View, tables: dict[str, pl.LazyFrame]) -> None:
    frame = _compute(view, tables)(tables["clean/a"]).collect()
    assert frame.rows() == [("k", 1.0, 5.0), ("l", 2.0, 7.0)]


def test_a_view_of_one_table_is_its_function(view: View) -> None:
    assert _compute(view.model_copy(update={"uses": ()}), {}) is wind_at_departure


def test_the_asset_depends_on_each_table_with_the_lookback(view: View) -> None:
    asset = feature_asset(FeatureViews(days="2013-01-01/2013-12-31", views=[view]), view)
    (spec,) = asset.specs
    mappings = {dep.asset_key.to_user_string(): dep.partition_mapping for dep in spec.deps}
    assert mappings == dict.fromkeys(["clean/a", "clean/b"], dg.TimeWindowPartitionMapping(start_offset=-3))


def test_columns_of_each_table_are_told(view: View, tables: dict[str, pl.LazyFrame]) -> None:
    schemas = {
        name: table.with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC")))
        for name, table in tables.items()
    }
    timed = view.model_copy(update={"compute": f"{HERE}.with_moment"})
    found = _lineages(timed, schemas, ["x", "wind"])
    assert found["clean/a"].columns == {
        "x": ("key", "place", "x", "event_timestamp"),
        "wind": ("key", "place", "event_timestamp"),
    }
    assert found["clean/b"].columns["wind"] == ("place", "wind")
    assert "rain" not in {column for read in found["clean/b"].columns.values() for column in read}


def with_moment(clean_a: pl.LazyFrame, *, clean_b: pl.LazyFrame) -> pl.LazyFrame:
    """The same, with the moment of `clean/a`."""
    joined = clean_a.join(clean_b, on="place", how="left", maintain_order="left")
    return joined.select("key", "event_timestamp", "x", "wind")
