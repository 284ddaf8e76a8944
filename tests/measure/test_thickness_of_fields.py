"""Local thickness of random structures against its definition on finer grids."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from napari_geosr.measure.local_thickness.spheres import local_thickness

#: Voxels at each side that are not compared, because zoom changes values there.
RIM = 6


def smooth_field(width: float, seed: int) -> np.ndarray:
    """Return a periodic Gaussian random field, 32³ voxels."""
    noise = np.random.default_rng(seed).normal(size=(32,) * 3)
    smooth = gaussian_filter(noise, width, mode="wrap")
    return smooth / smooth.std()


def defined_thickness(mask: np.ndarray, step: float) -> np.ndarray:
    """Diameter of the largest sphere around a voxel that contains each voxel.

    Radii are rounded down to multiples of `step`; half a step makes up for it. The
    surface lies half a voxel inside the centres of the outside voxels.
    """
    distances = distance_transform_edt(mask)
    found = np.zeros(mask.shape)
    for radius in np.arange(np.ceil(distances.max() / step) * step, 0.9, -step):
        centres = distances >= radius
        if centres.any():
            reached = distance_transform_edt(~centres) < radius
            found[reached & mask & (found == 0)] = 2 * (radius + step / 2 - 0.5)
    return found


def mean_within(thickness: np.ndarray, mask: np.ndarray, scale: int) -> float:
    part = (slice(RIM * scale, -RIM * scale),) * 3
    return float(thickness[part][mask[part]].mean()) / scale


@pytest.mark.parametrize(("width", "level", "seed"), [(3.5, -0.7, 1), (3.5, 0, 2)])
def test_mean_thickness_is_the_limit_of_its_definition_on_finer_grids(
    width: float, level: float, seed: int
) -> None:
    """Values in docs/evidence/morphometry.md.

    On a grid, the definition underestimates thickness by an amount that is proportional
    to the voxel size: this is extrapolated to infinitely small voxels.
    """
    smooth = smooth_field(width, seed)
    defined = {}
    for scale in (2, 4):
        mask = zoom(smooth, scale, order=3, grid_mode=True, mode="grid-wrap") < level
        defined[scale] = mean_within(defined_thickness(mask, scale / 4), mask, scale)
    limit = 2 * defined[4] - defined[2]
    assert defined[2] < 0.98 * limit  # the definition alone would miss the tolerance
    mask = smooth < level
    assert mean_within(local_thickness(mask), mask, 1) == pytest.approx(limit, rel=0.02)
