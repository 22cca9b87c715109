"""Who took office when, and why: the log of promotions, beside the lake. Its last entry says which model is the champion.

Each entry is one object (`_promotions/<problem>/000007.json`), created only when absent: that is the moment at which a
model takes office, whole or not at all, on a folder as in a bucket. Of two who write the same number one wins, and the
other decides again. The registry's aliases follow the log; where a process died in between, the next reader puts them right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from ml_assets.development.tracking import CHALLENGER, CHAMPION, PREVIOUS
from ml_assets.lake import PreconditionFailed, Store

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

FOLDER = "_promotions"
BUNDLE_DIGEST = "bundle_digest"
"""Tag of a registered version: the digest that its bundle must have."""
Kind = Literal["promotion", "forced", "rollback", "adopted"]
MOST_TRIES = 100


class HistoryError(ValueError):
    """The log of promotions and the registry contradict each other, or the log has nothing to go back to."""


@dataclass(frozen=True)
class Promotion:
    """One change of office: `version` (its bundle has `digest`) took the place of `replaced`.

    `previous` is what a rollback goes back to. Both are "" when there was none. `gates` are the verdicts that decided (name,
    passed, reason), `comparison` the numbers of both models that they read, `approval` what was approved, if it was. A promotion
    that is "forced" was decided by a person against the gates; one that is "adopted" was found in a registry that had no log yet.
    `number` counts from 1.
    """

    problem: str
    version: str
    digest: str
    replaced: str
    previous: str
    who: str
    when: datetime
    why: str
    kind: Kind = "promotion"
    gates: Sequence[Mapping[str, Any]] = ()
    comparison: Sequence[Mapping[str, Any]] = ()
    approval: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0

    def to_json(self) -> str:
        """Return the entry as JSON text."""
        return json.dumps(asdict(self) | {"when": self.when.isoformat()}, sort_keys=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Promotion:
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        return cls(**raw | {"when": datetime.fromisoformat(raw["when"])})


def history(store: Store, problem: str) -> list[Promotion]:
    """Return all promotions of a problem, the first one first. `store` is the lake's (`Lake.store`)."""
    return [_read(store, name) for name in store.names(f"{FOLDER}/{problem}")]


def latest(store: Store, problem: str) -> Promotion | None:
    """Return the last promotion, which says who is in office; None when nobody ever was. One listing, and one small object."""
    names = store.names(f"{FOLDER}/{problem}")
    return _read(store, names[-1]) if names else None


def record(store: Store, promotion: Promotion, *, after: Promotion | None) -> Promotion:
    """Write the next entry, and return it with its number; `PreconditionFailed` when `after` is no longer the last one."""
    made = replace(promotion, number=after.number + 1 if after else 1)
    folder = f"{FOLDER}/{promotion.problem}"
    store.write(f"{folder}/{made.number:06}.json", made.to_json().encode(), expect="absent")
    store.settle(folder)
    return made


def settle(tracking: Tracking, store: Store, problem: str) -> Promotion | None:
    """Let the aliases `champion` and `previous` name what the log says, and return its last entry; None when it is empty.

    A registry that has a champion but no log is adopted. Whoever moves an alias looks at the log again afterwards, so that of
    two who do so at once none leaves an old champion behind. `HistoryError` when the registry lacks the log's champion.
    """
    for _ in range(MOST_TRIES):
        named = tracking.aliases(problem)  # before the log is read: an alias that is older than it is found
        last = latest(store, problem) or _adopt(tracking, store, problem)
        if last is None or _agree(named, last):
            return last
        _move(tracking, named, last)
    raise HistoryError(f"{problem}: the aliases changed {MOST_TRIES} times while they were put right; try again")


def table(promotions: Sequence[Promotion]) -> str:
    """Return the promotions as a markdown table, the newest first."""
    heads = ("number", "version", "in place of", "kind", "who", "when", "why")
    rows = [
        (
            one.number,
            one.version,
            one.replaced or "-",
            one.kind,
            one.who,
            one.when.isoformat(timespec="seconds"),
            one.why,
        )
        for one in reversed(promotions)
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _read(store: Store, name: str) -> Promotion:
    return Promotion.from_json(store.read(name))


def _agree(named: Mapping[str, str], last: Promotion) -> bool:
    stands_again = named.get(CHALLENGER) == last.version  # the model in office is nobody's challenger
    return (named.get(CHAMPION), named.get(PREVIOUS, "")) == (last.version, last.previous) and not stands_again


def _move(tracking: Tracking, named: Mapping[str, str], last: Promotion) -> None:
    registered = tracking.version(last.problem, last.version)
    if registered is None or registered.tags.get(BUNDLE_DIGEST) != last.digest:
        raise HistoryError(
            f"{last.problem}: the log of promotions says that version {last.version} (bundle {last.digest[:12]}) is in office, and "
            f"the registry has no such version: bring the registry back, or remove {FOLDER}/{last.problem} from the lake to begin anew"
        )
    tracking.set_alias(last.problem, CHAMPION, last.version)
    if last.previous:
        tracking.set_alias(last.problem, PREVIOUS, last.previous)
    elif PREVIOUS in named:
        tracking.remove_alias(last.problem, PREVIOUS)
    if named.get(CHALLENGER) == last.version:
        tracking.remove_alias(last.problem, CHALLENGER)


def _adopt(tracking: Tracking, store: Store, problem: str) -> Promotion | None:
    """Begin the log with the champion of a registry that has none yet; if somebody else does so at once, theirs counts."""
    found = tracking.champion(problem)
    if found is None:
        return None
    told = Promotion(
        problem=problem,
        version=found.version,
        digest=found.tags.get(BUNDLE_DIGEST, ""),
        replaced="",
        previous="",
        who="unknown",
        when=tracking.registered_at(problem, found.version),
        why=found.tags.get("promotion_reason", "it was in office before there was a log"),
        kind="adopted",
    )
    try:
        return record(store, told, after=None)
    except PreconditionFailed:
        return latest(store, problem)
