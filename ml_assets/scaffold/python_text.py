"""The Python that `new` writes: the problem's functions, and its Feast definitions. Plain, short, and formatted as ruff does."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.draft import KNOWN_AT, PARTS, Draft, Feature
from ml_assets.scaffold.inference import MOMENT
from ml_assets.scaffold.inspection import Finding
from ml_assets.scaffold.names import double_quoted
from ml_assets.scaffold.outcome import Outcome

WIDTH = 120
PART_CODE = {
    "year": "moment.dt.year()",
    "month": "moment.dt.month()",
    "weekday": "moment.dt.weekday()",
    "hour": "moment.dt.hour()",
    "days": 'moment.dt.epoch("d") - DAYS_TO_2000',
}


def quoted(text: str) -> str:
    """Return a text as Python writes it, in the quotes that ruff prefers."""
    if '"' in text and "'" not in text and "\\" not in text and text.isprintable():
        return f"'{text}'"
    return double_quoted(text)


def listing(name: str, values: Sequence[str], indent: str = "") -> str:
    """Return `name = [..]` on one line, or with one value a line where that is too long."""
    line = f"{indent}{name} = [{', '.join(map(quoted, values))}]"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{indent}{name} = [", *(f"{indent}    {quoted(value)}," for value in values), f"{indent}]"])


# -- features.py -------------------------------------------------------------------------------------------------------


def features_module(draft: Draft) -> str:
    """Return the text of features.py: `clean`, and the function of the feature view."""
    view = _history(draft) if draft.history else _columns_view(draft)
    head = f'"""The tables of {draft.name}, from {_given(draft)}. Written by `ml-assets new`; it is yours to edit."""'
    blocks = [
        "\n".join([_short(head), "", "from __future__ import annotations", "", "import polars as pl"]),
        "\n".join(_constants(draft)),
    ]
    functions = [*_clean(draft), *_calendar(draft), view]
    return "\n\n".join(filter(None, blocks)) + "\n\n\n" + "\n\n\n".join(functions) + "\n"


def _given(draft: Draft) -> str:
    files = draft.inferred.table.files
    name = re.sub(r'[\\"]|[^ -\uffff]', "", files[0].name)
    return name if len(files) == 1 else f"{name} and {len(files) - 1} more"


def _short(head: str) -> str:
    return head if len(head) <= WIDTH else '"""Tables and features. Written by `ml-assets new`; it is yours to edit."""'


def _constants(draft: Draft) -> list[str]:
    lines = [line for item in draft.dropped.values() for line in _left_out(item)]
    names = {column.name: column.safe for column in draft.inferred.columns if column.name != column.safe}
    if names:
        lines += ["# Names in the file, and here: lower case, no blanks, no words of SQL.", *_mapping("NAMES", names)]
    if draft.inferred.time and draft.inferred.target:
        lines.append(f'LABEL_DELAY = "{draft.label_delay}"  # assumed: so long after the event the outcome is known')
    lines += _cast_lists(draft)
    if any(feature.part for feature in draft.features):
        lines.append("DAYS_TO_2000 = 10_957  # from 1970")
    if draft.history:
        return [*lines, f"ENTITY = {quoted(draft.join_key)}"]
    numbers, others = _by_type(draft.features)
    lines += [listing("NUMBERS", numbers)] if numbers else []
    return [*lines, *([listing("OTHERS", others)] if others else [])]


def _left_out(finding: Finding) -> list[str]:
    seen = " ".join(finding.seen.split())
    return textwrap.wrap(f"# Left out: {finding.column}, {seen}.", WIDTH, subsequent_indent="#   ")


def _by_type(features: Sequence[Feature]) -> tuple[list[str], list[str]]:
    numbers = [feature.name for feature in features if feature.type == "Float64"]
    return numbers, [feature.name for feature in features if feature.type != "Float64"]


def _mapping(name: str, pairs: Mapping[str, str]) -> list[str]:
    return [f"{name} = {{", *(f"    {quoted(key)}: {quoted(value)}," for key, value in pairs.items()), "}"]


def _clean(draft: Draft) -> list[str]:
    """Return the function that makes the clean table."""
    steps = [*_renamed(draft), *_casts(draft), *_moments(draft), *_key(draft), *_parts(draft)]
    lines = [
        "def clean(raw: pl.LazyFrame) -> pl.LazyFrame:",
        f'    """Return the clean table: {_clean_words(draft)}."""',
    ]
    for place, step in enumerate(steps):
        start = "return " if place == len(steps) - 1 else "rows = "
        lines += _fitted(f"    {start}{'rows' if place else 'raw'}", step)
    return ["\n".join(lines if steps else [*lines, "    return raw"])]


def _fitted(start: str, step: str) -> list[str]:
    """Return a call on one line, or with its arguments on a line of their own where that is too long."""
    line = f"{start}{step}"
    if len(line.partition("  #")[0]) <= WIDTH:
        return [line]
    call, _, arguments = step.partition("(")
    inner = f"        {arguments.removesuffix(')')}"
    return [f"{start}{call}(", inner if len(inner) <= WIDTH else f"{inner},", "    )"]


def _clean_words(draft: Draft) -> str:
    inferred = draft.inferred
    words = ["columns by their names here, codes as text"]
    if inferred.time:
        words.append(f"`{MOMENT}` in UTC")
    return ", ".join(words)


def _renamed(draft: Draft) -> list[str]:
    inferred = draft.inferred
    steps = [".rename(NAMES)"] if any(column.name != column.safe for column in inferred.columns) else []
    if inferred.table.padded:
        steps.append(".with_columns(pl.col(pl.String).str.strip_chars())  # blanks after the separators")
    if inferred.table.format == "parquet" and any(column.type == "Float64" for column in inferred.columns):
        steps.append(".with_columns(pl.col(pl.Float64).fill_nan(None))")
    return steps


def _cast_groups(draft: Draft) -> list[tuple[str, str, list[str]]]:
    """Return what turns the columns that the contract reads into what each becomes: a constant's name, a call, columns."""
    groups: dict[str, list[str]] = {}
    for column in draft.inferred.columns:
        if column.type != column.becomes or _is_text_time(column):
            groups.setdefault(_cast(column), []).append(column.safe)
    return [(f"CAST_{number}", cast, names) for number, (cast, names) in enumerate(groups.items(), start=1)]


