"""One function, every way to it: equal values in training, batch scoring, serving and Feast's own pandas; and what is refused."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.defs.flights.feature_views.request_time import departure_context
from ml_assets.features import on_demand, retrieval
from ml_assets.features.on_demand import Input, OnDemand, Output, on_demand_view, run_on_pandas, with_request_features
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import apply, historical_features, service_features, service_views
from ml_assets_tests.features.repos import feature_store_yaml

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
MODULE = "request_functions_under_test"
YAML = feature_store_yaml()
FUNCTIONS = """\
import polars as pl

CALLS = []

def floats(inputs):
    CALLS.append(inputs.schema)
    return inputs.select(
        scaled=pl.col("x") * pl.col("factor") / 4, added=pl.col("n") + pl.col("factor"), hour=pl.col("asked").dt.hour()
    )

def kinds(inputs):
    return inputs.select(
        whole=pl.col("n") * 2,
        small=pl.col("n") - 1,
        half=(pl.col("x") / 3).cast(pl.Float32),
        text=pl.col("s") + pl.col("unit"),
        truth=pl.col("x") > 0.15,
        moment=pl.col("asked") + pl.duration(hours=pl.col("n")),
    )
"""
DEFINITIONS = """\
import pandas as pd
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from ml_assets.features.on_demand import on_demand_view

thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)
v = FeatureView(
    name="v",
    entities=[thing],
    ttl=timedelta(days=4000),
    schema=[Field(name="k", dtype=String), Field(name="x", dtype=Float64), Field(name="n", dtype=Int64),
            Field(name="s", dtype=String), Field(name="unused", dtype=Float64)],
    source=FileSource(name="v", path="v.parquet", timestamp_field="event_timestamp"),
)
request = RequestSource(name="request", schema=[
    Field(name="factor", dtype=Float64), Field(name="asked", dtype=UnixTimestamp), Field(name="unit", dtype=String)])
floats = on_demand_view(
    name="floats", function="MODULE.floats", sources=[v[["x", "n"]], request],
    schema=[Field(name="scaled", dtype=Float64, description="x by factor, quarters."), Field(name="added", dtype=Float64),
            Field(name="hour", dtype=Float64)],
)
kinds = on_demand_view(
    name="kinds", function="MODULE.kinds", sources=[v, request],
    schema=[Field(name="whole", dtype=Int64), Field(name="small", dtype=Int32), Field(name="half", dtype=Float32),
            Field(name="text", dtype=String), Field(name="truth", dtype=Bool), Field(name="moment", dtype=UnixTimestamp)],
)

@on_demand_feature_view(sources=[v[["x", "n"]], request], schema=[Field(name="scaled", dtype=Float64),
                        Field(name="added", dtype=Float64), Field(name="hour", dtype=Float64)])
def theirs(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"scaled": inputs["x"] * inputs["factor"] / 4, "added": inputs["n"] + inputs["factor"],
                         "hour": inputs["asked"].dt.hour.astype("float64")})

services = [
    FeatureService(name="beside", features=[v[["x"]], floats]),
    FeatureService(name="alone", features=[floats[["hour", "scaled"]]]),
    FeatureService(name="both", features=[kinds, v[["unused"]], floats]),
    FeatureService(name="by_feast", features=[v[["x"]], theirs]),
    FeatureService(name="renamed", features=[v[["x"]], floats.with_name("other")]),
]
beside, alone, both, by_feast, renamed = services
""".replace("MODULE", MODULE)

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module of functions, importable by its name while the tests run."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / f"{MODULE}.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module(MODULE)
    sys.path.remove(str(folder))
    del sys.modules[MODULE]


@pytest.fixture(scope="module")
def repo(functions: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An applied repository whose view has nulls in every column, and an online store that holds the newest rows."""
    folder = tmp_path_factory.mktemp("on_demand")
    (folder / "feature_store.yaml").write_text(YAML)
    (folder / "definitions.py").write_text(DEFINITIONS)
    rows = {
        "k": ["a", "b", "c", "d"],
        "event_timestamp": [at(1), at(1), at(1), at(1)],
        "x": [0.1, 0.2, None, 0.4],
        "n": [1, None, 3, 4],
        "s": ["p", "q", None, "r"],
        "unused": [1.0, 2.0, 3.0, 4.0],
    }
    pl.DataFrame(rows, schema_overrides={"event_timestamp": TIME}).write_parquet(folder / "v.parquet")
    assert apply(folder)
    return folder


