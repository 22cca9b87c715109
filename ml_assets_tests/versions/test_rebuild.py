"""A champion is made again from what it was made from, whatever came in since; and refused when that is gone."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.lake import AlteredFileError, MissingPartitionError
from ml_assets.resources.clock import Clock
from ml_assets.versions import assets
from ml_assets.versions.assets import (
    moment_of,
    needed_by_models,
    preprocess,
    rebuild,
    rebuilds_check,
    tag_champions,
    train,
)
from ml_assets.versions.garbage import Need, find, remove
from ml_assets.versions.rebuild import RebuildError, Rebuilt
from ml_assets_tests.versions.small import DAYS, START, World, source, trained, visits

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a world with a champion."""
    return trained(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def since(first: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the lake after late and corrected days came in."""
    copy = tmp_path_factory.mktemp("since") / "lake"
    shutil.copytree(first.lake.url, copy)
    world = World(first.folder, copy)
    world.deliver(3, visits(3).with_columns(minutes=pl.col("minutes") + 100, label=1 - pl.col("label")))
    world.deliver(DAYS, visits(DAYS))
    world.observe(DAYS)
    return copy


@pytest.fixture
def world(first: World, since: Path, tmp_path: Path) -> World:
    """Return that world with a lake of the test's own, which may be broken."""
    shutil.copytree(since, tmp_path / "lake")
    return World(first.folder, tmp_path / "lake")


def superseded(world: World) -> Path:
    """Return the file of the day's observations before it was corrected."""
    folder = Path(world.lake.url) / "returns" / "observations" / keys.day(START + timedelta(days=3))
    current = world.lake.manifest("returns/observations", folder.name)
    assert current is not None
    (old,) = [path for path in folder.glob("*.parquet") if path.name != current.files[0].name]
    return old


def test_after_corrections_the_model_is_the_same(world: World) -> None:
    found = rebuild(world.problem, **world.asked)
    assert found.passed and found.same_files and found.difference == 0 and found.code == ""
    assert found.data_hash == found.registered_hash and found.rows > 50
    assert "is the same" in found.text()


def test_a_registered_model_names_what_it_was_made_from(world: World) -> None:
    registry = world.resources["tracking"].open()
    ref = registry.champion("returns")
    assert ref is not None and registry.version("returns", "1") == ref and registry.versions() == [ref]
    wanted = {"data_hash", "dvc_md5", "git_commit", "declaration", "as_known_at", "inputs", "code_version"}
    assert wanted <= set(ref.tags) and ref.tags["declaration"] == world.problem.declared[1]
    assert registry.text(ref.run_id, "declaration.yaml") == world.problem.declared[0]
    assert wanted <= set(registry.run(ref.run_id).data.tags)


def test_today_its_inputs_are_others(world: World) -> None:
    ref = world.resources["tracking"].open().champion("returns")
    assert ref is not None
    (pinned,) = json.loads(ref.tags["inputs"]).values()
    assert world.lake.version("returns/observations") != pinned


def test_after_a_removal_of_what_nobody_needs_the_model_is_the_same(world: World) -> None:
    later = Clock().now() + timedelta(days=30)
    parts = {name: world.resources[name] for name in ("lake", "models", "tracking")}
    need = needed_by_models([world.problem], [], **parts)
    garbage = find(world.lake, need, now=later)
    assert {item.name.split("/")[0] for item in garbage.objects} == {"clean", "raw"}  # their corrected day
    remove(world.lake, garbage)
    assert rebuild(world.problem, **world.asked).passed
    remove(world.lake, find(world.lake, Need({}, {}), now=later))
    with pytest.raises(MissingPartitionError):
        rebuild(world.problem, **world.asked)


def test_the_pipeline_gives_the_hashes_of_the_assets(first: World, tmp_path: Path) -> None:
    world = first
    parts = {name: world.resources[name] for name in ("lake", "clock")}
    moment = moment_of(world.problem, **parts)
    store = world.resources["feature_store"]
    made = preprocess(
        world.problem, [source()], [], lake=parts["lake"], feature_store=store, now=moment, place=tmp_path / "repro"
    )
    told = train(world.problem, models=world.resources["models"], place=tmp_path / "repro")
    ref = world.resources["tracking"].open().champion("returns")
    assert ref is not None
    assert (made, told["bundle_digest"]) == (ref.tags["data_hash"], ref.tags["bundle_digest"])
    assert json.loads((tmp_path / "repro" / "metrics.json").read_text()) == told
    assert tag_champions(
        [world.problem], {"data/lake/raw": "abc.dir"}, lake=parts["lake"], tracking=world.resources["tracking"]
    ) == ["returns"]
    tagged = world.resources["tracking"].open().champion("returns")
    assert tagged is not None and tagged.tags["dvc.data.lake.raw"] == "abc.dir"


def test_a_lost_superseded_file_is_told(world: World) -> None:
    superseded(world).unlink()
    with pytest.raises(MissingPartitionError, match="has no version"):
        rebuild(world.problem, **world.asked)


def test_an_altered_superseded_file_is_refused(world: World) -> None:
    old = superseded(world)
    data = bytearray(old.read_bytes())
    data[len(data) // 2] ^= 1
    old.write_bytes(bytes(data))
    with pytest.raises(AlteredFileError, match="SHA-256"):
        rebuild(world.problem, **world.asked)


def test_other_code_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "versions_of_code", lambda: {"code_version": "other", "tables_version": "other"})
    found = rebuild(world.problem, **world.asked)
    assert found.passed and "other code: of commit" in found.code


def test_what_is_not_registered_cannot_be_made_again(world: World) -> None:
    with pytest.raises(RebuildError, match="returns:7 is not registered"):
        rebuild(world.problem, version="7", **world.asked)


def test_the_check_passes_where_it_is_asked_for_by_itself(world: World) -> None:
    check = rebuilds_check(world.problem)
    champion = dg.AssetSpec(["returns", "champion"])
    defs = dg.Definitions([champion], asset_checks=[check], resources=world.resources)
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection=set(check.check_keys)
    )
    (said,) = job.execute_in_process().get_asset_check_evaluations()
    assert said.passed and "is the same" in (said.description or "")


def test_the_check_says_nothing_in_a_run_that_makes_the_champion(world: World) -> None:
    @dg.asset(key=["returns", "champion"])
    def champion() -> None:
        """Be promoted."""

    made = dg.materialize([champion, rebuilds_check(world.problem)], resources=world.resources)
    assert made.success and made.get_asset_check_evaluations() == []


def test_another_training_set_is_no_pass() -> None:
    found = Rebuilt("returns", "1", registered_hash="a" * 64, data_hash="b" * 64)
    assert not found.passed and "bbbb" in found.text()
    assert not Rebuilt("returns", "1", "a", "a", rows=3, difference=0.1).passed
