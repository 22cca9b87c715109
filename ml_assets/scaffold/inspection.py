"""What a person should look at before a model is trained: leaks first, then all that makes a model worse than its score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import polars as pl

from ml_assets.scaffold.columns import Column, is_code
from ml_assets.scaffold.dialect import number_pattern
from ml_assets.scaffold.inference import KEY_WORDS, MOMENT, Inferred
from ml_assets.scaffold.leaks import PURE, filled_by_outcome, single_scores
from ml_assets.scaffold.names import listed
from ml_assets.scaffold.personal import personal
from ml_assets.tasks.alone import CERTAIN

Severity = Literal["alarm", "warning", "note"]
LeftOut = Literal["", "ignored", "dropped"]
ORDER: tuple[Severity, ...] = ("alarm", "warning", "note")

SUSPECT = 0.97
"""Score of a column alone from which it is suspected; from `CERTAIN` on it is left out until a person puts it back."""
LATER = 0.01
"""Share of rows in which a time lies after the event."""
NEARLY_UNIQUE = 0.95
IMBALANCED = 0.05
MANY_NULLS = 0.5
MANY_CATEGORIES = 50
SMALL = 500
MIXED = 0.8
"""Share of a text's distinct values that are numbers, from which the others are rather mistakes."""
GAP = 10
"""Times the median distance between two moments, from which a distance is a gap; and at least a twentieth of the whole."""


@dataclass(frozen=True)
class Finding:
    """One thing to look at. `column` is the safe name, empty for the table. `left_out` tells what became of the column:

    "ignored" is in the feature view but not learned from (one line of the declaration puts it back), "dropped" is not
    in it at all.
    """

    code: str
    column: str
    severity: Severity
    seen: str
    advice: str
    left_out: LeftOut = ""


def inspect(inferred: Inferred, *, now: datetime | None = None) -> list[Finding]:
    """Return what a person should look at, the worst first. Without `now`, times in the future are not looked for."""
    dropped = [*_personal(inferred), *_constants(inferred), *_duplicate_columns(inferred), *_texts(inferred)]
    found = [*dropped, *_leaks(inferred)]
    found += _identifiers(inferred, {item.column for item in found})
    found += [item for look in TABLE_LOOKS for item in look(inferred)]
    if now is not None:
        found += _future(inferred, now)
    out = {item.column for item in found if item.left_out}
    found = [item for item in found if item.left_out or item.column not in out or item.code == "personal"]
    return sorted(found, key=lambda item: ORDER.index(item.severity))


# -- leaks -------------------------------------------------------------------------------------------------------------


def _leaks(inferred: Inferred) -> list[Finding]:
    """Return one finding for each column that knows the target too well, the strongest."""
    found: dict[str, Finding] = {}
    for item in (*_filled(inferred), *_later(inferred), *_predicting(inferred)):
        found.setdefault(item.column, item)
    return list(found.values())


def _leak(column: str, seen: str, score: float, code: str = "leak") -> Finding:
    sure = score >= CERTAIN
    advice = (
        "it is left out: put it back if it is known before the event"
        if sure
        else "leave it out if it is known only after"
    )
    return Finding(code, column, "alarm", seen, advice, "ignored" if sure else "")


def _predicting(inferred: Inferred) -> Iterator[Finding]:
    unit = "R²" if inferred.outcome.kind == "regression" else "AUC"
    for name, score in single_scores(inferred).items():
        if score >= SUSPECT:
            yield _leak(name, f"alone it predicts the target with {unit} {score:.3f}", score)


def _filled(inferred: Inferred) -> Iterator[Finding]:
    for column, seen, share in filled_by_outcome(inferred, inferred.candidates):
        yield _leak(column.safe, seen, share if share < PURE else 1.0, "filled_after")


def _later(inferred: Inferred) -> Iterator[Finding]:
    if inferred.time is None:
        return
    for column in inferred.candidates:
        if column.kind == "moment" and column.safe != inferred.time:
            moment = pl.col(column.safe).cast(pl.Datetime("us"))
            later = (moment > pl.col(MOMENT).dt.replace_time_zone(None)).mean()
            share = inferred.frame.select(later).item() or 0.0
            if share > LATER:
                seen = f"it lies after {inferred.time} in {share:.0%} of the rows where it is filled"
                yield _leak(column.safe, seen, 1.0, "after_event")


