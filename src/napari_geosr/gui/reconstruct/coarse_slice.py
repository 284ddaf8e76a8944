"""Reconstruct a coarse slice in about a second if a sharp one takes longer; no Qt.

If columns are half as wide, a slice has twice as many pixels per edge and takes four
times as long. With wider columns, the effect of an algorithm is therefore visible
sooner; grey values (attenuation per unit length) and position are not affected.
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

#: Maximum number of ray-pixel pairs of a coarse slice, over all iterations; two cores
#: process them in about half a second.
_MAX_WORK = 2.5e8
#: Minimum edge length of a coarse slice, in pixels.
_MIN_EDGE = 64


@dataclass(frozen=True)
class CoarseSlice(Step):
    """A coarse slice, shown until the sharp one is finished.

    Attributes
    ----------
    tried : TrialSlice
        The coarse slice; its `seconds` estimate the duration of the sharp one.
    """

    tried: TrialSlice | None = None


def binning_factor(scan: Projections, config: ReconstructConfig) -> int:
    """Return how many columns to bin (1 for none) for a slice in about a second."""
    settings = config.algorithm_config()
    iterations = int(getattr(settings, "iterations", 0))
    if not iterations or scan.geometry != "parallel":
        return 1
    size = config.size or scan.n_columns
    work = iterations * math.ceil(scan.n_angles / config.every) * size**2
    largest = max(1, scan.n_columns // _MIN_EDGE)
    return min(math.ceil(math.sqrt(work / _MAX_WORK)), largest)


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
        The line integrals of this row only.
    row : int
        Detector row.
    column : float
        Detector column of the rotation axis.
    """
    n = lines.n_columns // factor
    data: Any = np.asarray(lines.data)[..., : n * factor]
    wide = data.reshape(*data.shape[:2], n, factor).mean(axis=-1, dtype=np.float32)
    height, width = lines.pixel_size
    binned = lines.replace(data=wide, pixel_size=(height, width * factor), centre=None)
    prepared = ReconstructConfig().preparation().model_dump() | {
        "every": 1,
        "half": "all",
        "rows": None,
    }
    size = None if config.size is None else max(2, config.size // factor)
    began = time.monotonic()
    volume = reconstruct_slice(
        binned,
        0,
        config.model_copy(update=prepared | {"size": size}),
        (column + 0.5) / factor - 0.5,
        should_stop=should_stop,
    )
    seconds = (time.monotonic() - began) * factor**2
    # The centre is the same as that of the sharp slice: the middle of all columns.
    middle = (lines.n_columns - 1) / 2 * width
    first = middle - (volume.shape[-1] - 1) / 2 * width * factor
    volume = volume.replace(origin=(row * volume.voxel_size[0], first, first))
    return TrialSlice(volume, contrast(volume.data), seconds)
