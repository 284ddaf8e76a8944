"""Repeat a call at intervals, in a thread, while a process is working."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Heartbeats:
    """Calls a function at intervals from a thread of its own.

    As a context manager, it calls the function once more at the end.

    Parameters
    ----------
    beat : callable
        Function to call; must not raise an error.
    seconds : float
        Time between two calls, and before the first call.
    name : str
        Name of the thread.

    Examples
    --------
    >>> with Heartbeats(lambda: print("alive"), 60.0):
    ...     pass
    alive
    """

    def __init__(
        self, beat: Callable[[], None], seconds: float, name: str = "heartbeats"
    ) -> None:
        self._beat, self._seconds = beat, seconds
        self._end = threading.Event()
        # The thread ends with the process.
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def start(self) -> None:
        """Start the calls; can be used only once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the calls, without waiting for one in progress."""
        self._end.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._thread.join()
        self._beat()

    def _repeat(self) -> None:
        while not self._end.wait(self._seconds):
            self._beat()
