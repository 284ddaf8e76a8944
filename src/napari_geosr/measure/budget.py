"""Memory budget of a measurement, and the minimum it needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes, format_enough, parse_bytes
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.memory import free_host_memory
from napari_geosr.measure.config import PorosityConfig

#: Part of the free memory that label and mask arrays of ours may take.
MEMORY_SHARE = 0.5
#: Bytes for each voxel of a slab beside its grey values, and what a run takes anyway.
_BYTES_PER_VOXEL, _FIXED_BYTES = 24, 60 * 10**6


def available_bytes(config: PorosityConfig) -> int:
    """Bytes that a run may use: its budget, or a share of the free memory."""
    if config.memory is not None:
        return int(parse_bytes(config.memory) / MEMORY_SHARE)
    return free_host_memory()


def check_budget(
    config: PorosityConfig, source: Any, thickness: int, name: str
) -> None:
    """Raise `VolumeError` if even the slabs do not fit into the budget."""
    if config.memory is None:
        return
    budget = parse_bytes(config.memory)
    voxels = thickness * math.prod(source.shape[1:])
    slab = voxels * (_BYTES_PER_VOXEL + np.dtype(source.dtype).itemsize)
    needed = slab + _FIXED_BYTES
    if needed > budget:
        raise VolumeError(
            f"Measuring {name!r} needs at least {format_enough(needed)} of memory, but "
            f"the budget is {format_bytes(budget)}. Raise it (--memory)."
        )
