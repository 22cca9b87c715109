"""The columns behind each feature: what is not listed does not matter, what is listed cannot be missed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets import keys
from ml_assets.defs.flights.feature_views import compute
from ml_assets.defs.flights.sources import cleaning
from ml_assets.features.catalog import features_of
from ml_assets.features.lineage import LineageError, source_columns

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
VIEWS = {
    view["name"]: view
    for view in yaml.safe_load(Path(compute.__file__).with_name("defs.yaml").read_text())["attributes"]["views"]
}
# Read only to put rows of one moment in order: another order must not change a value.
ORDER_ONLY = {"dep_delay", "arr_delay"}
# Read to find the rows of departures, arrivals and cancellations, of which a feature has its value from some.
ROWS_ONLY = {"airport_profile": {"origin", "scheduled_departure", "arrived_at", "cancelled"}}


@cache
def source(table: str) -> pl.DataFrame:
    """Three days of June, as the view's source has them."""
    _, _, name = table.partition("/")
    raw = pl.scan_parquet(SAMPLE / f"{name}.parquet").with_columns(pl.col(pl.Int16).cast(pl.Int64))
    if name != "planes":
        raw = raw.filter(pl.col("month") == 6, pl.col("day") <= 3)
    raw = raw.with_columns(landed_at=pl.lit("2013-07-01").str.to_datetime(time_unit="us", time_zone="UTC"))
    if name == "flights":
        raw = cleaning.flights(raw, raw_airports=pl.scan_parquet(SAMPLE / "airports.parquet"))
    return (cleaning.weather(raw) if name == "weather" else raw).collect()


def function(view: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    uses = {keys.sql_name(table): source(table).lazy() for table in VIEWS[view].get("uses", ())}
    return partial(getattr(compute, view), **uses)


@cache
def features(view: str) -> tuple[str, ...]:
    return tuple(features_of(function(view)(source(VIEWS[view]["source"]).lazy()).collect(), VIEWS[view]["entity"]))


@cache
def traced(view: str) -> dict[str, tuple[str, ...]]:
    beside = [*VIEWS[view]["entity"], "event_timestamp"]
    return source_columns(function(view), source(VIEWS[view]["source"]).collect_schema(), features(view), beside=beside)


def computed(view: str, frame: pl.DataFrame, feature: str) -> pl.DataFrame:
    wanted = [*VIEWS[view]["entity"], "event_timestamp", feature]
    return function(view)(frame.lazy()).select(wanted).collect().sort(wanted[:-1])


def spoiled(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The frame with other values in the columns: each row has those of the row before."""
    return frame.with_columns(pl.col(column).shift(1) for column in columns)


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_not_listed_does_not_matter(view: str) -> None:
    frame = source(VIEWS[view]["source"])
    for feature, read in traced(view).items():
        rest = [column for column in frame.columns if column not in read]
        assert len(rest) > 3
        assert_frame_equal(computed(view, spoiled(frame, *rest), feature), computed(view, frame, feature))


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_listed_cannot_be_missed(view: str) -> None:
    frame = source(VIEWS[view]["source"])
    for feature, read in traced(view).items():
        assert read
        before = computed(view, frame, feature)
        for column in read:
            with pytest.raises(pl.exceptions.ColumnNotFoundError, match=column):
                computed(view, frame.drop(column), feature)
            if column not in ORDER_ONLY | ROWS_ONLY.get(view, set()):
                assert not computed(view, spoiled(frame, column), feature).equals(before), (feature, column)


def test_the_example_in_words() -> None:
    assert traced("origin_weather")["temp"] == ("origin", "temp", "observed_at")
    assert traced("aircraft_spec") == {
        "aircraft_seats": ("tailnum", "seats"),
        "aircraft_year_built": ("tailnum", "year"),
    }
    assert set(traced("route_history")["route_arrivals_30d"]) == {"origin", "dest", "arrived_at", "arr_delay"}
    assert "landed_at" not in {column for view in VIEWS for read in traced(view).values() for column in read}


COLUMNS = list("abcdef")
SOME = st.sets(st.sampled_from(COLUMNS), min_size=1)


@given(values=st.lists(SOME, min_size=1, max_size=3), kept=SOME, order=SOME, twice=st.booleans())
def test_values_filters_and_order_are_found_whatever_the_plan(
    values: list[set[str]], kept: set[str], order: set[str], twice: bool
) -> None:
    def view(frame: pl.LazyFrame) -> pl.LazyFrame:
        rows = frame.filter(pl.all_horizontal(pl.col(sorted(kept)) > 0)).sort(sorted(order))
        rows = pl.concat([rows, rows]) if twice else rows
        sums = {f"sum{number}": pl.sum_horizontal(sorted(of)).rank() for number, of in enumerate(values)}
        return rows.with_columns(**sums, shifted=pl.first("f").shift())

    schema = dict.fromkeys(["key", *COLUMNS], pl.Int64())
    wanted = [f"sum{number}" for number in range(len(values))]
    found = source_columns(view, schema, wanted, beside=["key"])
    assert {name: set(read) for name, read in found.items()} == {
        name: {"key"} | of | kept | order for name, of in zip(wanted, values, strict=True)
    }


def test_a_function_that_hides_its_columns_reads_them_all() -> None:
    def view(frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.map_batches(lambda batch: batch, projection_pushdown=False, schema=None)

    schema = {"key": pl.String(), "x": pl.Int64(), "y": pl.Int64()}
    assert source_columns(view, schema, ["x"], beside=["key"]) == {"x": ("key", "x", "y")}


@pytest.mark.parametrize(
    ("view", "told"),
    [
        (lambda frame: frame.select("key"), "'x' cannot be traced to its source, on no rows: .*x"),
        (lambda frame: frame.with_columns(x=frame.collect()["y"].cast(pl.Int64).item(0)), "'x' cannot be traced"),
    ],
    ids=["no such feature", "needs rows"],
)
def test_what_cannot_be_traced_is_told(view: Callable[[pl.LazyFrame], pl.LazyFrame], told: str) -> None:
    schema = {"key": pl.String(), "y": pl.Int64()}
    with pytest.raises(LineageError, match=told):
        source_columns(view, schema, ["x"], beside=["key"])