# -- columns that teach nothing ------------------------------------------------------------------------------------------


def _personal(inferred: Inferred) -> Iterator[Finding]:
    for column in inferred.columns:
        what = personal(column, inferred.frame[column.safe])
        if not what:
            continue
        needed = column.safe in (inferred.key, inferred.entity, inferred.group, inferred.target, inferred.time)
        stays = needed or column.kind == "moment"
        advice = "it is marked as personal data" + ("" if stays else ", and left out of the features")
        yield Finding(
            "personal", column.safe, "warning", f"it seems to hold {what}", advice, "" if stays else "dropped"
        )


def _constants(inferred: Inferred) -> Iterator[Finding]:
    for column in inferred.columns:
        if column.kind == "empty":
            yield Finding("empty", column.safe, "note", "it has no value in any row", "it is left out", "dropped")
    for column in inferred.candidates:
        if column.distinct == 1 and not column.nulls:
            value = inferred.frame[column.safe][0]
            yield Finding("constant", column.safe, "note", f"it is {value!r} in every row", "it is left out", "dropped")


def _duplicate_columns(inferred: Inferred) -> Iterator[Finding]:
    """Compare columns by a hash of their values in order first."""
    place = pl.int_range(pl.len(), dtype=pl.UInt64) * 2 + 1
    columns = [column for column in inferred.candidates if column.distinct > 1]
    if not columns:
        return
    hashes = inferred.frame.select((pl.col(column.safe).hash() * place).sum() for column in columns).row(0)
    first: dict[tuple[object, ...], str] = {}
    for column, digest in zip(columns, hashes, strict=True):
        values = inferred.frame[column.safe]
        other = first.setdefault((digest, str(values.dtype)), column.safe)
        if other != column.safe and values.equals(inferred.frame[other]):
            yield Finding("duplicate", column.safe, "note", f"it is the same as {other}", "it is left out", "dropped")


def _texts(inferred: Inferred) -> Iterator[Finding]:
    for column in inferred.candidates:
        if column.kind == "text":
            seen = f"it is text to read, {column.distinct:,} distinct"
            advice = "it is left out: derive a number or a category from it in features.py"
            yield Finding("text", column.safe, "warning", seen, advice, "dropped")


def _identifiers(inferred: Inferred, taken: set[str]) -> Iterator[Finding]:
    for column in inferred.candidates:
        given = inferred.frame.height - column.nulls
        if column.safe in taken or column.safe == inferred.entity or not given:
            continue
        if _is_identifier(column, inferred.frame[column.safe], given):
            seen = f"it is different in {column.distinct:,} of {given:,} rows, and seems to name them"
            yield Finding(
                "identifier", column.safe, "note", seen, "it is left out: put it back if it measures", "ignored"
            )


def _is_identifier(column: Column, values: pl.Series, given: int) -> bool:
    if column.distinct < NEARLY_UNIQUE * given:
        return False
    if column.kind == "category":
        return True
    if column.kind != "number" or not values.dtype.is_integer() or column.distinct < given:
        return False
    called = bool(KEY_WORDS & set(column.safe.strip("_").split("_"))) or is_code(column.safe)
    return called or int(values.max()) - int(values.min()) + 1 == given  # type: ignore[arg-type]


# -- the table ---------------------------------------------------------------------------------------------------------


def _duplicate_rows(inferred: Inferred) -> Iterator[Finding]:
    columns = [column.safe for column in inferred.columns if column.safe != inferred.key]
    same = inferred.frame.height - inferred.frame.select(columns).n_unique()
    if same:
        but = "" if inferred.generated_key else f" but for {inferred.key}"
        advice = "a random split keeps them on one side; remove them if they are mistakes"
        yield Finding("duplicate_rows", "", "warning", f"{same:,} rows repeat another one{but}", advice)


def _imbalance(inferred: Inferred) -> Iterator[Finding]:
    target = inferred.target
    if target is None or inferred.outcome.kind != "classification":
        return
    outcomes = inferred.outcomes
    assert outcomes is not None
    place, count = outcomes.drop_nulls().value_counts().sort("count").row(0)
    share = count / outcomes.count()
    if share < IMBALANCED:
        names = inferred.outcome.classes or (inferred.outcome.negative, inferred.outcome.positive)
        seen = f"{names[int(place)]!r} is {share:.1%} of the rows"
        yield Finding("imbalance", target, "warning", seen, "accuracy says little; look at pr_auc and choose value")


