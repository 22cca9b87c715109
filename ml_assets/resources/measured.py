"""Dagster's in-process executor, which also notes how much memory each step took."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.retries import RetryMode

from ml_assets.resources.peak import Peak, PeakMemory

STEP, BEGAN, MOST = "step", "resident at its start", "resident at most"
"""Metadata of the event that follows a step's end: its key, and bytes."""
END = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}


class MeasuredExecutor(dg.Executor):
    """Hands everything to another executor whose steps run in this process, and adds an event at the end of each step."""

    def __init__(self, inner: dg.Executor, memory: PeakMemory) -> None:
        self._inner, self._memory = inner, memory

    @property
    def retries(self) -> RetryMode:
        """Return the other's retries."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        """Return the other's rules on what a step waits for."""
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute the plan: an event is here before the step goes on, so a step begins and ends where it says so."""
        for event in self._inner.execute(plan_context, execution_plan):
            yield event
            if event.event_type is dg.DagsterEventType.STEP_START:
                self._memory.begin()
            elif event.event_type in END and (peak := self._memory.end()):
                yield _noted(plan_context, str(event.step_key), peak)


def _noted(plan_context: Any, step: str, peak: Peak) -> dg.DagsterEvent:
    """Log the event, and return it."""
    told = f"{step}: {peak.most / 1e6:,.0f} MB resident at most, {peak.grown / 1e6:,.0f} MB more than at its start"
    numbers: dict[str, Any] = {STEP: step, BEGAN: peak.began, MOST: peak.most}
    return dg.DagsterEvent.engine_event(plan_context, told, event_specific_data=EngineEventData(metadata=numbers))


@dg.executor(name=dg.in_process_executor.name, config_schema=dg.in_process_executor.config_schema.as_field())
def measured_in_process(init_context: dg.InitExecutorContext) -> MeasuredExecutor:
    """Return Dagster's in-process executor, measured; configured as the original.

    A run that another executor runs, or `execute_in_process`, is as it was: its steps have no such event.
    """
    make = dg.in_process_executor.executor_creation_fn
    assert make, "Dagster's own executor can be made"
    return MeasuredExecutor(make(init_context), PeakMemory())
