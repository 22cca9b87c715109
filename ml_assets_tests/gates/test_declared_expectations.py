"""Every expectation that the example declares can fail: real rows pass it, and three rows changed against it turn it red."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from ml_assets import keys
from ml_assets.defs.flights.feature_views import compute
from ml_assets.defs.flights.sources import cleaning
from ml_assets.features.views import view_suite
from ml_assets.quality import Expectation, evaluate, suite_for
from ml_assets_tests.collection.outside import DECLARED, declared

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
VIEWS = yaml.safe_load(Path(compute.__file__).with_name("defs.yaml").read_text())["attributes"]["views"]


@cache
def raw(table: str) -> pl.DataFrame:
    frame = pl.read_parquet(SAMPLE / f"{table}.parquet").with_columns(pl.col(pl.Int16).cast(pl.Int64))
    if "month" in frame.columns:
        frame = frame.filter(pl.col("month") == 6, pl.col("day") <= 3)
    landed = pl.lit("2013-07-01").str.to_datetime(time_unit="us", time_zone="UTC")
    return frame.with_columns(landed.alias("landed_at"))


@cache
def table(name: str) -> pl.DataFrame:
    """A table of three days of June, such as clean/flights or features/carrier_history."""
    layer, _, what = name.partition("/")
    if layer == "raw":
        return raw(what)
    if name == "clean/flights":
        return cleaning.flights(raw("flights").lazy(), raw_airports=raw("airports").lazy()).collect()
    if name == "clean/weather":
        return cleaning.weather(raw("weather").lazy()).collect()
    view = next(view for view in VIEWS if view["name"] == what)
    used = {keys.sql_name(other): table(other).lazy() for other in view.get("uses", ())}
    computed: pl.LazyFrame = getattr(compute, what)(table(view["source"]).lazy(), **used)
    return computed.collect()


def against(expectation: Expectation) -> dict[str, pl.Expr]:
    """Return what to put into rows so that they break the expectation, and no type."""
    kwargs = expectation.kwargs
    match expectation.type.removeprefix("expect_"):
        case "column_values_to_be_between":
            return {kwargs["column"]: pl.lit(kwargs["max_value"] + 1)}
        case "column_values_to_not_be_null":
            return {kwargs["column"]: pl.lit(None)}
        case "column_values_to_be_unique":
            return {kwargs["column"]: pl.col(kwargs["column"]).first()}
        case "compound_columns_to_be_unique":
            return {column: pl.col(column).first() for column in kwargs["column_list"]}
        case "column_pair_values_a_to_be_greater_than_b":
            return {kwargs["column_A"]: pl.col(kwargs["column_B"])}
    raise AssertionError(f"no counterexample is known for {expectation.type}; add one")


def suites() -> dict[str, tuple[Any, ...]]:
    documents = [item["attributes"]["name"] for item in yaml.safe_load_all(DECLARED.read_text())]
    found = {}
    for source in map(declared, documents):
        if source.clean:
            items = tuple(Expectation.from_dict(item) for item in source.clean.expectations)
            found[f"clean/{source.name}"] = tuple(suite_for(f"clean/{source.name}", (), extra=items))
    for view in VIEWS:
        name = f"features/{view['name']}"
        found[name] = tuple(view_suite(name, view["entity"], view["expectations"]))
    return {name: suite[1:] for name, suite in found.items()}  # the first asks for rows: see test_blocking_checks


CASES = [(name, number) for name, suite in suites().items() for number in range(len(suite))]


def holds(name: str, number: int, frame: pl.DataFrame) -> bool:
    suite = suite_for(name, (), extra=[suites()[name][number]])
    return evaluate(frame, suite)[""].success


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_a_declared_expectation_holds_and_can_fail(name: str, number: int) -> None:
    frame, expectation = table(name), suites()[name][number]
    assert frame.height > 50
    assert holds(name, number, frame), expectation
    share = 1 - expectation.kwargs.get("mostly", 1)
    few = pl.int_range(pl.len()) < max(3, share * frame.height + 1)
    broken = frame.with_columns(
        pl.when(few).then(value).otherwise(pl.col(column)).alias(column)
        for column, value in against(expectation).items()
    )
    assert not holds(name, number, broken), expectation
