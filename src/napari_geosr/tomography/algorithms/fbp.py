"""Filtered back-projection for parallel and fan beams.

References
----------
.. [1] Kak, Slaney. Principles of Computerized Tomographic Imaging (IEEE Press, 1988),
   chapter 3. doi:10.1137/1.9780898719277
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.core.config import Config as _Config
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.filters import (
    FilterName,
    Padding,
    angle_weights,
    filter_rows,
)
from napari_geosr.tomography.iterations import (
    Iteration,
    OnIteration,
    check_stop,
    empty_volume,
    ignore,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.geometry import FanGeometry, ParallelGeometry

TITLE = "Filtered back-projection (FBP)"
BEAMS = ("parallel", "fan")
#: Rows filtered at once: on another device, and on the CPU.
_ROWS = (64, 16)


class Config(_Config):
    """How projections are filtered."""

    filter: FilterName = Field(
        "ramp",
        title="Filter",
        description="Ramp is sharpest; the others are smoother, Hann most of all.",
    )
    padding: Padding = Field(
        "zero",
        title="Outside the detector",
        description="Zero: nothing is there; edge: the sample goes on (it is wider "
        "than the detector).",
    )
    nonnegative: bool = Field(
        False,
        title="Non-negative",
        description="Attenuation below zero is set to zero.",
    )


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore,
) -> Tensor:
    """Filter and back-project; see `napari_geosr.tomography.algorithms`.

    It is linear in the projections unless values below zero are cut.
    """
    from napari_geosr.physics.geometry import FanGeometry
    from napari_geosr.physics.smear import smear

    fan = isinstance(geometry, FanGeometry)
    weights = sinogram.new_tensor(angle_weights(geometry.angles, full_turn=fan))
    weights = weights[:, None]
    if isinstance(geometry, FanGeometry):
        weights = weights * ray_cosines(sinogram, geometry)
    slices = empty_volume(sinogram, geometry)
    groups = range(0, len(sinogram), _ROWS[sinogram.device.type == "cpu"])
    for done, start in enumerate(groups):
        check_stop(should_stop)
        part = slice(start, start + groups.step)
        filtered = filter_rows(
            sinogram[part] * weights,
            config.filter,
            geometry.voxel_size,
            config.padding,
        )
        slices[part] = smear(filtered, geometry)
        on_iteration(Iteration(done + 1, len(groups)))
    return slices.clamp_(min=0) if config.nonnegative else slices


def ray_cosines(like: Tensor, geometry: FanGeometry) -> Tensor:
    """Cosine between every column's ray and the central ray."""
    import torch

    t = torch.arange(geometry.n_columns, dtype=torch.float64) - geometry.centre
    full = geometry.source_distance + geometry.detector_distance
    return (full / (full**2 + (t * geometry.pixel_size) ** 2).sqrt()).to(like)
