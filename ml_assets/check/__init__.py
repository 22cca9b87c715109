"""Checks of the declarations before anything runs: all faults at once, each with its file, line, field and fix.

`ml-assets check` prints what `check(root).text()` returns.
"""

from ml_assets.check.checked import Checked, check, faults
from ml_assets.check.fault import Fault
from ml_assets.check.schema import schema, schema_of_files

__all__ = ["Checked", "Fault", "check", "faults", "schema", "schema_of_files"]
