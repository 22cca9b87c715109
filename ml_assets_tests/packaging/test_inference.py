"""A bundle by itself: served by its own file without this repository, strict about requests, and refused when altered."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import TypeAdapter

from ml_assets.development import model_files
from ml_assets.development.model_files import Model
from ml_assets.packaging import bundle, graph, inference
from ml_assets.packaging.bundle import BundleError, BundleManifest, load_bundle
from ml_assets.packaging.inference import RefusedBundle, create_app, load, row_type
from ml_assets_tests.development.samples import features_of, model_of, sample
from ml_assets_tests.packaging.bundles import built, stored

BLOCKED = ("ml_assets", "polars", "pandas", "dagster", "mlflow", "sklearn", "xgboost", "skops", "onnx", "skl2onnx")
RUNNER = """
import runpy, sys
sys.modules.update(dict.fromkeys({blocked!r}))
sys.argv = ["inference.py", "--port", {port!r}]
runpy.run_path({file!r}, run_name="__main__")
"""


def packed(folder: Path, model: Model, kind: str = "binary") -> BundleManifest:
    """Write the bundle of a model, compared with the whole sample."""
    return built(folder, stored(folder.parent / "model", model), kind, parity_rows=sample(kind))


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> BundleManifest:
    return packed(tmp_path_factory.mktemp("forest") / "bundle", model_of("binary", "random_forest"))


def example(manifest: BundleManifest) -> Any:
    return json.loads((Path(manifest.folder) / "example.json").read_text())


def test_both_lists_of_types_that_a_skops_file_may_hold_are_one() -> None:
    assert model_files.Skops.TYPES == inference.SKOPS_TYPES


# -- by itself ---------------------------------------------------------------------------------------------------------


def started(manifest: BundleManifest, elsewhere: Path, digest: str) -> tuple[subprocess.Popen[str], str]:
    """Start a copy of a bundle where nothing but what it may need can be imported; return the process and its address."""
    folder = shutil.copytree(manifest.folder, elsewhere / "copied")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code = RUNNER.format(blocked=BLOCKED, port=port, file=str(folder / "inference.py"))
    environment = {"PATH": "/usr/bin:/bin", "BUNDLE_DIGEST": digest}
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code], cwd=elsewhere, env=environment, stderr=subprocess.PIPE, text=True
    )
    return process, f"http://127.0.0.1:{port}"


def asked(address: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def waited(address: str, process: subprocess.Popen[str]) -> None:
    for _ in range(400):
        try:
            asked(f"{address}/ready")
            return
        except urllib.error.URLError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
    pytest.fail("the bundle did not start in 20 seconds")


def test_a_bundle_serves_itself(forest: BundleManifest, tmp_path: Path) -> None:
    process, address = started(forest, tmp_path, forest.digest)
    try:
        waited(address, process)
        told = example(forest)
        for found, wanted in zip(
            json.loads(asked(f"{address}/predict", told["request"]))["rows"], told["answer"]["rows"], strict=True
        ):
            assert found["score"] == pytest.approx(wanted["score"], abs=1e-6)
            assert (found["prediction"], found["model_version"]) == (wanted["prediction"], "7")
        assert json.loads(asked(f"{address}/model"))["digest"] == forest.digest
        assert 'bundle_rows_total{model_version="7",problem="late"} 3.0' in asked(f"{address}/metrics")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_a_bundle_of_another_digest_does_not_start(forest: BundleManifest, tmp_path: Path) -> None:
    process, _ = started(forest, tmp_path, "0" * 64)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and "refused: " in told and "it was not parsed" in told


def test_a_port_is_given_by_the_environment_or_the_command(
    forest: BundleManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setattr("uvicorn.run", lambda app, **told: served.append((told["host"], told["port"])))
    folder = ["--folder", forest.folder, "--digest", forest.digest]
    assert [inference.main(folder), inference.main([*folder, "--host", "0.0.0.0", "--port", "1"])] == [0, 0]
    assert served == [("127.0.0.1", 8123), ("0.0.0.0", 1)]


# -- altered -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(forest: BundleManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to alter, where a parser that is reached fails the test."""
    for parser in ("session", "predictor"):
        monkeypatch.setattr(inference, parser, lambda *_, **__: pytest.fail("a parser was reached"))
    return shutil.copytree(forest.folder, tmp_path / "copied")


