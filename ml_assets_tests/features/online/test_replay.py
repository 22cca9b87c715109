"""Served requests against the point-in-time join: what was right stays green, each way to be wrong turns red."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.features.compiled import CompiledRepo, CompiledService
from ml_assets.features.on_demand import Input, OnDemand, Output
from ml_assets.features.online.place import OnlineSide
from ml_assets.features.online.reader import OnlineReader
from ml_assets.features.online.replay import replay
from ml_assets.features.point_in_time import FeatureError
from ml_assets_tests.features.online.sides import FIRST, TABLE, TIME, Side, rows

HOUR = timedelta(hours=1)
TWICE = OnDemand(
    "twice",
    f"{__name__}.double",
    "v",
    (Input("x", "Float64", "v"), Input("factor", "Float64")),
    (Output("twice", "Float64"),),
    ("twice",),
)


def double(inputs: pl.DataFrame) -> pl.DataFrame:
    return inputs.select(twice=pl.col("x") * pl.col("factor") * 2)


class Served:
    """A side that answers requests and keeps what it answered."""

    def __init__(self, folder: Path) -> None:
        self.side = Side(folder, str(folder / "online.db"))
        compiled = self.side.source.view
        service = CompiledService(("v",), (compiled.declared,), on_demand=(TWICE,))
        self.repo = CompiledRepo("test", {"s": service}, {"v": compiled})
        self.reader = OnlineReader(self.repo, self.side.backend)
        self.log: list[dict[str, Any]] = []

    def ask(self, at: datetime, *keys: tuple[str, int], **changes: Any) -> None:
        asked = {"a": [a for a, _ in keys], "b": [b for _, b in keys], "factor": [1.5] * len(keys)}
        answer = self.reader.answer("s", asked, now=at)
        columns = {"event_timestamp": [at] * len(keys), **answer.values, "_event_v": answer.events["v"]}
        self.log += [dict(zip(columns, row, strict=True)) | changes for row in zip(*columns.values(), strict=True)]

    def outcome(self, **options: Any) -> dict[str, dict[str, int]]:
        types = {"event_timestamp": TIME, "_event_v": TIME, "x": pl.Float64, "n": pl.Int64, "twice": pl.Float64}
        served = pl.DataFrame(self.log, schema_overrides=types, infer_schema_length=None)
        online = OnlineSide(Path(), self.repo, self.side.backend, self.side.lake.url)
        found = replay(online, "s", served, **options)
        assert [one.view for one in found] == ["v", "twice"]
        for one in found:
            assert one.green == (not one.reason())
            assert one.compared == len(self.log) or one.view == "twice"
        return {one.view: {kind: count for kind, count in one.counts.items() if count} for one in found}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    found = Served(tmp_path)
    # the lake is named as in the declaration, so that the view is found below another folder
    found.side.write(rows(("p", 1, 60, 1, 0.6), ("q", 1, 61, 1, None)), "2013-01-03")
    found.side.go(now=FIRST + 62 * HOUR)
    found.ask(FIRST + 64 * HOUR, ("p", 1), ("q", 1), ("z", 1))
    return found


GREEN: dict[str, dict[str, int]] = {"v": {}, "twice": {}}


def test_what_was_served_is_what_the_join_gives(served: Served) -> None:
    assert served.outcome() == GREEN
    served.side.write(rows(("p", 1, 80, 1, 0.8)), "2013-01-04")
    served.side.go(now=FIRST + 82 * HOUR)
    served.ask(FIRST + 83 * HOUR, ("p", 1))
    served.ask(FIRST + 200 * HOUR, ("p", 1))  # beyond the TTL
    assert [row["x"] for row in served.log] == [0.6, None, None, 0.8, None]
    assert served.outcome() == GREEN


def test_a_broken_value(served: Served) -> None:
    served.log[0]["x"] = 0.7
    assert served.outcome() == {"v": {"mismatched": 1}, "twice": {}}  # it was computed from another value


def test_a_changed_unit_of_a_request_time_feature(served: Served) -> None:
    served.log[0]["twice"] *= 1000
    assert served.outcome() == {"v": {}, "twice": {"mismatched": 1}}


def test_a_stale_view(served: Served) -> None:
    served.side.write(rows(("p", 1, 80, 1, 0.8)), "2013-01-04")  # known at 81, and never brought online
    served.ask(FIRST + 90 * HOUR, ("p", 1))
    assert served.outcome() == {"v": {"stale": 1}, "twice": {}}


def test_what_became_known_a_moment_ago_may_be_missing_but_training_sees_it(served: Served) -> None:
    served.side.write(rows(("p", 1, 80, 1, 0.8)), "2013-01-04")
    served.ask(FIRST + 81.5 * HOUR, ("p", 1))
    assert served.outcome() == {"v": {"late": 1}, "twice": {}}
    assert served.outcome(lag=timedelta(minutes=10)) == {"v": {"stale": 1}, "twice": {}}


def test_a_correction_after_the_answer_is_late_and_no_fault_of_the_answer(served: Served) -> None:
    corrected = rows(
        ("p", 1, 59, 9, 0.61), ("q", 1, 61, 1, None)
    )  # the moment was another one; nobody has the old row any more
    later = FIRST + 69 * HOUR
    served.side.lake.write(TABLE, corrected, partition="2013-01-03", written_at=later)
    assert served.outcome() == {"v": {"late": 1}, "twice": {}}
    served.side.lake.write(
        TABLE, rows(("p", 1, 60, 9, 0.61), ("q", 1, 61, 1, None)), partition="2013-01-03", written_at=later
    )
    assert served.outcome() == {"v": {"late": 1}, "twice": {}}  # the same moment with another value


def test_missing_and_extra(served: Served) -> None:
    served.log[0] |= {"x": None, "n": None, "_event_v": None}
    served.log[2] |= {"x": 0.1, "n": 3, "_event_v": FIRST + 60 * HOUR}
    assert served.outcome()["v"] == {"missing": 1, "extra": 1}


def test_a_late_push_makes_training_see_what_serving_could_not(served: Served) -> None:
    served.side.push(
        rows(("p", 1, 63, 0, 0.63)), received=FIRST + 70 * HOUR
    )  # of before the request, received after it
    assert served.outcome() == {"v": {"late": 1}, "twice": {}}
    assert served.outcome(late_share=0.5) == {"v": {"late": 1}, "twice": {}}


def test_a_share_of_late_ones_may_be_allowed(served: Served) -> None:
    served.side.push(rows(("p", 1, 63, 0, 0.63)), received=FIRST + 70 * HOUR)
    online = OnlineSide(Path(), served.repo, served.side.backend, served.side.lake.url)
    frame = pl.DataFrame(served.log, schema_overrides={"event_timestamp": TIME, "_event_v": TIME})
    assert not replay(online, "s", frame, late_share=0.3)[0].green
    assert replay(online, "s", frame, late_share=0.34)[0].green


def test_columns_and_services_that_are_missing_are_named(served: Served) -> None:
    online = OnlineSide(Path(), served.repo, served.side.backend, served.side.lake.url)
    frame = pl.DataFrame(served.log, schema_overrides={"event_timestamp": TIME, "_event_v": TIME})
    with pytest.raises(FeatureError, match=r"served requests of view 'v': no column \['_event_v'\]"):
        replay(online, "s", frame.drop("_event_v"))
    with pytest.raises(FeatureError, match=r"no feature service 'other'; there are \['s'\]"):
        replay(online, "other", frame)


def test_long_after_the_last_row_nothing_is_served_and_nothing_expected(served: Served) -> None:
    served.log.clear()
    served.ask(FIRST + timedelta(days=40), ("p", 1))
    assert served.log[0]["x"] is None
    assert served.outcome() == GREEN
