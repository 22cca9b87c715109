"""Drift: how far is a window from its reference, column by column, and is that worth a person's time.

A p-value flags any large window, and an effect any small one. A column drifts here when there are enough rows, its effect is
above the declared one, chance is ruled out over all columns together (false discovery rate), and it lasts for the declared
number of windows. A fault, such as a frozen source or another unit, is named at once. Columns that cannot be judged say so
and why; they are not "stable".

Everything is judged from profiles, which are small and can be merged: a window of days costs its days, not its rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from ml_assets.evaluation.report import number, table
from ml_assets.monitoring.effects import (
    EXPECTED,
    Spread,
    benjamini_hochberg,
    binned_wasserstein,
    homogeneity_p_value,
    jensen_shannon_distance,
    population_stability_index,
    wasserstein_distance,
)
from ml_assets.monitoring.errors import MonitoringError
from ml_assets.monitoring.profiles import (
    AT_ONCE,
    ColumnProfile,
    Cut,
    Cuts,
    Kind,
    Profile,
    cuts_id,
    cuts_of,
    merge,
    profile,
)

__all__ = [
    "FAULTS",
    "FRAME_SCHEMA",
    "DatasetVerdict",
    "DriftPolicy",
    "DriftReport",
    "FeatureDrift",
    "MonitoringError",
    "Role",
    "Sign",
    "Verdict",
    "drift_verdict",
    "findings",
    "judge",
]

Role = Literal["feature", "prediction", "label"]
Verdict = Literal["drift", "suspected", "stable", "too few rows", "all null", "constant", "missing"]
DatasetVerdict = Literal["drift", "suspected", "stable", "undecided"]
Sign = Literal[
    "shift",
    "null burst",
    "nulls vanished",
    "new categories",
    "vanished categories",
    "unit change",
    "frozen",
    "type change",
    "lost column",
]
FAULTS: frozenset[Sign] = frozenset({"null burst", "unit change", "frozen", "type change", "lost column"})
"""What the world does not do by itself: a source broke. They need no second window, and one is enough for the data set. Nulls
that burst count whatever the effect: where many values are missing already, more of them move an index little."""

NAMED = 5
MOST_ROWS = 50_000
"""Rows of a frame that are sorted: of so many, a distance is known to about a hundredth of a standard deviation."""
UNIT = 20.0
"""Values that are so many times as large, or as small, look like another unit; 1,000 and 60 are the usual ones."""
DOUBT = 5.0
"""And so many times must the quartiles differ too, where they are not 0: one outlier moves the moments alone."""


@dataclass(frozen=True)
class DriftPolicy:
    """When to say "drift".

    minimum_rows: rows needed on either side.
    psi: the population stability index from which on an effect counts. Rule of thumb of credit scoring (Lewis, An
    Introduction to Credit Scoring, 1994; Siddiqi, Credit Risk Scorecards, 2006): below 0.1 no change, 0.1 to 0.25 some, above
    0.25 a major one; 0.2 is the common single limit.
    wasserstein: or the distance in standard deviations of the reference. A shift by half a standard deviation is one of 0.5,
    but a PSI of only about 0.23, which 2,000 rows bring below 0.2 in one window of ten. At 0.35 such a shift is three times
    the noise of 200 rows away, and unshifted samples of 200 rows stay about four times the noise below.
    false_discovery_rate: expected share of false ones among the columns called drifted, by Benjamini & Hochberg; where
    nothing drifted, the probability that any column is called so. It replaces a limit for each column by itself.
    windows: windows in a row that a change must last before it is drift; until then it is suspected. 1 for a single look.
    share: share of judged columns that must drift for the data set to drift. important: columns whose drift alone is enough.
    max_categories: the most categories that get a bin of their own; the rest share one.
    """

    minimum_rows: int = 200
    psi: float = 0.2
    wasserstein: float = 0.35
    false_discovery_rate: float = 0.01
    windows: int = 1
    share: float = 0.3
    important: tuple[str, ...] = ()
    max_categories: int = 20

    def __post_init__(self) -> None:
        _demand(self.minimum_rows >= 1, "minimum_rows", self.minimum_rows, "at least 1")
        _demand(self.psi > 0, "psi", self.psi, "above 0; 0.2 is common")
        _demand(self.wasserstein > 0, "wasserstein", self.wasserstein, "above 0 standard deviations")
        _demand(0 < self.false_discovery_rate < 1, "false_discovery_rate", self.false_discovery_rate, "in (0, 1)")
        _demand(self.windows >= 1, "windows", self.windows, "at least 1")
        _demand(0 < self.share <= 1, "share", self.share, "in (0, 1]")
        _demand(self.max_categories >= 1, "max_categories", self.max_categories, "at least 1")


@dataclass(frozen=True)
class FeatureDrift:
    """What is known of one column. Shares are in [0, 1]; effects are None when they do not apply.

    psi: population stability index over the bins. js_distance: Jensen-Shannon distance over the same bins, base 2, in [0, 1].
    wasserstein: 1-Wasserstein distance of the finite values, in units of the reference's standard deviation. p_value: of a
    chi-square test over the bins; q_value: the same after control over all columns of the report. signs: what the change
    looks like; none where nothing is wrong. persistent: windows in a row that show it, this one included; 0 when it does not.
    """

    feature: str
    kind: Kind
    verdict: Verdict
    reason: str
    role: Role = "feature"
    reference_rows: int = 0
    current_rows: int = 0
    reference_null_share: float | None = None
    current_null_share: float | None = None
    psi: float | None = None
    js_distance: float | None = None
    wasserstein: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    persistent: int = 0
    signs: tuple[Sign, ...] = ()

    @property
    def judged(self) -> bool:
        """True when there was enough to say "drift", "suspected" or "stable"."""
        return self.verdict in ("drift", "suspected", "stable")

    @property
    def faulty(self) -> bool:
        """True when the change looks like a source that broke."""
        return not FAULTS.isdisjoint(self.signs)

    @property
    def alarming(self) -> bool:
        """True for drift, and for a column that the window lost: no column, or no value where there were some."""
        return self.verdict == "drift" or self.faulty


@dataclass(frozen=True)
class DriftReport:
    """The verdict on a window against its reference: of the data set, and of each feature, the prediction and the label."""

    verdict: DatasetVerdict
    reason: str
    reference_rows: int
    current_rows: int
    features: tuple[FeatureDrift, ...]
    policy: DriftPolicy = field(default_factory=DriftPolicy)

    @property
    def drifted(self) -> list[str]:
        """Names of the columns with an alarm, the largest effect first."""
        return [feature.feature for feature in self._ranked() if feature.alarming]

    @property
    def effects(self) -> dict[str, float | None]:
        """The population stability index by column, the largest first (for `drift_plot`)."""
        return {feature.feature: feature.psi for feature in self._ranked()}

    @property
    def by_name(self) -> dict[str, FeatureDrift]:
        """The findings by column: the history that a later window is judged with."""
        return {feature.feature: feature for feature in self.features}

    def to_frame(self) -> pl.DataFrame:
        """One row per column, the fields of FeatureDrift as columns and `alarming`.

        Signs are joined by ", ", and empty where there is no alarm: what is only suspected has its words in `reason`.
        """
        rows = [
            asdict(feature) | {"signs": ", ".join(feature.signs) * feature.alarming, "alarming": feature.alarming}
            for feature in self.features
        ]
        return pl.DataFrame(rows, schema=FRAME_SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain values that JSON can hold."""
        return json.loads(json.dumps(asdict(self), allow_nan=False)) | {"drifted": self.drifted}

    def markdown(self) -> str:
        """The verdict and a table of the columns, alarms first, then by effect."""
        heads = ["column", "verdict", "PSI", "JS", "Wasserstein", "q", "windows", "null before", "null now", "why"]
        rows = [
            [
                f.feature if f.role == "feature" else f"{f.feature} ({f.role})",
                _shout(f),
                *map(number, (f.psi, f.js_distance, f.wasserstein, f.q_value)),
                str(f.persistent) if f.persistent else "",
                *map(_percent, (f.reference_null_share, f.current_null_share)),
                f.reason,
            ]
            for f in self._ranked()
        ]
        rows_text = f"{self.current_rows:,} rows against {self.reference_rows:,} of the reference"
        return f"**{self.verdict.upper()}**: {self.reason} ({rows_text}).\n\n{table(heads, rows)}\n"

    def lines(self) -> list[str]:
        """What is wrong, a line for each column with an alarm or a suspicion, alarms first."""
        told = [one for one in self._ranked() if one.alarming or one.verdict == "suspected"]
        return [f"{one.feature} ({one.verdict}): {one.reason}" for one in told]

    def _ranked(self) -> list[FeatureDrift]:
        return sorted(self.features, key=_rank)


