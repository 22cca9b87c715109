"""The declaration that `new` writes: three documents of YAML, with comments that say what was seen, assumed and left out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

import yaml

from ml_assets.collection.formats import Dialect
from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.draft import KNOWN_AT, Draft
from ml_assets.scaffold.inference import Inferred
from ml_assets.scaffold.inspection import Finding
from ml_assets.scaffold.names import double_quoted, listed

WIDTH = 118
MOST_SEEN = 60
PLAIN = re.compile(r"[^\W\d_](?:[\w .€²-]*[\w.€²])?")  # a text that YAML reads as itself, but for words such as yes
DEFAULTS = Dialect(null_values=("", "NA"))


def scalar(value: object) -> str:
    """Return a value as YAML writes it inside of a list or mapping on one line."""
    if isinstance(value, str) and not PLAIN.fullmatch(value):
        return double_quoted(value)
    plain = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9).strip()
    plain = plain.removesuffix("...").strip()
    return double_quoted(str(value)) if plain.startswith("'") else plain


def flow(values: Iterable[object]) -> str:
    """Return a list on one line."""
    return f"[{', '.join(map(scalar, values))}]"


def comment(text: str, indent: int = 0) -> list[str]:
    """Return a text as lines of comment."""
    clean = " ".join(text.split())
    return textwrap.wrap(clean, WIDTH, initial_indent=" " * indent + "# ", subsequent_indent=" " * indent + "#   ")


def declaration(draft: Draft) -> str:
    """Return the text of defs.yaml: what comes from outside, the features, the problem."""
    documents = [[*_head(draft), *_source(draft)], _views(draft), _problem(draft)]
    return "\n---\n".join("\n".join(lines) for lines in documents) + "\n"


def _head(draft: Draft) -> list[str]:
    inferred = draft.inferred
    names = ", ".join(file.name for file in inferred.table.files[:3])
    lines = comment(f"The problem {draft.name}, as `ml-assets new` found it in {names}. It is yours to edit.")
    if draft.assumptions:
        lines += ["#", "# Assumed:"]
        lines += [line for words in draft.assumptions for line in comment(f"- {words}")]
    loud = [item for item in draft.findings if item.severity != "note"]
    if loud:
        lines += ["#", "# To look at:"]
        lines += [line for item in loud for line in comment(f"- {told(item)}")]
    return lines


def told(finding: Finding) -> str:
    """Return a finding as a sentence."""
    name = f"{finding.column}: " if finding.column else ""
    return f"{name}{finding.seen}; {finding.advice}"


# -- the source --------------------------------------------------------------------------------------------------------


def _source(draft: Draft) -> list[str]:
    inferred = draft.inferred
    personal = {item.column for item in draft.findings if item.code == "personal"}
    return [
        "type: ml_assets.Source",
        "attributes:",
        f"  name: {draft.name}",
        f"  description: {scalar(f'What {inferred.table.files[0].name} holds.')}",
        f"  pattern: {scalar(draft.pattern)} # a later delivery of the whole table is dropped beside the first",
        *_dialect(inferred),
        "  clock: system",
        *([f"  key: {flow(inferred.unique)}"] if inferred.unique else []),
        "  fresh_within_hours: 8760 # a year; less, when deliveries come on a schedule",
        "  # Ranges and categories that were seen are comments. Written as `minimum`, `maximum` or `categories: [..]` they become",
        "  # part of the contract: a file that breaks it goes to quarantine whole.",
        "  columns:",
        *(line for column in inferred.columns for line in _column(column, draft, personal)),
        "  clean:",
        f"    derive: ml_assets.defs.{draft.name}.features.clean",
    ]


def _dialect(inferred: Inferred) -> list[str]:
    """Return the lines of what differs from a Source's defaults."""
    table = inferred.table
    if table.format == "parquet":
        return []
    lines = [f"  encoding: {scalar(table.dialect.encoding)}"] if table.dialect.encoding != "utf-8" else []
    if table.format == "csv":
        for field in ("separator", "quote", "decimal", "thousands"):
            value = getattr(table.dialect, field)
            if value != getattr(DEFAULTS, field):
                lines.append(f"  {field}: {double_quoted(value)}")
        nulls = ", ".join(double_quoted(word) for word in table.dialect.null_values)
        lines.append(f"  null_values: [{nulls}]")
    return lines


def _column(column: Column, draft: Draft, personal: set[str]) -> list[str]:
    fields = [f"name: {scalar(column.name)}", f"type: {column.type}"]
    if column.format:
        fields.append(f"format: {scalar(column.format)}")
    if column.safe in _required(draft.inferred) and not column.nulls:
        fields.append("nullable: false")
    if column.safe in personal:
        fields.append("personal: true")
    seen = _seen(column) if column.safe not in personal else ""
    return [f"    - {{{', '.join(fields)}}}{f' # {seen}' if seen else ''}"]


def _required(inferred: Inferred) -> set[str | None]:
    return {inferred.key, inferred.time, inferred.entity, *inferred.key_of}


def _seen(column: Column) -> str:
    """Return in words what the column held."""
    nulls = f", {column.nulls:,} without" if column.nulls else ""
    if column.kind == "empty":
        return "no value in any row"
    if column.minimum:
        return f"{column.minimum} to {column.maximum}{nulls}"
    names = " ".join(listed(column.categories).split())
    if names and len(names) <= MOST_SEEN:
        return f"{names}{nulls}"
    return f"{column.distinct:,} distinct{nulls}"


