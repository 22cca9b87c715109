"""Clusterings: they find what is there, choose how many, number by size, and say of new rows what scikit-learn would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn import cluster, datasets, mixture

from ml_assets.development.candidates.base import CandidateError, Fitting, Rows
from ml_assets.development.candidates.clusters.gaussian_mixture import GaussianMixture
from ml_assets.development.candidates.clusters.hdbscan import Hdbscan
from ml_assets.development.candidates.clusters.k_means import KMeans
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import likeliest_component, nearest, nearest_centre
from ml_assets.development.stability import resampled_stability
from ml_assets.tasks import task
from ml_assets.tasks.grouping import stability
from ml_assets_tests.development.samples import TASKS, how, model_of, names_for, sample

EVERY = (KMeans(), GaussianMixture(), Hdbscan())


def _rows(matrix: np.ndarray) -> Rows:
    frame = pl.DataFrame({f"x{place}": column for place, column in enumerate(matrix.T)})
    return Rows(frame, np.empty(0), Encoder.fit(frame))


@pytest.fixture(scope="module")
def blobs() -> tuple[Rows, np.ndarray]:
    """Three heaps of 300, 200 and 100 rows."""
    points, truth = datasets.make_blobs([300, 200, 100], 4, random_state=3, cluster_std=1.0)
    return _rows(points), truth


@pytest.mark.parametrize("known", EVERY, ids=lambda known: known.name)
def test_it_finds_the_heaps_and_numbers_them_by_size(known, blobs: tuple[Rows, np.ndarray]) -> None:
    rows, truth = blobs
    found = known.fit(rows, None, how("clustering")).scores(rows)
    assert found.dtype == np.int64
    assert stability(truth, found) > 0.97
    sizes = np.bincount(found[found >= 0])
    assert len(sizes) == 3 and (np.diff(sizes) < 0).all()


@pytest.mark.parametrize("known", EVERY, ids=lambda known: known.name)
def test_what_was_chosen_can_be_fitted_again_without_choosing(known, blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    first = known.fit(rows, None, how("clustering"))
    again = known.variant(first.parameters).fit(rows, None, how("clustering"))
    np.testing.assert_array_equal(again.scores(rows), first.scores(rows))
    assert len(first.parameters["silhouette_by_setting"]) > 1 and not again.parameters["silhouette_by_setting"]
    assert first.parameters["clusters"] == again.parameters["clusters"] == 3
    assert "the best silhouette of" in first.notes[0] and "best" not in again.notes[0]


@pytest.mark.parametrize("name", names_for("clustering"))
def test_heaps_of_a_frame_with_texts_and_nulls(name: str) -> None:
    frame = sample("clustering")
    found = model_of("clustering", name).predict(frame)
    assert stability(_codes(frame), found) > 0.8


def _codes(frame: pl.DataFrame) -> np.ndarray:
    return frame["place"].replace_strict({"x": 0, "y": 1, "z": 2}).to_numpy()


def test_nearest_centre_is_what_scikit_learn_predicts() -> None:
    points = np.random.default_rng(0).normal(size=(500, 6))
    machine = cluster.KMeans(7, n_init=1, random_state=0).fit(points)
    np.testing.assert_array_equal(nearest_centre(points, centres=machine.cluster_centers_), machine.predict(points))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_likeliest_component_is_what_scikit_learn_predicts(kind: str) -> None:
    random = np.random.default_rng(0)
    points = np.vstack([random.normal(0, 1, (300, 3)), random.normal(1, 3, (300, 3))])
    machine = mixture.GaussianMixture(3, covariance_type=kind, random_state=0).fit(points)
    found = likeliest_component(
        points,
        means=machine.means_,
        precisions=machine.precisions_cholesky_,
        log_weights=np.log(machine.weights_),
    )
    np.testing.assert_array_equal(found, machine.predict(points))


@pytest.mark.parametrize("shape", ["moons", "noise"])
def test_density_says_of_its_own_rows_what_hdbscan_said(shape: str) -> None:
    points = datasets.make_moons(600, noise=0.06, random_state=0)[0]
    if shape == "noise":
        points = np.vstack([points, np.random.default_rng(0).uniform(-2, 3, (150, 2))])
    rows = _rows(points)
    known = Hdbscan(cluster_share=0.05, most_noise=0.9).fit(rows, None, how("clustering"))
    labels = (
        cluster.HDBSCAN(min_cluster_size=round(0.05 * len(points)), min_samples=5, copy=True).fit(rows.dense).labels_
    )
    found = known.scores(rows)
    assert stability(labels, found) > 0.99
    assert ((labels == -1) == (found == -1)).mean() > 0.99
    assert (found == -1).any() == (shape == "noise")


def test_a_far_row_is_in_no_dense_cluster_but_near_a_centre(blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    far = Rows(rows.frame.head(1).with_columns(pl.all() + 1_000), np.empty(0), rows.encoder)
    assert Hdbscan().fit(rows, None, how("clustering")).scores(far).tolist() == [-1]
    assert KMeans().fit(rows, None, how("clustering")).scores(far)[0] >= 0


@pytest.mark.parametrize("block", [10, 100_000])
def test_nearest_is_what_all_distances_say(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ml_assets.development.model_files.NEAREST_CELLS", block)
    random = np.random.default_rng(0)
    points, others, among = random.normal(size=(50, 3)), random.normal(size=(40, 3)), random.random(40) < 0.5
    distances = np.linalg.norm(points[:, None] - others[None], axis=2)
    place, far = nearest(points, others, neighbours=4, among=among)
    np.testing.assert_array_equal(place, np.where(among, distances, np.inf).argmin(axis=1))
    np.testing.assert_allclose(far, np.sort(distances, axis=1)[:, 3])


def test_the_declared_metric_chooses(blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    known = KMeans().fit(rows, None, how("clustering", metric="davies_bouldin"))
    scores = known.parameters["davies_bouldin_by_setting"]
    assert known.parameters["clusters"] == int(min(scores, key=scores.get))


def test_the_declared_span_is_held_to(blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    wanted = task("clustering", clusters=(5, 6))
    narrow = Fitting(wanted, wanted.metric("silhouette"), threads=1)
    assert KMeans().fit(rows, None, narrow).parameters["clusters"] in (5, 6)
    with pytest.raises(CandidateError, match=r"it finds 3 .* clusters, not 5 to 6 .* declare another span"):
        Hdbscan().fit(rows, None, narrow)


def test_what_cannot_be_grouped_is_refused() -> None:
    same = _rows(np.ones((60, 2)))
    for known in (KMeans(), GaussianMixture()):
        with pytest.raises(CandidateError, match="1 distinct rows cannot make 2 clusters"):
            known.fit(same, None, how("clustering"))
    with pytest.raises(CandidateError, match="it finds"):
        Hdbscan().fit(_rows(np.random.default_rng(0).normal(size=(200, 5))), None, how("clustering"))
    with pytest.raises(CandidateError, match="a classification has no clusters"):
        KMeans().fit(same, None, how("binary"))


def test_few_distinct_rows_make_at_most_as_many_clusters() -> None:
    three = _rows(np.repeat(np.array([[0.0, 0], [5, 0], [0, 9]]), 20, axis=0))
    assert KMeans().fit(three, None, how("clustering")).parameters["clusters"] == 3


def test_many_columns_have_diagonal_covariances(blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    assert GaussianMixture().fit(rows, None, how("clustering")).parameters["covariances"] in ("full", "diagonal")
    diagonal = GaussianMixture(full_columns=3).fit(rows, None, how("clustering"))
    assert diagonal.parameters["covariances"] == "diagonal"


def test_stability_tells_heaps_from_a_cloud(blobs: tuple[Rows, np.ndarray]) -> None:
    rows, _ = blobs
    cloud = _rows(np.random.default_rng(0).normal(size=(400, 4)))
    fixed = replace(KMeans(), clusters=3, starts=1)
    heaps, none = (resampled_stability(fixed, part, how("clustering"), resamples=5) for part in (rows, cloud))
    assert heaps > 0.98 > 0.9 > none
    assert heaps == resampled_stability(fixed, rows, how("clustering"), resamples=5), "seeded"


def test_a_subsample_without_clusters_agrees_with_none() -> None:
    cloud = _rows(np.random.default_rng(0).normal(size=(200, 5)))
    assert resampled_stability(Hdbscan(), cloud, how("clustering"), resamples=3) == 0
    assert TASKS["clustering"].output == "cluster"
