"""Illumination patterns of structured illumination: periodic fringes, or images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL

FloatArray = npt.NDArray[np.float32]

#: Largest modulation of the fundamental in a file; estimates may slightly exceed 1.
_MAX_MODULATION = 1.5
#: Largest accepted difference, in degrees, between the direction that a file states and
#: that of the wave vector.
_MAX_TURN = 0.1
#: Largest accepted relative difference between the period that a file states and that
#: of the wave vector.
_MAX_STRETCH = 1e-3


@dataclass(frozen=True)
class FringePattern:
    """Periodic illumination in one direction: a Fourier series, at several phases.

    The illumination of frame n at position x, relative to the mean of all frames, is
    ``intensity[n] · (1 + Σ_h modulation[h-1] · cos(h (2π k·(x - c) + phase[n])))``,
    where c is the centre of the field of view.

    Attributes
    ----------
    wave_vector : (float, float)
        (ky, kx) in cycles per camera pixel.
    phases : tuple of float
        Phase of each frame at the centre of the field, in radians.
    modulation : tuple of float
        Amplitude of each harmonic, the fundamental first.
    intensity : tuple of float
        Mean intensity of each frame relative to the mean of all frames.
    """

    wave_vector: tuple[float, float]
    phases: tuple[float, ...]
    modulation: tuple[float, ...] = (1.0,)
    intensity: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.intensity:
            object.__setattr__(self, "intensity", (1.0,) * len(self.phases))

    @property
    def harmonics(self) -> int:
        """Number of harmonics."""
        return len(self.modulation)

    @property
    def frequency(self) -> float:
        """Length of the wave vector in cycles per camera pixel."""
        return math.hypot(*self.wave_vector)

    @property
    def direction(self) -> float:
        """Direction of the wave vector, 0 to 180 degrees; 0 is along X, 90 along Y."""
        return math.degrees(math.atan2(*self.wave_vector)) % 180

    def terms(self, harmonic: int = 1) -> npt.NDArray[np.complex128]:
        """Return the factor ``exp(i h φ_n)`` of each frame."""
        return np.exp(1j * harmonic * np.asarray(self.phases))

    def mixing(self) -> npt.NDArray[np.float64]:
        """Return the weights, in each frame, of 1 and of cos and sin of each harmonic.

        Returns
        -------
        ndarray of shape (phases, 1 + 2 harmonics)
        """
        columns = [np.ones(len(self.phases))]
        for h, amplitude in enumerate(self.modulation, start=1):
            term = self.terms(h)
            columns += [amplitude * term.real, -amplitude * term.imag]
        found: npt.NDArray[np.float64] = np.stack(columns, 1)
        found = found * np.asarray(self.intensity)[:, None]
        return found


@dataclass(frozen=True, eq=False)
class PatternSet:
    """Illumination patterns of all frames of a plane.

    Attributes
    ----------
    fringes : tuple of FringePattern
        One for each angle; empty if the patterns are images.
    images : ndarray of shape (frames, Y, X), float32, or None
        Patterns of any kind, on the grid of the camera or a multiple of it; their mean
        is 1.
    shape : (int, int)
        Rows and columns of the camera frames.
    pixel_size : float
        Edge length of a camera pixel in `unit`.
    unit : str
    confidence : tuple of float
        For each angle, height of the correlation peak relative to the median; empty
        if the patterns were given.
    """

    fringes: tuple[FringePattern, ...]
    shape: tuple[int, int]
    pixel_size: float = 1.0
    unit: str = PIXEL
    images: FloatArray | None = field(default=None, repr=False)
    confidence: tuple[float, ...] = ()

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        if self.images is not None:
            return len(self.images)
        return sum(len(fringe.phases) for fringe in self.fringes)

    @property
    def harmonics(self) -> int:
        """Number of harmonics; 0 for images."""
        return max((fringe.harmonics for fringe in self.fringes), default=0)

    def cropped(self, place: tuple[slice, slice]) -> PatternSet:
        """Return the patterns of a part of the field of view.

        Parameters
        ----------
        place : (slice, slice)
            Rows and columns, with explicit start and stop.
        """
        shape = tuple(part.stop - part.start for part in place)
        moved = [
            (part.start + part.stop - 1) / 2 - (n - 1) / 2
            for part, n in zip(place, self.shape, strict=True)
        ]
        fringes = tuple(
            FringePattern(
                fringe.wave_vector,
                tuple(
                    phase + 2 * math.pi * float(np.dot(fringe.wave_vector, moved))
                    for phase in fringe.phases
                ),
                fringe.modulation,
                fringe.intensity,
            )
            for fringe in self.fringes
        )
        images = self.images
        if images is not None:
            times = images.shape[-1] // self.shape[1]
            rows, columns = (
                slice(part.start * times, part.stop * times) for part in place
            )
            images = images[:, rows, columns]
        return PatternSet(
            fringes,
            (shape[0], shape[1]),
            self.pixel_size,
            self.unit,
            images,
            self.confidence,
        )

    def to_dict(self) -> AnyDict:
        """Return the patterns as values of a YAML or JSON file.

        Raises
        ------
        ConfigError
            If the patterns are images, which such a file cannot hold.
        """
        if self.images is not None:
            raise ConfigError(
                "Patterns given as images cannot be written as settings. Keep the "
                "image file instead."
            )
        rows = []
        for i, fringe in enumerate(self.fringes):
            row: AnyDict = {
                "wave_vector": [float(k) for k in fringe.wave_vector],
                "cycles_per_field": [
                    float(k * n)
                    for k, n in zip(fringe.wave_vector, self.shape, strict=True)
                ],
                "direction_degrees": fringe.direction,
                "period": self.pixel_size / fringe.frequency,
                "phases_degrees": [math.degrees(p) % 360 for p in fringe.phases],
                "modulation": [
                    float(np.clip(m, -_MAX_MODULATION, _MAX_MODULATION))
                    for m in fringe.modulation
                ],
                "intensity": [float(v) for v in fringe.intensity],
            }
            if self.confidence:
                row["confidence"] = float(self.confidence[i])
            rows.append(row)
        return {
            "shape": list(self.shape),
            "pixel_size": self.pixel_size,
            "unit": self.unit,
            "phase_reference": "centre of the field of view",
            "wave_vector_unit": "cycles per camera pixel (y, x)",
            "angles": rows,
        }

    @classmethod
    def from_dict(cls, values: AnyMapping, name: str = "patterns") -> PatternSet:
        """Create a pattern set from the values that `to_dict` returned.

        Raises
        ------
        ConfigError
            If a value is missing or invalid, or the numbers of phases differ.
        """
        try:
            fringes = tuple(
                _fringe(row, number) for number, row in enumerate(values["angles"], 1)
            )
            y, x = (int(n) for n in values["shape"])
            size, unit = float(values.get("pixel_size", 1)), values.get("unit", PIXEL)
            for row, fringe in zip(values["angles"], fringes, strict=True):
                _check_same(row, fringe, size)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{name} does not describe illumination patterns ({error}). Use a file "
                "written by 'napari-geosr sim check', or images of the patterns."
            ) from error
        if not fringes or len({len(f.phases) for f in fringes}) != 1:
            raise ConfigError(
                f"{name} must give the same number of phases for every angle."
            )
        return cls(fringes, (y, x), size, str(unit))


def _fringe(row: AnyMapping, number: int) -> FringePattern:
    ky, kx = (float(k) for k in row["wave_vector"])
    phases = tuple(math.radians(float(p)) for p in row["phases_degrees"])
    modulation = _floats(row.get("modulation", (1.0,)))
    intensity = _floats(row.get("intensity", ()))
    numbers = (ky, kx, *phases, *modulation, *intensity)
    if not all(math.isfinite(n) for n in numbers) or not (ky or kx):
        raise ValueError("a number is not finite, or a wave vector is zero")
    if intensity and len(intensity) != len(phases):
        raise ValueError("one intensity for each phase is needed")
    if not modulation or not 0 < abs(modulation[0]) <= _MAX_MODULATION:
        raise ValueError(
            f"the modulation of angle {number} must be above 0 and at most "
            f"{_MAX_MODULATION:g}"
        )
    if any(value <= 0 for value in intensity):
        raise ValueError(f"one of the intensities for angle {number} is not positive")
    return FringePattern((ky, kx), phases, modulation, intensity)


def _check_same(row: AnyMapping, fringe: FringePattern, size: float) -> None:
    """Refuse a direction or period that contradicts the wave vector of a file."""
    if (direction := row.get("direction_degrees")) is not None:
        difference = (float(direction) - fringe.direction + 90) % 180 - 90
        if abs(difference) > _MAX_TURN:
            raise ValueError(
                f"direction_degrees is {float(direction):g}, but the wave vector has "
                f"the direction {fringe.direction:.4g}: edit wave_vector, and remove "
                "direction_degrees"
            )
    if (period := row.get("period")) is not None:
        expected = size / fringe.frequency
        if abs(float(period) - expected) > _MAX_STRETCH * expected:
            raise ValueError(
                f"period is {float(period):g}, but the wave vector has the period "
                f"{expected:.4g}: edit wave_vector, and remove period"
            )


def _floats(value: object) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else (value,)
    return tuple(float(v) for v in values)
