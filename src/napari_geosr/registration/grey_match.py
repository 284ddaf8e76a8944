"""Map the grey values of one scan to those of another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.registration.figures import correlation

FloatArray = npt.NDArray[np.float32]
MatchKind = Literal["linear", "histogram", "none"]

#: Standard deviation of the blur that suppresses noise before fitting, in voxels.
_BLUR = 1.0
#: Standard deviations, in voxels, that are tried for the blur of the low-resolution
#: scan relative to the high-resolution scan.
_SHARPNESS = tuple(0.2 * i for i in range(13))
#: Maximum edge length of the compared central part, in voxels, by number of axes.
_MIDDLE = {3: 160, 2: 2048}
#: Number of fits, each without the outliers of the previous one.
_N_ROUNDS = 5
#: Residual above which a voxel is an outlier, in robust standard deviations.
_OUTLIER_FACTOR = 2.5
_QUANTILES = 201


@dataclass(frozen=True, eq=False)
class GreyMatch:
    """Mapping of grey values from the high- to the low-resolution scan.

    Attributes
    ----------
    kind : str
        ``"linear"``: gain and offset; ``"histogram"``: a curve; ``"none"``.
    gain, offset : float
        Parameters of the straight line; they are also given for ``"histogram"``.
    source, target : tuple of float
        Points of the curve; empty for the other kinds.
    blur : float
        Standard deviation, in voxels, of the blur that makes the downsampled
        high-resolution scan most similar to the low-resolution one.
    noise : float
        Standard deviation of the residual, in grey values of the low-resolution scan.
    """

    kind: MatchKind
    gain: float = 1.0
    offset: float = 0.0
    source: tuple[float, ...] = ()
    target: tuple[float, ...] = ()
    blur: float = 0.0
    noise: float = 0.0

    def apply(self, values: FloatArray) -> FloatArray:
        """Map grey values of the high-resolution scan."""
        if self.kind == "none":
            return values
        if self.kind == "linear":
            return (values * np.float32(self.gain) + np.float32(self.offset)).astype(
                np.float32, copy=False
            )
        mapped = np.interp(values, self.source, self.target)
        # Extrapolate the curve beyond its ends with its mean slope.
        below, above = self.source[0] - values, values - self.source[-1]
        slope = (self.target[-1] - self.target[0]) / (self.source[-1] - self.source[0])
        mapped += slope * (np.maximum(above, 0) - np.maximum(below, 0))
        return mapped.astype(np.float32)

    def to_json_dict(self) -> AnyDict:
        """Return the mapping as JSON-serialisable values."""
        values: AnyDict = {
            "kind": self.kind,
            "low_blur": self.blur,
            "low_noise": self.noise,
        }
        if self.kind != "none":
            values |= {"gain": self.gain, "offset": self.offset}
        if self.kind == "histogram":
            values |= {"from": list(self.source), "to": list(self.target)}
        return values


def match_grey_values(low: FloatArray, high: FloatArray, kind: MatchKind) -> GreyMatch:
    """Find the mapping of grey values from `high` to `low`, two aligned scans.

    The high-resolution scan is blurred so that it best matches the low-resolution one;
    then both are blurred slightly to suppress noise. The line is a least-squares fit
    that excludes points more than 2.5 robust standard deviations away. The curve
    matches quantiles.

    Parameters
    ----------
    low, high : ndarray of the same shape
        Both scans, on the same grid.
    """
    low, high = _middle(low), _middle(high)
    blur = _matching_blur(low, high)
    blurred = gaussian_blur(high, blur)
    y, x = _inner(gaussian_blur(low, _BLUR)), _inner(gaussian_blur(blurred, _BLUR))
    gain, offset = _line(y, x)
    noise = float((_inner(low) - gain * _inner(blurred) - offset).std())
    if kind == "none":
        return GreyMatch("none", blur=blur, noise=noise)
    straight = GreyMatch("linear", gain, offset, blur=blur, noise=noise)
    if kind == "linear":
        return straight
    share = np.linspace(0.001, 0.999, _QUANTILES)
    source, target = np.quantile(x, share), np.quantile(y, share)
    if gain < 0:
        target = target[::-1]
    rises = np.r_[True, np.diff(source) > 1e-6 * np.ptp(source)]
    curve = [tuple(points[rises].tolist()) for points in (source, target)]
    return replace(straight, kind="histogram", source=curve[0], target=curve[1])


def _middle(volume: FloatArray) -> FloatArray:
    """Return the central part of a large volume."""
    most = _MIDDLE[volume.ndim]
    starts = [max(0, (n - most) // 2) for n in volume.shape]
    return volume[tuple(slice(s, s + most) for s in starts)]


def _matching_blur(low: FloatArray, high: FloatArray) -> float:
    """Return the blur with which `high` correlates best with `low`."""
    y = _inner(low)
    alike = [abs(correlation(y, _inner(gaussian_blur(high, b)))) for b in _SHARPNESS]
    best = int(np.argmax(alike))
    if best in (0, len(alike) - 1):
        return _SHARPNESS[best]
    # Fit a parabola in the squared blur, in which the correlation is smooth.
    x = np.array(_SHARPNESS[best - 1 : best + 2]) ** 2
    curve = np.polyfit(x, alike[best - 1 : best + 2], 2)
    top = -curve[1] / (2 * curve[0]) if curve[0] < 0 else x[1]
    return float(np.sqrt(np.clip(top, x[0], x[2])))


def _inner(volume: FloatArray) -> npt.NDArray[np.float64]:
    """Return the values as a vector, without those near the border."""
    key = tuple(slice(2, -2) if n > 12 else slice(None) for n in volume.shape)
    return volume[key].ravel().astype(np.float64)


def _line(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """Fit ``y = gain * x + offset`` without outliers; return gain and offset."""
    kept = np.ones(x.size, bool)
    gain, offset = 0.0, float(np.median(y))
    for _ in range(_N_ROUNDS):
        centre, height = x[kept].mean(), y[kept].mean()
        power = ((x[kept] - centre) ** 2).sum()
        if power == 0:
            break
        gain = float(((x[kept] - centre) * (y[kept] - height)).sum() / power)
        offset = float(height - gain * centre)
        rest = y - gain * x - offset
        spread = 1.4826 * float(np.median(np.abs(rest[kept])))
        kept = np.abs(rest) <= max(
            _OUTLIER_FACTOR * spread, 1e-12 * abs(offset) + 1e-30
        )
        if kept.sum() < 10:
            break
    return gain, offset
