"""A coarse slice in about a second, where a sharp one takes long. No Qt here.

Iterations over a slice of twice the edge, of columns half as wide, take four times as
long. So what an algorithm makes of a slice is seen soon on wider columns: the values,
attenuation per length, are the same, and so is the place.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.operations.reconstruct import reconstruct_slice
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.preview import TrialSlice, contrast

if TYPE_CHECKING:
    from napari_geosr.operations.reconstruct.preview import TrialSlice

#: Rays through a pixel, of all iterations, that two cores work out in about half a
#: second.
_QUICK = 2.5e8
#: Minimum edge length of a coarse slice, in pixels.
_LEAST_EDGE = 64


@dataclass(frozen=True)
class CoarseSlice(Step):
    """A slice to look at until the sharp one is there.

    Attributes
    ----------
    tried : TrialSlice
        Its seconds are those that the sharp one will about take.
    """

    tried: TrialSlice | None = None


def coarseness(scan: Projections, config: ReconstructConfig) -> int:
    """How many columns to take together, so that a slice comes soon; 1: none."""
    settings = config.algorithm_config()
    iterations = int(getattr(settings, "iterations", 0))
    if not iterations or scan.geometry != "parallel":
        return 1
    size = config.size or scan.n_columns
    work = iterations * math.ceil(scan.n_angles / config.every) * size**2
    most = max(1, scan.n_columns // _LEAST_EDGE)
    return min(math.ceil(math.sqrt(work / _QUICK)), most)


def coarse_slice(
    lines: Projections,
    config: ReconstructConfig,
    row: int,
    column: float,
    factor: int,
    should_stop: ShouldStop,
) -> TrialSlice:
    """Reconstruct a row from columns that are `factor` times as wide.

    Parameters
    ----------
    lines : Projections
        The line integrals of that row alone.
    row : int
        On the detector.
    column : float
        Of the rotation axis.
    """
    n = lines.n_columns // factor
    data: Any = np.asarray(lines.data)[..., : n * factor]
    wide = data.reshape(*data.shape[:2], n, factor).mean(axis=-1, dtype=np.float32)
    height, width = lines.pixel_size
    few = lines.replace(data=wide, pixel_size=(height, width * factor), centre=None)
    done = ReconstructConfig().preparation().model_dump() | {
        "every": 1,
        "half": "all",
        "rows": None,
    }
    size = None if config.size is None else max(2, config.size // factor)
    began = time.monotonic()
    volume = reconstruct_slice(
        few,
        0,
        config.model_copy(update=done | {"size": size}),
        (column + 0.5) / factor - 0.5,
        should_stop=should_stop,
    )
    seconds = (time.monotonic() - began) * factor**2
    # Around the same point as the sharp one: the middle of all columns.
    middle = (lines.n_columns - 1) / 2 * width
    first = middle - (volume.shape[-1] - 1) / 2 * width * factor
    volume = volume.replace(origin=(row * volume.voxel_size[0], first, first))
    return TrialSlice(volume, contrast(volume.data), seconds)
