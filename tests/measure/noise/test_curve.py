"""The variance of the noise as a function of the grey value."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.measure.noise.curve import fit_curve

#: Noise of 12.5 in a rock with large voxels: mean grey values of the classes, the
#: standard deviations measured in their quietest blocks, and their relative errors.
GREYS = np.array([11, 138, 171, 196, 216, 231, 242, 250, 253, 257.0])
LEVELS = np.array([30.6, 90.4, 80.0, 61.4, 51.7, 36.5, 28.1, 12.3, 12.6, 12.5])
DOUBTS = np.array([0.63, 0.06, 0.18, 0.06, 0.06, 0.34, 0.49, 0.07, 0.06, 0.06])


@pytest.mark.parametrize("n_uniform", [1, 2, 3])
def test_blocks_of_rock_and_pores_do_not_change_the_noise_of_the_rock(
    n_uniform: int,
) -> None:
    is_uniform = np.arange(len(GREYS)) >= len(GREYS) - n_uniform
    found = fit_curve(GREYS, LEVELS**2, DOUBTS, is_uniform)
    np.testing.assert_allclose(np.sqrt(found.variances), 12.5, rtol=0.03)


def test_noise_that_falls_is_kept_where_uniform_blocks_show_it() -> None:
    variances = 420 - 1.2 * GREYS
    doubts = np.full(len(GREYS), 0.06)
    found = fit_curve(GREYS, variances, doubts, np.ones(len(GREYS), bool))
    np.testing.assert_allclose(found.variances, variances, rtol=0.05)


def test_photon_noise_of_bright_objects_without_uniform_blocks_is_kept() -> None:
    variances = 4 + 0.5 * GREYS
    doubts = np.full(len(GREYS), 0.06)
    is_uniform = np.arange(len(GREYS)) < 3
    found = fit_curve(GREYS, variances, doubts, is_uniform)
    np.testing.assert_allclose(found.variances, variances, rtol=0.05)
    assert found.is_line


def test_photon_noise_is_kept_where_bright_regions_are_not_uniform() -> None:
    """The background of fluorescent cells is uniform; the cells are not."""
    greys = np.array([2.0, 2.7, 4.2, 7.5, 10.5, 13.0])
    variances = np.square([2.07, 2.22, 2.52, 2.74, 3.42, 4.11])
    errors = np.array([0.06, 0.06, 0.07, 0.07, 0.065, 0.07])
    uniform = np.array([True, True, False, False, False, False])
    curve = fit_curve(greys, variances, errors, uniform)
    assert curve.variance(np.array([13.0]))[0] == pytest.approx(4.11**2, rel=0.15)
