"""Noise of a scan: its level at each grey value, and its correlation.

`Noise` is shared by all code that deals with noise: the estimator
(`napari_geosr.measure.noise`) returns it, networks are conditioned on it, and risk
estimates and verdicts are computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping

FloatArray = npt.NDArray[np.float64]

#: Key in the metadata of a volume for a `KnownNoise`.
KNOWN_NOISE = "known_noise"
#: Noise level, as a fraction of the contrast, below which noise cannot be distinguished
#: from texture and rounding errors.
FLOOR = 0.01


@dataclass(frozen=True)
class Noise:
    """Level and correlation of the noise of one scan, and how they were measured.

    Attributes
    ----------
    level : float
        Root-mean-square standard deviation over the sample, in grey values. 0 if the
        noise is too weak to be measured.
    contrast : float
        Contrast of the noise-free scan, in grey values: the distance from its 2nd to
        its 98th percentile. If dark pores are too rare to be included, it is the
        distance from the 0.1th to the 98th percentile.
    greys, levels : tuple of float
        Standard deviation of the noise (`levels`) at ascending noise-free grey values
        (`greys`), linear in between and constant beyond. A single entry applies to all
        grey values.
    correlation : mapping of str to float
        Correlation of the noise of adjacent voxels along each axis (``"z"``, ``"y"``,
        ``"x"``), -1 … 1; 0 means independent. Axes that a scan does not have are
        absent.
    white : float
        Fraction of the variance that is independent between voxels (rounding,
        interpolation, a camera behind the optics), 0 … 1. `correlation` is that of the
        total noise, which includes this part.
    cutoff : float or None
        If the remaining noise has the spectrum of filtered back-projection within
        slices: frequency at which the window of the filter reaches zero (Nyquist
        frequency = 1). None: the remaining noise is white noise after a Gaussian blur.
    interval : (float, float)
        Confidence interval of `level` (about 90 %), in grey values.
    source : str
        Source of the measurement: ``"scan"``, ``"repeat"`` (two scans of one object),
        ``"uniform"`` (a region or blank scan without structure), or ``"given"`` by
        the user.
    notes : tuple of str
        Sentences on what limits the estimate: clipping, rounding, smoothing, too few
        voxels.
    doubts : tuple of str
        Reasons why the level may be wrong, to be shown wherever it is used.
    second : float
        Noise level of the second scan, if there is one, relative to `level`.

    Examples
    --------
    >>> noise = Noise(level=5.0, contrast=100.0, greys=(0.0, 100.0), levels=(3.0, 6.0))
    >>> noise.relative
    0.05
    >>> noise.at([50.0]).tolist()
    [4.5]
    """

    level: float
    contrast: float
    greys: tuple[float, ...] = (0.0,)
    levels: tuple[float, ...] = ()
    correlation: Mapping[str, float] = field(default_factory=dict)
    white: float = 0.0
    cutoff: float | None = None
    interval: tuple[float, float] = (0.0, 0.0)
    source: str = "scan"
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    second: float = 1.0

    def __post_init__(self) -> None:
        if not self.levels:
            object.__setattr__(self, "levels", (self.level,) * len(self.greys))
        if len(self.greys) != len(self.levels):
            raise ConfigError("A noise curve needs one level for each grey value.")
        if any(b <= a for a, b in zip(self.greys, self.greys[1:], strict=False)):
            raise ConfigError(
                "The grey values of a noise curve must be in ascending order."
            )
        values = (self.level, self.contrast, *self.levels, *self.interval)
        if not all(map(math.isfinite, values)):
            raise ConfigError(
                "The noise level, its interval and the contrast must be finite."
            )
        if min(values) < 0:
            raise ConfigError("The noise level and the contrast must not be negative.")
        if self.interval[0] > self.interval[1]:
            raise ConfigError("The limits of an interval must be in ascending order.")

    @property
    def relative(self) -> float:
        """Level in units of the contrast; 0 for a scan without contrast."""
        return self.level / self.contrast if self.contrast > 0 else 0.0

    @property
    def is_negligible(self) -> bool:
        """Whether the noise is too weak to be worth removing."""
        return self.relative < FLOOR

    @property
    def bound(self) -> float:
        """Upper limit of the level in units of the contrast, at least `FLOOR`."""
        upper = self.interval[1] / self.contrast if self.contrast > 0 else 0.0
        return max(FLOOR, self.relative, upper)

    @property
    def is_measured(self) -> bool:
        """Whether there is a measured level, or the noise is known to be negligible.

        Without contrast, only an upper limit of 0 shows that noise is negligible.

        Examples
        --------
        >>> Noise(level=0.0, contrast=0.0, interval=(0.0, 0.3)).is_measured
        False
        >>> Noise(level=0.0, contrast=0.0).is_measured
        True
        """
        if self.contrast == 0:
            return self.level > 0 or self.interval[1] == 0
        return self.level > 0 or self.bound < 2 * FLOOR

    def at(self, grey: npt.ArrayLike) -> FloatArray:
        """Return the standard deviation at noise-free grey values."""
        values = np.asarray(grey, np.float64)
        return np.asarray(np.interp(values, self.greys, self.levels), np.float64)

    def scaled(self, factor: float) -> Noise:
        """Return the same noise, `factor` times as strong."""
        return replace(
            self,
            level=factor * self.level,
            levels=tuple(factor * level for level in self.levels),
            interval=(factor * self.interval[0], factor * self.interval[1]),
        )

    def standardised(self, mean: float, std: float) -> Noise:
        """Return the noise for grey values standardised as ``(grey - mean) / std``."""
        if not std > 0:
            raise ConfigError(
                "The standard deviation used to scale grey values must be positive."
            )
        return replace(
            self,
            level=self.level / std,
            contrast=self.contrast / std,
            greys=tuple((grey - mean) / std for grey in self.greys),
            levels=tuple(level / std for level in self.levels),
            interval=(self.interval[0] / std, self.interval[1] / std),
        )

    @classmethod
    def from_json_dict(cls, values: AnyMapping) -> Noise:
        """Create noise from the values of `to_json_dict`.

        Examples
        --------
        >>> noise = Noise(level=5.0, contrast=100.0, interval=(4.8, 5.2))
        >>> Noise.from_json_dict(noise.to_json_dict()) == noise
        True
        """
        names = {each.name for each in fields(cls)}
        given: AnyDict = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in names
        }
        return cls(**given)

    def to_json_dict(self) -> AnyDict:
        """Return the values for records and ``--json``."""
        return {
            "level": self.level,
            "relative_level": self.relative,
            "contrast": self.contrast,
            "interval": list(self.interval),
            "measured": self.is_measured,
            "greys": list(self.greys),
            "levels": list(self.levels),
            "correlation": dict(self.correlation),
            "white": self.white,
            "cutoff": self.cutoff,
            "source": self.source,
            "notes": list(self.notes),
            "doubts": list(self.doubts),
            **({"second": self.second} if self.second != 1 else {}),
        }


@dataclass(frozen=True, eq=False)
class KnownNoise:
    """Noise of a volume, measured with the help of another volume.

    Attributes
    ----------
    noise : Noise
        In grey values of the volume.
    kind : str
        Where it was measured: ``"second"`` (in the difference from a second scan),
        ``"region"`` or ``"blank"``; ``""`` if unknown.
    volume : object
        The second scan, the mask of the region, or the blank scan: a
        `napari_geosr.core.volume.Volume`; None if it is not available.
    name : str
        Name of that volume, if it is not available.
    """

    noise: Noise
    kind: str = ""
    volume: Any = None
    name: str = ""

    @property
    def place(self) -> str:
        """Name of the volume in which the noise was measured; "" if unknown."""
        return self.name if self.volume is None else str(self.volume.name)

    def to_values(self) -> AnyDict:
        """Return values for the settings of a job; `from_values` reads them."""
        source = None if self.volume is None else self.volume.source
        return {
            "noise": self.noise.to_json_dict(),
            "kind": self.kind,
            "name": self.place,
            "path": None if source is None else str(source),
        }


def known_noise_values(metadata: AnyMapping) -> AnyDict:
    """Return the known noise as values for a job; empty if it is unknown.

    Examples
    --------
    >>> known_noise_values({})
    {}
    """
    found = known_noise(metadata)
    return {} if found is None else found.to_values()


def known_noise(metadata: AnyMapping) -> KnownNoise | None:
    """Return the known noise of a volume with these metadata; None if it is unknown.

    Examples
    --------
    >>> noise = Noise(level=5.0, contrast=100.0)
    >>> known_noise({KNOWN_NOISE: KnownNoise(noise, "region")}).noise.level
    5.0
    >>> known_noise({}) is None
    True
    """
    found = metadata.get(KNOWN_NOISE)
    return found if isinstance(found, KnownNoise) else None
