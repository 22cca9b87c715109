"""Drift of features: how far is the current window from the reference, in numbers that do not grow with the rows.

A p-value flags any large window; here a feature drifts when its population stability index is above the declared effect
*and* above what chance alone gives at this number of rows. Columns that cannot be judged say so and why; they are not
"stable".
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from ml_assets.evaluation.report import number, table
from ml_assets.monitoring.errors import MonitoringError

Kind = Literal["numeric", "categorical", "unknown"]
Verdict = Literal["drift", "stable", "too few rows", "all null", "constant", "missing"]
DatasetVerdict = Literal["drift", "stable", "undecided"]
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

DECILES = np.arange(0.1, 0.95, 0.1)
PRIOR = 0.5
EXPECTED = 5
NAMED = 5


@dataclass(frozen=True)
class DriftPolicy:
    """When to say "drift".

    psi: the least population stability index that counts. Rule of thumb of credit scoring (Lewis, An Introduction to
    Credit Scoring, 1994; Siddiqi, Credit Risk Scorecards, 2006): below 0.1 no change, 0.1 to 0.25 some, above 0.25 a
    major one; 0.2 is the common single limit.
    chance: probability that a feature that did not drift is above the chance limit, which matters for few rows.
    minimum_rows: rows needed on either side. share: share of judged features that must drift for the data set to drift.
    important: features whose drift alone is enough. max_categories: the most categories that get a bin of their own;
    the rest share one.
    """

    minimum_rows: int = 200
    psi: float = 0.2
    share: float = 0.3
    chance: float = 0.001
    important: tuple[str, ...] = ()
    max_categories: int = 20

    def __post_init__(self) -> None:
        _demand(self.minimum_rows >= 1, "minimum_rows", self.minimum_rows, "at least 1")
        _demand(self.psi > 0, "psi", self.psi, "above 0; 0.2 is common")
        _demand(0 < self.share <= 1, "share", self.share, "in (0, 1]")
        _demand(0 < self.chance < 1, "chance", self.chance, "in (0, 1)")
        _demand(self.max_categories >= 1, "max_categories", self.max_categories, "at least 1")


@dataclass(frozen=True)
class FeatureDrift:
    """What is known of one feature. Shares are in [0, 1]; effects are None when they do not apply.

    psi: population stability index over the bins. psi_limit: what it had to exceed. js_distance: Jensen-Shannon
    distance over the same bins, base 2, in [0, 1]. wasserstein: 1-Wasserstein distance of the finite values, in units
    of the reference's standard deviation. signs: what the change looks like; none where nothing is wrong.
    """

    feature: str
    kind: Kind
    verdict: Verdict
    reason: str
    reference_rows: int = 0
    current_rows: int = 0
    reference_null_share: float | None = None
    current_null_share: float | None = None
    psi: float | None = None
    psi_limit: float | None = None
    js_distance: float | None = None
    wasserstein: float | None = None
    signs: tuple[Sign, ...] = ()

    @property
    def judged(self) -> bool:
        """True when there was enough to say "drift" or "stable"."""
        return self.verdict in ("drift", "stable")

    @property
    def alarming(self) -> bool:
        """True for drift, and for a feature that the window lost: no column, or no value where there were some."""
        return bool(self.signs)


@dataclass(frozen=True)
class DriftReport:
    """The verdict on a window against its reference: of the data set, and of each feature."""

    verdict: DatasetVerdict
    reason: str
    reference_rows: int
    current_rows: int
    features: tuple[FeatureDrift, ...]
    policy: DriftPolicy = field(default_factory=DriftPolicy)

    @property
    def drifted(self) -> list[str]:
        """Names of the features with an alarm, the largest effect first."""
        return [feature.feature for feature in self._ranked() if feature.alarming]

    @property
    def effects(self) -> dict[str, float | None]:
        """The population stability index by feature, the largest first (for `drift_plot`)."""
        return {feature.feature: feature.psi for feature in self._ranked()}

    def to_frame(self) -> pl.DataFrame:
        """One row per feature, the fields of FeatureDrift as columns; signs are joined by ", "."""
        rows = [asdict(feature) | {"signs": ", ".join(feature.signs)} for feature in self.features]
        return pl.DataFrame(rows, schema=FRAME_SCHEMA)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain values that JSON can hold."""
        return json.loads(json.dumps(asdict(self), allow_nan=False)) | {"drifted": self.drifted}

    def markdown(self) -> str:
        """The verdict and a table of the features, alarms first, then by effect."""
        heads = ["feature", "verdict", "PSI", "limit", "JS", "Wasserstein", "null before", "null now", "why"]
        rows = [
            [
                f.feature,
                _shout(f),
                *map(number, (f.psi, f.psi_limit, f.js_distance, f.wasserstein)),
                *map(_percent, (f.reference_null_share, f.current_null_share)),
                f.reason,
            ]
            for f in self._ranked()
        ]
        rows_text = f"{self.current_rows:,} rows against {self.reference_rows:,} of the reference"
        return f"**{self.verdict.upper()}**: {self.reason} ({rows_text}).\n\n{table(heads, rows)}\n"

    def _ranked(self) -> list[FeatureDrift]:
        return sorted(self.features, key=lambda f: (not f.alarming, -(f.psi if f.psi is not None else -1.0), f.feature))


