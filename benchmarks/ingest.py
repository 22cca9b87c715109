"""The recorded year's files into the lake, against `pl.scan_csv` and `sink_parquet` over the same bytes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from benchmarks.plain_lifecycle import Declared, contract_of
from benchmarks.project import NINE_WEEKS, ROOT, YEAR, delivered
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options
from benchmarks.training_set import same_values
from ml_assets import keys
from ml_assets.collection.collect import Landing, collect
from ml_assets.collection.contract import LANDED_AT, SourceContract
from ml_assets.collection.ledger import Ledger
from ml_assets.collection.values import TYPES
from ml_assets.lake import Lake, Store

SOURCES = ("flights", "weather")
NOTES = """The same csv.gz files in a folder, one a day and source; each arm leaves one Parquet file for each of them, as a table of
days needs. Ours is collect: ledger, contract, days, the suite's verdicts, hashes, manifests, and an fsync for each file. The plain
arm is told the columns' types, which is what is fastest (to infer them takes many times as long), and checks nothing.
Both have the same threads. `cpu` is processor time, of all threads; the other numbers are wall time."""


@dataclass(frozen=True)
class Year:
    """Files that were delivered by `now`, their contracts, and the folder where arms leave what they make."""

    landing: Path
    folder: Path
    contracts: Sequence[SourceContract]
    now: datetime

    @property
    def lake(self) -> Lake:
        """Return the lake of our arm."""
        return Lake(str(self.folder / "lake"))

    def plain(self, contract: SourceContract) -> Path:
        """Return the folder with the plain arm's Parquet files of a source."""
        return self.folder / "plain" / contract.name


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Have the days delivered (kept for the next call) and yield the bench."""
    extent = NINE_WEEKS if options.small else YEAR
    sources = [source for source in Declared.read(ROOT).sources if source["name"] in SOURCES]
    contracts = [contract_of(source) for source in sources]
    year = Year(delivered(options.folder, extent), options.folder / "ingest", contracts, extent.now)
    yield Bench(
        name="ingest",
        title=f"The files of {len(extent.days)} days into Parquet",
        target=2.0,
        ours=Arm("collect", anew(year.folder / "lake", lambda: collected(year))),
        theirs=Arm("scan_csv + sink_parquet", anew(year.folder / "plain", lambda: sunk(year))),
        compare=same_tables,
        rounds=3 if options.small else 7,
        notes=NOTES,
    )


def anew(folder: Path, work: Callable[[], Sequence[pl.LazyFrame]]) -> Callable[[], Measured]:
    """Return `work` as an arm's run that begins without its folder; it returns its tables, which are read untimed."""

    def run() -> Measured:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        started, cpu = time.perf_counter(), time.process_time()
        tables = work()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        return Measured([table.collect() for table in tables], seconds, {"cpu": cpu})

    return run


def collected(year: Year) -> list[pl.LazyFrame]:
    """Collect every file; return the raw tables without what only we add."""
    lake = year.lake
    places = Landing(Store(str(year.landing)), lake, Ledger(lake.url), Store(str(year.folder / "lake" / "quarantine")))
    for contract in year.contracts:
        collect(contract, places, now=year.now)
    return [lake.scan(keys.raw(contract.name)).drop(LANDED_AT) for contract in year.contracts]


def sunk(year: Year) -> list[pl.LazyFrame]:
    """Let Polars read and write file by file; return the tables."""
    for contract in year.contracts:
        target = year.plain(contract)
        target.mkdir(parents=True)
        schema = {column.name: TYPES[column.dtype] for column in contract.columns}
        for file in sorted((year.landing / contract.name).iterdir()):
            lazy = pl.scan_csv(file, schema=schema, null_values=list(contract.null_values))
            lazy.sink_parquet(target / f"{file.name.removesuffix('.csv.gz')}.parquet")
    return [pl.scan_parquet(year.plain(contract) / "*.parquet") for contract in year.contracts]


def same_tables(ours: Sequence[pl.DataFrame], theirs: Sequence[pl.DataFrame]) -> Comparison:
    """Compare every value of each source, in the order of days and rows."""
    found = [same_values(*both) for both in zip(ours, theirs, strict=True)]
    return Comparison(all(one.equal for one in found), "; ".join(one.reason for one in found))
