"""Small blocks in an orthonormal polynomial basis, and how noise appears in it.

The coefficient of degree n along an axis does not see any polynomial of lower degree:
smooth structure ends up in the low degrees, noise in all of them.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.noise_spectrum import reconstruction_power

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
Edges = tuple[int, int, int]

#: Coefficients up to this total degree are left to the structure: local quadratics.
SMOOTH_DEGREE = 2
#: Widths in voxels of the Gaussian blurs that are tabulated.
WIDTHS = np.linspace(0, 4.0, 161)
#: Cutoffs of reconstruction filters that are tabulated, in units of Nyquist.
CUTOFFS = np.linspace(0.3, 1.2, 19)
#: A sampled Gaussian narrower than this is a single voxel.
_NARROWEST = 0.05
#: Edge of the window in which the covariance of reconstructed slices is computed.
_PERIOD = 64


@cache
def polynomials(n: int) -> Array:
    """Orthonormal polynomials on `n` points, shape (degree, point)."""
    points = np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    q, _ = np.linalg.qr(np.vander(points, n, increasing=True))
    return np.asarray(q.T, np.float64)


def energies(blocks: FloatArray) -> FloatArray:
    """Squared coefficients of blocks, shape (blocks, Z, Y, X) in degrees."""
    found = blocks
    for axis in (1, 2, 3):
        matrix = polynomials(found.shape[axis]).astype(np.float32)
        turned = np.tensordot(found, matrix, axes=(axis, 1))
        found = np.moveaxis(turned, -1, axis)
    # A few absurd voxels (1e30) make their blocks infinitely loud, and so not quiet.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.nan_to_num(np.square(found), nan=np.inf, posinf=np.inf)


def degrees(edges: Edges) -> npt.NDArray[np.int_]:
    """Total degree of each coefficient."""
    i, j, k = np.indices(edges)
    return np.asarray(i + j + k)


def blur_covariance(width: float) -> Array:
    """Correlation at distances 0, 1, 2, … of noise under a sampled Gaussian."""
    if width < _NARROWEST:
        found = np.zeros(_PERIOD)
        found[0] = 1
        return found
    reach = _PERIOD // 2 - 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    product = np.correlate(kernel, kernel, "full")[2 * reach :]
    found = np.zeros(_PERIOD)
    found[: len(product)] = product / product[0]
    return found


def blurred(n: int, width: float) -> Array:
    """Expected energy by degree along one axis: noise of variance 1, blurred."""
    return _between(_blur_table(n), width, WIDTHS)


def reconstructed(ny: int, nx: int, cutoff: float) -> Array:
    """Expected energy by degree (Y, X) of noise after back-projection.

    Parameters
    ----------
    ny, nx : int
        Voxels of a block along Y and X.
    cutoff : float
        Where the reconstruction filter ends (Nyquist frequency = 1).
    """
    return _between(_reconstruction_table(ny, nx), cutoff, CUTOFFS)


def blur_lag(width: float) -> float:
    """Correlation of neighbours under a Gaussian of that width."""
    return float(_between(_blur_lags(), width, WIDTHS))


def reconstruction_lag(cutoff: float) -> float:
    """Correlation of neighbours in reconstructed slices."""
    return float(_between(_reconstruction_lags(), cutoff, CUTOFFS))


def _between(table: Array, value: float, places: Array) -> Array:
    """A row of the table, linear between the tabulated ones."""
    step = places[1] - places[0]
    at = float(np.clip((value - places[0]) / step, 0, len(places) - 1 - 1e-9))
    low = int(at)
    part = at - low
    return np.asarray((1 - part) * table[low] + part * table[low + 1])


@cache
def _blur_table(n: int) -> Array:
    matrix = polynomials(n)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    rows = [
        np.einsum("ij,jk,ik->i", matrix, blur_covariance(width)[apart], matrix)
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
    found = np.fft.ifft2(power).real
    return np.asarray(found / found[0, 0], np.float64)


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