FRAME_SCHEMA: dict[str, Any] = {
    "feature": pl.String,
    "kind": pl.String,
    "verdict": pl.String,
    "reason": pl.String,
    "reference_rows": pl.Int64,
    "current_rows": pl.Int64,
    "reference_null_share": pl.Float64,
    "current_null_share": pl.Float64,
    "psi": pl.Float64,
    "psi_limit": pl.Float64,
    "js_distance": pl.Float64,
    "wasserstein": pl.Float64,
    "signs": pl.String,
}


class _Side(NamedTuple):
    """One column on one side, reduced to what the comparison needs: sorted numbers, or a count per category."""

    kind: Kind
    rows: int
    nulls: int
    numbers: np.ndarray
    counts: Mapping[str, int]

    @property
    def null_share(self) -> float | None:
        return self.nulls / self.rows if self.rows else None

    @property
    def value(self) -> str | None:
        """The only value of the column, spelled out, or None when there are none or several."""
        if self.kind == "numeric":
            same = len(self.numbers) > 0 and self.numbers[0] == self.numbers[-1]
            return f"{self.numbers[0]:g}" if same else None
        return next(iter(self.counts)) if len(self.counts) == 1 else None


class _Window(NamedTuple):
    """The columns of one side that exist, by name, and its number of rows."""

    rows: int
    columns: Mapping[str, pl.Series]


class _Effects(NamedTuple):
    psi: float
    psi_limit: float
    js_distance: float
    wasserstein: float | None


class _Bins(NamedTuple):
    reference: np.ndarray
    current: np.ndarray


def drift_verdict(
    reference: pl.DataFrame | pl.LazyFrame,
    current: pl.DataFrame | pl.LazyFrame,
    *,
    features: Sequence[str],
    policy: DriftPolicy | None = None,
) -> DriftReport:
    """Compare the window `current` with `reference`, feature by feature; only the named columns are read.

    Numbers (and times, as their count of units) are binned at the reference's deciles, with a bin below its minimum and
    one above its maximum; texts, booleans and categories by category, with one bin for the rare and one for the new.
    Null and NaN have a bin of their own.

    Raises a MonitoringError for an empty list of features or for one that is neither numeric nor categorical.
    """
    if not features:
        raise MonitoringError("features is empty: name the columns to compare")
    policy = policy or DriftPolicy()
    before, now = _read(reference, features), _read(current, features)
    found = tuple(_judge(name, before, now, policy) for name in features)
    return _conclude(found, before.rows, now.rows, policy)


def population_stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """PSI of two arrays of row counts over the same bins: sum of (c - r) ln(c / r) of shares, 0 for equal shares.

    So that an empty bin has a finite effect, each bin gets half a row of the side with fewer rows (the Jeffreys prior
    of a multinomial), and the same share on the other side. Source: Siddiqi 2006, see DriftPolicy.
    """
    prior = PRIOR / min(reference.sum(), current.sum())
    r, c = ((counts / counts.sum() + prior) / (1 + prior * len(counts)) for counts in (reference, current))
    return float(np.sum((c - r) * np.log(c / r)))


def jensen_shannon_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """Jensen-Shannon distance, base 2, in [0, 1], of two arrays of row counts over the same bins.

    Square root of the divergence; Endres & Schindelin, IEEE Trans. Inf. Theory 49, 2003.
    """
    r, c = reference / reference.sum(), current / current.sum()
    middle = (r + c) / 2
    halves = [np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0])) for side in (r, c)]
    return float(np.sqrt(max(sum(halves) / 2, 0.0)))


