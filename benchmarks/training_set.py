"""The training set's join, as the asset asks for it, against a bare Polars `join_asof` over the same Parquet files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.plain_lifecycle import Script, labelled_rows
from benchmarks.project import NINE_WEEKS, TEN_MONTHS, Extent, code_of, delivered, fresh, kept
from benchmarks.runner import Arm, Bench, Comparison, Options, timed
from ml_assets.defs.flights.feature_views.request_time import departure_context

TIME = "event_timestamp"
ROOMS = ("lake", "quality", "collection", "preparation", "features", "defs", "replay")
NOTES = """Both arms get the labelled observations in memory and return them with all features in memory.
Ours is FeatureStoreResource.historical: Feast's registry is checked and opened in each call, the manifests are read and
refuse red partitions, and rows created after as_known_at are left out. Importing Feast and the first opening of the
store are in the untimed first call. The bare arm is given paths, keys and times to live; it scans, sorts and joins,
and calls the function of the request-time features."""


@dataclass(frozen=True)
class View:
    """What the bare join needs of one feature view."""

    files: list[str]
    keys: Sequence[str]
    features: Sequence[str]
    ttl: timedelta | None


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Fill a lake from the recorded days (kept for the next call) and yield the bench."""
    script = filled(options.folder, NINE_WEEKS if options.small else TEN_MONTHS)
    observations = labelled_rows(script).labelled
    views = declared_views(script)
    yield Bench(
        name="training_set",
        title=f"Joining {observations.height:,} observations with {len(views)} feature views",
        target=1.5,
        ours=Arm("feature store", timed(through_feast(script, observations))),
        theirs=Arm("bare join_asof", timed(lambda: bare_with_request(observations, views))),
        compare=same_values,
        rounds=15,
        notes=NOTES,
    )


def filled(folder: Path, extent: Extent) -> Script:
    """Return the script over a project whose raw, clean, feature and observation tables are made."""
    landing = delivered(folder, extent)

    def fill(project: Path) -> None:
        Script.below(fresh(project, extent, landing=landing), extent.days).ingest()
        shutil.rmtree(project / "data" / "landing")

    project = kept(folder / "training_set", fill, state=f"{extent.last} {code_of(*ROOMS)}")
    return Script.below(project, extent.days)


def declared_views(script: Script) -> list[View]:
    """Return the views of the problem's feature service, with the files that the manifests name."""
    from ml_assets.features.retrieval import apply, view_schemas

    apply(script.places.feature_repo)
    schemas = view_schemas(script.places.feature_repo, script.declared.problem["features"]["service"])
    return [
        View(
            files=script.places.lake.files(f"features/{view.name}"),
            keys=list(view.keys),
            features=list(view.features),
            ttl=view.ttl,
        )
        for view in schemas.values()
    ]


def through_feast(script: Script, observations: pl.DataFrame) -> Callable[[], pl.DataFrame]:
    """Return the call that the training set's asset makes."""
    from ml_assets.resources.places import FeatureStoreResource

    places, features = script.places, script.declared.problem["features"]
    store = FeatureStoreResource(repo=str(places.feature_repo), lake=places.lake.url)

    def join() -> Any:
        return store.historical(features["service"], observations, as_known_at=places.now, views=features["views"])

    return join


def bare(observations: pl.DataFrame, views: Sequence[View]) -> pl.DataFrame:
    """Join what was true at each observation's moment, and no older than the view's time to live."""
    joined = observations.sort(TIME, maintain_order=True).lazy()
    for view in views:
        rows = pl.scan_parquet(view.files).select(TIME, *view.keys, *view.features).sort(TIME)
        joined = joined.join_asof(
            rows, on=TIME, by=view.keys, strategy="backward", tolerance=view.ttl, check_sortedness=False
        )
    return joined.collect(engine="in-memory")  # a tenth faster here than the streaming engine


def bare_with_request(observations: pl.DataFrame, views: Sequence[View]) -> pl.DataFrame:
    """Return the bare join with the request-time features, computed by a call of their function."""
    joined = bare(observations, views)
    return joined.hstack(departure_context(joined))


def same_values(ours: pl.DataFrame, theirs: pl.DataFrame) -> Comparison:
    """Compare every column, value by value; the observations are in order of time in both."""
    if ours.height != theirs.height or set(ours.columns) != set(theirs.columns):
        return Comparison(False, f"shapes differ: {ours.shape} and {theirs.shape}")
    unequal = [name for name in ours.columns if not ours[name].equals(theirs[name], check_dtypes=True)]
    if unequal:
        return Comparison(False, f"values differ in {_counted(ours, theirs, unequal)}")
    return Comparison(True, f"{ours.height:,} rows × {ours.width} columns are equal")


def _counted(ours: pl.DataFrame, theirs: pl.DataFrame, columns: Sequence[str]) -> Mapping[str, int]:
    return {name: int(ours[name].ne_missing(theirs[name]).sum()) for name in columns}
