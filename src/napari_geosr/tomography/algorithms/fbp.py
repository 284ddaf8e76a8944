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
from napari_geosr.physics.projection.geometry import FanGeometry
from napari_geosr.tomography.fan_weights import Weighting, check_arc
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
    ignore_iteration,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ParallelGeometry

TITLE = "Filtered back-projection (FBP)"
BEAMS = ("parallel", "fan")
#: Number of rows filtered at once, on a GPU and on the CPU.
_ROWS = (64, 16)


class Config(_Config):
    """Settings of filtered back-projection."""

    filter: FilterName = Field(
        "ramp",
        title="Filter",
        description="Filter of the projections: ramp is the sharpest, hann the "
        "smoothest.",
    )
    padding: Padding = Field(
        "zero",
        title="Padding",
        description="What is assumed outside the detector. zero: no sample; edge: the "
        "values at its edge, for samples wider than the detector.",
    )
    nonnegative: bool = Field(
        False,
        title="Non-negative",
        description="Set negative attenuation to zero.",
    )


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ParallelGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Filter and back-project; see `napari_geosr.tomography.algorithms`.

    The result is linear in the projections unless negative values are set to zero.
    """
    from napari_geosr.physics.projection.smear import smear

    weighting: Weighting | None = None
    seen = geometry
    if isinstance(geometry, FanGeometry):
        weighting = Weighting(geometry, sinogram)
        seen = weighting.geometry
    weights = sinogram.new_tensor(angle_weights(geometry.angles, geometry.unseen))[
        :, None
    ]
    slices = empty_volume(sinogram, geometry)
    groups = range(0, len(sinogram), _ROWS[sinogram.device.type == "cpu"])
    for done, start in enumerate(groups):
        check_stop(should_stop)
        rows = sinogram[start : start + groups.step]
        weighted = rows * weights if weighting is None else weighting.apply(rows)
        filtered = filter_rows(
            weighted, config.filter, geometry.voxel_size, config.padding
        )
        slices[start : start + groups.step] = smear(filtered, seen)
        on_iteration(Iteration(done + 1, len(groups)))
    return slices.clamp_(min=0) if config.nonnegative else slices


def check_geometry(geometry: ParallelGeometry) -> None:
    """Reject fan-beam scans over too short an arc, or with the axis off the detector.

    Raises
    ------
    ProjectionsError
        If filtered back-projection cannot give a correct result.
    """
    if isinstance(geometry, FanGeometry):
        check_arc(geometry)
