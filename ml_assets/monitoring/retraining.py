"""Whether to retrain: what asks for it, what a backtest says of it, and a log of what was decided and why.

`decide` is a function of facts, so it can be asked again about any moment of the past. The log lies beside the lake
(`_retraining/<problem>/000007.json`), one object for each decision, created only when absent: of two who decide at once
one is told, and decides again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake, Manifest, PreconditionFailed, Store
from ml_assets.monitoring.backtest import Backtest
from ml_assets.monitoring.watching import latest_drift
from ml_assets.tasks import Metric

FOLDER = "_retraining"
MOST_TRIES = 20
DRIFT, LOSS, ESTIMATED_LOSS, SCHEDULE = "drift", "realised loss", "estimated loss", "schedule"
NAMED = 5  # features that a reason names
SHIFT = "shift"  # the sign of plain drift, which needs no name of its own
Outcome = Literal["retrain", "kept", "waiting", "undecided", "quiet"]
"""Retrain; keep the champion, as the backtest says; wait for a cooldown or a run; no backtest was possible; nothing asked."""


class RetrainingError(ValueError):
    """A decision cannot be entered in the log. The message says why, and what to do."""


@dataclass(frozen=True)
class Trigger:
    """Something that asks for a retrained model: its `kind` (drift, realised loss, estimated loss, schedule), and words."""

    kind: str
    text: str


@dataclass(frozen=True)
class RetrainPolicy:
    """How easily a model is retrained.

    cooldown: the least time from a decision to retrain, or from a promotion, to the next decision to retrain.
    least_gain: so much better (of the declared metric) must a retrained model have been in the backtest, beside that
    the whole interval of the difference has to be above 0.
    """

    cooldown: timedelta = timedelta(days=7)
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        if self.cooldown <= timedelta(0):
            raise RetrainingError(f"cooldown {self.cooldown} is not a length of time; give one such as 7d")
        if self.least_gain < 0:
            raise RetrainingError(f"least_gain {self.least_gain} is below 0: a worse model is no reason to retrain")


@dataclass(frozen=True)
class Decision:
    """What was decided about a problem's model `at` a moment of its clock, by whom and why.

    `triggers` are in words, `scheduled` tells that a schedule is among them. `backtest` has the numbers of
    `Backtest.to_dict`, None when none was made. `key` stands for the triggers and the versions (`inputs`) that they were
    read from: with the same key the same is decided once. `champion` is the version in office, "" for none. `number` counts
    the entries of the log from 1; 0 is not entered.
    """

    problem: str
    at: datetime
    retrain: bool
    reason: str
    triggers: tuple[str, ...] = ()
    backtest: dict[str, Any] | None = None
    outcome: Outcome = "quiet"
    key: str = ""
    who: str = ""
    champion: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    scheduled: bool = False
    number: int = 0

    @property
    def id(self) -> str:
        """Return what names the decision among all problems: the run key of what follows from it."""
        return f"{self.problem}-{self.number:06}-{self.key}"

    @property
    def settled(self) -> bool:
        """Tell whether the same facts need not be decided again."""
        return self.outcome in ("retrain", "kept")

    def to_json(self) -> str:
        """Return the decision as JSON text."""
        return json.dumps(asdict(self) | {"at": self.at.isoformat()}, sort_keys=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**raw | {"at": datetime.fromisoformat(raw["at"]), "triggers": tuple(raw["triggers"])})


@dataclass(frozen=True)
class Facts:
    """What a decision is made of.

    `inputs` are the versions of the reports that the triggers were read from. `log` are the decisions so far, `promoted`
    is when a model last took office, `running` names a run that trains the problem now or is queued to, "" for none.
    """

    problem: str
    at: datetime
    triggers: Sequence[Trigger] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    champion: str = ""
    log: Sequence[Decision] = ()
    promoted: datetime | None = None
    running: str = ""
    who: str = ""

    @property
    def key(self) -> str:
        """Return 16 hex digits for what asks and the versions that it was read from."""
        told = [self.problem, sorted({one.kind for one in self.triggers}), self.champion, sorted(self.inputs.items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    @property
    def scheduled(self) -> bool:
        """Tell whether a schedule asks, which needs no backtest."""
        return any(one.kind == SCHEDULE for one in self.triggers)

    @property
    def asked(self) -> str:
        """Return the triggers in words."""
        return "; ".join(one.text for one in self.triggers)


def decide(facts: Facts, backtest: Callable[[], Backtest | str], *, policy: RetrainPolicy) -> Decision:
    """Return whether to retrain, and why.

    `backtest` is asked only when its answer decides; a text says why it could not be made. Two decisions to retrain are
    never closer than the cooldown, none is made while a run trains, and what was settled with the same key is not
    decided again: that decision is returned, with its number.
    """
    if not facts.triggers:
        return _made(facts, "quiet", "no report asks for a retrained model")
    if (known := next((one for one in facts.log if one.key == facts.key and one.settled), None)) is not None:
        return known
    if waits := _waits(facts, policy.cooldown):
        return _made(facts, "waiting", f"{facts.asked}, but {waits}: waits")
    if facts.scheduled:
        return _made(facts, "retrain", f"{facts.asked}: retrain")
    if not facts.champion:
        return _made(facts, "undecided", f"{facts.asked}; not decided: there is no champion; run job train")
    found = backtest()
    if isinstance(found, str):
        return _made(facts, "undecided", f"{facts.asked}; not decided: {found}")
    return _by(found, facts, policy)


def _by(found: Backtest, facts: Facts, policy: RetrainPolicy) -> Decision:
    better = found.gain > policy.least_gain and found.low > 0
    outcome: Outcome = "retrain" if better else "kept"
    joined = "and" if better else "but"
    asked = f", retrain.least_gain is {policy.least_gain:g}" if policy.least_gain else ""
    reason = f"{facts.asked}, {joined} {found.sentence()}{asked}: {outcome}"
    return replace(_made(facts, outcome, reason), backtest=found.to_dict())


def _waits(facts: Facts, cooldown: timedelta) -> str:
    """Return what a decision to retrain has to wait for, or nothing."""
    if facts.running:
        return f"{facts.running} trains already"
    last = max((one.at for one in facts.log if one.retrain), default=None)
    for what, moment in (("it was decided to retrain", last), ("a model took office", facts.promoted)):
        if moment is not None and facts.at < moment + cooldown:
            return f"{what} on {moment:%Y-%m-%d %H:%M}, and retrain.cooldown is {_days(cooldown)}"
    return ""


def _days(length: timedelta) -> str:
    return f"{length / timedelta(days=1):g} days"


def _made(facts: Facts, outcome: Outcome, reason: str) -> Decision:
    return Decision(
        problem=facts.problem,
        at=facts.at,
        retrain=outcome == "retrain",
        reason=reason,
        triggers=tuple(one.text for one in facts.triggers),
        outcome=outcome,
        key=facts.key if facts.triggers else "",
        who=facts.who,
        champion=facts.champion,
        inputs=dict(facts.inputs),
        scheduled=facts.scheduled,
    )


# -- the log -----------------------------------------------------------------------------------------------------------


def decisions(store: Store, problem: str) -> list[Decision]:
    """Return all decisions of a problem, the first one first. `store` is the lake's (`Lake.store`)."""
    return [Decision.from_json(store.read(name)) for name in store.names(f"{FOLDER}/{problem}")]


