"""An online store of bench `online`: filled, or asked question after question.

python -m benchmarks.arms.online ours|feast fill REPO NOW
python -m benchmarks.arms.online ours|feast read REPO NOW QUESTIONS.json TOLD.json
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SERVICE = "everything"
WARM = 20  # questions before the clock runs: imports, opened files, plans
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

Read = Callable[[Mapping[str, Sequence[Any]]], dict[str, list[Any]]]


def main() -> None:
    """Do what is asked."""
    kind, verb, repo, now, *files = sys.argv[1:]
    moment = datetime.fromisoformat(now)
    if verb == "fill":
        {"ours": fill_ours, "feast": fill_feast}[kind](repo, moment)
    else:
        read(({"ours": ours, "feast": feast}[kind])(repo, moment), *map(Path, files))


def fill_ours(repo: str, now: datetime) -> None:
    """Bring every view online."""
    from ml_assets.features.online.materialize import materialize, online_source
    from ml_assets.features.online.place import repository_backend
    from ml_assets.features.retrieval import applied_repo

    found = applied_repo(repo)
    backend = repository_backend(Path(repo), project=found.project)
    for view in found.views.values():
        materialize(online_source(view, repo=repo), backend, now=now)


def fill_feast(repo: str, now: datetime) -> None:
    """Do the same as Feast does it."""
    from feast import FeatureStore

    FeatureStore(repo_path=repo).materialize(BEGINNING, now)


def ours(repo: str, now: datetime) -> Read:
    """Return the call of our reader."""
    from ml_assets.features.online.reader import OnlineReader

    reader = OnlineReader.open(repo)
    return lambda keys: reader.read(SERVICE, keys, now=now)


def feast(repo: str, _: datetime) -> Read:
    """Return Feast's call; it knows no other now than the system's."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=repo)
    service = store.get_feature_service(SERVICE)
    return lambda keys: store.get_online_features(features=service, entity_rows=keys).to_dict()


def read(ask: Read, questions: Path, told: Path) -> None:
    """Ask, take the time of each answer, and tell times and answers."""
    asked = json.loads(questions.read_text())
    answers, times = [], dict[str, list[float]]()
    for kind, batches in asked.items():
        for keys in batches[:WARM]:
            ask(keys)
        times[kind] = []
        for keys in batches:
            started = time.perf_counter()
            answer = ask(keys)
            times[kind].append(time.perf_counter() - started)
            answers.append(answer)
    where = told.with_suffix(".answers.json")
    where.write_text(json.dumps(answers))
    details = {f"{kind}_p{share}_ms": at(took, share) * 1000 for kind, took in times.items() for share in (50, 99)}
    told.write_text(json.dumps({"seconds": at(times["batch"], 50), "details": details, "answers": str(where)}))


def at(times: Sequence[float], share: int) -> float:
    """Return the time within which `share` percent of the answers came."""
    ordered = sorted(times)
    return ordered[-(-len(ordered) * share // 100) - 1]


if __name__ == "__main__":
    main()
