"""S2, the correlation length and the lineal path of structures with known formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pore_shapes import measure, scan
from scipy.ndimage import gaussian_filter
from scipy.stats import multivariate_normal, norm

from napari_geosr.measure.reports.report import PorosityReport


def measured(pores: np.ndarray) -> PorosityReport:
    return measure(scan(pores), statistics=("two_point",))


def curves_of(found: PorosityReport) -> dict[str, np.ndarray]:
    curves = found.morphometry["two_point"].curves["two_point"]
    return {name: np.array(values) for name, values in curves.items()}


@pytest.mark.parametrize(("shape", "seeds"), [((96, 96, 96), 4), ((1, 700, 700), 4)])
@pytest.mark.parametrize("cut", [-0.5, 0.8])
def test_a_random_field_has_the_correlations_of_its_formula(
    shape: tuple[int, int, int], seeds: int, cut: float
) -> None:
    """White noise smoothed by s voxels has the covariance exp(−r² ÷ 4 s²).

    Two points are both in pores, that is, below the cut, with the probability of a
    bivariate normal distribution.
    """
    width = 3.0
    widths = [width if n > 1 else 0 for n in shape]
    phi = norm.cdf(cut)

    def expected(distance: float) -> float:
        rho = math.exp(-(distance**2) / 4 / width**2)
        both = multivariate_normal.cdf([cut, cut], cov=[[1, rho], [rho, 1]])
        return float((both - phi**2) / (phi - phi**2))

    lengths, curves = [], []
    for seed in range(seeds):
        noise = np.random.default_rng(seed).normal(size=shape)
        smooth = gaussian_filter(noise, widths, mode="wrap")
        found = measured(smooth / smooth.std() < cut)
        curve, own = curves_of(found), found.porosity
        curves.append((curve["S2"] - own**2) / (own - own**2))
        lengths.append(found.figures["S2.Lc"])
    distances = np.linspace(0.5, 12, 600)
    theory = np.array([expected(r) for r in distances])
    length = np.interp(1 / math.e, theory[::-1], distances[::-1])
    assert np.mean(lengths) == pytest.approx(length, rel=0.03)
    for r in (1, 2, 3, 4, 6, 8):
        at = int(np.flatnonzero(curve["distance"] == r)[0])
        assert np.mean(curves, 0)[at] == pytest.approx(expected(r), abs=0.02)


def test_independent_voxels_have_no_correlation() -> None:
    """A segment of r voxel edges touches r + 1 voxels; all are pores with φ^(r + 1)."""
    phi = 0.6
    curve = curves_of(measured(np.random.default_rng(5).random((64, 64, 64)) < phi))
    r = curve["distance"][:8]
    np.testing.assert_allclose(curve["lineal_path"][:8], phi ** (r + 1), rtol=0.04)
    np.testing.assert_allclose(curve["S2"][1:], phi**2, rtol=0.01)


def test_the_lineal_path_of_plates() -> None:
    """Across plates of t voxels, a segment of r voxel edges fits in t − r positions.

    Along the plates, it lies in pores wherever one of its ends does.
    """
    t, period, n, m = 10, 16, 160, 24
    planes = np.arange(n) % period < t
    curve = curves_of(measured(np.repeat(planes, m * m).reshape(n, m, m)))
    for r in (1, 2, 4, 8):
        at = int(np.flatnonzero(curve["distance"] == r)[0])
        across = (t - r) * n // period * m * m
        along = 2 * t * n // period * (m - r) * m
        of_all = (n - r) * m * m + 2 * n * (m - r) * m
        assert curve["lineal_path"][at] == pytest.approx((across + along) / of_all)
        assert curve["S2_y"][at] == pytest.approx(t / period)
