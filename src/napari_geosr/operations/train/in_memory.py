"""Names for training volumes that are passed in memory instead of as files.

``memory:NAME`` represents such a volume among the sources and targets, so that the
settings stored with the model name its training data. To resume training, the volume
has to be passed again.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from napari_geosr.core.volume import Volume

_PREFIX = "memory:"


def entry_for(volume: Volume, taken: Container[Path] = ()) -> Path:
    """Return the settings entry for `volume`, distinct from those in `taken`."""
    name = volume.name.replace("/", "-").replace("\\", "-")
    candidate, number = Path(f"{_PREFIX}{name}"), 1
    while candidate in taken:
        number += 1
        candidate = Path(f"{_PREFIX}{name}-{number}")
    return candidate


def is_in_memory(path: Path) -> bool:
    """Return whether a settings entry represents a volume in memory."""
    return str(path).startswith(_PREFIX)


def name_in_memory(path: Path) -> str:
    """Return the name of the volume that a settings entry represents."""
    return str(path).removeprefix(_PREFIX)
