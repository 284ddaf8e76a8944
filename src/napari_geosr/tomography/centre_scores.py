"""Scores of candidate positions of the rotation axis, without reconstruction.

References
----------
.. [1] Vo, Drakopoulos, Atwood, Reinhard. Reliable method for calculating the center of
   rotation in parallel-beam tomography. Opt. Express 22, 19078-19086 (2014).
   doi:10.1364/OE.22.019078
.. [2] Padfield. Masked object registration in the Fourier domain. IEEE Trans. Image
   Process. 21, 2706-2718 (2012). doi:10.1109/TIP.2011.2181402
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
Curve = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: If there are at most this many coefficients outside the double wedge, all are used
#: for the score; if there are more, evenly spaced ones are used: at least this many,
#: and fewer than twice as many.
_MAX_COEFFICIENTS = 40_000
#: Number of harmonics next to the wedge that are counted as part of it.
_MARGIN = 2


class WedgeScore:
    """Energy outside the double wedge of a sinogram over 360° (Vo et al. [1]_).

    A sinogram over 180° and its mirror image about the correct column form a seamless
    sinogram over 360°. Its Fourier transform is then nearly empty outside a double
    wedge, i.e. at harmonics of the angle that are too high for the frequency along the
    detector.

    Mirroring about column c multiplies the coefficient of frequency w by
    exp(-4πi w c), and the second half turn multiplies harmonic m by (-1)^m. Therefore,
    the sinogram is transformed only once, not for every column tried. Coefficients are
    weighted by 1 / m, because the energy of a seam decreases with the harmonic, whereas
    that of noise does not.

    Parameters
    ----------
    halves : ndarray of shape (row, angle, column)
        Line integrals at evenly spaced angles over half a turn.
    """

    def __init__(self, halves: FloatArray) -> None:
        from scipy import fft

        _, n, n_columns = halves.shape
        length = fft.next_fast_len(2 * n_columns, real=True)
        harmonic = np.rint(fft.fftfreq(2 * n) * 2 * n).astype(int)
        frequency = fft.rfftfreq(length)
        # Assume that the sample fits within the detector's width, so that its radius is
        # at most half the width.
        edge = np.pi * frequency * n_columns + _MARGIN
        low = frequency > 1.5 / n_columns
        outside = (np.abs(harmonic)[:, None] > edge) & low & (frequency < 0.5)
        where, at = np.nonzero(outside)
        step = max(1, len(at) // _MAX_COEFFICIENTS)
        where, at = where[::step], at[::step]
        self._frequency = frequency[at]
        weight = 1 / np.abs(harmonic[where])
        sign = np.where(harmonic[where] % 2 == 0, 1.0, -1.0)
        self._first, self._second = [], []
        for half in halves:
            spectrum = fft.rfft(half.astype(np.float32), n=length, axis=1)
            spectrum = fft.fft(spectrum, n=2 * n, axis=0)
            self._first.append((weight * spectrum[where, at]).astype(np.complex64))
            # For a real sinogram, G(m, -w) is the conjugate of G(-m, w).
            second = weight * sign * np.conj(spectrum[-where, at])
            self._second.append(second.astype(np.complex64))

    def __call__(self, columns: Curve) -> Curve:
        """Return the energy for each column; lower is better, and 1 means no match."""
        if not len(self._frequency):
            return np.ones(len(columns))
        alone = sum(
            float(np.hypot(np.abs(a), np.abs(b)).sum())
            for a, b in zip(self._first, self._second, strict=True)
        )
        curve = np.empty(len(columns))
        for i, column in enumerate(columns):
            turns = (2 * self._frequency * column % 1).astype(np.float32)
            mirror = np.exp(np.complex64(-2j * np.pi) * turns)
            energy = sum(
                float(np.abs(a + b * mirror).sum())
                for a, b in zip(self._first, self._second, strict=True)
            )
            curve[i] = energy / max(alone, 1e-30)
        return curve


def opposite_correlation(
    near: FloatArray, far: FloatArray, min_overlap: int
) -> tuple[Curve, Curve]:
    """Return the correlation of projections with mirrored ones from the opposite side.

    The correlation coefficient of the overlap is computed for all shifts at once with
    Fourier transforms [2]_, over all rows and angles together.

    Parameters
    ----------
    near, far : ndarray of shape (row, angle, column)
        Projections at θ and θ + 180°.
    min_overlap : int
        Minimum number of overlapping columns.

    Returns
    -------
    columns : ndarray
        Positions of the axis, in steps of half a column.
    correlation : ndarray
        Correlation at each position, -1 to 1; 1 is a perfect match.
    """
    from scipy import fft

    n = near.shape[-1]
    first = np.asarray(near, np.float64).reshape(-1, n)
    second = np.asarray(far, np.float64)[..., ::-1].reshape(-1, n)
    length = fft.next_fast_len(2 * n, real=True)
    cross = fft.rfft(first, length, axis=1) * np.conj(fft.rfft(second, length, axis=1))
    products = fft.irfft(cross.sum(axis=0), length)
    shifts: Indices = np.arange(min_overlap - n, n - min_overlap + 1)
    products = products[shifts % length]
    # Column k + shift of `first` overlaps with column k of `second`.
    low, high = np.maximum(0, -shifts), np.minimum(n, n - shifts)
    n_values = (high - low) * len(first)
    sums = [
        _between(first.sum(axis=0), low + shifts, high + shifts),
        _between(second.sum(axis=0), low, high),
        _between((first**2).sum(axis=0), low + shifts, high + shifts),
        _between((second**2).sum(axis=0), low, high),
    ]
    covariance = products - sums[0] * sums[1] / n_values
    variances = (sums[2] - sums[0] ** 2 / n_values) * (
        sums[3] - sums[1] ** 2 / n_values
    )
    usable = variances > 1e-12 * max(float(variances.max()), 1e-300)
    correlation = np.zeros(len(shifts))
    correlation[usable] = covariance[usable] / np.sqrt(variances[usable])
    return (shifts + n - 1) / 2, np.clip(correlation, -1, 1)


def _between(profile: Curve, low: Indices, high: Indices) -> Curve:
    """Return the sums of `profile` from `low` to `high` - 1."""
    total = np.concatenate([[0.0], np.cumsum(profile)])
    sums: Curve = total[high] - total[low]
    return sums


def vertex(columns: Curve, scores: Curve, best: int) -> float:
    """Locate the extremum near index `best` by a parabola through its neighbours.

    Parameters
    ----------
    columns, scores : ndarray of shape (n,)
    best : int
    """
    if not 0 < best < len(columns) - 1:
        return float(columns[best])
    left, middle, right = scores[best - 1 : best + 2]
    bend = left - 2 * middle + right
    if bend == 0:
        return float(columns[best])
    offset = float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
    return float(columns[best] + offset * (columns[best + 1] - columns[best]))
