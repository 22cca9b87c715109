"""The catalog tells what the registry declares and what the lake holds; the page of a view, what its rows are like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.features.catalog import (
    Lineage,
    about,
    as_text,
    catalog,
    features_of,
    in_words,
    lineage,
    lineage_table,
    page,
)
from ml_assets.features.compiled import CompiledRepo, CompiledService, CompiledView
from ml_assets.features.reading import DeclaredView, Feature
from ml_assets.lake import Lake

TIME = pl.Datetime("us", "UTC")
START = datetime(2013, 6, 1, tzinfo=UTC)


def view(name: str, *features: str, ttl: timedelta | None = None, owner: str = "team:ops") -> CompiledView:
    declared = tuple(Feature(feature, feature, feature, "Float64", "float") for feature in features)
    return CompiledView(
        DeclaredView(name, name, {"k": "k"}, declared, "event_timestamp", "created_timestamp", ttl),
        {"k": "String"},
        description=f"What {name} is.",
        owner=owner,
        descriptions=dict.fromkeys(features, "Minutes."),
    )


def rows(*hours: float) -> pl.DataFrame:
    moments = [START + timedelta(hours=hour) for hour in hours]
    frame = pl.DataFrame(
        {"k": ["a"] * len(hours), "event_timestamp": moments}, schema={"k": pl.String, "event_timestamp": TIME}
    )
    return frame.with_columns(x=pl.int_range(pl.len()).cast(pl.Float64), y=1.0, created_timestamp="event_timestamp")


@pytest.fixture
def repo() -> CompiledRepo:
    services = {
        "churn_v1": CompiledService(("v",), None, uses={"v": {"x": "Float64"}}, tags={"problem": "churn"}),
        "churn_v2": CompiledService(("v",), None, uses={"v": {"x": "Float64"}}, tags={"problem": "churn"}),
        "fraud": CompiledService(("v",), None, uses={"v": {"x": "Float64", "y": "Float64"}}),
    }
    views = {"v": view("v", "x", "y", ttl=timedelta(hours=6)), "unused": view("unused", "z", owner="")}
    return CompiledRepo("small", services, views)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(str(tmp_path))
    found.write("features/v", rows(1, 2), partition="2013-06-01", written_at=START)
    red = {"suite": "range", "success": False}
    found.write("features/v", rows(25), partition="2013-06-02", written_at=START, verdicts=[red])
    return found


def test_an_entry_for_each_declared_view(repo: CompiledRepo, lake: Lake) -> None:
    unused, used = catalog(repo, lake)
    assert (unused.view, unused.rows, unused.newest_event, unused.users) == ("unused", None, None, ())
    assert (used.rows, used.newest_event, used.red) == (3, START + timedelta(hours=2), ("2013-06-02",))
    assert used.to_dict() == {
        "view": "v",
        "description": "What v is.",
        "owner": "team:ops",
        "entity": ["k"],
        "ttl_seconds": 21600.0,
        "features": {"x": "Float64", "y": "Float64"},
        "rows": 3,
        "newest_event": "2013-06-01T02:00:00+00:00",
        "red": ["2013-06-02"],
        "used_by": [
            {"service": "churn_v1", "problem": "churn"},
            {"service": "churn_v2", "problem": "churn"},
            {"service": "fraud", "problem": "fraud"},
        ],
    }


def test_as_a_table(repo: CompiledRepo, lake: Lake) -> None:
    head, unused, used, red = as_text(catalog(repo, lake)).splitlines()
    assert head.split("  ")[0] == "view"
    assert unused.split() == ["unused", "k", "nobody", "for", "ever", "1", "no", "table", "none", "nobody"]
    assert used.split() == ["v", "k", "team:ops", "6", "hours", "2", "3", "2013-06-01", "02:00", "churn,", "fraud"]
    assert red == "RED: v: 2013-06-02"


def test_an_empty_catalog_has_its_head(lake: Lake) -> None:
    assert as_text(catalog(CompiledRepo("p", {}, {}), lake)).startswith("view  entity  owner")


@pytest.mark.parametrize(
    ("ttl", "words"),
    [
        (None, "for ever"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(seconds=90.5), "90.5 seconds"),
    ],
)
def test_a_time_to_live_in_words(ttl: timedelta | None, words: str) -> None:
    assert in_words(ttl) == words


# -- a view's page -----------------------------------------------------------------------------------------------------


def test_about_a_view(repo: CompiledRepo) -> None:
    assert about(repo, "v") == {
        "owner": "team:ops",
        "description": "What v is.",
        "entity": "k (String)",
        "time to live": "6 hours",
        "used by": "feature service 'churn_v1' (problem churn); feature service 'churn_v2' (problem churn); "
        "feature service 'fraud' (problem fraud)",
    }
    assert about(repo, "unused")["used by"] == "nobody"
    assert about(repo, "unheard") == {"declared in Feast": "no view 'unheard'", "used by": "nobody"}


def test_the_page_has_a_row_for_each_feature_and_a_picture(repo: CompiledRepo) -> None:
    frame = rows(1, 2)
    assert features_of(frame, ["k"]) == ["x", "y"]
    found = page(repo, "v", frame, ["x", "y"])
    assert "| x | Float64 | Minutes. | 0.0% | 0 | 0.5 | 0.5 | 1 | 2 |" in found["features"]
    assert found["features"].endswith("Of 2 rows.")
    assert found["distributions"].startswith("![distributions of v](data:image/png;base64,")
    assert page(repo, "v", frame, []) == {"features": "not applicable: the view has no features"}
    assert "| x | not declared |" in page(repo, "unheard", frame, ["x"])["features"]


def test_the_lineage_names_columns_and_users(repo: CompiledRepo) -> None:
    source = rows(1).lazy().rename({"x": "a", "y": "b"})
    found = lineage(lambda frame: frame.with_columns(x=pl.col("a"), y=pl.col("b")), source, ["x", "y"], ["k"])
    assert found.columns == {"x": ("k", "event_timestamp", "a"), "y": ("k", "event_timestamp", "b")}
    table = lineage_table(repo, "v", "clean/t", found)
    assert "| feature | computed from, in clean/t | used by |" in table
    assert "| y | k, event_timestamp, b | feature service 'fraud' (problem fraud) |" in table


def test_a_lineage_that_cannot_be_told_says_why(repo: CompiledRepo) -> None:
    found = lineage(lambda frame: frame, rows(1).lazy(), ["z"], ["k"])
    assert found.columns == {}
    assert lineage_table(repo, "v", "clean/t", found).startswith("not applicable: 'z' cannot be traced")
    assert "| x |" not in lineage_table(repo, "v", "clean/t", Lineage({}))
