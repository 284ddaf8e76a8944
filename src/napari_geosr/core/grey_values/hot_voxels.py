"""Hot and dead voxels: isolated extreme grey values among ordinary neighbours.

A few of them are enough to shift the mean and standard deviation of a scan, and
therefore to change a network's result for the whole scan. Two rules identify them: the
grey value is rare and far from all others (`plausible_limits`), and it is equally far
from the grey values of the neighbours, hardly any of which are extreme themselves. A
bright particle meets the first rule, but not the second.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.indexing import Slices, as_slices
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.core.volume import ArrayLike

#: Maximum fraction of the voxels, at either end of the range of grey values, that may
#: be defects if their positions are unknown.
OUTLIER_SHARE = 1e-4
#: Maximum fraction of defects if their positions are known; it is larger because
#: isolated voxels are identified more reliably.
HOT_SHARE = 1e-3
#: Maximum fraction at which isolated voxels far from all others are still recognised;
#: beyond `HOT_SHARE` they are reported, but not replaced.
CROWD_SHARE = 2e-2
#: Maximum number of neighbours of a hot voxel that may be extreme as well: those of the
#: same detector pixel in the slices before and after.
_MAX_EXTREME_NEIGHBOURS = 2
#: Maximum number of voxels from which the usual range of grey values is estimated.
_SAMPLE = 1 << 21
#: Number of candidate voxels examined at once, each with up to 26 neighbours.
_BATCH = 1 << 13
#: Minimum absolute grey value that marks missing voxels, provided that all others are
#: far smaller. Files use the largest float32 (3.4e38) or values such as 1e30 and -1e31.
_MISSING_VALUE = 1e30
#: Maximum magnitude of the other grey values, relative to those that mark missing
#: voxels.
_MAX_OTHERS = 1e-6
#: Minimum fraction of other voxels; if fewer remain, no voxels are considered missing.
_MIN_OTHERS = 0.05
#: The usual range excludes this fraction of the voxels at either end of a sample. If a
#: voxel is further from this range than `_FAR_DISTANCE` times the width of the range, a
#: network has hardly any contrast left between the other voxels.
_FAR_SHARE = 0.25
_FAR_DISTANCE = 1000.0

Places = npt.NDArray[np.intp]


def plausible_limits(low: float, high: float) -> tuple[float, float]:
    """Return the grey values beyond which a voxel is far from all others.

    Parameters
    ----------
    low, high : float
        Range that contains nearly all voxels.

    Returns
    -------
    tuple of float
        The range, extended on either side by its own width.
    """
    return low - (high - low), high + (high - low)


def missing_values_text(
    name: str, range_: tuple[float, float], usual: tuple[float, float]
) -> str:
    """Return a message if some grey values mark missing voxels; otherwise "".

    Parameters
    ----------
    name : str
        Name of the volume in messages.
    range_ : tuple of float
        Smallest and largest grey value.
    usual : tuple of float
        The same range without extreme values (those far from most others).

    Examples
    --------
    >>> missing_values_text("scan", (-3.4e38, 255.0), (0.0, 255.0))[:32]
    'scan has grey values of -3.4e+38'
    >>> missing_values_text("scan", (0.0, 65535.0), (0.0, 255.0))
    ''
    """
    extreme = max(range_, key=abs)
    others = max(abs(value) for value in usual)
    if abs(extreme) < _MISSING_VALUE or others > _MAX_OTHERS * abs(extreme):
        return ""
    return (
        f"{name} has grey values of {extreme:.2g}, far from all others (between "
        f"{usual[0]:.4g} and {usual[1]:.4g}): such values usually mark missing "
        "voxels. Replace them with NaN first."
    )


@dataclass(frozen=True)
class FarVoxels:
    """Voxels with grey values that differ strongly from most others in a scan.

    Attributes
    ----------
    share : float
        Fraction of such voxels in a sample; 0 if the sample contains none of them.
    usual : tuple of float
        Range of the other grey values.
    """

    share: float
    usual: tuple[float, float]


@dataclass(frozen=True)
class HotVoxels:
    """Criteria that identify the hot and dead voxels of a scan.

    Attributes
    ----------
    usual : tuple of float
        Grey range that contains nearly all voxels.
    limits : tuple of float
        Grey values beyond which an isolated voxel is hot or dead.
    n : int
        Number of hot and dead voxels in the planes that were read.
    kept : bool
        Whether a result keeps the values of these voxels; False for labels.
    """

    usual: tuple[float, float]
    limits: tuple[float, float]
    n: int = 0
    kept: bool = True


class GreySample:
    """Sample of evenly spaced voxels of a volume that is read block by block.

    Parameters
    ----------
    shape : sequence of int
        Shape of the whole volume, i.e. of all blocks together.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._step = max(1, math.ceil(math.prod(shape) / _SAMPLE))
        # Avoid a step that samples the same columns in every row.
        while math.gcd(self._step, math.prod(shape[1:])) > 1:
            self._step += 1
        self._next = 0
        self._parts: list[AnyArray] = []

    def add(self, block: AnyArray) -> None:
        """Add the next block, of any real dtype."""
        values = block.reshape(-1)
        part = values[self._next :: self._step]
        self._next = (self._next - values.size) % self._step
        self._parts.append(part[np.isfinite(part)])

    def exceeds(self, limits: tuple[float, float]) -> bool:
        """Whether a value lies beyond the limits."""
        low, high = limits
        return any(
            bool(part.size) and (float(part.min()) < low or float(part.max()) > high)
            for part in self._parts
        )

    def values_if_others_are_missing(
        self, low: float, high: float
    ) -> tuple[float, float] | None:
        """Return the range of grey values, excluding values that mark missing voxels.

        None if no value marks missing voxels, or if hardly any other voxels remain.

        Parameters
        ----------
        low, high : float
            Smallest and largest grey value of the volume.
        """
        extreme = max(abs(low), abs(high))
        if extreme < _MISSING_VALUE:
            return None
        parts = [part[np.abs(part) <= _MAX_OTHERS * extreme] for part in self._parts]
        others = np.concatenate(parts)
        if others.size <= _MIN_OTHERS * sum(part.size for part in self._parts):
            return None
        return float(others.min()), float(others.max())

    def far_voxels(self, low: float, high: float) -> FarVoxels | None:
        """Find voxels so extreme that the others look alike; None if no voxel is.

        Parameters
        ----------
        low, high : float
            Smallest and largest grey value of the volume.
        """
        values = np.concatenate(self._parts) if self._parts else np.empty(0)
        if values.size < 2 or values.dtype.kind not in "iuf":
            return None
        values = values.astype(np.float64)
        ends = np.quantile(values, [_FAR_SHARE, 1 - _FAR_SHARE], method="nearest")
        distance = _FAR_DISTANCE * (ends[1] - ends[0])
        limits = ends[0] - distance, ends[1] + distance
        if not distance or (limits[0] <= low and high <= limits[1]):
            return None
        others = values[(values >= limits[0]) & (values <= limits[1])]
        usual = float(others.min()), float(others.max())
        return FarVoxels(1 - others.size / values.size, usual)

    def hot_voxels(self, share: float = HOT_SHARE) -> HotVoxels | None:
        """Return the criteria for hot voxels; None if nearly all grey values are equal.

        Parameters
        ----------
        share : float
            Maximum fraction of the voxels, at either end of the range of grey values,
            that may be hot or dead.
        """
        values = np.concatenate(self._parts) if self._parts else np.empty(0)
        if values.size < 2 or values.dtype.kind not in "iuf":
            return None
        few = share * values.size
        places = math.floor(few), math.ceil(values.size - few) - 1
        ordered = np.partition(values, places)
        low, high = (float(ordered[i]) for i in places)
        if not low < high:
            return None
        half = 0.5 if values.dtype.kind in "iu" else 0.0
        low, high = low - half, high + half
        return HotVoxels((low, high), plausible_limits(low, high))