FRAME_SCHEMA: dict[str, Any] = {
    "feature": pl.String,
    "role": pl.String,
    "kind": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "reference_rows": pl.Int64,
    "current_rows": pl.Int64,
    "reference_null_share": pl.Float64,
    "current_null_share": pl.Float64,
    "psi": pl.Float64,
    "js_distance": pl.Float64,
    "wasserstein": pl.Float64,
    "p_value": pl.Float64,
    "q_value": pl.Float64,
    "persistent": pl.Int64,
    "signs": pl.String,
    "alarming": pl.Boolean,
}


class _Side(NamedTuple):
    """One column on one side: its profile, and the edges of its bins if it has some."""

    profile: ColumnProfile
    edges: np.ndarray | None

    @property
    def kind(self) -> Kind:
        return self.profile.kind

    @property
    def rows(self) -> int:
        return self.profile.rows

    @property
    def nulls(self) -> int:
        """Rows without a value; NaN is none."""
        return self.profile.missing

    @property
    def null_share(self) -> float | None:
        return self.profile.missing_share

    @property
    def counts(self) -> Mapping[str, int]:
        return self.profile.categories

    @property
    def value(self) -> str | None:
        return self.profile.value

    @property
    def deviation(self) -> float:
        return self.profile.std or 0.0

    @property
    def size(self) -> float:
        """The root mean square of the finite values, 0 without any."""
        return float(np.hypot(self.profile.mean or 0.0, self.deviation))

    @property
    def spread(self) -> Spread | None:
        """The finite values for the Wasserstein distance, or None without any or without bins."""
        one = self.profile
        if self.edges is None or one.counts is None or one.low is None or one.high is None or one.mean is None:
            return None
        return Spread(one.counts, self.edges, one.low, one.high, one.mean, self.deviation)


