"""The transformation that `on_demand_view` gives to Feast. Feast is imported at the top because the class derives from it."""

from __future__ import annotations

from typing import Any

import pandas as pd
from feast import Field
from feast.protos.feast.core.Transformation_pb2 import UserDefinedFunctionV2
from feast.transformation.pandas_transformation import PandasTransformation
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source


class DeclaredTransformation(PandasTransformation):
    """A pandas transformation that is only its source text: no pickled code goes into the registry.

    Its features are those declared; Feast would infer them from what the function makes of one invented row.
    """

    declared: list[Field]

    @classmethod
    def of(cls, text: str, declared: list[Field]) -> DeclaredTransformation:
        """Return the transformation that runs the function in `text`, and declares these features."""
        found = cls(udf=rehydrate_udf_from_source(text), udf_string=text)
        assert isinstance(found, cls)
        found.declared = declared
        return found

    def infer_features(self, random_input: dict[str, list[Any]], *args: Any, **kwargs: Any) -> list[Field]:
        """Run the function on Feast's invented row, so that a broken one cannot be applied; return what is declared."""
        self.transform(pd.DataFrame.from_dict(random_input))
        return list(self.declared)

    def to_proto(self) -> UserDefinedFunctionV2:
        """Return name and text; Feast runs the text and needs no pickled body."""
        return UserDefinedFunctionV2(name=self.udf.__name__, body_text=self.udf_string, mode="pandas")
