"""Interpolation of masks on cubic voxels, and sums over the original voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.crofton import pair_weights
from napari_geosr.measure.phases.changes import PhaseChanges

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Relative difference between the edges of a voxel up to which it counts as cubic.
_ROUNDING = 1e-3
#: Values that are measured on cubic voxels, as text for remarks. All other values are
#: measured on the voxels of the scan.
ON_CUBIC_VOXELS = (
    "thickness (Tb.Th, Tb.Sp, Po.Dm, Ct.Th), Tb.N, Conn.D, SMI, anisotropy, transport, "
    "the pore network and the depth of pores"
)
#: Distances to the other phase are limited to this multiple of a voxel's longest edge.
_FARTHEST = 3.0
#: Approximate number of voxels that are interpolated together: they need about 80 bytes
#: each, which must fit into the smallest memory budget.
_STRIP_VOXELS = 2**19


@dataclass
class OriginalGrid:
    """Volume and surface of both phases on the grid of the scan, before interpolation.

    Attributes
    ----------
    voxel_size : tuple of 3 float
    flat : bool
        Whether this is one image.
    shape : tuple of 3 int
        Number of voxels along each axis.
    pores, sample : int
        Number of voxels.
    changes : PhaseChanges
    """

    voxel_size: tuple[float, float, float]
    flat: bool
    shape: tuple[int, int, int]
    pores: int = 0
    sample: int = 0
    changes: PhaseChanges = field(init=False)

    def __post_init__(self) -> None:
        self.changes = PhaseChanges(self.voxel_size, self.flat)

    def add(self, pores: Mask, sample: Mask | None, n: int) -> None:
        """Add `n` planes; see `PhaseChanges.add`."""
        self.pores += int(np.count_nonzero(pores[:n]))
        self.sample += (
            pores[:n].size if sample is None else int(np.count_nonzero(sample[:n]))
        )
        self.changes.add(pores, sample, n)

    @property
    def solid_share(self) -> float:
        """Share of the solid in the sample."""
        return 1 - self.pores / self.sample if self.sample else 0.0

    @property
    def surface(self) -> float:
        """Area of the surface between the phases (image: its length)."""
        weights = pair_weights(self.voxel_size, flat=self.flat)
        return float((weights * self.changes.changes[0]).sum())


def is_cubic(voxel_size: Sequence[float]) -> bool:
    """Whether all edges of a voxel are equal, except for rounding."""
    return max(voxel_size) <= (1 + _ROUNDING) * min(voxel_size)


def cubic_shape(shape: Sequence[int], voxel_size: Sequence[float]) -> tuple[int, ...]:
    """Return the number of cubic voxels of the shortest edge length along each axis.

    Examples
    --------
    >>> cubic_shape((10, 64, 64), (2.5, 1.0, 1.0))
    (25, 64, 64)
    """
    if is_cubic(voxel_size):
        return tuple(shape)
    edge = min(voxel_size)
    return tuple(
        max(1, round(n * v / edge)) for n, v in zip(shape, voxel_size, strict=True)
    )


def halo(voxel_size: Sequence[float], axis: int = 0) -> int:
    """Return the number of planes (along Z) around a slab that its values depend on."""
    return math.ceil(_FARTHEST * max(voxel_size) / voxel_size[axis]) + 1


def places_of(n_new: int, n_old: int) -> Floats:
    """Return the centres of new voxels along an axis, in indices of the old voxels."""
    return (np.arange(n_new) + 0.5) * n_old / n_new - 0.5


def interpolated(
    mask: Mask, places: tuple[Floats, Floats, Floats], voxel_size: Sequence[float]
) -> Mask:
    """Interpolate a mask at positions between its voxels.

    The signed distances to the other phase are interpolated linearly (shape-based
    interpolation, Raya & Udupa, IEEE Trans Med Imaging 9:32-42 (1990)). Where they are
    zero, the value of the voxel that contains the position is taken.

    Parameters
    ----------
    mask : ndarray of shape (Z, Y, X), bool
    places : tuple of 3 ndarray
        Indices along each axis, as given by `places_of`.
    voxel_size : sequence of 3 float
    """
    z, y, x = places
    n_z, n_y, n_x = mask.shape
    ratio, reach = n_y / len(y), halo(voxel_size, 1)
    per_row = max(len(z) * len(x), math.ceil(n_z * n_x * ratio))
    step = max(math.ceil(reach / ratio), _STRIP_VOXELS // per_row)
    found = np.empty((len(z), len(y), len(x)), bool)
    for start in range(0, len(y), step):
        rows = y[start : start + step]
        low = max(0, math.floor(rows[0]) - reach)
        high = min(n_y, math.ceil(rows[-1]) + reach + 1)
        strip = _interpolated(mask[:, low:high], (z, rows - low, x), voxel_size)
        found[:, start : start + step] = strip
    return found


def _interpolated(
    mask: Mask, places: tuple[Floats, Floats, Floats], voxel_size: Sequence[float]
) -> Mask:
    """Interpolate some rows of a mask, as `interpolated` does."""
    nearest = [
        np.clip(np.floor(p + 0.5).astype(np.int64), 0, n - 1)
        for p, n in zip(places, mask.shape, strict=True)
    ]
    picked: Mask = mask[np.ix_(*nearest)]
    if mask.all() or not mask.any():
        return picked
    distances = _signed_distances(mask, voxel_size)
    for axis, place in enumerate(places):
        if not np.allclose(place, np.rint(place), rtol=0, atol=1e-6):
            distances = _between(distances, place, axis)
        else:
            distances = np.take(distances, nearest[axis], axis)
    found: Mask = np.where(distances == 0, picked, distances > 0)
    return found


def _signed_distances(
    mask: Mask, voxel_size: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Return the distance to the nearest voxel of the other phase, negative outside."""
    from scipy.ndimage import distance_transform_edt

    most = _FARTHEST * max(voxel_size)
    found = np.zeros(mask.shape, np.float32)
    for phase, sign in ((mask, 1), (~mask, -1)):
        distances = distance_transform_edt(phase, sampling=voxel_size)
        found += sign * np.minimum(distances, most).astype(np.float32)
    return found


