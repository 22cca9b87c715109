"""From a file to a problem: what is written reads the file, gives valid observations and features, and is all or nothing."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.quality import evaluate
from ml_assets.quality.suite import Suite
from ml_assets.scaffold.command import new
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.inference import infer
from ml_assets.scaffold.names import safe_name
from ml_assets.scaffold.reading import read
from ml_assets_tests.scaffold.world import NOW, customers, everything, repository, shops, written

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return repository(tmp_path / "repository")


def german(folder: Path) -> Path:
    """Return semicolons, decimal commas, thousands points, cp1252, gzip, days as 31.12.2024, and a null spelling."""
    frame = customers().with_columns(
        pl.col("Umsatz €").map_elements(lambda x: f"{x * 100:,.2f}".translate(str.maketrans(",.", ".,")), pl.String),
        pl.col("born").dt.strftime("%d.%m.%Y"),
        pl.when(pl.int_range(pl.len()) % 9 == 0).then(pl.lit("-")).otherwise("plan").alias("plan"),
    )
    path = folder / "kunden.csv.gz"
    path.write_bytes(gzip.compress(frame.write_csv(separator=";").encode("cp1252"), mtime=0))
    return path


def plain(folder: Path) -> Path:
    path = folder / "customers.csv"
    customers().write_csv(path)
    return path


def parquet(folder: Path) -> Path:
    path = folder / "customers.parquet"
    customers().with_columns(
        pl.col("Umsatz €").map_elements(lambda x: x if x > 60 else float("nan"), pl.Float64)
    ).write_parquet(path)
    return path


def lines(folder: Path) -> Path:
    path = folder / "customers.jsonl"
    path.write_text(customers().with_columns(pl.col("vip") == "yes").write_ndjson())
    return path


def padded(folder: Path) -> Path:
    path = folder / "padded.csv"
    path.write_text(customers().write_csv().replace(",", ", ").replace(", plus", ", ?"))
    return path


@pytest.mark.parametrize("file", [german, plain, parquet, lines, padded])
@pytest.mark.parametrize(
    "options",
    [
        {"target": "churned"},
        {"target": "Umsatz €"},
        {"target": "plan"},
        {"target": "churned", "group": "PLZ"},
        {"task": "clustering"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_what_is_written_reads_what_was_found(
    root: Path, tmp_path: Path, file: Callable[[Path], Path], options: dict[str, str]
) -> None:
    path = file(tmp_path)
    if file is padded and options.get("target") == "Umsatz €":
        options = {"target": "umsatz"}  # the header is padded as well
    found = written(root, path, **options)
    assert found.landed().read_bytes() == path.read_bytes()
    expected = infer(read(str(path)), **options)
    clean = found.clean()
    assert_frame_equal(clean.select(expected.frame.columns), expected.frame)
    assert [str(verdict) for verdict in found.verdicts() if not verdict.success] == []
    observed, view = found.observations(), found.view()
    assert observed.height == view.height == clean.height
    features = [name for name in view.columns if name not in ("customer_id", "event_timestamp", "created_timestamp")]
    assert expected.target not in features and "customer_id" not in features
    assert observed.select("customer_id", "event_timestamp").equals(view.select("customer_id", "event_timestamp"))
    if expected.target:
        known = expected.outcomes
        assert known is not None
        label = observed["label"]
        numbers = expected.outcome.numbers(label.alias("x")) if expected.outcome.classes else label.cast(pl.Float64)
        assert numbers.to_list() == known.to_list()


def test_the_history_of_an_entity_holds_what_was_known_by_then(root: Path, tmp_path: Path) -> None:
    frame = shops()
    frame.write_csv(tmp_path / "shops.csv")
    found = written(root, tmp_path / "shops.csv", target="sales", time="day", entity="shop", label_delay="2d")
    assert [str(verdict) for verdict in found.verdicts() if not verdict.success] == []
    assert found.problem.features is not None
    assert found.problem.features.last_value == "last_sales"
    assert (found.problem.split.by, found.problem.split.gap) == ("time", "2d")
    observed, view = found.observations(), found.view()
    assert observed["shop"].dtype == pl.String and "promo" in observed.columns and "day_weekday" in observed.columns
    for shop, moment in observed.sample(60, seed=1).select("shop", "event_timestamp").iter_rows():
        known = frame.filter(
            pl.col("shop") == int(shop),
            pl.col("sales").is_not_null(),
            pl.col("day").cast(pl.Datetime("us")).dt.offset_by("2d") <= moment.replace(tzinfo=None),
        )["sales"].to_list()
        rows = view.filter(pl.col("shop") == shop, pl.col("event_timestamp") <= moment).sort("event_timestamp").tail(1)
        if not known:
            assert rows.is_empty()
            continue
        assert rows["last_sales"].item() == known[-1]
        assert rows["sales_mean_7"].item() == pytest.approx(np.mean(known[-7:]))
        assert rows["sales_mean_28"].item() == pytest.approx(np.mean(known[-28:]))
        assert rows["sales_outcomes"].item() == len(known)


@pytest.mark.parametrize("target", ["sold_out", "weather"])
def test_histories_of_classes(root: Path, tmp_path: Path, target: str) -> None:
    frame = shops().with_columns(
        sold_out=pl.when(pl.col("sales") > 80).then(pl.lit("yes")).otherwise(pl.lit("no")),
        weather=pl.Series(np.random.default_rng(0).choice(["dry", "wet", "ice"], 200)),
    )
    frame.write_parquet(tmp_path / "shops.parquet")
    found = written(root, tmp_path / "shops.parquet", target=target, time="day", entity="shop")
    assert [str(verdict) for verdict in found.verdicts() if not verdict.success] == []
    last = found.view()[f"last_{target}"]
    assert set(last.unique()) == ({0.0, 1.0} if target == "sold_out" else {"dry", "wet", "ice"})


def test_several_files_land_as_one_that_reads_the_same(root: Path, tmp_path: Path) -> None:
    frame = customers()
    for number in range(3):
        frame[number * 60 : (number + 1) * 60].write_csv(tmp_path / f"part{number}.csv", separator="|")
    found = written(root, tmp_path / "part*.csv", target="churned")
    assert found.raw().height == 180
    assert found.raw()["Customer ID"].to_list() == frame["Customer ID"].to_list()[:180]
    assert "3 files were put together" in found.text


@pytest.mark.parametrize(("rows", "columns"), [(150, 4), (150, 200), pytest.param(500, 1000, marks=pytest.mark.slow)])
def test_tiny_and_wide(root: Path, tmp_path: Path, rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"f{number}": rng.normal(size=rows).round(4) for number in range(columns)})
    frame.with_columns(target=pl.Series(rng.choice(["a", "b", "c"], rows))).write_csv(tmp_path / "table.csv")
    found = written(root, tmp_path / "table.csv", target="target")
    assert found.view().width == columns + 3
    assert found.observations().height == rows


STRANGE = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
HOSTILE = st.sampled_from(
    [
        "it's",
        'say "hi"',
        "a: b # c",
        "{x}",
        "- y",
        "yes",
        "null",
        "1e3",
        "\\n",
        "line\nend",
        "two  blanks",
        "%s",
        "~",
        "é\u2028ü",
        "😀",
    ]
)


@settings(max_examples=25, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(STRANGE | HOSTILE, min_size=4, max_size=4, unique_by=lambda name: safe_name(name, 1)),
    classes=st.lists(STRANGE | HOSTILE, min_size=2, max_size=4, unique_by=lambda name: name.strip().lower()),
    ending=st.sampled_from(["parquet", "csv", "jsonl"]),
)
def test_no_name_and_no_class_breaks_what_is_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], classes: list[str], ending: str
) -> None:
    folder = tmp_path_factory.mktemp("strange")
    rng = np.random.default_rng(0)
    columns = [
        rng.normal(size=100),
        rng.choice(classes, 100),
        rng.choice([*classes, "other"], 100),
        rng.choice(classes, 100),
    ]
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)))
    path = folder / f"table.{ending}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[ending](path)
    try:
        expected = infer(read(str(path)), target=names[3])
    except ScaffoldError:
        return  # a clear refusal is as good
    found = written(repository(folder / "repository"), path, target=names[3])
    assert_frame_equal(found.clean().select(expected.frame.columns), expected.frame)
    label, known = found.observations()["label"], expected.outcomes
    assert known is not None
    got = expected.outcome.numbers(label) if expected.outcome.classes else label.cast(pl.Float64)
    assert got.to_list() == known.to_list()
    assert [str(verdict) for verdict in found.verdicts() if not verdict.success] == []


def test_the_code_is_formatted_and_clean(root: Path, tmp_path: Path) -> None:
    for number, file in enumerate((german, parquet, lines, padded)):
        new(root, f"problem{number}", data=str(file(tmp_path)), target="churned", now=NOW)
    shops().write_csv(tmp_path / "shops.csv")
    new(root, "sales", data=str(tmp_path / "shops.csv"), target="sales", time="day", entity="shop", now=NOW)
    long = {f"a rather long name of a column, number {number}": customers()["born"] for number in range(30)}
    customers().with_columns(**long).write_csv(tmp_path / "long.csv")
    new(root, "long", data=str(tmp_path / "long.csv"), target="churned", now=NOW)
    config = ["--config", str(ROOT / "pyproject.toml"), str(root)]
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


# -- what a person reads ---------------------------------------------------------------------------------------------------


def test_leaks_are_told_loudly_and_one_line_puts_them_back(root: Path, tmp_path: Path) -> None:
    frame = customers().with_columns(
        refund=pl.when(pl.col("churned") == "yes").then(pl.lit(9.5)).otherwise(pl.lit(0.0))
    )
    frame.write_csv(tmp_path / "customers.csv")
    found = written(root, tmp_path / "customers.csv", target="churned")
    assert "ALARM" in found.text and "refund" in found.text and "AUC 1.000" in found.text
    assert found.problem.features is not None
    assert list(found.problem.features.ignore) == ["refund"]
    assert "- refund # leak: alone it predicts the target with AUC 1.000" in found.declaration
    assert "refund" in found.view().columns


def test_personal_data_stays_out_of_the_features(root: Path, tmp_path: Path) -> None:
    frame = customers().with_columns(mail=pl.format("a{}@example.org", pl.int_range(pl.len())))
    frame.write_csv(tmp_path / "customers.csv")
    found = written(root, tmp_path / "customers.csv", target="churned")
    assert "mail" not in found.view().columns
    assert (
        "# Left out: mail, it seems to hold e-mail addresses." in (root / "ml_assets/defs/mine/features.py").read_text()
    )
    assert next(column for column in found.source.columns if column.name == "mail").personal


# -- bad input: a clear refusal, and nothing is written ------------------------------------------------------------------

DAYS = pl.date_range(datetime(2024, 1, 1), datetime(2024, 7, 18), eager=True)
BAD: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], dict[str, Any], str]] = {
    "no such target": (lambda f: f, {"target": "churn"}, "did you mean 'churned'"),
    "constant target": (lambda f: f.with_columns(churned=pl.lit("no")), {"target": "churned"}, "in every row"),
    "empty target": (lambda f: f.with_columns(churned=pl.lit("")), {"target": "churned"}, "has no value in any row"),
    "text in a numeric target": (
        lambda f: f.with_columns(
            pl.when(pl.int_range(pl.len()) == 7)
            .then(pl.lit("lots"))
            .otherwise(pl.col("Umsatz €").cast(str))
            .alias("Umsatz €")
        ),
        {"target": "Umsatz €"},
        "'lots' in line 9",
    ),
    "a time that does not parse": (lambda f: f, {"target": "churned", "time": "plan"}, "--time 'plan' does not parse"),
    "one time that does not parse": (
        lambda f: f.with_columns(
            pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("soon")).otherwise(pl.col("born").cast(str)).alias("born")
        ),
        {"target": "churned", "time": "born"},
        "'soon' in line 5",
    ),
    "regression of text": (lambda f: f, {"target": "plan", "task": "regression"}, "use --task classification"),
    "classes of floats": (lambda f: f, {"target": "Umsatz €", "task": "classification"}, "use --task regression"),
    "an unknown task": (lambda f: f, {"target": "plan", "task": "ranking"}, "use one of: classification, regression"),
    "a task without a target": (lambda f: f, {"task": "regression"}, "--task regression needs --target"),
    "clusters with a target": (lambda f: f, {"target": "plan", "task": "clustering"}, "clusters need no target"),
    "3 rows": (lambda f: f.head(3), {"target": "churned"}, "at least 50 are needed"),
    "3 rows of clusters": (lambda f: f.head(3), {}, "3 rows: at least 50"),
    "a class of one row": (
        lambda f: f.with_columns(
            churned=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("yes")).otherwise(pl.lit("no"))
        ),
        {"target": "churned"},
        "yes: 1",
    ),
    "names that become one": (lambda f: f.with_columns(Plan="vip"), {"target": "churned"}, "are all 'plan'"),
    "a name of the raw table": (
        lambda f: f.with_columns(landed_at=1),
        {"target": "churned"},
        "rename them in the file",
    ),
    "two roles": (lambda f: f, {"target": "plan", "time": "plan"}, "both name 'plan'"),
    "an entity without time": (lambda f: f, {"target": "churned", "entity": "plan"}, "--entity needs --time"),
    "groups by time": (lambda f: f, {"target": "churned", "time": "born", "group": "plan"}, "cannot keep groups"),
    "a delay that is none": (lambda f: f, {"target": "churned", "label_delay": "soon"}, "--label-delay: 'soon'"),
    "nothing to learn from": (lambda f: f.select("Customer ID", "churned"), {"target": "churned"}, "no column is left"),
    "a target that is a time": (lambda f: f, {"target": "born"}, "is a time"),
    "too many classes": (
        lambda f: f.with_columns(plan=pl.format("p{}", pl.int_range(pl.len()))),
        {"target": "plan"},
        "at most 100 classes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(root: Path, tmp_path: Path, case: str) -> None:
    change, options, told = BAD[case]
    change(customers()).write_csv(tmp_path / "table.csv")
    before = everything(root)
    with pytest.raises(ScaffoldError) as caught:
        new(root, "mine", data=str(tmp_path / "table.csv"), now=NOW, **options)
    assert told in str(caught.value)
    assert everything(root) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Mine", "is no name"),
        ("2x", "is no name"),
        ("a-b", "is no name"),
        ("class", "a word of Python"),
        ("match", "a word of Python"),
        ("raw", "is taken"),
        ("random", "a Python module"),
        ("polars", "a Python module"),
        ("x" * 51, "at most 50"),
        ("there", "is taken"),
        ("weather", "is taken"),
        ("their_view", "is taken"),
        ("views", "is taken"),
    ],
)
def test_names_that_are_none_or_taken(root: Path, tmp_path: Path, name: str, told: str) -> None:
    (root / "ml_assets/defs/there").mkdir()
    (root / "ml_assets/defs/there/defs.yaml").write_text(
        "type: x\nattributes: {name: weather}\n---\ntype: y\nattributes: {views: [{name: their_view}]}\n"
    )
    (root / "feature_repo/views.py").write_text("")
    before = everything(root)
    with pytest.raises(ScaffoldError, match=told):
        new(root, name, data=str(plain(tmp_path)), target="churned", now=NOW)
    assert everything(root) == before


def test_a_second_time_is_refused(root: Path, tmp_path: Path) -> None:
    path = str(plain(tmp_path))
    new(root, "mine", data=path, target="churned", now=NOW)
    before = everything(root)
    with pytest.raises(ScaffoldError, match="'mine' is taken here"):
        new(root, "mine", data=path, target="churned", now=NOW)
    assert everything(root) == before


def test_the_same_file_gives_the_same_problem(tmp_path: Path) -> None:
    path = str(german(tmp_path))
    one, other = (repository(tmp_path / name) for name in ("one", "other"))
    for place in (one, other):
        new(place, "mine", data=path, target="churned", now=NOW)
    assert everything(one) == everything(other)


def test_future_rows_are_told(root: Path, tmp_path: Path) -> None:
    frame = shops()
    frame.write_csv(tmp_path / "shops.csv")
    text = new(
        root,
        "mine",
        data=str(tmp_path / "shops.csv"),
        target="sales",
        time="day",
        now=datetime(2024, 1, 20, tzinfo=UTC),
    )
    assert "later than now (2024-01-20)" in text


def test_a_suite_of_nothing_would_pass() -> None:
    """The verdicts above are of suites that can fail."""
    frame = pl.LazyFrame({"a": [1, 1]})
    from ml_assets.features.views import view_suite

    assert not evaluate(frame.with_columns(event_timestamp=1, created_timestamp=1), view_suite("v", ["a"], ()))[
        ""
    ].success
    assert evaluate(frame, Suite("empty", ()))[""].rows == 2
