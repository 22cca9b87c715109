"""`ml-assets new`: from a file to a declared problem, and in words what was written, assumed, and is to be looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ml_assets.collection.contract import ContractError, SourceContract, parse
from ml_assets.preparation.spans import Span
from ml_assets.quality import evaluate, suite_for
from ml_assets.quality.contract import ColumnContract
from ml_assets.resources.environment import setting
from ml_assets.scaffold.draft import Draft
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.inference import infer
from ml_assets.scaffold.inspection import Finding, inspect
from ml_assets.scaffold.names import check_problem_name
from ml_assets.scaffold.reading import read
from ml_assets.scaffold.writing import places, plan, taken_names, write

LABEL_DELAY = "1d"


def new(
    root: Path,
    name: str,
    *,
    data: str,
    now: datetime,
    target: str | None = None,
    task: str | None = None,
    time: str | None = None,
    entity: str | None = None,
    group: str | None = None,
    label_delay: str = LABEL_DELAY,
) -> str:
    """Write the problem `name` below `root`, the repository, and return the text to print.

    `data` is a path, glob or URL; `target`, `time`, `entity` and `group` name its columns; `label_delay` (1d, 2w, 1mo) is
    how long after its time a row's outcome is known. Raises `ScaffoldError`, and then nothing was written.
    """
    check_problem_name(name, taken=taken_names(root))
    _refuse_delay(label_delay)
    inferred = infer(read(data), target=target, task=task, time=time, entity=entity, group=group)
    draft = Draft(name, inferred, inspect(inferred, now=now), label_delay)
    planned = plan(draft)
    check_contract(draft, next(iter(planned.values())))
    where = places(
        root,
        landing=setting("ML_ASSETS_LANDING", root),
        feature_repo=setting("ML_ASSETS_FEATURE_REPO", root),
    )
    return report(draft, [os.path.relpath(path, root) if "://" not in path else path for path in write(planned, where)])


def _refuse_delay(label_delay: str) -> None:
    try:
        Span.parse(label_delay)
    except ValueError as error:
        raise ScaffoldError(f"--label-delay: {error}") from error


# -- the proof ---------------------------------------------------------------------------------------------------------


def contract(draft: Draft) -> SourceContract:
    """Return the contract that the declaration states, with which the collecting asset will read the file."""
    inferred = draft.inferred
    table, required = inferred.table, {inferred.key, inferred.time, inferred.entity}
    columns = [
        ColumnContract(
            name=column.name,
            dtype=column.type,
            nullable=column.safe not in required or bool(column.nulls),
            sparse=column.safe not in required or bool(column.nulls),
        )
        for column in inferred.columns
    ]
    dialect = table.dialect
    return SourceContract(
        name=draft.name,
        pattern=draft.pattern,
        columns=columns,
        key=inferred.unique,
        format=table.format,
        separator=dialect.separator,
        quote=dialect.quote,
        encoding=dialect.encoding,
        decimal=dialect.decimal,
        thousands=dialect.thousands,
        null_values=dialect.null_values,
        forms={column.name: column.format for column in inferred.columns if column.format},
    )


def check_contract(draft: Draft, delivery: bytes) -> None:
    """Read what will land as the collecting asset will; `ScaffoldError` when the contract would put it in quarantine."""
    declared = contract(draft)
    try:
        rows = parse(delivery, declared, name=draft.landed)
    except ContractError as error:
        raise ScaffoldError(f"{draft.inferred.table.files[0].name}: {error}") from error
    verdict = evaluate(rows.lazy(), suite_for(draft.name, declared.columns, key=declared.key))[""]
    if not verdict.success:
        raise ScaffoldError(f"{draft.inferred.table.files[0].name}: {verdict.reason()}")


# -- in words ----------------------------------------------------------------------------------------------------------

ROLES = {
    "defs.yaml": "the declaration: source, features, problem",
    "features.py": "how they are computed",
    "__init__.py": "",
}


def report(draft: Draft, written: Sequence[str]) -> str:
    """Return what was written, assumed and found, and the next command."""
    inferred, table = draft.inferred, draft.inferred.table
    names = table.files[0].name if len(table.files) == 1 else f"{len(table.files)} files"
    head = f"{draft.name}: {inferred.outcome.words}"
    size = f"{inferred.frame.height:,} rows and {len(inferred.columns):,} columns from {names}"
    blocks = [
        [head, size],
        ["Written", *(f"  {path}{_role(path)}" for path in written)],
        ["Assumed", *(f"  - {told}" for told in draft.assumptions)] if draft.assumptions else [],
        ["To look at", *_table(draft.findings)] if draft.findings else [],
        [f"Next: ml-assets check {draft.name}, then ml-assets run {draft.name}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def _role(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    words = ROLES.get(name, "what Feast knows of them" if name.endswith(".py") else "the data, as it was delivered")
    return f"  ({words})" if words else ""


MOST_ROWS = 40


def _table(findings: Sequence[Finding]) -> list[str]:
    """Return the findings in columns, the worst first; the last of very many are only counted."""
    shown = findings[:MOST_ROWS]
    rows = [(_severity(item), item.code, item.column or "(table)", f"{item.seen}; {item.advice}") for item in shown]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  " + "  ".join([*(row[at].ljust(widths[at]) for at in range(3)), row[3]]) for row in rows]
    rest = len(findings) - len(shown)
    return [*lines, f"  and {rest} more of less weight"] if rest else lines


def _severity(finding: Finding) -> str:
    return finding.severity.upper() if finding.severity == "alarm" else finding.severity
