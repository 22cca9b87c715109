"""Does the online store give what the offline join gives? Compared value by value, counted by kind, with examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from ml_assets.features.describe import cell
from ml_assets.features.online.backends import Backend
from ml_assets.features.online.materialize import CREATED, EVENT, OnlineSource, joined_as_of, offline_keys
from ml_assets.features.online.reader import OnlineAnswer, ViewPlan, view_plan
from ml_assets.features.online.rows import NEVER, OnlineRow, keys_of, micros, moment, spread

MOST_KEYS = 10_000
MOST_EXAMPLES = 5
Kind = Literal["mismatched", "missing", "extra", "stale", "late"]
KINDS: Mapping[Kind, str] = {
    "mismatched": "another value of the same moment",
    "missing": "nothing, where the offline join has a row",
    "extra": "a row, where the offline join has none or an older one",
    "stale": "an older row than the offline join",
    "late": "what was known then; the offline join has since learnt of a newer row",
}


@dataclass(frozen=True)
class Difference:
    """One entity that differs: what is online, what the offline join has, and when each was true."""

    kind: Kind
    key: str
    online: Mapping[str, Any]
    offline: Mapping[str, Any]


@dataclass
class Parity:
    """The outcome for `compared` entities: differences by kind, the first few of each as examples.

    It is green when nothing differs, but for a share of `late_share` that is late.
    """

    view: str
    compared: int
    late_share: float = 0.0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: list[Difference] = field(default_factory=list)

    def add(self, kind: Kind, key: str, online: Mapping[str, Any], offline: Mapping[str, Any]) -> None:
        """Count a difference, and keep the first ones as examples."""
        self.counts[kind] += 1
        if self.counts[kind] <= MOST_EXAMPLES:
            self.examples.append(Difference(kind, key, online, offline))

    @property
    def green(self) -> bool:
        """Tell whether nothing differs, but for what may be late."""
        worse = sum(count for kind, count in self.counts.items() if kind != "late")
        return not worse and self.counts["late"] <= self.late_share * self.compared

    def reason(self) -> str:
        """Return why it is red, in one line; "" when it is green."""
        if self.green:
            return ""
        found = [f"{count} {kind}" for kind, count in self.counts.items() if count]
        first = self.examples[0]
        told = f"{first.key} has {_told(first.online)} online and {_told(first.offline)} offline"
        return f"{self.view}: of {self.compared} entities {', '.join(found)}; for example {told}. {self._fix()}"

    def _fix(self) -> str:
        if any(count for kind, count in self.counts.items() if kind != "late"):
            return "Materialize the view again"
        return "Push rows as they happen, or train on what was known at each moment (filter_by_created_timestamp)"

    def markdown(self) -> str:
        """Return the counts and the examples as two tables."""
        lines = ["| differs | entities | online has |", "|---|---:|---|"]
        lines += [f"| {kind} | {self.counts[kind]} | {text} |" for kind, text in KINDS.items()]
        if self.examples:
            lines += ["", "| entity | differs | online | offline |", "|---|---|---|---|"]
            lines += [
                f"| {cell(one.key)} | {one.kind} | {cell(_told(one.online))} | {cell(_told(one.offline))} |"
                for one in self.examples
            ]
        return "\n".join(lines)


# -- the store against the join as of now ------------------------------------------------------------------------------


def parity(source: OnlineSource, backend: Backend, *, now: datetime, most: int = MOST_KEYS) -> Parity:
    """Compare up to `most` entities, from both sides: those that the table has and those that are online.

    The online side is read as serving reads it, TTL included; the offline side is the point-in-time join at `now`.
    """
    view = source.view
    keys = spread(sorted({*offline_keys(source, now, most=most), *backend.keys(view.name, most=most)}), most)
    wanted, found = dict(_joined(source, keys, now)), Parity(view.name, len(keys))
    for key, served in zip(keys, _served(view_plan(view), backend.read(view.name, keys), now), strict=True):
        _compare(found, key, served, wanted.get(key))
    return found


Row = tuple[tuple[int, int], Mapping[str, Any]]  # (event, created), values


def _served(plan: ViewPlan, rows: Sequence[OnlineRow | None], now: datetime) -> Iterator[Row | None]:
    """Yield what serving gives for each row."""
    answer = OnlineAnswer({}, {}, {})
    plan.fill(answer, rows, now)
    for place, (row, status) in enumerate(zip(rows, answer.statuses[plan.label], strict=True)):
        if row is None or status != "present":
            yield None
        else:
            yield (row.event, row.created), {name: answer.values[output][place] for name, output in plan.outputs}


def _joined(source: OnlineSource, keys: Sequence[str], now: datetime) -> Iterator[tuple[str, Row]]:
    """Yield what the offline join has, as the table has it: never packed."""
    frame = joined_as_of(source, keys, now)
    packed = keys_of(frame, list(source.view.keys)) if frame.height else []
    for key, row in zip(packed, frame.iter_rows(named=True), strict=True):
        created = NEVER if row[CREATED] is None else micros(row[CREATED])
        yield key, ((micros(row[EVENT]), created), {name: row[name] for name in source.view.features})


def _compare(found: Parity, key: str, online: Row | None, offline: Row | None) -> None:
    told = [
        {} if side is None else {"at": moment(side[0][0]).isoformat()} | dict(side[1]) for side in (online, offline)
    ]
    if kind := _kind(online, offline):
        differing = [name for name in {**told[0], **told[1]} if not _same(told[0].get(name), told[1].get(name))]
        found.add(kind, key, *({name: side[name] for name in differing if name in side} for side in told))


def _kind(online: Row | None, offline: Row | None) -> Kind | None:
    if online is None or offline is None:
        return None if online is offline else ("missing" if online is None else "extra")
    if online[0] != offline[0]:
        return "stale" if online[0] < offline[0] else "extra"
    same = all(_same(value, offline[1].get(name)) for name, value in online[1].items())
    return None if same else "mismatched"


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "nothing"