def _casts(draft: Draft) -> list[str]:
    groups = _cast_groups(draft)
    return [f".with_columns(pl.col({_names(names, constant)}){cast})" for constant, cast, names in groups]


def _cast_lists(draft: Draft) -> list[str]:
    """Return the constants of the casts that name more columns than a line has room for."""
    return [listing(constant, names) for constant, _, names in _cast_groups(draft) if len(names) > MOST_NAMES]


def _is_text_time(column: Column) -> bool:
    return column.notation is not None and column.type == "String"


def _cast(column: Column) -> str:
    """Return the method call that converts a column."""
    if _is_text_time(column) and column.notation:
        form = column.notation.form.replace(".%f", "%.f")
        if column.becomes == "Date":
            return f".str.to_date({quoted(form or '%Y-%m-%d')}, strict=False)"
        start = f"{quoted(form)}, " if form else ""
        return f'.str.to_datetime({start}time_unit="us", time_zone="UTC", strict=False)'
    if column.type == "Float64":
        return ".cast(pl.Int64).cast(pl.String)"
    return f".cast(pl.{column.becomes})" if column.type != "String" else f".cast(pl.{column.becomes}, strict=False)"


MOST_NAMES = 4


def _names(names: Sequence[str], constant: str) -> str:
    return ", ".join(map(quoted, names)) if len(names) <= MOST_NAMES else constant


