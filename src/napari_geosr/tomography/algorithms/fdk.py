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
from napari_geosr.tomography.filters import angle_weights, filter_rows
from napari_geosr.tomography.iterations import (
    Iteration,
    OnIteration,
    check_stop,
    ignore,
)

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.physics.geometry import ConeGeometry

TITLE = "Feldkamp–Davis–Kress (FDK)"
BEAMS = ("cone",)


class Config(fbp.Config):
    """How projections are filtered, as for FBP."""


def reconstruct_slices(
    sinogram: Tensor,
    geometry: ConeGeometry,
    config: Config,
    *,
    should_stop: ShouldStop = never_stop,
    on_iteration: OnIteration = ignore,
) -> Tensor:
    """Weight, filter along rows, back-project; (row, angle, column) to (Z, N, N)."""
    from napari_geosr.physics.smear import smear

    check_stop(should_stop)
    weights = angle_weights(geometry.angles, full_turn=True)
    weighted = sinogram * _ray_cosines(sinogram, geometry)
    filtered = filter_rows(weighted, config.filter, geometry.voxel_size, config.padding)
    check_stop(should_stop)
    filtered = filtered * filtered.new_tensor(weights)[:, None]
    slices = smear(filtered, geometry)
    on_iteration(Iteration(1, 1))
    return slices.clamp_(min=0) if config.nonnegative else slices


def _ray_cosines(like: Tensor, geometry: ConeGeometry) -> Tensor:
    """Cosine between every ray and the central one, (row, 1, column)."""
    import torch

    t = torch.arange(geometry.n_columns, dtype=torch.float64) - geometry.centre
    v = torch.arange(geometry.n_rows, dtype=torch.float64) - geometry.row_centre
    full = geometry.source_distance + geometry.detector_distance
    squared = (
        full**2
        + (t * geometry.pixel_size) ** 2
        + (v[:, None, None] * geometry.row_size) ** 2
    )
    return (full / squared.sqrt()).to(like)