class _Bins(NamedTuple):
    reference: np.ndarray
    current: np.ndarray


class _Measured(NamedTuple):
    """A column before the verdict over all of them; what its change would look like, each sign with a sentence."""

    found: FeatureDrift
    signs: Mapping[Sign, str]


Distance = Callable[[str, _Side, _Side], float | None]


def judge(
    reference: Profile,
    current: Profile,
    *,
    features: Sequence[str],
    policy: DriftPolicy | None = None,
    history: Sequence[Mapping[str, FeatureDrift]] = (),
    cuts: Cuts | None = None,
    prediction: str | None = None,
    label: str | None = None,
) -> DriftReport:
    """Compare the profile of a window with that of its reference, column by column.

    Both profiles have counts in the same `cuts`; without these the Wasserstein distance is the difference of the means.
    `history` has the findings of the windows before (`DriftReport.by_name`), the newest last. The columns `prediction` and
    `label` are judged beside the features. Raises a MonitoringError for no column at all, and for profiles of other cuts.
    """
    if reference.cuts != current.cuts:
        raise MonitoringError(
            f"the reference's profile has cuts {reference.cuts!r}, the window's {current.cuts!r}: use the reference's for both"
        )
    roles = _roles(features, prediction, label)
    return _judged(reference, current, roles, policy or DriftPolicy(), history, cuts or {}, _binned)


def drift_verdict(
    reference: pl.DataFrame | pl.LazyFrame,
    current: pl.DataFrame | pl.LazyFrame,
    *,
    features: Sequence[str],
    policy: DriftPolicy | None = None,
    history: Sequence[Mapping[str, FeatureDrift]] = (),
) -> DriftReport:
    """Compare the rows of a window with those of its reference: `judge` on their profiles; only the named columns are read.

    Numbers (and times, as their count of units) are binned at the reference's deciles, with a bin below its minimum and
    one above its maximum; texts, booleans and categories by category, with one bin for the rare and one for the new.
    Null and NaN have a bin of their own. Of more than `MOST_ROWS` rows, the deciles and the Wasserstein distance, which need
    an order, come from every n-th row, so that so many are left; the counts are of all rows.

    Raises a MonitoringError for an empty list of features or for one that is neither numeric nor categorical.
    """
    policy, roles = policy or DriftPolicy(), _roles(features, None, None)
    before, now = (side.lazy().select(_existing(side, features)).collect() for side in (reference, current))
    cuts: dict[str, Cut] = {}
    for name in before.columns:
        cuts |= cuts_of(_thinned(before.select(name)), [name], max_categories=policy.max_categories)
    old, new = (_profiled(side, rows, cuts) for side, rows in ((before, reference), (now, current)))
    return _judged(old, new, roles, policy, history, cuts, partial(_exact, before, now))


