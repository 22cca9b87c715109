"""A bench on little data, in this process: what its arms start are processes of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

from benchmarks.__main__ import main


def small(name: str, folder: Path) -> dict[str, Any]:
    """Run the bench once, in a folder where it finds what others have made, and return what was kept of it."""
    results = folder / f"{name}.json"
    with patch.dict(os.environ), catch_warnings():
        simplefilter("ignore")  # the peers' own
        status = main(["--small", "--only", name, "--rounds", "1", "--folder", str(folder), "--results", str(results)])
    found = json.loads(results.read_text())[name]
    assert (status, found["equal"]) == (0, True), found["compared"]
    return found
