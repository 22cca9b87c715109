"""Text of a declaration that means what is written.

Dagster renders each text of a declaration as a template, and what then looks like Python becomes a value of Python: "1" a
number, "None" nothing, "'a'" a letter. Names of columns and of classes are none of that. A number in YAML is its own text.
"""

from collections.abc import Sequence
from typing import Annotated

import dagster as dg

Scalar = str | int | float | bool


def text(_context: dg.ResolutionContext, value: Scalar) -> str:
    """Return the text that was written. Raises `ValueError` for a word that YAML took for a truth."""
    if isinstance(value, bool):
        raise ValueError(f"YAML reads a word as {value}; put words such as 'yes' and 'true' in quotes")
    return str(value)


def _texts(context: dg.ResolutionContext, values: Sequence[Scalar]) -> list[str]:
    return [text(context, value) for value in values]


Text = Annotated[str, dg.Resolver(text, model_field_type=Scalar, inject_before_resolve=False)]
Texts = Annotated[Sequence[str], dg.Resolver(_texts, model_field_type=Sequence[Scalar], inject_before_resolve=False)]
