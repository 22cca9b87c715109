"""Stage 5 in Dagster: the challenger on the untouched test split, beside the baseline and the champion in office."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets import keys
from ml_assets.development.assets import candidate_results, metric_of, open_experiment, training_set_of
from ml_assets.resources.evidence import file
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.problem import MlProblem

GATES = {
    "success_threshold": "The declared metric on the test split reaches the declared value.",
    "beats_baseline": "The challenger is better than the baseline by the declared margin.",
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
            dg.AssetCheckSpec(name, asset=table.split("/"), blocking=True, description=text)
            for name, text in GATES.items()
        ],
    )
    def evaluation_report(
        lake: LakeResource, models: FilesResource, reports: FilesResource, clock: ClockResource
    ) -> dg.MaterializeResult:
        from ml_assets.evaluation.challenge import examine, gates, left_out, plots, write_html

        frame, experiment = training_set_of(problem, lake).collect(), open_experiment(problem, lake, models)
        now = clock.open().now()
        manifest = lake.open().manifest(keys.problem(problem.name, "training_set"))
        winner = experiment.read("challenger")["winner"]
        found = examine(
            problem.name,
            frame,
            {result.name: result for result in candidate_results(problem, experiment)},
            winner,
            kind=problem.task.kind,
            version=f"{winner}@{experiment.data_hash[:8]}",
            slices=problem.success.slices,
            made_at=now,
            unlabelled=left_out(
                lake.open().scan(keys.problem(problem.name, "observations")), frame, as_known_at=manifest.written_at
            ),
        )
        experiment.write("evaluation_report", {"report": found.report.to_json(), "threshold": found.report.threshold})
        page = write_html(found, reports.folder(problem.name) / "evaluation_report.html")
        metric = metric_of(problem)
        images = plots(found, metric, target=problem.success.at_least)
        verdicts = gates(
            found.report, metric, at_least=problem.success.at_least, margin=problem.success.beats_baseline_by
        )
        return dg.MaterializeResult(
            metadata={
                "challenger": winner,
                "rows": found.report.rows,
                "data_hash": manifest.version,
                **{f"test {name}": value for name, value in found.report.metrics.items() if value is not None},
                "report": dg.MetadataValue.md(_with_plots(found.report.markdown(), images)),
                "evidently": file(page),
            },
            check_results=[
                dg.AssetCheckResult(check_name=gate.name, passed=gate.passed, description=gate.reason)
                for gate in verdicts
            ],
        )

    return evaluation_report


def _with_plots(text: str, images: Mapping[str, str]) -> str:
    """Return the report with its plots behind the summary, before the tables."""
    summary, blank, tables = text.partition("\n\n")
    return f"{summary}{blank}{' '.join(images.values())}\n\n{tables}"
