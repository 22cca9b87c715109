"""Whether a model behaves as its problem declares: what may not matter does not, and more of a column moves answers one way.

Invariance and directional expectation tests after Ribeiro, Wu, Guestrin and Singh, "Beyond Accuracy: Behavioral Testing of NLP
Models with CheckList", ACL 2020, on columns instead of words.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from ml_assets.evaluation.gates import Gate, PromotionPolicy
from ml_assets.tasks import Task

NAME = "behaviour"
ROWS = 2_000


class Predicts(Protocol):
    """What is tested of a model."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray: ...


def behaviour_gate(model: Predicts, rows: pl.DataFrame, task: Task, policy: PromotionPolicy, *, seed: int = 0) -> Gate:
    """Return whether the model keeps every declared behaviour on at most `ROWS` of the rows.

    Invariant: the column's values are exchanged among the rows, and no answer may move. Rising or falling: each number becomes
    larger by the column's standard deviation (a truth value becomes true), and no answer may go the other way. In a share
    `policy.share` of the rows an answer may move by more than `policy.tolerance`: of a probability; of the answers' standard
    deviation where they are numbers. Of clusters any change is a move.
    """
    sample = rows.sample(min(rows.height, ROWS), seed=seed)
    if sample.is_empty():
        return Gate(NAME, False, "there are no rows to ask the model about")
    before = model.predict(sample)
    limit = policy.tolerance * (float(before.std()) or 1.0) if task.output == "value" else policy.tolerance
    looks = [_look(model, sample, before, name, kind, limit, policy, seed) for name, kind in _declared(policy)]
    failed = [words for passed, words in looks if not passed]
    return Gate(NAME, not failed, "; ".join(failed or [words for _, words in looks]) or "no behaviour is declared")


def _declared(policy: PromotionPolicy) -> list[tuple[str, str]]:
    kinds = {"invariant": policy.invariant, "rising": policy.rising, "falling": policy.falling}
    return [(name, kind) for kind, names in kinds.items() for name in names]


def _look(
    model: Predicts,
    sample: pl.DataFrame,
    before: np.ndarray,
    name: str,
    kind: str,
    limit: float,
    policy: PromotionPolicy,
    seed: int,
) -> tuple[bool, str]:
    if name not in sample.columns:
        return False, f"column {name!r} does not exist: correct promotion.{kind}"
    if kind != "invariant" and (before.ndim == 2 or before.dtype.kind == "i"):
        return False, f"an answer that is one of several classes neither rises nor falls: leave out promotion.{kind}"
    changed = _exchanged(sample[name], seed) if kind == "invariant" else _raised(sample[name])
    if changed is None:
        return False, f"column {name!r} is {sample.schema[name]}, of which there is no more: correct promotion.{kind}"
    after = model.predict(sample.with_columns(changed.alias(name)))
    share = float(_moved(before, after, kind, limit).mean())
    words = f"{kind} {name}: {share:.1%} of {sample.height:,} answers move against it, at most {policy.share:.1%}"
    return share <= policy.share, words


def _exchanged(values: pl.Series, seed: int) -> pl.Series:
    return values.sample(fraction=1.0, shuffle=True, seed=seed)


def _raised(values: pl.Series) -> pl.Series | None:
    """Return more of the column: numbers by a standard deviation (null stays null), truth values true."""
    if values.dtype == pl.Boolean:
        return values | True
    if not values.dtype.is_numeric():
        return None
    spread = values.cast(pl.Float64).std()
    more = values.cast(pl.Float64) + (float(spread) if isinstance(spread, float) else 0.0)
    return more if values.dtype.is_float() else more.ceil().cast(values.dtype)


def _moved(before: np.ndarray, after: np.ndarray, kind: str, limit: float) -> np.ndarray:
    """Tell of each row (n,) whether its answer moved as it should not."""
    if before.ndim == 2:
        return np.abs(after - before).max(axis=1) > limit
    if before.dtype.kind == "i":
        return after != before
    gain = after.astype(float) - before
    return {"invariant": np.abs(gain), "rising": -gain, "falling": gain}[kind] > limit
