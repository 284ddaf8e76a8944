"""Estimates blur, noise and grey scale of a low-resolution scan.

A high-resolution scan of the same material, not necessarily of the same region,
provides the power spectrum of the structure. If the effects of blur, of averaging over
each low-resolution voxel, and of noise are included, this spectrum must equal that of
the low-resolution scan. Structure and noise can be separated because the power of
structure falls steeply with frequency and that of noise does not.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.measure.resolution.spectrum_fit import (
    BLURS,
    SHAPES,
    SpectrumFit,
    fit_spectrum,
)
from napari_geosr.measure.resolution.window_spectrum import WindowSpectrum
from napari_geosr.physics.degradations import ImagingEstimate
from napari_geosr.physics.noise_spectrum import (
    frequencies,
)
from napari_geosr.physics.sampling import area_downsample

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

#: Maximum edge of the spectrum's windows along Y and X, in low-resolution voxels.
MAX_WINDOW = 32
#: Minimum edge of the spectrum's windows along Y and X, in low-resolution voxels.
MIN_WINDOW = 16
#: Maximum edge of the spectrum's windows along Z, in low-resolution voxels.
MAX_DEPTH = 16
#: Minimum edge of these windows along Z; fewer planes are treated as single images.
_MIN_DEPTH = 8
#: Factor by which each spectrum must fit better than white noise to be preferred.
#: Smooth noise can be mistaken for structure, and vice versa.
_PARSIMONY = {"white": 1.0, "reconstruction": 1.15, "smooth": 2.0}
#: Fraction of the voxels that count as the darkest.
_DARK_SHARE = 0.05


def degradation_steps(
    low: Sequence[FloatArray],
    high: Sequence[FloatArray],
    factors: tuple[int, int, int],
    *,
    relative_widths: Sequence[float] = (1.0, 1.0, 1.0),
    shapes: Sequence[str] = tuple(SHAPES),
    name: str = "the low-resolution scan",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ImagingEstimate]:
    """Estimate the degradation of a low-resolution scan.

    Parameters
    ----------
    low, high : sequence of ndarray of shape (Z, Y, X)
        Parts of the low- and the high-resolution scan.
    factors : tuple of int
        Number of high-resolution voxels per low-resolution voxel along each axis.
    relative_widths : sequence of float
        Width of the point-spread function along each axis in low-resolution voxels,
        relative to the width in the plane.
    shapes : sequence of str
        Candidate noise spectra: ``"white"``, ``"reconstruction"``, ``"smooth"``.
    name : str
        Name of the low-resolution scan, in messages.

    Yields
    ------
    Step
        `BlockDone`.

    Returns
    -------
    ImagingEstimate

    Raises
    ------
    VolumeError
        If the parts are too small, or uniform.
    Cancelled
        If `should_stop` returns True.
    """
    spectrum = WindowSpectrum(*_window(low, high, factors, name))
    observed = spectrum.power(low)
    regions = [_LowResolutionRegion(block, factors, relative_widths) for block in high]
    table = []
    for done, blur in enumerate(BLURS, 1):
        if should_stop():
            raise Cancelled("Stopped while estimating.")
        table.append(spectrum.power([region.blurred(blur) for region in regions]))
        yield BlockDone(done, len(BLURS))
    expected, weights = np.array(table), spectrum.weights()
    if (observed[weights > 0] <= 0).any() or (expected[:, weights > 0] <= 0).any():
        raise VolumeError(
            f"Blur and noise of {name} cannot be measured: one of the scans is "
            "uniform where it was sampled. Set them yourself (--blur, --noise-level)."
        )
    fits = [
        fit_spectrum(shape, spectrum, observed, expected, weights) for shape in shapes
    ]
    best = _best_fit(fits)
    mean_low = float(np.mean([block.mean(dtype=np.float64) for block in low]))
    mean_high = float(np.mean([block.mean(dtype=np.float64) for block in high]))
    gain = math.sqrt(best.contrast)
    variance = _mean_power(best, spectrum.edge)
    slope, intercept = _variance_line(low, variance)
    return ImagingEstimate(
        blur=best.blur,
        gain=gain,
        offset=mean_low - gain * mean_high,
        noise=math.sqrt(variance),
        shape=best.shape,
        spectrum=_table(best),
        along_z=best.along_z,
        misfit=best.misfit,
        slope=slope,
        intercept=intercept,
    )


def _window(
    low: Sequence[FloatArray],
    high: Sequence[FloatArray],
    factors: tuple[int, int, int],
    name: str,
) -> tuple[int, int]:
    """Choose depth and width of windows; the depth is 1 for few slices."""
    shapes = [block.shape for block in low]
    shapes += [
        tuple(n // f for n, f in zip(block.shape, factors, strict=True))
        for block in high
    ]
    edge = min(MAX_WINDOW, *(n for shape in shapes for n in shape[1:])) // 2 * 2
    depth = min(MAX_DEPTH, *(shape[0] for shape in shapes)) // 2 * 2
    if edge < MIN_WINDOW:
        raise VolumeError(
            f"Blur and noise of {name} cannot be measured in {edge} × {edge} "
            f"low-resolution voxels: at least {MIN_WINDOW} × {MIN_WINDOW} are "
            "needed in both scans. Set them yourself (--blur, --noise-level)."
        )
    return (depth if depth >= _MIN_DEPTH else 1), edge


class _LowResolutionRegion:
    """A part of the high-resolution scan, averaged to low resolution, without noise.

    The blur is applied in the cosine transform: values are mirrored at the borders, and
    the computing time does not depend on the width of the point-spread function.
    """

    def __init__(
        self,
        block: FloatArray,
        factors: tuple[int, ...],
        relative_widths: Sequence[float],
    ) -> None:
        from scipy import fft

        pairs = zip(block.shape, factors, strict=True)
        whole = block[tuple(slice(0, n // f * f) for n, f in pairs)]
        self.factors, self.relative_widths = factors, relative_widths
        self.spectrum = fft.dctn(whole.astype(np.float32, copy=False), norm="ortho")

    def blurred(self, blur: float) -> FloatArray:
        """Blur (in-plane width in low-resolution voxels) and average the part."""
        from scipy import fft

        spectrum = self.spectrum
        for axis, n in enumerate(spectrum.shape):
            sigma = blur * self.relative_widths[axis] * self.factors[axis]
            transfer = np.exp(-0.5 * (sigma * np.pi * np.arange(n) / n) ** 2)
            shape = [n if i == axis else 1 for i in range(3)]
            spectrum = spectrum * transfer.astype(np.float32).reshape(shape)
        return area_downsample(fft.idctn(spectrum, norm="ortho"), self.factors)


def _best_fit(fits: Sequence[SpectrumFit]) -> SpectrumFit:
    """Return the best fit, with a preference for simple spectra."""
    return min(fits, key=lambda fit: fit.cost * _PARSIMONY[fit.shape])


def _mean_power(fit: SpectrumFit, n: int) -> float:
    """Return the variance of the noise: its mean power over the plane's frequencies."""
    f = np.fft.fftfreq(n)
    return float(fit.noise_power(np.hypot(f[:, None], f)).mean())


