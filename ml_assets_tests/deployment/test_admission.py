"""A bundle is judged before it answers, and it answers few and many rows the quicker way: the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.deployment import admission
from ml_assets.deployment.admission import (
    BESIDE,
    MEASURED_FOR,
    SIZES,
    Appointed,
    BreakEven,
    Offices,
    RefusedBundleError,
    Served,
    admit,
    crossing,
    native_answers,
    registered,
    small_answers,
)
from ml_assets.deployment.engine import Engine
from ml_assets.development.tracking import ChampionRef, Tracking
from ml_assets.lake import Store
from ml_assets.packaging.bundle import BundleError
from ml_assets.packaging.history import HistoryError
from ml_assets_tests.development.samples import model_of, sample
from ml_assets_tests.packaging.bundles import built, stored

NOW = datetime(2013, 11, 3, 12, tzinfo=UTC)
KINDS = [
    ("binary", "random_forest"),
    ("binary", "xgboost"),
    ("multiclass", "neural"),
    ("clustering", "k_means"),
]

Make = Callable[..., Appointed]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make the bundle of a small trained model."""

    def made(kind: str = "binary", name: str = "linear", version: str = "7", **change: Any) -> Appointed:
        root = tmp_path_factory.mktemp("bundles")
        result = stored(root / "model", model_of(kind, name), name)
        told = {"example_rows": sample(kind).tail(5), "model_version": f"run {version}", **change}
        return Appointed(version, root / "bundle", built(root / "bundle", result, kind, **told).digest)

    return made


def taken_up(appointed: Appointed, **options: Any) -> Served:
    return admit(appointed, **{"problem": "late", "now": NOW, **options})


def rows_of(served: Served) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = served.bundle.small.example["request"]["rows"]
    return rows


# -- break-even --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({}, None),
        ({1: (1.0, 2.0), 10: (2.0, 3.0)}, None),
        ({1: (2.0, 1.0), 10: (3.0, 2.0)}, 1),
        ({1: (1.0, 3.0), 11: (5.0, 3.0)}, 6),
        ({1: (1.0, 9.0), 10: (9.0, 8.0), 100: (9.0, 10.0), 1000: (30.0, 10.0)}, 143),
    ],
    ids=["nothing measured", "never", "always", "between", "for good"],
)
def test_the_native_way_begins_where_it_stays_the_quicker_one(
    seconds: dict[int, tuple[float, float]], rows: int | None
) -> None:
    assert crossing(seconds) == rows


@given(st.dictionaries(st.sampled_from(SIZES), st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)), min_size=1))
def test_at_each_measured_size_from_there_on_the_chosen_way_is_not_slower(
    found: dict[int, tuple[float, float]],
) -> None:
    rows = crossing(found)
    largest = max(found)
    assert (rows is not None and rows <= largest) == (found[largest][1] < found[largest][0])
    if rows is not None:
        assert all(native < small for size, (small, native) in found.items() if size >= rows)


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        ({}, 0),  # nothing was measured
        ({1: (0.002, 0.003)}, 0),
        ({1: (0.0001, 0.0009), 10: (0.0009, 0.0004), 100: (0.0012, 0.0022)}, 77),  # 0.4 ms, and 0.8 ms for 90 rows more
        ({1: (0.0001, 0.0009), 10_000: (0.0009, 0.0004)}, 10_000),
    ],
)
def test_rows_answered_beside_other_requests_follow_from_what_was_measured(
    seconds: dict[int, tuple[float, float]], rows: int
) -> None:
    assert BESIDE == 1e-3
    assert BreakEven(None, seconds).beside == rows


@pytest.mark.parametrize(("kind", "name"), KINDS, ids=[f"{kind} {name}" for kind, name in KINDS])
def test_both_ways_answer_the_same_and_measuring_is_bounded(make: Make, kind: str, name: str) -> None:
    appointed = make(kind, name)
    began = time.perf_counter()
    served = taken_up(appointed)
    taken = time.perf_counter() - began
    print(f"{kind} {name}: admitted in {taken:.2f} s, {served.break_even}")
    assert 1 in served.break_even.seconds and taken < 5 + MEASURED_FOR
    rows = rows_of(served)
    small, native = small_answers(served.bundle, rows), native_answers(served.bundle, rows)
    for one, other in zip(small, native, strict=True):
        assert set(one) - {"model_version"} == set(other)
        for column, value in other.items():
            if isinstance(value, str):
                assert one[column] == value
            else:
                np.testing.assert_allclose(one[column], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("at", [None, 1, 5, 6])
def test_how_many_rows_are_asked_changes_no_answer(make: Make, at: int | None) -> None:
    found = taken_up(make())
    served = Served("3", found.bundle, NOW, BreakEven(at))
    rows = rows_of(served)
    expected = found.bundle.small.example["answer"]["rows"]
    answers = served.answers(rows)
    assert [answer["model_version"] for answer in answers] == ["3"] * 5
    np.testing.assert_allclose([one["score"] for one in answers], [one["score"] for one in expected], atol=1e-6)
    assert json.loads(json.dumps(answers)) == answers  # plain values


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_one_flipped_bit_is_refused(make: Make) -> None:
    appointed = make()
    path = appointed.folder / "model.json"
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="SHA-256"):
        taken_up(appointed)


