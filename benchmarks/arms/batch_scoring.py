"""Score a lake's observations: `python -m benchmarks.arms.batch_scoring ours|plain LAKE BUNDLE DIGEST OUT TOLD.json`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from benchmarks.arms.memory import Memory
from benchmarks.scored import FEATURES
from ml_assets.deployment.batch import Scoring, score_table
from ml_assets.lake import Lake
from ml_assets.packaging.bundle import Bundle, load_bundle
from ml_assets.packaging.champion import Champion

OBSERVED, TABLE, KEY = "synthetic/observations", "synthetic/predictions", "row"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ours(lake: Lake, bundle: Bundle, out: Path) -> Iterable[Path]:
    """Score through the lake, as the asset does; the observations are linked to, so that the lake is a new one."""
    fresh = Lake(str(out))
    fresh.mark()
    (out / OBSERVED).parent.mkdir(parents=True)
    (out / OBSERVED).symlink_to(Path(lake.url, OBSERVED).resolve())
    champion = Champion("1", bundle, "synthetic", fitted_until=NOW, live_from=NOW, test_metrics={})
    scoring = Scoring(OBSERVED, TABLE, key=[KEY], keep=[KEY])
    score_table(fresh, scoring, champion, fresh.partitions(OBSERVED), now=NOW)
    return map(Path, fresh.files(TABLE))


def plain(lake: Lake, bundle: Bundle, out: Path) -> Iterable[Path]:
    """Read, predict and write file by file: the loop that a person would write, with the same columns."""
    out.mkdir(parents=True)
    written = []
    for path in sorted(Path(lake.url, OBSERVED).glob("*/*.parquet")):
        frame = pl.scan_parquet(path).select(KEY, "event_timestamp", *FEATURES).collect()
        answers = bundle.answers(bundle.predict(frame))
        target = out / f"{path.parent.name}.parquet"
        frame.with_columns(**answers, model_version=pl.lit("1"), in_sample=pl.lit(True)).write_parquet(
            target, compression="zstd", compression_level=1
        )
        written.append(target)
    return written


def digest(paths: Iterable[Path]) -> tuple[int, str]:
    """Return the number of rows, and the SHA-256 of all keys, scores and decisions in order."""
    found, rows = hashlib.sha256(), 0
    for path in paths:
        frame = pl.read_parquet(path, columns=[KEY, "score", "prediction"])
        rows += frame.height
        for name in (KEY, "score", "prediction"):
            found.update(frame[name].to_numpy().tobytes())
    return rows, found.hexdigest()


def main() -> None:
    """Score, tell the time and the memory, and then what was written."""
    kind, lake, folder, known, out, told = sys.argv[1:]
    bundle = load_bundle(Path(folder), digest=known)
    run = {"ours": ours, "plain": plain}[kind]
    memory, started = Memory(), time.perf_counter()
    paths = list(run(Lake(lake), bundle, Path(out)))
    seconds, details = time.perf_counter() - started, memory.told()
    rows, hashed = digest(paths)
    result = {"rows": rows, "sha256": hashed}
    Path(told).write_text(json.dumps({"seconds": seconds, "result": result, "details": details}))


if __name__ == "__main__":
    main()
