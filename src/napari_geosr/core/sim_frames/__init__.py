"""Raw frames of structured illumination microscopy (SIM): their order and optics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import at_indices
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float32]

#: Common orders of angle (a), phase (p) and slice (z), slowest-varying first, with
#: their descriptions.
ORDER_PRESETS: dict[str, str] = {
    "apz": "angle, then phase, then slice",
    "azp": "angle, then slice, then phase (OMX)",
    "zap": "slice, then angle, then phase (OMX, fast)",
    "paz": "phase, then angle, then slice",
}
#: All possible orders of these letters.
ORDERS = tuple("".join(letters) for letters in itertools.permutations("apz"))
#: Usual numbers of angles and phases, by the number of recorded frames.
USUAL_COUNTS: dict[int, tuple[int, int]] = {
    9: (3, 3),
    15: (3, 5),
    25: (5, 5),
    35: (5, 7),
    45: (5, 9),
}
#: Maximum of the resolution limit of the objective, λ/(2 NA), in pixels; if it is
#: exceeded, the pixel size probably has the wrong unit.
_MAX_PIXELS = 50
#: Minimum of this resolution limit, in pixels.
_MIN_PIXELS = 0.25
#: Maximum edge, in pixels, of the central region from which the order is guessed.
_GUESS_EDGE = 256
#: Maximum ratio of the best order's misfit to that of another order at which the two
#: can be distinguished. The ratio is 0.15 to 0.8 for frames in a regular order, and
#: 0.96 or more for shuffled frames.
_CLEAR = 0.9


@dataclass(frozen=True)
class Optics:
    """Properties of the microscope that determine its resolution.

    Attributes
    ----------
    numerical_aperture : float or None
    wavelengths : tuple of float
        Emission wavelength of each channel in nm; a single value applies to all.
    refractive_index : float
        Refractive index of the immersion medium.
    """

    numerical_aperture: float | None = None
    wavelengths: tuple[float, ...] = ()
    refractive_index: float = 1.515

    def __post_init__(self) -> None:
        aperture, index = self.numerical_aperture, self.refractive_index
        if aperture is not None and aperture > index:
            raise ConfigError(
                f"The numerical aperture {aperture:g} exceeds the refractive index "
                f"{index:g}, which is impossible. Correct one of them (--na, --index)."
            )

    def wavelength(self, channel: int = 0) -> float | None:
        """Return the emission wavelength of a channel in nm; None if unknown."""
        if len(self.wavelengths) <= 1:
            return next(iter(self.wavelengths), None)
        if channel >= len(self.wavelengths):
            raise ConfigError(
                f"Channel {channel} has no wavelength: {len(self.wavelengths)} are "
                "given. Give one for each channel, or one for all (--wavelength)."
            )
        return self.wavelengths[channel]

    def cut_off(self, pixel_size: float, unit: str, channel: int = 0) -> float | None:
        """Return the highest frequency that the optics transmit, in cycles per pixel.

        Parameters
        ----------
        pixel_size : float
            Edge length of a camera pixel in the sample, in `unit`.
        unit : str

        Returns
        -------
        float or None
            None if numerical aperture, wavelength or pixel size is unknown.

        Raises
        ------
        ConfigError
            If pixel size and wavelength cannot both be right.
        """
        wavelength = self.wavelength(channel)
        if self.numerical_aperture is None or wavelength is None or unit == PIXEL:
            return None
        half_period = wavelength / (2 * self.numerical_aperture)
        pixel = convert_length(pixel_size, unit, "nm")
        if not pixel * _MIN_PIXELS < half_period < pixel * _MAX_PIXELS:
            raise ConfigError(
                f"A pixel of {pixel_size:g} {unit} cannot be right: the resolution of "
                f"the objective, λ/(2 NA) = {half_period:.4g} nm, would be "
                f"{half_period / pixel:.3g} pixels. Check the unit of the pixel size "
                "(--pixel) and the wavelength (--wavelength)."
            )
        return pixel / half_period


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
    offset : float
        Grey value without light, subtracted when frames are read.

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
    optics: Optics = Optics()
    offset: float = 0.0

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
        angles, phases = _counts(volume, angles, phases)
        axes = _frame_axes(volume, angles * phases)
        if order is not None and sorted(order) != sorted("apz"):
            raise ConfigError(
                f"{order!r} is not an order of frames. Use each of the letters a "
                "(angle), p (phase) and z (slice) once, such as apz (--order)."
            )
        found = cls(
            volume, angles, phases, order or "apz", axes, optics or Optics(), offset
        )
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
        lengths = (self.volume.length(axis) for axis in self.frame_axes)
        interleaved = math.prod(lengths) // self.n_frames
        return interleaved * (("Z" in self.kept_axes and self.volume.length("Z")) or 1)

    @property
    def n_times(self) -> int:
        """Number of time points."""
        return self.volume.length("T") if "T" in self.kept_axes else 1

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.volume.length("C") if "C" in self.kept_axes else 1

    @property
    def kept_axes(self) -> str:
        """Axes of `volume` along which no frames are interleaved."""
        return "".join(a for a in self.volume.axes if a not in self.frame_axes)

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

    def index(self, angle: int, phase: int, plane: int = 0) -> int:
        """Return the position of a frame along the interleaved axes."""
        lengths = {"a": self.angles, "p": self.phases, "z": self._interleaved_planes}
        places = {"a": angle, "p": phase, "z": plane}
        shape = tuple(lengths[letter] for letter in self.order)
        at = tuple(places[letter] for letter in self.order)
        return int(np.ravel_multi_index(at, shape))

    @property
    def _interleaved_planes(self) -> int:
        lengths = (self.volume.length(axis) for axis in self.frame_axes)
        return math.prod(lengths) // self.n_frames

    def plane_at(self, places: Mapping[str, int]) -> tuple[int, int, int]:
        """Return slice, time point and channel of an image of `volume`.

        Parameters
        ----------
        places : mapping of str to int
            Position along each axis T, C and Z; missing ones are 0.
        """
        lengths = [self.volume.length(axis) for axis in self.frame_axes]
        at = np.ravel_multi_index([places.get(a, 0) for a in self.frame_axes], lengths)
        counts = {"a": self.angles, "p": self.phases, "z": self._interleaved_planes}
        shape = [counts[letter] for letter in self.order]
        plane = int(np.unravel_index(int(at), shape)[self.order.index("z")])
        found = {a: places.get(a, 0) if a in self.kept_axes else 0 for a in "ZTC"}
        return found["Z"] if "Z" in self.kept_axes else plane, found["T"], found["C"]

    def frame(
        self, angle: int, phase: int, plane: int = 0, time: int = 0, channel: int = 0
    ) -> FloatArray:
        """Return one frame of shape (Y, X), with the offset subtracted."""
        kept = self.kept_axes
        at = self.index(angle, phase, plane if "Z" not in kept else 0)
        lengths = tuple(self.volume.length(axis) for axis in self.frame_axes)
        at_axes = (int(i) for i in np.unravel_index(at, lengths))
        places = dict(zip(self.frame_axes, at_axes, strict=True))
        places |= {"T": time} if "T" in kept else {}
        places |= {"C": channel} if "C" in kept else {}
        places |= {"Z": plane} if "Z" in kept else {}
        axes = self.volume.axes
        indices = {axes.index(axis): i for axis, i in places.items()}
        values = np.asarray(at_indices(self.volume.data, indices), np.float32)
        return values - np.float32(self.offset)

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


def guess_order(frames: SimFrames) -> tuple[str, dict[str, float]]:
    """Return the most probable order of the frames, and how badly each order fits.

    The sum over the phases of one angle is the widefield image, whatever the angle:
    in the right order, these sums differ only by noise. The misfit is the root mean
    square of their deviations from their mean, relative to the contrast.

    Returns
    -------
    order : str
    misfit : dict of str to float
        Misfit by order; orders that cannot be distinguished have the same misfit, and
        the more common one is chosen.
    """
    plane_count = frames._interleaved_planes
    known = list(ORDER_PRESETS) + [o for o in ORDERS if o not in ORDER_PRESETS]
    middle = plane_count // 2
    y, x = frames.plane_shape
    rows, columns = (
        slice((n - min(n, _GUESS_EDGE)) // 2, (n + min(n, _GUESS_EDGE)) // 2)
        for n in (y, x)
    )
    misfit = {}
    for order in known:
        block = replace(frames, order=order).frames(middle)[..., rows, columns]
        means = block.mean(axis=(2, 3), keepdims=True)
        block = block * (means.mean() / np.where(means > 0, means, 1))
        sums = block.mean(axis=1)
        mean = sums.mean(axis=0)
        between = float(np.square(sums - mean).mean())
        contrast = float(mean.var())
        misfit[order] = math.sqrt(between / contrast) if contrast > 0 else 1.0
    best = min(misfit.values())
    order = next(o for o in known if misfit[o] <= best * (1 + 1e-6))
    return order, misfit


def unclear_order(misfit: Mapping[str, float]) -> tuple[str, str] | None:
    """Return two different orders that fit the frames about equally well, or None.

    Frames in neither order, such as shuffled frames or frames of another kind of
    acquisition, fit all orders equally badly.

    Parameters
    ----------
    misfit : mapping of str to float
        Misfit by order, from `guess_order`; orders with the same misfit assign the
        frames in the same way.

    Returns
    -------
    (str, str) or None
        The best order and its rival; None if the best one is clear.
    """
    best = min(misfit, key=lambda order: misfit[order])
    others = [o for o in misfit if misfit[o] > misfit[best] * (1 + 1e-6)]
    if not others:
        return None
    rival = min(others, key=lambda order: misfit[order])
    return (best, rival) if misfit[best] > _CLEAR * misfit[rival] else None


def _check_grey(volume: Volume) -> None:
    channels = volume.metadata.get("colour_channels") or volume.metadata.get("rgb")
    if channels:
        raise VolumeError(
            f"{volume.title} is a colour image; structured illumination needs "
            "greyscale frames. Export the raw frames in greyscale."
        )


def _counts(volume: Volume, angles: int | None, phases: int | None) -> tuple[int, int]:
    """Return the numbers of angles and phases; guess missing ones from axis lengths."""
    lengths = [volume.length(axis) for axis in "TCZ"]
    if angles and phases:
        return angles, phases
    if angles or phases:
        one = angles or phases or 1
        totals = [n for n in lengths if n > 1 and n % one == 0]
        for n in totals:
            for usual in USUAL_COUNTS.values():
                if (angles or usual[0], phases or usual[1]) == usual and (
                    n % math.prod(usual) == 0
                ):
                    return usual
        return angles or 3, phases or 3
    for n in (*lengths, math.prod(lengths)):
        if n in USUAL_COUNTS:
            return USUAL_COUNTS[n]
    return 3, 3


def _frame_axes(volume: Volume, n_frames: int) -> str:
    """Return the axes along which frames are interleaved.

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
        return (exact or multiple)[0]
    for number in (2, 3):
        for axes in itertools.combinations(present, number):
            total = math.prod(lengths[a] for a in axes)
            if total == n_frames or (number == len(present) and total % n_frames == 0):
                return "".join(axes)
    images = math.prod(lengths.values())
    shown = ", ".join(f"{a} {n}" for a, n in lengths.items()) or "2D"
    raise VolumeError(
        f"{volume.title} has {images} image{'s' * (images != 1)} ({shown}), which is "
        f"not a multiple of the {n_frames} frames of one plane. Check that the stack "
        "is complete and that --angles and --phases match the acquisition."
    )


def fields_of_view(shape: Sequence[int]) -> tuple[float, float]:
    """Return the centre (y, x) of a frame in pixels, to which pattern phases refer."""
    y, x = shape[-2:]
    return (y - 1) / 2, (x - 1) / 2
