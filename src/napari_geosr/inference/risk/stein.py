"""Stein's unbiased estimate of the risk, from sums over sample blocks.

For a scan ``y = x + n`` with Gaussian noise of covariance ``C`` and a denoiser ``f``

    E‖f(y) − x‖² = E‖f(y) − y‖² − tr C + 2 tr(C J)

where ``J`` is the Jacobian of ``f`` [1]_. The last trace is estimated with a probe
``b`` that has the covariance of the noise: ``E[bᵀ(f(y + εb) − f(y)) / ε] = tr(J C)``
[2]_. The unchanged scan has the risk ``tr C``.

References
----------
.. [1] C. Stein. Estimation of the mean of a multivariate normal distribution. Ann.
   Stat. 9, 1135-1151 (1981). doi:10.1214/aos/1176345632
.. [2] S. Ramani, T. Blu, M. Unser. Monte-Carlo SURE: a black-box optimization of
   regularization parameters for general denoising algorithms. IEEE Trans. Image
   Process. 17, 1540-1554 (2008). doi:10.1109/TIP.2008.2001404
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise

FloatArray = npt.NDArray[np.float64]

#: Quantile of the normal distribution for 90 % intervals.
_Z = 1.645
#: Smallest risk, as a fraction of the noise variance, that can be distinguished from
#: zero (30 dB).
_MIN_RISK = 1e-3
#: Maximum excess of ``tr(J C Jᵀ)`` over ``tr(J C)``, as a fraction of the noise
#: variance. Smoothing (a symmetric ``J`` with eigenvalues from 0 to 1) has no excess.
_MAX_AMPLIFIED = 0.1
#: A denoiser that keeps more than this fraction of the noise reveals little about the
#: noise level.
_MOSTLY_KEPT = 0.5
#: True variance of correlated noise in an image, relative to the measured one. The
#: known noise level of simulated images and of parts of real images was underestimated
#: by 3 to 5 %, because few blocks of an image are uniform.
_IMAGE_SCALE = 1.1
#: Correlation of adjacent voxels above which this factor applies.
_MIN_IMAGE_LAG = 0.3
#: Minimum variance of the noise in the result, relative to its upper limit ``tr(J C
#: Jᵀ)`` (Gaussian Poincaré inequality). The variance reaches this limit for linear
#: filters, and at least half of it for the bundled networks in the benchmark of the
#: ranking.
LEAST_PASSED = 0.5


@dataclass(frozen=True)
class CellMeans:
    """Mean response of a denoiser per voxel, for each cell of the sample.

    Attributes
    ----------
    removed : ndarray
        Mean squared difference between the result and the scan or, if there is a second
        scan, between the result and the second scan.
    kept : ndarray
        ``tr(C J)``: how much of the noise is passed on to the result; zeros with a
        second scan, like `passed`.
    passed : ndarray
        ``tr(J C Jᵀ)``: an upper bound on the variance of the noise in the result.
    noise : ndarray
        ``tr C``, the variance of the noise.
    voxels : ndarray
        Number of valid voxels of the cell.
    second : ndarray or None
        Mean squared difference between the two scans, if there is a second one.
    """

    removed: FloatArray
    kept: FloatArray
    passed: FloatArray
    noise: FloatArray
    voxels: FloatArray
    second: FloatArray | None = None

    def risks(self, scale: float = 1.0) -> FloatArray:
        """Return the squared errors expected for `scale` times the noise variance."""
        if self.second is not None:
            return self.removed - self.noise
        return self.removed - scale * self.noise + 2 * scale * self.kept

    @property
    def max_noise_scale(self) -> float:
        """Largest scale of the noise variance that is consistent with `removed`.

        The variance of the removed noise cannot exceed that of everything removed. The
        former is `noise` - 2 `kept` + the variance of the noise in the result, which is
        at least half of `passed`. A denoiser that passes on more variance than
        ``tr(C J)`` amplifies parts of the noise and therefore sets no limit. A denoiser
        that keeps most of the noise sets no limit either, because it is uncertain how
        much noise it could remove.
        """
        noise, kept = self.mean(self.noise), self.mean(self.kept)
        if kept > _MOSTLY_KEPT * noise:
            return math.inf
        if self.mean(self.passed) - kept > _MAX_AMPLIFIED * noise:
            return math.inf
        remaining = LEAST_PASSED * self.passed
        removable = self.mean(self.noise - 2 * self.kept + remaining)
        if self.second is not None or removable <= 0:
            return math.inf
        return self.mean(self.removed) / removable

    def unchanged_risks(self, scale: float = 1.0) -> FloatArray:
        """Return the expected squared error of each cell of the unchanged scan."""
        if self.second is not None:
            return self.second - self.noise
        return scale * self.noise

    def mean(self, values: FloatArray) -> float:
        """Return the mean over all voxels of the sample."""
        return float(np.average(values, weights=self.voxels))

    def standard_error(self, values: FloatArray) -> float:
        """Return the standard error of `mean`, from the variation between cells."""
        n = len(values)
        if n < 2:
            return math.inf
        share = self.voxels / self.voxels.sum()
        centred = values - self.mean(values)
        return float(np.sqrt(n / (n - 1) * np.square(share * centred).sum()))


@dataclass(frozen=True)
class Risk:
    """Expected errors of a denoised scan and of the unchanged scan.

    Attributes
    ----------
    risk, untouched : float
        Expected squared error per voxel, of the result and of the scan.
    gain : float
        Improvement over the unchanged scan, in dB.
    interval : (float, float)
        Confidence interval of the gain (about 90 %), including the uncertainty of the
        noise unless there is a second scan.
    """

    risk: float
    untouched: float
    gain: float
    interval: tuple[float, float]

    @property
    def error(self) -> float:
        """Expected root-mean-square error in grey values."""
        return math.sqrt(max(self.risk, 0.0))


def expected_scale(noise: Noise) -> float:
    """Return the expected ratio of the actual noise variance to the measured one.

    If the level of correlated noise is slightly underestimated, denoisers that remove
    little of it seem to have the smallest risk.

    Examples
    --------
    >>> correlated = {"y": 0.6, "x": 0.6}
    >>> expected_scale(Noise(5.0, 100.0, correlation=correlated))
    1.1
    """
    is_image = "z" not in noise.correlation
    is_correlated = max(noise.correlation.values(), default=0.0) > _MIN_IMAGE_LAG
    return _IMAGE_SCALE if is_image and is_correlated else 1.0


def common_scale(compared: Iterable[CellMeans], expected: float = 1.0) -> float:
    """Return the largest scale of the noise variance consistent with all denoisers.

    If the noise is slightly overestimated, the estimated risk of a good denoiser falls
    below the variance of the noise that it leaves. If each risk were raised to this
    lower limit, the limits alone would determine the ranking, and the strongest
    smoothing would be favoured. A common variance preserves the differences.

    Parameters
    ----------
    compared : iterable of CellMeans
        Responses of the denoisers.
    expected : float
        Scale to return if it is consistent with all denoisers; see `expected_scale`.

    Returns
    -------
    float
        At most `expected`.
    """
    return min([expected, *(cells.max_noise_scale for cells in compared)])


def estimate(
    cells: CellMeans, scales: tuple[float, float] = (1.0, 1.0), scale: float = 1.0
) -> Risk:
    """Estimate the expected error from a denoiser's response to the sample.

    Parameters
    ----------
    cells : CellMeans
    scales : (float, float)
        Range of the true noise variance, in units of the measured one.
    scale : float
        Scale of the noise variance to use; see `common_scale`.
    """
    untouched = cells.mean(cells.unchanged_risks(scale))
    remaining = LEAST_PASSED * cells.mean(cells.passed)
    minimum = max(scale * remaining, _MIN_RISK * untouched)
    risk = max(cells.mean(cells.risks(scale)), minimum)
    ends = []
    low_scale, high_scale = scales
    high_scale = min(high_scale, max(scale, cells.max_noise_scale))
    for end, sign in ((min(low_scale, scale), -1), (high_scale, 1)):
        unchanged = cells.unchanged_risks(end)
        gained = unchanged - cells.risks(end)
        margin = _Z * cells.standard_error(gained)
        level = cells.mean(unchanged)
        bound = level - cells.mean(gained) - sign * margin
        ends.append(decibels(level, max(bound, end * remaining)))
    gain = decibels(untouched, risk)
    low, high = sorted(ends)
    return Risk(risk, untouched, gain, (min(low, gain), max(high, gain)))


def variance_range(noise: Noise) -> tuple[float, float]:
    """Return the range of the noise variance, in units of the measured one."""
    low, high = noise.interval
    if noise.level <= 0 or high <= 0:
        return 1.0, 1.0
    return min(1.0, (low / noise.level) ** 2), max(1.0, (high / noise.level) ** 2)


def decibels(untouched: float, risk: float) -> float:
    """Return the gain in dB, at most 30: smaller risks are not distinguished from 0."""
    if math.isnan(risk) or math.isnan(untouched):
        return -math.inf
    if not math.isfinite(risk):
        return -math.inf if risk > 0 else 10 * math.log10(1 / _MIN_RISK)
    if untouched <= 0:
        return 0.0 if risk <= 0 else -math.inf
    return 10 * math.log10(untouched / max(risk, _MIN_RISK * untouched))
