"""How much a piece of work really took, for correcting the memory model."""

from __future__ import annotations

import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")
_INTERVAL_SECONDS = 0.003


def anonymous_memory() -> int | None:
    """Bytes of the process that are no file's pages; None where nobody says."""
    try:
        text = _STATUS.read_bytes()
    except OSError:
        return None
    _, found, rest = text.partition(b"RssAnon:")
    return int(rest.split(None, 1)[0]) * 1024 if found else None


class GrowthMeter:
    """Peak growth of the process, or of a CUDA device's memory, until `stop`.

    The process is sampled by a thread every few milliseconds: there is no way to ask
    for a peak that does not disturb others who want to know it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._thread: threading.Thread | None = None
        if device.startswith("cuda"):
            import torch

            self._before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            return
        before = anonymous_memory() if device == "cpu" else None
        if before is None:
            return
        self._before = self._peak = before
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._sample, name="geosr-memory", daemon=True
        )
        self._thread.start()

    def _sample(self) -> None:
        while not self._done.wait(_INTERVAL_SECONDS):
            self._peak = max(self._peak, anonymous_memory() or 0)

    def stop(self) -> int | None:
        """Bytes of growth at most; None where it cannot be measured."""
        if self._device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        if self._thread is None:
            return None
        self._done.set()
        self._thread.join()
        return self._peak - self._before
