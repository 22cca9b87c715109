"""Run a problem in this process, from its files to its evaluation report: what `ml-assets run` does."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets import keys
from ml_assets.resources.environment import resources, setting
from ml_assets.resources.partitions import CLOCK

JOB = "everything"
LAST = "evaluation_report"
Tell = Callable[[str], None]


class RunError(RuntimeError):
    """A problem's run did not succeed. The message says which step failed, why, and where to look."""


def run_problem(defs: dg.Definitions, root: Path, problem: str, *, tell: Tell) -> str:
    """Materialize all that `<problem>/evaluation_report` needs, and return where to look; `tell` hears a line for each asset.

    The run is in the instance of `DAGSTER_HOME`, so that the web UI shows it. Of daily tables all days up to now are made.
    Raises `RunError` for a problem that is not declared, and for a run that fails.
    """
    graph = defs.resolve_asset_graph()
    report = dg.AssetKey(keys.problem(problem, LAST).split("/"))
    if report not in graph.get_all_asset_keys():
        known = sorted(key.path[0] for key in graph.get_all_asset_keys() if key.path[-1] == LAST)
        raise RunError(f"problem {problem!r} is not declared; declared are {', '.join(known) or 'none'}")
    wanted = sorted(dg.AssetSelection.assets(report).upstream().resolve(graph))
    failures: list[str] = []
    with dg.DagsterInstance.get() as instance:
        run_id = str(uuid.uuid4())
        instance.add_event_listener(run_id, _Listener(tell, failures, len(wanted)))
        result = defs.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            run_id=run_id,
            asset_selection=wanted,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},  # `tell` is enough
            tags=_days(graph, wanted, root, problem),
            raise_on_error=False,
        )
    if not result.success:
        why = "; ".join(failures) or "no step says why"
        raise RunError(f"run {run_id} failed: {why}; `make ui` shows it at /runs/{run_id}")
    page = Path(setting("ML_ASSETS_REPORTS", root)) / problem / f"{LAST}.html"
    return f"the evaluation report: {page}\nthe web UI: make ui, then http://127.0.0.1:3000/assets/{problem}/{LAST}"


class _Listener:
    """Tells of each materialized asset, and collects why steps and blocking checks failed."""

    def __init__(self, tell: Tell, failures: list[str], count: int) -> None:
        self._tell, self._failures, self._count, self._done = tell, failures, count, set[str]()

    def __call__(self, entry: dg.EventLogEntry, _: str = "") -> None:
        event = entry.dagster_event
        if event is None:
            return
        detail: Any = event.event_specific_data
        if event.is_step_materialization and event.asset_key is not None:
            self._materialized(event.asset_key.to_user_string())
        elif event.is_step_failure:
            cause = detail.error and (detail.error.cause or detail.error)
            self._failures.append(f"step {event.step_key}: {cause.message.strip().splitlines()[0] if cause else ''}")
        elif isinstance(detail, dg.AssetCheckEvaluation) and not detail.passed:
            text = f"check {detail.check_name} of {detail.asset_key.to_user_string()}: {detail.description or 'failed'}"
            self._tell(f"  {detail.severity.value.lower()}: {text}")
            if detail.severity is dg.AssetCheckSeverity.ERROR:
                self._failures.append(text)

    def _materialized(self, asset: str) -> None:
        if asset not in self._done:
            self._done.add(asset)
            self._tell(f"{len(self._done):>3} of {self._count}  {asset}")


def _days(graph: Any, wanted: list[dg.AssetKey], root: Path, problem: str) -> dict[str, str]:
    """Return the tags of a run over all days up to now, by the problem's clock, when there are daily tables."""
    daily = [graph.get(key).partitions_def for key in wanted if graph.get(key).partitions_def]
    if not daily:
        return {}
    observations = dg.AssetKey(keys.problem(problem, "observations").split("/"))
    clock = graph.get(observations).metadata.get(CLOCK, "replay") if observations in wanted else "replay"
    now = resources(root)["clock"].open(clock).now()
    names = sorted({name for one in daily for name in one.get_partition_keys(current_time=now)})
    past = [name for name in names if name <= keys.day(now)]
    if not past:
        raise RunError(f"no declared day of {problem} has begun: now is {now:%Y-%m-%d %H:%M} UTC by clock {clock!r}")
    return {"dagster/asset_partition_range_start": past[0], "dagster/asset_partition_range_end": past[-1]}