def enter(store: Store, problem: str, make: Callable[[Sequence[Decision]], Decision]) -> Decision:
    """Enter what `make` decides, given the log so far, and return it with its number.

    Who finds that somebody else decided meanwhile decides again. What is quiet is not entered, nor what waits or is
    undecided as it was before.
    """
    for _ in range(MOST_TRIES):
        log = decisions(store, problem)
        made = make(log)
        if made.number or made.outcome == "quiet" or (log and _same(log[-1], made)):
            return made
        numbered = replace(made, number=log[-1].number + 1 if log else 1)
        try:
            store.write(f"{FOLDER}/{problem}/{numbered.number:06}.json", numbered.to_json().encode(), expect="absent")
        except PreconditionFailed:
            continue
        store.settle(f"{FOLDER}/{problem}")
        return numbered
    raise RetrainingError(f"{problem}: {MOST_TRIES} others decided meanwhile; try again")


def _same(one: Decision, other: Decision) -> bool:
    return (one.key, one.outcome) == (other.key, other.outcome)


def table(found: Sequence[Decision]) -> str:
    """Return the decisions as a markdown table, the newest first."""
    heads = ("number", "when", "decision", "why", "champion", "who")
    rows = [(one.number, f"{one.at:%Y-%m-%d %H:%M}", one.outcome, one.reason, one.champion, one.who) for one in found]
    lines = [heads, ("---",) * len(heads), *reversed(rows)]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


