"""Remember which window worked, per model and device, after an out-of-memory."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from torch import nn

#: Memory may be free again later (another program held it): forget after this time.
_FORGET_AFTER_SECONDS = 30 * 24 * 3600


def default_path() -> Path:
    """Where sizes are remembered by default: the person's cache folder."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-geosr")) / "tiles.json"


@dataclass(frozen=True)
class TileMemory:
    """A small JSON file of window sizes. Losing it does no harm."""

    path: Path = field(default_factory=default_path)

    def most_voxels(self, key: str) -> int | None:
        """The largest window known to work; None if none ever failed."""
        entry = self._load().get(key)
        if not isinstance(entry, dict):
            return None
        voxels, when = entry.get("window_voxels"), entry.get("time", 0)
        if not isinstance(voxels, int) or time.time() - when > _FORGET_AFTER_SECONDS:
            return None
        return voxels

    def remember(self, key: str, window_voxels: int) -> None:
        """Note that windows of this size work where larger ones did not."""
        entries = self._load()
        entries[key] = {"window_voxels": window_voxels, "time": int(time.time())}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(entries, stream, indent=1)
            os.replace(name, self.path)
        except OSError:
            return  # a full or read-only cache folder must not end a run

    def _load(self) -> AnyDict:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def memory_key(network: nn.Module, device: str) -> str:
    """A name for a network's architecture on a device, alike in every process."""
    from napari_geosr.inference.device import device_name

    digest = hashlib.sha256(type(network).__qualname__.encode())
    for name, parameter in network.named_parameters():
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype};".encode())
    return f"{digest.hexdigest()[:16]} on {device_name(device)}"
