"""A small source and its places in a temporary folder, and the declared source of the flights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import yaml

from ml_assets.collection.collect import Landing
from ml_assets.collection.contract import SourceContract
from ml_assets.collection.ledger import Ledger
from ml_assets.lake import Lake, Store
from ml_assets.quality.contract import ColumnContract
from ml_assets.replay.world import World
from ml_assets.source import Source

DECLARED = Path(__file__).parents[2] / "ml_assets" / "defs" / "flights" / "sources" / "defs.yaml"
START = datetime(2013, 2, 1, tzinfo=UTC)
NOW = datetime(2013, 3, 1, tzinfo=UTC)

THINGS = SourceContract(
    "things",
    "things/things-{day}*.csv",
    [
        ColumnContract(name="id", dtype="Int64"),
        ColumnContract(name="value", dtype="Float64", nullable=True, sparse=True, minimum=0),
    ],
    key=["id"],
    days="2013-01-01/2013-12-31",
)


def open_places(root: Path) -> Landing:
    """Return fresh objects over the same folders, as another process would have them."""
    lake = str(root / "lake")
    return Landing(Store(str(root / "landing")), Lake(lake), Ledger(lake), Store(str(root / "quarantine")))


def put(places: Landing, name: str, text: str | bytes, *, after: int = 0) -> str:
    """Deliver a file that lands `after` minutes after `START`."""
    data = text.encode() if isinstance(text, str) else text
    return World(places.landing).put(name, data, at=START + timedelta(minutes=after))


@cache
def declared(name: str) -> Source:
    """Return one source of the example as `defs.yaml` declares it."""
    documents = [item["attributes"] for item in yaml.safe_load_all(DECLARED.read_text())]
    return Source.resolve_from_dict(next(item for item in documents if item["name"] == name))
