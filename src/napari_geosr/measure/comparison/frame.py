"""A common physical frame for volumes of different voxel sizes, extents and origins.

Along each axis, the frame has the voxel grid of the volume with the largest voxels
along that axis, restricted to the region covered by all volumes. Finer volumes are
averaged over its voxels; nothing is interpolated. Averaging hides errors that are
smaller than a voxel of the frame. Therefore, a comparison uses one frame for several
volumes only if each of them, compared with the base alone, would have the same frame.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import sliceable
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import MILLIMETRES, PIXEL, shown_unit
from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float32]

#: Maximum drift from end to end, in voxels of the frame, if a ratio of voxel sizes is
#: rounded to a whole number: voxel sizes in files have rounding errors.
_DRIFT = 0.1
#: Distance, in voxels of the frame, below which voxel borders count as aligned.
_SAME_EDGE = 0.02


@dataclass(frozen=True)
class Frame:
    """Grid of the voxels covered by all volumes of a comparison.

    Attributes
    ----------
    axes : str
        ``"ZYX"`` or ``"YX"``.
    shape : tuple of int
    voxel_size, origin : tuple of float
        Edge lengths of a voxel and centre of the first one, in `unit`.
    unit : str
    """

    axes: str
    shape: tuple[int, ...]
    voxel_size: tuple[float, ...]
    origin: tuple[float, ...]
    unit: str

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in `unit`³ (for an image: area in `unit`²)."""
        return math.prod(self.voxel_size)

    @property
    def length_unit(self) -> str:
        """Unit in which lengths are shown."""
        return shown_unit(self.unit, self.voxel_size)

    def is_same(self, other: Frame) -> bool:
        """Whether the voxels of both frames coincide, apart from rounding errors."""
        if self.axes != other.axes or self.shape != other.shape:
            return False
        size = np.array(self.voxel_size)
        first = np.subtract(self.origin, other.origin)
        drift = np.subtract(self.voxel_size, other.voxel_size) * self.shape
        return bool((np.maximum(abs(first), abs(drift)) < _SAME_EDGE * size).all())

    def position(self, index: Sequence[float]) -> tuple[float, ...]:
        """Return the position of a voxel, in `unit`."""
        return tuple(
            o + i * v
            for o, i, v in zip(self.origin, index, self.voxel_size, strict=True)
        )

    def as_volume(self, data: Any, **fields: Any) -> Volume:
        """Wrap values on the frame's grid in a volume at the frame's position."""
        return Volume(
            data, self.axes, self.voxel_size, self.unit, self.origin, **fields
        )

    def to_json_dict(self) -> AnyDict:
        """Return the frame as JSON-serialisable values."""
        return {
            "axes": self.axes,
            "shape": list(self.shape),
            "voxel_size": list(self.voxel_size),
            "origin": list(self.origin),
            "unit": self.unit,
        }


@dataclass(frozen=True)
class _Axis:
    """Correspondence between voxels of a volume and of the frame, along one axis.

    Attributes
    ----------
    n : int
        Number of voxels of the volume.
    ratio, first : float
        Length of a voxel of the frame, and position of the outer edge of the frame's
        first voxel, in voxels of the volume.
    """

    n: int
    ratio: float
    first: float

    @property
    def is_whole(self) -> bool:
        """Whether each voxel of the frame consists of whole voxels of the volume."""
        return self.ratio.is_integer() and self.first.is_integer()

    def source(self, start: int, stop: int) -> slice:
        """Return the voxels of the volume that overlap a range of frame voxels."""
        low = math.floor(self.first + start * self.ratio + 1e-6)
        high = math.ceil(self.first + stop * self.ratio - 1e-6)
        return slice(max(0, low), max(1, min(self.n, high)))

    def weights(self, start: int, stop: int) -> Any:
        """Return weights of volume voxels in the mean of each frame voxel (sparse)."""
        from scipy.sparse import csr_array

        part = self.source(start, stop)
        edges = self.first + np.arange(start, stop + 1) * self.ratio
        edges = np.clip(edges, 0, self.n)
        rows, columns, values = [], [], []
        for row, (low, high) in enumerate(itertools.pairwise(edges)):
            touched = np.arange(math.floor(low + 1e-6), math.ceil(high - 1e-6))
            share = np.minimum(touched + 1, high) - np.maximum(touched, low)
            rows += [row] * len(touched)
            columns += (touched - part.start).tolist()
            values += (share / share.sum()).tolist()
        shape = (stop - start, part.stop - part.start)
        return csr_array((np.array(values, np.float32), (rows, columns)), shape=shape)


