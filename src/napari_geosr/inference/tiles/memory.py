"""Measure the memory of windows; remember sizes that fit after memory ran out."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.device import device_name

if TYPE_CHECKING:
    from torch import nn

#: Seconds after which an entry expires: the memory may have been used by another
#: program.
_EXPIRY_SECONDS = 30 * 24 * 3600
#: Larger windows are tried again if the memory that is free now exceeds that at the
#: time of the failure by this factor.
_RETRY_RATIO = 1.25
_STATUS = Path("/proc/self/status")
_INTERVAL_SECONDS = 0.003


def default_path() -> Path:
    """Return the default path of the file of window sizes, in the user's cache."""
    return Path(platformdirs.user_cache_dir("napari-geosr")) / "tiles.json"


@dataclass(frozen=True)
class TileMemory:
    """A small JSON file of window sizes. It can be deleted without harm."""

    path: Path = field(default_factory=default_path)

    def max_voxels(self, key: str, free: int | None = None) -> int | None:
        """Return the largest window known to work; None if a larger one may be tried.

        Parameters
        ----------
        free : int, optional
            Bytes free now. If much more memory is free than when memory ran out, the
            stored size no longer applies.
        """
        entry = self._load().get(key)
        if not isinstance(entry, dict):
            return None
        voxels, when = entry.get("window_voxels"), entry.get("time", 0)
        if not isinstance(voxels, int) or time.time() - when > _EXPIRY_SECONDS:
            return None
        free_at_failure = entry.get("free_bytes")
        if (
            free is not None
            and isinstance(free_at_failure, int)
            and free > _RETRY_RATIO * free_at_failure
        ):
            return None
        return voxels

    def remember(self, key: str, window_voxels: int, free: int | None = None) -> None:
        """Record that windows of this size work and larger ones do not.

        Parameters
        ----------
        free : int, optional
            Bytes that were free when memory ran out.
        """
        entries = self._load()
        entry = {"window_voxels": window_voxels, "time": int(time.time())}
        if free is not None:
            entry["free_bytes"] = free
        entries[key] = entry
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(entries, stream, indent=1)
            os.replace(name, self.path)
        except OSError:
            return  # a full or read-only cache folder must not stop a run

    def _load(self) -> AnyDict:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def memory_key(network: nn.Module, device: str) -> str:
    """Return a key for an architecture on a device, the same in all processes."""
    digest = hashlib.sha256(type(network).__qualname__.encode())
    for name, parameter in network.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype};".encode())
    return f"{digest.hexdigest()[:16]} on {device_name(device)}"


def free_memory(device: str) -> int | None:
    """Return the bytes free on a device; None if unknown."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return free_host_memory() if device == "cpu" else None


def anonymous_memory() -> int | None:
    """Return the anonymous memory of the process in bytes; None if unknown."""
    try:
        text = _STATUS.read_bytes()
    except OSError:
        return None
    _, separator, rest = text.partition(b"RssAnon:")
    return int(rest.split(None, 1)[0]) * 1024 if separator else None


class GrowthMeter:
    """Measures the peak growth of a process, or of CUDA memory, until `stop`.

    A thread samples the process every few milliseconds, because resetting the operating
    system's peak counter would affect other programs that read it.
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
        """Return the maximum growth in bytes; None if it cannot be measured."""
        if self._device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        if self._thread is None:
            return None
        self._done.set()
        self._thread.join()
        return self._peak - self._before
