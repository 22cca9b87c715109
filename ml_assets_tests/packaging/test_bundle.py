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
from ml_assets.development.training import CandidateResult
from ml_assets.packaging import inference
from ml_assets.packaging.bundle import (
    SERVING,
    BundleError,
    load_bundle,
    pinned,
    verify,
)
from ml_assets.tasks import TaskError
from ml_assets_tests.development.samples import FEATURES, TASKS, features_of, model_of, sample
from ml_assets_tests.packaging.bundles import built, stored

FRAME = sample("binary")
TYPES = {name: str(FRAME.schema[name]) for name in FEATURES}
EACH = [
    *[("binary", name) for name in ("baseline", "linear", "random_forest", "xgboost", "svm", "neural", "ensemble")],
    *[("multiclass", name) for name in ("persistence", "xgboost", "neural", "ensemble")],
    *[("regression", name) for name in ("linear", "random_forest", "svm", "ensemble")],
    *[("clustering", name) for name in ("k_means", "gaussian_mixture", "hdbscan")],
]
"""Of every task candidates of every file format."""


def model(kind: str, name: str) -> model_files.Model:
    """Return a small fitted model; the ensemble is of two that have different formats."""
    if name != "ensemble":
        return model_of(kind, name)
    weights = {"linear": 0.25, "random_forest": 0.75}
    return model_files.ensemble({one: model_of(kind, one) for one in weights}, weights)


@pytest.fixture(scope="module", params=EACH, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, CandidateResult]:
    """A kind of task, and a candidate for it."""
    kind, name = request.param
    return kind, stored(tmp_path_factory.mktemp("candidates") / name, model(kind, name), name)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> CandidateResult:
    return stored(tmp_path_factory.mktemp("candidates") / "baseline", model("binary", "baseline"), "baseline")


def test_bundle_scores_like_the_trained_model(case: tuple[str, CandidateResult], tmp_path: Path) -> None:
    kind, result = case
    manifest, frame = built(tmp_path / "bundle", result, kind), sample(kind)
    bundle = load_bundle(tmp_path / "bundle", digest=manifest.digest, threads=1)
    np.testing.assert_array_equal(bundle.predict(frame), result.load(threads=1).predict(frame))
    assert (bundle.features, bundle.problem, bundle.threshold) == (features_of(kind), "late", 0.4)
    assert bundle.dtypes == {name: str(frame.schema[name]) for name in features_of(kind)}
    assert bundle.task == TASKS[kind]
    written = {"pipeline.onnx", "inference.py", "Dockerfile", "bundle.json", "requirements.txt", "example.json"}
    assert set(manifest.files) == {*result.sha256, *written}


def test_a_bundle_can_be_measured(case: tuple[str, CandidateResult], tmp_path: Path) -> None:
    kind, result = case
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", result, kind).digest, threads=1)
    rows, task = sample(kind).filter(pl.col("split") == "test"), TASKS[kind]
    truth, scores = bundle.truth(rows), bundle.predict(rows)
    task.check(truth, scores)
    value = task.metric(task.default_metric).compute(truth, scores, bundle.threshold)
    assert value is not None and np.isfinite(value)
    answers = pl.DataFrame(bundle.answers(scores))
    np.testing.assert_array_equal(task.stored(answers), scores)


def test_decisions_are_made_at_the_bundles_threshold(baseline: CandidateResult, tmp_path: Path) -> None:
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", baseline).digest)
    assert bundle.answers(np.array([0.39, 0.4]))["prediction"].tolist() == [0, 1]


def test_labels_of_another_task_cannot_be_measured(baseline: CandidateResult, tmp_path: Path) -> None:
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", baseline).digest)
    with pytest.raises(TaskError, match="give 0 and 1"):
        bundle.truth(sample("regression"))


