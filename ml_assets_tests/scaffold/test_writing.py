"""Every file or none, and nothing over what is there; and Feast gives the observations the columns of their own rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.features.retrieval import apply, service_features
from ml_assets.lake import Lake
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.writing import DEFS, FEATURE_REPO, LANDING, places, write
from ml_assets_tests.features.repos import feature_store_yaml
from ml_assets_tests.scaffold.world import LANDED, NOW, customers, everything, repository, shops, written

PLANNED: Mapping[str, bytes] = {
    f"{LANDING}/mine/mine.csv": b"a,b\n",
    f"{FEATURE_REPO}/mine.py": b"feast",
    f"{DEFS}/mine/__init__.py": b"",
    f"{DEFS}/mine/features.py": b"features",
    f"{DEFS}/mine/defs.yaml": b"yaml",
}


def test_a_plan_is_written_as_it_is(tmp_path: Path) -> None:
    root = repository(tmp_path)
    paths = write(PLANNED, places(root))
    assert everything(root) == PLANNED
    assert sorted(paths) == sorted(str(root / path) for path in PLANNED)


def test_each_part_may_live_elsewhere(tmp_path: Path) -> None:
    root = repository(tmp_path / "root")
    write(PLANNED, places(root, landing="memory://written", feature_repo=str(tmp_path / "features")))
    assert (tmp_path / "features" / "mine.py").read_bytes() == b"feast"
    assert not (root / "data").exists()


@pytest.mark.parametrize("path", PLANNED)
def test_nothing_is_overwritten(tmp_path: Path, path: str) -> None:
    root = repository(tmp_path)
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"mine already")
    before = everything(root)
    with pytest.raises(ScaffoldError, match="is there already, and is not overwritten"):
        write(PLANNED, places(root))
    assert everything(root) == before


def test_an_earlier_delivery_is_not_touched(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / LANDING / "mine").mkdir(parents=True)
    (root / LANDING / "mine" / "other.csv").write_bytes(b"x")
    with pytest.raises(ScaffoldError, match=r"other\.csv is there already"):
        write(PLANNED, places(root))


@pytest.mark.parametrize("step", range(6))
def test_what_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    root, done = repository(tmp_path), 0
    for name in ("write_bytes", "rename"):
        real = getattr(Path, name)

        def failing(path: Path, *given: object, real: object = real) -> object:
            nonlocal done
            done += 1
            if done > step:
                raise OSError("no space left")
            return real(path, *given)  # type: ignore[operator]

        monkeypatch.setattr(Path, name, failing)
    with pytest.raises(ScaffoldError, match=r"cannot write \(no space left\): nothing was written"):
        write(PLANNED, places(root))
    assert everything(root) == {}
    assert not [path for path in root.rglob("*") if path.name.startswith(".")]


@pytest.mark.slow  # Feast takes seconds to import
def test_feast_gives_each_row_its_own_columns_and_each_entity_its_past(tmp_path: Path) -> None:
    root = repository(tmp_path)
    (root / FEATURE_REPO / "feature_store.yaml").write_text(feature_store_yaml())
    customers().with_columns(vip=pl.col("vip") == "yes").write_parquet(tmp_path / "customers.parquet")
    shops().write_csv(tmp_path / "shops.csv")
    rows = written(root, tmp_path / "customers.parquet", "leavers", target="churned")
    past = written(root, tmp_path / "shops.csv", "takings", target="sales", time="day", entity="shop")
    lake = Lake(str(root / "data" / "lake"))
    for found in (rows, past):
        lake.write(f"features/{found.views.views[0].name}", found.view(), written_at=LANDED)
    repo = root / FEATURE_REPO
    assert apply(repo)
    observed = rows.observations()
    joined = service_features(repo, "leavers_v1", observed, as_known_at=NOW)
    wanted = rows.view().drop("created_timestamp")
    assert_frame_equal(joined.select(wanted.columns), wanted)
    observed = past.observations()
    joined = service_features(repo, "takings_v1", observed, as_known_at=NOW)
    assert joined.height == observed.height
    first = joined.filter(pl.col("event_timestamp") == joined["event_timestamp"].min())
    assert first["last_sales"].is_null().all()
    for shop in "12345":
        series = joined.filter(pl.col("shop") == shop).sort("event_timestamp")
        before = series["label"].fill_null(strategy="forward").shift(1)
        assert series["last_sales"].to_list() == before.to_list()