class HotVoxelFilter:
    """Array with hot and dead voxels replaced by the median of their neighbours.

    The result for a voxel depends only on its 26 neighbours (8 in an image), never on
    the region that is read. Only regions with extreme values are read with a margin.

    Parameters
    ----------
    source : ArrayLike
        2D or 3D, of integers or floating-point numbers.
    hot : HotVoxels
    """

    def __init__(self, source: ArrayLike, hot: HotVoxels) -> None:
        self.source, self.hot = source, hot
        self.shape = tuple(int(n) for n in source.shape)
        self.dtype = np.dtype(source.dtype)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> AnyArray:
        box, after = as_slices(key, self.shape)
        voxels: AnyArray = self.read(box)[0][after]
        return voxels

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[...], dtype=dtype)

    def read(self, box: Slices) -> tuple[AnyArray, Places]:
        """Read a box and replace its hot voxels.

        Parameters
        ----------
        box : tuple of slice
            One slice per axis, with step 1 and within the volume.

        Returns
        -------
        voxels : ndarray
            The box, with hot voxels replaced.
        places : ndarray of shape (n, ndim)
            Positions of the hot voxels relative to the start of the box.
        """
        voxels = np.asarray(self.source[box])
        far = _extreme_positions(voxels, self.hot.limits)
        if not len(far):
            return voxels, far
        wide = tuple(
            slice(max(0, part.start - 1), min(n, part.stop + 1))
            for part, n in zip(box, self.shape, strict=True)
        )
        shift = np.array(
            [part.start - w.start for part, w in zip(box, wide, strict=True)]
        )
        around = np.asarray(self.source[wide])
        voxels = voxels.copy()
        replaced = [far[:0]]
        for start in range(0, len(far), _BATCH):
            some = far[start : start + _BATCH]
            isolated, medians = _isolated(around, some + shift, self.hot)
            if self.dtype.kind in "iu":
                medians = np.rint(medians)
            voxels[tuple(some[isolated].T)] = medians[isolated].astype(self.dtype)
            replaced.append(some[isolated])
        return voxels, np.concatenate(replaced)

    def values_at(self, box: Slices) -> Iterator[tuple[Places, AnyArray]]:
        """Yield positions and values of hot voxels in a box, a few planes at a time.

        Positions are relative to the start of the box.
        """
        first, *others = box
        per_plane = math.prod(part.stop - part.start for part in others)
        step = max(1, (1 << 20) // max(1, per_plane))
        for start in range(first.start, first.stop, step):
            part = slice(start, min(first.stop, start + step)), *others
            places = self.read(part)[1]
            if len(places):
                values = np.asarray(self.source[part])[tuple(places.T)]
                offset = np.zeros(self.ndim, np.intp)
                offset[0] = start - first.start
                yield places + offset, values


def _extreme_positions(voxels: AnyArray, limits: tuple[float, float]) -> Places:
    """Return the positions of finite values beyond the limits, shape (n, ndim)."""
    low, high = bounds(voxels.dtype, limits)
    positions = []
    for i, plane in enumerate(voxels):
        beyond = plane < low
        beyond |= plane > high
        if beyond.any():
            inner = np.argwhere(beyond)
            inner = inner[np.isfinite(plane[beyond])]
            positions.append(np.insert(inner, 0, i, axis=1))
    if not positions:
        return np.empty((0, voxels.ndim), np.intp)
    return np.concatenate(positions)


def bounds(dtype: np.dtype[Any], limits: tuple[float, float]) -> tuple[Any, Any]:
    """Return the limits in the voxels' type, so that integers are compared exactly."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low = min(max(math.ceil(limits[0]), info.min), info.max)
        high = min(max(math.floor(limits[1]), info.min), info.max)
        return dtype.type(low), dtype.type(high)
    largest = float(np.finfo(dtype).max)
    return tuple(dtype.type(min(max(v, -largest), largest)) for v in limits)


def _isolated(
    voxels: AnyArray, places: Places, hot: HotVoxels
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Find the isolated voxels, and the median of the neighbours of each."""
    around = itertools.product(*((-1, 0, 1) if n > 1 else (0,) for n in voxels.shape))
    offsets = np.array([step for step in around if any(step)])
    near = places[:, None, :] + offsets
    inside = ((near >= 0) & (near < voxels.shape)).all(axis=-1)
    near = np.clip(near, 0, np.array(voxels.shape) - 1)
    values = voxels[tuple(np.moveaxis(near, -1, 0))].astype(np.float64)
    known = inside & np.isfinite(values)
    low, high = hot.usual
    unusual = known & ((values < low) | (values > high))
    spread = high - low
    low, high = hot.limits
    usable = known & (values >= low) & (values <= high)
    centres = voxels[tuple(places.T)].astype(np.float64)[:, None]
    # A voxel of a bright structure always has a neighbour that is nearly as bright. At
    # the border, that neighbour may be cut off, so a larger difference is required.
    has_all = inside.all(axis=1)
    min_difference = spread * np.where(has_all, 1, 2)[:, None]
    apart = (~usable | (np.abs(centres - values) > min_difference)).all(axis=1)
    few = (known & ~usable).sum(axis=1) <= _MAX_EXTREME_NEIGHBOURS
    # Allow one neighbour that is unusual by chance, but none at a border, where there
    # are fewer neighbours.
    few &= (unusual & usable).sum(axis=1) <= has_all
    isolated = few & apart & usable.any(axis=1)
    medians = np.zeros(len(places))
    if isolated.any():
        masked = np.where(usable[isolated], values[isolated], np.nan)
        medians[isolated] = np.nanmedian(masked, axis=1)
    return isolated, medians
