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
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import (
    FORMATS,
    Model,
    ModelFileError,
    ensemble,
    hashes,
    load,
    looked_up,
    lookup_keys,
    packed,
    parse,
    unzipped,
    write_folder,
)
from ml_assets_tests.development.samples import model_of, names_for, sample

FILES = {
    ("binary", "baseline"): "prior.json",
    ("binary", "persistence"): "lookup.json",
    ("binary", "linear"): "model.onnx",
    ("multiclass", "random_forest"): "model.onnx",
    ("binary", "xgboost"): "model.ubj",
    ("regression", "svm"): "model.skops",
    ("clustering", "k_means"): "clusters.npz",
}


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    mixed = {name: model_of("binary", name) for name in names_for("binary")} | {
        "k_means": model_of("clustering", "k_means")
    }
    members = {name: model_of("multiclass", name) for name in ("linear", "xgboost", "svm")}
    return mixed | {"ensemble": ensemble(members, {"linear": 0.25, "xgboost": 0.75, "svm": 0.0})}


@pytest.fixture(params=[*names_for("binary"), "k_means", "ensemble"])
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


def test_files_have_the_format_of_their_kind() -> None:
    for (kind, name), file in FILES.items():
        assert set(model_of(kind, name).files()) == {"model.json", "encoder.json", file}


def test_an_ensemble_is_the_weighted_mean_of_its_members(models: dict[str, Model]) -> None:
    frame = sample("multiclass").head(50)
    linear, boosted = (model_of("multiclass", name).predict(frame) for name in ("linear", "xgboost"))
    np.testing.assert_allclose(models["ensemble"].predict(frame), 0.25 * linear + 0.75 * boosted)
    assert set(unzipped(models["ensemble"].content)) == {"linear", "xgboost"}, "a member without weight is not stored"
    with pytest.raises(ModelFileError, match="score it through its Model"):
        FORMATS["ensemble"].parse(models["ensemble"].content, 1)


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
    for change in ({"version": 1}, {"format": "pickle"}):
        told = json.loads(files["model.json"]) | change
        with pytest.raises(ModelFileError, match="cannot be read: this code reads version 2"):
            parse(files | {"model.json": json.dumps(told).encode()})
    with pytest.raises(ModelFileError, match=r"a model needs \['encoder.json'\]"):
        parse({"model.json": files["model.json"]})


def test_a_skops_file_with_another_type_is_refused_before_skops_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import skops.io
    from sklearn.naive_bayes import GaussianNB

    content = skops.io.dumps(GaussianNB())
    monkeypatch.setattr(skops.io, "loads", lambda *_, **__: pytest.fail("skops was reached"))
    with pytest.raises(ModelFileError, match=r"may not hold \['sklearn.naive_bayes.GaussianNB'\]"):
        FORMATS["skops"].parse(content, 1)


def test_arrays_are_read_without_pickle() -> None:
    written = io.BytesIO()
    np.savez(written, kind=np.array("centres"), centres=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        FORMATS["clusters"].parse(written.getvalue(), 1)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        FORMATS["clusters"].dump({"centres": np.array([{}], dtype=object)}, np.empty(0))
    unknown = FORMATS["clusters"].dump({"kind": np.array("rings")}, np.empty(0))
    with pytest.raises(ModelFileError, match="a clustering is one of"):
        FORMATS["clusters"].parse(unknown, 1)


@pytest.mark.parametrize(
    "column",
    [pl.Series([1, 0, None, 7]), pl.Series([1.0, 0.0, None, 7.0]), pl.Series([True, False, None, None])],
)
def test_a_number_is_looked_up_whatever_its_type(column: pl.Series) -> None:
    assert lookup_keys(column)[:2].to_list() == ["1.0", "0.0"]
    assert looked_up(column, {"0.0": 0.25, "1.0": 0.75}, 0.5).tolist() == [0.75, 0.25, 0.5, 0.5]


def test_texts_are_looked_up_as_rows_of_probabilities() -> None:
    table = {"b": [0.0, 1.0], "a": [0.9, 0.1]}
    found = looked_up(pl.Series(["a", "c", None, "b"]), table, [0.5, 0.5])
    assert found.tolist() == [[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]
    assert looked_up(pl.Series(["a"]), {}, [0.5, 0.5]).tolist() == [[0.5, 0.5]]
    assert looked_up(pl.Series([], dtype=pl.String), table, [0.5, 0.5]).shape == (0, 2)


def test_skops_files_hold_no_memory_addresses(models: dict[str, Model]) -> None:
    with zipfile.ZipFile(io.BytesIO(models["svm"].content)) as archive:
        numbers = sorted(int(Path(name).stem) for name in archive.namelist() if name != "schema.json")
    assert numbers and numbers[-1] < 1_000


def test_a_saved_form_that_says_something_else_is_refused(training_set: pl.DataFrame, features: list[str]) -> None:
    encoder = Encoder.fit(training_set, features)
    like = np.empty((2, 0), dtype=np.float32)
    assert packed("prior", encoder, 0.25, like=like, reference=np.array([0.25, 0.25])).content == b'{"prior": 0.25}'
    for wrong in (0.2501, np.nan):
        with pytest.raises(ModelFileError, match=r"saved as prior, a score differs by"):
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