# -- what asks ---------------------------------------------------------------------------------------------------------


def asked(
    lake: Lake,
    problem: str,
    metric: Metric,
    *,
    version: str,
    since: datetime,
    expected: float | None,
    tolerance: float,
    weeks: int,
) -> tuple[list[Trigger], dict[str, str]]:
    """Return what asks for retraining in the latest reports, and the versions of the reports that ask.

    Only reports on the model in office count: `version`, which took office at `since` and has the metric `expected` on its
    test split.
    """
    triggers, inputs = list[Trigger](), dict[str, str]()
    for table, found, manifest in (
        _drift(lake, problem, version),
        _loss(lake, problem, metric, since, expected=expected, tolerance=tolerance, weeks=weeks),
    ):
        if found:
            triggers += found
            inputs[table] = manifest.version if manifest else ""
    return triggers, inputs


def _drift(lake: Lake, problem: str, version: str) -> tuple[str, list[Trigger], Manifest | None]:
    table, latest = keys.problem(problem, "drift_report"), latest_drift(lake, problem)
    manifest = lake.manifest(table, latest.first) if latest else None
    judged = manifest.inputs.get("champion", version).split(" ")[0] if manifest else ""
    if latest is None or judged != version:
        return table, [], None
    signs = dict(latest.frame.select("feature", "signs").iter_rows())
    named = [f"{name} ({signs[name]})" if signs[name] not in ("", SHIFT) else name for name in latest.drifted]
    return table, drift_trigger(latest.verdict, named, f"{latest.first} to {latest.last}"), manifest


def _loss(
    lake: Lake, problem: str, metric: Metric, since: datetime, **limits: Any
) -> tuple[str, list[Trigger], Manifest | None]:
    table = keys.problem(problem, "performance_report")
    manifest = lake.manifest(table)
    if manifest is None or manifest.written_at < since:
        return table, [], None
    return table, loss_triggers(lake.read(table), metric, **limits), manifest


def drift_trigger(verdict: str, drifted: Sequence[str], window: str) -> list[Trigger]:
    """Return the trigger of a window's drift report, or none; the report's verdict is "drift" only when it persists."""
    if verdict != "drift":
        return []
    named = ", ".join(drifted[:NAMED]) + (", …" if len(drifted) > NAMED else "")
    count = f"{len(drifted)} feature{'' if len(drifted) == 1 else 's'}"
    return [Trigger(DRIFT, f"drift in {count} ({named}) in {window}")]


def loss_triggers(
    periods: pl.DataFrame, metric: Metric, *, expected: float | None, tolerance: float, weeks: int
) -> list[Trigger]:
    """Return the triggers of a performance report: realised loss, and loss that is estimated while outcomes are pending.

    `periods` has a row for each week: `start`, `status`, a column of the metric; of estimated weeks `estimated_low` and
    `estimated_high`. A loss is beyond `tolerance` against `expected` (the champion's metric on its test split), and
    persists: in each of the last `weeks` such weeks. An estimate counts by the better end of its interval.
    """
    if expected is None:
        return []
    better_end = "estimated_high" if metric.greater_is_better else "estimated_low"
    columns = ((LOSS, "realised", metric.name), (ESTIMATED_LOSS, "estimated", better_end))
    found = []
    for kind, status, column in columns:
        values = _last(periods, status, column, weeks)
        if len(values) == weeks and all(-metric.gain(value, expected) > tolerance for value in values):
            told = ", ".join(f"{value:.4g}" for value in values)
            text = f"{kind}: {metric.name} {told} in the last {weeks} weeks, {expected:.4g} on the test split"
            found.append(Trigger(kind, f"{text}, tolerated loss {tolerance:g}"))
    return found


def _last(periods: pl.DataFrame, status: str, column: str, weeks: int) -> list[float]:
    """Return the newest values of a column in weeks of a status, in order of time."""
    if column not in periods.columns:
        return []
    rows = periods.filter((pl.col("status") == status) & pl.col(column).is_not_null()).sort("start")
    return [float(value) for value in rows[column].tail(weeks)]
