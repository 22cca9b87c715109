"""The tasks are known to every declaration: importing them is cheap."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("polars", "pandas", "matplotlib", "PIL", "sklearn", "scipy", "evidently", "dagster")


def test_importing_the_tasks_imports_numpy_only() -> None:
    script = "import sys, ml_assets.tasks; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script, *HEAVY], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
