"""What a Dagster step costs in process: a job of steps that do nothing, with this repository's storage and the stock one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.runner import Arm, Bench, Comparison, Measured, Options

ROOT = Path(__file__).parents[1]
STEPS = 20
STOCK = "telemetry: {enabled: false}\n"
NOTES = f"""The time of execute_in_process on a job of {STEPS} ops in a row, divided by {STEPS}: the run's own events are in it.
Dagster's console log is off in both arms. The target is an absolute time per step."""


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Open both instances and yield the bench."""
    folder = options.folder / "step_overhead"
    shutil.rmtree(folder, ignore_errors=True)
    with ExitStack() as stack:
        ours = stack.enter_context(instance(folder / "ours", (ROOT / "dagster.yaml").read_text()))
        stock = stack.enter_context(instance(folder / "stock", STOCK))
        yield Bench(
            name="step_overhead",
            title="One step that does nothing, in process",
            target=0.1,
            judged="seconds",
            ours=Arm("this repository's storage", steps(ours)),
            theirs=Arm("stock SQLite storage", steps(stock)),
            compare=same_events,
            rounds=5 if options.small else 15,
            notes=NOTES,
        )


@contextmanager
def instance(home: Path, configuration: str) -> Iterator[Any]:
    """Open a Dagster instance with its own home."""
    import dagster as dg

    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(configuration)
    # Our storage resolves its folder below $DAGSTER_HOME once, when it is opened.
    with patch.dict("os.environ", DAGSTER_HOME=str(home)), dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


def steps(instance: Any) -> Callable[[], Measured]:
    """Return an arm's run; its result are the events that the instance has stored of the run."""
    job = idle_job()

    def run() -> Measured:
        started = time.perf_counter()
        done = job.execute_in_process(instance=instance)
        seconds = time.perf_counter() - started
        stored = instance.all_logs(done.run_id)
        return Measured([entry.dagster_event_type for entry in stored], seconds / STEPS)

    return run


def idle_job() -> Any:
    """Return a job of ops in a row."""
    import dagster as dg

    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def idle() -> None:
        """Do nothing."""

    @dg.job(logger_defs={"quiet": quiet()}, config={"loggers": {"quiet": {}}})
    def idle_steps() -> None:
        done = idle.alias("idle_0")()
        for number in range(1, STEPS):
            done = idle.alias(f"idle_{number}")(done)

    return idle_steps


def quiet() -> Any:
    """Return a logger that writes nothing."""
    import logging

    import dagster as dg

    @dg.logger(config_schema={})
    def nothing(_: dg.InitLoggerContext) -> logging.Logger:
        silent = logging.Logger("quiet")
        silent.addHandler(logging.NullHandler())
        return silent

    return nothing


def same_events(ours: Sequence[Any], theirs: Sequence[Any]) -> Comparison:
    """Compare what both instances have stored: the types of events, in order."""
    if list(ours) != list(theirs):
        return Comparison(False, f"stored events differ: {len(ours)} and {len(theirs)}, or their order")
    return Comparison(True, f"{len(ours)} stored events are of equal types, in order")
