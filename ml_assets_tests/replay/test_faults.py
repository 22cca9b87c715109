"""Each fault is what its name says, on real rows, under a name of its own, later than the good file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from ml_assets.lake import Store
from ml_assets.replay.faults import FAULTS, corrected, delivered_twice, negative_distance
from ml_assets.replay.world import World

DAY = date(2013, 1, 5)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(Store(str(tmp_path)))
    made.deliver_days([DAY])
    return made


def read(world: World, name: str) -> pl.DataFrame:
    return pl.read_csv(world.landing.read(name), null_values=["NA"])


GOOD = f"flights/flights-{DAY}.csv.gz"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_a_file_beside_the_good_one(world: World, fault: Callable[[World, date], str]) -> None:
    before = world.landing.read(GOOD)
    name = fault(world, DAY)
    assert world.landing.read(GOOD) == before
    listed = {item.name: item.modified_at for item in world.landing.objects("flights")}
    assert sorted(listed) == sorted([GOOD, name])
    assert listed[name] > listed[GOOD]


def test_twice_is_the_same_bytes(world: World) -> None:
    assert world.landing.read(delivered_twice(world, DAY)) == world.landing.read(GOOD)


def test_a_correction_changes_ten_delays(world: World) -> None:
    old, new = read(world, GOOD), read(world, corrected(world, DAY))
    assert (new["arr_delay"] - old["arr_delay"]).fill_null(0).value_counts(sort=True)["count"].to_list()[1] == 10
    assert new.drop("arr_delay").equals(old.drop("arr_delay"))


def test_three_distances_are_negative(world: World) -> None:
    old, new = read(world, GOOD), read(world, negative_distance(world, DAY))
    assert (new["distance"] < 0).sum() == 3
    assert (new["distance"].abs()).equals(old["distance"])
