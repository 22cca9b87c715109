"""Unchanged inputs do no work, from file to online store, and Dagster says that nothing is stale; what changed is made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.data_version import StaleStatus, extract_data_version_from_entry
from dagster._utils.test.data_versions import get_stale_status_resolver

from ml_assets.collection.assets import raw_asset
from ml_assets.features.assets import FeatureViews, View, feature_asset
from ml_assets.features.online.assets import online_asset
from ml_assets.lake import Lake
from ml_assets.preparation.assets import clean_asset, observations_asset
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FeatureStoreResource, LakeResource, LandingResource
from ml_assets.source import Source
from ml_assets_tests.features.repos import PACKED, feature_store_yaml

DEFINED = """\
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
table = FileSource(
    name="sold", path="lake/features/sold", timestamp_field="event_timestamp", created_timestamp_column="created_timestamp")
sold = FeatureView(
    name="sold", entities=[shop], source=table, schema=[Field(name="shop", dtype=String), Field(name="total", dtype=Float64)])
"""
DAYS = [f"2013-06-0{day}" for day in range(1, 6)]
PERIOD = f"{DAYS[0]}/{DAYS[-1]}"
NOW = datetime(2013, 6, 7, tzinfo=UTC)
TABLES = ("clean/orders", "features/sold", "p/observations")
ONLINE = "feature_store/online/sold"
COMPUTED: list[str] = []

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


def derived(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Clean: the moment in Polars' type; it notes the days whose rows it was given."""
    return _noted("clean/orders", rows, "_partition").with_columns(double=pl.col("amount") * 2)


def sold_so_far(clean_orders: pl.LazyFrame) -> pl.LazyFrame:
    """What a shop sold today and the day before."""
    noted = _noted("features/sold", clean_orders, pl.col("event_timestamp").dt.date().cast(pl.String))
    rolled = noted.sort("event_timestamp").rolling("event_timestamp", period="1d", group_by="shop")
    totals = rolled.agg(total=pl.col("amount").sum(), created_timestamp=pl.col("landed_at").max())
    return totals.select("shop", "event_timestamp", "total", "created_timestamp")


def _noted(table: str, rows: pl.LazyFrame, day: Any) -> pl.LazyFrame:
    def note(frame: pl.DataFrame) -> pl.DataFrame:
        COMPUTED.extend(f"{table}/{name}" for name in frame.select(day).to_series().unique().sort())
        return frame

    return rows.map_batches(note)


SOURCE = Source.resolve_from_dict(
    {
        "name": "orders",
        "pattern": "orders/orders-{day}*.csv",
        "days": PERIOD,
        "key": ["order"],
        "columns": [
            {"name": "order", "type": "String", "nullable": False},
            {"name": "shop", "type": "String"},
            {"name": "amount", "type": "Float64"},
            {"name": "event_timestamp", "type": "Datetime"},
        ],
        "clean": {"derive": f"{__name__}.derived", "plausible": {"amount": [0, 1000]}},
    }
)
VIEWS = FeatureViews(
    days=PERIOD,
    views=[
        View(
            name="sold",
            description="",
            compute=f"{__name__}.sold_so_far",
            source="clean/orders",
            entity=["shop"],
            lookback_days=1,
        )
    ],
)
PROBLEM = MlProblem.resolve_from_dict(
    {
        "name": "p",
        "question": "?",
        "task": {"kind": "classification"},
        "days": PERIOD,
        "observations": {
            "key": ["order"],
            "query": 'SELECT "order", shop, event_timestamp, amount > 5 AS label FROM clean_orders',
        },
    }
)
ASSETS = [
    raw_asset(SOURCE),
    clean_asset(SOURCE, SOURCE.clean),
    feature_asset(VIEWS, VIEWS.views[0]),
    online_asset("sold", days=PERIOD, owners=()),
    observations_asset(PROBLEM),
]