def wasserstein_distance(reference: np.ndarray, current: np.ndarray) -> float:
    """1-Wasserstein distance of two *sorted* arrays of finite numbers: the area between their distribution functions.

    In the unit of the numbers, exact up to rounding. Source: Vallender, Theory Probab. Appl. 18, 1974. Between two
    neighbours of the smaller array its distribution function is flat, so the larger one's is integrated there in closed
    form from running sums: a sum and a few binary searches instead of a merge of the two.
    """
    many, few = (reference, current) if len(reference) >= len(current) else (current, reference)
    middle = many[len(many) // 2]
    many, few = many - middle, few - middle
    n, sums = len(many), np.concatenate([[0.0], np.cumsum(many)])
    level = np.arange(len(few) + 1) / len(few)
    ends = np.concatenate([[min(many[0], few[0])], few, [max(many[-1], few[-1])]])
    rank = np.clip(np.ceil(level * n - 1e-9).astype(int) - 1, 0, n - 1)
    crossing = np.clip(many[rank], ends[:-1], ends[1:])

    def below(points: np.ndarray) -> np.ndarray:
        """The integral of the larger array's distribution function up to each point."""
        found = np.searchsorted(many, points, side="right")
        return (found * points - sums[found]) / n

    at_ends, at_crossing = below(ends), below(crossing)
    under = level * (crossing - ends[:-1]) - (at_crossing - at_ends[:-1])
    over = (at_ends[1:] - at_crossing) - level * (ends[1:] - crossing)
    return max(float(np.sum(under + over)), 0.0)


def chance_limit(bins: int, reference_rows: int, current_rows: int, chance: float) -> float:
    """The PSI that two samples of the same population exceed with probability `chance`.

    PSI is about chi-square(bins - 1) times (1/n + 1/m): Yurdakul, Statistical Properties of Population Stability Index,
    Western Michigan University, 2018. The chi-square quantile is Wilson & Hilferty's (PNAS 17, 1931), good to 4 %.
    """
    if bins < 2:
        return 0.0
    freedom = bins - 1
    small = 2 / (9 * freedom)
    quantile = freedom * (1 - small + NormalDist().inv_cdf(1 - chance) * small**0.5) ** 3
    return quantile * (1 / reference_rows + 1 / current_rows)


def _demand(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise MonitoringError(f"DriftPolicy.{name} is {value!r}: it must be {rule}")


def _read(frame: pl.DataFrame | pl.LazyFrame, features: Sequence[str]) -> _Window:
    lazy = frame.lazy()
    existing = set(lazy.collect_schema().names())
    present = lazy.select([name for name in dict.fromkeys(features) if name in existing])
    rows, columns = pl.collect_all([lazy.select(pl.len()), present])
    return _Window(rows.item(), {column.name: column for column in columns})


def _judge(name: str, reference: _Window, current: _Window, policy: DriftPolicy) -> FeatureDrift:
    if name not in reference.columns or name not in current.columns:
        return _missing(name, reference, current)
    old, new = reference.columns[name], current.columns[name]
    before, now = _side(old), _side(new)
    if before.kind != now.kind and before.nulls < before.rows and now.nulls < now.rows:
        reason = f"the type changed from {old.dtype} to {new.dtype}"
        return _feature(name, before, now, "drift", reason, signs=("type change",))
    return _cannot_judge(name, before, now, policy) or _compare(name, before, now, policy)


def _side(column: pl.Series) -> _Side:
    kind = _kind(column)
    if kind == "numeric":
        values = column.to_physical().cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
        return _Side(kind, len(column), len(column) - len(values), np.sort(values), {})
    counted = column.alias("value").cast(pl.String).drop_nulls().value_counts(name="rows")
    counts = dict(zip(counted["value"].to_list(), counted["rows"].to_list(), strict=True))
    return _Side(kind, len(column), column.null_count(), np.empty(0), counts)


def _kind(column: pl.Series) -> Kind:
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        return "numeric"
    if column.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
        return "categorical"
    if column.dtype == pl.Null:
        return "unknown"
    raise MonitoringError(f"feature {column.name!r} is {column.dtype}: give a number, time, text or boolean")


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


def _missing(name: str, reference: _Window, current: _Window) -> FeatureDrift:
    lost = name not in current.columns
    sides = {"reference": reference, "current window": current}
    absent = [side for side, window in sides.items() if name not in window.columns]
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
    name: str,
    before: _Side,
    now: _Side,
    verdict: Verdict,
    reason: str,
    *,
    signs: tuple[Sign, ...] = (),
    effects: _Effects | None = None,
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
        **(effects._asdict() if effects else {}),
    )


def _compare(name: str, before: _Side, now: _Side, policy: DriftPolicy) -> FeatureDrift:
    numeric = now.kind == "numeric"
    bins = _numeric_bins(before, now) if numeric else _category_bins(before, now, policy.max_categories)
    psi = population_stability_index(bins.reference, bins.current)
    used = int(np.count_nonzero(bins.reference + bins.current))
    limit = max(policy.psi, chance_limit(used, before.rows, now.rows, policy.chance))
    effects = _Effects(
        psi=psi,
        psi_limit=limit,
        js_distance=jensen_shannon_distance(bins.reference, bins.current),
        wasserstein=_normalized_wasserstein(before, now) if numeric else None,
    )
    if psi <= limit:
        return _feature(name, before, now, "stable", f"PSI {psi:.3g} is within {limit:.3g}", effects=effects)
    signs = _signs(before, now)
    reason = "; ".join([f"PSI {psi:.3g} is above {limit:.3g}", *signs.values()])
    return _feature(name, before, now, "drift", reason, signs=tuple(signs) or ("shift",), effects=effects)


def _numeric_bins(before: _Side, now: _Side) -> _Bins:
    """Counts per bin (edge, next edge]: below the reference's minimum, its deciles, above its maximum; then nulls."""
    edges = _edges(before.numbers)
    return _Bins(*(np.append(_histogram(side.numbers, edges), side.nulls) for side in (before, now)))


def _edges(ordered: np.ndarray) -> np.ndarray:
    if len(ordered) == 0:
        return np.empty(0)
    deciles = ordered[np.minimum((DECILES * len(ordered)).astype(int), len(ordered) - 1)]
    return np.unique(np.concatenate([[np.nextafter(ordered[0], -np.inf)], deciles, [ordered[-1]]]))


def _histogram(ordered: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.diff(np.searchsorted(ordered, edges, side="right"), prepend=0, append=len(ordered))


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


def _normalized_wasserstein(before: _Side, now: _Side) -> float | None:
    reference, current = (side.numbers[np.isfinite(side.numbers)] for side in (before, now))
    spread = float(np.std(reference)) if len(reference) else 0.0
    return wasserstein_distance(reference, current) / spread if spread > 0 and len(current) else None


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
    old, new = (float(np.median(np.abs(side.numbers))) if len(side.numbers) else 0.0 for side in (before, now))
    if not (np.isfinite(old) and np.isfinite(new) and old > 0 and new > 0) or 0.05 < new / old < 20:
        return {}
    return {"unit change": f"values are about {new / old:.3g} times the reference's: another unit?"}


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
    alarms = [feature.feature for feature in found if feature.alarming]
    weighed = [feature for feature in found if feature.judged or feature.alarming]
    key = [name for name in alarms if name in policy.important]
    share = len(alarms) / len(weighed) if weighed else 0.0
    told = f"{len(alarms)} of {len(weighed)} judged features drifted{_named(alarms)}"
    verdict: DatasetVerdict = "drift" if alarms and (share >= policy.share or key) else "stable"
    if not any(feature.judged for feature in found) and verdict == "stable":
        verdict, told = "undecided", "no feature could be judged"
    because = f"; {_named(key).strip(': ')} alone is enough" if key and share < policy.share else ""
    return DriftReport(verdict, told + because + _unjudged(found), before, now, found, policy)


def _named(names: Sequence[str]) -> str:
    return f": {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}" if names else ""


def _unjudged(found: Sequence[FeatureDrift]) -> str:
    counts = Counter(feature.verdict for feature in found if not feature.judged)
    return "".join(f"; {count} {verdict}" for verdict, count in counts.items())


def _shout(feature: FeatureDrift) -> str:
    return f"**{feature.verdict}**" if feature.alarming else feature.verdict


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
