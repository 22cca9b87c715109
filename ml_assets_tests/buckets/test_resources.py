"""Dagster's resources on gs://: one client, of dagster-gcp's own resource, for landing zone, ledger, lake and quarantine."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ml_assets.collection.assets import raw_asset
from ml_assets.lake import Store, gcs
from ml_assets.resources import places
from ml_assets.resources.environment import resources
from ml_assets.source import Source
from ml_assets_tests.buckets.conftest import BUCKET, Bucket
from ml_assets_tests.fakes.gcs_server import GcsServer

PLACES = ("LANDING", "LAKE", "QUARANTINE")
THINGS = Source.resolve_from_dict(
    {
        "name": "things",
        "pattern": "things/things-{day}*.csv",
        "days": "2013-01-01/2013-01-02",
        "key": ["id"],
        "columns": [{"name": "id", "type": "Int64"}, {"name": "value", "type": "Float64", "minimum": 0}],
    }
)


@pytest.fixture
def bound(strict: tuple[Bucket, GcsServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The resources of an environment whose three places are in the bucket."""
    for name in PLACES:
        monkeypatch.setenv(f"ML_ASSETS_{name}", f"{strict[0].url}/{name.lower()}")
    monkeypatch.setenv("ML_ASSETS_REPLAY_CLOCK", "none")
    return resources(tmp_path)


def test_a_raw_asset_is_made_from_files_in_a_bucket(strict: tuple[Bucket, GcsServer], bound: dict[str, object]) -> None:
    landing = strict[0].store("landing")
    landing.write("things/things-2013-01-01.csv", b"id,value\n1,0.5\n2,1.5\n")
    landing.write("things/things-2013-01-02.csv", b"id,value\n1,-1\n")
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [raw_asset(THINGS)],
            resources=bound,
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "2013-01-01",
                "dagster/asset_partition_range_end": "2013-01-02",
            },
            raise_on_error=False,
        )
    checks = {item.check_name: item.passed for item in done.get_asset_check_evaluations()}
    assert checks == {"expectations": True, "files": False}
    assert bound["lake"].open().read("raw/things").height == 2  # type: ignore[attr-defined]
    (reason,) = [name for name in strict[0].store("quarantine").names() if name.endswith(".reason.json")]
    assert "value" in json.loads(strict[0].store("quarantine").read(reason))["reason"]
    assert strict[0].store("lake").names("_ledger") != []


def test_all_places_share_the_clients_connections(bound: dict[str, object]) -> None:
    places, lake = bound["landing"].open(), bound["lake"].open()  # type: ignore[attr-defined]
    stores = (places.landing, places.lake.store, places.quarantine, lake.store)
    assert len({id(store.backend._bucket.client) for store in stores}) == 1
    assert bound["gcs"] is bound["lake"].gcs is bound["landing"].gcs  # type: ignore[attr-defined]


def test_an_asset_of_ones_own_asks_for_the_client(bound: dict[str, object]) -> None:
    from dagster_gcp.gcs.resources import GCSResource

    seen = []

    @dg.asset
    def own(gcs: GCSResource) -> None:
        seen.append([bucket.name for bucket in gcs.get_client().list_buckets()])

    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([own], resources={"gcs": bound["gcs"]}, instance=instance)
    assert seen == [["a-bucket"]]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a service account's key is to lie, in a process that has no client yet."""
    monkeypatch.setattr(places, "_clients", {})
    monkeypatch.setattr(gcs, "_client", gcs._client.__wrapped__)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    return tmp_path / "key.json"


def test_credentials_are_the_applications_default_ones(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = rsa.generate_private_key(65537, 2048)
    pem = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with GcsServer(BUCKET, token="of an hour") as server:
        about = {"type": "service_account", "client_email": "me@example.org", "private_key": pem.decode()}
        key.write_text(json.dumps(about | {"token_uri": f"{server.url}/token"}))
        monkeypatch.setenv("API_ENDPOINT_OVERRIDE", server.url)
        monkeypatch.setenv("ML_ASSETS_LAKE", f"gs://{BUCKET}/lake")
        resources(key.parent)["lake"].open().store.write("a", b"1")
        assert Store(f"gs://{BUCKET}/lake").read("a") == b"1"  # where no resource is: in the feature server
        assert server.asked("token")


def test_without_credentials_it_says_so(key: Path) -> None:
    with pytest.raises(OSError, match=r"gs://a-bucket/a: .*key\.json"):
        Store(f"gs://{BUCKET}").read("a")


def test_folders_need_no_google(tmp_path: Path) -> None:
    assert "gcs" not in resources(tmp_path)
    asked = "import sys; from pathlib import Path; from ml_assets.resources.environment import resources; "
    asked += "resources(Path('/nowhere')); print([name for name in sys.modules if name.startswith(HEAVY)])"
    asked = asked.replace("HEAVY", "('google.cloud.', 'google.auth', 'dagster_gcp')")
    shown = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout.strip() == "[]"
