"""The recorded year is complete, as its README counts it, and small enough to be committed."""

from __future__ import annotations

import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from ml_assets.replay.sample import SAMPLE, TABLES, read_table

COUNTED = dict(
    re.findall(r"^\| `(\w+)\.parquet` \| ([\d,]+) \|", (SAMPLE / "README.md").read_text(), flags=re.MULTILINE)
)


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_are_those_that_the_readme_counts(table: str) -> None:
    rows = pl.scan_parquet(SAMPLE / f"{table}.parquet").select(pl.len()).collect().item()
    assert rows == int(COUNTED[table].replace(",", ""))


def test_every_table_is_counted_and_small() -> None:
    assert sorted(COUNTED) == sorted(TABLES)
    assert all((SAMPLE / f"{table}.parquet").stat().st_size < 5_000_000 for table in TABLES)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_table_is_read_as_it_was_recorded(tmp_path: Path, zipped: bool) -> None:
    text = "flight,dep_delay,dest,time_hour\n1545,2,IAH,2013-01-01T10:00:00Z\n1714,NA,NA,2013-01-01T11:00:00Z\n"
    if zipped:
        with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as file:
            file.writestr("flights.csv", text)
    else:
        (tmp_path / "flights.csv").write_text(text)
    frame = read_table(tmp_path, "flights")
    assert frame.rows()[0] == (1545, 2, "IAH", datetime(2013, 1, 1, 10, tzinfo=UTC))
    assert frame.row(1)[1:3] == (None, None)
    assert [str(dtype) for dtype in frame.dtypes[:3]] == ["Int16", "Int16", "String"]