class Shop:
    """Five days of orders, and a Dagster instance that remembers its runs."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        """Deliver all days."""
        self.root, self.instance = root, instance
        self.lake = Lake(str(root / "lake"))
        (root / "feature_store.yaml").write_text(feature_store_yaml(online=PACKED))
        (root / "defined.py").write_text(DEFINED)
        (root / "clock").write_text(NOW.isoformat())
        for day in DAYS:
            self.deliver(day, 4)

    def deliver(self, day: str, count: int, *, again: str = "") -> None:
        """Deliver a day's file, or a corrected one under another name."""
        moments = [datetime.fromisoformat(day) + timedelta(hours=6 * hour) for hour in range(count)]
        lines = [f"{day}-{place},{'ab'[place % 2]},{place * 3},{m.isoformat()}Z" for place, m in enumerate(moments)]
        path = self.root / "landing" / "orders" / f"orders-{day}{again}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["order,shop,amount,event_timestamp", *lines]))

    def run(
        self, first: str = DAYS[0], last: str = DAYS[-1], *, assets: Sequence[Any] = ASSETS, **tags: str
    ) -> dict[str, int]:
        """Materialize the assets; return how many partitions each table left unchanged. `COMPUTED` is what was computed."""
        COMPUTED.clear()
        lake = str(self.root / "lake")
        done = dg.materialize(
            assets,
            instance=self.instance,
            resources={
                "lake": LakeResource(url=lake),
                "landing": LandingResource(
                    url=str(self.root / "landing"), quarantine=str(self.root / "quarantine"), lake=lake
                ),
                "feature_store": FeatureStoreResource(repo=str(self.root), lake=lake),
                "clock": ClockResource(replay_file=str(self.root / "clock")),
            },
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} | tags,
        )
        assert all(check.passed for check in done.get_asset_check_evaluations())
        events = {event.asset_key.to_user_string(): event for event in done.get_asset_materialization_events()}  # type: ignore[union-attr]
        found = {name: event.materialization.metadata.get("partitions unchanged") for name, event in events.items()}
        return {name: value.value for name, value in found.items() if value}  # type: ignore[misc]

    def versions(self) -> dict[str, dict[str, str]]:
        """Return the version of every partition by table."""
        return {table: {day: item.version for day, item in self.lake.live(table).items()} for table in TABLES}

    def statuses(self) -> set[StaleStatus]:
        """Return what Dagster says of all partitions of all assets."""
        resolver = get_stale_status_resolver(self.instance, ASSETS)
        return {resolver.get_status(asset.key, day) for asset in ASSETS for day in DAYS}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(tmp_path, instance)


def test_a_second_run_computes_nothing_and_nothing_is_stale(shop: Shop) -> None:
    assert shop.run() == dict.fromkeys([*TABLES, ONLINE], 0)
    assert {name.rpartition("/")[0] for name in COMPUTED} == {"clean/orders", "features/sold"}
    first = shop.versions()
    assert shop.run() == dict.fromkeys([*TABLES, ONLINE], 5)
    assert (COMPUTED, shop.versions(), shop.statuses()) == ([], first, {StaleStatus.FRESH})


def test_upstream_alone_made_again_from_the_same_leaves_downstream_fresh(shop: Shop) -> None:
    shop.run()
    shop.run(assets=ASSETS[:2], **{"ml_assets/anew": "true"})
    assert len(COMPUTED) == len(DAYS)
    assert shop.statuses() == {StaleStatus.FRESH}
    shop.deliver(DAYS[1], 2, again="-corrected")
    shop.run(assets=ASSETS[:2])
    assert shop.statuses() == {StaleStatus.FRESH, StaleStatus.STALE}


def test_a_corrected_day_is_made_again_with_what_follows_and_nothing_else(shop: Shop) -> None:
    shop.run()
    before = shop.versions()
    shop.deliver(DAYS[1], 2, again="-corrected")
    assert shop.run() == {"clean/orders": 4, "features/sold": 3, ONLINE: 3, "p/observations": 4}
    assert COMPUTED[0] == f"clean/orders/{DAYS[1]}"
    assert {name for name in COMPUTED if name.startswith("features")} == {f"features/sold/{day}" for day in DAYS[:3]}
    changed = {
        table: [day for day in DAYS if found[day] != before[table][day]] for table, found in shop.versions().items()
    }
    assert changed == {table: DAYS[1:3] if table == "features/sold" else [DAYS[1]] for table in TABLES}
    memoized = shop.versions()
    assert shop.run(**{"ml_assets/anew": "true"}) == dict.fromkeys(TABLES, 0) | {ONLINE: 5}
    assert shop.versions() == memoized  # as if all of it had been made


def test_each_table_tells_dagster_its_versions(shop: Shop) -> None:
    shop.run(DAYS[0], DAYS[0])
    told = {}
    for asset in ASSETS:
        record = shop.instance.get_latest_data_version_record(asset.key)
        version = record and extract_data_version_from_entry(record.event_log_entry)
        told[asset.key.to_user_string()] = version and version.value
    versions = {table: found[DAYS[0]][:20] for table, found in shop.versions().items()}
    raw = shop.lake.live("raw/orders")[DAYS[0]].version[:20]
    assert told == versions | {"raw/orders": raw, ONLINE: versions["features/sold"]}


def test_stored_verdicts_are_told_of_all_days(shop: Shop) -> None:
    shop.run()
    shop.deliver(DAYS[4], 2, again="-corrected")
    shop.run()
    records = shop.instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(dg.AssetKey(["clean", "orders"]), "expectations")
    )
    assert records
    evaluation = records.event.dagster_event.event_specific_data  # type: ignore[union-attr]
    assert evaluation.metadata["rows"].value == 18  # type: ignore[union-attr]
