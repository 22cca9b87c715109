"""The engine with models that do as they are told: swaps under load, trials, a registry that is down, and what is logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ml_assets.deployment import engine as engines
from ml_assets.deployment.admission import Appointed, BreakEven, Offices, RefusedBundleError, Served
from ml_assets.deployment.engine import CANARY, CHAMPION, SHADOW, Engine, NoModelError
from ml_assets.deployment.prediction_log import PredictionLog, predicted
from ml_assets.deployment.trial import ServingPolicy, StopRule

NOW = datetime(2013, 11, 3, 12, tzinfo=UTC)
ROWS = [{"delay": 1.0}]


@dataclass
class Model:
    """A bundle, and its own predictor: the score is the version; `does` may fail or dawdle instead."""

    version: str
    does: Callable[[], None] = lambda: None
    problem: str = "late"
    data_hash: str = "abc"
    features: Mapping[str, str] = field(default_factory=lambda: {"delay": "Float64"})
    asked: int = 0

    @property
    def digest(self) -> str:
        return f"digest of {self.version}"

    @property
    def model_version(self) -> str:
        return f"run {self.version}"

    @property
    def small(self) -> Model:
        return self

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        self.asked += len(rows)
        self.does()
        return [{"prediction": 1, "score": float(self.version), "model_version": "?"} for _ in rows]


class Registry:
    """Offices that a test fills; an exception in one of them is raised instead."""

    def __init__(self, *models: Model) -> None:
        self.models = {model.version: model for model in models}
        self.champion: str | None = "7"
        self.challenger: str | None = None
        self.down: Exception | None = None
        self.admitted: list[str] = []

    def __call__(self) -> Offices:
        if self.down:
            raise self.down
        champion, challenger = (
            version and Appointed(version, Path(version), f"digest of {version}")
            for version in (self.champion, self.challenger)
        )
        return Offices(champion or None, challenger or None)

    def admit(self, appointed: Appointed, **_: Any) -> Served:
        self.admitted.append(appointed.version)
        if appointed.version not in self.models:
            raise RefusedBundleError("altered")
        model: Any = self.models[appointed.version]
        return Served(appointed.version, model, NOW, BreakEven(None))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry(Model("7"), Model("8"))
    monkeypatch.setattr(engines, "admit", found.admit)
    return found


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Callable[..., Engine]:
    """Make an engine that has looked at the registry once."""

    def made(*, logged: bool = False, **options: Any) -> Engine:
        lake = str(tmp_path / "lake")
        log = PredictionLog(lake, "late", tmp_path / "spool", clock=lambda: NOW) if logged else None
        found = Engine(registry, problem="late", lake_url=lake, clock=lambda: NOW, log=log, **options)
        found.refresh()
        return found

    return made


def kept(folder: Path) -> list[tuple[Any, ...]]:
    """Return arm, version and score of each logged row."""
    found = predicted(str(folder / "lake"), "late")
    return [] if found is None else sorted(found.select("_arm", "model_version", "score").collect().rows())


# -- the champion ------------------------------------------------------------------------------------------------------


def test_the_champion_answers_under_its_version_in_the_registry(make: Any) -> None:
    engine = make()
    found = engine.answer(ROWS)
    assert found.rows == [{"prediction": 1, "score": 7.0, "model_version": "7"}]
    assert (found.version, found.arm, len(found.request)) == ("7", CHAMPION, 32)
    assert 0 < found.seconds < 1
    assert engine.current.version == "7"
    assert engine.state()["model"]["model_version"] == "run 7"


def test_no_model_in_office_is_said(make: Any, registry: Registry) -> None:
    registry.champion = None
    engine = make()
    with pytest.raises(NoModelError, match="'late' has no model in office: run job train"):
        engine.answer(ROWS)
    assert (engine.current, engine.state()["model"]) == (None, None)


def test_a_champion_that_changes_is_taken_up_and_one_that_stays_is_not_loaded_again(
    make: Any, registry: Registry
) -> None:
    engine = make()
    engine.refresh()
    registry.champion = "8"
    engine.refresh()
    engine.refresh()
    assert (engine.answer(ROWS).version, registry.admitted) == ("8", ["7", "8"])


def test_a_bad_bundle_is_refused_once_and_the_old_one_goes_on(
    make: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    registry.champion = "9"
    for _ in range(5):
        engine.refresh()
    assert engine.answer(ROWS).version == "7"
    assert engine.state()["refused"] == {"9": "RefusedBundleError: altered"}
    assert registry.admitted == ["7", "9"]
    monkeypatch.setattr(engines, "AGAIN_SECONDS", 0)
    registry.models["9"] = Model("9")
    engine.refresh()
    assert (engine.answer(ROWS).version, engine.state()["refused"]) == ("9", {})


def test_what_was_refused_is_told_while_it_is_appointed(make: Any, registry: Registry) -> None:
    engine = make()
    for champion, refused in (("9", ["9"]), ("11", ["11"]), ("8", [])):
        registry.champion = champion
        engine.refresh()
        assert list(engine.state()["refused"]) == refused


def test_a_bundle_that_takes_too_long_is_refused(
    make: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, ends = make(load_seconds=0.05), threading.Event()
    monkeypatch.setattr(engines, "admit", lambda *_, **__: ends.wait(10))
    registry.champion = "8"
    engine.refresh()
    ends.set()
    assert engine.answer(ROWS).version == "7"
    assert engine.state()["refused"] == {"8": "TimeoutError: it took longer than 0.05 s"}


def test_while_the_registry_is_down_the_old_one_goes_on_and_since_when_is_told(make: Any, registry: Registry) -> None:
    engine = make()
    registry.down, registry.champion = ConnectionError("refused"), "8"
    engine.refresh()
    engine.refresh()
    assert engine.answer(ROWS).version == "7"
    assert engine.state()["registry"] == {"since": NOW.isoformat(), "reason": "ConnectionError: refused"}
    registry.down = None
    engine.refresh()
    assert (engine.answer(ROWS).version, engine.state()["registry"]) == ("8", {})


def test_an_alias_that_is_gone_removes_nobody(make: Any, registry: Registry) -> None:
    engine = make()
    registry.champion = None
    engine.refresh()
    assert engine.answer(ROWS).version == "7"


def test_no_request_meets_a_change_of_champion(make: Any, registry: Registry) -> None:
    engine, ends = make(), threading.Event()
    found: list[tuple[str, float, str]] = []
    failures: list[Exception] = []

    def ask() -> None:
        while not ends.is_set():
            try:
                answered = engine.answer(ROWS * 3)
            except Exception as error:  # noqa: BLE001 - any of them is what the test is about
                failures.append(error)
                return
            found.extend((answered.version, row["score"], row["model_version"]) for row in answered.rows)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for change in range(50):
        registry.champion = "78"[change % 2 == 0]
        engine.refresh()
        time.sleep(0.002)
    ends.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(found) == {("7", 7.0, "7"), ("8", 8.0, "8")}
    print(f"{len(found) // 3} requests during 50 changes")


def test_by_itself_it_takes_up_a_new_champion_and_lands_its_log(make: Any, registry: Registry, tmp_path: Path) -> None:
    engine = make(refresh_seconds=0.01, logged=True).start()
    engine.answer(ROWS)
    registry.champion = "8"
    while engine.current.version != "8":
        time.sleep(0.005)
    engine.answer(ROWS)
    engine.close()
    assert kept(tmp_path) == [(CHAMPION, "7", 7.0), (CHAMPION, "8", 8.0)]


# -- the log -----------------------------------------------------------------------------------------------------------


def test_a_share_of_requests_is_logged(make: Any) -> None:
    for share, fewest, most in ((0.0, 0, 0), (0.5, 400, 600), (1.0, 1_000, 1_000)):
        engine = make(logged=True, policy=ServingPolicy(log=share))
        for _ in range(1_000):
            engine.answer(ROWS)
        assert fewest <= engine.state()["log"]["waiting"] <= most


def test_logging_costs_an_answer_microseconds(make: Any) -> None:
    medians = {}
    for logged in (False, True):
        engine, taken = make(logged=logged), []
        for _ in range(3_000):
            began = time.perf_counter()
            engine.answer(ROWS)
            taken.append(time.perf_counter() - began)
        medians[logged] = median(taken)
    print(f"answer around the model: {1e6 * medians[False]:.1f} µs, logged {1e6 * medians[True]:.1f} µs")
    assert medians[True] < 1e-3


# -- canary ------------------------------------------------------------------------------------------------------------


def entities(count: int) -> list[dict[str, Any]]:
    return [{"flight": number, "asked": time.perf_counter()} for number in range(count)]


def test_a_canary_answers_its_entities_and_no_others(make: Any, registry: Registry, tmp_path: Path) -> None:
    registry.challenger = "8"
    engine = make(logged=True, policy=ServingPolicy(canary=0.3), entity=["flight"])
    first, again = (
        [engine.answer(ROWS, entities=[entity]).version for entity in entities(500)] for _ in ("once", "twice")
    )
    assert first == again and 100 < first.count("8") < 200
    whole = engine.answer(ROWS * 500, entities=entities(500))
    assert [row["model_version"] for row in whole.rows] == first
    assert (whole.arm, whole.version) == (CHAMPION, "7")
    engine.close()
    assert kept(tmp_path) == [(CANARY, "8", 8.0)] * 3 * first.count("8") + [(CHAMPION, "7", 7.0)] * 3 * first.count("7")


def test_without_a_declared_share_there_is_no_trial(make: Any, registry: Registry) -> None:
    registry.challenger = "8"
    engine = make()
    assert {engine.answer(ROWS, entities=[one]).version for one in entities(50)} == {"7"}
    assert (registry.admitted, engine.state()["trial"]) == (["7"], None)


def failing() -> None:
    raise MemoryError("too much")


def test_where_the_challenger_fails_the_champion_answers_and_soon_alone(make: Any, registry: Registry) -> None:
    registry.challenger, registry.models["8"].does = "8", failing
    engine = make(policy=ServingPolicy(canary=1.0, stop=StopRule(errors=0.01, window=200)))
    assert [engine.answer(ROWS).version for _ in range(50)] == ["7"] * 50
    assert registry.models["8"].asked == 3
    trial = engine.state()["trial"]
    assert trial["failures"] == 3
    assert "MemoryError: too much" in trial["stopped"]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), None])
def test_a_score_that_is_no_number_is_a_failure(
    make: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch, odd: Any
) -> None:
    registry.challenger = "8"
    engine = make(policy=ServingPolicy(canary=1.0, stop=StopRule(errors=0)))
    monkeypatch.setattr(
        Model, "answers", lambda self, rows: [{"prediction": 1, "score": odd if self.version == "8" else 7.0}]
    )
    assert engine.answer(ROWS).rows[0]["score"] == 7.0
    assert engine.state()["trial"]["stopped"]


def test_a_challenger_that_fails_for_part_of_a_request_loses_none_of_it(make: Any, registry: Registry) -> None:
    registry.challenger, registry.models["8"].does = "8", failing
    engine = make(policy=ServingPolicy(canary=0.5), entity=["flight"])
    found = engine.answer(ROWS * 20, entities=entities(20))
    assert [row["model_version"] for row in found.rows] == ["7"] * 20


def test_a_slow_challenger_is_stopped(make: Any, registry: Registry) -> None:
    registry.challenger = "8"
    registry.models["8"].does = lambda: time.sleep(0.003)
    engine = make(policy=ServingPolicy(canary=0.5, stop=StopRule(window=80)), entity=["flight"])
    asked = entities(100)
    versions = [engine.answer(ROWS, entities=[one]).version for _ in range(3) for one in asked]
    assert versions[-100:] == ["7"] * 100
    assert "times the champion's" in engine.state()["trial"]["stopped"]


def test_a_stop_outlives_the_process_and_reaches_the_others(make: Any, registry: Registry) -> None:
    registry.challenger, policy = "8", ServingPolicy(canary=1.0, stop=StopRule(errors=0))
    engine, other = make(policy=policy), make(policy=policy)
    registry.models["8"].does = failing
    engine.answer(ROWS)
    engine.refresh()  # writes it down
    registry.models["8"].does = lambda: None
    assert other.answer(ROWS).version == "8"
    other.refresh()
    restarted = make(policy=policy)
    for one in (engine, other, restarted):
        assert one.answer(ROWS).version == "7"
        assert "MemoryError" in one.state()["trial"]["stopped"]
    registry.challenger, registry.models["9"] = "9", Model("9")
    restarted.refresh()
    assert restarted.answer(ROWS).version == "9"  # another challenger has its own trial


def test_without_a_lake_that_knows_of_stops_no_trial_begins(make: Any, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("no folder")
    registry.challenger = "8"
    engine = make(policy=ServingPolicy(canary=1.0))
    assert engine.answer(ROWS).version == "7"
    assert "NotADirectoryError" in engine.state()["trial_not_kept"]
    assert registry.admitted == ["7"]
    (tmp_path / "lake").unlink()
    engine.refresh()
    assert engine.answer(ROWS).version == "8"


def test_a_challenger_of_other_features_waits_for_a_champion_of_the_same(make: Any, registry: Registry) -> None:
    registry.challenger, policy = "9", ServingPolicy(canary=1.0)
    registry.models |= {one: Model(one, features={"delay": "Float64", "gusts": "Float64"}) for one in ("9", "10")}
    engine = make(policy=policy)
    assert engine.answer(ROWS).version == "7"
    assert engine.state()["trial"]["stopped"] == "requests are those of version 7, which lack the features ['gusts']"
    registry.champion = "10"
    engine.refresh()
    assert (engine.answer(ROWS).version, registry.admitted) == ("9", ["7", "9", "10"])
    assert make(policy=policy).answer(ROWS).version == "9"


def test_a_challenger_that_takes_office_is_no_longer_on_trial(make: Any, registry: Registry) -> None:
    registry.challenger = "8"
    engine = make(policy=ServingPolicy(canary=0.5))
    registry.champion = "8"
    engine.refresh()
    assert (engine.state()["trial"], registry.admitted) == (None, ["7", "8"])
    assert engine.answer(ROWS).arm == CHAMPION


# -- shadow ------------------------------------------------------------------------------------------------------------


def test_a_shadow_scores_what_was_asked_and_changes_no_answer(make: Any, registry: Registry, tmp_path: Path) -> None:
    registry.challenger = "8"
    engine = make(logged=True, policy=ServingPolicy(shadow=1.0))
    found = [engine.answer(ROWS) for _ in range(20)]
    assert {(one.version, one.arm) for one in found} == {("7", CHAMPION)}
    assert registry.models["8"].asked == 0  # not in the way of the answer
    for _ in found:
        assert engine.shadow_once()
    engine.close()
    assert kept(tmp_path) == [(CHAMPION, "7", 7.0)] * 20 + [(SHADOW, "8", 8.0)] * 20
    logged = predicted(str(tmp_path / "lake"), "late")
    assert logged is not None
    assert logged.collect()["_request"].value_counts()["count"].unique().to_list() == [2]


def test_what_does_not_fit_into_the_queue_is_counted(
    make: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "MOST_SHADOWED", 3)
    registry.challenger = "8"
    engine = make(policy=ServingPolicy(shadow=1.0))
    for _ in range(10):
        engine.answer(ROWS)
    assert engine.state()["shadow"] == {"waiting": 3, "dropped": 7}


def test_a_shadow_that_fails_is_stopped_and_nobody_notices(make: Any, registry: Registry) -> None:
    registry.challenger, registry.models["8"].does = "8", failing
    engine = make(policy=ServingPolicy(shadow=1.0, stop=StopRule(errors=0)))
    for _ in range(5):
        assert engine.answer(ROWS).version == "7"
    while engine.state()["shadow"]["waiting"]:
        engine.shadow_once()
    assert registry.models["8"].asked == 1
    assert "MemoryError" in engine.state()["trial"]["stopped"]


def test_a_share_of_requests_is_shadowed(make: Any, registry: Registry) -> None:
    registry.challenger = "8"
    engine = make(policy=ServingPolicy(shadow=0.2))
    for _ in range(1_000):
        engine.answer(ROWS)
    state = engine.state()["shadow"]
    assert 130 < state["waiting"] + state["dropped"] < 270
