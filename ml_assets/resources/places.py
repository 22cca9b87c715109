"""Where things live, one resource each. All defaults are embedded; one environment variable moves each to production."""

import os
from typing import Any

import dagster as dg

from ml_assets.resources.clock import Clock

BUCKET = "gs://"
_clients: dict[tuple[str | None, str | None], Any] = {}  # of the whole process: a client keeps its connections


def _client(gcs, url: str):  # noqa: ANN001, ANN202 - GCSResource | None, and a google.cloud.storage.Client | None
    """Return the client of dagster-gcp's resource for a gs:// URL, else None: the store makes its own where it needs one."""
    if gcs is None or not url.startswith(BUCKET):
        return None
    from ml_assets.lake.gcs import widened

    key = gcs.project, os.environ.get("STORAGE_EMULATOR_HOST")
    if key not in _clients:
        _clients[key] = widened(gcs.get_client())
    return _clients[key]


class LakeResource(dg.ConfigurableResource):
    """The lake: a folder, `gs://bucket/prefix`, or another fsspec URL. `gcs`: a `GCSResource`, whose client is used on gs://."""

    url: str
    gcs: dg.ConfigurableResource | None = None

    def open(self):  # noqa: ANN201 - Lake; named in the docstring because importing it here would load Polars
        """Return the `ml_assets.lake.Lake` at `url`."""
        from ml_assets.lake import Lake

        return Lake(self.url, client=_client(self.gcs, self.url))


class LandingResource(dg.ConfigurableResource):
    """The landing zone where files arrive, and the quarantine where bad ones are kept. `gcs` as in the lake's."""

    url: str
    quarantine: str
    lake: str
    gcs: dg.ConfigurableResource | None = None

    def open(self):  # noqa: ANN201 - Landing
        """Return the `ml_assets.collection.collect.Landing` with ledger and lake."""
        from ml_assets.collection.collect import Landing
        from ml_assets.collection.ledger import Ledger
        from ml_assets.lake import Lake, Store

        landing, lake, quarantine = (_client(self.gcs, url) for url in (self.url, self.lake, self.quarantine))
        return Landing(
            Store(self.url, client=landing),
            Lake(self.lake, client=lake),
            Ledger(self.lake, client=lake),
            Store(self.quarantine, client=quarantine),
        )


class FeatureStoreResource(dg.ConfigurableResource):
    """The Feast repository, and the lake that its views are in."""

    repo: str
    lake: str

    def historical(self, service: str, observations, *, views, as_known_at=None):  # noqa: ANN001, ANN201 - pl.DataFrame
        """Return the observations with the service's features as of each `event_timestamp`, from Feast.

        Feast's registry is brought up to date first. `ValueError` when the service is not made of exactly `views`.
        """
        from ml_assets.features.retrieval import historical_features

        self._applied(service, views)
        return historical_features(self.repo, service, observations, as_known_at=as_known_at, lake_url=self.lake)

    def for_scoring(self, service: str, observations, *, views):  # noqa: ANN001, ANN201 - pl.DataFrame
        """Return the same, from all that is known by now; without importing Feast unless something has to be applied."""
        from ml_assets.features.retrieval import service_features

        self._applied(service, views)
        return service_features(self.repo, service, observations, lake_url=self.lake)

    def declared(self):  # noqa: ANN201 - CompiledRepo
        """Return the `ml_assets.features.compiled.CompiledRepo`: views and services as Feast declares them.

        The registry is brought up to date first; Feast is only imported when something has to be applied.
        """
        from ml_assets.features.retrieval import applied_repo, apply

        apply(self.repo)
        return applied_repo(self.repo)

    def online(self):  # noqa: ANN201 - OnlineSide
        """Return the `ml_assets.features.online.place.OnlineSide`: the online store and where its views come from."""
        from ml_assets.features.online.place import OnlineSide
        from ml_assets.features.retrieval import apply

        apply(self.repo)
        return OnlineSide.open(self.repo, lake_url=self.lake)

    def answer(self, service: str, rows, *, clock) -> dict[str, list[Any]]:  # noqa: ANN001 - pl.DataFrame, Callable
        """Answer from the online store for the keys and request columns in `rows`, as of now, and log it, as the feature server does."""
        from pathlib import Path

        from ml_assets.features.server import FeatureServer

        server = FeatureServer(Path(self.repo), lake_url=self.lake, clock=clock)
        values = server.answer_rows(service, rows)
        server.flush()
        return values

    def _applied(self, service: str, views) -> None:  # noqa: ANN001 - Collection[str]
        from ml_assets.features.retrieval import apply, service_views

        apply(self.repo)
        found = sorted(service_views(self.repo, service))
        if found != sorted(views):
            raise ValueError(
                f"feature service {service} is made of {found}, declared are {sorted(views)}; make them agree"
            )


class TrackingResource(dg.ConfigurableResource):
    """Experiments and the model registry: MLflow on a SQL backend."""

    uri: str
    artifacts: str

    def open(self):  # noqa: ANN201 - Tracking
        """Return the `ml_assets.development.tracking.Tracking`."""
        from ml_assets.development.tracking import Tracking

        return Tracking(self.uri, self.artifacts)

    def incumbent(self, problem: str):  # noqa: ANN201 - Champion | None
        """Return the `ml_assets.packaging.champion.Champion` in office, verified and loaded, or None."""
        from ml_assets.packaging.champion import incumbent

        return incumbent(self.open(), problem)

    def rival(self, problem: str):  # noqa: ANN201 - Champion | None
        """Return the champion as one to be measured beside a challenger: None also when its bundle cannot be read.

        A report may do without it; whether it is replaced is decided by `ml_assets.packaging.office`, which cannot.
        """
        from ml_assets.packaging.bundle import BundleError

        try:
            return self.incumbent(problem)
        except BundleError:
            return None


class FilesResource(dg.ConfigurableResource):
    """A local folder for models, bundles and HTML reports."""

    root: str

    def folder(self, *parts: str):  # noqa: ANN201 - Path
        """Return `root/part/part…` as an absolute `pathlib.Path`."""
        from pathlib import Path

        return Path(self.root, *parts).resolve()


class ClockResource(dg.ConfigurableResource):
    """The time. With `replay_file` the time written there, so that 2013 can be replayed; without, the system's."""

    replay_file: str = ""

    def open(self, declared: str = "replay") -> Clock:
        """Return the clock of a declaration: that of the replay while there is one, or with `system` always the system's."""
        return Clock(self.replay_file if declared == "replay" else "")
