"""Taking office: a challenger is registered, decided on against exactly the champion in office, and entered in the log.

The log (see `history`) is what makes a promotion one step: whoever decided against a champion that is no longer in office
writes an entry that exists already, and decides again. So of two retrains that race the worse never replaces the better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.development.tracking import CHALLENGER, CHAMPION, ChampionRef
from ml_assets.lake import PreconditionFailed, Store
from ml_assets.packaging.bundle import BundleError, verify
from ml_assets.packaging.champion import BUNDLE_DIGEST, Champion, ChampionError, loaded
from ml_assets.packaging.history import (
    MOST_TRIES,
    HistoryError,
    Kind,
    Promotion,
    history,
    record,
    settle,
)
from ml_assets.packaging.promotion import Decision

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

__all__ = ["HistoryError", "Outcome", "Promotion", "history", "promote", "register", "rollback", "settle"]


@dataclass(frozen=True)
class Outcome:
    """What was decided, and who is in office now (None: nobody). `promoted` tells whether that is this challenger by this decision."""

    decision: Decision
    office: Promotion | None
    promoted: bool


def register(
    tracking: Tracking, problem: str, *, run_id: str, folder: Path, digest: str, tags: Mapping[str, str]
) -> str:
    """Register the bundle in `folder` as a version with the alias `challenger`, and return the version.

    A bundle that is registered already stays the version that it is, with the tags brought up to date; it is no challenger when
    it is in office. The bytes of the bundle are verified first.
    """
    verify(folder, digest)
    told, source = {**tags, BUNDLE_DIGEST: digest}, str(folder)
    version = _registered(tracking, problem, source, digest)
    if version is None:
        version = tracking.register(problem, run_id, source=source, tags=told)
    else:
        tracking.tag_version(problem, version, told)
    if tracking.aliases(problem).get(CHAMPION) != version:
        tracking.set_alias(problem, CHALLENGER, version)
    return version


def promote(
    tracking: Tracking,
    store: Store,
    problem: str,
    version: str,
    *,
    decide: Callable[[Champion | None], Decision],
    who: str,
    when: datetime,
    why: str = "",
    kind: Kind = "promotion",
    approval: Mapping[str, Any] | None = None,
) -> Outcome:
    """Let a registered version take office when `decide` says so of the champion, and log it.

    `decide` is asked again about whoever took office in the meantime. The reason in the log is `why`, then that of the decision.
    A champion whose bundle cannot be read is compared with nobody: only a forced promotion, or a rollback, replaces it.
    The version's own bundle is verified before anything is written, whatever `decide` says: `BundleError`.
    """
    challenger = _version(tracking, problem, version)
    for _ in range(MOST_TRIES):
        office = settle(tracking, store, problem)
        decision = _decided(tracking, office, decide, forced=kind == "forced")
        if not decision.promote:
            return Outcome(decision, office, promoted=False)
        verify(Path(challenger.source), challenger.tags[BUNDLE_DIGEST])
        entry = Promotion(
            problem=problem,
            version=version,
            digest=challenger.tags[BUNDLE_DIGEST],
            replaced=office.version if office else "",
            previous=office.version if office else "",
            who=who,
            when=when,
            why="; ".join(part for part in (why, decision.reason) if part),
            kind=kind,
            gates=[asdict(gate) for gate in decision.gates],
            comparison=[asdict(part) for part in decision.comparison],
            approval=dict(approval or {}),
        )
        try:
            made = record(store, entry, after=office)
        except PreconditionFailed:
            continue  # somebody else took office: decide against them
        settle(tracking, store, problem)
        return Outcome(decision, made, promoted=True)
    raise HistoryError(f"{problem}: {MOST_TRIES} others took office meanwhile; try again")


def rollback(
    tracking: Tracking, store: Store, problem: str, *, who: str, when: datetime, why: str, to: str = ""
) -> Promotion:
    """Bring a version back into office (default: the one before the champion), and log it; return the entry.

    The version must load and answer its own example before anything is written: `BundleError`. `HistoryError` when there is
    nothing to go back to, or it was never in office; or when somebody else changed the office meanwhile.
    """
    office = settle(tracking, store, problem)
    if office is None:
        raise HistoryError(f"{problem} has no champion, so there is nothing to roll back; run job train")
    target = to or office.previous
    served = [one for one in history(store, problem) if one.version == target and one.kind != "rollback"]
    if not target or target == office.version:
        raise HistoryError(f"{problem}: no version was in office before {office.version}; name another with --to")
    if not served:
        raise HistoryError(f"{problem}: version {target} was never in office; use ml-assets promote {problem}:{target}")
    found = loaded(_version(tracking, problem, target))
    entry = Promotion(
        problem=problem,
        version=target,
        digest=found.bundle.digest,
        replaced=office.version,
        previous=served[-1].previous,
        who=who,
        when=when,
        why=why,
        kind="rollback",
    )
    try:
        made = record(store, entry, after=office)
    except PreconditionFailed as error:
        raise HistoryError(
            f"{problem}: somebody else changed the office meanwhile; look at ml-assets history"
        ) from error
    settle(tracking, store, problem)
    return made


def _decided(
    tracking: Tracking, office: Promotion | None, decide: Callable[[Champion | None], Decision], *, forced: bool
) -> Decision:
    """Return the decision against exactly the model of a log's entry; one that is forced asks nothing of it."""
    if office is None or forced:
        return decide(None)
    try:
        return decide(loaded(_version(tracking, office.problem, office.version)))
    except BundleError as error:
        way = f"ml-assets rollback {office.problem}, or ml-assets promote {office.problem} --force"
        return Decision(False, f"version {office.version}, in office, cannot be compared: {error}; see {way}")


def _registered(tracking: Tracking, problem: str, source: str, digest: str) -> str | None:
    for known in tracking.versions(problem):
        if known.source == source and known.tags.get(BUNDLE_DIGEST) == digest:
            return known.version
    return None


def _version(tracking: Tracking, problem: str, version: str) -> ChampionRef:
    found = tracking.version(problem, version)
    if found is None or BUNDLE_DIGEST not in found.tags:
        raise ChampionError(f"{problem}:{version} is not a registered bundle; see ml-assets history {problem}")
    return found
