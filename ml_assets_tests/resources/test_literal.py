"""Names and words of a declaration mean what is written, though Dagster renders texts as templates."""

from __future__ import annotations

import pytest
from dagster.components.resolved.errors import ResolutionException
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.problem import Task
from ml_assets.source import Column

TEXT = st.text(min_size=1).filter(str.isprintable)
LOOKS_LIKE_PYTHON = st.sampled_from(
    ["1", "1.0", "None", "True", "'a'", "[1]", "(1,)", "0x1f", "{{ x }}", "{% x %}", "{# c #}"]
)


@given(TEXT | LOOKS_LIKE_PYTHON)
def test_a_name_is_what_is_written(name: str) -> None:
    assert Column.resolve_from_dict({"name": name, "type": "String"}).name == name


def test_classes_are_texts_and_numbers_are_their_own() -> None:
    found = Task.resolve_from_yaml("{kind: classification, classes: [0, '1', 2.5, 'None']}")
    assert list(found.classes) == ["0", "1", "2.5", "None"]
    assert Task.resolve_from_yaml("{kind: classification, positive: 1}").positive == "1"


@pytest.mark.parametrize("word", ["yes", "true"])
def test_words_that_yaml_reads_as_a_truth_must_stand_in_quotes(word: str) -> None:
    with pytest.raises(ResolutionException, match="put words such as 'yes' and 'true' in quotes"):
        Task.resolve_from_yaml(f"{{kind: classification, positive: {word}}}")
    assert Task.resolve_from_yaml(f"{{kind: classification, positive: '{word}'}}").positive == word
