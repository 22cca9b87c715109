"""Joins that are larger than memory: how large they are, what fits at once, and how the rest is split by its keys.

A view is written once, through Polars' streaming engine, into one Parquet file per shard in the temporary folder (`TMPDIR`
moves it), and joined shard by shard. Reading the source again for each shard costs more from the fourth shard on, and
over a network at once. A key lies in one shard whole, so every shard's join is the plain one.
"""

from __future__ import annotations

import glob
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import xor
from pathlib import Path

import polars as pl

SHARD, POSITION = "__shard", "__position"
# What a join holds at its peak over the bytes of its rows: rows read, sorted, and grouped by key. Measured: 3.0 to 3.8.
PEAK = 4
# Fewer bytes than this per shard make so many files that they take more memory than the rows.
SMALLEST = 32 * 2**20
# More bytes than this per shard take longer, not less long: 30 million rows took 7 s in 7 shards and 15 s in 2.
LARGEST = 2**30
MOST_SHARDS = 256
CONTAINER = Path("/sys/fs/cgroup")  # where the kernel says what the container may hold
# A guess, on the safe side: short text lies in its 16 bytes, and Parquet does not tell how long the rest is.
TEXT_BYTES, LIST_BYTES = 48, 128


def frame_bytes(schema: Mapping[str, pl.DataType], rows: int) -> int:
    """Return about how many bytes a frame of that schema and height takes in memory."""
    return math.ceil(rows * sum(_width(dtype) for dtype in schema.values()))


def free_bytes(limit: int) -> int:
    """Return how many of `limit` bytes the process does not hold yet, at least what one shard needs."""
    return max(limit - _held(), SMALLEST)


def usable_memory() -> int:
    """Return how many bytes this process may hold before the machine or its container runs short: its limit by default."""
    import psutil

    free = psutil.virtual_memory().available
    most = CONTAINER / "memory.max"
    text = most.read_text().strip() if most.is_file() else "max"
    if text != "max":
        free = min(free, max(0, int(text) - int((CONTAINER / "memory.current").read_text())))
    return int(_held() + 0.7 * free)


def rounds(sizes: Sequence[int], free: int) -> list[tuple[list[int], int]]:
    """Return which tables are joined together, in their order, and in how many shards; `sizes` in bytes.

    Neighbours that fit into `free` bytes together are one round; one that does not fit alone is a round of shards.
    """
    found: list[tuple[list[int], int]] = []
    room = 0
    for number, size in enumerate(sizes):
        need = PEAK * size
        if found and need <= room:
            found[-1][0].append(number)
            room -= need
        else:
            fits = need <= max(free, SMALLEST)
            found.append(([number], 1 if fits else _shards(need, free)))
            room = free - need if fits else -1
    return found


def join_in_shards(
    asked: pl.DataFrame,
    rows: pl.LazyFrame,
    keys: Sequence[str],
    join: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame],
    *,
    shards: int,
) -> pl.DataFrame:
    """Return `join(asked, rows)`, one row per row of `asked`, without ever holding all `rows`.

    `join` matches equal `keys`, of equal types on both sides, and is given the rows of a shard in the order of `rows`.
    """
    placed = asked.with_row_index(POSITION).with_columns(_shard(keys, asked.schema, shards))
    parts = []
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        schema = _spill(rows, keys, shards, folder)
        for shard in range(shards):
            part = placed.filter(pl.col(SHARD) == shard).drop(SHARD)
            found = join(part.drop(POSITION), _spilled(folder, shard, schema))
            parts.append(found.with_columns(part[POSITION]))
    return pl.concat(parts).sort(POSITION).drop(POSITION)


def _shards(need: int, free: int) -> int:
    return min(MOST_SHARDS, math.ceil(need / max(SMALLEST, min(free, LARGEST))))


def _spill(rows: pl.LazyFrame, keys: Sequence[str], shards: int, folder: str) -> pl.Schema:
    schema = rows.collect_schema()
    # Each open file holds a group of rows until it is full.
    group = min(100_000, max(1_000, SMALLEST // (shards * max(1, frame_bytes(schema, 1)))))
    rows.with_columns(_shard(keys, schema, shards)).sink_parquet(
        pl.PartitionBy(folder, key=SHARD, include_key=False),
        compression="lz4",
        row_group_size=group,
        statistics=False,
        maintain_order=True,
        mkdir=True,
        engine="streaming",
    )
    return schema


def _spilled(folder: str, shard: int, schema: pl.Schema) -> pl.DataFrame:
    files = sorted(glob.glob(f"{glob.escape(folder)}/{SHARD}={shard}/*"))
    return pl.read_parquet(files, hive_partitioning=False) if files else pl.DataFrame(schema=schema)


def _shard(keys: Sequence[str], schema: Mapping[str, pl.DataType], shards: int) -> pl.Expr:
    """Return the shard of a row. Categories are hashed as text: their codes may differ between two frames."""
    text = (pl.Categorical, pl.Enum)
    plain = [pl.col(key).cast(pl.String) if schema[key] in text else pl.col(key) for key in keys]
    hashes = [key.hash(seed) for seed, key in enumerate(plain)]
    return (reduce(xor, hashes) % shards).cast(pl.UInt16).alias(SHARD)


def _width(dtype: pl.DataType) -> float:
    if dtype in (pl.String, pl.Binary):
        return TEXT_BYTES
    if dtype.is_nested():
        return LIST_BYTES
    return pl.Series([None] * 64, dtype=dtype).estimated_size() / 64


def _held() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