def _between(
    values: npt.NDArray[np.float32], places: Floats, axis: int
) -> npt.NDArray[np.float32]:
    """Interpolate linearly along an axis; constant beyond the first and last values."""
    n = values.shape[axis]
    low = np.clip(np.floor(places).astype(np.int64), 0, n - 1)
    high = np.clip(low + 1, 0, n - 1)
    share = np.clip(places - low, 0, 1).astype(np.float32)
    share = share.reshape([-1 if a == axis else 1 for a in range(3)])
    one, other = np.take(values, low, axis), np.take(values, high, axis)
    found: npt.NDArray[np.float32] = one + share * (other - one)
    return found


def not_cubic_text(
    voxel_size: tuple[float, float, float], unit: str, flat: bool
) -> str:
    """Return the beginning of a remark on voxels that are not cubic."""
    sizes = " × ".join(f"{v:.4g}" for v in voxel_size[1 if flat else 0 :])
    return f"The voxels are not cubic ({sizes} {unit})"


def grid_remark(original: OriginalGrid, grid: tuple[int, ...], unit: str) -> str:
    """Return a remark on which values were measured on which grid."""
    sizes = original.voxel_size[1 if original.flat else 0 :]
    beginning = not_cubic_text(original.voxel_size, unit, original.flat)
    text = (
        f"{beginning}: {ON_CUBIC_VOXELS} were measured on cubic voxels of "
        f"{min(sizes):.4g} {unit}, everything else on the voxels of the scan"
    )
    if grid == original.shape:
        return f"{text}; both grids have the same number of voxels."
    return (
        f"{text}. The surface is interpolated on cubic voxels, so that pores and walls "
        f"thinner than ten times the longest edge of a voxel ({10 * max(sizes):.4g} "
        f"{unit}) appear too thin there."
    )
