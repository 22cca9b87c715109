"""The model card of a version: what a person must know before relying on it, as Markdown and as one HTML file.

The sections follow Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019), as far as they can be told from what was
recorded. A card only repeats numbers, it measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from ml_assets.evaluation.plots import candidates_plot, importance_plot
from ml_assets.evaluation.report import EvaluationReport, cells, interval, number, numeric, table
from ml_assets.packaging.approval import Approval
from ml_assets.packaging.bundle import Bundle
from ml_assets.packaging.history import Promotion
from ml_assets.tasks.drawing import data_uri

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
CALIBRATION = ("expected_calibration_error", "brier", "log_loss")
TEMPLATE = Path(__file__).with_name("card.html")
SHOWN = 15  # features, of the explanation


@dataclass(frozen=True, eq=False)
class Facts:
    """What is recorded of a version, from which its card is made.

    `tags` are those of the registered version, `declaration` what the problem's declaration says, by name. `rows` is the training set,
    `inputs` the snapshot by table that it was joined from. `settled` is the JSON of the search (winner, and hyperparameters by
    candidate), `budget` what the search was allowed. `decision` is what became of the version when it stood for office ({} when it
    has not), `history` the promotions of the problem. `approval` is the one that holds, and `approved` says so or why not.
    """

    problem: str
    version: str
    bundle: Bundle
    tags: Mapping[str, str]
    declaration: Mapping[str, str]
    rows: pl.DataFrame
    views: Sequence[str]
    ignored: Sequence[str]
    inputs: Mapping[str, str]
    settled: Mapping[str, Any]
    budget: str
    report: EvaluationReport
    explanation: Mapping[str, Any]
    gates: Sequence[Mapping[str, Any]]
    decision: Mapping[str, Any]
    history: Sequence[Promotion]
    approval: Approval | None
    approved: str
    label_delay: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a card; what is empty is not shown. `chosen` is the first cell of the row that stands out."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    sentences: Sequence[str] = ()
    table: Table = ((), ())
    chosen: str | None = None
    commands: Sequence[str] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """A card. `standing` is "in office", "refused", "was in office" or "stands for office"."""

    problem: str
    version: str
    model: str
    question: str
    standing: str
    made_at: datetime
    sections: Sequence[Section]


def make_card(facts: Facts, *, made_at: datetime) -> Card:
    """Return the card of a version, all sections in their order."""
    sections = (
        _question(facts),
        _standing_of(facts),
        _data(facts),
        _features(facts),
        _candidates(facts),
        _metrics(facts),
        _slices(facts),
        _calibration(facts),
        _explanation(facts),
        _gates(facts),
        _approval(facts),
        _limits(facts),
        _again(facts),
    )
    return Card(
        problem=facts.problem,
        version=facts.version,
        model=facts.bundle.model_version,
        question=facts.declaration.get("question", ""),
        standing=standing(facts),
        made_at=made_at,
        sections=sections,
    )


def standing(facts: Facts) -> str:
    """Return where the version stands: in office, was in office, refused, or stands for office."""
    if facts.history and facts.history[-1].version == facts.version:
        return "in office"
    if any(one.version == facts.version for one in facts.history):
        return "was in office"
    return "refused" if facts.decision and not facts.decision["promoted"] else "stands for office"


def markdown(card: Card) -> str:
    """Return the card as Markdown, without pictures."""
    head = [
        f"# {card.problem}, version {card.version}",
        card.question,
        f"**{card.standing}**. Model {card.model}. Card of {card.made_at:%Y-%m-%d %H:%M %Z}.",
    ]
    return "\n\n".join([*(line for line in head if line), *map(_as_markdown, card.sections)]) + "\n"


def page(card: Card) -> str:
    """Return the card as one HTML file, complete in itself, with pictures."""
    from ml_assets.evaluation.page import template

    return template(TEMPLATE).render(card=card, numeric=numeric, data_uri=data_uri)


def _as_markdown(section: Section) -> str:
    parts = [
        f"## {section.title}",
        "\n".join(f"- {name}: {text}" for name, text in section.facts.items()),
        "\n".join(f"- {sentence}" for sentence in section.sentences),
        table(*section.table) if section.table[1] else "",
        "\n".join(["```", *section.commands, "```"]) if section.commands else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _question(facts: Facts) -> Section:
    return Section("Question", facts=facts.declaration)


def _standing_of(facts: Facts) -> Section:
    known = [one for one in facts.history if one.version == facts.version]
    said = [f"{one.kind} by {one.who} on {one.when:%Y-%m-%d %H:%M}: {one.why}" for one in known]
    if facts.decision and not facts.decision["promoted"] and not known:
        said = [f"refused: {facts.decision['reason']}"]
    return Section("Standing", sentences=said or ["it has not stood for office yet"], facts={"now": standing(facts)})


def _data(facts: Facts) -> Section:
    tags = facts.tags
    splits = facts.rows.group_by("split").agg(
        rows=pl.len(), first=pl.col("event_timestamp").min(), last=pl.col("event_timestamp").max()
    )
    order = {"train": 0, "validation": 1, "test": 2}
    lines = [
        [str(row["split"]), f"{row['rows']:,}", f"{row['first']:%Y-%m-%d}", f"{row['last']:%Y-%m-%d}"]
        for row in sorted(splits.to_dicts(), key=lambda row: order.get(row["split"], len(order)))
    ]
    told = {
        "training set": facts.bundle.data_hash,
        "as known at": tags.get("as_known_at", ""),
        "MD5 of its file, for DVC": tags.get("dvc_md5", ""),
        **{f"snapshot of {name}": snapshot for name, snapshot in facts.inputs.items()},
    }
    return Section(
        "Data",
        facts={name: text for name, text in told.items() if text},
        table=(("split", "rows", "first", "last"), lines),
    )


def _features(facts: Facts) -> Section:
    lines = [[name, facts.bundle.dtypes[name]] for name in facts.bundle.features]
    told = {"feature views": ", ".join(facts.views), "not learned from": ", ".join(facts.ignored)}
    return Section(
        "Features", facts={name: text for name, text in told.items() if text}, table=(("feature", "type"), lines)
    )


def _candidates(facts: Facts) -> Section:
    report, winner = facts.report, str(facts.settled.get("winner", ""))
    variants = facts.settled.get("variants", {})
    settled = [f"{name}: {json.dumps(variant, sort_keys=True)}" for name, variant in variants.items() if variant]
    told = {"search": facts.budget, "selected": report.told.get("selected", ""), "fit": report.told.get("fit", "")}
    values = {str(row["candidate"]): row.get(f"validation {report.metric}") for row in report.candidates}
    drawn = {"candidates": candidates_plot(values, metric=report.metric, selected=winner)} if winner in values else {}
    return Section(
        "Candidates and search",
        facts={name: text for name, text in told.items() if text},
        sentences=[f"hyperparameters of {line}" for line in settled],
        table=cells([_ordered(row) for row in report.candidates]),
        chosen=winner,
        pictures=drawn,
    )


def _ordered(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a candidate's row with its name first and its note last: the report's JSON sorts by name."""
    first, last = ("candidate", "selected", "outcome"), ("seconds", "note")
    middle = [name for name in row if name not in (*first, *last)]
    return {name: row[name] for name in (*first, *middle, *last) if name in row}


