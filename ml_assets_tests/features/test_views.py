"""A computed view against Feast's declaration, names and types, both ways; and how old its newest event is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.features.compiled import CompiledView
from ml_assets.features.reading import DeclaredView, Feature, kind
from ml_assets.features.views import (
    ViewError,
    compute_view,
    declaration_verdict,
    feast_kind,
    freshness,
    newest_event,
)
from ml_assets.lake import Lake
from ml_assets.preparation.writing import PARTITION
from ml_assets.quality import Verdict

TIME = pl.Datetime("us", "UTC")
NOON = datetime(2013, 6, 3, 12, tzinfo=UTC)
TABLE = "features/v"
SCHEMA: dict[str, pl.DataType] = {
    "key": pl.String(),
    "event_timestamp": TIME,
    "x": pl.Float64(),
    "n": pl.Int64(),
    "tags": pl.List(pl.String()),
    "created_timestamp": TIME,
    PARTITION: pl.String(),
}
TYPES = {"x": "Float64", "n": "Int64", "tags": "Array(String)"}


def declared(types: Mapping[str, str] = TYPES, *, created: str | None = "created_timestamp") -> CompiledView:
    features = tuple(Feature(name, name, name, feast, "other") for name, feast in types.items())
    view = DeclaredView("v", "v", {"k": "key"}, features, "event_timestamp", created, None)
    return CompiledView(view, {"k": "String"})


def judged(changes: Mapping[str, pl.DataType | None], found: CompiledView | None = None) -> Verdict:
    """The verdict on a frame without rows: with other types, or (None) without the column."""
    schema = {name: dtype for name, dtype in (SCHEMA | dict(changes)).items() if dtype is not None}
    return declaration_verdict("v", pl.DataFrame(schema=schema), found or declared(), entity=["key"])


def test_what_is_declared_is_what_is_returned() -> None:
    verdict = judged({})
    assert verdict.success
    assert verdict.reason() == "v as declared in Feast: 1 expectations hold on 0 rows"


BROKEN: dict[str, tuple[dict[str, pl.DataType | None], str]] = {
    "a feature is missing": (
        {"x": None},
        "column 'x' is declared Float64, but not returned; return it, or take it out",
    ),
    "a key is missing": ({"key": None}, "column 'key' is declared String, but not returned"),
    "a time is missing": ({"created_timestamp": None}, "column 'created_timestamp' is declared UnixTimestamp, but not"),
    "a column too many": ({"y": pl.Int8()}, "column 'y' (Int8) is returned, but not declared; declare it in Feast, or"),
    "text for a number": (
        {"x": pl.String()},
        "column 'x' is String, but declared Float64; cast it, or correct the decl",
    ),
    "a whole number for a float": ({"x": pl.Int64()}, "column 'x' is Int64, but declared Float64; cast it"),
    "a float for a whole number": ({"n": pl.Float32()}, "column 'n' is Float32, but declared Int64"),
    "a key of another type": ({"key": pl.Int64()}, "column 'key' is Int64, but declared String"),
    "another list": ({"tags": pl.List(pl.Int64())}, "column 'tags' is List(Int64), but declared Array(String)"),
    "no list": ({"tags": pl.String()}, "column 'tags' is String, but declared Array(String)"),
    "nothing but null": ({"x": pl.Null()}, "column 'x' is Null, but declared Float64"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_difference_is_red_and_names_view_column_types_and_fix(name: str) -> None:
    changes, told = BROKEN[name]
    verdict = judged(changes)
    assert not verdict.success
    assert told in verdict.reason()
    assert "feature view 'v': " in verdict.reason()
    assert Verdict.from_dict(verdict.to_dict()).reason() == verdict.reason()  # as the manifest keeps it
    assert told in verdict.markdown()


@pytest.mark.parametrize(
    "changes",
    [{"x": pl.Float32()}, {"n": pl.Int16()}, {"n": pl.UInt32()}, {"key": pl.Categorical()}, {PARTITION: None}],
)
def test_widths_may_differ(changes: dict[str, pl.DataType | None]) -> None:
    assert judged(changes).success


def test_several_differences_are_all_told() -> None:
    verdict = judged({"x": None, "y": pl.Int8(), "n": pl.String()})
    assert len(verdict.failures) == 2
    assert all(f"'{name}'" in verdict.markdown() for name in "xyn")


def test_a_view_that_feast_does_not_know_is_red() -> None:
    verdict = declaration_verdict("v", pl.DataFrame(schema=SCHEMA), None, entity=["key"])
    assert not verdict.success
    assert "feature view 'v' is computed here, but Feast does not know it; declare it" in verdict.reason()


def test_the_entity_must_be_feasts() -> None:
    verdict = declaration_verdict("v", pl.DataFrame(schema=SCHEMA), declared(), entity=["key", "other"])
    assert "its entity here is ['key', 'other'], in Feast ['key']; make `entity` and the join keys" in verdict.reason()


def test_a_type_that_is_not_known_here_is_compared_by_name_only() -> None:
    assert feast_kind("Json") == feast_kind("Array(Json)") == ""
    assert judged({"x": pl.String()}, declared(TYPES | {"x": "Json"})).success


FEAST = {"String": pl.String(), "Int32": pl.Int32(), "Int64": pl.Int64(), "Float32": pl.Float32()}
FEAST |= {"Float64": pl.Float64(), "Bool": pl.Boolean(), "UnixTimestamp": TIME}
COLUMNS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(sorted(FEAST)))


@given(COLUMNS, COLUMNS)
def test_it_is_green_exactly_when_names_and_kinds_agree(types: dict[str, str], found: dict[str, str]) -> None:
    frame = pl.DataFrame(
        schema={"key": pl.String(), "event_timestamp": TIME, **{name: FEAST[feast] for name, feast in found.items()}}
    )
    verdict = declaration_verdict("v", frame, declared(types, created=None), entity=["key"])
    kinds = [{name: kind(FEAST[feast]) for name, feast in of.items()} for of in (types, found)]
    assert verdict.success == (kinds[0] == kinds[1])
    different = {name for name, _ in set(kinds[0].items()) ^ set(kinds[1].items())}
    assert all(f"column '{name}'" in verdict.markdown() for name in different)


def test_a_function_without_moments_is_refused() -> None:
    source = pl.LazyFrame({"key": ["a"], "event_timestamp": [datetime(2013, 1, 1)]})
    with pytest.raises(ViewError, match=r"return it as Datetime\('us', 'UTC'\)"):
        compute_view(lambda frame: frame, source, time_zone="UTC")


# -- freshness ---------------------------------------------------------------------------------------------------------


def events(*hours: float) -> pl.DataFrame:
    """Events that many hours before noon of the third."""
    moments = [NOON - timedelta(hours=hour) for hour in hours]
    return pl.DataFrame({"event_timestamp": moments}, schema={"event_timestamp": TIME})


def lake(root: Path, **days: pl.DataFrame) -> Lake:
    found = Lake(str(root))
    for day, frame in days.items():
        found.write(TABLE, frame, partition=f"2013-06-0{day[-1]}", written_at=NOON)
    return found


@pytest.mark.parametrize(
    ("age", "fresh", "told"),
    [
        (3.0, True, "the newest event is of 2013-06-03 09:00 UTC, 3.0 hours ago; at most 36 hours"),
        (36.0, True, "36.0 hours ago; at most 36 hours"),
        (36.5, False, "36.5 hours ago, more than 36 hours; materialize newer days"),
        (-1.0, False, "2013-06-03 13:00 UTC, which has not come yet; correct the event times or the clock"),
    ],
)
def test_freshness_is_the_age_of_the_newest_event(tmp_path: Path, age: float, fresh: bool, told: str) -> None:
    found = freshness(lake(tmp_path, _1=events(100), _3=events(age, 50)), TABLE, now=NOON, within_hours=36)
    assert found.fresh is fresh
    assert told in found.reason()


def test_a_backfill_of_old_days_makes_nothing_fresher(tmp_path: Path) -> None:
    found = lake(tmp_path, _1=events(60))
    found.write(TABLE, events(90), partition="2013-05-31", written_at=NOON + timedelta(days=1))
    assert newest_event(found, TABLE) == NOON - timedelta(hours=60)


def test_red_and_empty_days_are_not_the_newest(tmp_path: Path) -> None:
    found = lake(tmp_path, _1=events(60), _2=events())
    red = {"suite": "range", "success": False}
    found.write(TABLE, events(1), partition="2013-06-03", written_at=NOON, verdicts=[red])
    assert newest_event(found, TABLE) == NOON - timedelta(hours=60)


def test_nothing_is_not_fresh(tmp_path: Path) -> None:
    found = freshness(Lake(str(tmp_path)), TABLE, now=NOON, within_hours=36)
    assert not found.fresh
    assert found.reason() == "no event has been computed yet; materialize the view"


def test_a_table_without_days_has_a_newest_event_too(tmp_path: Path) -> None:
    found = Lake(str(tmp_path))
    found.write(TABLE, events(7, 5), written_at=NOON)
    assert newest_event(found, TABLE) == NOON - timedelta(hours=5)
