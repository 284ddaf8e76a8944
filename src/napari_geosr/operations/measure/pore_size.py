"""The minimum size of counted pores, in voxels and in physical units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig


def same_smallest_pore(
    volumes: Mapping[str, Volume], config: PorosityConfig
) -> dict[str, PorosityConfig]:
    """Give each volume a configuration with the same *physical* minimum pore size.

    ``config.min_voxels`` refers to the coarsest volume, in which small pores are
    hardest to detect; for finer volumes, it is converted to the number of voxels with
    the same physical size. If no volume has a physical unit, the sizes are compared in
    pixels. If only some volumes have no physical unit, these keep
    ``config.min_voxels``.
    """
    sizes: dict[str, float | None]
    if len({volume.unit for volume in volumes.values()}) == 1:
        sizes = {name: math.prod(v.voxel_size) for name, v in volumes.items()}
    else:
        sizes = {name: volume.voxel_volume_mm3 for name, volume in volumes.items()}
    known = [size for size in sizes.values() if size is not None]
    coarsest = max(known, default=0.0)
    configs = {}
    for name, size in sizes.items():
        n = config.min_voxels
        if size is not None:
            n = max(1, math.ceil(config.min_voxels * coarsest / size - 1e-6))
        configs[name] = config.model_copy(update={"min_voxels": n})
    return configs


@dataclass(frozen=True)
class PoreSize:
    """Physical size of a pore.

    Attributes
    ----------
    volume : float
        Volume in ``unit``³ (area in ``unit``² in 2D).
    diameter : float
        Diameter of the sphere (circle in 2D) of that volume, in ``unit``.
    """

    volume: float
    diameter: float
    unit: str
    ndim: int


def pore_size(n_voxels: int, volume: Volume) -> PoreSize:
    """Return the physical size of a pore of `n_voxels` voxels of `volume`."""
    size = n_voxels * math.prod(volume.voxel_size)
    ndim = len(volume.voxel_size)
    if ndim == 2:
        diameter = 2 * math.sqrt(size / math.pi)
    else:
        diameter = (6 * size / math.pi) ** (1 / 3)
    return PoreSize(size, diameter, volume.unit, ndim)