def _metrics(facts: Facts) -> Section:
    report = facts.report
    told = {
        "rows": f"{report.rows:,} of the {report.split} split{f' ({report.outcomes})' if report.outcomes else ''}",
        "decision": report.told.get("decision", ""),
        "value": report.told.get("value", ""),
    }
    said = [f"{name} does not apply: {reason}" for name, reason in report.not_applicable.items()]
    said += [f"{rival.name}: {rival.note}" for rival in report.rivals if rival.note]
    shown = {name: text for name, text in told.items() if text}
    return Section(
        "Metrics",
        facts=shown,
        sentences=said,
        table=report.metrics_table(),
        chosen=report.metric,
        pictures=_drawn(facts, calibration=False),
    )


def _slices(facts: Facts) -> Section:
    if not facts.report.slices:
        return Section("Slices", sentences=["no slices are declared (success.slices)"])
    return Section("Slices", table=facts.report.slices_table())


def _calibration(facts: Facts) -> Section:
    report, bundle = facts.report, facts.bundle
    if not bundle.task.output.startswith("probab"):
        return Section("Calibration", sentences=["does not apply: the answers are no probabilities"])
    lines = [
        [name, number(report.metrics.get(name)), interval(report.intervals.get(name))]
        for name in CALIBRATION
        if name in report.metrics
    ]
    told = {"how": report.told["calibration"]} if report.told.get("calibration") else {}
    return Section(
        "Calibration",
        facts=told,
        table=(("metric", "value", "95 % interval"), lines),
        pictures=_drawn(facts, calibration=True),
    )