def test_a_bundle_of_another_problem_is_refused(make: Make) -> None:
    with pytest.raises(RefusedBundleError, match="one of problem 'late', served is 'early'"):
        taken_up(make(), problem="early")


# -- the registry ------------------------------------------------------------------------------------------------------


class Aliases:
    """A registry with two aliases, whose bundles lie in folders."""

    def __init__(self, **versions: ChampionRef) -> None:
        self.versions = versions

    def champion(self, problem: str, *, alias: str) -> ChampionRef | None:
        return self.versions.get(alias)

    bundle_folder = Tracking.bundle_folder


def ref(version: str, **tags: str) -> ChampionRef:
    return ChampionRef("late", version, "", f"bundles/{version}", tags or {"bundle_digest": f"d{version}"})


def looked(tmp_path: Path, **versions: ChampionRef) -> Offices:
    tracking: Any = Aliases(**versions)
    return registered(tracking, "late", cache=tmp_path)()


def test_the_aliases_are_the_offices(tmp_path: Path) -> None:
    seven, eight = (Appointed(one, Path(f"bundles/{one}"), f"d{one}") for one in "78")
    assert looked(tmp_path) == Offices()
    assert looked(tmp_path, champion=ref("7")) == Offices(seven)
    assert looked(tmp_path, champion=ref("7"), challenger=ref("8")) == Offices(seven, eight)
    assert looked(tmp_path, champion=ref("7"), challenger=ref("7")) == Offices(seven)
    with pytest.raises(RefusedBundleError, match="version 7 of 'late' has no tag 'bundle_digest'"):
        looked(tmp_path, champion=ref("7", other="x"))
    assert looked(tmp_path, champion=ref("7"), challenger=ref("8", other="x")) == Offices(seven)


def test_the_log_of_promotions_counts_and_a_lake_that_is_away_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking: Any = Aliases(champion=ref("7"))
    look = registered(tracking, "late", cache=tmp_path, store=Store(str(tmp_path)))

    def settled(*_: Any) -> None:
        tracking.versions["champion"] = ref("8")

    monkeypatch.setattr(admission, "settle", settled)
    assert look().champion == Appointed("8", Path("bundles/8"), "d8")
    monkeypatch.setattr(admission, "settle", _failing(ConnectionError("away")))
    assert look().champion is not None
    monkeypatch.setattr(admission, "settle", _failing(HistoryError("the log names a version that is not there")))
    with pytest.raises(HistoryError):
        look()


def _failing(error: Exception) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise error

    return fail


# -- all of it ---------------------------------------------------------------------------------------------------------


def test_real_champions_change_under_load_and_a_damaged_one_does_not(make: Make, tmp_path: Path) -> None:
    models = {one.version: one for one in (make(name="linear", version="7"), make(name="random_forest", version="8"))}
    damaged = make(name="xgboost", version="9")
    (damaged.folder / "encoder.json").write_bytes(b"{}")
    office = [models["7"]]
    engine = Engine(lambda: Offices(office[0]), problem="late", lake_url=str(tmp_path), clock=lambda: NOW)
    engine.refresh()
    assert engine.current is not None
    rows = rows_of(engine.current)[:1]
    expected = {version: taken_up(one).answers(rows)[0]["score"] for version, one in models.items()}
    ends, seen, wrong = threading.Event(), set[str](), list[Any]()

    def ask() -> None:
        while not ends.is_set():
            answered = engine.answer(rows)
            seen.add(answered.version)
            if abs(answered.rows[0]["score"] - expected[answered.version]) > 1e-6:
                wrong.append(answered)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for version in "879":
        office[0] = models.get(version, damaged)
        engine.refresh()
    ends.set()
    for thread in threads:
        thread.join()
    assert (seen, wrong) == ({"7", "8"}, [])
    assert "encoder.json has SHA-256" in engine.state()["refused"]["9"]
