"""What Dagster's instance knows of its finished runs, as plain rows: one for each step of each run."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from ml_assets.resources.evidence import UNCHANGED
from ml_assets.resources.measured import PEAKS

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
ROWS = "dagster/row_count"
OUTCOMES = {
    dg.DagsterEventType.STEP_SUCCESS: "succeeded",
    dg.DagsterEventType.STEP_FAILURE: "failed",
    dg.DagsterEventType.STEP_SKIPPED: "skipped",
}
READ = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ENGINE_EVENT,
    *OUTCOMES,
}
MOST_RUNS = 200
"""Runs that are read at once, the newest: one over a year has tens of thousands of events, which take seconds to read."""
OVERLAP = timedelta(hours=1)  # a run may be stored a little after others that ended later


def finished_steps(
    instance: dg.DagsterInstance, *, since: datetime | None, known: Collection[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each step of the runs that ended since a moment, but for those whose ids are known; newest run first.

    A row has the columns of `ml_assets.monitoring.infrastructure.RUNS`.
    """
    after = since - OVERLAP if since else None
    filters = dg.RunsFilter(statuses=list(FINISHED), updated_after=after)
    for record in instance.get_run_records(filters, limit=MOST_RUNS):
        run = record.dagster_run
        if run.run_id not in known:
            ended = record.update_timestamp.astimezone(UTC)
            told = {"run": run.run_id, "job": run.job_name, "ended": ended}
            yield from (
                told | row for row in _steps(instance.all_logs(run.run_id, of_type=READ), _planned(instance, run))
            )


def _planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[str]:
    plan = run.execution_plan_snapshot_id and instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return plan.step_keys_to_execute if plan else ()


def _steps(entries: Sequence[dg.EventLogEntry], planned: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Return the steps of one run. One that was tried again counts as of its last try; one that was never begun is skipped."""
    events: dict[str, list[tuple[float, Any]]] = defaultdict(list, {step: [] for step in planned})
    peaks: dict[str, tuple[int, int]] = {}
    for entry in entries:
        event = entry.get_dagster_event()
        if event.event_type is dg.DagsterEventType.ENGINE_EVENT:
            peaks |= _peaks(event)
        elif event.step_key:
            events[event.step_key].append((entry.timestamp, event))
    for step, found in events.items():
        by_type = {event.event_type: (moment, event) for moment, event in found}
        outcome = next((kind for kind in OUTCOMES if kind in by_type), None)
        unknown = "failed" if found else "skipped"  # the process ended before the step did, or before it began
        made = [event for _, event in found if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION]
        began, peak = peaks.get(step, (None, None))
        yield {
            "step": step,
            "status": OUTCOMES[outcome] if outcome else unknown,
            **_times(by_type, outcome),
            **_made(step, [event.event_specific_data.materialization for event in made]),
            "began": began,
            "peak": peak,
        }


def _peaks(event: dg.DagsterEvent) -> dict[str, tuple[int, int]]:
    told = event.engine_event_data.metadata.get(PEAKS)
    numbers: Any = told.value if told else {}
    return {step: (began, most) for step, (began, most) in numbers.items()}


def _times(by_type: dict[Any, tuple[float, Any]], outcome: Any) -> dict[str, Any]:
    start, _ = by_type.get(dg.DagsterEventType.STEP_START, (None, None))
    end, _ = by_type.get(outcome, (None, None))
    seconds = None if start is None or end is None else end - start
    return {"started": None if start is None else datetime.fromtimestamp(start, UTC), "seconds": seconds}


def _made(step: str, made: Sequence[dg.AssetMaterialization]) -> dict[str, Any]:
    """Return what the step made: a step that made nothing is named after the asset that it stands for."""
    assets = sorted({item.asset_key.to_user_string() for item in made}) or [step.replace("__", "/")]
    rows = [count for item in made if (count := _number(item, ROWS)) is not None]
    return {
        "asset": ", ".join(assets),
        "partitions": len({item.partition for item in made}),
        "unchanged": max((_number(item, UNCHANGED) or 0 for item in made), default=0),
        "rows": sum(rows) if rows else None,
    }


def _number(item: dg.AssetMaterialization, name: str) -> int | None:
    value = item.metadata[name].value if name in item.metadata else None
    return value if isinstance(value, int) else None
