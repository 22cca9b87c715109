"""The serving API: what it answers, how it marks what it does not know, whom it lets in, and what it tells Prometheus."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from itertools import permutations
from math import factorial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ml_assets.deployment import api
from ml_assets.deployment.api import create_app, serve
from ml_assets.deployment.bodies import MOST_FAULTS
from ml_assets.deployment.contributions import EVALUATIONS, contributions
from ml_assets.deployment.metrics import NAMES
from ml_assets.features.guard import MOST_CLIENTS, RateLimit
from ml_assets.features.point_in_time import FeatureError
from ml_assets_tests.deployment.api_samples import (
    FEATURES,
    OTHER,
    ROW,
    SmallEngine,
    client,
    hashed,
    in_office,
    online_features,
    predictor,
)
from ml_assets_tests.features.pushing import NOW, PLAIN, at, compiled, view

ENTITY = {"k": "p", "far": True, "distance km": 10.0}


@pytest.fixture
def engine() -> SmallEngine:
    return SmallEngine(in_office())


# -- answers -----------------------------------------------------------------------------------------------------------


def test_full_rows_are_answered_in_order(engine: SmallEngine) -> None:
    found = client(engine).post("/predict", json={"rows": [ROW, OTHER, dict.fromkeys(FEATURES)]})
    assert found.status_code == 200
    assert found.json() == {
        "request": "r1",
        "version": "7",
        "rows": predictor().answers([ROW, OTHER, dict.fromkeys(FEATURES)]),
    }


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_an_answer_that_takes_long_is_given_by_a_thread(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    engine = SmallEngine(in_office(beside=2))
    threads: list[object] = []

    async def to_thread(work: Callable[[], object]) -> object:
        threads.append(work)
        return work()

    monkeypatch.setattr(api.asyncio, "to_thread", to_thread)
    assert client(engine).post("/predict", json={"rows": [ROW] * rows}).status_code == 200
    assert bool(threads) == (rows > 2)


def test_many_rows_are_answered_in_one_request(engine: SmallEngine) -> None:
    rows = [ROW | {"n": float(number % 7)} for number in range(10_000)]
    found = client(engine).post("/predict", json={"rows": rows})
    assert found.json()["rows"] == predictor().answers(rows)
    assert client(engine).post("/predict", json={"rows": [ROW] * 10_001}).status_code == 422


def test_entities_are_answered_with_the_stores_features(engine: SmallEngine, tmp_path: Path) -> None:
    asking = client(engine, features=online_features(tmp_path))
    found = asking.post("/predict/entities", json={"entities": [ENTITY]}).json()
    assert found["rows"] == [predictor().answers([ROW])[0] | {"complete": True, "views": {"v": "present"}}]
    rows, entities, statuses = engine.asked[-1]
    assert rows == [ROW]
    assert (entities, statuses) == ([ENTITY], {"v": ["present"]})


def test_an_unknown_entity_is_answered_and_marked(engine: SmallEngine, tmp_path: Path) -> None:
    asking = client(engine, features=online_features(tmp_path))
    found = asking.post("/predict/entities", json={"entities": [ENTITY | {"k": "z"}, ENTITY]}).json()["rows"]
    assert [(row["complete"], row["views"]) for row in found] == [(False, {"v": "missing"}), (True, {"v": "present"})]
    unknown = ROW | {"k": "z", "x": None, "n": None}
    assert found[0]["score"] == predictor().answers([unknown])[0]["score"]
    assert "ml_assets_incomplete_rows_total 1.0" in asking.get("/metrics").text


def test_an_entity_whose_features_are_too_old_is_marked(engine: SmallEngine, tmp_path: Path) -> None:
    repo = compiled(view("v", {"k": "String"}, dict(PLAIN.features), ttl=timedelta(hours=1)))
    asking = client(engine, features=online_features(tmp_path, repo=repo))
    found = asking.post("/predict/entities", json={"entities": [ENTITY]}).json()["rows"][0]
    assert (found["complete"], found["views"]) == (False, {"v": "outside_ttl"})
    assert engine.asked[-1][0][0]["x"] is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"k": None}, "k"),
        ({"k": 3}, "k"),
        ({"far": 1}, "far"),
        ({"x": 0.5}, "x"),
        ({"distance km": "10"}, "distance km"),
    ],
)
def test_an_entity_of_other_types_is_refused(
    engine: SmallEngine, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    asking = client(engine, features=online_features(tmp_path))
    found = asking.post("/predict/entities", json={"entities": [ENTITY | change]})
    assert (found.status_code, found.json()["detail"][0]["field"], found.json()["detail"][0]["row"]) == (422, field, 0)


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", "9" * 400])
def test_an_entitys_number_is_finite(engine: SmallEngine, tmp_path: Path, number: str) -> None:
    asking = client(engine, features=online_features(tmp_path))
    body = json.dumps({"entities": [ENTITY | {"distance km": "?"}]}).replace('"?"', number)
    found = asking.post("/predict/entities", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 422
    assert (found.json()["detail"][0]["field"], "finite" in found.json()["detail"][0]["problem"]) == (
        "distance km",
        True,
    )


def test_what_is_asked_follows_the_model_in_office(engine: SmallEngine) -> None:
    asking = client(engine)
    assert asking.post("/predict", json={"rows": [{"z": 1.0}]}).status_code == 422
    other = predictor(
        {"z": "Float64"}, example={"request": {"rows": [{"z": 2.0}]}}, say=lambda feed: feed["numbers"][:, 0]
    )
    engine.current = in_office("8", other)
    found = asking.post("/predict", json={"rows": [{"z": 1.0}]})
    assert (found.status_code, found.json()["version"]) == (200, "8")
    assert asking.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"] == {"z": 2.0}


def test_a_champion_of_other_features_that_comes_amid_a_request_answers_it(engine: SmallEngine) -> None:
    """The body was read for the old model: it is read again for the new one, and that refuses it by name."""
    other = in_office("8", predictor({"z": "Float64"}, example={"request": {"rows": [{"z": 2.0}]}}))
    answer = engine.answer

    def changing(rows: Any, **how: Any) -> Any:
        engine.current = other
        return answer(rows, **how)

    engine.answer = changing  # type: ignore[method-assign]
    found = client(engine).post("/predict", json={"rows": [ROW]})
    assert found.status_code == 422
    assert {"z", "x"} <= {one["field"] for one in found.json()["detail"]}


# -- explanations ------------------------------------------------------------------------------------------------------


def test_an_explanation_sums_to_the_answer(engine: SmallEngine, tmp_path: Path) -> None:
    asking = client(engine, features=online_features(tmp_path))
    found = asking.post("/explain", json={"row": ROW}).json()
    assert set(found["contributions"]) == set(FEATURES)
    assert found["answer"] == predictor().answers([ROW])[0]["score"]
    assert found["reference"] + sum(found["contributions"].values()) == pytest.approx(found["answer"], abs=1e-12)
    sizes = [abs(value) for value in found["contributions"].values()]
    assert sizes == sorted(sizes, reverse=True)
    entity = asking.post("/explain/entity", json={"entity": ENTITY}).json()
    assert entity == found | {"complete": True, "views": {"v": "present"}}


def test_contributions_are_shapley_values() -> None:
    """Against the definition: the mean over all orders. The one interaction, of two features, is exact by pairs of orders."""
    model, names = predictor(), sorted(ROW)

    def score(shown: set[str]) -> float:
        rows = [{name: (ROW if name in shown else other)[name] for name in names} for other in (ROW, OTHER)]
        return float(model.scores(rows).mean())

    wanted = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        for place, name in enumerate(order):
            gain = score(set(order[: place + 1])) - score(set(order[:place]))
            wanted[name] += gain / factorial(len(names))
    found = contributions(ROW, [ROW, OTHER], model.scores)
    assert found.by_feature == pytest.approx(wanted, abs=1e-12)


def test_the_likeliest_class_is_explained_and_work_is_bounded() -> None:
    names = [f"f{number}" for number in range(300)]
    row, other = dict.fromkeys(names, 1.0), dict.fromkeys(names, 0.0)

    def scores(rows: Any) -> np.ndarray:
        share = np.array([sum(one.values()) / 300 for one in rows])
        return np.column_stack([1 - share, share])

    found = contributions(row, [other], scores, classes=("low", "high"))
    assert (found.explained, found.answer, found.reference) == ("probability of high", 1.0, 0.0)
    assert sum(found.by_feature.values()) == pytest.approx(1.0)
    assert found.scored <= EVALUATIONS + 1
    assert contributions(row, [other], scores) == contributions(row, [other], scores)


def test_a_clustering_is_not_explained() -> None:
    found = client(SmallEngine(in_office(small=predictor(output="cluster")))).post("/explain", json={"row": ROW})
    assert found.status_code == 422
    assert "number of a cluster" in found.json()["detail"][0]["problem"]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ('"x": NaN', "x", "finite"),
        ('"x": 1e999', "x", "finite"),
        ('"x": -Infinity', "x", "finite"),
        ('"x": "3"', "x", "number"),
        ('"x": true', "x", "number"),
        ('"x": [1]', "x", "number"),
        ('"x": {"y": {}}', "x", "number"),
        ('"x": ' + "9" * 400, "x", "finite"),
        ('"far": 1', "far", "boolean"),
        ('"k": 3', "k", "string"),
        ('"more": 1', "more", "not permitted"),
        ('"k": "\\ud800"', "body", "JSON"),
    ],
)
def test_a_value_of_another_type_is_refused_by_row_and_field(
    engine: SmallEngine, text: str, field: str, problem: str
) -> None:
    name = text.partition(":")[0].strip('"')
    rest = json.dumps({key: value for key, value in ROW.items() if key != name})[1:-1]
    body = '{"rows": [' + json.dumps(ROW) + ", {" + rest + ", " + text + "}]}"
    found = client(engine).post("/predict", content=body, headers={"content-type": "application/json"})
    assert found.status_code == 422
    told = found.json()["detail"][-1]
    assert (told["field"], problem in told["problem"]) == (field, True), told
    assert told["row"] == (None if field == "body" else 1)
    json.loads(found.content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_missing_feature_is_named(engine: SmallEngine) -> None:
    found = client(engine).post("/predict", json={"rows": [{name: ROW[name] for name in ("x", "k")}]})
    assert {one["field"] for one in found.json()["detail"]} == {"n", "far", "distance km"}
    assert {one["problem"] for one in found.json()["detail"]} == {"Field required"}


def test_a_body_of_nothing_but_faults_gets_a_short_answer(engine: SmallEngine) -> None:
    row = {f"f{number}": 1 for number in range(50_000)}
    found = client(engine).post("/predict", json={"rows": [row]})
    assert found.status_code == 422
    assert len(found.json()["detail"]) == 1 < MOST_FAULTS
    assert "50005 things are wrong" in found.json()["detail"][0]["problem"]


def test_without_a_model_nothing_is_answered_and_it_is_not_ready() -> None:
    engine = SmallEngine()
    asking = client(engine)
    for path, body in {"/predict": {"rows": [ROW]}, "/explain": {"row": ROW}}.items():
        assert asking.post(path, json=body).status_code == 503
    found = asking.get("/ready")
    assert (found.status_code, found.json()["ready"]) == (503, False)
    assert "no model is in office" in found.json()["reason"]
    assert asking.get("/health").status_code == 200
    assert asking.get("/model").json()["model"] is None
    assert asking.get("/openapi.json").status_code == 200
    assert "ml_assets_model_in_office 0.0" in asking.get("/metrics").text
    engine.current = in_office()
    assert asking.get("/ready").json() == {"ready": True, "reason": "", "warnings": {}}
    assert asking.post("/predict", json={"rows": [ROW]}).status_code == 200


def test_what_fails_beside_the_model_is_a_warning(
    engine: SmallEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = online_features(tmp_path)
    asking = client(engine, features=features)
    assert asking.get("/ready").json()["warnings"] == {}
    features._side.backend.tell("v", "1 of 3 stale")  # type: ignore[union-attr]
    failing = {"since": NOW.isoformat(), "reason": "no space left"}
    engine.told = {"registry": failing, "log": {"failing": {"disk": failing}}}
    found = asking.get("/ready")
    assert (found.status_code, found.json()["ready"]) == (200, True)
    assert found.json()["warnings"] == {
        "registry": failing,
        "online store": "the last parity check was red for ['v']; materialize them again",
        "log to disk": failing,
    }

    def gone(*_: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(features._side.backend, "verdicts", gone)  # type: ignore[union-attr]
    assert "cannot be reached (OperationalError)" in asking.get("/ready").json()["warnings"]["online store"]


def test_a_store_that_hangs_holds_up_no_other_answer(
    engine: SmallEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, going = online_features(tmp_path), Event()
    monkeypatch.setattr(api, "ONLINE_SECONDS", 1.0)
    with client(engine, features=features) as asking:
        assert asking.post("/predict/entities", json={"entities": [ENTITY]}).status_code == 200
        monkeypatch.setattr(features._side.backend, "read", lambda *_: going.wait(20))  # type: ignore[union-attr]
        monkeypatch.setattr(features._side.backend, "verdicts", lambda: going.wait(20))  # type: ignore[union-attr]
        monkeypatch.setattr(api, "ONLINE_SECONDS", 0.02)
        began = monotonic()
        try:
            for _ in range(40):  # more than there are threads of any kind
                found = asking.post("/predict/entities", json={"entities": [ENTITY]})
                assert (found.status_code, "(TimeoutError)" in found.json()["detail"]) == (503, True)
            ready = asking.get("/ready")
            assert (ready.status_code, "(TimeoutError)" in ready.json()["warnings"]["online store"]) == (200, True)
            assert asking.post("/predict", json={"rows": [ROW] * 1_000}).status_code == 200
            assert monotonic() - began < 15
        finally:
            going.set()


def test_an_engine_that_fails_is_an_answer_that_says_so(engine: SmallEngine) -> None:
    asking = client(engine)
    asking._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    engine.answer = lambda *_, **__: 1 / 0  # type: ignore[method-assign,assignment]
    found = asking.post("/predict", json={"rows": [ROW]})
    assert (found.status_code, "ZeroDivisionError" in found.json()["detail"]) == (500, True)
    assert 'ml_assets_requests_total{route="/predict",status="500"} 1.0' in asking.get("/metrics").text


# -- who is let in, and how often --------------------------------------------------------------------------------------


def test_only_who_has_a_key_is_let_in(engine: SmallEngine) -> None:
    asking = client(engine, api_keys=[hashed("secret")])
    for headers in ({}, {"x-api-key": "other"}, {"x-api-key": hashed("secret")}, {"x-api-key": ""}):
        assert asking.post("/predict", json={"rows": [ROW]}, headers=headers).status_code == 401
        assert asking.get("/metrics", headers=headers).status_code == 401
        assert asking.get("/openapi.json", headers=headers).status_code == 401
    assert asking.post("/predict", json={"rows": [ROW]}, headers={"x-api-key": "secret"}).status_code == 200
    for headers, status in {
        "Bearer secret": 200,
        "bearer secret": 200,
        "Bearer other": 401,
        "Basic secret": 401,
    }.items():
        assert asking.get("/metrics", headers={"authorization": headers}).status_code == status
    assert asking.get("/ready").status_code == 200
    with pytest.raises(FeatureError, match="64 lower-case hex digits"):
        create_app(engine, api_keys=["secret"])  # type: ignore[arg-type]


def test_others_are_not_served_without_keys(engine: SmallEngine) -> None:
    with pytest.raises(FeatureError, match=r"host '0.0.0.0' can be reached by others; set ML_ASSETS_API_KEY_HASHES"):
        serve(create_app(engine), host="0.0.0.0")  # type: ignore[arg-type]


def test_each_key_has_its_rate(engine: SmallEngine) -> None:
    asking = client(engine, api_keys=[hashed("one"), hashed("two")], rate=0.001)
    statuses = [asking.get("/model", headers={"x-api-key": key}) for key in ("one", "one", "two", "wrong", "wrong")]
    assert [found.status_code for found in statuses] == [200, 429, 200, 401, 429]
    assert 900 < int(statuses[1].headers["retry-after"]) <= 1000
    assert asking.get("/health").status_code == 200  # whoever runs the server may always ask


def test_a_rate_lets_in_what_it_says() -> None:
    now = 0.0
    limit = RateLimit(10, burst=5, clock=lambda: now)
    let_in = 0
    for _ in range(1_000):
        let_in += limit.wait("a") == 0.0
        now += 0.01
    assert let_in == pytest.approx(5 + 10 * 10, abs=1)
    for number in range(2 * MOST_CLIENTS):
        limit.wait(str(number))
    assert len(limit._buckets) == MOST_CLIENTS
    with pytest.raises(ValueError, match="rate 0"):
        RateLimit(0)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip", "content-type": "application/json"},
        {"content-encoding": "br", "content-type": "application/json"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonx"},
    ],
)
def test_only_plain_json_is_read(engine: SmallEngine, headers: dict[str, str]) -> None:
    body = json.dumps({"rows": [ROW]})
    assert client(engine).post("/predict", content=body, headers=headers).status_code == 415
    plain = {"content-type": "application/json; charset=utf-8", "content-encoding": "identity"}
    assert client(engine).post("/predict", content=body, headers=plain).status_code == 200


# -- what it tells -----------------------------------------------------------------------------------------------------


def test_prometheus_reads_every_metric_that_is_named(engine: SmallEngine, tmp_path: Path) -> None:
    engine.told = {"log": {"spooled": 5, "landed": 4, "dropped": 0, "damaged": 0, "waiting": 2, "failing": {}}}
    asking = client(engine, features=online_features(tmp_path))
    asking.post("/predict", json={"rows": [ROW, OTHER]})
    asking.post("/predict", json={"rows": []})
    asking.post("/predict/entities", json={"entities": [ENTITY]})
    for path in ("/nothing", "/else"):
        assert asking.get(path).status_code == 404
    text = asking.get("/metrics").text
    samples = {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    names = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name, *_ in samples}
    assert names - set(NAMES) <= {name for name in names if name.startswith("process_") or name.endswith("_created")}
    assert set(NAMES) <= names
    told = {"route": "/predict", "status": "200"}
    assert samples["ml_assets_requests_total", *told.items()] == 1
    assert samples["ml_assets_requests_total", ("route", "/predict"), ("status", "422")] == 1
    assert samples["ml_assets_requests_total", ("route", "other"), ("status", "404")] == 2
    assert samples["ml_assets_request_seconds_count", ("route", "/predict")] == 2
    assert samples["ml_assets_answered_rows_total", ("arm", "champion")] == 3
    assert samples[("ml_assets_model_age_seconds",)] == 60.0
    assert samples["ml_assets_feature_age_seconds", ("view", "v")] == (NOW - at(90)).total_seconds()
    assert samples["ml_assets_log_rows_total", ("state", "landed")] == 4
    assert samples[("process_resident_memory_bytes",)] > 1e7


def test_the_engine_runs_as_long_as_the_application(engine: SmallEngine) -> None:
    with client(engine) as asking:
        assert asking.get("/model").json()["features"] == FEATURES
        assert engine.closed == 0
    assert (engine.started, engine.closed) == (1, 1)


def test_the_interface_is_described_by_the_model_with_examples_that_it_answers(
    engine: SmallEngine, tmp_path: Path
) -> None:
    asking = client(engine, features=online_features(tmp_path))
    told = asking.get("/openapi.json").json()
    schemas = told["components"]["schemas"]
    assert {
        "/predict",
        "/predict/entities",
        "/explain",
        "/explain/entity",
        "/model",
        "/health",
        "/ready",
        "/metrics",
    } == set(told["paths"])
    assert set(schemas["Row"]["properties"]) == set(FEATURES)
    assert set(schemas["Entity"]["properties"]) == {"k", "far", "distance km"}
    sent = {
        "/predict": {"rows": [schemas["Row"]["example"]]},
        "/explain": {"row": schemas["Row"]["example"]},
        "/predict/entities": {"entities": [schemas["Entity"]["example"]]},
        "/explain/entity": {"entity": schemas["Entity"]["example"]},
    }
    for path, body in sent.items():
        assert asking.post(path, json=body).status_code == 200, path
        assert {"401", "413", "415", "422", "429", "503"} <= set(told["paths"][path]["post"]["responses"])


def test_without_online_features_there_are_no_entities(engine: SmallEngine) -> None:
    asking = client(engine)
    assert asking.post("/predict/entities", json={"entities": [ENTITY]}).status_code == 404
    assert "/predict/entities" not in asking.get("/openapi.json").json()["paths"]
