"""Stage 5 in Dagster: the challenger on the untouched test split, beside the baseline and the champion in office."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import (
    candidate_results,
    challenger_of,
    open_experiment,
    plan_of,
    training_set_of,
)
from ml_assets.resources.evidence import file
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

GATES = {
    "success_threshold": "The declared metric on the test split reaches the declared value.",
    "beats_baseline": "The challenger is better than the baseline by the declared margin.",
    "slices": "The metric reaches the declared value in every slice that has enough rows.",
    "calibration": "Probabilities are as often right as they say, within the declared error.",
    "no_leak": "No test row was developed on, shuffled labels score like chance, no column alone foretells the label.",
    "behaviour": "Answers do not move with what may not matter, and move the declared way with what does.",
}


def evaluation_asset(problem: "MlProblem") -> dg.AssetsDefinition:
    """Return `<problem>/evaluation_report`: metrics, slices and plots on the test split, and the gates before promotion."""
    table = keys.problem(problem.name, "evaluation_report")

    @dg.asset(
        key=table.split("/"),
        description="The challenger on the test split, which no candidate has seen: metrics with intervals, slices, plots.",
        deps=[keys.problem(problem.name, part).split("/") for part in ("challenger", "training_set")],
        group_name=keys.EVALUATION,
        owners=list(problem.owners),
        kinds={"evidently", "polars"},
        tags={"stage": keys.EVALUATION},
        check_specs=[
            dg.AssetCheckSpec(name, asset=table.split("/"), blocking=True, description=GATES[name])
            for name in gates_of(problem)
        ],
    )
    def evaluation_report(
        lake: LakeResource,
        models: FilesResource,
        reports: FilesResource,
        tracking: TrackingResource,
        clock: ClockResource,
    ) -> dg.MaterializeResult:
        from ml_assets.evaluation.challenge import examine, judge, left_out
        from ml_assets.evaluation.explanation import explain
        from ml_assets.evaluation.gates import Limits, gates_table
        from ml_assets.evaluation.page import write_page
        from ml_assets.evaluation.shown import short

        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        manifest = lake.open().manifest(keys.problem(problem.name, "training_set"))
        success, supervised = problem.success, problem.task.plain().supervised
        missing = left_out(
            lake.open().scan(keys.problem(problem.name, "observations")),
            frame,
            as_known_at=manifest.written_at,
            by_time=problem.split.by == "time",
            supervised=supervised,
        )
        found = examine(
            _subject(problem, frame, experiment, lake, tracking),
            frame,
            made_at=clock.open(problem.clock).now(),
            slices=success.slices,
            unlabelled=missing,
        )
        limits = Limits(success.at_least, success.at_most, success.beats_baseline_by)
        verdicts = judge(
            found,
            frame,
            limits=limits,
            policy=problem.promotion.plain(),
            slices=success.slices,
            key=problem.observations.key,
        )
        explained = explain(found, frame, key=problem.observations.key)
        told = {"report": found.report.to_json(), "threshold": found.report.threshold, **explained.told()}
        told["gates"] = [asdict(gate) for gate in verdicts]
        experiment.write("evaluation_report", told)
        page = write_page(
            reports.folder(problem.name) / "evaluation_report.html",
            found,
            explained,
            verdicts,
            declaration=declaration_of(problem),
            limits=limits,
        )
        return dg.MaterializeResult(
            metadata={
                "challenger": found.subject.challenger.result.name,
                "rows": found.report.rows,
                "data_hash": manifest.version,
                **{f"test {name}": value for name, value in found.report.metrics.items() if value is not None},
                "gates": dg.MetadataValue.md(gates_table(verdicts)),
                "report": dg.MetadataValue.md(short(found, explained, limits)),
                "page": file(page),
            },
            check_results=[
                dg.AssetCheckResult(check_name=gate.name, passed=gate.passed, description=gate.reason)
                for gate in verdicts
            ],
        )

    return evaluation_report


def gates_of(problem: "MlProblem") -> list[str]:
    """Return the names of the gates that apply to the task or are declared; see `judge`, which gives their verdicts."""
    task, promotion = problem.task.plain(), problem.promotion
    applies = {
        "beats_baseline": task.supervised,
        "slices": promotion.worst_slice is not None,
        "calibration": task.output.startswith("probab"),
        "behaviour": bool([*promotion.invariant, *promotion.rising, *promotion.falling]),
    }
    return [name for name in GATES if applies.get(name, True)]


def _subject(problem: "MlProblem", frame: Any, experiment: Any, lake: LakeResource, tracking: TrackingResource) -> Any:
    """Return what is examined."""
    from ml_assets.evaluation.challenge import Subject

    challenger, champion = challenger_of(experiment), tracking.rival(problem.name)
    return Subject(
        problem=problem.name,
        version=f"{challenger.result.name}@{experiment.data_hash[:8]}",
        plan=plan_of(problem, frame.columns),
        challenger=challenger,
        results=candidate_results(problem, experiment),
        reason=experiment.read("challenger")["reason"],
        champion=champion,
        seen=seen_by(champion, problem, lake),
        currency=str(problem.value.get("currency", "")),
    )


def seen_by(champion: Any, problem: "MlProblem", lake: LakeResource) -> Any:
    """Return what names the rows of a random split that the champion was fitted or selected on; None by time, or without one."""
    if champion is None or problem.split.by == "time":
        return None
    from ml_assets.evaluation.fairness import seen_rows

    rows = lake.open().scan_version(keys.problem(problem.name, "training_set"), champion.data_hash)
    return seen_rows(rows, key=problem.observations.key, group=problem.split.group)


def learned_by(champion: Any, problem: "MlProblem", lake: LakeResource) -> Any:
    """Return key and time of the rows that the champion was fitted or selected on (see `learned_rows`); None without one."""
    if champion is None:
        return None
    from ml_assets.evaluation.fairness import learned_rows

    rows = lake.open().scan_version(keys.problem(problem.name, "training_set"), champion.data_hash)
    return learned_rows(rows, key=problem.observations.key)


def declaration_of(problem: "MlProblem") -> dict[str, str]:
    """Return what the declaration says, for people."""
    success = problem.success
    limit = success.at_least if success.at_most is None else success.at_most
    wanted = "at least" if success.at_most is None else "at most"
    said = {
        "question": problem.question,
        "owners": ", ".join(problem.owners),
        "task": problem.task.kind,
        "positive": problem.task.positive if problem.task.plain().output == "probability" else "",
        "classes": ", ".join(problem.task.classes),
        "unit": problem.task.unit,
        "success": f"{problem.metric}{'' if limit is None else f' {wanted} {limit:g}'}",
        "better than the baseline by": f"{success.beats_baseline_by:g}" if problem.task.plain().supervised else "",
        "value of outcomes": ", ".join(_worth(problem.value)),
        "data": problem.availability.notes,
    }
    return {name: text for name, text in said.items() if text}


def _worth(value: Mapping[str, Any]) -> Iterator[str]:
    """Each outcome with what it is worth; of classes that are told apart, one by one."""
    for name, worth in value.items():
        spelled = name.replace("_", " ")
        parts = [f"{spelled} {part} {what}" for part, what in worth.items()] if isinstance(worth, Mapping) else []
        yield from parts or [f"{spelled} {worth}"]