def observed(*, unit: bool = True) -> pl.DataFrame:
    """One row for each case: all there, each kind of null, an unknown key, no key; with whole seconds, as Feast keeps."""
    return pl.DataFrame(
        {
            "k": ["a", "b", "c", "z", None, "a", "d"],
            "event_timestamp": [at(h) for h in (5, 6, 7, 8, 9, 10, 0)],
            "factor": [1.5, 2.5, 3.5, 4.5, 5.5, None, 7.5],
            "asked": [at(5), at(30), None, at(8), at(9), at(10), at(0)],
        }
        | ({"unit": ["m", None, "s", "s", "s", "s", "s"]} if unit else {}),
        schema_overrides={"event_timestamp": TIME, "asked": TIME},
    )


def job(repo: Path, service: str, frame: pl.DataFrame, **options: Any) -> Any:
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repo))
    return store.get_historical_features(entity_df=frame, features=store.get_feature_service(service), **options)


def as_polars(frame: Any) -> pl.DataFrame:
    """Return pandas as Polars with nulls for NaN."""
    found = pl.from_pandas(frame)
    return found.with_columns(pl.col(pl.Float64, pl.Float32).fill_nan(None), pl.col(pl.Datetime).cast(TIME))


ONE = OnDemand("one", f"{MODULE}.answer", "", (Input("a", "Int32"),), (Output("b", "Int64"),), asked=("b",))


# -- every way is the same ---------------------------------------------------------------------------------------------


def test_training_batch_and_feasts_pandas_and_arrow_give_the_same(repo: Path, functions: Any) -> None:
    found = historical_features(repo, "beside", observed())
    expected = {
        "scaled": [0.1 * 1.5 / 4, 0.2 * 2.5 / 4, None, None, None, None, None],
        "added": [2.5, None, 6.5, *[None] * 4],
    }
    assert found.select("scaled", "added").to_dict(as_series=False) == expected
    assert found["hour"].to_list() == [5.0, 6.0, None, 8.0, 9.0, 10.0, 0.0]
    assert found.columns == [*observed().columns, "x", "scaled", "added", "hour"]
    functions.CALLS.clear()
    assert_frame_equal(service_features(repo, "beside", observed()), found, check_exact=True)
    asked = job(repo, "beside", observed())
    whole = asked.to_polars()
    assert_frame_equal(whole.drop("n"), found, check_exact=True)  # as in Feast, the job keeps what was read
    assert_frame_equal(pl.DataFrame(pl.from_arrow(asked.to_arrow())), whole, check_exact=True)
    assert_frame_equal(as_polars(asked.to_df()).cast({"n": pl.Int64}), whole, check_exact=True)
    inputs = pl.Schema({"x": pl.Float64, "n": pl.Int64, "factor": pl.Float64, "asked": TIME, "unit": pl.String})
    assert [inputs] * 4 == functions.CALLS


def test_feast_computing_the_same_in_pandas_gives_the_same(repo: Path) -> None:
    ours, theirs = (historical_features(repo, service, observed()) for service in ("beside", "by_feast"))
    assert_frame_equal(ours, theirs.with_columns(pl.col("scaled", "added", "hour").fill_nan(None)), check_exact=True)


@pytest.mark.parametrize("service", ["beside", "both"])
def test_feasts_online_features_give_the_same(repo: Path, functions: Any, service: str) -> None:
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(repo))
    store.materialize(at(0), at(2), feature_views=["v"])
    try:
        frame = observed().filter(pl.col("k").is_not_null() & (pl.col("event_timestamp") > at(1)))
        rows = frame.drop("event_timestamp").to_dicts()
        functions.CALLS.clear()
        answer = store.get_online_features(features=store.get_feature_service(service), entity_rows=rows).to_dict()
        assert len(functions.CALLS) == 1
        found = historical_features(repo, service, frame)
        assert set(answer) == set(found.columns) - {"event_timestamp", "factor", "asked", "unit"}
        online = pl.DataFrame(answer, schema={name: found.schema[name] for name in answer}).fill_nan(None)
        assert_frame_equal(online, found.select(online.columns), check_exact=True)
    finally:
        apply(repo)  # materializing wrote the registry


def test_every_type_keeps_its_type_and_its_nulls(repo: Path) -> None:
    found = historical_features(repo, "both", observed())
    assert_frame_equal(service_features(repo, "both", observed()), found, check_exact=True)
    asked = job(repo, "both", observed())
    arrow = pl.DataFrame(pl.from_arrow(asked.to_arrow()))
    assert_frame_equal(arrow.select(found.columns), found, check_exact=True)
    types = [pl.Int64, pl.Int32, pl.Float32, pl.String, pl.Boolean, TIME]
    assert found.select("whole", "small", "half", "text", "truth", "moment").dtypes == types
    assert found["text"].to_list() == ["pm", None, None, None, None, "ps", None]
    assert found["moment"].to_list() == [at(6), None, None, None, None, at(11), None]
    assert found["truth"].to_list() == [False, True, None, None, None, False, None]


