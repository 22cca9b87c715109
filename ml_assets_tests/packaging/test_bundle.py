"""The bundle: whole, equal for equal input, answering as its example says, and refused when one byte differs."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.development import model_files
from ml_assets.development.encoding import EncodingError
from ml_assets.development.training import CandidateResult, train_candidate
from ml_assets.packaging.bundle import (
    BundleError,
    BundleManifest,
    build_bundle,
    load_bundle,
    pinned,
    requirements_of,
    verify,
)
from ml_assets_tests.development.samples import FEATURES, made, small

FRAME = made(1_000)
TYPES = {name: str(FRAME.schema[name]) for name in FEATURES}


@pytest.fixture(scope="module", params=["baseline", "random_forest", "xgboost", "svm", "neural"])
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CandidateResult:
    folder = tmp_path_factory.mktemp("candidates") / request.param
    return train_candidate(
        request.param,
        FRAME,
        label="label",
        features=FEATURES,
        seed=0,
        folder=folder,
        threads=1,
        variant=small(request.param),
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> CandidateResult:
    folder = tmp_path_factory.mktemp("baseline")
    return train_candidate("baseline", FRAME, label="label", features=FEATURES, seed=0, folder=folder)


def built(folder: Path, result: CandidateResult, **change: Any) -> BundleManifest:
    told: dict[str, Any] = {
        "result": result,
        "problem": "late",
        "features": TYPES,
        "example_rows": FRAME.tail(3),
        "model_version": "7",
        "data_hash": "abc",
        "code_version": "1",
        "threshold": 0.4,
    }
    return build_bundle(folder, **{**told, **change})


def test_bundle_scores_like_the_trained_model(result: CandidateResult, tmp_path: Path) -> None:
    manifest = built(tmp_path / "bundle", result)
    bundle = load_bundle(tmp_path / "bundle", digest=manifest.digest, threads=1)
    np.testing.assert_array_equal(bundle.predict(FRAME), result.load(threads=1).predict(FRAME))
    assert bundle.decide(np.array([0.39, 0.4])).tolist() == [0, 1]
    assert (
        bundle.features == FEATURES and bundle.dtypes == TYPES and bundle.problem == "late" and bundle.threshold == 0.4
    )
    assert set(manifest.files) == {*result.sha256, "bundle.json", "requirements.txt", "example.json"}


def test_one_flipped_bit_in_any_file_is_refused_unparsed(
    result: CandidateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = built(tmp_path / "bundle", result)
    monkeypatch.setattr(model_files, "parse", lambda *_, **__: pytest.fail("a parser was reached"))
    for path in sorted((tmp_path / "bundle").iterdir()):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            altered = bytearray(content)
            altered[place] ^= 1
            path.write_bytes(altered)
            for refuse in (verify, lambda folder, digest: load_bundle(folder, digest=digest)):
                with pytest.raises(BundleError, match=f"bundle refused: .*{path.name} has SHA-256"):
                    refuse(tmp_path / "bundle", manifest.digest)
        path.write_bytes(content)
    assert verify(tmp_path / "bundle", manifest.digest) == manifest


def test_a_missing_an_additional_and_an_exchanged_file_are_refused(baseline: CandidateResult, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    manifest = built(folder, baseline)
    (folder / "sitecustomize.py").write_text("print('hello')")
    with pytest.raises(BundleError, match=r"also holds \['sitecustomize.py'\]"):
        verify(folder, manifest.digest)
    (folder / "sitecustomize.py").unlink()
    other = built(tmp_path / "other", baseline, threshold=0.9)
    with pytest.raises(BundleError, match=r"manifest\.json has SHA-256"):
        verify(folder, other.digest)
    (folder / "example.json").unlink()
    with pytest.raises(BundleError, match=r"example\.json cannot be read"):
        verify(folder, manifest.digest)


def test_equal_input_gives_equal_bytes(result: CandidateResult, tmp_path: Path) -> None:
    first, second = (built(tmp_path / name, result) for name in ("one", "two"))
    assert first.digest == second.digest and first.files == second.files


def test_a_bundle_does_not_change(baseline: CandidateResult, tmp_path: Path) -> None:
    first = built(tmp_path / "bundle", baseline)
    assert built(tmp_path / "bundle", baseline) == first, "building it again leaves it as it is"
    with pytest.raises(BundleError, match="bundles do not change: choose another folder"):
        built(tmp_path / "bundle", baseline, threshold=0.9)
    assert verify(tmp_path / "bundle", first.digest) == first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing temporary is left"


def test_example_is_plain_json_and_holds_the_answer(result: CandidateResult, tmp_path: Path) -> None:
    rows = FRAME.tail(3).with_columns(delay=pl.Series([float("nan"), None, 3.0]))
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", result, example_rows=rows).digest)
    example = json.loads((tmp_path / "b" / "example.json").read_text(), parse_constant=pytest.fail)
    assert [row["delay"] for row in example["request"]["rows"]] == [None, None, 3.0]
    scores = bundle.predict(bundle.frame(example["request"]["rows"]))
    np.testing.assert_allclose([row["score"] for row in example["answer"]["rows"]], scores, atol=1e-6)
    assert example["answer"]["rows"][0]["model_version"] == "7"


def test_a_bundle_that_answers_otherwise_is_refused(
    baseline: CandidateResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = built(tmp_path / "b", baseline)
    monkeypatch.setattr(model_files.Model, "predict", lambda self, frame: np.full(frame.height, 0.123))
    with pytest.raises(
        BundleError, match=r"example is answered with a difference of .*: install exactly what requirements.txt"
    ):
        load_bundle(tmp_path / "b", digest=manifest.digest)


def test_a_wrong_row_is_refused_by_name(baseline: CandidateResult, tmp_path: Path) -> None:
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", baseline).digest)
    with pytest.raises(EncodingError, match="do not have the types"):
        bundle.frame([{"delay": "three"}])


def test_requirements_are_exact_and_complete(result: CandidateResult, tmp_path: Path) -> None:
    built(tmp_path / "b", result, requirements=["fsspec"])
    lines = (tmp_path / "b" / "requirements.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines)
    assert list(versions) == sorted(versions) and {*requirements_of(result), "fsspec"} <= set(versions)
    assert all(importlib.metadata.version(name) == version for name, version in versions.items())
    assert ("scikit-learn" in versions) == (result.name == "svm"), "only what scoring imports"
    assert "polars-runtime-32" in versions, "with what that needs"


def test_a_distribution_that_is_not_installed_is_named() -> None:
    with pytest.raises(BundleError, match="'no-such-thing' is not installed"):
        pinned(["numpy", "no-such-thing"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": {"delay": "Float64"}}, "are not in both the declaration and the model"),
        ({"example_rows": FRAME.head(0)}, "no example rows"),
        ({"threshold": 40}, "threshold 40 is not a probability"),
    ],
)
def test_unfit_input_is_refused_and_nothing_is_written(
    baseline: CandidateResult, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=message):
        built(tmp_path / "b", baseline, **change)
    assert not (tmp_path / "b").exists()


def test_altered_model_files_are_not_packed(baseline: CandidateResult, tmp_path: Path) -> None:
    copied = tmp_path / "model"
    model_files.write_folder(copied, baseline.load().files() | {"prior.json": b'{"prior": 0.9}'})
    altered = CandidateResult.from_dict(baseline.to_dict() | {"folder": str(copied)})
    with pytest.raises(model_files.ModelFileError, match="altered"):
        built(tmp_path / "b", altered)
