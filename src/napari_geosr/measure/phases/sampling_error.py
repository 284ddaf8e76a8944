"""Standard error of the porosity of a sample, from the covariance between its parts.

Parts of a sample that lie next to each other have similar porosities. The variance of
the porosity of the whole sample is the mean of the covariance over all pairs of parts
(Lantuéjoul, J. Microsc. 161, 387 (1991), doi:10.1111/j.1365-2818.1991.tb03099.x).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Maximum fraction of all pairs over which the covariance is added up. Beyond it, the
#: difference between the porosity of the sample and that of the material dominates.
_MOST_PAIRS = 0.5
#: Number of decimals of relative covariances, so that their signs do not depend on
#: rounding errors.
_DECIMALS = 9
#: Confidence of the intervals.
_CONFIDENCE = 0.95
#: Half-width of a 95 % interval of a normal distribution, in standard deviations.
NORMAL_FACTOR = 1.96
#: Minimum number of degrees of freedom of Student's distribution. The covariance is
#: known from far more pairs than there are independent parts; with fewer degrees of
#: freedom, intervals of layered structures would be wider than necessary.
_LEAST_FREEDOM = 4.0
#: Number of independent parts below which an interval is unreliable.
FEWEST_INDEPENDENT = 8


def porosity_variance(
    pores: npt.NDArray[np.number[Any]], sample: npt.NDArray[np.number[Any]]
) -> float:
    """Estimate the variance of the porosity of samples like this one.

    The covariance of the porosity of two parts is averaged over all pairs of parts,
    from the nearest to those at which it is no larger than for independent parts. For
    an anisotropic structure, distances are measured relative to the correlation length
    along each axis. Because the deviations are those from the porosity of the sample
    itself, their covariance is too small by the variance of this porosity, which is
    added.

    Parameters
    ----------
    pores, sample : ndarray of the same shape
        Numbers of pore voxels and of sample voxels in the parts of a regular grid.

    Returns
    -------
    float
        NaN if fewer than two parts contain sample voxels.

    Examples
    --------
    >>> import numpy as np
    >>> coins = np.random.default_rng(0).integers(0, 2, (16, 16, 16))
    >>> round(porosity_variance(coins, np.ones_like(coins)) * 16**3, 2)
    0.25
    """
    if np.count_nonzero(sample) < 2:
        return math.nan
    total = float(sample.sum())
    voxels: Floats = np.asarray(sample, np.float64)
    deviations: Floats = np.asarray(pores, np.float64)
    deviations = deviations - float(pores.sum()) / total * voxels
    covariance = _pair_sums(deviations)
    if covariance.flat[0] <= 0:
        return 0.0
    scale = float(covariance.flat[0]) / total**2
    covariance = np.round(covariance / covariance.flat[0], _DECIMALS)
    pairs = np.round(_pair_sums(voxels) / total**2, 15)
    ring = _rings(covariance, pairs, sample.shape)
    covariances = np.bincount(ring, covariance.ravel())
    shares = np.bincount(ring, pairs.ravel())
    summed, near = np.cumsum(covariances), np.cumsum(shares)
    variance = float(summed[0] / (1 - near[0])) if near[0] < 1 else 0.0
    for i in range(1, len(summed)):
        if near[i] > _MOST_PAIRS:
            break
        wider = float(summed[i] / (1 - near[i]))
        # The relative covariance of independent parts has a standard deviation of about
        # the square root of its share of the pairs; each pair counts at two opposite
        # offsets.
        if covariances[i] + wider * shares[i] <= math.sqrt(2 * shares[i]):
            break
        variance = wider
    return scale * variance


def _pair_sums(values: Floats) -> Floats:
    """Return the sums of products over all pairs at each offset.

    The result has twice the shape of `values`, for positive and negative offsets.
    """
    shape = [2 * n if n > 1 else 1 for n in values.shape]
    axes = tuple(range(values.ndim))
    found = np.fft.fftn(values, shape, axes)
    sums: Floats = np.fft.ifftn(np.abs(found) ** 2, shape, axes).real
    return sums


def _rings(
    covariance: Floats, pairs: Floats, shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return the rounded distance of each offset, relative to correlation lengths."""
    lengths = [_length(covariance, pairs, axis, n) for axis, n in enumerate(shape)]
    least = min((each for each, n in zip(lengths, shape, strict=True) if n > 1))
    squares: Any = 0.0
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        offsets = np.arange(covariance.shape[axis], dtype=np.float64)
        offsets = np.minimum(offsets, len(offsets) - offsets) * (n > 1)
        form = [-1 if a == axis else 1 for a in range(len(shape))]
        squares = squares + ((offsets * (least / length)) ** 2).reshape(form)
    # Rounded first, so that the order of the axes does not matter.
    rounded = np.rint(np.round(np.sqrt(squares), _DECIMALS)).astype(np.int64)
    found: npt.NDArray[np.int64] = rounded.ravel()
    return found


def _length(covariance: Floats, pairs: Floats, axis: int, n: int) -> float:
    """Return the distance along an axis at which the correlation falls to 1/e.

    If it does not, the length of the axis is returned.
    """
    key = tuple(slice(0, n) if a == axis else 0 for a in range(covariance.ndim))
    of_pairs = pairs[key]
    known = of_pairs > 0
    correlation = np.where(known, covariance[key], 0) / np.where(known, of_pairs, 1)
    correlation = np.round(correlation * of_pairs[0], _DECIMALS)
    below = np.flatnonzero(known & (correlation < math.exp(-1)))
    if not below.size:
        return float(n)
    i = int(below[0])
    before, after = correlation[i - 1], correlation[i]
    return float(i - 1 + (before - math.exp(-1)) / (before - after))


def independent_parts(variance_of_parts: float, variance: float, n: int) -> float:
    """Return how many independent parts would give the variance of the whole.

    Parameters
    ----------
    variance_of_parts : float
        Variance of the porosity between the parts.
    variance : float
        Variance of the porosity of the whole sample.
    n : int
        Number of parts, which is the maximum.

    Examples
    --------
    >>> independent_parts(0.04, 0.004, 64), independent_parts(0.04, 0.0, 64)
    (10.0, 64.0)
    """
    return min(float(n), variance_of_parts / variance) if variance > 0 else float(n)


def student_factor(independent: float, confidence: float = _CONFIDENCE) -> float:
    """Return the half-width of an interval from independent parts, in standard errors.

    Examples
    --------
    >>> round(student_factor(16), 2), round(student_factor(1000), 2)
    (2.13, 1.96)
    """
    from scipy.stats import t

    return float(t.ppf(0.5 + confidence / 2, max(independent - 1, _LEAST_FREEDOM)))
