"""Joins in shards: the same frame as at once, whatever the limit; and the limit holds."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.features import point_in_time, sharding
from ml_assets.features.point_in_time import ViewJoin, point_in_time_join
from ml_assets.features.sharding import PEAK, SMALLEST, frame_bytes, join_in_shards, rounds, usable_memory
from ml_assets_tests.features.stores import TIME, at

STORED = {"a": pl.String, "b": pl.Int64, "t": TIME, "created": TIME, "x": pl.Float64, "text": pl.String}
keys = st.tuples(st.sampled_from(["p", "q", "r", "s", None]), st.sampled_from([1, 2, 3, None]))
moments = st.integers(0, 9)
stored_rows = st.lists(st.tuples(keys, moments, moments, st.none() | st.floats(0, 1)), max_size=40)
asked_rows = st.lists(st.tuples(keys, moments), max_size=15)


def stored(rows: list[Any]) -> pl.DataFrame:
    """Rows with many ties, so that the order in which they are stored decides."""
    filled = [(a, b, at(t), at(t + later), x, f"{x}") for (a, b), t, later, x in rows]
    return pl.DataFrame(filled, schema=STORED, orient="row")


def asked(rows: list[Any]) -> pl.DataFrame:
    filled = [(number, a, b, at(t)) for number, ((a, b), t) in enumerate(rows)]
    return pl.DataFrame(
        filled, schema={"id": pl.Int64, "a": pl.String, "b": pl.Int64, "event_timestamp": TIME}, orient="row"
    )


def view(frame: pl.DataFrame, by: str, prefix: str = "", ttl: int | None = None) -> ViewJoin:
    return ViewJoin(
        name=f"v{prefix}",
        frame=frame.lazy(),
        keys={key: key for key in by},
        features={"x": f"{prefix}x", "text": f"{prefix}text"},
        event_timestamp="t",
        created_timestamp="created",
        ttl=None if ttl is None else timedelta(hours=ttl),
    )


@pytest.fixture
def many_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every view that has rows and keys is split into seven shards."""
    monkeypatch.setattr(point_in_time, "rounds", lambda sizes, free: [([number], 7) for number in range(len(sizes))])


@settings(max_examples=25)
@given(asked_rows, stored_rows, st.none() | st.integers(1, 5), st.booleans(), st.none() | moments)
def test_shards_change_nothing(
    asked_for: list[Any], rows: list[Any], ttl: int | None, created: bool, known: int | None
) -> None:
    observations, table = asked(asked_for), stored(rows)
    views = [view(table, "a"), view(table, "ab", "ab_", ttl), view(table, "", "all_"), view(table, "b", "b_", ttl)]
    options: dict[str, Any] = {"known_at_event_time": created, "as_known_at": None if known is None else at(known)}
    whole = point_in_time_join(observations, views, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_in_time, "rounds", lambda sizes, free: [([number], 7) for number in range(len(sizes))])
        split = point_in_time_join(observations, views, memory_limit=1, **options)
    assert_frame_equal(split, whole)
    assert_frame_equal(point_in_time_join(observations, views, memory_limit=2**40, **options), whole)


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["p", "q", "r"])])
@pytest.mark.usefixtures("many_shards")
def test_categories_find_their_shard(dtype: Any) -> None:
    table = stored([((key, 1), 1, 1, number / 4) for number, key in enumerate("rqp")])
    observations = asked([((key, 1), 2) for key in "pqr"])
    for left, right in [(dtype, dtype), (dtype, pl.String), (pl.String, dtype)]:
        ours, theirs = observations.cast({"a": left}), table.cast({"a": right})
        assert point_in_time_join(ours, [view(theirs, "a")], memory_limit=1)["x"].to_list() == [0.5, 0.25, 0.0]


@pytest.mark.usefixtures("many_shards")
def test_keys_of_other_widths_find_their_shard() -> None:
    table = stored([(("p", number), 1, 1, number / 4) for number in (1, 2, 3)])
    observations = asked([(("p", number), 2) for number in (3, 1, 2)]).cast({"b": pl.Int16})
    assert point_in_time_join(observations, [view(table, "b")], memory_limit=1)["x"].to_list() == [0.75, 0.25, 0.5]


@pytest.mark.usefixtures("many_shards")
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table, observations = stored([(("p", 1), 1, 1, 0.5)]), asked([(("p", 1), 2)])
    point_in_time_join(observations, [view(table, "a")], memory_limit=1)
    assert not list(tmp_path.iterdir())


