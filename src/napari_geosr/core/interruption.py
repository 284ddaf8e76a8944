"""Interrupt long computations, for example between the layers of a network.

The caller sets the condition for stopping; functions in between need not pass it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, never_stop

#: Function that returns whether the current computation should stop.
_SHOULD_STOP: ContextVar[ShouldStop] = ContextVar("should_stop", default=never_stop)


@contextmanager
def interruptible(should_stop: ShouldStop) -> Iterator[None]:
    """Let `check_stop` stop computations in this context if `should_stop()` is true."""
    token = _SHOULD_STOP.set(should_stop)
    try:
        yield
    finally:
        _SHOULD_STOP.reset(token)


def check_stop() -> None:
    """Raise `Cancelled` if the current computation should stop."""
    if _SHOULD_STOP.get()():
        raise Cancelled("Stopped; no file was written.")