def test_what_differs_is_refused_before_a_parser(forest: BundleManifest, copied: Path) -> None:
    for path in sorted(copied.iterdir()):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.raises(RefusedBundle, match=f"{path.name} has SHA-256"):
            load(copied, digest=forest.digest)
        path.unlink()
        with pytest.raises(RefusedBundle, match=f"{path.name} cannot be read"):
            load(copied, digest=forest.digest)
        path.write_bytes(content)
    with pytest.raises(RefusedBundle, match=r"manifest\.json has SHA-256"):
        load(copied, digest="")


def test_what_is_not_in_the_manifest_is_refused(forest: BundleManifest, copied: Path) -> None:
    (copied / "onnxruntime.py").write_text("raise SystemExit('imported')")
    with pytest.raises(RefusedBundle, match=r"also holds \['onnxruntime.py'\]"):
        load(copied, digest=forest.digest)


def test_a_manifest_cannot_lead_elsewhere(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"]["../secret"] = manifest["files"]["bundle.json"]
    (copied / "manifest.json").write_text(json.dumps(manifest))
    digest = model_files.hashes({"m": (copied / "manifest.json").read_bytes()})["m"]
    with pytest.raises(RefusedBundle, match="leads out of"):
        load(copied, digest=digest)


def test_another_version_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "VERSION", 2)
    old = packed(tmp_path / "old", model_of("binary", "baseline"))
    message = "version 2 cannot be read, only 3: run job train again"
    with pytest.raises(BundleError, match=message):
        load_bundle(tmp_path / "old", digest=old.digest)
    with pytest.raises(RefusedBundle, match=message):
        load(tmp_path / "old", digest=old.digest)


def test_a_bundle_that_answers_otherwise_is_refused(forest: BundleManifest, monkeypatch: pytest.MonkeyPatch) -> None:
    right = inference.scorer
    monkeypatch.setattr(inference, "scorer", lambda *told: lambda feed: right(*told)(feed) + 1e-5)
    with pytest.raises(RefusedBundle, match="answered with a difference of 1"):
        load(forest.folder, digest=forest.digest)
    with pytest.raises(BundleError, match="answered with a difference of"):
        _ = load_bundle(Path(forest.folder), digest=forest.digest).small


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [("binary", "xgboost"), ("multiclass", "linear"), ("regression", "svm"), ("clustering", "k_means")],
)
def test_small_batches_are_answered_alike(kind: str, name: str, tmp_path: Path) -> None:
    made = packed(tmp_path / "bundle", model_of(kind, name), kind)
    one = load_bundle(Path(made.folder), digest=made.digest)
    rows = sample(kind).select(features_of(kind)).with_columns(pl.col("delay").fill_nan(None)).head(20).to_dicts()
    scores = one.predict(one.frame(rows))
    np.testing.assert_allclose(one.small.scores(rows), scores, atol=1e-6)
    wanted = pl.DataFrame(one.answers(scores)).with_columns(model_version=pl.lit("7")).to_dicts()
    for told, row in zip(one.small.answers(rows), wanted, strict=True):
        assert told == {name: value if isinstance(value, str) else pytest.approx(value) for name, value in row.items()}
    assert one.small.scores([]).shape == scores[:0].shape and one.small.answers([]) == []
    assert one.parity(sample(kind)).differing == 0
    known = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["graph"]
    assert known["outside"] == [] and known["parity"]["rows"] == 3_000 and known["parity"]["differing"] == 0


