"""Profiles in Dagster: what each table's columns hold, day by day, and whether the newest days look as those before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from ml_assets import keys
from ml_assets.resources.evidence import warning
from ml_assets.resources.partitions import upstream
from ml_assets.resources.places import ClockResource, LakeResource

if TYPE_CHECKING:
    from ml_assets.features.assets import FeatureViews, View
    from ml_assets.problem import MlProblem
    from ml_assets.source import Source

AS_BEFORE, FINITE, FRESH = "as_before", "finite", "fresh"
SHOWN_DAYS = 92
"""Days in the picture: of older ones nothing is read, nor made."""
BOOKKEEPING = ("in_sample", "model_version")  # change with each champion
SCORED_WITHIN = timedelta(days=2)  # as the policy of the predictions themselves
DESCRIPTIONS = {
    FINITE: "No NaN and no infinity in the last 7 days, but where there were some in the 28 before.",
    AS_BEFORE: "The last 7 days look as the 28 before: no column lost, no burst of nulls, no other unit, nothing frozen, "
    "no category of 5 % of the rows new or gone.",
    FRESH: "The newest day with rows is as young as declared.",
}


@dataclass(frozen=True)
class Watched:
    """A table whose profiles are kept. `days`: its first and last day, as declared, None: it has none. `fresh`: its newest day is
    at most this old, None: it may be any age.

    `may_be_empty`: that nothing came is no fault. `ignored`: columns that change by design.
    """

    table: str
    owners: Sequence[str]
    clock: Literal["replay", "system"]
    days: str | None
    fresh: timedelta | None = None
    may_be_empty: bool = False
    ignored: Sequence[str] = ()

    @property
    def checks(self) -> list[str]:
        """Return the names of the checks that apply: without days nothing is compared, and nothing is stale."""
        names = {FINITE: True, AS_BEFORE: bool(self.days), FRESH: bool(self.days) and self.fresh is not None}
        return [name for name, applies in names.items() if applies]

    @property
    def last(self) -> str:
        """Return the last declared day; empty when there is none."""
        return (self.days or "").partition("/")[2]


def source_profiles(source: "Source") -> dg.AssetsDefinition:
    """Return `profiles/raw/<source>`."""
    fresh = timedelta(hours=source.fresh_within_hours)
    return profile_asset(Watched(keys.raw(source.name), source.owners, source.clock, source.days, fresh))


def view_profiles(component: "FeatureViews", view: "View") -> dg.AssetsDefinition:
    """Return `profiles/features/<view>`. How fresh it is, the view's own check says."""
    days = component.days if view.partitioned else None
    return profile_asset(Watched(keys.feature_view(view.name), component.owners, component.clock, days))


def prediction_profiles(problem: "MlProblem") -> list[dg.AssetsDefinition]:
    """Return `profiles/<problem>/predictions` and `profiles/<problem>/served_predictions`."""
    sparse = not problem.observations.every_day
    scored, served = (keys.problem(problem.name, part) for part in ("predictions", "served_predictions"))
    common: dict[str, Any] = {
        "owners": problem.owners,
        "clock": problem.clock,
        "ignored": BOOKKEEPING,
        "days": problem.days,
    }
    fresh = None if sparse else SCORED_WITHIN
    return [
        profile_asset(Watched(scored, fresh=fresh, may_be_empty=sparse, **common)),
        profile_asset(Watched(served, may_be_empty=True, **common)),
    ]


def profile_asset(watched: Watched) -> dg.AssetsDefinition:
    """Return `profiles/<table>`: it has no days, and makes the profiles of those that are new or changed."""
    key = keys.profiles(watched.table).split("/")

    @dg.asset(
        key=key,
        description=f"What the columns of {watched.table} hold, day by day: nulls, NaN, smallest, mean, largest, distinct "
        "values; a day is read when it is new or changed.",
        deps=[upstream(watched.table)],
        group_name=keys.MONITORING,
        owners=list(watched.owners),
        kinds={"polars"},
        tags={"stage": keys.MONITORING},
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=DESCRIPTIONS[name]) for name in watched.checks],
    )
    def profiles(lake: LakeResource, clock: ClockResource) -> dg.MaterializeResult:
        from ml_assets.monitoring.changes import Newest
        from ml_assets.monitoring.profile_store import days_in, profiles_of

        store = lake.open()
        days = days_in(store, watched.table)[-SHOWN_DAYS:]
        found = Newest(profiles_of(store, watched.table, days or None, allow_red=True), watched.ignored)
        return dg.MaterializeResult(
            metadata=_shown(found, watched.table),
            check_results=_judged(found, watched, clock.open(watched.clock).now()),
        )

    return profiles


def _shown(found: Any, table: str) -> dict[str, Any]:
    from ml_assets.evaluation.plots import as_markdown
    from ml_assets.monitoring.profile_shown import columns_table, days_plot
    from ml_assets.monitoring.profiles import columns_of

    if not found.days:
        return {"status": f"there is no {table} yet"}
    shown = f"last {len(found.window)} days" if found.dated else "all rows"
    days = {"days": len(found.dated), "newest day": found.dated[-1]} if found.dated else {}
    recent = {day: found.days[day] for day in found.dated[-SHOWN_DAYS:]}
    return {
        **days,
        f"rows, {shown}": sum(one.rows for one in found.window),
        "columns": len(columns_of(found.window)),
        f"columns, {shown}": dg.MetadataValue.md(columns_table(found.window)),
        **({"by day": dg.MetadataValue.md(as_markdown(days_plot(recent, table), table))} if len(recent) > 1 else {}),
    }


def _judged(found: Any, watched: Watched, now: datetime) -> list[dg.AssetCheckResult]:
    """Return the results of the checks. What cannot be judged does not pass; a table that may be empty, and is, is no fault."""
    if watched.may_be_empty and not any(one.rows for one in found.window):
        description = "not applicable: there are no rows, which is no fault of this table"
        return [_result(watched, name, True, description, undecided=False) for name in watched.checks]
    judge = {
        FINITE: found.finite,
        AS_BEFORE: found.as_before,
        FRESH: lambda: found.fresh(now, watched.fresh, last=watched.last),
    }
    return [_result(watched, name, *judge[name]()) for name in watched.checks]


def _result(watched: Watched, name: str, passed: bool, reason: str, undecided: bool) -> dg.AssetCheckResult:
    return warning(name, passed, reason, undecided=undecided, table=keys.profiles(watched.table))