def _drawn(facts: Facts, *, calibration: bool) -> dict[str, bytes]:
    """Return the task's own pictures of the test rows by title: those of the calibration, or the others."""
    bundle, rows = facts.bundle, facts.rows.filter(pl.col("split") == "test")
    if rows.is_empty():
        return {}
    drawn = bundle.task.plots(bundle.truth(rows), bundle.predict(rows), bundle.threshold)
    return {title: png for title, png in drawn.items() if ("calibration" in title.lower()) == calibration}


def _explanation(facts: Facts) -> Section:
    ranked, moved = facts.explanation.get("importance"), facts.explanation.get("effects")
    means = (moved or {}).get("means", {})
    losses = (ranked or {}).get("losses", {})
    if not losses and not means:
        return Section("Explanation", sentences=["none was made: see the evaluation report"])
    bounds = (ranked or {}).get("intervals", {})
    names = [*losses, *(name for name in means if name not in losses)][:SHOWN]
    lines = [[name, number(losses.get(name)), interval(bounds.get(name)), number(means.get(name))] for name in names]
    metric = ranked["metric"] if ranked else facts.report.metric
    heads = ("feature", f"{metric} lost when shuffled", "95 % interval", "mean effect (SHAP)")
    spans = {name: (span[0], span[1]) for name, span in bounds.items() if span}
    drawn = {"importance": importance_plot(losses, metric=metric, intervals=spans)} if losses else {}
    said = ["importance is not cause: of features that tell the same, each alone may seem to matter little"]
    return Section("Explanation", sentences=said, table=(heads, lines), pictures=drawn)


def _gates(facts: Facts) -> Section:
    gates = [*facts.gates, *facts.decision.get("gates", ())]
    lines = [[gate["name"], "passed" if gate["passed"] else "refused", gate["reason"]] for gate in gates]
    said = [facts.decision["reason"]] if facts.decision else []
    return Section("Gates and decision", sentences=said, table=(("gate", "verdict", "why"), lines))


def _approval(facts: Facts) -> Section:
    given = facts.approval
    if given is None:
        return Section("Approval", sentences=[facts.approved])
    hashes = {f"SHA-256 of the {name}": value for name, value in vars(given.evidence).items()}
    return Section("Approval", sentences=[facts.approved], facts=hashes)


def _limits(facts: Facts) -> Section:
    report, test = facts.report, facts.rows.filter(pl.col("split") == "test")["event_timestamp"]
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in report.unlabelled.items() if count)
    small = [f"{row['slice']} {row['value']}" for row in report.slices if row.get(report.metric) is None]
    span = f"{test.dt.min():%Y-%m-%d} to {test.dt.max():%Y-%m-%d}" if len(test) else "no test"
    said = [
        f"measured on rows of {span}; nothing is known of other times",
        f"rows from {facts.tags['live_from'][:10]} on are new to it" if "live_from" in facts.tags else "",
        f"rows without a label are in no metric: {left_out}" if left_out else "",
        f"slices too small to be measured: {', '.join(small)}" if small else "",
        f"outcomes are known after {facts.label_delay}: until then a decay is not seen" if facts.label_delay else "",
        "it answers the question above; for other questions and other populations it was not examined",
    ]
    return Section("Limits", sentences=[sentence for sentence in said if sentence])


def _again(facts: Facts) -> Section:
    tags, name = facts.tags, f"{facts.problem}:{facts.version}"
    commit = tags.get("git_commit", "")
    told = {
        "bundle": facts.bundle.digest,
        "code": tags.get("code_version", ""),
        "declaration": tags.get("declaration", ""),
        "commit": f"{commit}{', with changes that were not committed' if tags.get('git_dirty') else ''}",
    }
    commands = [*([f"git checkout {commit}"] if commit not in ("", "unknown") else []), f"ml-assets rebuild {name}"]
    return Section("How to reproduce", facts={name: text for name, text in told.items() if text}, commands=commands)
