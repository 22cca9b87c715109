"""Model files: nothing is parsed before its hash matched, only our own types are, a lying converter is caught."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.development import model_files
from ml_assets.development.candidates.registry import NAMES
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FORMATS, Model, ModelFileError, hashes, load, packed, parse, write_folder
from ml_assets_tests.development.samples import fitted, small

KINDS = {"baseline": "prior.json", "random_forest": "model.onnx", "xgboost": "model.ubj", "svm": "model.skops"}


@pytest.fixture(scope="module")
def models(training_set: pl.DataFrame, features: list[str]) -> dict[str, Model]:
    return {name: fitted(small(name), training_set, features) for name in NAMES}


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


def test_saved_and_loaded_it_scores_the_same(model: Model, training_set: pl.DataFrame, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = load(tmp_path / "model", sha256=hashes(model.files()), threads=1)
    assert replace(again, threads=model.threads) == model
    np.testing.assert_array_equal(again.predict(training_set), model.predict(training_set))


def test_one_flipped_bit_in_any_file_is_refused_unparsed(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path / "model")
    known = hashes(model.files())
    monkeypatch.setattr(model_files, "parse", lambda *_, **__: pytest.fail("a parser was reached"))
    for name, content in model.files().items():
        for place in (0, len(content) // 2, len(content) - 1):
            altered = bytearray(content)
            altered[place] ^= 1
            (tmp_path / "model" / name).write_bytes(altered)
            with pytest.raises(
                ModelFileError, match=f"{name} has SHA-256 .* altered, or another version; it was not parsed"
            ):
                load(tmp_path / "model", sha256=known)
        (tmp_path / "model" / name).write_bytes(content)


def test_files_have_the_format_of_their_kind(models: dict[str, Model]) -> None:
    for name, file in KINDS.items():
        assert set(models[name].files()) == {"model.json", "encoder.json", file}


def test_a_missing_file_and_missing_hashes_are_refused(models: dict[str, Model], tmp_path: Path) -> None:
    models["baseline"].save(tmp_path)
    known = hashes(models["baseline"].files())
    (tmp_path / "prior.json").unlink()
    with pytest.raises(ModelFileError, match=r"prior.json cannot be read \(No such file"):
        load(tmp_path, sha256=known)
    with pytest.raises(ModelFileError, match="no hashes were given"):
        load(tmp_path, sha256={})
    with pytest.raises(ModelFileError, match="leads out of"):
        load(tmp_path, sha256={"../secret": "0"})


def test_another_version_or_format_is_refused(models: dict[str, Model]) -> None:
    files = models["baseline"].files()
    for change in ({"version": 2}, {"format": "pickle"}):
        told = json.loads(files["model.json"]) | change
        with pytest.raises(ModelFileError, match="cannot be read: this code reads version 1"):
            parse(files | {"model.json": json.dumps(told).encode()})
    with pytest.raises(ModelFileError, match=r"a model needs \['encoder.json'\]"):
        parse({"model.json": files["model.json"]})


def test_a_skops_file_with_another_type_is_refused_before_skops_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import skops.io
    from sklearn.naive_bayes import GaussianNB

    content = skops.io.dumps(GaussianNB())
    monkeypatch.setattr(skops.io, "loads", lambda *_, **__: pytest.fail("skops was reached"))
    with pytest.raises(ModelFileError, match=r"may not hold \['sklearn.naive_bayes.GaussianNB'\]"):
        FORMATS["skops"].parse(content, {"slope": 1.0, "offset": 0.0}, 1)


def test_skops_files_hold_no_memory_addresses(models: dict[str, Model]) -> None:
    with zipfile.ZipFile(io.BytesIO(models["svm"].content)) as archive:
        numbers = sorted(int(Path(name).stem) for name in archive.namelist() if name != "schema.json")
    assert numbers and numbers[-1] < 1_000


def test_a_saved_form_that_says_something_else_is_refused(training_set: pl.DataFrame, features: list[str]) -> None:
    encoder = Encoder.fit(training_set, features)
    like = np.empty((2, 0), dtype=np.float32)
    assert packed("prior", encoder, 0.25, like=like, reference=np.array([0.25, 0.25])).content == b'{"prior": 0.25}'
    for wrong in (0.2501, np.nan):
        with pytest.raises(ModelFileError, match=r"saved as prior, a probability differs by"):
            packed("prior", encoder, 0.25, like=like, reference=np.array([0.25, wrong]))


def test_chunks_do_not_show(model: Model, training_set: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.predict(training_set)
    monkeypatch.setattr(model_files, "CHUNK_ROWS", 13)
    np.testing.assert_allclose(model.predict(training_set), whole, atol=1e-6)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "model", {"old": b"1", "same": b"1"})
    write_folder(tmp_path / "a" / "model", {"same": b"2"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "model").iterdir()} == {"same": b"2"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"], "nothing temporary is left"


def test_a_folder_stays_as_it_was_when_writing_breaks_off(tmp_path: Path) -> None:
    write_folder(tmp_path / "model", {"file": b"1"})
    with pytest.raises(TypeError):
        write_folder(tmp_path / "model", {"file": b"2", "other": None})  # type: ignore[dict-item]
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {"file": b"1"}
