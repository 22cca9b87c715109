"""Clustering: the metrics, distances, agreement of groupings, and clusters in words."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.tasks import TaskError, task
from ml_assets.tasks.cluster_profile import profile
from ml_assets.tasks.clustering import METRICS
from ml_assets.tasks.grouping import NOISE, SAMPLE_ROWS, centroids, distances, sample, silhouettes, stability

METRIC = {metric.name: metric for metric in METRICS}
CLUSTERING = task("clustering")
SKLEARN = {
    "silhouette": sk.silhouette_score,
    "davies_bouldin": sk.davies_bouldin_score,
    "calinski_harabasz": sk.calinski_harabasz_score,
}
LABELS = st.lists(st.integers(-1, 3), min_size=1, max_size=25)


def blobs(rows: int = 300, groups: int = 3, *, apart: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(groups)
    cluster = generator.integers(0, groups, rows)
    y = generator.normal(size=(rows, 4))
    y[:, 0] += apart * cluster
    return y, cluster


@settings(max_examples=60)
@given(labels=LABELS)
def test_equals_scikit_learn_on_the_rows_in_clusters(labels: list[int]) -> None:
    cluster = np.array(labels)
    y = np.random.default_rng(len(labels)).normal(size=(len(cluster), 3))
    inside = cluster != NOISE
    comparable = 2 <= len(set(cluster[inside])) < inside.sum()
    for name, oracle in SKLEARN.items():
        value, reason = METRIC[name].compute(y, cluster), METRIC[name].why_not(y, cluster)
        if comparable:
            assert value == pytest.approx(oracle(y[inside], cluster[inside]))
        else:
            assert value is None
            assert reason is not None
            assert "cluster" in reason


def test_shares() -> None:
    y, cluster = np.zeros((10, 1)), np.array([0] * 5 + [1] * 2 + [NOISE] * 3)
    assert METRIC["noise_share"].compute(y, cluster) == 0.3
    assert METRIC["smallest_share"].compute(y, cluster) == 0.2
    assert METRIC["smallest_share"].why_not(y, np.full(10, NOISE)) == "no row is in a cluster"
    assert METRIC["silhouette"].why_not(y, np.full(10, NOISE)) == "0 clusters: a comparison needs two"
    assert METRIC["silhouette"].why_not(y, np.arange(10)) == "each of the 10 rows is a cluster of its own"


def test_what_a_choice_could_game_cannot_be_declared() -> None:
    assert CLUSTERING.declarable_names == ["silhouette", "davies_bouldin", "calinski_harabasz"]
    assert [metric.name for metric in METRICS if not metric.cheap] == ["silhouette"]


@pytest.mark.parametrize("name", SKLEARN)
def test_clear_groups_are_better_than_blurred_ones(name: str) -> None:
    clear, blurred = blobs(), blobs(apart=1.0)
    values = METRIC[name].compute(*clear), METRIC[name].compute(*blurred)
    assert METRIC[name].better(*values)


def test_silhouettes_are_of_a_bounded_sample_that_is_the_same_every_time() -> None:
    y, cluster = blobs(5200)
    found = silhouettes(y, cluster)
    assert not isinstance(found, str)
    assert len(found.value) == len(found.cluster) == SAMPLE_ROWS
    np.testing.assert_array_equal(sample(5200), sample(5200))
    whole = sk.silhouette_score(y, cluster)
    assert METRIC["silhouette"].compute(y, cluster) == pytest.approx(whole, abs=0.01)


def test_losses_are_distances_to_the_own_centroid_or_the_nearest() -> None:
    y = np.array([[0.0, 0], [2, 0], [10, 0], [10, 4], [9, 2]])
    cluster = np.array([0, 0, 5, 5, NOISE])
    names, middle = centroids(y, cluster)
    assert names.tolist() == [0, 5]
    assert middle.tolist() == [[1, 0], [10, 2]]
    assert CLUSTERING.losses(y, cluster).tolist() == [1, 1, 2, 2, 1]
    assert distances(y, np.full(5, NOISE)) == pytest.approx(np.linalg.norm(y - y.mean(axis=0), axis=1))
    assert distances(np.empty((0, 2)), np.empty(0, dtype=int)).shape == (0,)


@given(labels=LABELS, seed=st.integers(0, 9))
def test_losses_equal_a_plain_loop(labels: list[int], seed: int) -> None:
    cluster = np.array(labels)
    y = np.random.default_rng(seed).normal(size=(len(cluster), 2))
    middle = {number: y[cluster == number].mean(axis=0) for number in set(labels) - {NOISE}} or {0: y.mean(axis=0)}
    for row, number, found in zip(y, labels, distances(y, cluster), strict=True):
        near = [middle[number]] if number in middle else middle.values()
        assert found == pytest.approx(min(np.linalg.norm(row - one) for one in near))


def test_stability_does_not_care_for_names_and_is_about_nothing_by_chance() -> None:
    _, cluster = blobs(2000)
    assert stability(cluster, (cluster + 1) % 3) == 1
    shuffled = np.random.default_rng(0).permutation(cluster)
    assert abs(stability(cluster, shuffled)) < 0.01
    with pytest.raises(ValueError, match="two groupings of 2000 and 1 rows"):
        stability(cluster, cluster[:1])


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([1.0], [0], "give n rows and n clusters"),
        ([[1.0], [2.0]], [0], "give n rows and n clusters"),
        ([[np.nan]], [0], "rows with NaN or infinity cannot be compared"),
        ([[1.0]], [-2], "cluster -2 does not exist"),
        ([[1.0]], [0.5], "score is float64: clusters are integers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(y: list, score: list, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        CLUSTERING.check(np.array(y), np.array(score))


def test_answers_can_be_stored_and_read_back_and_there_are_no_labels() -> None:
    score = np.array([0, 2, NOISE])
    assert CLUSTERING.stored(pl.DataFrame(CLUSTERING.answers(score, 0.5))).tolist() == score.tolist()
    with pytest.raises(TaskError, match="a clustering has no labels"):
        CLUSTERING.labels(pl.Series("label", [1]))


def test_how_many_clusters_are_tried() -> None:
    tried = task("clustering", clusters=[3, 5])
    assert (tried.fewest, tried.most) == (3, 5)
    for wrong in ([1, 4], [5, 3]):
        with pytest.raises(TaskError, match=r"task.clusters \["):
            task("clustering", clusters=wrong)


def features() -> tuple[pl.DataFrame, np.ndarray]:
    cluster = np.array([0] * 60 + [1] * 30 + [NOISE] * 10)
    generator = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "delay": np.where(cluster == 1, 12.4, 6.1) + generator.normal(size=100) * 0.001,
            "size": np.where(cluster == 0, 250_000.0, 1_000.0),
            "kind": pl.Series(np.where(cluster == 1, "sea", "land"), dtype=pl.Categorical),
            "busy": cluster == NOISE,
            "same": np.ones(100),
            "moment": [None] * 100,
            "number": generator.normal(size=100),
        }
    )
    return frame.with_columns(delay=pl.when(pl.int_range(100) % 10 > 0).then("delay")), cluster


def test_a_profile_tells_size_and_differences_strongest_first_noise_last() -> None:
    frame, cluster = features()
    first, second, noise = profile(frame, cluster)
    above = "standard deviations above the others"
    assert first.startswith(f"Cluster 0: 60 rows (60.0%); size 2.0 {above} (250,000 against 1,000);")
    assert second.startswith(
        f"Cluster 1: 30 rows (30.0%); kind is sea only here (100% against 0%); delay 2.2 {above} (12.4 against 6.1);"
    )
    assert noise.startswith("Rows in no cluster: 10 rows (10.0%); busy is ")
    assert not any("same" in sentence or "moment" in sentence for sentence in (first, second, noise))


def test_a_profile_counts_how_much_more_often_a_category_occurs() -> None:
    frame = pl.DataFrame({"kind": ["a"] * 3 + ["b"] + ["a"] * 1 + ["b"] * 3})
    sentences = profile(frame, np.array([0] * 4 + [1] * 4))
    assert (
        sentences[0] == "Cluster 0: 4 rows (50.0%); kind is a 3.0 times as often as among the others (75% against 25%)."
    )


def test_a_profile_does_not_depend_on_the_order_of_the_rows() -> None:
    frame, cluster = features()
    order = np.random.default_rng(3).permutation(frame.height)
    assert profile(frame[order], cluster[order]) == profile(frame, cluster)


def test_a_profile_of_what_does_not_differ_says_so() -> None:
    frame = pl.DataFrame({"same": [1, 1, 1], "unknown": [None, np.nan, np.inf]})
    assert profile(frame, np.array([0, 0, 1])) == [
        "Cluster 0: 2 rows (66.7%); like the others in every feature.",
        "Cluster 1: 1 row (33.3%); like the others in every feature.",
    ]
    assert profile(frame, np.zeros(3, dtype=int)) == [
        "Cluster 0: 3 rows (100.0%); there are no others to compare with."
    ]
    assert profile(frame.clear(), np.empty(0, dtype=int)) == []
    with pytest.raises(ValueError, match="3 rows of features and 1 clusters"):
        profile(frame, np.array([0]))


def test_a_profile_keeps_the_digits_of_large_numbers() -> None:
    frame = pl.DataFrame({"id": 1e15 + np.array([0.0, 0, 8, 8])})
    assert "id 2.0 standard deviations below" in profile(frame, np.array([0, 0, 1, 1]))[0]
