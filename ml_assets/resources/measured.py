"""Dagster's in-process executor, which also notes how much memory each step took."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.execution.retries import RetryMode

from ml_assets.resources.peak import Peak, PeakMemory

PEAKS = "resident bytes of each step: at its start, and at most"
"""Metadata of the event at the end of a run: two numbers by step."""
END = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}


class MeasuredExecutor(dg.Executor):
    """Hands everything to another executor whose steps run in this process, and adds one event at the end of the run.

    One for each step would cost more than the measuring: 1.5 ms, against 0.1 ms.
    """

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
        peaks = dict[str, Peak]()
        try:
            for event in self._inner.execute(plan_context, execution_plan):
                yield event
                if event.event_type is dg.DagsterEventType.STEP_START:
                    self._memory.begin()
                elif event.event_type in END and (peak := self._memory.end()):
                    peaks[str(event.step_key)] = peak
        finally:  # also of a run that failed or was stopped
            _note(plan_context, peaks)


def _note(plan_context: Any, peaks: Mapping[str, Peak]) -> None:
    """Log what was measured."""
    if peaks:
        step, most = max(peaks.items(), key=lambda item: item[1].most)
        told = f"At most {most.most / 1e6:,.0f} MB were resident, in step {step}"
        numbers = dg.MetadataValue.json({name: [peak.began, peak.most] for name, peak in peaks.items()})
        dg.DagsterEvent.engine_event(plan_context, told, event_specific_data=EngineEventData(metadata={PEAKS: numbers}))


@dg.executor(name=dg.in_process_executor.name, config_schema=dg.in_process_executor.config_schema.as_field())
def measured_in_process(init_context: dg.InitExecutorContext) -> MeasuredExecutor:
    """Return Dagster's in-process executor, measured; configured as the original.

    A run that another executor runs, or `execute_in_process`, is as it was, without such an event.
    """
    make = dg.in_process_executor.executor_creation_fn
    assert make, "Dagster's own executor can be made"
    return MeasuredExecutor(make(init_context), PeakMemory())