class FrameArray:
    """Grey values of a volume on the grid of a frame, read and averaged lazily.

    A voxel of the frame is NaN if it contains a volume voxel that is not finite.
    """

    def __init__(self, data: Any, axes: Sequence[_Axis], shape: Sequence[int]) -> None:
        self._data = data
        self._axes = tuple(axes)
        self.shape = tuple(shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (self.ndim - len(key))
        boxes: list[tuple[int, int]] = []
        inner: list[Any] = []
        for part, n in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(n)
                boxes.append((start, max(start, stop)))
                inner.append(slice(None, None, step))
            else:
                at = int(part) + (n if int(part) < 0 else 0)
                boxes.append((at, at + 1))
                inner.append(0)
        if any(start == stop for start, stop in boxes):
            empty = np.empty([stop - start for start, stop in boxes], np.float32)
            nothing: FloatArray = empty[tuple(inner)]
            return nothing
        found: FloatArray = self._block(boxes)[tuple(inner)]
        return found

    def _block(self, boxes: Sequence[tuple[int, int]]) -> FloatArray:
        pairs = list(zip(self._axes, boxes, strict=True))
        source = tuple(axis.source(*box) for axis, box in pairs)
        block = np.asarray(self._data[source]).astype(np.float32)
        lost = ~np.isfinite(block)
        if lost.any():
            block[lost] = np.nan
        for i, (axis, box) in enumerate(pairs):
            if axis.is_whole:
                block = _means_along(block, i, int(axis.ratio))
            else:
                block = _weighted_along(block, i, axis.weights(*box))
        return block


def _means_along(block: FloatArray, axis: int, factor: int) -> FloatArray:
    if factor == 1:
        return block
    n = block.shape[axis] // factor
    split = (*block.shape[:axis], n, factor, *block.shape[axis + 1 :])
    means: FloatArray = block.reshape(split).mean(axis=axis + 1, dtype=np.float32)
    return means


def _weighted_along(block: FloatArray, axis: int, weights: Any) -> FloatArray:
    turned = np.moveaxis(block, axis, 0)
    rows = turned.reshape(turned.shape[0], -1)
    made = (weights @ rows).reshape(weights.shape[0], *turned.shape[1:])
    found: FloatArray = np.ascontiguousarray(np.moveaxis(made, 0, axis), np.float32)
    return found


@dataclass(frozen=True, eq=False)
class FrameVolume:
    """A volume in a frame.

    Attributes
    ----------
    volume : Volume
        The original volume, with spatial axes only.
    frame : Frame
    array : FrameArray
    factors : tuple of float
        Number of volume voxels per frame voxel, along each axis.
    is_whole : bool
        Whether each voxel of the frame consists of whole voxels of the volume; if not,
        adjacent frame voxels share volume voxels, which smooths the values slightly.
    box : tuple of slice
        Whole voxels of the volume that lie within the frame.
    """

    volume: Volume
    frame: Frame
    array: FrameArray = field(repr=False)
    factors: tuple[float, ...]
    is_whole: bool
    box: tuple[slice, ...]

    @property
    def is_averaged(self) -> bool:
        """Whether voxels of the frame are means over several voxels of the volume."""
        return max(self.factors) > 1 or not self.is_whole

    @property
    def share(self) -> float:
        """Fraction of the volume's field of view that lies within the frame."""
        lengths = zip(self.box, self.volume.shape, strict=True)
        return float(math.prod((b.stop - b.start) / n for b, n in lengths))

    def on_frame(self) -> Volume:
        """Return the volume on the grid of the frame, lazily."""
        return self.frame.as_volume(
            self.array, name=self.volume.name, source=self.volume.source
        )

    def cropped(self) -> Volume:
        """Crop the volume to the frame, on its own grid; nothing is read."""
        volume = self.volume
        if all(b == slice(0, n) for b, n in zip(self.box, volume.shape, strict=True)):
            return volume
        origin = tuple(
            o + b.start * v
            for o, b, v in zip(volume.origin, self.box, volume.voxel_size, strict=True)
        )
        return volume.replace(data=sliceable(volume.data)[self.box], origin=origin)

    def remark(self) -> str:
        """Explain how the volume was converted to the frame; empty if unchanged."""
        done = []
        if self.is_averaged:
            factors = " × ".join(f"{f:.4g}" for f in self.factors)
            done.append(f"averaged over blocks of {factors} voxels")
        if self.share < 1 - 1e-9:
            done.append(
                f"cropped to the common region ({100 * self.share:.3g} % of the volume)"
            )
        if not done:
            return ""
        remark = f"{self.volume.title} is {' and '.join(done)}."
        if not self.is_whole:
            remark += (
                " The voxel size of the comparison is not a whole multiple of the "
                "voxel size of this volume, so neighbouring averages share some of "
                "its voxels."
            )
        return remark


def on_common_frame(
    volumes: Mapping[str, Volume], unit_of: Volume | None = None
) -> dict[str, FrameVolume]:
    """Place volumes in the frame that all of them cover.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Volumes with spatial axes only.
    unit_of : Volume, optional
        The frame has the unit of this volume; by default, that of the first one.

    Returns
    -------
    dict of FrameVolume

    Raises
    ------
    VolumeError
        If some are images and others volumes, their units cannot be converted, or they
        have no common region.
    """
    first = unit_of or next(iter(volumes.values()))
    _refuse_mixed_axes(volumes)
    sizes, starts, stops = [], [], []
    for volume in volumes.values():
        scale = _scale(volume, first)
        size = np.array(volume.voxel_size) * scale
        start = np.array(volume.origin) * scale - size / 2
        sizes.append(size)
        starts.append(start)
        stops.append(start + size * np.array(volume.shape))
    low, high = np.max(starts, axis=0), np.min(stops, axis=0)
    coarsest = [
        next(i for i, s in enumerate(sizes) if s[a] >= largest * (1 - 1e-6))
        for a, largest in enumerate(np.max(sizes, axis=0))
    ]
    shape, voxel, origin = [], [], []
    for a, i in enumerate(coarsest):
        edge, step = float(starts[i][a]), float(sizes[i][a])
        begin = math.ceil((low[a] - edge) / step - _SAME_EDGE)
        n = math.floor((high[a] - edge) / step + _SAME_EDGE) - begin
        if n < 1:
            raise VolumeError(_apart(volumes, first.unit, starts, stops, a))
        shape.append(n)
        voxel.append(step)
        origin.append(edge + (begin + 0.5) * step)
    frame = Frame(first.axes, tuple(shape), tuple(voxel), tuple(origin), first.unit)
    return {
        key: _placed(volume, frame, size, start)
        for (key, volume), size, start in zip(
            volumes.items(), sizes, starts, strict=True
        )
    }


def _placed(
    volume: Volume, frame: Frame, size: AnyArray, start: AnyArray
) -> FrameVolume:
    axes, box = [], []
    for a, n in enumerate(volume.shape):
        ratio = frame.voxel_size[a] / float(size[a])
        edge = frame.origin[a] - frame.voxel_size[a] / 2
        first = (edge - float(start[a])) / float(size[a])
        if abs(ratio - round(ratio)) * frame.shape[a] < _DRIFT * ratio:
            ratio = float(round(ratio))
        if abs(first - round(first)) < _SAME_EDGE * ratio:
            first = float(round(first))
        if ratio.is_integer() and first.is_integer():
            # Keep the frame inside the volume despite rounding errors.
            first = float(min(max(first, 0), n - ratio * frame.shape[a]))
        axes.append(_Axis(n, ratio, first))
        last = first + ratio * frame.shape[a]
        box.append(slice(max(0, math.ceil(first - 0.01)), min(n, int(last + 0.01))))
    return FrameVolume(
        volume,
        frame,
        FrameArray(volume.data, axes, frame.shape),
        tuple(axis.ratio for axis in axes),
        all(axis.is_whole for axis in axes),
        tuple(box),
    )


def _refuse_mixed_axes(volumes: Mapping[str, Volume]) -> None:
    if len({volume.axes for volume in volumes.values()}) < 2:
        return
    flat = next(v.title for v in volumes.values() if v.axes == "YX")
    deep = next(v.title for v in volumes.values() if v.axes != "YX")
    raise VolumeError(
        f"{flat} is a single image and {deep} a volume: they cannot be compared. "
        "Compare two images or two volumes."
    )


def _scale(volume: Volume, first: Volume) -> float:
    """Return the length of the volume's unit in the unit of the first volume."""
    if volume.unit == first.unit:
        return 1.0
    if PIXEL in (volume.unit, first.unit):
        unknown, known = (volume, first) if volume.unit == PIXEL else (first, volume)
        raise VolumeError(
            f"{unknown.title} has no voxel size in a unit of length, and {known.title} "
            f"has one in {known.unit}, so their overlap cannot be determined. Set the "
            f"voxel size of {unknown.title} (--voxel-size, --unit)."
        )
    return MILLIMETRES[volume.unit] / MILLIMETRES[first.unit]


def _apart(
    volumes: Mapping[str, Volume],
    unit: str,
    starts: Sequence[AnyArray],
    stops: Sequence[AnyArray],
    axis: int,
) -> str:
    axes = next(iter(volumes.values())).axes
    spans = ", ".join(
        f"{volume.title} from {start[axis]:.4g} to {stop[axis]:.4g}"
        for volume, start, stop in zip(volumes.values(), starts, stops, strict=True)
    )
    return (
        "The fields of view have no voxel in common along "
        f"{axes[axis]}, in {unit}: {spans}. Check voxel sizes and origins, "
        "or align the volumes first (napari-geosr pairs)."
    )