def test_full_names_are_read_and_written(repo: Path) -> None:
    taken = observed().with_columns(x=pl.lit(-1.0), scaled=pl.lit("mine"))  # other columns that have the short names
    asked = job(repo, "beside", taken, full_feature_names=True)
    found = asked.to_polars()
    assert found.columns[-3:] == ["floats__scaled", "floats__added", "floats__hour"]
    plain = historical_features(repo, "beside", observed())
    assert_frame_equal(found.select(pl.col("^floats__.*$").name.replace("floats__", "")), plain[:, -3:])
    assert_frame_equal(pl.DataFrame(pl.from_arrow(asked.to_arrow())), found, check_exact=True)


def test_unasked_inputs_are_dropped_and_request_columns_stay(repo: Path) -> None:
    found = service_features(repo, "alone", observed())
    assert found.columns == [*observed().columns, "scaled", "hour"]
    assert_frame_equal(found, historical_features(repo, "alone", observed()), check_exact=True)
    assert service_views(repo, "alone") == ["v"]
    assert service_views(repo, "both") == ["v"]


def test_no_rows_are_no_difficulty(repo: Path) -> None:
    none = observed().clear()
    for service in ("beside", "both"):
        found = service_features(repo, service, none)
        assert found.height == 0
        assert_frame_equal(found, historical_features(repo, service, none))
        assert_frame_equal(
            pl.DataFrame(pl.from_arrow(job(repo, service, none).to_arrow())).select(found.columns), found
        )


NUMBERS = st.one_of(st.none(), st.floats(width=64), st.integers(-(2**40), 2**40).map(float))
TRIP = OnDemand(
    name="trip",
    function="ml_assets.defs.flights.feature_views.request_time.departure_context",
    version="",
    inputs=(
        Input("event_timestamp", "UnixTimestamp"),
        *(Input(name, "Float64") for name in ("distance", "scheduled_duration", "planned_departures")),
        *(Input(n, "Float64", "v") for n in ("origin_departures_1h", "aircraft_last_arr_delay", "aircraft_year_built")),
    ),
    outputs=tuple(
        Output(name, "Float64")
        for name in ("planned_speed", "departures_above_last_hour", "inherited_delay_share", "aircraft_age_years")
    ),
    asked=("planned_speed", "departures_above_last_hour", "inherited_delay_share", "aircraft_age_years"),
)
ROWS = st.fixed_dictionaries(
    {item.name: NUMBERS for item in TRIP.inputs[1:]}
    | {"event_timestamp": st.one_of(st.none(), st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))}
)


