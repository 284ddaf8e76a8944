"""Raw frames of structured illumination microscopy (SIM): their order and optics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import at_indices
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.file_warnings import IS_COLOUR
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.sim_frames.optics import Optics
from napari_geosr.core.sim_frames.order import (
    ORDER_PRESETS,
    ORDERS,
    best_counts,
    guess_order,
    order_misfits,
    unclear_order,
)
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume

__all__ = [
    "ORDERS",
    "ORDER_PRESETS",
    "Optics",
    "SimFrames",
    "best_counts",
    "guess_order",
    "order_misfits",
    "unclear_order",
]

FloatArray = npt.NDArray[np.float32]

#: Usual numbers of angles and phases, by the number of recorded frames.
USUAL_COUNTS: dict[int, tuple[int, int]] = {
    9: (3, 3),
    15: (3, 5),
    25: (5, 5),
    35: (5, 7),
    45: (5, 9),
}


@dataclass(frozen=True, eq=False)
class SimFrames:
    """Raw frames of structured illumination, read plane by plane.

    Attributes
    ----------
    volume : Volume
        The raw file or layer; its voxels may stay on disk.
    angles, phases : int
        Number of pattern directions, and number of phases per direction.
    order : str
        Letters a (angle), p (phase) and z (slice), slowest-varying first.
    frame_axes : str
        Axes of `volume` along which angles, phases and slices are interleaved.
    optics : Optics
    offsets : tuple of float
        Grey value without light in each channel, subtracted when frames are read; a
        single value applies to all channels.
    psf : Volume or None
        Point-spread function, if it is not in a file.
    patterns : PatternSet, mapping, Volume or None
        Known patterns, if they are not in a file; a volume has one image per frame.

    Examples
    --------
    >>> import numpy as np
    >>> raw = Volume(np.zeros((9, 64, 64), "f4"), "ZYX", (1, 0.065, 0.065), "µm")
    >>> frames = SimFrames.from_volume(raw, angles=3, phases=3, order="apz")
    >>> frames.frames().shape
    (3, 3, 64, 64)
    """

    volume: Volume
    angles: int
    phases: int
    order: str
    frame_axes: str
    optics: Optics = field(default_factory=Optics)
    offsets: tuple[float, ...] = (0.0,)
    psf: Volume | None = None
    patterns: PatternSet | AnyMapping | Volume | None = None

    @classmethod
    def from_volume(
        cls,
        volume: Volume,
        *,
        angles: int | None = None,
        phases: int | None = None,
        order: str | None = None,
        optics: Optics | None = None,
        offset: float = 0.0,
    ) -> SimFrames:
        """Find the frames in a volume.

        Parameters
        ----------
        volume : Volume
            Angles, phases and slices lie along one of its axes T, C and Z, or along
            several of them.
        angles, phases : int, optional
            By default derived from the number of frames if it is 9, 15, 25, 35 or 45;
            otherwise 3.
        order : str, optional
            Letters a (angle), p (phase) and z (slice), slowest-varying first. By
            default guessed from the frames (`guess_order`).
        optics : Optics, optional
        offset : float

        Raises
        ------
        VolumeError
            If the number of frames does not fit, or the frames are in colour.
        ConfigError
            If there is no such order.
        """
        _check_grey(volume)
        if order is not None and sorted(order) != sorted("apz"):
            raise ConfigError(
                f"{order!r} is not an order of frames. Use each of the letters a "
                "(angle), p (phase) and z (slice) once, such as apz (--order)."
            )
        possible = [
            cls(
                volume,
                *counts,
                order or "apz",
                axes,
                optics or Optics(),
                (offset,),
            )
            for counts in possible_counts(volume, angles, phases)
            for axes in possible_axes(volume, math.prod(counts))
        ]
        found = possible[0] if len(possible) == 1 else best_counts(possible, order)
        if order is None:
            found = replace(found, order=guess_order(found)[0])
        return found

    @property
    def n_frames(self) -> int:
        """Number of frames of one plane."""
        return self.angles * self.phases

    @property
    def n_planes(self) -> int:
        """Number of slices."""
        return self._count("Z")

    @property
    def n_times(self) -> int:
        """Number of time points."""
        return self._count("T")

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self._count("C")

    def _count(self, axis: str) -> int:
        if axis == self.plane_axis:
            return self._interleaved_planes
        return self.volume.length(axis) if axis in self.kept_axes else 1

    @property
    def kept_axes(self) -> str:
        """Axes of `volume` along which no frames are interleaved."""
        return "".join(a for a in self.volume.axes if a not in self.frame_axes)

    @property
    def plane_axis(self) -> str:
        """Axis (Z, T or C) along which planes are interleaved with the frames.

        If frames are interleaved along one axis, this is that axis: in a time series,
        the planes are time points. If frames are interleaved along several axes that
        include Z, the planes are slices.
        """
        return next((a for a in "ZTC" if a in self.frame_axes), "Z")

    @property
    def result_axes(self) -> str:
        """Axes of a result: those of `volume` without the frames of a plane."""
        kept = [a for a in self.kept_axes if a not in "ZYX"]
        if self._interleaved_planes > 1 and self.plane_axis != "Z":
            kept = [a for a in self.volume.axes if a in (*kept, self.plane_axis)]
        return "".join(kept) + "Z" * (self.n_planes > 1) + "YX"

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Number of rows and columns of a frame."""
        y, x = self.volume.shape[-2:]
        return y, x

    @property
    def pixel_size(self) -> float:
        """Edge length of a camera pixel in the sample, in the unit of the volume."""
        return self.volume.voxel_size[-1]

    def cut_off(self, channel: int = 0) -> float | None:
        """Return the highest transmitted frequency in cycles per pixel, or None."""
        return self.optics.cut_off(self.pixel_size, self.volume.unit, channel)

    @property
    def offset(self) -> float:
        """Grey value without light in the first channel."""
        return self.offsets[0]

    def channel_offset(self, channel: int = 0) -> float:
        """Return the grey value without light in a channel."""
        return self.offsets[channel if len(self.offsets) > 1 else 0]

    def where(self, plane: int | None = None, time: int = 0, channel: int = 0) -> str:
        """Name a plane in a message, e.g. as ``" (time point 2, slice 1)"``.

        Time points, channels and slices are counted from 1, and omitted if there is
        only one. The slice is also omitted if `plane` is None.
        """
        parts = [
            f"{name} {at + 1}"
            for name, at, n in (
                ("time point", time, self.n_times),
                ("channel", channel, self.n_channels),
                ("slice", plane, self.n_planes),
            )
            if n > 1 and at is not None
        ]
        return f" ({', '.join(parts)})" if parts else ""

    def index(
        self, angle: int, phase: int, plane: int = 0, time: int = 0, channel: int = 0
    ) -> int:
        """Return the position of a frame along the interleaved axes.

        Only one of `plane`, `time` and `channel` has an effect: the one that is
        interleaved with the frames.
        """
        lengths = {"a": self.angles, "p": self.phases, "z": self._interleaved_planes}
        z = {"Z": plane, "T": time, "C": channel}[self.plane_axis]
        if self._interleaved_planes == 1:
            z = 0
        places = {"a": angle, "p": phase, "z": z}
        shape = tuple(lengths[letter] for letter in self.order)
        at = tuple(places[letter] for letter in self.order)
        return int(np.ravel_multi_index(at, shape))

    @property
    def _interleaved_planes(self) -> int:
        lengths = (self.volume.length(axis) for axis in self.frame_axes)
        return math.prod(lengths) // self.n_frames

    def possible_orders(self) -> list[str]:
        """Return the orders that the frames can have, the most common first.

        The time point always varies most slowly.
        """
        known = [*ORDER_PRESETS, *(o for o in ORDERS if o not in ORDER_PRESETS)]
        is_series = self.plane_axis == "T" and self._interleaved_planes > 1
        return [o for o in known if o[0] == "z"] if is_series else known

    def with_order(self, order: str) -> SimFrames:
        """Return the same images in another order."""
        return replace(self, order=order)

    def middle(self) -> tuple[int, int, int]:
        """Return the slice, time point and channel of a plane in the middle.

        The first time point and channel are used, unless they are interleaved with the
        frames.
        """
        found = {"Z": self.n_planes // 2, "T": 0, "C": 0}
        found[self.plane_axis] = self._count(self.plane_axis) // 2
        return found["Z"], found["T"], found["C"]

    def plane_at(self, places: Mapping[str, int]) -> tuple[int, int, int]:
        """Return the slice, time point and channel of an image of `volume`.

        Parameters
        ----------
        places : mapping of str to int
            Position along each axis T, C and Z; missing ones are 0.
        """
        lengths = [self.volume.length(axis) for axis in self.frame_axes]
        at = np.ravel_multi_index([places.get(a, 0) for a in self.frame_axes], lengths)
        counts = {"a": self.angles, "p": self.phases, "z": self._interleaved_planes}
        shape = [counts[letter] for letter in self.order]
        z = int(np.unravel_index(int(at), shape)[self.order.index("z")])
        found = {a: places.get(a, 0) if a in self.kept_axes else 0 for a in "ZTC"}
        if self._interleaved_planes > 1:
            found[self.plane_axis] = z
        return found["Z"], found["T"], found["C"]

    def frame(
        self, angle: int, phase: int, plane: int = 0, time: int = 0, channel: int = 0
    ) -> FloatArray:
        """Return one frame of shape (Y, X), with the offset subtracted."""
        kept = self.kept_axes
        at = self.index(angle, phase, plane, time, channel)
        lengths = tuple(self.volume.length(axis) for axis in self.frame_axes)
        at_axes = (int(i) for i in np.unravel_index(at, lengths))
        places = dict(zip(self.frame_axes, at_axes, strict=True))
        places |= {"T": time} if "T" in kept else {}
        places |= {"C": channel} if "C" in kept else {}
        places |= {"Z": plane} if "Z" in kept else {}
        axes = self.volume.axes
        indices = {axes.index(axis): i for axis, i in places.items()}
        values = np.asarray(at_indices(self.volume.data, indices), np.float32)
        return values - np.float32(self.channel_offset(channel))

    def frames(self, plane: int = 0, time: int = 0, channel: int = 0) -> FloatArray:
        """Return all frames of one plane.

        Returns
        -------
        ndarray of shape (angles, phases, Y, X), float32
            Raw frames with the offset subtracted; NaN and infinity are not removed.
        """
        found = np.empty((self.angles, self.phases, *self.plane_shape), np.float32)
        for angle, phase in np.ndindex(self.angles, self.phases):
            found[angle, phase] = self.frame(angle, phase, plane, time, channel)
        return found


def _check_grey(volume: Volume) -> None:
    if volume.metadata.get(IS_COLOUR):
        raise VolumeError(
            f"{volume.title} contains colour images, but structured illumination needs "
            "the grey values of the camera. Export the raw frames as a greyscale "
            "stack, not as RGB; in Python, write them with tifffile.imwrite(…, "
            "photometric='minisblack')."
        )
    if volume.dtype.kind == "b":
        raise VolumeError(
            f"{volume.title} is a mask, with only the values true and false. Choose "
            "the raw frames."
        )


def possible_counts(
    volume: Volume, angles: int | None = None, phases: int | None = None
) -> list[tuple[int, int]]:
    """Return the usual numbers of angles and phases that fit, the most probable first.

    Parameters
    ----------
    volume : Volume
    angles, phases : int, optional
        Known numbers.
    """
    if angles and phases:
        return [(angles, phases)]
    lengths = [volume.length(axis) for axis in "TCZ"]
    usual = list(USUAL_COUNTS.values())
    if angles or phases:
        for n in lengths:
            for one, other in usual:
                is_same = (angles or one, phases or other) == (one, other)
                if is_same and n > 1 and n % (one * other) == 0:
                    return [(one, other)]
        return [(angles or 3, phases or 3)]
    total = math.prod(lengths)
    exact = [USUAL_COUNTS[n] for n in (*lengths, total) if n in USUAL_COUNTS]
    fitting = [
        counts
        for counts in usual
        if any(n > 1 and n % math.prod(counts) == 0 for n in lengths)
    ]
    found = [*exact[:1], *fitting]
    return list(dict.fromkeys(found)) or [(3, 3)]


def possible_axes(volume: Volume, n_frames: int) -> list[str]:
    """Return the axes along which frames can be interleaved, most probable first.

    Raises
    ------
    VolumeError
        If no combination of axes has a multiple of `n_frames` images.
    """
    present = [a for a in "TCZ" if volume.length(a) > 1]
    lengths = {a: volume.length(a) for a in present}
    exact = [a for a in "ZCT" if lengths.get(a) == n_frames]
    multiple = [a for a in "ZTC" if lengths.get(a, 1) % n_frames == 0 and a in lengths]
    if exact or multiple:
        return list(dict.fromkeys((*exact, *multiple)))
    for number in (2, 3):
        for axes in itertools.combinations(present, number):
            total = math.prod(lengths[a] for a in axes)
            if total == n_frames or (number == len(present) and total % n_frames == 0):
                return ["".join(axes)]
    images = math.prod(lengths.values())
    shown = ", ".join(f"{a} {n}" for a, n in lengths.items()) or "2D"
    raise VolumeError(
        f"{volume.title} has {images} image{'s' * (images != 1)} ({shown}), which is "
        f"not a multiple of the {n_frames} frames of one plane. Check that the stack "
        "is complete and that --angles and --phases match the acquisition."
    )