def _skew(inferred: Inferred) -> Iterator[Finding]:
    if inferred.outcome.skewed and inferred.target:
        values = inferred.frame[inferred.target].drop_nulls()
        typical, most = (values.cast(pl.Float64).quantile(share) for share in (0.5, 1.0))
        seen = f"it is skewed: the median is {typical:,.6g}, the highest {most:,.6g}"
        yield Finding(
            "skewed", inferred.target, "warning", seen, "success is measured as mae, which few rows do not decide"
        )


def _mixed(inferred: Inferred) -> Iterator[Finding]:
    """Find text that is mostly numbers, as it is or with a unit."""
    dialect = inferred.table.dialect
    for column in inferred.candidates:
        if column.kind != "category" or column.categories or column.safe in (inferred.entity, inferred.group):
            continue
        distinct = inferred.frame[column.safe].drop_nulls().unique(maintain_order=True)
        plain = distinct.str.replace_all(r"^[$€£]\s?|\s?(?:%|[$€£]|[a-zA-Z]{1,3})$", "").str.strip_chars()
        pattern = number_pattern(dialect.decimal, dialect.thousands)
        good, bare = plain.str.contains(pattern), distinct.str.contains(pattern)
        if (good.mean() or 0) >= MIXED and not bare.all():  # type: ignore[operator]
            others = distinct.filter(~bare).head(3)
            seen = f"it is text, but mostly numbers; not {listed(repr(value) for value in others)}"
            yield Finding(
                "mixed", column.safe, "warning", seen, "correct the values, or add what stands for none to null_values"
            )


def _categories(inferred: Inferred) -> Iterator[Finding]:
    for column in inferred.candidates:
        given = inferred.frame.height - column.nulls
        if column.kind == "category" and MANY_CATEGORIES < column.distinct < NEARLY_UNIQUE * given:
            seen = f"it has {column.distinct:,} categories"
            yield Finding("categories", column.safe, "note", seen, "rare ones share a code; group them if you know how")


def _nulls(inferred: Inferred) -> Iterator[Finding]:
    for column in inferred.candidates:
        share = column.nulls / inferred.frame.height
        if share > MANY_NULLS:
            yield Finding(
                "nulls", column.safe, "note", f"it is empty in {share:.0%} of the rows", "leave it out if it is noise"
            )


def _shape(inferred: Inferred) -> Iterator[Finding]:
    rows, columns = inferred.frame.height, len(inferred.candidates)
    if columns > rows:
        seen = f"{columns:,} columns for {rows:,} rows: a column fits the target by chance"
        yield Finding("wide", "", "warning", seen, "trust the test split only, and leave out what cannot matter")
    if rows < SMALL:
        advice = "expect wide confidence intervals; more rows help most"
        yield Finding("small", "", "note", f"{rows:,} rows: the test split has about {rows // 5:,}", advice)


def _gaps(inferred: Inferred) -> Iterator[Finding]:
    if inferred.time is None:
        return
    moments = inferred.frame[MOMENT].drop_nulls().unique().sort()
    steps = moments.diff().drop_nulls()
    longest, typical, whole = steps.max(), steps.median(), moments[-1] - moments[0]
    assert isinstance(longest, timedelta)
    assert isinstance(typical, timedelta)
    if longest > GAP * typical and longest > whole / 20:
        place = int(steps.arg_max() or 0)
        seen = f"nothing from {moments[place]:%Y-%m-%d} to {moments[place + 1]:%Y-%m-%d}"
        yield Finding("gap", inferred.time, "warning", seen, "deliver what is missing, or split after the gap")


TABLE_LOOKS: tuple[Callable[[Inferred], Iterator[Finding]], ...] = (
    _duplicate_rows,
    _imbalance,
    _skew,
    _mixed,
    _gaps,
    _shape,
    _categories,
    _nulls,
)


def _future(inferred: Inferred, now: datetime) -> Iterator[Finding]:
    if inferred.time is None:
        return
    later = int((inferred.frame[MOMENT] > now).sum())
    if later:
        seen = f"{later:,} rows are later than now ({now:%Y-%m-%d})"
        yield Finding(
            "future", inferred.time, "warning", seen, "their outcome counts as not known yet; correct them if it is"
        )
