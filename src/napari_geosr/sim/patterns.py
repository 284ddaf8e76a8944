"""Find illumination patterns in raw frames: wave vector, phases and modulation.

References
----------
.. [1] Gustafsson et al. Three-dimensional resolution doubling in wide-field
   fluorescence microscopy by structured illumination. Biophys. J. 94, 4957-4970
   (2008). doi:10.1529/biophysj.107.120345
.. [2] Wicker et al. Phase optimisation for structured illumination microscopy. Opt.
   Express 21, 2032-2049 (2013). doi:10.1364/OE.21.002032
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames.fringes import FringePattern
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.pattern_problems import (
    MIN_CONFIDENCE,
    doubtful_frames,
    missing_pattern,
)
from napari_geosr.sim.peaks import (
    CorrelationPeaks,
    inner_fade,
    near_reach,
    radial_median,
    upward,
)
from napari_geosr.sim.refine import circle_centre

FloatArray = npt.NDArray[np.float32]
Complex = npt.NDArray[np.complex64]

#: Range of fundamental frequencies searched for patterns, relative to the cut-off.
RING = (0.5, 1.12)
#: Highest frequency that is searched, in cycles per pixel.
_NYQUIST = 0.49
#: Standard deviation of the Gaussian notch that suppresses frequencies around zero,
#: relative to the cut-off.
_NOTCH = 0.08
#: Fraction of each edge over which frames fade to zero before filtering.
_FADE = 0.06
#: Lower limit of a band's signal, as a fraction of the band's energy.
_MIN_SIGNAL = 0.02
#: Maximum number of times that bands are separated, each with the phases found before.
_SEPARATIONS = 4
#: Minimum confidence of a pattern near a given one, if it is the clearest pattern in
#: the frames: frames smaller than 64 × 64 pixels do not reach higher values.
MIN_NEAR = 4.0
#: Minimum confidence of patterns found near given ones, relative to the clearest ones
#: in the frames.
MIN_PROMINENCE = 0.7
#: Minimum number of phases with which two patterns in one direction can be separated.
MIN_TWO_ORDERS = 5
#: Frequencies searched for a second pattern, relative to the expected frequency.
_NEAR = (0.85, 1.15)
#: Maximum distance of a second pattern from where it is expected, in cycles per field
#: of view.
_MAX_DISTANCE = 1.5
#: Minimum confidence of a second pattern where it is expected; noise alone reaches 3.
_MIN_RELATED = 3.5
#: If the coarser pattern is clear and was refined: minimum confidence of the finer one,
#: and its maximum distance from where it is expected, in cycles per field of view.
_FINER = 2.0, 0.5
#: Range of frequencies searched for the coarser of two patterns if it was not found at
#: half the frequency of the finer one, relative to the cut-off.
_LOW_RING = (0.25, 0.5)
#: Minimum agreement of the phases of two patterns, between 0 and 1.
_MIN_AGREEMENT = 0.8
#: Maximum relative difference between the frequencies of two angles.
MAX_UNEVEN_PERIOD = 0.03


@dataclass(frozen=True)
class FringeFit:
    """The pattern of one angle, as found in the frames.

    Attributes
    ----------
    pattern : FringePattern
    confidence : float
        Height of the correlation peak relative to the median at this frequency.
    prominence : float
        `confidence` relative to that of the highest peak in the frames; 1 unless an
        approximate wave vector was given.
    evenness : float
        Smallest modulation of a frame relative to the mean: small if the frames do not
        share one wave vector.
    problem : str
        Why the pattern cannot be relied on; empty if it can.
    unused : float
        Frequency (0.5 or 2), relative to that of the pattern, of an unused second
        pattern in the same direction; 0 if there is none.
    is_missing : bool
        No pattern was found at all, as opposed to a pattern with a problem.
    """

    pattern: FringePattern
    confidence: float
    evenness: float = 1.0
    problem: str = ""
    prominence: float = 1.0
    unused: float = 0.0
    is_missing: bool = False


class AngleFit:
    """Correlations of the frames of one angle.

    Parameters
    ----------
    frames : ndarray of shape (phases, Y, X)
        Raw frames with the offset subtracted.
    otf : Otf
    noise : float
        Variance of a pixel of a frame.
    intensity : sequence of float, optional
        Relative light of each frame; by default, the means of the frames, which also
        depend on the position of the stripes relative to the structures of the sample.
    """

    def __init__(
        self,
        frames: FloatArray,
        otf: Otf,
        noise: float = 0.0,
        intensity: Sequence[float] = (),
    ) -> None:
        from scipy import fft
        from scipy.signal.windows import tukey

        self._fft = fft
        means = frames.mean(axis=(1, 2), dtype=np.float64)
        overall = float(means.mean())
        unit = abs(overall) or 1.0  # very large or small values would overflow
        self.otf, self.noise = otf, noise / unit**2
        light = np.asarray(intensity) if len(intensity) else means
        average = float(light.mean())
        self.intensity = tuple(float(v / average) if average else 1.0 for v in light)
        self.shape = rows, columns = frames.shape[1], frames.shape[2]
        self.window = np.outer(tukey(rows, 2 * _FADE), tukey(columns, 2 * _FADE))
        self.inner = np.outer(inner_fade(rows), inner_fade(columns))
        scale = np.array([1 / i if i > 0 else 1.0 for i in self.intensity]) / unit
        evened = frames * scale[:, None, None].astype(np.float32)
        faded = evened * self.window.astype(np.float32)
        self.spectra: Complex = fft.fft2(faded).astype(np.complex64)
        self.fy = np.fft.fftfreq(rows)[:, None]
        self.fx = np.fft.fftfreq(columns)[None]
        self.y = (np.arange(rows) - (rows - 1) / 2)[:, None]
        self.x = (np.arange(columns) - (columns - 1) / 2)[None]
        self.centre: Complex = self.spectra.mean(axis=0)
        self.modulated: Complex = self.spectra - self.centre

    def _notch(self, ky: float = 0.0, kx: float = 0.0) -> FloatArray:
        distance = np.hypot(self.fy - ky, self.fx - kx) / (_NOTCH * self.otf.cut_off)
        return np.asarray(1 - np.exp(-0.5 * distance**2), np.float32)

    def _transfer(self, ky: float = 0.0, kx: float = 0.0) -> FloatArray:
        return self.otf.at(self.fy - ky, self.fx - kx).astype(np.float32)

    def peaks(self, ring: tuple[float, float]) -> CorrelationPeaks:
        """Correlate the frames with the object at all frequencies.

        Parameters
        ----------
        ring : (float, float)
            Lowest and highest frequency in cycles per pixel.
        """
        fft = self._fft
        size = [2 * n for n in self.shape]
        radius = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.fftfreq(size[1]))
        inside = (radius >= ring[0]) & (radius <= ring[1])
        total = np.zeros(size, np.float32)
        if not inside.any():
            return CorrelationPeaks(total, inside)
        weight = self._transfer() * self._notch()
        still = fft.ifft2(self.centre * weight)
        for spectrum in self.modulated:
            moving = fft.ifft2(spectrum * weight)
            total += np.abs(fft.fft2(moving * still.conj(), size)) ** 2
        return CorrelationPeaks(total / radial_median(total, radius, ring), inside)

    def coarse(self, ring: tuple[float, float]) -> tuple[tuple[float, float], float]:
        """Return the grid point nearest to the wave vector, and its confidence."""
        return self.peaks(ring).highest()

    def ring_with(self, k: tuple[float, float]) -> tuple[float, float]:
        """Return the usual range of frequencies, extended to include those near `k`."""
        low, high = search_ring(self.otf)
        frequency = math.hypot(*k)
        highest = min(max(high, _NEAR[1] * frequency), _NYQUIST)
        return min(low, _NEAR[0] * frequency), highest

    def related(
        self,
        k: tuple[float, float],
        factor: float,
        least: float = _MIN_RELATED,
        distance: float = _MAX_DISTANCE,
    ) -> tuple[tuple[float, float], float] | None:
        """Search for a pattern at a multiple of a wave vector; None if there is none.

        Three-beam illumination produces two patterns in each direction: the frequency
        of one is twice that of the other [1]_. The phases of the finer pattern must be
        twice those of the coarser one.

        Parameters
        ----------
        k : (float, float)
            Wave vector of a pattern that was found, in cycles per pixel.
        factor : float
            0.5 or 2.
        least, distance : float
            Minimum confidence; maximum deviation in cycles per field of view.

        Returns
        -------
        k : (float, float)
            Approximate wave vector.
        confidence : float
        """
        expected = (factor * k[0], factor * k[1])
        frequency = math.hypot(*expected)
        highest = min(RING[1] * self.otf.cut_off, _NYQUIST)
        if len(self.spectra) < MIN_TWO_ORDERS or frequency > highest:
            return None
        peaks = self.peaks((_NEAR[0] * frequency, min(_NEAR[1] * frequency, highest)))
        # Structures with a direction of their own cause higher peaks elsewhere.
        rows, columns = self.shape
        reach = distance / rows, distance / columns
        found = peaks.nearest(expected, reach)
        confidence = peaks.confidence_at(found)
        if confidence < least:
            return None
        fine, coarse = (k, found) if factor < 1 else (found, k)
        turns = [
            np.angle(self.correlations(self.products(at, self.modulated)[0], at))
            for at in (fine, coarse)
        ]
        agreement = abs(np.exp(1j * (turns[0] - 2 * turns[1])).mean())
        return (found, confidence) if agreement > _MIN_AGREEMENT else None

    def products(
        self, k: tuple[float, float], spectra: Complex, share: float | None = None
    ) -> tuple[Complex, float]:
        """Multiply the filtered frames by the central band; also return its energy.

        Filtering each band with the transfer function of the other makes the bands
        equal except for the factor of the pattern. The window is applied afterwards, so
        that it does not shift the peak.

        Parameters
        ----------
        k : (float, float)
            Wave vector in cycles per pixel.
        spectra : ndarray of shape (n, Y, X), complex64
        share : float, optional
            Noise of the central band relative to that of a frame; by default, the value
            for the mean of all frames.
        """
        fft = self._fft
        ky, kx = k
        weight = self._transfer(-ky, -kx) * self._notch() * self._notch(-ky, -kx)
        still = fft.ifft2(self.centre * weight)
        other = self._transfer(ky, kx) * self._notch(ky, kx) * self._notch()
        conjugate = still.conj() * self.inner
        products = np.stack(
            [conjugate * fft.ifft2(spectrum * other) for spectrum in spectra]
        )
        energy = float((np.abs(still) ** 2 * self.inner).sum())
        area = float(self.inner.sum())
        part = 1 / len(self.spectra) if share is None else share
        noise = self.noise * part * float((weight**2).mean()) * area
        return products, max(energy - noise, _MIN_SIGNAL * energy)

    def correlations(
        self, products: Complex, k: tuple[float, float]
    ) -> npt.NDArray[np.complex128]:
        ey = np.exp(-2j * np.pi * k[0] * self.y[:, 0]).astype(np.complex64)
        ex = np.exp(-2j * np.pi * k[1] * self.x[0]).astype(np.complex64)
        found: npt.NDArray[np.complex128] = ((products @ ex) @ ey).astype(np.complex128)
        return found

    def refine(self, k: tuple[float, float]) -> tuple[float, float]:
        """Find the wave vector near `k` with the strongest correlation (sub-pixel)."""
        from scipy.optimize import minimize

        for _ in range(2):
            products, _ = self.products(k, self.modulated)

            def cost(at: Sequence[float], products: Complex = products) -> float:
                found = self.correlations(products, (at[0], at[1]))
                return -float((np.abs(found) ** 2).sum())

            step = [0.25 / n for n in self.shape]
            scale = abs(cost(k)) or 1.0
            simplex = [k, (k[0] + step[0], k[1]), (k[0], k[1] + step[1])]
            result = minimize(
                lambda at, s=scale: cost(at) / s,
                k,
                method="Nelder-Mead",
                options={
                    "initial_simplex": simplex,
                    "xatol": 1e-3 * step[0],
                    "fatol": 1e-9,
                    "maxiter": 80,
                },
            )
            k = (float(result.x[0]), float(result.x[1]))
        return k

    def phases_at(
        self, k: tuple[float, float]
    ) -> tuple[npt.NDArray[np.float64], float, float]:
        """Return the phases, the modulation and its evenness for a wave vector.

        The evenness is the modulation of the weakest frame relative to the mean.

        The bands are separated several times, each time with the phases found before;
        the phases need not be equally spaced [2]_.
        """
        phases = np.zeros(len(self.spectra))
        modulation = evenness = 0.0
        for _ in range(_SEPARATIONS):
            products, norm = self.products(k, self.spectra)
            found = self.correlations(products, k)
            found = found - circle_centre(found)
            size = np.abs(found)
            phases = np.angle(found)
            if not norm > 0 or not size.any():
                return phases, 0.0, 0.0
            modulation = 2 * float(size.mean()) / norm
            evenness = float(size.min() / size.mean())
            if not self._separate(phases):
                break
        return phases, modulation, evenness

    def _separate(self, phases: npt.NDArray[np.float64]) -> bool:
        """Separate the bands by least squares; return False if ill-conditioned."""
        columns = [np.ones(len(phases)), np.exp(1j * phases), np.exp(-1j * phases)]
        matrix = np.stack(columns, 1)
        if len(phases) < 3 or np.linalg.cond(matrix) > 10:
            return False
        inverse = np.linalg.pinv(matrix)
        self.centre = np.tensordot(inverse[0], self.spectra, axes=1).astype(
            np.complex64
        )
        self.modulated = self.spectra - self.centre
        return True


def harmonic_modulation(fit: AngleFit, pattern: FringePattern) -> tuple[float, ...]:
    """Return the amplitudes of all harmonics, from the overlap of neighbouring bands.

    Band h, shifted by the wave vector, equals band h - 1 up to the ratio of their
    amplitudes, where both are transmitted. If a band is below the noise, a small
    fraction of its energy is assumed to be signal.
    """
    n = len(pattern.phases)
    columns = [np.ones(n, complex)]
    for h in range(1, (n - 1) // 2 + 1):
        columns += [pattern.terms(h), pattern.terms(h).conj()]
    inverse = np.linalg.pinv(np.stack(columns, 1))
    amplitude, found = 1.0, []
    for h in range(1, pattern.harmonics + 1):
        lower = inverse[0 if h == 1 else 2 * h - 3]
        fit.centre = np.tensordot(lower, fit.spectra, axes=1).astype(np.complex64)
        band = np.tensordot(inverse[2 * h - 1], fit.spectra, axes=1)
        products, energy = fit.products(
            pattern.wave_vector,
            band[None].astype(np.complex64),
            share=float((np.abs(lower) ** 2).sum()),
        )
        ratio = complex(fit.correlations(products, pattern.wave_vector)[0])
        amplitude *= ratio.real / energy if energy > 0 else 0.0
        found.append(2 * amplitude)
    return tuple(float(np.clip(m, -2, 2)) for m in found)


def search_ring(otf: Otf) -> tuple[float, float]:
    """Return the range of frequencies searched for patterns, in cycles per pixel."""
    low, high = (factor * otf.cut_off for factor in RING)
    return low, min(high, _NYQUIST)


def fit_fringe(
    frames: FloatArray,
    otf: Otf,
    *,
    noise: float = 0.0,
    harmonics: int = 1,
    near: tuple[float, float] | None = None,
    frequency: float | None = None,
) -> FringeFit:
    """Find the pattern of one angle.

    Parameters
    ----------
    frames : ndarray of shape (phases, Y, X)
        Raw frames with the offset subtracted.
    otf : Otf
    noise : float
        Variance of a pixel of a frame.
    harmonics : int
    near : (float, float), optional
        Approximate wave vector in cycles per pixel; by default, it is searched for in a
        ring around the cut-off (`search_ring`).
    frequency : float, optional
        Approximate frequency in cycles per pixel, such as that of other angles; the
        search is limited to frequencies near it.
    """
    fit = AngleFit(frames, otf, noise)
    ring = low, high = search_ring(otf)
    within: tuple[float, float] | None = None
    if near is not None:  # three-beam illumination also has coarser patterns
        ring = min(low, _NEAR[0] * math.hypot(*near)), high
    elif frequency is not None:
        width = MAX_UNEVEN_PERIOD * frequency
        within = frequency - width, frequency + width
        ring = min(low, within[0]), min(max(high, within[1]), _NYQUIST)
    peaks = fit.peaks(ring)
    k, confidence = peaks.highest(within)
    prominence, unused = 1.0, 0.0
    if confidence > 0 and near is None:
        k, confidence, unused = _with_both_orders(
            fit, fit.refine(k), confidence, harmonics
        )
    elif near is not None and confidence > 0:
        reach = near_reach(fit.shape)
        k, best = fit.refine(peaks.nearest(near, reach)), confidence
        confidence = peaks.confidence_of(k, harmonics, high)
        prominence = min(1.0, confidence / best)
    k = upward(k)
    phases, modulation, evenness = fit.phases_at(k)
    pattern = FringePattern(
        k, tuple(float(p) for p in phases), (modulation,) * harmonics, fit.intensity
    )
    if harmonics > 1 and modulation > 0:
        amplitudes = harmonic_modulation(fit, pattern)
        pattern = replace(pattern, modulation=amplitudes)
    needed = MIN_CONFIDENCE
    if near is not None and prominence >= MIN_PROMINENCE:
        needed = MIN_NEAR
    missing = missing_pattern(pattern, confidence, needed)
    return FringeFit(
        pattern,
        confidence,
        evenness,
        missing or doubtful_frames(pattern, evenness),
        prominence,
        unused,
        bool(missing),
    )


def _with_both_orders(
    fit: AngleFit, k: tuple[float, float], confidence: float, harmonics: int
) -> tuple[tuple[float, float], float, float]:
    """Search for a second pattern in the direction of the one that was found.

    Returns
    -------
    k : (float, float)
        Wave vector of the fundamental: with several harmonics, that of the coarser one.
    confidence : float
        Confidences of both patterns, added in quadrature.
    unused : float
        Frequency of the second pattern, relative to that of `k`, if it is not used.
    """
    coarser = fit.related(k, 0.5)
    if coarser is None and len(fit.spectra) >= MIN_TWO_ORDERS:
        least, most = (factor * fit.otf.cut_off for factor in _LOW_RING)
        low, height = fit.coarse((least, most))
        is_clear = height > max(confidence, MIN_CONFIDENCE)
        finer = fit.related(fit.refine(low), 2.0, *_FINER) if is_clear else None
        if finer is not None:
            k, confidence = fit.refine(finer[0]), finer[1]
            coarser = low, height
    if coarser is not None:
        half, height = coarser
        confidence = math.hypot(confidence, height)
        if harmonics > 1:
            return fit.refine(half), confidence, 0.0
        return k, confidence, 0.5
    related = fit.related(k, 2.0)
    if related is None:
        return k, confidence, 0.0
    return k, math.hypot(confidence, related[1]), 0.0 if harmonics > 1 else 2.0
