"""What was made from one training set stays together; another's parts cannot be picked up."""

from __future__ import annotations

from pathlib import Path

import pytest

from ml_assets.development.experiment import Experiment, ExperimentError


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path, "late", "0123456789abcdef" * 4)


def test_the_folder_is_named_after_the_data(experiment: Experiment, tmp_path: Path) -> None:
    assert experiment.root == tmp_path / "late" / "0123456789abcdef"
    assert experiment.folder("candidates/xgboost") == experiment.root / "candidates" / "xgboost"


def test_what_was_written_is_read(experiment: Experiment, tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"text": "Zürich"}}
    experiment.write("candidates/xgboost", content)
    again = Experiment(tmp_path, "late", experiment.data_hash)
    assert again.read("candidates/xgboost") == content
    assert [path.name for path in (experiment.root / "candidates").iterdir()] == ["xgboost.json"]


def test_the_same_content_is_the_same_bytes(experiment: Experiment) -> None:
    experiment.write("x", {"a": 1, "b": 2})
    first = (experiment.root / "x.json").read_bytes()
    experiment.write("x", {"b": 2, "a": 1})
    assert (experiment.root / "x.json").read_bytes() == first


def test_another_training_set_has_nothing(experiment: Experiment, tmp_path: Path) -> None:
    experiment.write("selection", {"winner": "xgboost"})
    other = Experiment(tmp_path, "late", "fedcba9876543210" * 4)
    with pytest.raises(ExperimentError, match="late: no selection for training set fedcba9876543210; materialize it"):
        other.read("selection")


def test_what_json_cannot_say_is_refused_and_the_old_stays(experiment: Experiment) -> None:
    experiment.write("x", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        experiment.write("x", {"a": float("nan")})
    assert experiment.read("x") == {"a": 1}


# -- where a search may begin ------------------------------------------------------------------------------------------


def test_a_search_begins_where_that_of_the_training_set_before_ended(tmp_path: Path) -> None:
    january, february, march = (Experiment(tmp_path, "late", name * 64) for name in "abc")
    assert january.warm("xgboost") is None
    january.remember("xgboost", {"depth": 3})
    assert february.warm("xgboost") == {"depth": 3} and february.warm("linear") is None
    february.remember("xgboost", {"depth": 4})
    assert march.warm("xgboost") == {"depth": 4}


def test_a_training_set_sees_the_same_again(tmp_path: Path) -> None:
    january, february = (Experiment(tmp_path, "late", name * 64) for name in "ab")
    january.remember("xgboost", {"depth": 3})
    february.remember("xgboost", {"depth": 4})
    for _ in range(2):
        assert january.warm("xgboost") is None, "not what it found itself, nor what came later"
        assert february.warm("xgboost") == {"depth": 3}
        january.remember("xgboost", {"depth": 9})
        february.remember("xgboost", {"depth": 9})


def test_another_problem_has_its_own_memory(tmp_path: Path) -> None:
    Experiment(tmp_path, "late", "a" * 64).remember("xgboost", {"depth": 3})
    assert Experiment(tmp_path, "cancelled", "b" * 64).warm("xgboost") is None


def test_what_is_remembered_survives_as_json_and_leaves_no_draft(tmp_path: Path) -> None:
    found = {"layers": [64, 32], "penalty": 0.1, "log_target": True, "column": "place"}
    Experiment(tmp_path, "late", "a" * 64).remember("neural", found)
    assert Experiment(tmp_path, "late", "b" * 64).warm("neural") == found
    assert [path.name for path in (tmp_path / "late" / "search").iterdir()] == ["neural.json"]
