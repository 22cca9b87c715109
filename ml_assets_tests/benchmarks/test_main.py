"""The command: which benches run, what is kept where, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.processes import BenchError, CutOffError, environment, python
from benchmarks.runner import Arm, Bench, Comparison, Measured, Options
from ml_assets_tests.benchmarks.small import small

ROOT = Path(__file__).parents[2]


def a_bench(name: str, *, ratio: float, equal: bool = True) -> Any:
    """A bench of which nothing but the ratio and the equality is known."""

    @contextmanager
    def build(options: Options) -> Iterator[Bench]:
        yield Bench(
            name=name,
            title="",
            target=2.0,
            ours=Arm("ours", lambda: Measured(1, ratio)),
            theirs=Arm("theirs", lambda: Measured(1 if equal else 2, 1.0)),
            compare=lambda ours, theirs: Comparison(ours == theirs, "compared"),
            rounds=1,
        )

    return build


@pytest.fixture
def command_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run the command with benches of the test's own, and return its status and the results file's content."""

    def run(arguments: list[str], **benches: Any) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(command, "BENCHES", benches)
        monkeypatch.setattr(command, "RESULTS", tmp_path / "results.json")
        monkeypatch.setattr(command, "_own_environment", lambda: None)
        status = command.main(["--folder", str(tmp_path), *arguments])
        kept = tmp_path / ("results-small.json" if "--small" in arguments else "results.json")
        return status, json.loads(kept.read_text())

    return run


def test_all_benches_run_and_are_kept(command_with: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, kept = command_with([], a=a_bench("a", ratio=1.5), b=a_bench("b", ratio=1.0))
    assert status == 0
    assert {name: item["ratio"] for name, item in kept.items()} == {"a": 1.5, "b": 1.0}
    assert "polars" in capsys.readouterr().out


def test_one_bench_replaces_only_its_own_entry(command_with: Any) -> None:
    command_with([], a=a_bench("a", ratio=1.5), b=a_bench("b", ratio=1.0))
    status, kept = command_with(["--only", "b"], a=a_bench("a", ratio=9.0), b=a_bench("b", ratio=1.25))
    assert status == 0
    assert {name: item["ratio"] for name, item in kept.items()} == {"a": 1.5, "b": 1.25}


def test_a_missed_target_is_a_failure(command_with: Any) -> None:
    assert command_with([], a=a_bench("a", ratio=2.5))[0] == 1


def test_different_results_are_a_failure_even_when_fast(command_with: Any) -> None:
    status, kept = command_with([], a=a_bench("a", ratio=0.1, equal=False))
    assert (status, kept["a"]["equal"]) == (1, False)


def test_small_data_is_not_judged_but_results_must_be_equal(command_with: Any, tmp_path: Path) -> None:
    assert command_with(["--small"], a=a_bench("a", ratio=9.0))[0] == 0
    assert command_with(["--small"], a=a_bench("a", ratio=1.0, equal=False))[0] == 1
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--rounds", "0"], ["--rounds", "two"]])
def test_what_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "usage" in capsys.readouterr().err


def test_a_process_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such lake"):
        python(["-c", "raise SystemExit('no such lake')"], root=ROOT, log=tmp_path / "log")


def test_a_process_that_takes_too_long_is_ended_and_told(tmp_path: Path) -> None:
    with pytest.raises(CutOffError, match=r"longer than 0\.2 s"):
        python(["-c", "import time; time.sleep(60)"], root=ROOT, log=tmp_path / "log", at_most=0.2)


@pytest.mark.parametrize("end", ["raise SystemExit(71)", "import os; os.abort()", "import os; os.kill(os.getpid(), 9)"])
def test_a_process_without_memory_is_told_apart_from_one_that_fails(end: str, tmp_path: Path) -> None:
    with pytest.raises(CutOffError, match="out of memory"):
        python(["-c", end], root=ROOT, log=tmp_path / "log")


def test_a_process_has_nothing_of_a_persons_own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", "gs://somebody/lake")
    monkeypatch.setenv("DAGSTER_HOME", "somebody's")
    found = environment(tmp_path)
    assert "ML_ASSETS_LAKE" not in found
    assert (found["DAGSTER_HOME"], found["PYTHONPATH"]) == (str(tmp_path), str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small benches work: what one has made, the next one takes."""
    return tmp_path_factory.mktemp("bench")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("training_set", "rows × 50 columns are equal"),
        ("feature_store", "300 rows × 33 columns are equal"),
        ("feature_store_curve", "results of 2 cells are equal"),
        ("larger_than_memory", "3,000 rows × 11 columns are equal"),
        ("online", "25 answers are equal"),
        ("online_increment", "10 entities' rows are equal"),
    ],
)
def test_a_bench_of_the_feature_store_works_on_small_data_with_equal_results(
    name: str, compared: str, folder: Path
) -> None:
    assert compared in small(name, folder)["compared"]
