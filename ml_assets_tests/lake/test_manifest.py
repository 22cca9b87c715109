"""The hash of a frame's meaning depends on its rows, types and order, and on nothing else; manifests survive JSON."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import DataFile, Manifest, content_hash
from ml_assets_tests.lake.frames import frames

PAIR = pl.DataFrame({"a": [1, 2], "b": ["x", None]})


@settings(max_examples=30)
@given(frame=frames(), cut=st.integers(0, 6), rows=st.integers(1, 4))
def test_the_hash_does_not_see_chunks_or_files(frame: pl.DataFrame, cut: int, rows: int) -> None:
    chunked = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    file = io.BytesIO()
    frame.write_parquet(file, compression="snappy", row_group_size=rows)
    assert content_hash(chunked) == content_hash(pl.read_parquet(file.getvalue())) == content_hash(frame)


@settings(max_examples=60)
@given(frame=frames(min_size=1), other=frames(min_size=1), data=st.data())
def test_the_hash_sees_every_cell(frame: pl.DataFrame, other: pl.DataFrame, data: st.DataObject) -> None:
    name, row = data.draw(st.sampled_from(frame.columns)), data.draw(st.integers(0, frame.height - 1))
    values = pl.concat([frame[name][:row], other[name][:1], frame[name][row + 1 :]])
    changed = frame.with_columns(values)
    assert (content_hash(changed) == content_hash(frame)) is frame.equals(changed)


@pytest.mark.parametrize(
    "changed",
    [
        PAIR.reverse(),
        PAIR.rename({"a": "c"}),
        PAIR.select("b", "a"),
        PAIR.with_columns(pl.col("a").cast(pl.Int32)),
        PAIR.with_columns(pl.col("b").fill_null("")),
        PAIR.with_columns(b=pl.lit(None, pl.String)),
        PAIR.head(1),
        PAIR.clear(),
        PAIR.drop("b"),
    ],
)
def test_the_hash_sees_order_names_types_and_nulls(changed: pl.DataFrame) -> None:
    assert content_hash(changed) != content_hash(PAIR)


def test_text_cannot_slip_into_the_next_row() -> None:
    one, other = pl.DataFrame({"a": ["ab", "c"]}), pl.DataFrame({"a": ["a", "bc"]})
    assert content_hash(one) != content_hash(other)


def test_numbers_wider_than_numpy_have_a_hash_too() -> None:
    wide = pl.Series("a", [2**70, None], dtype=pl.Int128).to_frame()
    assert content_hash(wide) == content_hash(wide.clone()) != content_hash(wide.reverse())


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "table": "raw/flights",
        "partition": "2013-01-31",
        "rows": 2,
        "schema": {"a": "Int64"},
        "version": "0f",
        "files": (DataFile("0f.parquet", 10, "ab"),),
        "written_at": datetime(2013, 2, 1, 12, tzinfo=UTC),
        "code_version": "c0de",
        "inputs": {"landing/x.csv": "12"},
        "verdicts": ({"suite": "s", "success": True},),
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


def test_a_manifest_survives_json() -> None:
    assert Manifest.from_json(manifest().to_json()) == manifest()
    assert Manifest.from_json(manifest(partition=None).to_json().encode()) == manifest(partition=None)


def test_red_are_the_verdicts_that_failed() -> None:
    bad = {"suite": "t", "success": False}
    assert manifest().red == []
    assert manifest(verdicts=({"suite": "s", "success": True}, bad)).red == [bad]


@pytest.mark.parametrize("text", ["{}", '{"files": []}', "[]"])
def test_a_manifest_of_another_version_is_named_as_such(text: str) -> None:
    with pytest.raises(ValueError, match=r"no manifest.*another version: materialize it again"):
        Manifest.from_json(text)
