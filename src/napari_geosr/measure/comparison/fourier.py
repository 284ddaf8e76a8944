"""Fourier ring and shell correlation of two scans, or of one scan (checkerboard).

References
----------
.. [1] van Heel and Schatz. Fourier shell correlation threshold criteria. J. Struct.
   Biol. 151, 250-262 (2005). doi:10.1016/j.jsb.2005.05.009
.. [2] Nieuwenhuizen et al. Measuring image resolution in optical nanoscopy. Nat.
   Methods 10, 557-562 (2013). doi:10.1038/nmeth.2448
.. [3] Koho et al. Fourier ring correlation simplifies image restoration in fluorescence
   microscopy. Nature Communications 10, 3103 (2019). doi:10.1038/s41467-019-11024-z
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.measure.number_text import number_text

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

Criterion = Literal["half-bit", "1-bit", "1/7"]
#: Signal-to-noise ratio of each half of the data at which an information criterion is
#: met.
_RATIOS: dict[str, float] = {"half-bit": math.sqrt(2) / 2 - 0.5, "1-bit": 0.5}
CRITERIA: tuple[Criterion, ...] = ("half-bit", "1-bit", "1/7")
#: Minimum number of independent values for a shell to be used.
_MIN_VALUES = 4.0
#: Number of independent values below which a shell is averaged with its neighbours
#: before searching for the crossing.
_ENOUGH_VALUES = 50.0
#: Maximum number of adjacent shells that are averaged.
_MAX_AVERAGED_SHELLS = 7
#: Largest grey value for which squares of Fourier coefficients fit into float32.
_MAX_VALUE = 2.0**30
#: Length of the run of shells, as a fraction of all shells, in which the correlation
#: must stay below the criterion: single shells may be below it by chance.
_STAYS_BELOW = 0.03


@dataclass(frozen=True, eq=False)
class FourierCorrelation:
    """Correlation of two volumes by frequency.

    Attributes
    ----------
    kind : str
        ``"shell"``: all directions of a volume; ``"ring"``: in the plane of an image or
        of all slices.
    frequency : ndarray
        Centre of each shell or ring, in 1/`unit`.
    correlation : ndarray
    independent : ndarray
        Number of independent values in each shell or ring.
    nyquist : float
        Highest frequency that can be evaluated, in 1/`unit`.
    unit : str
    shape : tuple of int
        Number of compared voxels along each axis.
    """

    kind: str
    frequency: Array = field(repr=False)
    correlation: Array = field(repr=False)
    independent: Array = field(repr=False)
    nyquist: float
    unit: str
    shape: tuple[int, ...]

    def threshold(self, criterion: str) -> Array:
        """Return the threshold that the correlation must exceed, for each shell."""
        if criterion == "1/7":
            return np.full(len(self.frequency), 1 / 7)
        return information_threshold(_RATIOS[criterion], self.independent)

    def up_to(self, limit: float) -> FourierCorrelation:
        """Return the correlation at frequencies up to `limit`.

        Parameters
        ----------
        limit : float
            Highest frequency that can contain detail, in 1/`unit`.
        """
        kept = self.frequency <= limit
        return replace(
            self,
            frequency=self.frequency[kept],
            correlation=self.correlation[kept],
            independent=self.independent[kept],
            nyquist=min(self.nyquist, limit),
        )

    def cut_off(self, criterion: str) -> float | None:
        """Find the frequency (1/`unit`) where the correlation falls below a criterion.

        None if the correlation stays above the criterion up to the highest frequency; 0
        if it never exceeds the criterion.
        """
        used = self.independent >= _MIN_VALUES
        steady = _steadied(self.correlation, self.independent)
        above = (steady - self.threshold(criterion))[used]
        frequency = self.frequency[used]
        run = max(2, round(_STAYS_BELOW * len(above)))
        for at in range(1, len(above)):
            if above[at - 1] >= 0 and (above[at : at + run] < 0).all():
                part = above[at - 1] / (above[at - 1] - above[at])
                step = frequency[at] - frequency[at - 1]
                return float(frequency[at - 1] + part * step)
        return None if (above >= 0).any() else 0.0

    def resolution(self, criterion: str) -> float | None:
        """Return the period at the cut-off frequency, in `unit`.

        Without a cut-off, this is the period of the highest frequency; None if the
        volumes are uncorrelated.
        """
        found = self.cut_off(criterion)
        if found is None:
            return 1 / self.nyquist
        return 1 / found if found > 0 else None

    def is_limited_by_voxels(self, criterion: str) -> bool:
        """Whether the correlation exceeds the criterion up to the last frequency."""
        return self.cut_off(criterion) is None

    def to_json_dict(self) -> AnyDict:
        """Return the curve and its values in JSON-serialisable form."""
        return {
            "kind": self.kind,
            "unit": self.unit,
            "frequency_unit": f"1/{self.unit}",
            "shape": list(self.shape),
            "window": "Hann",
            "nyquist": self.nyquist,
            "resolution": {c: self.resolution(c) for c in CRITERIA},
            "limited_by_voxels": {c: self.is_limited_by_voxels(c) for c in CRITERIA},
            "frequency": self.frequency.tolist(),
            "correlation": self.correlation.tolist(),
            "thresholds": {c: self.threshold(c).tolist() for c in CRITERIA},
        }


def information_threshold(ratio: float, independent: Array) -> Array:
    """Return the correlation expected at a signal-to-noise ratio, plus its error [1]_.

    Parameters
    ----------
    ratio : float
        Signal-to-noise ratio in each of the two volumes: 0.207 for half a bit in total,
        0.5 for one bit.
    independent : ndarray
        Number of independent values in each shell.
    """
    root = np.sqrt(np.maximum(independent, 1))
    extra = 2 * math.sqrt(ratio) / root
    found: Array = np.minimum((ratio + extra + 1 / root) / (ratio + extra + 1), 1)
    return found


def _steadied(values: Array, independent: Array) -> Array:
    """Average over neighbouring shells; over more of them where each has few values."""
    found = values.copy()
    for width in range(3, _MAX_AVERAGED_SHELLS + 1, 2):
        few = independent * (width - 2) < _ENOUGH_VALUES
        kernel = np.ones(width)
        sums = np.convolve(values, kernel, "same")
        means: Array = sums / np.convolve(np.ones(len(values)), kernel, "same")
        found[few] = means[few]
    return found


class _Shells:
    """Sums over shells of equal width, in physical frequency.

    Parameters
    ----------
    shape : tuple of int
    voxel_size : sequence of float
    planes : bool
        Whether to use rings in each slice instead of shells.
    """

    def __init__(
        self, shape: Sequence[int], voxel_size: Sequence[float], *, planes: bool
    ) -> None:
        self.planes = planes
        edges = list(zip(shape, voxel_size, strict=True))
        used = edges[-2:] if planes else [e for e in edges if e[0] > 1]
        self.nyquist = min(1 / (2 * v) for _, v in used)
        self.width = 1 / max(n * v for n, v in used)
        self.n = max(2, math.floor(self.nyquist / self.width * (1 + 1e-9)) + 1)
        self.axes = [np.fft.fftfreq(n, v) for n, v in edges]
        self.axes[-1] = np.fft.rfftfreq(shape[-1], voxel_size[-1])
        self._shape = tuple(shape)
        # Along X, most frequencies also represent their negative counterparts and
        # count twice.
        self._twice = np.full(len(self.axes[-1]), 2.0)
        self._twice[0] = 1
        if shape[-1] % 2 == 0:
            self._twice[-1] = 1

    @property
    def frequency(self) -> Array:
        """Centre of each shell."""
        return np.arange(self.n, dtype=np.float64) * np.float64(self.width)

    def index(self, z: int) -> npt.NDArray[np.intp]:
        """Return the shell of each frequency in plane `z` of frequencies, (Y, X)."""
        plane = self.axes[-2][:, None] ** 2 + self.axes[-1] ** 2
        if not self.planes and len(self._shape) == 3:
            plane = plane + self.axes[0][z] ** 2
        shells = np.rint(np.sqrt(plane) / self.width).astype(np.intp)
        found: npt.NDArray[np.intp] = np.minimum(shells, self.n)
        return found

    def sums(self, values: AnyArray, index: npt.NDArray[np.intp]) -> Array:
        """Sum values of shape (Y, X) over the frequencies of each shell."""
        weighted = np.asarray((values * self._twice).ravel(), np.float64)
        sums = np.bincount(index.ravel(), weighted, self.n + 1)
        return np.asarray(sums[: self.n], np.float64)


def window(shape: Sequence[int], *, planes: bool = False) -> list[Array]:
    """Return a Hann window for each axis; ones along Z for rings in slices."""
    found = []
    for a, n in enumerate(shape):
        along_z = planes and len(shape) == 3 and a == 0
        ones = along_z or n < 3
        found.append(np.ones(n) if ones else np.hanning(n + 2)[1:-1])
    return found


def _transformed(values: AnyArray, *, planes: bool) -> tuple[AnyArray, float]:
    """Compute the windowed Fourier transform, over all axes or by slice, and its unit.

    Values are divided by the unit, because squares of grey values such as 1e20 do not
    fit into float32. The unit is a power of two, so the division is exact.
    """
    from scipy import fft

    largest = max(float(values.max()), -float(values.min()))
    unit = 1.0
    if largest > _MAX_VALUE:
        unit = 2.0 ** math.frexp(largest)[1]
        values = np.divide(values, unit, dtype=np.float64)
    block = values.astype(np.float32)
    axes = tuple(range(block.ndim))[-2:] if planes else tuple(range(block.ndim))
    block -= block.mean(axis=axes, keepdims=True, dtype=np.float64).astype(np.float32)
    for a, weights in enumerate(window(block.shape, planes=planes)):
        shape = [-1 if i == a else 1 for i in range(block.ndim)]
        block *= weights.reshape(shape).astype(np.float32)
    found: AnyArray = fft.rfftn(block, axes=axes, overwrite_x=True)
    return found, unit


def _independent_share(shape: Sequence[int], *, planes: bool) -> float:
    """Return the fraction of a shell's values that stay independent under a window.

    A window correlates neighbouring frequencies along every axis. Within a shell,
    values have neighbours in all directions except across the shell.
    """
    shares = [
        float((w**2).sum() ** 2 / (len(w) * (w**4).sum()))
        for w in window(shape, planes=planes)
    ]
    windowed = [share for share in shares if share < 1]
    n = len(windowed)
    return math.prod(windowed) ** ((n - 1) / n) if n else 1.0


def fourier_correlation(
    one: FloatArray,
    other: FloatArray,
    voxel_size: Sequence[float],
    *,
    unit: str = "pixel",
    planes: bool = False,
    shift: Sequence[float] | None = None,
) -> FourierCorrelation:
    """Correlate two volumes shell by shell (images and slices: ring by ring).

    Parameters
    ----------
    one, other : ndarray of the same shape, (Z, Y, X) or (Y, X)
        Finite values. Their mean is subtracted, and a Hann window is applied.
    voxel_size : sequence of float
        May differ between axes, because shells are defined by their physical frequency.
    planes : bool
        Whether to use rings in the plane, summed over all slices.
    shift : sequence of float, optional
        Offset of the sampling points of `other` relative to those of `one`, in the unit
        of `voxel_size`: for two subsampled copies of one image.
    """
    planes = planes or one.ndim == 2
    shells = _Shells(one.shape, voxel_size, planes=planes)
    # The powers of two by which the volumes were divided cancel in a correlation.
    first, second = (_transformed(v, planes=planes)[0] for v in (one, other))
    first = first.reshape(-1, *first.shape[-2:])
    second = second.reshape(-1, *second.shape[-2:])
    turned = None if shift is None else _phase(shells, shift)
    totals = np.zeros((4, shells.n))
    for z in range(first.shape[0]):
        if z == 0 or not planes:
            index = shells.index(z)
        a, b = first[z], second[z]
        if turned is not None:
            along_z = 1 if planes else turned[0][z]
            b = b * along_z * turned[1]
        totals[0] += shells.sums((a * np.conj(b)).real, index)
        totals[1] += shells.sums(np.abs(a) ** 2, index)
        totals[2] += shells.sums(np.abs(b) ** 2, index)
        totals[3] += shells.sums(np.ones(a.shape), index)
    power = np.sqrt(totals[1] * totals[2])
    correlation = np.divide(totals[0], power, out=np.zeros(shells.n), where=power > 0)
    share = _independent_share(one.shape, planes=planes)
    return FourierCorrelation(
        "ring" if planes else "shell",
        shells.frequency[1:],
        correlation[1:],
        totals[3][1:] / 2 * share,
        shells.nyquist,
        unit,
        tuple(one.shape),
    )


def _phase(shells: _Shells, shift: Sequence[float]) -> tuple[AnyArray, AnyArray]:
    """Return phase factors that align the second volume's samples with the first's."""
    turns = [
        np.exp(-2j * np.pi * f * s).astype(np.complex64)
        for f, s in zip(shells.axes, shift, strict=True)
    ]
    return turns[0], turns[-2][:, None] * turns[-1]


def checkerboard_correlation(
    image: FloatArray,
    voxel_size: Sequence[float],
    *,
    unit: str = "pixel",
    planes: bool = False,
) -> FourierCorrelation:
    """Correlate diagonally opposite subsampled copies of one volume [3]_.

    The volume is split into subsampled copies of every second voxel along each axis.
    Diagonally opposite copies (even-even and odd-odd, even-odd and odd-even) share no
    voxel, so that noise that is independent between voxels does not correlate. The
    finest detail that can be evaluated has a period of four voxels. A subsampled copy
    has a quarter or an eighth of the voxels, and its signal-to-noise ratio is lower by
    the same factor. Therefore, the correlation is converted to that of two scans with
    the noise of this scan (Spearman–Brown formula).

    Parameters
    ----------
    image : ndarray of shape (Z, Y, X) or (Y, X)
    planes : bool
        Whether to split and correlate each slice in its plane only.
    """
    planes = planes or image.ndim == 2
    split = [not (planes and image.ndim == 3 and a == 0) for a in range(image.ndim)]
    trimmed = image[
        tuple(
            slice(0, n // 2 * 2 if s else n)
            for n, s in zip(image.shape, split, strict=True)
        )
    ]
    size = [v * (2 if s else 1) for v, s in zip(voxel_size, split, strict=True)]
    found = []
    first, *others = (range(2) if s else range(1) for s in split)
    starts = itertools.product(*([first, *others]))
    for start in starts:
        opposite = tuple(1 - i if s else 0 for i, s in zip(start, split, strict=True))
        if start > opposite:
            continue
        one, other = (
            trimmed[
                tuple(
                    slice(i, None, 2 if s else 1)
                    for i, s in zip(corner, split, strict=True)
                )
            ]
            for corner in (start, opposite)
        )
        shift = [
            (b - a) * v for a, b, v in zip(start, opposite, voxel_size, strict=True)
        ]
        found.append(
            fourier_correlation(one, other, size, unit=unit, planes=planes, shift=shift)
        )
    # All pairs have the same shells.
    mean = np.mean([each.correlation for each in found], axis=0)
    times = 2.0 ** sum(split)
    whole = times * mean / np.maximum(1 + (times - 1) * mean, 1 / times)
    last = found[0]
    return FourierCorrelation(
        f"checkerboard {last.kind}",
        last.frequency,
        np.asarray(np.minimum(whole, 1), np.float64),
        # The conversion multiplies the scatter of values near zero by `times`.
        last.independent * len(found) / times**2,
        last.nyquist,
        unit,
        tuple(image.shape),
    )


@dataclass(frozen=True, eq=False)
class PowerSpectrum:
    """In-plane power by frequency.

    Attributes
    ----------
    frequency : ndarray
        Frequencies in 1/`unit`.
    power : ndarray
        Mean over all directions, in grey values² `unit`²; the integral over the
        frequency plane is the variance.
    """

    frequency: Array
    power: Array
    unit: str

    def to_json_dict(self) -> AnyDict:
        """Return the curve as JSON-serialisable values."""
        return {
            "frequency_unit": f"1/{self.unit}",
            "power_unit": f"grey values² {self.unit}²",
            "frequency": self.frequency.tolist(),
            "power": self.power.tolist(),
        }


def power_spectrum(
    block: FloatArray, voxel_size: Sequence[float], *, unit: str = "pixel"
) -> PowerSpectrum:
    """Compute the power of an image, or the mean over slices, ring by ring.

    Parameters
    ----------
    block : ndarray of shape (Z, Y, X) or (Y, X)
        Finite values; a Hann window is applied in the plane.
    """
    shells = _Shells(block.shape, voxel_size, planes=True)
    found, unit_of_values = _transformed(block, planes=True)
    found = found.reshape(-1, block.shape[-2], block.shape[-1] // 2 + 1)
    index = shells.index(0)
    power = (np.abs(found) ** 2).mean(axis=0, dtype=np.float64) * unit_of_values**2
    weight = math.prod(
        float((w**2).sum()) for w in window(block.shape[-2:], planes=True)
    )
    area = math.prod(voxel_size[-2:])
    counts = np.maximum(shells.sums(np.ones(index.shape), index), 1)
    means = shells.sums(power, index) / counts * area / weight
    return PowerSpectrum(shells.frequency[1:], means[1:], unit)


def fsc_summary(found: Mapping[str, FourierCorrelation]) -> list[tuple[str, str]]:
    """Return rows of (label, text) with the resolution by each criterion."""
    return [
        (
            name,
            ", ".join(
                f"{c}: {_resolution_text(curve, c, curve.unit)}" for c in CRITERIA
            ),
        )
        for name, curve in found.items()
    ]


def fsc_columns(
    found: Mapping[str, FourierCorrelation],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the titles and the rows of a table of the resolution."""
    units = {curve.unit for curve in found.values()}
    common = units.pop() if len(units) == 1 else ""
    title = f"Resolution ({common})" if common else "Resolution"
    return (title, *CRITERIA), [
        (
            name,
            *(_resolution_text(v, c, "" if common else v.unit) for c in CRITERIA),
        )
        for name, v in found.items()
    ]


def _resolution_text(curve: FourierCorrelation, criterion: Criterion, unit: str) -> str:
    size = curve.resolution(criterion)
    if size is None:
        return "none"
    sign = "≤ " if curve.is_limited_by_voxels(criterion) else ""
    return f"{sign}{number_text(size)} {unit}".strip()
