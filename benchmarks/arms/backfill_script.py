"""The plain script's ingest, timed after the import of Polars: `python -m benchmarks.arms.backfill_script FIRST LAST TOLD.json`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.plain_lifecycle import Script
from ml_assets import keys


def main() -> None:
    """Run, then tell."""
    first, last, told = sys.argv[1:]
    started = time.perf_counter()
    script = Script.below(Path.cwd(), keys.days(first, last))
    script.ingest()
    seconds = time.perf_counter() - started
    from benchmarks.arms.told import tell

    tell(Path(told), root=Path.cwd(), seconds=seconds, parts=script.seconds)


if __name__ == "__main__":
    main()
