"""The year's replay on a copy of the project: `python -m ml_assets_tests.e2e.year` (some minutes); its summary is printed.

The copy declares one problem with shorter splits and a smaller search, as a user would: some lines of YAML.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ml_assets.resources.process import prepare

REPOSITORY = Path(__file__).parents[2]
COPIED = ("ml_assets", "feature_repo", "pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md", "LICENSE")
OTHERS = ("arrival_delay", "airport_segments")
CHANGES = {
    "split: {train: 8mo, validation: 1mo, test: 1mo}": "split: {train: 9w, validation: 2w, test: 2w}\n  candidates: [baseline, xgboost]",
    "search: {trials: 6}": "search: {trials: 0}",
    "at_least: 0.68": "at_least: 0.6",
    "promotion: {worst_slice: 0.6}": "promotion: {worst_slice: 0.1}",
}
UNTIL = "2013-12-31"
SECONDS = 3600


def copy(root: Path) -> Path:
    """Copy the project to `root`, without data, and declare less of it."""
    root.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "data").mkdir()
    (root / "data" / "sample").symlink_to(REPOSITORY / "data" / "sample")
    for name in OTHERS:
        shutil.rmtree(root / "ml_assets" / "defs" / "flights" / name)
    declaration = root / "ml_assets" / "defs" / "flights" / "delay" / "defs.yaml"
    text = declaration.read_text()
    for old, new in CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    declaration.write_text(text)
    shutil.copy(Path(__file__).with_name("drive_year.py"), root / "ml_assets_year.py")
    return root


def replay(root: Path, *, until: str = UNTIL, quick: bool = False) -> dict[str, Any]:
    """Replay the year on a copy at `root`, printing as it goes, and return the summary; `quick`: without Evidently's pages."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ML_ASSETS"))}
    environ |= {
        "PYTHONPATH": str(root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ML_ASSETS_WEATHER_API": "none",
        "ML_ASSETS_REFERENCE_DB": "none",
    }
    prepare(environ, root)
    command = [sys.executable, "-m", "ml_assets_year", "--until", until, *(["--quick"] if quick else [])]
    subprocess.run(command, cwd=root, env=environ, check=True, timeout=SECONDS)
    return json.loads((root / "year.json").read_text())


def main() -> None:
    """Replay the year, and print what a person would look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the copy is made")
    parser.add_argument("--until", default=UNTIL, metavar="DAY", help="default %(default)s")
    parser.add_argument("--quick", action="store_true", help="without Evidently's pages, which take half of the time")
    given = parser.parse_args()
    found = replay(copy(given.to.resolve()), until=given.until, quick=given.quick)
    print(f"{len(found['windows'])} windows, {len(found['alerts'])} alerts, trained {len(found['trained'])} times")
    for one in found["decisions"]:
        print(f"  {one['at'][:10]}  {one['outcome']}: {one['reason']}")
    for one in found["alerts"]:
        print(
            f"  {one['at'][:10]}  {'resolved' if one['resolved'] else one['severity']}: {one['title']}: {one['text']}"
        )
    print(f"the page: {given.to / 'data' / 'reports' / 'flight_delay' / 'timeline.html'}")


if __name__ == "__main__":
    main()