def _moments(draft: Draft) -> list[str]:
    inferred = draft.inferred
    if inferred.time is None:
        return []
    column = inferred.column(inferred.time)
    name = f"pl.col({quoted(column.safe)})"
    if inferred.time_expression:
        moment = inferred.time_expression
    elif column.becomes == "Date":
        moment = f'{name}.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")'
    else:
        moment = name
    steps = [f".with_columns({MOMENT}={moment})"]
    if inferred.target:
        steps.append(f'.with_columns({KNOWN_AT}=pl.col("{MOMENT}").dt.offset_by(LABEL_DELAY))')
    return steps


def _key(draft: Draft) -> list[str]:
    """Return the steps that make the key, and leave out rows without a time: numbers are given before."""
    inferred, steps = draft.inferred, []
    if inferred.generated_key and inferred.key_of:
        parts = ", ".join(map(quoted, inferred.key_of))
        steps.append(f'.with_columns({inferred.key}=pl.concat_str({parts}, separator="|"))')
    elif inferred.generated_key:
        number = "(pl.int_range(pl.len()) + 1).cast(pl.String)"
        steps.append(f".with_columns({inferred.key}={number})  # the row's number")
    if inferred.time:
        steps.append(f'.filter(pl.col("{MOMENT}").is_not_null())')
    return steps


def _parts(draft: Draft) -> list[str]:
    times: dict[str, list[str]] = {}
    for feature in draft.features:
        if feature.part:
            times.setdefault(feature.column, []).append(feature.part)
    return [f".with_columns(_calendar({quoted(name)}, {list_code(parts)}))" for name, parts in times.items()]


def _calendar(draft: Draft) -> list[str]:
    if not any(feature.part for feature in draft.features):
        return []
    lines = [
        "def _calendar(column: str, parts: list[str]) -> list[pl.Expr]:",
        '    """Return parts of a day or time as numbers."""',
        "    moment = pl.col(column)",
        "    values = {",
        *(f"        {quoted(part)}: {PART_CODE[part]}," for part in PARTS),
        "    }",
        '    name = column.strip("_")',
        '    return [values[part].cast(pl.Float64).alias(f"{name}_{part}") for part in parts]',
    ]
    return ["\n".join(lines)]


def _columns_view(draft: Draft) -> str:
    numbers, others = _by_type(draft.features)
    lines = [
        f"def {draft.view}(clean: pl.LazyFrame) -> pl.LazyFrame:",
        '    """Return what is known of each row, as of its event."""',
        "    return clean.select(",
        f"        {quoted(draft.join_key)},",
        f'        pl.col("{draft.event}").alias("event_timestamp"),',
        *(["        pl.col(NUMBERS).cast(pl.Float64),"] if numbers else []),
        *(["        pl.col(OTHERS),"] if others else []),
        '        pl.col("landed_at").alias("created_timestamp"),',
        "    )",
    ]
    return "\n".join(lines)


def _history(draft: Draft) -> str:
    """Return the function of the history view. Its rows appear when an outcome became known, not when it happened."""
    inferred, outcome = draft.inferred, draft.inferred.outcome
    last, *means, count = draft.outcome_features
    target = quoted(outcome.column)
    lines = [
        f"def {draft.view}(clean: pl.LazyFrame) -> pl.LazyFrame:",
        '    """Return what each entity\'s outcomes were, as of the moments at which one more became known."""',
        f"    outcome = {_outcome_code(outcome, inferred.column(outcome.column))}",
        f"    there = pl.col(ENTITY).is_not_null() & {_known_code(outcome)}",
        f'    known = clean.filter(there).sort(ENTITY, "{MOMENT}", {quoted(inferred.key)})',
        "    rows = known.select(",
        "        ENTITY,",
        f'        pl.col("{KNOWN_AT}").alias("event_timestamp"),',
        f"        outcome.alias({quoted(last.name)}),",
        *(
            f"        outcome.rolling_mean({mean.part}, min_samples=1).over(ENTITY).alias({quoted(mean.name)}),"
            for mean in means
        ),
        f"        pl.col({target}).cum_count().over(ENTITY).cast(pl.Float64).alias({quoted(count.name)}),",
        '        pl.col("landed_at").alias("created_timestamp"),',
        "    )",
        '    return rows.unique([ENTITY, "event_timestamp"], keep="last", maintain_order=True)',
    ]
    return "\n".join(lines)


