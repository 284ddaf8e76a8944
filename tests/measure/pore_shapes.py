"""Bodies with known volume, surface and Euler number, and ways to measure them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.reports.report import PorosityReport


def ellipsoid(
    shape: Sequence[int],
    centre: Sequence[float],
    radii: float | Sequence[float],
    voxel_size: Sequence[float] = (1, 1, 1),
) -> np.ndarray:
    """Voxels whose centres are inside an ellipsoid; all lengths are physical."""
    axes = [np.arange(n) * v for n, v in zip(shape, voxel_size, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    radii = np.broadcast_to(radii, 3)
    return (
        sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True))
        <= 1
    )


def torus(n: int, large: float, small: float) -> np.ndarray:
    """A ring in the plane of the last two axes."""
    z, y, x = np.indices((n, n, n)) - (n - 1) / 2
    return (np.hypot(y, x) - large) ** 2 + z**2 <= small**2


def scan(pores: np.ndarray, pore: float = 60, solid: float = 180) -> np.ndarray:
    """A uint8 scan in which `pores` are dark."""
    return np.where(pores, pore, solid).astype(np.uint8)


def measure(data: Any, axes: str = "ZYX", **settings: Any) -> PorosityReport:
    """Measure an array; `settings` are those of the volume, the config or the run."""
    fields = {
        k: settings.pop(k)
        for k in ("voxel_size", "unit", "origin", "name")
        if k in settings
    }
    run = {
        k: settings.pop(k)
        for k in ("mask", "labels_target", "keep_labels", "should_stop", "deviation")
        if k in settings
    }
    volume = Volume(data, axes, **fields)
    report = run_to_end(
        porosity_steps(volume, PorosityConfig.create(**settings), **run)
    )
    assert isinstance(report, PorosityReport)
    return report


def label_by_slabs(
    pores: np.ndarray,
    connectivity: int = 26,
    thickness: int | None = None,
    sample: np.ndarray | None = None,
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[RawTable, np.ndarray]:
    """Raw table and labels (pores of every size) of a mask, given slab by slab."""
    shape = pores.shape
    labeller = SlabLabeller(shape, voxel_size, connectivity)
    thickness = thickness or shape[0]
    provisional = np.zeros(shape, np.int64)
    for z in range(0, shape[0], thickness):
        slab = slice(z, z + thickness)
        labels, offset = labeller.add(
            pores[slab], None if sample is None else sample[slab]
        )
        provisional[slab] = np.where(labels, labels.astype(np.int64) + offset, 0)
    raw = labeller.finish()
    return raw, raw.lookup[provisional]