@settings(max_examples=60)
@given(st.lists(ROWS, max_size=6))
def test_any_values_take_the_same_way_through_pandas(rows: list[dict[str, Any]]) -> None:
    types = {"event_timestamp": pl.Datetime("us"), **{item.name: pl.Float64 for item in TRIP.inputs[1:]}}
    frame = pl.DataFrame(rows, schema=types).with_columns(pl.col("event_timestamp").dt.replace_time_zone("UTC"))
    found = with_request_features(frame, [TRIP])
    spec = json.loads(json.dumps(on_demand.asdict(TRIP)))
    through_pandas = as_polars(run_on_pandas(frame.to_pandas(), spec)).cast(pl.Float64)
    assert_frame_equal(found.select(TRIP.asked), through_pandas, check_exact=True)
    assert not any(found[name].is_nan().any() for name in TRIP.asked)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_row_gives_alone_what_it_gives_among_others(
    functions: Any, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: Polars divides by a constant in two ways."""
    monkeypatch.setattr(functions, "answer", lambda f: f.select(b=pl.col("a") / 3, c=1.1 ** pl.col("a")), raising=False)
    view = replace(ONE, inputs=(Input("a", "Float64"),), outputs=(Output("b", "Float64"), Output("c", "Float64")))
    frame = pl.DataFrame({"a": [n * 0.1 for n in range(700)]})
    together = with_request_features(frame, [view])
    parts = [with_request_features(frame[start : start + count], [view]) for start in range(0, 700, count)]
    assert_frame_equal(pl.concat(parts), together, check_exact=True)


def test_the_context_of_a_departure() -> None:
    inputs = pl.DataFrame(
        {
            "event_timestamp": [START, START, None],
            "distance": [500.0, 500.0, None],
            "scheduled_duration": [120.0, 0.0, 60.0],
            "planned_departures": [20.0, 20.0, 20.0],
            "origin_departures_1h": [15.0, None, 30.0],
            "aircraft_last_arr_delay": [-12.0, 30.0, 30.0],
            "aircraft_year_built": [1999.0, 2013.0, 2000.0],
        },
        schema_overrides={"event_timestamp": TIME},
    )
    assert departure_context(inputs).to_dict(as_series=False) == {
        "planned_speed": [250.0, None, None],
        "departures_above_last_hour": [5.0, None, -10.0],
        "inherited_delay_share": [-0.1, None, 0.5],
        "aircraft_age_years": [14.0, 0.0, None],
    }


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [service_features, historical_features])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.drop("factor"), r"observations, for on-demand view 'floats': no column \['factor'\]"),
        (
            lambda f: f.with_columns(factor=pl.lit("x")),
            r"on-demand view 'floats': column 'factor' is String, declared is",
        ),
        (
            lambda f: f.with_columns(pl.col("asked").dt.replace_time_zone(None)),
            r"on-demand view 'floats': column 'asked' has no time zone",
        ),
        (lambda f: f.with_columns(hour=1.0), r"on-demand view 'floats': column \['hour'\] exists already"),
    ],
)
def test_bad_requests_are_refused_by_view_and_column(
    repo: Path, ways: Callable[..., Any], spoil: Callable[[pl.DataFrame], pl.DataFrame], said: str
) -> None:
    with pytest.raises(FeatureError, match=said):
        ways(repo, "beside", spoil(observed()))


def test_other_widths_units_and_zones_of_a_request_are_taken(repo: Path) -> None:
    plain = observed().with_columns(factor=pl.Series([1, 2, 3, 4, 5, None, 7], dtype=pl.Float64), unit=pl.lit("m"))
    other = plain.with_columns(
        pl.col("factor").cast(pl.Int16),
        pl.col("asked").dt.cast_time_unit("ns").dt.convert_time_zone("America/New_York"),
        pl.col("unit").cast(pl.Categorical),
    )
    features = ["scaled", "added", "hour", "text", "moment"]
    found, expected = (service_features(repo, "both", frame).select(features) for frame in (other, plain))
    assert_frame_equal(found, expected, check_exact=True)
    all_null = other.with_columns(pl.lit(None).alias("factor"))
    assert service_features(repo, "both", all_null)["scaled"].null_count() == all_null.height


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda f: f.lazy(), r"returned LazyFrame; return a polars.DataFrame"),
        (lambda f: f, r"returned columns \['a'\], declared are \['b'\]; make them agree"),
        (lambda f: f.select("a", b="a"), r"returned columns \['a', 'b'\]"),
        (lambda f: f.head(1).select(b="a"), r"returned 1 rows for 2; return one row for each"),
        (
            lambda f: f.select(b=pl.col("a") / 2),
            r"request_functions_under_test.answer: column 'b' is Float64, declared is",
        ),
    ],
)
def test_a_function_that_breaks_its_word_is_named(
    functions: Any, answer: Callable[[pl.DataFrame], Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "answer", answer, raising=False)
    with pytest.raises(FeatureError, match=said) as caught:
        with_request_features(pl.DataFrame({"a": [1, 2]}), [ONE])
    assert str(caught.value).startswith("on-demand view 'one': ")


def test_values_that_do_not_fit_are_refused(functions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "answer", lambda f: f.select(b="a"), raising=False)
    assert with_request_features(pl.DataFrame({"a": [1, None]}), [ONE]).rows() == [(1, 1), (None, None)]
    with pytest.raises(FeatureError, match=r"'one': a value does not fit its declared type"):
        with_request_features(pl.DataFrame({"a": [2**40]}), [ONE])
    pandas = pl.DataFrame({"a": [1.0, None]}).to_pandas()
    assert as_polars(run_on_pandas(pandas, on_demand.asdict(ONE)))["b"].to_list() == [1, None]
    with pytest.raises(FeatureError, match=r"column 'a' is Float64, declared is Int32"):
        run_on_pandas(pandas + 0.5, on_demand.asdict(ONE))


def test_functions_that_are_not_there_are_refused(functions: Any) -> None:
    frame = pl.DataFrame({"a": [1]})
    for path in ("no_such_module.x", f"{MODULE}.no_such", f"{MODULE}.CALLS", "", "x"):
        with pytest.raises(FeatureError, match=r"no function at .*; write it as package.module.function"):
            with_request_features(frame, [replace(ONE, function=path)])
    for path in ("no_such_module.x", "no.such.x", "x"):
        with pytest.raises(FeatureError, match="no function at"):
            on_demand.module_version(path)


def declarations() -> dict[str, tuple[Callable[[Any], dict[str, Any]], str]]:
    from feast import FeatureView, Field, FileSource, RequestSource
    from feast.types import Array, Float64

    def field(name: str, dtype: Any = Float64) -> Field:
        return Field(name=name, dtype=dtype)

    def view(*fields: Field) -> FeatureView:
        source = FileSource(name="w", path="w.parquet", timestamp_field="event_timestamp")
        return FeatureView(name="w", entities=[], schema=list(fields), source=source)

    a, b = RequestSource(name="r", schema=[field("a")]), [field("b")]
    return {
        "no function": ({"function": f"{MODULE}.none", "sources": [a], "schema": b}, r"no function at"),
        "a name twice": ({"sources": [a, view(field("a"))], "schema": b}, r"view 'o': \['a'\] is there more than once"),
        "an output as an input": ({"sources": [a], "schema": [field("a")]}, r"\['a'\] is there more than once"),
        "a list": (
            {"sources": [a], "schema": [field("b", Array(Float64))]},
            r"'b' is declared Array\(Float64\); use one",
        ),
        "a renamed source": ({"sources": [view(field("x")).with_name("z")], "schema": b}, r"source 'w' is renamed"),
        "other keys": ({"sources": [view(field("x")).with_join_key_map({"k": "l"})], "schema": b}, r"other join keys"),
        "no schema": ({"sources": [view()], "schema": b}, r"source 'w' declares no features; give the feature view a"),
        "no inputs": ({"sources": [], "schema": b}, r"at least one input and one output"),
        "no outputs": ({"sources": [a], "schema": []}, r"at least one input and one output"),
    }


@pytest.mark.parametrize("name", list(declarations()))
def test_declarations_that_could_not_work_are_refused(functions: Any, name: str) -> None:
    options, said = declarations()[name]
    with pytest.raises(FeatureError, match=said):
        on_demand_view(name="o", **({"function": f"{MODULE}.floats"} | options))


def test_an_on_demand_view_under_another_name_is_refused(repo: Path) -> None:
    """Feast 0.67 leaves its columns out offline, without a word."""
    with pytest.raises(FeatureError, match=r"'renamed': Feast does not compute \['added', 'hour', 'scaled'\] offline"):
        service_features(repo, "renamed", observed())


# -- the registry ------------------------------------------------------------------------------------------------------


def test_no_pickled_code_is_stored_or_run(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dill
    from feast import FeatureStore

    views = FeatureStore(repo_path=str(repo)).registry.proto().on_demand_feature_views
    bodies = {v.spec.name: v.spec.feature_transformation.user_defined_function.body for v in views}
    assert bodies["floats"] == bodies["kinds"] == b""
    assert bodies["theirs"]  # as Feast does it

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("pickled code was loaded")

    monkeypatch.setattr(dill, "loads", refuse)
    assert job(repo, "beside", observed()).to_df().shape == (7, 10)


def test_what_is_described_is_kept(repo: Path) -> None:
    found = retrieval.applied_repo(repo).services["beside"].on_demand[0]
    assert [(item.name, item.description) for item in found.outputs][:1] == [("scaled", "x by factor, quarters.")]
    assert found.hidden == ("n",)
    assert [item.name for item in found.request] == ["factor", "asked", "unit"]


def test_a_changed_function_is_applied_again(
    tmp_path: Path, functions: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from feast import FeatureStore
    from feast.repo_operations import plan

    (tmp_path / "feature_store.yaml").write_text(YAML)
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    assert [apply(tmp_path), apply(tmp_path)] == [True, False]
    before = retrieval.applied_repo(tmp_path).services["beside"].on_demand[0].version
    module = Path(functions.__file__)
    text = module.read_text()
    module.write_text(text + "# changed\n")
    try:
        config = FeatureStore(repo_path=str(tmp_path)).config
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        plan(config, tmp_path, skip_source_validation=True)
        sys.modules.pop("definitions", None)
        assert "Updated on demand feature view floats" in capsys.readouterr().out
        assert [apply(tmp_path), apply(tmp_path)] == [True, False]
        assert retrieval.applied_repo(tmp_path).services["beside"].on_demand[0].version != before
    finally:
        module.write_text(text)