@pytest.mark.parametrize("name", ["xgboost", "svm"])
def test_a_model_that_is_no_graph_is_served_as_well(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(graph._RAW, {"xgboost": "ubj", "svm": "skops"}[name])
    made = packed(tmp_path / "bundle", model_of("binary", name))
    one = load_bundle(tmp_path / "bundle", digest=made.digest)
    assert one.parity(sample("binary")).difference <= 1e-6
    told = json.loads((tmp_path / "bundle" / "bundle.json").read_text())["graph"]
    assert [part["format"] for part in told["outside"]] == [{"xgboost": "ubj", "svm": "skops"}[name]]
    required = (tmp_path / "bundle" / "requirements.txt").read_text()
    assert ("xgboost==" in required, "scikit-learn==" in required) == (name == "xgboost", name == "svm")


def test_an_ensemble_needs_what_its_members_need() -> None:
    members = {name: model_of("binary", name) for name in ("linear", "random_forest")}
    one = model_files.ensemble(members, dict.fromkeys(members, 0.5))
    assert one.requirements == ("numpy", "polars", "onnxruntime")


def test_a_row_that_lacks_a_feature_is_named(forest: BundleManifest) -> None:
    with pytest.raises(ValueError, match="lacks the feature 'place'"):
        load(forest.folder, digest=forest.digest).scores([{"delay": 1.0, "weekend": None, "seats": 3.0, "empty": None}])


# -- requests ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(forest: BundleManifest) -> Iterator[Any]:
    with warnings.catch_warnings(action="ignore"):  # Starlette wants httpx2, a package that nothing else here needs
        from fastapi.testclient import TestClient
    with TestClient(create_app(load(forest.folder, digest=forest.digest), most_rows=100, most_bytes=50_000)) as client:
        yield client


def rows(number: int) -> str:
    """Return a body of so many rows."""
    return f'{{"rows": [{", ".join([ROW] * number)}]}}'


ROW = '{"delay": 1.5, "place": "x", "weekend": true, "seats": 100, "empty": null}'


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        (ROW.replace("1.5", "NaN"), "delay", "nan"),
        (ROW.replace("1.5", "1e999"), "delay", "inf"),
        (ROW.replace("1.5", '"3"'), "delay", "'3'"),
        (ROW.replace("1.5", "true"), "delay", "True"),
        (ROW.replace("1.5", "[1]"), "delay", ""),
        (ROW.replace("true", "1"), "weekend", "1"),
        (ROW.replace('"x"', "7"), "place", "7"),
        (ROW.replace('"x"', '"\\ud800"'), "place", r"'\ud800'"),
        (ROW.replace("{", '{"label": 1, '), "label", "1"),
        (ROW.replace('"seats": 100, ', ""), "seats", ""),
        ("[]", "body", ""),
    ],
    ids=["nan", "infinite", "text", "true", "list", "one for true", "number", "surrogate", "more", "less", "no object"],
)
def test_a_wrong_value_is_named_by_row_and_field(client: Any, row: str, field: str, value: str) -> None:
    answer = client.post(
        "/predict", content=f'{{"rows": [{ROW}, {row}]}}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422
    detail = json.loads(answer.text, parse_constant=pytest.fail)["detail"]
    assert [(one["row"], one["field"], one["value"]) for one in detail] == [(1, field, value)] and detail[0]["problem"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (rows(1), 200),
        (rows(100), 200),
        (rows(101), 422),
        (rows(0), 422),
        (rows(1).replace("]}", '], "more": 1}'), 422),
        ("{", 422),
        ("[" * 40_000, 400),
        ("1" * 5_000, 400),
        (" " * 60_000, 413),
    ],
    ids=["one", "most", "too many", "none", "more keys", "cut off", "deep", "long number", "large"],
)
def test_a_body_is_answered_as_it_deserves(client: Any, body: str, status: int) -> None:
    assert client.post("/predict", content=body, headers={"content-type": "application/json"}).status_code == status


def test_the_description_has_an_example_that_works(client: Any) -> None:
    row = client.get("/openapi.json").json()["components"]["schemas"]["Row"]["example"]
    assert client.post("/predict", json={"rows": [row]}).status_code == 200


@pytest.mark.parametrize("right", [True, False])
def test_every_request_gets_an_answer_that_is_described(client: Any, right: bool) -> None:
    schema = schemathesis.openapi.from_dict(client.app.openapi())
    schema.app = client.app
    mode = schemathesis.GenerationMode.POSITIVE if right else schemathesis.GenerationMode.NEGATIVE
    statuses: set[int] = set()

    @settings(max_examples=15, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(schema["/predict"]["post"].as_strategy(generation_mode=mode))
    def asked(case: Any) -> None:
        statuses.add(case.call_and_validate().status_code)

    asked()
    assert (200 in statuses) is right and statuses <= {200, 400, 413, 422}


def test_features_of_any_name_have_their_names() -> None:
    kinds = {"model_dump": "Float64", "a b": "String", "_x": "Boolean", "class": "Float64"}
    row = {"model_dump": 1.0, "a b": None, "_x": True, "class": None}
    assert TypeAdapter(row_type(kinds)).validate_python(row) == row
