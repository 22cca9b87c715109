"""What was made from the same is not made again; and the lake is then as if all of it had been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.lake import Lake, RedPartitionError
from ml_assets.preparation.cleaning import Repairs
from ml_assets.preparation.making import make_clean, make_observations
from ml_assets.preparation.recipe import DECLARATION, Recipe, Work
from ml_assets.preparation.writing import PARTITION, Written
from ml_assets.quality import Expectation, Suite
from ml_assets.tasks import task

NOW = datetime(2013, 2, 1, tzinfo=UTC)
DAYS = [f"2013-01-0{day}" for day in range(1, 7)]
POSITIVE = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": 0}}
THERE = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "k"}}
TIME = pl.Datetime("us", "UTC")


@pytest.fixture(params=["folder", "memory URL"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(str(tmp_path) if request.param == "folder" else f"memory://{uuid4().hex}/lake")


def raw(lake: Lake, day: str, *values: int, table: str = "raw/t", **how: Any) -> None:
    """Write the rows of a day; `lake.write` keeps what is the same."""
    moment = datetime.fromisoformat(day).replace(tzinfo=UTC)
    rows = [(f"k{value}", value, moment + timedelta(hours=place)) for place, value in enumerate(values)]
    frame = pl.DataFrame(rows, schema={"k": pl.String, "x": pl.Int64, "event_timestamp": TIME}, orient="row")
    frame = frame.with_columns(landed_at="event_timestamp")
    lake.write(table, frame, partition=day, written_at=NOW, **how)


# -- one recipe --------------------------------------------------------------------------------------------------------


def sums(days: Mapping[str, int | None] | None = None, **told: Any) -> Recipe:
    return Recipe("clean/sums", days or {"raw/t": 1, "raw/whole": None}, told.pop("code", "c0de"), told)


class Sums:
    """A step that adds up each day and the one before, and counts the days that it was asked to make."""

    def __init__(self, lake: Lake) -> None:
        """The whole table is one number that is added everywhere."""
        self.lake, self.made = lake, [""]
        lake.write("raw/whole", pl.DataFrame({"n": [1]}), written_at=NOW)

    def run(self, days: Sequence[str] = DAYS, recipe: Recipe | None = None, **how: Any) -> Written:
        """Make the days and note which were computed."""
        work = (recipe or sums()).work(self.lake, days, **how)
        self.made = [] if work.is_done else work.left
        return work.done if work.is_done else self._write(work)

    def _write(self, work: Work) -> Written:
        added = work.scan("raw/whole").collect()["n"].sum() if "raw/whole" in work.recipe.reads else 0
        rows = work.scan("raw/t", partition_column=PARTITION).select("x", PARTITION).collect()
        day = pl.col(PARTITION).str.to_date()
        after = rows.with_columns(day.dt.offset_by("1d").dt.to_string().alias(PARTITION))
        total = pl.concat([rows, after]).group_by(PARTITION).agg(pl.col("x").sum() + added).sort(PARTITION)
        return work.write(total, Suite("clean/sums", (Expectation.from_dict(POSITIVE),)), now=NOW)


@pytest.fixture
def step(lake: Lake) -> Sums:
    found = Sums(lake)
    for number, day in enumerate(DAYS[:4]):
        raw(lake, day, number, 10 * number)
    found.run(DAYS[:4])
    return found


def test_a_partition_names_exactly_what_it_was_made_from(lake: Lake, step: Sums) -> None:
    made, given = lake.manifests("clean/sums"), lake.live("raw/t")
    whole = {"raw/whole": lake.live("raw/whole")["_"].version, DECLARATION: sums().declared}
    assert made[DAYS[0]].inputs == {f"raw/t/{DAYS[0]}": given[DAYS[0]].version} | whole
    assert made[DAYS[2]].inputs == {f"raw/t/{day}": given[day].version for day in DAYS[1:3]} | whole
    assert {manifest.code_version for manifest in made.values()} == {"c0de"}


def test_the_same_again_makes_nothing_and_tells_the_same(step: Sums) -> None:
    first = step.run(DAYS[:4], anew=True)
    assert step.made == DAYS[:4]
    assert step.run(DAYS[:4]) == first
    assert step.made == []


def test_a_changed_day_is_made_again_with_those_that_look_back_to_it(lake: Lake, step: Sums) -> None:
    raw(lake, DAYS[1], 7)
    written = step.run(DAYS[:4])
    assert step.made == DAYS[1:3]
    assert written.verdict.rows == 4  # of all days, also those that were left
    assert lake.read("clean/sums")["x"].to_list() == [1, 8, 30, 56]


def test_a_day_that_comes_late_is_an_input_that_was_missing(lake: Lake, step: Sums) -> None:
    step.run(DAYS[4:5])
    raw(lake, DAYS[4], 5)
    assert step.run(DAYS[3:]).verdict.success
    assert step.made == DAYS[4:]


@pytest.mark.parametrize("changed", ["code", "declaration", "whole table", "red", "longer file", "manifest"])
def test_what_else_makes_a_day_again(lake: Lake, step: Sums, changed: str) -> None:
    recipe = {"code": sums(code="new"), "declaration": sums(limit=1)}.get(changed)
    if changed == "whole table":
        lake.write("raw/whole", pl.DataFrame({"n": [2]}), written_at=NOW)
    elif changed == "red":
        for day in DAYS[:4]:
            raw(lake, day, -100)
        step.run(DAYS[:4])
    elif changed in ("longer file", "manifest"):
        for manifest in lake.manifests("clean/sums").values():
            name = manifest.files[0].name if changed == "longer file" else "manifest.json"
            path = f"clean/sums/{manifest.partition}/{name}"
            lake.store.write(path, lake.store.read(path) + b"!")
    step.run(DAYS[:4], recipe)
    assert step.made == DAYS[:4]
    assert lake.read("clean/sums", allow_red=True).height == 4  # whatever was broken is whole again


@pytest.mark.parametrize("damage", ["gone", "a byte"])
def test_in_a_folder_every_byte_is_compared(tmp_path: Path, damage: str) -> None:
    step = Sums(Lake(str(tmp_path)))
    raw(step.lake, DAYS[0], 1)
    for _ in range(2):
        step.run(DAYS[:1])
        assert step.made == DAYS[:1]
        (path,) = tmp_path.glob("clean/sums/*/*.parquet")
        data = path.read_bytes()
        path.unlink()
        if damage == "a byte":
            path.write_bytes(data[:-1] + b"!")
    step.run(DAYS[:1])
    assert step.lake.read("clean/sums")["x"].to_list() == [2]


def test_what_is_made_from_something_red_is_refused_also_when_it_was_green(lake: Lake, step: Sums) -> None:
    verdict = {"suite": "raw/t", "success": False, "reason": "a new limit"}
    raw(lake, DAYS[1], 1, 10, verdicts=[verdict])  # the same rows, judged anew
    with pytest.raises(RedPartitionError, match=DAYS[1]):
        step.run(DAYS[:4])


def test_days_without_any_input_are_not_asked_for_again(step: Sums) -> None:
    step.run(DAYS)
    assert step.made == DAYS[4:]  # the fifth looks back to the fourth, the sixth never had anything
    step.run(DAYS)
    assert step.made == []


def test_a_table_without_days_names_every_partition(lake: Lake, step: Sums) -> None:
    recipe = Recipe("clean/all", {"raw/t": None}, "c0de")
    for expected in (False, True):
        work = recipe.work(lake, None)
        assert work.is_done is expected
        if not work.is_done:
            work.write(
                work.scan("raw/t").select("x").collect(), Suite("s", (Expectation.from_dict(POSITIVE),)), now=NOW
            )
    inputs = {f"raw/t/{day}": item.version for day, item in lake.live("raw/t").items()}
    assert lake.manifests("clean/all")["_"].inputs == inputs | {DECLARATION: recipe.declared}


def test_rows_of_no_day_stay_red_however_often_the_step_runs(lake: Lake) -> None:
    raw(lake, DAYS[0], 1)
    recipe = Recipe("clean/t", {"raw/t": 0}, "c0de")
    for _ in range(2):
        work = recipe.work(lake, DAYS[:1])
        assert not work.is_done
        rows = work.scan("raw/t", partition_column=PARTITION).collect()
        homeless = pl.concat([rows, rows.with_columns(pl.lit(None, pl.String).alias(PARTITION))])
        written = work.write(homeless, Suite("clean/t", (Expectation.from_dict(POSITIVE),)), now=NOW)
        assert not written.verdict.success


def test_what_somebody_writes_meanwhile_is_not_read(lake: Lake, step: Sums) -> None:
    work = sums().work(lake, DAYS[:4], anew=True)
    raw(lake, DAYS[3], 1000)
    step._write(work)
    assert lake.read("clean/sums", [DAYS[3]])["x"].to_list() == [56]
    step.run(DAYS[:4])
    assert step.made == [DAYS[3]]


# -- the tables of this room, in any order -----------------------------------------------------------------------------


def clean_and_observe(lake: Lake, days: Sequence[str], *, anew: bool = False) -> list[str]:
    """Make the clean table and observations of it for some days; return the days whose rows were computed, by step."""
    made = []
    work = Recipe("clean/t", {"raw/t": 0}, "c0de", {"key": ["k"]}).work(lake, days, anew=anew)
    made += [] if work.is_done else work.left
    make_clean(work, Repairs(key=["k"], plausible={"x": (0, 50)}), [THERE], now=NOW)
    query = "SELECT k, event_timestamp, x % 2 AS label FROM clean_t WHERE x < 9"
    work = Recipe("p/observations", {"clean/t": 0}, "c0de", {"query": query}).work(lake, days, anew=anew)
    made += [] if work.is_done else work.left
    make_observations(work, query, task("classification"), key=["k"], every_day=False, now=NOW)
    step = Sums(lake)
    step.run(days, anew=anew)
    return made + step.made


deliveries = st.tuples(st.sampled_from(DAYS), st.lists(st.integers(0, 60), min_size=1, max_size=3))
ranges = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted).map(lambda ends: DAYS[ends[0] : ends[1] + 1])


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.one_of(deliveries, ranges), min_size=2, max_size=8))
def test_in_any_order_of_deliveries_and_runs_the_lake_is_as_if_all_were_made(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    lake, other = (Lake(str(tmp_path_factory.mktemp("lake"))) for _ in range(2))
    for each in (lake, other):
        raw(each, DAYS[0], 1)  # there is something from the beginning
        raw(each, DAYS[5], 2)
    for step in steps:
        if isinstance(step, tuple):
            raw(lake, step[0], *step[1])
            raw(other, step[0], *step[1])
        elif any(day in lake.partitions("raw/t") for day in step):
            clean_and_observe(lake, step)
    clean_and_observe(lake, DAYS)
    clean_and_observe(other, DAYS, anew=True)
    for table in ("clean/t", "p/observations", "clean/sums"):
        told = [{name: _meaning(item) for name, item in each.manifests(table).items()} for each in (lake, other)]
        assert told[0] == {**told[0], **told[1]}
        assert not any(item["rows"] for name, item in told[0].items() if name not in told[1])  # emptied meanwhile
    with patch.object(Work, "scan", side_effect=AssertionError("read again")):
        for day in lake.partitions("p/observations"):  # the others have nothing to remember
            assert clean_and_observe(lake, [day]) == []


def _meaning(manifest: Any) -> dict[str, Any]:
    return {"rows": manifest.rows, "version": manifest.version, "inputs": manifest.inputs, "told": manifest.verdicts}
