"""Small blocks in an orthonormal polynomial basis, and the energies of noise in it.

The coefficient of degree n along an axis is zero for polynomials of lower degree:
smooth structure contributes only to low degrees, whereas noise contributes to all.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.noise_spectrum import reconstruction_power

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
Edges = tuple[int, int, int]

#: Polynomial coefficients up to this total degree are attributed to structure (local
#: quadratics).
SMOOTH_DEGREE = 2
#: Tabulated widths (standard deviations) of Gaussian blurs, in voxels.
WIDTHS = np.linspace(0, 4.0, 161)
#: Tabulated cutoffs of reconstruction filters, in units of the Nyquist frequency.
CUTOFFS = np.linspace(0.3, 2.5, 45)
#: Width, in voxels, below which a sampled Gaussian covers a single voxel.
_MIN_WIDTH = 0.05
#: Edge length of the window for tabulated covariances of noise, in voxels.
_PERIOD = 64


@cache
def polynomials(n: int) -> Array:
    """Return the orthonormal polynomials on `n` points, shape (degree, point)."""
    points = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    q, _ = np.linalg.qr(np.vander(points, n, increasing=True))
    return np.asarray(q.T, np.float64)


def energies(blocks: FloatArray) -> FloatArray:
    """Return the squared coefficients of blocks by degree, shape (blocks, Z, Y, X)."""
    coefficients = blocks
    for axis in (1, 2, 3):
        matrix = polynomials(coefficients.shape[axis]).astype(np.float32)
        product = np.tensordot(coefficients, matrix, axes=(axis, 1))
        coefficients = np.moveaxis(product, -1, axis)
    # Blocks with extreme values (1e30) get an infinite energy and are not selected.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num(np.square(coefficients), nan=np.inf, posinf=np.inf)


def degrees(edges: Edges) -> npt.NDArray[np.int_]:
    """Return the total degree of each coefficient."""
    i, j, k = np.indices(edges)
    return np.asarray(i + j + k)


def blur_covariance(width: float) -> Array:
    """Return the correlation at distances 0, 1, 2, … of noise blurred by a Gaussian."""
    covariance = np.zeros(_PERIOD)
    if width < _MIN_WIDTH:
        covariance[0] = 1
        return covariance
    reach = _PERIOD // 2 - 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    product = np.correlate(kernel, kernel, "full")[2 * reach :]
    covariance[: len(product)] = product / product[0]
    return covariance


def blurred_energy(n: int, width: float) -> Array:
    """Return the energy of blurred noise of variance 1 by degree along one axis."""
    return _interpolate(_blur_table(n), width, WIDTHS)


def reconstructed_energy(ny: int, nx: int, cutoff: float) -> Array:
    """Return the expected energy of back-projected noise, by degree along Y and X.

    Parameters
    ----------
    ny, nx : int
        Voxels of a block along Y and X.
    cutoff : float
        Cutoff of the reconstruction filter (Nyquist frequency = 1).
    """
    return _interpolate(_reconstruction_table(ny, nx), cutoff, CUTOFFS)


def blur_lag(width: float) -> float:
    """Return the correlation of adjacent voxels in noise blurred by a Gaussian."""
    return float(_interpolate(_blur_lags(), width, WIDTHS))


def reconstruction_lag(cutoff: float) -> float:
    """Return the correlation of adjacent voxels in noise of reconstructed slices."""
    return float(_interpolate(_reconstruction_lags(), cutoff, CUTOFFS))


def _interpolate(table: Array, value: float, places: Array) -> Array:
    """Interpolate linearly between the rows of a table."""
    step = places[1] - places[0]
    at = float(np.clip((value - places[0]) / step, 0, len(places) - 1 - 1e-9))
    low = int(at)
    part = at - low
    return np.asarray((1 - part) * table[low] + part * table[low + 1])


@cache
def _blur_table(n: int) -> Array:
    matrix = polynomials(n)
    distances = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    rows = [
        np.einsum("ij,jk,ik->i", matrix, blur_covariance(width)[distances], matrix)
        for width in WIDTHS
    ]
    return np.array(rows)


@cache
def _blur_lags() -> Array:
    return np.array([blur_covariance(width)[1] for width in WIDTHS])


@cache
def _plane_covariance(cutoff: float) -> Array:
    f = np.fft.fftfreq(_PERIOD)
    power = reconstruction_power(np.hypot(f[:, None], f), cutoff)
    covariance = np.fft.ifft2(power).real
    return np.asarray(covariance / covariance[0, 0], np.float64)


@cache
def _reconstruction_lags() -> Array:
    return np.array([_plane_covariance(float(cutoff))[0, 1] for cutoff in CUTOFFS])


@cache
def _reconstruction_table(ny: int, nx: int) -> Array:
    along_y, along_x = polynomials(ny), polynomials(nx)
    dy = np.abs(np.subtract.outer(np.arange(ny), np.arange(ny)))
    dx = np.abs(np.subtract.outer(np.arange(nx), np.arange(nx)))
    rows = []
    for cutoff in CUTOFFS:
        covariance = _plane_covariance(float(cutoff))
        full = covariance[dy[:, :, None, None], dx[None, None]]
        rows.append(
            np.einsum(
                "ia,ib,abcd,jc,jd->ij",
                along_y,
                along_y,
                full,
                along_x,
                along_x,
                optimize=True,
            )
        )
    return np.array(rows)


def non_negative(matrix: Array, values: Array) -> Array:
    """Solve a non-negative least-squares problem.

    Parameters
    ----------
    matrix : ndarray of shape (values, parts)
    values : ndarray

    Returns
    -------
    ndarray
        Amplitude of each part.

    Notes
    -----
    An active-set method may not terminate if parts are nearly identical; the interior
    reflective method (Coleman and Li 1996) does.
    """
    from scipy.optimize import lsq_linear, nnls

    try:
        amplitudes: Array = nnls(matrix, values)[0]
    except RuntimeError:  # too many changes of the active set
        amplitudes = lsq_linear(matrix, values, bounds=(0, np.inf)).x
    return amplitudes
