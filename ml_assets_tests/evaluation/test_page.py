"""The page of an evaluation: one file, complete in itself, that says what the report says; and its short form for the web UI."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from ml_assets.evaluation.challenge import Examination, examine
from ml_assets.evaluation.explanation import Explanation, explain
from ml_assets.evaluation.gates import Limits, gates
from ml_assets.evaluation.page import page
from ml_assets.evaluation.shown import MOST_BYTES, pictures, short
from ml_assets_tests.evaluation import problems

KINDS = ("binary", "multiclass", "regression", "clustering")
LIMITS = Limits(at_least=0.9)
VOID = {"meta", "img", "br", "link"}


@dataclass(frozen=True)
class Made:
    found: Examination
    explained: Explanation
    html: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    known: dict[str, Made] = {}

    def of(kind: str) -> Made:
        if kind not in known:
            subject, frame = getattr(problems, kind)(tmp_path_factory.mktemp(kind))
            found = examine(subject, frame, made_at=problems.MADE_AT, slices=["half"])
            explained = explain(found, frame, key=["row"])
            known[kind] = Made(found, explained, rendered(found, explained))
        return known[kind]

    return of


def rendered(found: Examination, explained: Explanation) -> str:
    return page(
        found,
        explained,
        gates(found.report, found.subject.plan.metric, Limits(), baseline=found.subject.plan.task.supervised),
        declaration={"question": "Is it <late>?", "owners": "team:x"},
        limits=LIMITS,
        evidently="<html><body>Evidently's own & only page</body></html>",
    )


class Structure(HTMLParser):
    """Checks that every tag is closed, and collects what would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_whole_and_loads_nothing(kind: str, made: Callable[[str], Made]) -> None:
    structure = Structure()
    structure.feed(made(kind).html)
    assert structure.open == []
    assert structure.sources and all(source.startswith("data:image/png;base64,") for source in structure.sources)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", made(kind).html)
    assert {"Gates", "Metrics", "Candidates", "What was declared", "Evidently"} <= set(structure.titles)
    supervised = {"What the model looks at", "The ten worst errors", "Would more rows help?"}
    assert (supervised <= set(structure.titles)) is (kind != "clustering")


def test_what_was_declared_is_escaped(made: Callable[[str], Made]) -> None:
    assert "Is it &lt;late&gt;?" in made("binary").html
    assert "<late>" not in made("binary").html


def test_evidentlys_page_is_inside_and_compressed(made: Callable[[str], Made]) -> None:
    packed = re.search(r'id="evidently-page">([^<]*)</script>', made("binary").html)
    assert packed is not None
    assert gzip.decompress(base64.b64decode(packed[1])).decode().endswith("own & only page</body></html>")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_examination_gives_the_same_page(kind: str, made: Callable[[str], Made]) -> None:
    one = made(kind)
    assert rendered(one.found, one.explained) == one.html


@pytest.mark.parametrize("kind", KINDS)
def test_the_short_form_has_summary_pictures_tables_and_fits(kind: str, made: Callable[[str], Made]) -> None:
    one = made(kind)
    text = short(one.found, one.explained, LIMITS)
    assert text.startswith("**sample**, model version")
    for part in ("### Metrics", "### Candidates", "data:image/png;base64,"):
        assert part in text
    assert len(text) < 1.4 * MOST_BYTES + 60_000
    assert len(text) < 300_000


def test_all_pictures_of_a_yes_or_no_problem_are_there(made: Callable[[str], Made]) -> None:
    one = made("binary")
    expected = {"candidates", "value by threshold", "ROC", "precision-recall", "calibration", "confusion"}
    assert set(pictures(one.found, one.explained, LIMITS)) == expected | {"importance", "SHAP", "learning curve"}


def test_a_failed_gate_is_said_in_words(made: Callable[[str], Made], tmp_path: Path) -> None:
    one = made("regression")
    verdicts = gates(one.found.report, one.found.subject.plan.metric, Limits(at_most=1.0))
    html = page(one.found, one.explained, verdicts, declaration={}, limits=Limits(at_most=1.0), evidently="")
    assert ">failed</span> success threshold: rmse is" in html


def test_a_problem_without_slices_has_no_table_of_them(tmp_path: Path) -> None:
    subject, frame = problems.clustering(tmp_path)
    found = examine(subject, frame.with_columns(month=pl.lit("x")), made_at=problems.MADE_AT)
    assert "<h2>Slices</h2>" not in rendered(found, explain(found, frame, key=["row"]))
