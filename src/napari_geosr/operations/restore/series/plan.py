"""The points of a series: every time point of every channel, and their positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.io.lazy import LazyArray
from napari_geosr.operations.inputs.scan import noise_steps
from napari_geosr.operations.restore.targets import Target, Targets

#: Axes that index the points of a series (time points and channels).
POINT_AXES = "TC"
#: Possible first words of a warning about a verdict.
_LEVELS = ("Caution", "Harmful")


def is_series(volume: Volume) -> bool:
    """Return whether a volume has a time or channel axis, even of length one."""
    return any(axis in volume.axes for axis in POINT_AXES)


@dataclass(frozen=True)
class Point:
    """One time point of one channel; None along an axis that the series lacks."""

    time: int | None
    channel: int | None

    @property
    def index(self) -> tuple[int, ...]:
        """Index of the point along the leading axes of the series."""
        return tuple(i for i in (self.time, self.channel) if i is not None)

    @property
    def words(self) -> str:
        """Text for messages: ``"time point 3, channel 1"``."""
        named = (("time point", self.time), ("channel", self.channel))
        return ", ".join(f"{word} {i}" for word, i in named if i is not None)

    def to_dict(self) -> dict[str, int]:
        """Return the time point and the channel as a dictionary for the record."""
        named = {"time": self.time, "channel": self.channel}
        return {word: i for word, i in named.items() if i is not None}


@dataclass(frozen=True)
class SeriesPlan:
    """A volume with axes T, C or both, and its points.

    A point is one time point of one channel.

    Attributes
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X), including T or C.
    """

    volume: Volume

    @property
    def n_leading(self) -> int:
        """Number of non-spatial axes."""
        return len(self.volume.axes) - len(self.volume.spatial_axes)

    @property
    def channels(self) -> tuple[int | None, ...]:
        """The channels; a single None if there is no channel axis."""
        if "C" not in self.volume.axes:
            return (None,)
        return tuple(range(self.volume.length("C")))

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All points, in storage order."""
        times: tuple[int | None, ...] = (None,)
        if "T" in self.volume.axes:
            times = tuple(range(self.volume.length("T")))
        return tuple(Point(t, c) for t in times for c in self.channels)

    @property
    def words(self) -> str:
        """Text for messages: ``"48 time points × 3 channels"``."""
        named = (("T", "time point"), ("C", "channel"))
        counts = [
            f"{n} {word}{'' if n == 1 else 's'}"
            for axis, word in named
            if axis in self.volume.axes and (n := self.volume.length(axis))
        ]
        return " × ".join(counts)

    def of_channel(
        self, channel: int | Sequence[int | None] | None, sentence: str
    ) -> str:
        """Return a sentence together with the channels to which it applies.

        The sentence is unchanged if there is only one channel.
        """
        if len(self.channels) == 1:
            return sentence
        several = channel if isinstance(channel, Sequence) else (channel,)
        numbers = ", ".join(map(str, several))
        channels = f"channel{'s' if len(several) > 1 else ''} {numbers}"
        for level in _LEVELS:
            if sentence.startswith(f"{level}: "):
                return sentence.replace(level, f"{level} for {channels}", 1)
        return f"{channels.capitalize()}: {sentence}"

    def at(self, point: Point) -> Volume:
        """Return the volume (Z, Y, X) or image (Y, X) at a point; no voxel is read."""
        return self.volume.take(time=point.time, channel=point.channel)

    def typical(self, channel: int | None) -> Point:
        """Return the non-blank time point nearest to the middle.

        This is usually the middle time point. Only the middle plane of each examined
        time point is read. If all are blank, the middle time point is returned.
        """
        points = [p for p in self.points if p.channel == channel]
        middle = len(points) // 2
        nearest = sorted(range(len(points)), key=lambda i: abs(i - middle))
        varying = (points[i] for i in nearest if self.varies(points[i]))
        return next(varying, points[middle])

    def varies(self, point: Point) -> bool:
        """Return whether the middle plane of a point has more than one grey value."""
        volume = self.at(point)
        key = () if volume.axes == "YX" else (volume.shape[0] // 2,)
        plane = np.asarray(volume.data[key])
        values = plane[np.isfinite(plane)]
        return bool(values.size) and bool(values.min() < values.max())

    def planes(self, channel: int | None) -> Volume:
        """Return all planes of a channel, over all time points, as one volume.

        Use it only for statistics, because planes of different time points are not
        neighbours. A channel with a single time point is returned unchanged. No voxel
        is read.
        """
        whole = self.volume.take(channel=channel)
        if "T" not in whole.axes:
            return whole
        if whole.length("T") == 1:
            return whole.take(time=0)
        if whole.axes == "TZYX":
            path = Path(whole.title) if whole.source is None else whole.source
            source = _SeriesPlanes(whole.data)
            data = LazyArray(source, path, (1, *source.shape[1:]), cache_bytes=0)
            whole = whole.replace(data=data, axes="ZYX")
            return whole
        # A time step has no length, so use the voxel size along Y for the slices.
        size, origin = whole.voxel_size, whole.origin
        return whole.replace(
            axes="ZYX", voxel_size=(size[0], *size), origin=(0.0, *origin)
        )


def refuse_series_check(volume: Volume) -> None:
    """Raise `ConfigError` if a consistency check would cover several points."""
    plan = SeriesPlan(volume)
    if len(plan.points) > 1:
        words = [
            w for a, w in (("T", "--time"), ("C", "--channel")) if a in volume.axes
        ]
        raise ConfigError(
            f"{volume.title} has {plan.words}, but --check-consistency compares only "
            "one volume with one scan. Choose one time point and channel "
            f"({' and '.join(words)}), or omit --check-consistency."
        )


def noise_of_points(
    volume: Volume, *, second: Volume | None = None
) -> Iterator[tuple[Point | None, Noise | str]]:
    """Measure the noise of a volume, or of each channel of a series.

    In a time series, the noise is measured at the non-blank time point closest to the
    middle.

    Parameters
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X).
    second : Volume, optional
        Another scan of the same object, with the same axes and shape.

    Yields
    ------
    point : Point or None
        The measured time point and channel; None for a single volume.
    noise : Noise or str
        The noise or, for a channel in which nothing can be measured, the reason.

    Raises
    ------
    VolumeError
        If the second scan has another shape, or no channel can be measured.
    """
    if second is not None and (second.axes, second.shape) != (
        volume.axes,
        volume.shape,
    ):
        raise VolumeError(
            f"{second.title} has {_size(second)} and {volume.title} {_size(volume)}: a "
            "second scan must have the same axes and shape."
        )
    if not is_series(volume):
        yield None, run_to_end(noise_steps(volume, second=second))
        return
    plan = SeriesPlan(volume)
    failure = None
    n_measured = 0
    for channel in plan.channels:
        point = plan.typical(channel)
        other = None if second is None else SeriesPlan(second).at(point)
        try:
            noise = run_to_end(noise_steps(plan.at(point), second=other))
        except VolumeError as error:
            failure = error
            yield point, str(error)
            continue
        n_measured += 1
        yield point, noise
    if failure is not None and not n_measured:
        raise failure


def _size(volume: Volume) -> str:
    shape = " × ".join(map(str, volume.shape))
    return f"{shape} voxels ({', '.join(volume.axes)})"


class _SeriesPlanes:
    """A `VoxelSource` of the planes of all time points in succession.

    Parameters
    ----------
    data : array-like of shape (T, Z, Y, X)
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        n_times, self.depth, rows, columns = (int(n) for n in data.shape)
        self.shape = (n_times * self.depth, rows, columns)
        self.dtype = np.dtype(data.dtype)

    def __getitem__(self, key: Slices) -> AnyArray:
        planes, *plane = key
        parts = []
        start = planes.start
        while start < planes.stop:
            time, z = divmod(start, self.depth)
            n = min(self.depth - z, planes.stop - start)
            parts.append(np.asarray(self.data[(time, slice(z, z + n), *plane)]))
            start += n
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


class PointView:
    """The part of a zarr or buffered array at one point; writes go to the array.

    Parameters
    ----------
    array : array-like
        Supports ``array[key] = block``; may have ``held_bytes``, ``buffer_bytes`` and
        ``chunks``.
    index : tuple of int
        Index along the leading axes.
    """

    def __init__(self, array: Any, index: tuple[int, ...]) -> None:
        self._array, self._index = array, index
        self.shape = tuple(int(n) for n in array.shape[len(index) :])
        self.dtype = np.dtype(array.dtype)
        self.ndim = len(self.shape)
        chunks = getattr(array, "chunks", None)
        self.chunks = None if chunks is None else tuple(chunks[len(index) :])

    @property
    def held_bytes(self) -> int:
        """Maximum memory of the array in bytes, in addition to the written blocks."""
        return int(getattr(self._array, "held_bytes", 0))

    @property
    def buffer_bytes(self) -> int | None:
        """Size of the array's write buffer in bytes; None if it has none."""
        return getattr(self._array, "buffer_bytes", None)

    @buffer_bytes.setter
    def buffer_bytes(self, nbytes: int) -> None:
        self._array.buffer_bytes = nbytes

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[self._whole(key)] = value

    def __getitem__(self, key: Any) -> Any:
        return self._array[self._whole(key)]

    def _whole(self, key: object) -> tuple[Any, ...]:
        return (*self._index, *(key if isinstance(key, tuple) else (key,)))


def view_at(array: object, index: tuple[int, ...]) -> Any:
    """Return the part of `array` at `index` along its leading axes, for writing."""
    return array[index] if isinstance(array, np.ndarray) else PointView(array, index)


def targets_at(targets: Targets, index: tuple[int, ...], axes: str) -> Targets:
    """Return the parts of `targets` for a run over one point, without the files.

    Parameters
    ----------
    axes : str
        Axes of the point, ``"ZYX"`` or ``"YX"``.
    """

    def part(target: Target) -> Target:
        """Return the part of a target at the point."""
        return Target(
            target.volume.replace(data=view_at(target.array, index), axes=axes)
        )

    deviation = None if targets.deviation is None else part(targets.deviation)
    return Targets(part(targets.result), deviation)
