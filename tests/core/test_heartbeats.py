"""A call is repeated until the end, and once more."""

from __future__ import annotations

import threading
import time

from napari_geosr.core.machine.heartbeats import Heartbeats


def test_a_call_is_repeated_and_made_at_the_end() -> None:
    calls: list[str] = []
    reached = threading.Event()

    def beat() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            reached.set()

    with Heartbeats(beat, 0.01, "signs"):
        assert reached.wait(60)
    assert set(calls[:-1]) == {"signs"}
    assert calls[-1] == threading.current_thread().name
    n = len(calls)
    time.sleep(0.05)
    assert len(calls) == n
