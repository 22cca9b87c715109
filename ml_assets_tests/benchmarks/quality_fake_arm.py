"""A contestant of the quality bench for tests: it answers what its preset says, and counts its runs in INTO/../runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.arms.quality_asked import Asked, score_frame


def main() -> None:
    """Answer the truth, the mean, nothing for some rows, or fail."""
    asked, into = Asked.read(Path(sys.argv[1])), Path(sys.argv[2])
    how, limit = sys.argv[3], float(sys.argv[4])
    if how == "fails":
        raise SystemExit("no models were trained")
    development, test = asked.rows()
    truth = asked.y(test).astype(float)
    mean = truth * 0 + asked.y(development).mean()
    answers = {"truth": truth, "mean": mean, "short": truth[:-1], "infinite": truth + float("inf")}
    score_frame(asked, answers[how]).write_parquet(into / "scores.parquet")
    (into / "told.json").write_text(json.dumps({"seconds": limit, "model": how}))
    with (into.parent / "runs").open("a") as runs:
        runs.write(f"{how}\n")


if __name__ == "__main__":
    main()