def _table(fit: SpectrumFit) -> tuple[float, ...]:
    power = fit.noise_power(frequencies())
    top = float(power.max())
    return tuple(float(v) for v in power / (top if top > 0 else 1.0))


def _variance_line(low: Sequence[FloatArray], variance: float) -> tuple[float, float]:
    """Fit slope and intercept of the noise variance as a function of the grey value.

    The line passes through the point of mean grey value and mean variance, and through
    that of the darkest voxels. The variance of the darkest voxels is estimated from
    second differences, which preserve the variance of white noise and remove smooth
    structure. At other grey values, small bright structures could not be distinguished
    from noise.

    Parameters
    ----------
    variance : float
        Mean variance of the noise.
    """
    from scipy import ndimage

    line = np.array([1.0, -2.0, 1.0])
    kernel = (np.outer(line, line) / 6)[None]
    means, details = [], []
    for block in low:
        means.append(ndimage.uniform_filter(block, (1, 5, 5), mode="nearest").ravel())
        details.append(ndimage.convolve(block, kernel, mode="nearest").ravel())
    grey, detail = np.concatenate(means), np.concatenate(details)
    dark = grey <= np.quantile(grey, _DARK_SHARE)
    dark_variance = (1.4826 * float(np.median(np.abs(detail[dark])))) ** 2
    dark_variance = min(dark_variance, variance)
    middle, darkest = float(grey.mean(dtype=np.float64)), float(grey[dark].mean())
    slope = (variance - dark_variance) / (middle - darkest) if middle > darkest else 0.0
    return slope, dark_variance - slope * darkest