def findings(frame: pl.DataFrame) -> dict[str, FeatureDrift]:
    """Return the findings of `DriftReport.to_frame` by column, also from a frame with more columns, or of before with fewer."""
    known = [one.name for one in fields(FeatureDrift) if one.name in frame.columns]
    rows = [row | {"signs": tuple(filter(None, row["signs"].split(", ")))} for row in frame.select(known).to_dicts()]
    return {row["feature"]: FeatureDrift(**row) for row in rows}


def _demand(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise MonitoringError(f"DriftPolicy.{name} is {value!r}: it must be {rule}")


def _roles(features: Sequence[str], prediction: str | None, label: str | None) -> dict[str, Role]:
    roles: dict[str, Role] = dict.fromkeys(features, "feature")
    roles |= {prediction: "prediction"} if prediction else {}
    roles |= {label: "label"} if label else {}
    if not roles:
        raise MonitoringError("features is empty: name the columns to compare")
    return roles


def _thinned(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.gather_every(-(-frame.height // MOST_ROWS)) if frame.height > MOST_ROWS else frame


def _profiled(columns: pl.DataFrame, whole: pl.DataFrame | pl.LazyFrame, cuts: Cuts) -> Profile:
    """The profile, column by column and piece by piece: memory holds no more than a piece beside the rows."""
    rows = columns.height if columns.width else whole.lazy().select(pl.len()).collect().item()
    pieces = list(columns.iter_slices(AT_ONCE)) or [columns]
    parts = [merge([profile(piece, columns=[name], cuts=cuts) for piece in pieces]) for name in columns.columns]
    return Profile(rows, {name: one for part in parts for name, one in part.columns.items()}, cuts_id(cuts))


def _existing(frame: pl.DataFrame | pl.LazyFrame, features: Sequence[str]) -> list[str]:
    there = set(frame.lazy().collect_schema().names())
    return [name for name in dict.fromkeys(features) if name in there]


def _judged(
    reference: Profile,
    current: Profile,
    roles: Mapping[str, Role],
    policy: DriftPolicy,
    history: Sequence[Mapping[str, FeatureDrift]],
    cuts: Cuts,
    distance: Distance,
) -> DriftReport:
    """Measure each column, and decide when all are measured."""
    measured = [
        _measure(name, _side(name, reference, cuts), _side(name, current, cuts), policy, distance)
        if name in reference.columns and name in current.columns
        else _Measured(_missing(name, reference, current), {})
        for name in roles
    ]
    decided = [_decide(one, q, policy, history) for one, q in zip(measured, _q_values(measured), strict=True)]
    found = tuple(replace(one, role=roles[one.feature]) for one in decided)
    return _conclude(found, reference.rows, current.rows, policy)


def _side(name: str, side: Profile, cuts: Cuts) -> _Side:
    cut = cuts.get(name)
    return _Side(side.columns[name], np.array(cut.edges) if cut and cut.edges else None)


def _measure(name: str, before: _Side, now: _Side, policy: DriftPolicy, distance: Distance) -> _Measured:
    if now.kind == "mixed" or (before.kind != now.kind and before.nulls < before.rows and now.nulls < now.rows):
        reason = f"the type changed from {before.profile.dtype} to {now.profile.dtype}"
        return _Measured(_feature(name, before, now, "drift", reason, signs=("type change",)), {})
    unfit = _cannot_judge(name, before, now, policy)
    return _Measured(unfit, {}) if unfit else _compare(name, before, now, policy, distance)


def _cannot_judge(name: str, before: _Side, now: _Side, policy: DriftPolicy) -> FeatureDrift | None:
    fewest = min(before.rows, now.rows)
    if fewest < policy.minimum_rows:
        side = "current window" if now.rows == fewest else "reference"
        reason = f"{fewest:,} rows in the {side}, fewer than {policy.minimum_rows:,}"
        return _feature(name, before, now, "too few rows", reason)
    if now.nulls == now.rows:
        return _all_null(name, before, now)
    if before.value is not None and before.value == now.value and before.nulls == now.nulls == 0:
        reason = f"every value is {before.value} on both sides: nothing to compare"
        return _feature(name, before, now, "constant", reason)
    return None


def _all_null(name: str, before: _Side, now: _Side) -> FeatureDrift:
    if before.nulls == before.rows:
        return _feature(name, before, now, "all null", "every value is null, as in the reference")
    reason = f"every value is null; of the reference {_percent(1 - before.nulls / before.rows)} are not"
    return _feature(name, before, now, "all null", reason, signs=("null burst",))


def _missing(name: str, reference: Profile, current: Profile) -> FeatureDrift:
    lost = name not in current.columns
    sides = {"reference": reference, "current window": current}
    absent = [side for side, found in sides.items() if name not in found.columns]
    return FeatureDrift(
        feature=name,
        kind="unknown",
        verdict="missing",
        reason=f"no such column in the {' and the '.join(absent)}",
        reference_rows=reference.rows,
        current_rows=current.rows,
        signs=("lost column",) if lost else (),
    )


def _feature(
    name: str, before: _Side, now: _Side, verdict: Verdict, reason: str, *, signs: tuple[Sign, ...] = (), **effects: Any
) -> FeatureDrift:
    return FeatureDrift(
        feature=name,
        kind=before.kind if before.kind != "unknown" else now.kind,
        verdict=verdict,
        reason=reason,
        reference_rows=before.rows,
        current_rows=now.rows,
        reference_null_share=before.null_share,
        current_null_share=now.null_share,
        signs=signs,
        **effects,
    )


def _compare(name: str, before: _Side, now: _Side, policy: DriftPolicy, distance: Distance) -> _Measured:
    bins = _bins(before, now, policy.max_categories)
    found = _feature(
        name,
        before,
        now,
        "stable",
        "",
        psi=population_stability_index(bins.reference, bins.current),
        js_distance=jensen_shannon_distance(bins.reference, bins.current),
        wasserstein=distance(name, before, now),
        p_value=homogeneity_p_value(bins.reference, bins.current),
    )
    return _Measured(found, _signs(before, now))


def _bins(before: _Side, now: _Side, most: int) -> _Bins:
    if now.kind != before.kind or now.kind == "unknown":  # a side has no value at all
        return _Bins(*(np.array([side.rows - side.nulls, side.nulls]) for side in (before, now)))
    return _numeric_bins(before, now) if now.kind == "numeric" else _category_bins(before, now, most)


def _numeric_bins(before: _Side, now: _Side) -> _Bins:
    """Counts per bin (edge, next edge]: below the reference's minimum, its deciles, above its maximum; then nulls."""
    binned = before.profile.counts is not None and now.profile.counts is not None
    return _Bins(*(_with_nulls(side, side.profile.counts if binned else None) for side in (before, now)))


def _with_nulls(side: _Side, counts: np.ndarray | None) -> np.ndarray:
    return np.append(np.array([side.rows - side.nulls]) if counts is None else counts, side.nulls)


def _category_bins(before: _Side, now: _Side, most: int) -> _Bins:
    """Counts per common category of the reference, of its rare ones together, of new ones together, and of nulls.

    Common are at most `most` categories, each expected at least five times on either side (Cochran, Biometrics 10,
    1954). A small reference has not seen everything: as many new rows are expected as it has rows whose category occurs
    once (Good, Biometrika 40, 1953), so these count as its new ones.
    """
    least = EXPECTED * max(1.0, before.rows / now.rows)
    ranked = sorted(before.counts, key=lambda category: (-before.counts[category], category))
    common = [category for category in ranked[:most] if before.counts[category] >= least]
    once = sum(rows == 1 for rows in before.counts.values())
    reference, current = _count(before, common, before.counts), _count(now, common, before.counts)
    return _Bins(reference + np.array([*[0] * len(common), -once, once, 0]), current)


def _count(side: _Side, common: Sequence[str], known: Mapping[str, int]) -> np.ndarray:
    each = [side.counts.get(category, 0) for category in common]
    new = sum(rows for category, rows in side.counts.items() if category not in known)
    return np.array([*each, side.rows - side.nulls - new - sum(each), new, side.nulls])


def _binned(name: str, before: _Side, now: _Side) -> float | None:
    """The Wasserstein distance in standard deviations of the reference, from the profiles alone."""
    if now.kind != "numeric" or not before.deviation or before.profile.mean is None or now.profile.mean is None:
        return None
    old, new = before.spread, now.spread
    apart = binned_wasserstein(old, new) if old and new else abs(before.profile.mean - now.profile.mean)
    return float(apart / before.deviation)


def _exact(reference: pl.DataFrame, current: pl.DataFrame, name: str, before: _Side, now: _Side) -> float | None:
    """The Wasserstein distance in standard deviations of the reference, from the rows."""
    if now.kind != "numeric" or not before.deviation or not now.profile.finite:
        return None
    return wasserstein_distance(_ordered(reference, name), _ordered(current, name)) / before.deviation


def _ordered(frame: pl.DataFrame, name: str) -> np.ndarray:
    """The finite values of one column, sorted, of at most `MOST_ROWS` rows."""
    values = _thinned(frame.select(name)).to_series().to_physical().cast(pl.Float64)
    return np.sort(values.filter(values.is_finite()).to_numpy())


def _q_values(measured: Sequence[_Measured]) -> list[float | None]:
    tested = [place for place, one in enumerate(measured) if one.found.p_value is not None]
    found: list[float | None] = [None] * len(measured)
    adjusted = benjamini_hochberg(np.array([measured[place].found.p_value for place in tested]))
    for place, q in zip(tested, adjusted, strict=True):
        found[place] = float(q)
    return found


def _decide(
    measured: _Measured, q: float | None, policy: DriftPolicy, history: Sequence[Mapping[str, FeatureDrift]]
) -> FeatureDrift:
    found = replace(measured.found, q_value=q)
    if q is None:
        return replace(found, persistent=_in_a_row(found.feature, history)) if found.alarming else found
    above = _above(found, policy)
    if not above and "null burst" not in measured.signs:
        return replace(found, reason=f"PSI {found.psi:.3g} is within {policy.psi:.3g}")
    if q > policy.false_discovery_rate:
        return replace(
            found, reason=f"{', '.join(above) or measured.signs['null burst']}; chance alone may do that (q = {q:.2g})"
        )
    lasted, signs = _in_a_row(found.feature, history), tuple(measured.signs) or ("shift",)
    known = lasted >= policy.windows or not FAULTS.isdisjoint(signs)
    reason = "; ".join([*above, *measured.signs.values(), *([] if known else [f"window {lasted} of {policy.windows}"])])
    return replace(found, verdict="drift" if known else "suspected", reason=reason, signs=signs, persistent=lasted)


def _above(found: FeatureDrift, policy: DriftPolicy) -> list[str]:
    """What is above the declared effects, in words."""
    limits = (("PSI", found.psi, policy.psi), ("Wasserstein", found.wasserstein, policy.wasserstein))
    return [
        f"{name} {value:.3g} is above {limit:.3g}"
        for name, value, limit in limits
        if value is not None and value > limit
    ]


def _in_a_row(name: str, history: Sequence[Mapping[str, FeatureDrift]]) -> int:
    """How many windows in a row changed, this one included; one that could not be judged neither adds nor ends."""
    count = 1
    for earlier in (window.get(name) for window in reversed(history)):
        if earlier is None or (earlier.judged and not earlier.persistent):
            break
        count += earlier.persistent > 0
    return count


def _signs(before: _Side, now: _Side) -> dict[Sign, str]:
    """What a drift looks like, by name, each with a sentence for a person."""
    found = _null_signs(before, now)
    if now.value is not None and before.value is None:
        found["frozen"] = f"every value is {now.value}: a frozen source?"
    if now.kind == "numeric":
        return found | _unit_sign(before, now)
    return found | _category_signs(before, now)


def _null_signs(before: _Side, now: _Side) -> dict[Sign, str]:
    old, new = before.nulls / before.rows, now.nulls / now.rows
    text = f"nulls went from {_percent(old)} to {_percent(new)}"
    if new - old > 0.05 and new > 2 * old:
        return {"null burst": text}
    return {"nulls vanished": text} if old - new > 0.05 and old > 2 * new else {}


def _unit_sign(before: _Side, now: _Side) -> dict[Sign, str]:
    ratio = _ratio(before.size, now.size)
    if ratio is None or 1 / UNIT < ratio < UNIT:
        return {}
    middle = _ratio(_quartiles(before), _quartiles(now))
    if middle is not None and 1 / DOUBT < middle < DOUBT:
        return {}
    return {"unit change": f"values are about {ratio:.3g} times the reference's: another unit?"}


def _ratio(old: float, new: float) -> float | None:
    return new / old if old > 0 and new > 0 and np.isfinite(old) and np.isfinite(new) else None


def _quartiles(side: _Side) -> float:
    """How far the quartiles are from 0: a size that outliers do not move."""
    spread = side.spread
    return max(abs(spread.quantile(0.25)), abs(spread.quantile(0.75))) if spread else 0.0


def _category_signs(before: _Side, now: _Side) -> dict[Sign, str]:
    new = {category: rows for category, rows in now.counts.items() if category not in before.counts}
    expected = {category: rows / before.rows * now.rows for category, rows in before.counts.items()}
    gone = {category: rows for category, rows in expected.items() if rows >= 10 and category not in now.counts}
    found: dict[Sign, str] = {}
    if new:
        found["new categories"] = f"new in {_percent(sum(new.values()) / now.rows)} of rows: {_largest(new)}"
    if gone:
        found["vanished categories"] = f"gone, once {_percent(sum(gone.values()) / now.rows)} of rows: {_largest(gone)}"
    return found


def _largest(categories: Mapping[str, float]) -> str:
    ranked = sorted(categories, key=lambda category: (-categories[category], category))
    more = f" and {len(ranked) - NAMED} more" if len(ranked) > NAMED else ""
    return ", ".join(ranked[:NAMED]) + more


def _conclude(found: tuple[FeatureDrift, ...], before: int, now: int, policy: DriftPolicy) -> DriftReport:
    alarms = [one for one in found if one.alarming]
    weighed = [one.feature for one in found if one.judged or one.alarming]
    told = [f"{len(alarms)} of {len(weighed)} judged columns drifted{_named([one.feature for one in alarms])}"]
    verdict: DatasetVerdict = "stable"
    if _enough(alarms, len(weighed), policy):
        verdict, told = "drift", [*told, *_alone(alarms, len(weighed), policy)]
    elif suspects := [one for one in found if one.verdict == "suspected"]:
        told.append(f"{len(suspects)} suspected{_named([one.feature for one in suspects])}")
        verdict = "suspected" if _enough([*alarms, *suspects], len(weighed), policy) else "stable"
    if verdict == "stable" and not any(one.judged for one in found):
        verdict, told = "undecided", ["no column could be judged"]
    return DriftReport(verdict, "; ".join([*told, *_unjudged(found)]), before, now, found, policy)


def _enough(changed: Sequence[FeatureDrift], judged: int, policy: DriftPolicy) -> bool:
    """Whether so many columns, or one of these, make the data set drift."""
    return bool(changed) and (len(changed) / judged >= policy.share or bool(_alone(changed, judged, policy)))


def _alone(changed: Sequence[FeatureDrift], judged: int, policy: DriftPolicy) -> list[str]:
    """Which columns are enough by themselves, in words: faults, and the important ones when the others are too few."""
    faults = [
        f"{one.feature} ({', '.join(sign for sign in one.signs if sign in FAULTS)})" for one in changed if one.faulty
    ]
    key = [one.feature for one in changed if one.feature in policy.important]
    few = len(changed) / judged < policy.share
    return [f"faults{_named(faults)}"] * bool(faults) + [f"{_names(key)} alone is enough"] * bool(key and few)


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"


def _named(names: Sequence[str]) -> str:
    return f": {_names(names)}" if names else ""


def _unjudged(found: Sequence[FeatureDrift]) -> list[str]:
    counts = Counter(one.verdict for one in found if not one.judged)
    return [f"{count} {verdict}" for verdict, count in counts.items()]


def _rank(one: FeatureDrift) -> tuple[Any, ...]:
    return not one.alarming, one.verdict != "suspected", -(one.psi if one.psi is not None else -1.0), one.feature


def _shout(feature: FeatureDrift) -> str:
    return f"**{feature.verdict}**" if feature.alarming else feature.verdict


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