# -- the features ------------------------------------------------------------------------------------------------------


def _views(draft: Draft) -> list[str]:
    name = draft.name
    words = "What an entity's outcomes were, when they became known." if draft.history else "What is known of a row."
    return [
        "type: ml_assets.FeatureViews",
        "attributes:",
        "  clock: system",
        "  views:",
        f"    - name: {draft.view}",
        f"      description: {scalar(words)}",
        f"      compute: ml_assets.defs.{name}.features.{draft.view}",
        f"      source: clean/{name}",
        f"      entity: {flow([draft.join_key])}",
        "      partitioned: false",
    ]


# -- the problem -------------------------------------------------------------------------------------------------------


def _problem(draft: Draft) -> list[str]:
    delay = draft.label_delay
    supervised = draft.inferred.target is not None
    return [
        "type: ml_assets.MlProblem",
        "attributes:",
        f"  name: {draft.name}",
        f"  question: {scalar(draft.question)} # in your words: who asks, when, and what is done with the answer",
        f"  task: {_task(draft)}",
        "  clock: system",
        *([f"  availability: {{label_delay: {delay}}}"] if supervised and draft.inferred.time else []),
        "  observations:",
        f"    key: {flow([draft.inferred.key])}",
        *_query_lines(_query(draft)),
        "  features:",
        f"    service: {draft.service}",
        f"    views: {flow([draft.view])}",
        *([f"    last_value: {draft.outcome_features[0].name}"] if draft.history else []),
        *_ignore(draft),
        f"  split: {_split(draft)}",
        f"  success: {{metric: {draft.metric}, beats_baseline_by: 0}} # and at_least or at_most, from what the answer is worth",
    ]


def _task(draft: Draft) -> str:
    outcome = draft.inferred.outcome
    if outcome.kind == "clustering":
        return "{kind: clustering, clusters: [2, 10]}"
    if outcome.binary:
        return f"{{kind: classification, positive: {scalar(outcome.positive)}}}"
    if outcome.classes:
        return f"{{kind: classification, classes: {flow(outcome.classes)}}}"
    return "{kind: regression}"


def _split(draft: Draft) -> str:
    shares = "train: 0.6, validation: 0.2, test: 0.2"
    inferred = draft.inferred
    if inferred.time:
        return f"{{by: time, {shares}, gap: {draft.label_delay}}}"
    return f"{{by: random, {shares}{f', group: {inferred.group}' if inferred.group else ''}}}"


def _ignore(draft: Draft) -> list[str]:
    """Return the columns that are there but not learned from, each with its reason; a line taken away puts one back."""
    found = draft.ignored_features
    if not found:
        return []
    lines = ["    ignore: # columns that are not learned from: take a line away to put one back"]
    for name, finding in found:
        lines.append(f"      - {name} # {finding.code}: {' '.join(finding.seen.split())}")
    return lines


def _query(draft: Draft) -> list[str]:
    """Return the parts of the SELECT, without commas."""
    inferred = draft.inferred
    supervised = inferred.target is not None
    columns = [feature.name for feature in draft.features] if draft.history else []
    others = [name for name in (inferred.entity, inferred.group) if name and name not in (inferred.key, *columns)]
    known = [f"{KNOWN_AT} AS label_timestamp"] if supervised and inferred.time else []
    label = [f"{_label(inferred)} AS label"] if supervised else []
    parts = [inferred.key, *others, f"{draft.event} AS event_timestamp", *columns, *label, *known]
    return [f"SELECT {parts[0]}", *parts[1:], f"FROM clean_{draft.name}"]


def _label(inferred: Inferred) -> str:
    outcome, name = inferred.outcome, inferred.outcome.column
    column = inferred.column(name)
    if outcome.binary:
        yes, no = (_is(name, value, column) for value in (outcome.positive, outcome.negative))
        return f"CASE WHEN {yes} THEN 1 WHEN {no} THEN 0 END"
    if outcome.classes and outcome.left_out:
        return f"CASE WHEN {name} IN ({', '.join(map(_sql, outcome.classes))}) THEN {name} END"
    return name if outcome.classes else f"CAST({name} AS DOUBLE)"


def _is(name: str, value: str, column: Column) -> str:
    """Return the SQL condition that a column is one of two classes."""
    if column.becomes == "Boolean":
        return name if value == "true" else f"NOT {name}"
    return f"{name} = {_sql(value) if column.becomes == 'String' else value}"


def _sql(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def _query_lines(parts: Sequence[str]) -> list[str]:
    """Return the query as a folded text; one that holds a line end, within the name of a class, in quotes."""
    if all(part.isprintable() for part in parts):
        return ["    query: >-", *_wrapped(parts, 6)]
    return [f"    query: {double_quoted(' '.join(_with_commas(parts)))}"]


def _with_commas(parts: Sequence[str]) -> list[str]:
    return [part if place >= len(parts) - 2 else f"{part}," for place, part in enumerate(parts)]


def _wrapped(parts: Sequence[str], indent: int) -> list[str]:
    """Return the query in lines of bearable length; a class with several blanks in its name stays on one line."""
    lines, line = [], ""
    for text in _with_commas(parts):
        if line and len(line) + len(text) + 1 > WIDTH - indent:
            lines.append(line)
            line = ""
        line = f"{line} {text}".strip()
    return [f"{' ' * indent}{line}" for line in [*lines, line]]
