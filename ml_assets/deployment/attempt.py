"""Work that may fail in whatever way its library chooses, where the service has to go on and tell what failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Result = TypeVar("Result")


class Attempt:
    """`with Attempt() as attempt: …`: an exception ends the block and is kept in `error`, for the caller to tell.

    Only for boundaries that answers must outlive: a registry, a bundle that is being judged, a disk, a model on trial. Their
    libraries raise what they like, so no list of exceptions would be whole.
    """

    error: Exception | None = None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Keep an exception; what is none (an interrupt, an exit) passes."""
        self.error = error if isinstance(error, Exception) else None
        return self.error is not None

    @property
    def reason(self) -> str:
        """Return what failed as one line for people; "" when nothing did."""
        first = str(self.error).partition("\n")[0][:300]
        return f"{type(self.error).__name__}: {first}" if self.error else ""


class _Holder(Generic[Result]):
    """Where a thread leaves what it made."""

    value: Result


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what `work` returns, or raise what it raises; `TimeoutError` when it takes longer than `seconds`.

    Work that is late goes on in a daemon thread, whose outcome nobody waits for.
    """
    held, attempt = _Holder[Result](), Attempt()

    def run() -> None:
        with attempt:
            held.value = work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"it took longer than {seconds:g} s")
    if attempt.error:
        raise attempt.error
    return held.value
