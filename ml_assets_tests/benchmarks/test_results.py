"""What is kept and shown: one entry per bench, others untouched, failures visible."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.runner import Arm, Bench, Comparison, Limit, Measured, Outcome


def outcome(
    name: str = "join",
    *,
    equal: bool | None = True,
    ours: float = 3.0,
    judged: str = "ratio",
    limits: Sequence[Limit] = (),
    remarks: Sequence[str] = (),
) -> Outcome:
    arm = Arm("ours", lambda: Measured(None, 0.0))
    bench = Bench(
        name=name,
        title="A join",
        target=2.0,
        ours=arm,
        theirs=Arm("bare", arm.run),
        compare=lambda ours, theirs: Comparison(equal, "said"),
        judged=judged,  # type: ignore[arg-type]
        limits=limits,
        notes="what is not measured",
    )
    if equal is False:
        return Outcome(bench, Comparison(False, "values differ in a column"))
    told = {"peak_mb": 10.0, "peak_gb": 0.01}
    runs = [Measured(None, ours, told, remarks)], [Measured(None, 2.0, {"peak_mb": 100.0} if limits else {})]
    return Outcome(bench, Comparison(equal, "said"), *runs)


def entry(*args: object, **kwargs: object) -> dict[str, object]:
    return results.entry(outcome(*args, **kwargs), machine={"cpus": 2}, versions={"polars": "2"})  # type: ignore[arg-type]


def test_an_entry_has_what_readers_of_the_file_need() -> None:
    found = entry()
    assert found["name"] == "join"
    assert found["ratio"] == 1.5
    assert found["target"] == 2.0
    assert found["seconds"] == {"ours": 3.0, "bare": 2.0}
    assert (found["equal"], found["met"], found["rounds"]) == (True, True, 1)
    assert (found["machine"], found["versions"]) == ({"cpus": 2}, {"polars": "2"})
    assert found["details"] == {"ours": {"peak_mb": 10.0, "peak_gb": 0.01}, "bare": {}}
    assert not {"limits", "remarks", "judged_value"} & set(found)


def test_an_entry_of_different_results_has_no_numbers() -> None:
    found = entry(equal=False)
    assert (found["equal"], found["met"], found["rounds"]) == (False, False, 0)
    assert "ratio" not in found and "seconds" not in found


def test_merging_replaces_only_the_bench_that_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    results.merge(path, [entry("first"), entry("second")])
    before = json.loads(path.read_text())
    results.merge(path, [entry("second", ours=4.0)])
    after = json.loads(path.read_text())
    assert after["first"] == before["first"]
    assert (before["second"]["ratio"], after["second"]["ratio"]) == (1.5, 2.0)
    assert list(after) == ["first", "second"]
    assert list(path.parent.iterdir()) == [path]


def test_the_table_says_met_missed_and_failed() -> None:
    text = results.table([outcome("a"), outcome("b", ours=5.0), outcome("c", equal=False), outcome("d", equal=None)])
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert lines["a"].endswith("met") and "equal" in lines["a"]
    assert lines["b"].endswith("MISSED")
    assert lines["c"].endswith("FAILED") and "DIFFER" in lines["c"]
    assert "not comparable" in lines["d"]


def test_the_table_does_not_judge_small_data() -> None:
    assert "not judged" in results.table([outcome(ours=50.0)], judge=False)
    assert "MISSED" not in results.table([outcome(ours=50.0)], judge=False)


def test_an_absolute_target_is_shown_with_its_unit() -> None:
    assert "≤ 2 s" in results.table([outcome(judged="seconds")])


def test_the_account_tells_how_results_were_compared_and_what_is_not_measured() -> None:
    text = results.account(outcome())
    assert "said" in text and "what is not measured" in text and "peak_mb 10.00" in text


def test_machine_and_versions_name_what_the_numbers_depend_on() -> None:
    assert {"cpus", "model", "memory_gb", "system"} <= set(results.machine())
    assert {"python", "dagster", "polars", "feast", "mlflow"} <= set(results.versions())


def test_limits_are_kept_and_shown_below_their_bench() -> None:
    limits = [Limit("peak_mb", 0.2), Limit("peak_mb", 5.0, "value")]
    found = entry(limits=limits)
    assert found["met"] is False
    assert found["limits"] == [
        {"detail": "peak_mb", "highest": 0.2, "judged": "ratio", "found": 0.1},
        {"detail": "peak_mb", "highest": 5.0, "judged": "value", "found": 10.0},
    ]
    _, bench, ratio, value = results.table([outcome(limits=limits)]).splitlines()
    assert bench.endswith("met") and ratio.endswith("met") and value.endswith("MISSED")
    assert ratio.split() == ["peak_mb", "10.00", "100.00", "0.100", "≤", "0.2", "met"]


def test_no_limit_is_shown_of_different_results() -> None:
    found = entry(equal=False, limits=[Limit("peak_mb", 0.2)])
    assert "limits" not in found
    assert len(results.table([outcome(equal=False, limits=[Limit("peak_mb", 0.2)])]).splitlines()) == 2


def test_memory_is_shown_with_its_unit() -> None:
    text = results.table([outcome(judged="memory")])
    assert "≤ 2 GB" in text and "0.01 GB met" in text
    assert entry(judged="memory")["judged_value"] == 0.01


def test_remarks_are_kept_and_told_instead_of_numbers() -> None:
    found, told = (
        entry(remarks=["a table", "of two lines"]),
        results.account(outcome(remarks=["a table", "of two lines"])),
    )
    assert found["remarks"] == ["a table", "of two lines"]
    assert "  a table\n  of two lines" in told and "peak_mb" not in told
