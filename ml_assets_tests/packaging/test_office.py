"""A promotion is one step, is logged, and of two that race the worse never replaces the better."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.development.tracking import Tracking
from ml_assets.lake import Store
from ml_assets.packaging import history as history_module
from ml_assets.packaging.bundle import BundleError
from ml_assets.packaging.champion import Champion, ChampionError, in_office, incumbent
from ml_assets.packaging.history import FOLDER, Promotion, history, latest, record, settle, table
from ml_assets.packaging.office import HistoryError, promote, rollback
from ml_assets.packaging.promotion import Decision
from ml_assets_tests.packaging.offices import NOW, PROBLEM, FakeRegistry, judge, packed, registered, stand


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "lake"))


@pytest.fixture
def registry() -> Any:
    return cast(Tracking, FakeRegistry())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


def office(registry: Any, store: Store) -> float:
    return in_office(registry, PROBLEM, store=store).bundle.threshold


def test_a_promotion_is_logged_with_who_when_why_and_moves_the_aliases(
    registry: Any, store: Store, folder: Path
) -> None:
    first = stand(registry, store, folder, 0.5)
    second = stand(registry, store, folder, 0.6, why="the monthly retrain")
    third = stand(registry, store, folder, 0.55)
    assert [one.promoted for one in (first, second, third)] == [True, True, False]
    assert registry.named == {"champion": "2", "previous": "1", "challenger": "3"}, "who is refused keeps its alias"
    one, two = history(store, PROBLEM)
    assert (one.number, one.version, one.replaced, one.previous) == (1, "1", "", "")
    assert (two.number, two.version, two.replaced, two.who, two.when) == (2, "2", "1", "retrain 0.6", NOW)
    assert two.why == "the monthly retrain; 0.6 against 0.5" and two.digest == packed(folder, 0.6).digest
    assert third.office == two == latest(store, PROBLEM)
    assert table([one, two]).splitlines()[2].startswith("| 2 | 2 | 1 | promotion | retrain 0.6 | 2013-11-01T00:00:00")


def test_registering_the_same_bundle_again_adds_nothing(registry: Any, store: Store, folder: Path) -> None:
    assert registered(registry, folder, 0.5) == registered(registry, folder, 0.5, run_id="another") == "1"
    stand(registry, store, folder, 0.5)
    registry.tag_version(PROBLEM, "1", {"dvc": "x"})
    assert registered(registry, folder, 0.5) == "1" and registry.named == {"champion": "1"}


@given(scores=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=2, max_size=5), wait=st.booleans())
@settings(max_examples=15, deadline=None)
def test_of_any_that_race_the_best_ends_in_office(
    scores: list[float], wait: bool, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    registry, store = FakeRegistry(), Store(str(tmp_path_factory.mktemp("race")))
    versions = [registered(registry, folder, score) for score in scores]
    barrier = threading.Barrier(len(scores))

    def race(version: str, score: float) -> None:
        met = []

        def decide(champion: Champion | None) -> Decision:
            if wait and not met:  # all have seen the same champion, none has decided
                met.append(barrier.wait(timeout=10))
            return judge(score)(champion)

        promote(cast(Tracking, registry), store, PROBLEM, version, decide=decide, who="x", when=NOW)

    with ThreadPoolExecutor(len(scores)) as pool:
        list(pool.map(race, versions, scores))
    kept = [float(one.why.split(" ")[0]) for one in history(store, PROBLEM)]
    assert office(registry, store) == max(scores) and kept == sorted(set(kept)), "each was better than the one before"
    assert registry.named["champion"] == history(store, PROBLEM)[-1].version


def test_a_process_that_died_before_the_aliases_moved_is_made_good_by_the_next_reader(
    registry: Any, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(registry, store, folder, 0.5)
    with monkeypatch.context() as dying:
        dying.setattr(history_module, "_move", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stand(registry, store, folder, 0.6)
    assert registry.named == {"champion": "1", "challenger": "2"}, "the alias is old"
    assert office(registry, store) == 0.6
    assert registry.named == {"champion": "2", "previous": "1"}


def test_an_alias_that_a_slow_reader_moved_back_is_noticed_by_it(
    registry: Any, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(registry, store, folder, 0.5)
    registry.named["champion"] = "lost"
    move = history_module._move

    def slow(*told: Any) -> None:
        monkeypatch.setattr(history_module, "_move", move)
        stand(registry, store, folder, 0.6)  # while the reader holds the old entry
        move(*told)

    monkeypatch.setattr(history_module, "_move", slow)
    settle(registry, store, PROBLEM)
    assert registry.named["champion"] == "2"


def test_a_registry_without_a_log_is_adopted(registry: Any, store: Store, folder: Path) -> None:
    assert incumbent(registry, PROBLEM, store=store) is None and history(store, PROBLEM) == []
    registry.named["champion"] = registered(registry, folder, 0.5)
    assert office(registry, store) == 0.5
    (adopted,) = history(store, PROBLEM)
    assert (adopted.kind, adopted.version, adopted.when) == ("adopted", "1", NOW)
    assert stand(registry, store, folder, 0.6).promoted and history(store, PROBLEM)[-1].replaced == "1"


def test_rollback_goes_back_step_by_step_and_is_logged(registry: Any, store: Store, folder: Path) -> None:
    for score in (0.5, 0.6, 0.7):
        stand(registry, store, folder, score)
    told: dict[str, Any] = {"who": "ada", "when": NOW, "why": "late trains"}
    back = rollback(registry, store, PROBLEM, **told)
    assert (back.version, back.replaced, back.previous, back.kind, back.who) == ("2", "3", "1", "rollback", "ada")
    assert registry.named == {"champion": "2", "previous": "1"} and office(registry, store) == 0.6
    assert rollback(registry, store, PROBLEM, **told).version == "1"
    with pytest.raises(HistoryError, match="no version was in office before 1"):
        rollback(registry, store, PROBLEM, **told)
    assert rollback(registry, store, PROBLEM, to="3", **told).version == "3"
    registered(registry, folder, 0.2)
    with pytest.raises(HistoryError, match="version 4 was never in office"):
        rollback(registry, store, PROBLEM, to="4", **told)


def test_a_corrupted_bundle_takes_no_office_by_rollback_nor_by_force(
    registry: Any, store: Store, tmp_path: Path
) -> None:
    stand(registry, store, tmp_path, 0.5)
    stand(registry, store, tmp_path, 0.6)
    for score in (0.5, 0.7):
        version = registered(registry, tmp_path, score)
        path = Path(packed(tmp_path, score).folder) / "prior.json"
        path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
        with pytest.raises(BundleError, match=r"prior.json has SHA-256"):
            if score == 0.5:
                rollback(registry, store, PROBLEM, who="x", when=NOW, why="y")
            else:
                yes = Decision(True, "forced")
                promote(registry, store, PROBLEM, version, decide=lambda _, yes=yes: yes, who="x", when=NOW)
    assert len(history(store, PROBLEM)) == 2 and registry.named["champion"] == "2"


def test_a_champion_that_cannot_be_read_is_replaced_by_a_person_only(
    registry: Any, store: Store, tmp_path: Path
) -> None:
    stand(registry, store, tmp_path, 0.5)
    path = Path(packed(tmp_path, 0.5).folder) / "prior.json"
    path.write_bytes(b"{}")
    refused = stand(registry, store, tmp_path, 0.6)
    assert (
        not refused.promoted and "version 1, in office, cannot be compared: bundle refused" in refused.decision.reason
    )
    assert "--force" in refused.decision.reason and refused.office == latest(store, PROBLEM)
    assert stand(registry, store, tmp_path, 0.6, kind="forced").promoted and office(registry, store) == 0.6


def test_a_log_and_a_registry_that_contradict_each_other_are_told(registry: Any, store: Store, folder: Path) -> None:
    with pytest.raises(ChampionError, match="late:9 is not a registered bundle"):
        promote(registry, store, PROBLEM, "9", decide=judge(0.5), who="x", when=NOW)
    stand(registry, store, folder, 0.5)
    other = FakeRegistry()
    registered(other, folder, 0.6)
    with pytest.raises(HistoryError, match=f"remove {FOLDER}/late from the lake"):
        settle(cast(Tracking, other), store, PROBLEM)


def test_an_entry_is_written_after_the_one_that_was_seen_or_not_at_all(
    registry: Any, store: Store, folder: Path
) -> None:
    stand(registry, store, folder, 0.5)
    seen = latest(store, PROBLEM)
    stand(registry, store, folder, 0.6)
    with pytest.raises(ValueError, match="exists already"):
        record(store, Promotion(PROBLEM, "1", "d", "", "", "x", NOW, "y"), after=seen)