def _outcome_code(outcome: Outcome, column: Column) -> str:
    name = f"pl.col({quoted(outcome.column)})"
    if outcome.binary:
        return f"{equals(name, outcome.positive, column)}.cast(pl.Float64)"
    return name if outcome.classes else f"{name}.cast(pl.Float64)"


def equals(name: str, value: str, column: Column) -> str:
    """Return the Polars expression that a column is a class, as the file writes it."""
    if column.becomes == "Boolean":
        return name if value == "true" else f"~{name}"
    literal = quoted(value) if column.becomes == "String" else value
    return f"({name} == {literal})"


def _known_code(outcome: Outcome) -> str:
    name = f"pl.col({quoted(outcome.column)})"
    if not outcome.left_out:
        return f"{name}.is_not_null()"
    return f"{name}.is_in({list_code(outcome.classes or (outcome.positive, outcome.negative))})"


def list_code(values: Iterable[str]) -> str:
    """Return a list of texts in one line of Python."""
    return f"[{', '.join(map(quoted, values))}]"


# -- feature_repo ------------------------------------------------------------------------------------------------------


def feast_module(draft: Draft) -> str:
    """Return the text of the Feast definitions: entity, file source, feature view, feature service."""
    features = draft.outcome_features if draft.history else draft.features
    types = ", ".join(sorted({feature.type for feature in features} | {"String"}))
    what = "entity" if draft.history else "row"
    entity, name = f"{draft.name}_{what}", draft.name
    words = "What an entity's outcomes were." if draft.history else "What is known of a row, as of its event."
    lines = [
        f'"""Feast definitions of the {name} problem. Written by `ml-assets new`; they are yours to edit."""',
        "",
        "from datetime import timedelta",
        "",
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType",
        f"from feast.types import {types}",
        "",
        "from ml_assets.features.declaring import lake_table",
        "",
        f"{entity} = Entity(",
        f'    name="{entity}",',
        f"    join_keys=[{quoted(draft.join_key)}],",
        "    value_type=ValueType.STRING,",
        f'    description="What {name} is about, by {draft.join_key}.",',
        ")",
        "",
        f"{draft.view} = FeatureView(",
        f'    name="{draft.view}",',
        f"    entities=[{entity}],",
        "    ttl=timedelta(0),  # for ever",
        "    schema=[",
        f"        Field(name={quoted(draft.join_key)}, dtype=String),",
        *(line for feature in features for line in _field(feature)),
        "    ],",
        "    source=FileSource(",
        f'        name="{draft.view}",',
        f'        path=lake_table("{draft.view}", __file__),',
        '        timestamp_field="event_timestamp",',
        '        created_timestamp_column="created_timestamp",',
        f'        description="Lake table features/{draft.view}.",',
        "    ),",
        f"    description={quoted(words)},",
        ")",
        "",
        f"{draft.service} = FeatureService(",
        f'    name="{draft.service}",',
        f"    features=[{draft.view}],",
        f'    description="What the {name} problem may know.",',
        f'    tags={{"problem": "{name}"}},',
        ")",
    ]
    return "\n".join(lines) + "\n"


def _field(feature: Feature) -> list[str]:
    name, words = quoted(feature.name), quoted(feature.description)
    line = f"        Field(name={name}, dtype={feature.type}, description={words}),"
    if len(line) <= WIDTH:
        return [line]
    inner = f"            name={name}, dtype={feature.type}, description={words}"
    if len(inner) <= WIDTH:
        return ["        Field(", inner, "        ),"]
    parts = (f"name={name}", f"dtype={feature.type}", f"description={words}")
    return ["        Field(", *(f"            {part}," for part in parts), "        ),"]