def test_one_flipped_bit_in_any_file_is_refused_unparsed(
    case: tuple[str, CandidateResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = built(tmp_path / "bundle", case[1], case[0])
    for module, parser in ((model_files, "parse"), (inference, "session"), (inference, "predictor")):
        monkeypatch.setattr(module, parser, lambda *_, **__: pytest.fail("a parser was reached"))
    for path in sorted((tmp_path / "bundle").iterdir()):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            altered = bytearray(content)
            altered[place] ^= 1
            path.write_bytes(altered)
            for refuse in (verify, lambda folder, digest: load_bundle(folder, digest=digest)):
                with pytest.raises(BundleError, match=f"bundle refused: .*{path.name} has SHA-256"):
                    refuse(tmp_path / "bundle", manifest.digest)
            with pytest.raises(inference.RefusedBundle, match=f"{path.name} has SHA-256"):
                inference.load(tmp_path / "bundle", digest=manifest.digest)
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


def test_equal_input_gives_equal_bytes(case: tuple[str, CandidateResult], tmp_path: Path) -> None:
    first, second = (built(tmp_path / name, case[1], case[0]) for name in ("one", "two"))
    assert first.digest == second.digest and first.files == second.files


def test_a_bundle_does_not_change(baseline: CandidateResult, tmp_path: Path) -> None:
    first = built(tmp_path / "bundle", baseline)
    assert built(tmp_path / "bundle", baseline) == first, "building it again leaves it as it is"
    with pytest.raises(BundleError, match="bundles do not change: choose another folder"):
        built(tmp_path / "bundle", baseline, threshold=0.9)
    assert verify(tmp_path / "bundle", first.digest) == first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing temporary is left"


def test_example_is_plain_json_and_holds_the_answer(case: tuple[str, CandidateResult], tmp_path: Path) -> None:
    kind, result = case
    rows = sample(kind).tail(3).with_columns(delay=pl.Series([float("nan"), None, 3.0]))
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", result, kind, example_rows=rows).digest)
    example = json.loads((tmp_path / "b" / "example.json").read_text(), parse_constant=pytest.fail)
    assert [row["delay"] for row in example["request"]["rows"]] == [None, None, 3.0]
    scores = bundle.predict(bundle.frame(example["request"]["rows"]))
    np.testing.assert_allclose(TASKS[kind].stored(pl.DataFrame(example["answer"]["rows"])), scores, atol=1e-6)
    assert example["answer"]["rows"][0]["model_version"] == "7"
    assert set(example["answer"]["rows"][0]) == {*TASKS[kind].answers(scores, 0.4), "model_version"}


def test_a_bundle_that_answers_otherwise_is_refused(
    case: tuple[str, CandidateResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, right = built(tmp_path / "b", case[1], case[0]), model_files.Model.predict
    monkeypatch.setattr(model_files.Model, "predict", lambda self, frame: right(self, frame) + 1)
    with pytest.raises(
        BundleError, match=r"example is answered with a difference of .*: install exactly what requirements.txt"
    ):
        load_bundle(tmp_path / "b", digest=manifest.digest)


def test_a_wrong_row_is_refused_by_name(baseline: CandidateResult, tmp_path: Path) -> None:
    bundle = load_bundle(tmp_path / "b", digest=built(tmp_path / "b", baseline).digest)
    with pytest.raises(EncodingError, match="do not have the types"):
        bundle.frame([{"delay": "three"}])


def test_requirements_are_exact_and_complete(case: tuple[str, CandidateResult], tmp_path: Path) -> None:
    kind, result = case
    built(tmp_path / "b", result, kind, requirements=["fsspec"])
    lines = (tmp_path / "b" / "requirements.txt").read_text().splitlines()
    versions = dict(line.split("==") for line in lines)
    assert list(versions) == sorted(versions) and {*SERVING, "fsspec"} <= set(versions)
    assert all(importlib.metadata.version(name) == version for name, version in versions.items())
    assert not {"scikit-learn", "xgboost", "polars", "dagster"} & set(versions), "only what inference.py imports"
    assert {"pydantic-core", "h11"} <= set(versions), "with what that needs"


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
