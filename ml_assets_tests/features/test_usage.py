"""A feature in use cannot be removed: the error names the users, and nothing has been written by then."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.features import retrieval
from ml_assets.features.compiled import CompiledService
from ml_assets.features.point_in_time import FeatureError
from ml_assets.features.retrieval import applied_repo, apply
from ml_assets.features.usage import User, broken_uses, require_unused, users
from ml_assets_tests.features.repos import feature_store_yaml

YAML = feature_store_yaml()
DEFINED = """\
import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.STRING)
key = Field(name="k", dtype=String)

def view(name, **features):
    fields = [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    source = FileSource(name=name, path=name, timestamp_field="event_timestamp")
    return FeatureView(name=name, entities=[thing], schema=[key, *fields], source=source)

v = view("v", x=Float64, y=Float64, spare=Int64)
w = view("w", z=Float64)

@on_demand_feature_view(sources=[w], schema=[Field(name="twice", dtype=Float64)])
def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"twice": 2 * inputs["z"]})

first = FeatureService(name="first_v1", features=[v[["x"]]], tags={"problem": "churn"})
second = FeatureService(name="second", features=[v[["x", "y"]], doubled])
"""
BREAKS = {
    "a feature is gone": (
        {"x=Float64, ": "", 'v[["x"]]': 'v[["y"]]', 'v[["x", "y"]]': 'v[["y"]]'},
        r"feature view 'v': feature 'x' \(Float64\) is gone, but feature service 'first_v1' \(problem churn\) and "
        r"feature service 'second' \(problem second\) use it",
    ),
    "a type has changed": ({"y=Float64": "y=Int64"}, r"'v': feature 'y' changes from Float64 to Int64, but .*'second'"),
    "a view is gone": (
        {'v = view("v", ': 'v = view("u", '},
        r"'v': feature 'x' .* is gone.*; feature view 'v': feature 'y' .* is gone",
    ),
    "a source of an on-demand view is gone": (
        {"z=Float64": "zz=Float64", 'inputs["z"]': 'inputs["zz"]'},
        r"feature view 'w': feature 'z' \(Float64\) is gone, but feature service 'second'",
    ),
    "a request-time feature is gone": ({'"twice"': '"thrice"'}, r"'doubled': feature 'twice' \(Float64\) is gone"),
}
FINE = {
    "a feature that nobody uses is gone": {", spare=Int64": ""},
    "a feature is new": {"spare=Int64": "spare=Int64, more=Float64"},
    "its service is gone as well": {
        "y=Float64, ": "",
        'second = FeatureService(name="second"': "_ = dict(a=1",
        ', "y"': "",
    },
    "its service has a new version": {
        "x=Float64, ": "",
        '"first_v1", features=[v[["x"]]]': '"first_v2", features=[v[["y"]]]',
        '"second", features=[v[["x", "y"]]': '"second_v2", features=[v[["y"]]',
    },
}

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast warns of its own deprecations


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(YAML)
    (tmp_path / "defined.py").write_text(DEFINED)
    assert apply(tmp_path)
    return tmp_path


def change(repo: Path, changes: dict[str, str]) -> None:
    code = DEFINED
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    (repo / "defined.py").write_text(code)


def state(repo: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in repo.iterdir() if path.suffix in (".db", ".json", ".applied")}


@pytest.mark.parametrize("name", BREAKS)
def test_removing_what_is_in_use_is_refused_before_anything_is_written(repo: Path, name: str) -> None:
    changes, told = BREAKS[name]
    before = state(repo)
    change(repo, changes)
    for _ in range(2):  # it does not get through the second time either
        with pytest.raises(FeatureError, match=told) as refused:
            apply(repo)
    assert "new version of the service" in str(refused.value)
    assert state(repo) == before
    (repo / "defined.py").write_text(DEFINED)
    assert not apply(repo)


@pytest.mark.parametrize("name", FINE)
def test_what_nobody_uses_may_change(repo: Path, name: str) -> None:
    change(repo, FINE[name])
    assert apply(repo)


def test_a_plain_feast_apply_is_noticed_at_the_next_compile(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, told = BREAKS["a type has changed"]
    change(repo, changes)
    with monkeypatch.context() as patch:  # as `feast apply` in a shell
        patch.setattr(retrieval, "_require_unused", lambda *_: None)
        retrieval._apply(repo)
    for ask in (apply, applied_repo):
        with pytest.raises(FeatureError, match=told):
            ask(repo)
    (repo / "defined.py").write_text(DEFINED)
    assert apply(repo)
    assert applied_repo(repo).views["v"].features["y"] == "Float64"


def test_without_the_compiled_file_the_registry_knows_the_users(repo: Path) -> None:
    (repo / "registry.compiled.json").unlink()
    change(repo, BREAKS["a type has changed"][0])
    with pytest.raises(FeatureError, match=BREAKS["a type has changed"][1]):
        apply(repo)


def test_users_are_named_with_their_problem(repo: Path) -> None:
    services = applied_repo(repo).services
    first, second = User("first_v1", "churn"), User("second", "second")
    assert users(services, "v") == users(services, "v", "x") == [first, second]
    assert users(services, "v", "y") == users(services, "w", "z") == users(services, "doubled") == [second]
    assert users(services, "v", "spare") == users(services, "nothing") == []


def test_a_view_whose_features_feast_infers_is_not_judged() -> None:
    before = {"s": CompiledService(("v",), None, uses={"v": {"x": "Int64"}})}
    require_unused(before, {"v": {}}, services=["s"])
    with pytest.raises(FeatureError, match="'x'"):
        require_unused(before, {"v": {"y": "Int64"}}, services=["s"])


NAMES = st.sampled_from(["a", "b", "c"])
SCHEMAS = st.dictionaries(NAMES, st.dictionaries(NAMES, st.sampled_from(["Int64", "Float64"]), min_size=1), max_size=3)


@given(st.dictionaries(NAMES, SCHEMAS), SCHEMAS, st.sets(NAMES))
def test_exactly_what_standing_services_lose_is_broken(
    uses: dict[str, dict[str, dict[str, str]]], after: dict[str, dict[str, str]], standing: set[str]
) -> None:
    before = {name: CompiledService(tuple(used), None, uses=used) for name, used in uses.items()}
    broken = broken_uses(before, after, services=standing)
    lost = {
        (view, feature, dtype)
        for name in standing & set(uses)
        for view, features in uses[name].items()
        for feature, dtype in features.items()
        if after.get(view, {}).get(feature) != dtype
    }
    assert {(one.view, one.feature, one.before) for one in broken} == lost
    for one in broken:
        assert {user.service for user in one.users} == {
            name for name in standing & set(uses) if one.feature in uses[name].get(one.view, {})
        }
