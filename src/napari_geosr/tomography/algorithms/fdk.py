"""Feldkamp, Davis and Kress: filtered back-projection of a cone beam [1]_.

References
----------
.. [1] Feldkamp, Davis, Kress. Practical cone-beam algorithm. J. Opt. Soc. Am. A 1,
   612-619 (1984). doi:10.1364/JOSAA.1.000612
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.tomography.algorithms import fbp
from napari_geosr.tomography.algorithms.fbp import check_geometry
from napari_geosr.tomography.fan_weights import Weighting
from napari_geosr.tomography.filters import filter_rows
from napari_geosr.tomography.iterations import (
    Iteration,
    OnIteration,
    check_stop,
    empty_volume,
    ignore_iteration,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.projection.geometry import ConeGeometry

TITLE = "Feldkamp–Davis–Kress (FDK)"
BEAMS = ("cone",)
#: Number of projections filtered and back-projected at once: few, so that a stop takes
#: effect quickly.
_TOGETHER = 32

__all__ = ["BEAMS", "TITLE", "Config", "check_geometry", "reconstruct_slices"]


class Config(fbp.Config):
    """Settings of FDK, which are the same as those of FBP."""


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ConeGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore_iteration,
) -> Tensor:
    """Weight, filter along rows, and back-project (row, angle, column) to (Z, N, N).

    Slices of a slab (`ConeGeometry.slab`) equal those of the whole volume.
    """
    from napari_geosr.physics.projection.smear import smear

    weighting = Weighting(geometry, sinogram)
    slices = empty_volume(sinogram, geometry)
    groups = range(0, geometry.n_angles, _TOGETHER)
    for done, start in enumerate(groups):
        check_stop(should_stop)
        part = slice(start, start + groups.step)
        filtered = filter_rows(
            weighting.apply(sinogram[:, part], part),
            config.filter,
            geometry.voxel_size,
            config.padding,
        )
        slices += smear(filtered, weighting.geometry.subset(part))
        on_iteration(Iteration(done + 1, len(groups)))
    return slices.clamp_(min=0) if config.nonnegative else slices
