"""Volumes that a training is given in memory, where its settings name files.

``memory:NAME`` stands for one among the sources and targets, so that the settings which
are kept with the model say what it learned from. Whoever resumes the training has to
give the volume again.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from napari_geosr.core.volume import Volume

_PREFIX = "memory:"


def entry_for(volume: Volume, taken: Container[Path] = ()) -> Path:
    """What stands for `volume` in the settings; none of `taken`."""
    name = volume.name.replace("/", "-").replace("\\", "-")
    found, number = Path(f"{_PREFIX}{name}"), 1
    while found in taken:
        number += 1
        found = Path(f"{_PREFIX}{name}-{number}")
    return found


def is_in_memory(path: Path) -> bool:
    """Whether an entry of the settings stands for a volume in memory."""
    return str(path).startswith(_PREFIX)


def name_in_memory(path: Path) -> str:
    """The name of the volume that the entry stands for."""
    return str(path).removeprefix(_PREFIX)
