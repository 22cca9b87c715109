"""What a candidate's own fitting may raise. A failed candidate is carried as such; bugs (TypeError, …) stop the run."""

from __future__ import annotations

import polars as pl

FAILURES = (ArithmeticError, LookupError, MemoryError, RuntimeError, ValueError, pl.exceptions.PolarsError)