def test_every_shard_is_joined_by_itself() -> None:
    rows = pl.DataFrame({"k": list(range(100)), "x": list(range(100))})
    sizes = []

    def join(asked: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        sizes.append(rows.height)
        return asked.join(rows, on="k", how="left", maintain_order="left").select("x")

    found = join_in_shards(rows.select("k").reverse(), rows.lazy(), ["k"], join, shards=4)
    assert found["x"].to_list() == list(range(99, -1, -1))
    assert len(sizes) == 4
    assert sum(sizes) == 100
    assert max(sizes) < 50


# -- planning ----------------------------------------------------------------------------------------------------------


def test_neighbours_that_fit_are_joined_together() -> None:
    free = 10 * SMALLEST
    part = free // PEAK // 4
    assert rounds([part, part, part], free) == [([0, 1, 2], 1)]
    assert rounds([part, 2 * part, 2 * part], free) == [([0, 1], 1), ([2], 1)]


def test_what_does_not_fit_alone_is_split() -> None:
    free = 10 * SMALLEST
    part = free // PEAK
    assert rounds([part // 4, 3 * part, part // 4], free) == [([0], 1), ([1], 3), ([2], 1)]
    assert rounds([10**15], free) == [([0], sharding.MOST_SHARDS)]
    assert rounds([0], 0) == [([0], 1)]
    assert rounds([], free) == []


def test_sizes_are_estimated_from_types() -> None:
    assert frame_bytes({"a": pl.Int64(), "b": pl.Float64(), "t": TIME}, 1000) == pytest.approx(24_000, rel=0.05)
    assert frame_bytes({"a": pl.String()}, 1000) > 16_000


def test_the_default_limit_is_what_the_container_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.current").write_text("400000000\n")
    held = sharding._held()
    before = usable_memory()
    monkeypatch.setattr(sharding, "CONTAINER", tmp_path)
    assert usable_memory() - held == pytest.approx(0.7 * 600_000_000, abs=50_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory() == pytest.approx(before, rel=0.2)


# -- the limit holds ---------------------------------------------------------------------------------------------------

MEASURED = """
import json, sys
import polars as pl
from ml_assets.features.point_in_time import ViewJoin, point_in_time_join

folder, limit = sys.argv[1], int(sys.argv[2]) * 2**20
features = {f"x{number}": f"x{number}" for number in range(4)}
view = ViewJoin("v", pl.scan_parquet(f"{folder}/v/*.parquet"), {"k": "k"}, features, created_timestamp="created")
found = point_in_time_join(pl.read_parquet(f"{folder}/asked.parquet"), [view], memory_limit=limit or None)
# not ru_maxrss, which begins with what the process that started this one held
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) // 1024
print(json.dumps({"peak": peak, "hash": int(found.hash_rows().sum()), "rows": found.height}))
"""


def made(folder: Path, *, entities: int, days: int, asked_rows: int) -> None:
    """Write a row per entity and day, a file per day, and questions at any moment."""
    day = 86_400_000_000
    first = int(datetime.timestamp(at(0)) * 1_000_000)
    one = pl.select(k=pl.int_range(entities).shuffle(seed=0))
    for number in range(days):
        rows = one.with_columns(
            event_timestamp=(pl.col("k").hash(number) % day).cast(pl.Int64) + first + number * day,
            **{f"x{place}": (pl.col("k").hash(number + 1000 * place) % 1000) / 1000 for place in range(4)},
        ).sort("event_timestamp")
        timed = rows.with_columns(pl.col("event_timestamp").cast(TIME), created=pl.col("event_timestamp").cast(TIME))
        timed.write_parquet(folder / "v" / f"{number:04d}.parquet", mkdir=True)
    row = pl.int_range(asked_rows)
    pl.select(
        k=(row.hash(1) % entities).cast(pl.Int64),
        event_timestamp=((row.hash(2) % (days * day)).cast(pl.Int64) + first).cast(TIME),
    ).write_parquet(folder / "asked.parquet")


def measured(folder: Path, limit_mb: int) -> dict[str, int]:
    """Join in a fresh process and return its peak in megabytes, a hash of the answer, and the number of rows."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder), str(limit_mb)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(run.stdout))


def test_the_limit_holds_and_the_answer_is_the_same(tmp_path: Path) -> None:
    made(tmp_path, entities=40_000, days=100, asked_rows=300_000)
    free, limited = measured(tmp_path, 0), measured(tmp_path, 350)
    assert limited["hash"] == free["hash"]
    assert limited["rows"] == 300_000
    assert limited["peak"] <= 350 < free["peak"]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with thirty million rows."""
    folder = tmp_path_factory.mktemp("large")
    made(folder, entities=300_000, days=100, asked_rows=3_000_000)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("limit_mb", [4096, 1500])
def test_thirty_million_rows_for_three_million_entities_within_the_limit(large: Path, limit_mb: int) -> None:
    found = measured(large, limit_mb)
    assert found["rows"] == 3_000_000
    assert found["peak"] <= limit_mb
