"""SQLite and Redis, each on the real thing: both follow `newer`, whatever comes in whatever order, from many writers at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.features.online.backends import Backend, open_backend
from ml_assets.features.online.rows import Change, OnlineRow, newer
from ml_assets.features.point_in_time import FeatureError

KEYS = ['["p"]', '["q","é"]', "[5]"]
rows = st.builds(
    OnlineRow,
    key=st.sampled_from(KEYS),
    event=st.integers(-3, 3),
    created=st.integers(-2, 2),
    origin=st.sampled_from(["", "2013-01-01", "2013-01-02"]),
    values=st.sampled_from(['{"x":1.0}', '{"x":NaN}', '{"x":"a|b"}']),
)
changes = st.builds(
    Change,
    rows=st.lists(rows, max_size=5),
    revised=st.sets(st.sampled_from(["2013-01-01", "2013-01-02"])),
    gone=st.lists(st.sampled_from(KEYS), max_size=2),
)


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "deep" / "online.db")
    found: str = request.getfixturevalue("redis_url")
    return found


@pytest.fixture
def store(url: str) -> Iterator[Backend]:
    found = open_backend(url, project="test")
    found.drop("v")
    yield found
    found.drop("v")


def expected(done: list[Change]) -> dict[str, OnlineRow]:
    """Return what must be there, by the rule itself."""
    held: dict[str, OnlineRow] = {}
    for change in done:
        for row in change.rows:
            if newer(row, held.get(row.key), change.revised):
                held[row.key] = row
        for key in change.gone:
            if key in held and held[key].origin in change.revised:
                del held[key]
    return held


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(changes, max_size=6))
def test_every_backend_follows_the_one_rule(store: Backend, done: list[Change]) -> None:
    store.drop("v")
    for change in done:
        store.apply("v", change)
    wanted = expected(done)
    assert store.read("v", KEYS) == [wanted.get(key) for key in KEYS]
    assert store.rows("v") == [wanted[key] for key in sorted(wanted)]
    assert store.rows("v", ["2013-01-01"]) == [row for row in store.rows("v") if row.origin == "2013-01-01"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows.map(lambda row: row._replace(origin="")), max_size=8), st.randoms(use_true_random=False))
def test_pushed_rows_may_come_in_any_order_and_twice(store: Backend, pushed: list[OnlineRow], random: Random) -> None:
    outcomes = []
    for order in (pushed, random.sample(pushed + pushed, 2 * len(pushed))):
        store.drop("v")
        for row in order:
            store.apply("v", Change([row]))
        outcomes.append(store.rows("v"))
    assert outcomes[0] == outcomes[1]


def test_it_counts_what_was_written(store: Backend) -> None:
    row = OnlineRow("[1]", 5, 5, "", "{}")
    assert store.apply("v", Change([row, row._replace(key="[2]")])) == 2
    assert store.apply("v", Change([row._replace(event=4)])) == 0
    assert store.apply("v", Change([row._replace(event=6)])) == 1


def test_nothing_there_is_no_error(store: Backend) -> None:
    assert store.read("v", ["[1]"]) == [None]
    assert store.read("v", []) == []
    assert store.rows("v") == []
    assert store.versions("v", ["2013-01-01"]) == {}


def test_versions_and_verdicts_are_remembered_until_the_view_is_dropped(store: Backend, url: str) -> None:
    store.apply("v", Change(versions={"a": "1", "b": "2"}))
    store.apply("v", Change(versions={"b": "3"}))
    store.tell("v", "")
    store.tell("v", "2 values differ")
    other = open_backend(url, project="test")
    assert other.versions("v", ["a", "b", "c"]) == {"a": "1", "b": "3"}
    assert other.verdicts() == {"v": "2 values differ"}
    store.drop("v")
    assert (other.versions("v", ["a"]), other.verdicts()) == ({}, {})


def test_projects_and_views_do_not_see_each_other(store: Backend, url: str) -> None:
    row = OnlineRow("[1]", 5, 5, "", "{}")
    store.apply("v", Change([row]))
    assert store.read("w", ["[1]"]) == open_backend(url, project="other").read("v", ["[1]"]) == [None]
    for view in ("v*", "v/row", 'v"'):
        assert store.rows(view) == []
    store.drop("v*")
    assert store.rows("v") == [row]


def test_more_rows_than_one_batch(store: Backend) -> None:
    many = [OnlineRow(f"[{number}]", number, 0, "d", "{}") for number in range(2_500)]
    assert store.apply("v", Change(many)) == 2_500
    assert store.read("v", [row.key for row in many]) == many
    store.apply("v", Change(gone=[row.key for row in many[:2_000]], revised=["d"]))
    assert len(store.rows("v")) == 500


def _write(url: str, seed: int) -> None:
    random = Random(seed)
    store = open_backend(url, project="test")
    for _ in range(60):
        event = random.randrange(1_000)
        store.apply("v", Change([OnlineRow("[1]", event, 0, "", str(event))]))


def test_writers_at_once_leave_the_newest(store: Backend, url: str, spawned: Callable[..., None]) -> None:
    store.apply("v", Change())
    spawned(_write, [(url, seed) for seed in range(4)])
    wanted = 0
    for seed in range(4):
        random = Random(seed)
        wanted = max([wanted, *(random.randrange(1_000) for _ in range(60))])
    (row,) = store.rows("v")
    assert (row.event, row.values) == (wanted, str(wanted))


@pytest.fixture
def spawned() -> Callable[..., None]:
    """Run a function in processes of their own and wait for them."""

    def run(work: Callable[..., None], arguments: list[tuple[object, ...]]) -> None:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=work, args=given) for given in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * len(processes)

    return run


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(FeatureError, match="online store 'mysql://x' is not known; give a file path or redis://"):
        open_backend("mysql://x", project="test")
