"""The offline store against Feast's own DuckDB store: the flight views as plain Parquet files, the same call of Feast's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.joins import ADDED, Join, joined, same_rows
from benchmarks.plain_lifecycle import Script, labelled_rows
from benchmarks.project import NINE_WEEKS, TEN_MONTHS, code_of, kept
from benchmarks.repository import DUCKDB, OURS, one_row, repository
from benchmarks.runner import Arm, Bench, Limit, Measured, Options
from benchmarks.synthetic import ROW, TIME
from benchmarks.training_set import ROOMS, filled
from ml_assets.features.retrieval import ViewSchema

ROWS, SMALL_ROWS = 20_000, 300
SEED = 7
NOTES = """Each run is a process of its own: the same get_historical_features(...).to_arrow() with the same pandas frame of
entity rows, on two Feast repositories that differ only in offline_store.type. Each view is one Parquet file. A call on
one row comes first, so that no import is in the time, and the time is that of the second call on all rows, when files and
memory are warm for both; first_seconds is the first. Memory (added_mb) is the process's peak of resident memory during
the first call above what was resident when it began; peak_mb is all of it, with interpreter and imports.
Every value is compared, by row; ours must also have kept the entity rows' order."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Copy the flight views out of a filled lake (kept for the next call) and yield the bench."""
    script = filled(options.folder, NINE_WEEKS if options.small else TEN_MONTHS)
    rows = SMALL_ROWS if options.small else ROWS
    folder = options.folder / ("feature_store-small" if options.small else "feature_store")
    schemas = service_views(script)
    plain = copied(folder / "plain", script, schemas, rows)
    views = {plain / f"{name}.parquet": schema for name, schema in schemas.items()}
    yield Bench(
        name="feature_store",
        title=f"Joining {rows:,} entity rows with {len(views)} feature views through Feast",
        target=0.01,
        limits=[Limit(ADDED, 0.2)],
        ours=Arm("Polars store", arm(folder / "ours", views, plain, OURS)),
        theirs=Arm("Feast's DuckDB store", arm(folder / "duckdb", views, plain, DUCKDB)),
        compare=same_rows,
        rounds=1 if options.small else 5,
        warm_up=False,
        notes=NOTES,
    )


def service_views(script: Script) -> Mapping[str, ViewSchema]:
    """Return the views of the problem's feature service."""
    from ml_assets.features.retrieval import apply, view_schemas

    apply(script.places.feature_repo)
    return view_schemas(script.places.feature_repo, script.declared.problem["features"]["service"])


def copied(folder: Path, script: Script, schemas: Mapping[str, ViewSchema], rows: int) -> Path:
    """Return a folder with each view's rows in one Parquet file, and a seeded sample of observations in asking.parquet."""

    def copy(into: Path) -> None:
        into.mkdir(parents=True)
        for name in schemas:
            script.places.lake.scan(f"features/{name}").sink_parquet(into / f"{name}.parquet")
        keys = dict.fromkeys(key for schema in schemas.values() for key in schema.keys)
        sample = labelled_rows(script).labelled.select(TIME, *keys).sample(rows, seed=SEED, shuffle=True)
        sample.with_row_index(ROW).cast({ROW: pl.Int64}).write_parquet(into / "asking.parquet")

    return kept(folder, copy, state=f"{rows} {SEED} {script.days[-1]} {code_of(*ROOMS)}")


def arm(
    folder: Path, views: Mapping[Path, ViewSchema], plain: Path, offline: Mapping[str, Any]
) -> Callable[[], Measured]:
    """Return an arm's run, with a repository made for it."""
    repo = repository(folder / "repo", views, offline=offline)
    warm_repo, warm_rows = one_row(folder / "warm", offline=offline)
    join = Join(str(repo), str(plain / "asking.parquet"), (str(warm_repo), str(warm_rows)), again=True)
    return lambda: joined(join, folder / "told.json")
