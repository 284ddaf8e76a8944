"""Wiener reconstruction of structured illumination, linear and nonlinear.

References
----------
.. [1] Gustafsson. Surpassing the lateral resolution limit by a factor of two using
   structured illumination microscopy. J. Microsc. 198, 82-87 (2000).
   doi:10.1046/j.1365-2818.2000.00710.x
.. [2] Righolt et al. Image filtering in structured illumination microscopy using the
   Lukosz bound. Opt. Express 21, 24431-24451 (2013). doi:10.1364/OE.21.024431
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.physics.illumination import SimGrid
from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Standard deviation of the Gaussian notch against haze, relative to the cut-off.
_NOTCH_WIDTH = 0.15
#: Smallest Wiener parameter. With a parameter of zero, frequencies that the frames do
#: not contain would be divided by zero.
MIN_REGULARISATION = 1e-3


def unmixing(fringe: FringePattern) -> npt.NDArray[np.complex128]:
    """Return the weights of the frames of one angle in each band.

    Returns
    -------
    ndarray of shape (1 + harmonics, phases)
        Least-squares separation into the central band and those of the harmonics.

    Raises
    ------
    ConfigError
        If the phases do not separate the bands.
    """
    columns = [np.ones(len(fringe.phases), complex)]
    for h in range(1, fringe.harmonics + 1):
        columns += [fringe.terms(h), fringe.terms(h).conj()]
    matrix = np.stack(columns, 1) * np.asarray(fringe.intensity)[:, None]
    if len(matrix) < matrix.shape[1] or np.linalg.cond(matrix) > 100:
        raise ConfigError(
            f"The {len(matrix)} phases "
            f"{', '.join(f'{np.degrees(p):.0f}°' for p in fringe.phases)} do not "
            f"separate {matrix.shape[1]} bands. Use fewer harmonics (--harmonics), or "
            "check the order of the frames."
        )
    inverse = np.linalg.pinv(matrix)
    rows = [0, *range(1, 2 * fringe.harmonics, 2)]
    return inverse[rows]


def wiener_reconstruction(
    frames: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    upscale_factor: int,
    *,
    noise: float,
    regularisation: float | None = None,
    apodisation: str = "cosine",
    notch: float = 0.0,
) -> FloatArray:
    """Reconstruct one plane.

    Parameters
    ----------
    frames : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted.
    patterns : PatternSet
        Fringes, not images.
    otf : Otf
    upscale_factor : int
    noise : float
        Variance of a pixel.
    regularisation : float, optional
        Wiener parameter w [1]_, at least `MIN_REGULARISATION`; by default estimated
        from the noise and the spectrum of the frames at each frequency.
    apodisation : {"lukosz", "cosine", "none"}
    notch : float
        Suppression of each band at its centre, 0 to 1.

    Returns
    -------
    ndarray of shape (upscale_factor · Y, upscale_factor · X), float32

    Raises
    ------
    ConfigError
        If the patterns are images, or their phases do not separate the bands.
    """
    from scipy import fft

    if patterns.images is not None:
        raise ConfigError(
            "Wiener-SIM needs periodic fringes, but the patterns are images. Use "
            "joint Richardson–Lucy (--method joint-rl)."
        )
    grid = SimGrid.around(patterns.shape, upscale_factor, otf.cut_off)
    rows, columns = grid.padded
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None]
    transfer = otf.at(fy, fx).astype(np.float32)
    radius = (np.hypot(fy, fx) / (_NOTCH_WIDTH * otf.cut_off)).astype(np.float32)
    dip = 1 - np.float32(notch) * np.exp(-0.5 * radius**2)
    filtered = (transfer * dip).astype(np.complex64) * _half_pixel(fy, fx, grid)
    total: FloatArray = np.zeros(grid.fine, np.float32)
    power = np.zeros(_half(grid.fine), np.float32)
    amplification = 0.0
    y, x = grid.positions()
    for index, fringe in enumerate(patterns.fringes):
        weights_of_bands = unmixing(fringe).astype(np.complex64)
        bands = np.zeros((len(weights_of_bands), *grid.padded), np.complex64)
        for n, frame in enumerate(frames[index]):  # one at a time, to save memory
            spectrum = fft.fft2(_padded(frame, grid))
            for band, weights in zip(bands, weights_of_bands, strict=True):
                band += weights[n] * spectrum
            del spectrum
        for h, (weights, band) in enumerate(zip(weights_of_bands, bands, strict=True)):
            # Band h is amplitude / 2 times the shifted object, for either sign of h.
            strength = 1.0 if h == 0 else fringe.modulation[h - 1] / 2
            image = _upscaled(band * filtered * np.float32(strength), grid)
            k = (h * fringe.wave_vector[0], h * fringe.wave_vector[1])
            noise_power = float((np.abs(weights) ** 2).sum())
            amplification += noise_power / len(patterns.fringes) if h == 0 else 0
            if h == 0:
                total += image.real
                _add_power(power, otf, grid, (0.0, 0.0), strength, notch)
                continue
            turn = np.exp(-2j * np.pi * k[0] * y) * np.exp(-2j * np.pi * k[1] * x)
            total += 2 * (image * turn.astype(np.complex64)).real
            _add_power(power, otf, grid, k, strength, notch)
            _add_power(power, otf, grid, (-k[0], -k[1]), strength, notch)
    n_angles = len(patterns.fringes)
    spectrum = fft.rfft2(total) / n_angles
    power /= n_angles
    if regularisation is None:
        weight = _noise_to_signal(spectrum, power, noise * amplification, grid, frames)
    else:
        weight = np.full(power.shape, regularisation**2, np.float32)
    weight = np.maximum(weight, np.float32(MIN_REGULARISATION**2))
    brightness = spectrum[0, 0] / power[0, 0] if power[0, 0] > 0 else 0.0
    # The weight must not change the grey-value scale, so the gain is 1 where the
    # transfer is 1.
    gain = (1 + weight[0, 0]) / (power + weight)
    spectrum *= apodise(patterns, otf, grid, apodisation) * gain
    spectrum[0, 0] = brightness
    result: FloatArray = fft.irfft2(spectrum, grid.fine)[grid.inside_fine]
    return np.ascontiguousarray(result, np.float32)


def apodise(patterns: PatternSet, otf: Otf, grid: SimGrid, kind: str) -> FloatArray:
    """Return the weight of each frequency: 1 at zero, 0 beyond the support [2]_.

    Returns
    -------
    ndarray of shape (fine rows, fine columns // 2 + 1), float32
    """
    fy, fx = _frequencies(grid)
    reach = otf.cut_off + max(f.harmonics * f.frequency for f in patterns.fringes)
    v = np.minimum(np.hypot(fy, fx) / reach, 1).astype(np.float32)
    if kind == "cosine":
        return np.asarray(np.cos(np.pi / 2 * v), np.float32)
    if kind == "lukosz":
        return np.asarray(np.cos(np.pi * v / (1 + v)), np.float32)
    return np.asarray(v < 1, np.float32)


def _noise_to_signal(
    spectrum: npt.NDArray[np.complexfloating],
    power: FloatArray,
    noise: float,
    grid: SimGrid,
    frames: FloatArray,
) -> FloatArray:
    """Estimate noise power over object power at each frequency, by a fitted power law.

    `spectrum` is the object times `power`, plus noise with a power proportional to
    `power`.
    """
    fy, fx = _frequencies(grid)
    radius = np.hypot(fy, fx)
    pixels = frames.shape[-2] * frames.shape[-1]
    # Bands are averages over the phases of an angle and are summed over all angles.
    level = noise * pixels * grid.upscale_factor**4 / len(frames)
    edges = np.linspace(0, 1, 33)[1:] * radius[power > 1e-3].max()
    index = np.searchsorted(edges, radius)
    values, centres = [], []
    used = power > 0.02
    for i in range(1, len(edges) - 1):
        ring = (index == i) & used
        if np.count_nonzero(ring) < 16:
            continue
        seen = float((np.abs(spectrum[ring]) ** 2).sum())
        signal = (seen - level * float(power[ring].sum())) / float(
            (power[ring] ** 2).sum()
        )
        if signal > 0.05 * level:
            values.append(np.log(signal))
            centres.append(np.log((edges[i] + edges[i - 1]) / 2))
    if len(values) < 3:
        return np.full(power.shape, 0.1, np.float32)
    slope, start = np.polyfit(centres, values, 1)
    slope = min(slope, 0.0)
    first = np.exp(centres[0])
    law = np.exp(start + slope * np.log(np.maximum(radius, first)))
    return np.asarray(level / law, np.float32)


def _frequencies(grid: SimGrid) -> tuple[FloatArray, FloatArray]:
    """Return the frequencies of the fine grid in cycles per camera pixel."""
    s = grid.upscale_factor
    rows, columns = grid.fine
    return (
        np.fft.fftfreq(rows, 1 / s)[:, None].astype(np.float32),
        np.fft.rfftfreq(columns, 1 / s)[None].astype(np.float32),
    )


def _half(shape: tuple[int, int]) -> tuple[int, int]:
    return shape[0], shape[1] // 2 + 1


def _half_pixel(
    fy: FloatArray, fx: FloatArray, grid: SimGrid
) -> npt.NDArray[np.complex64]:
    """Return the phase factors that move camera pixels onto the fine grid."""
    offset = (grid.upscale_factor - 1) / (2 * grid.upscale_factor)
    turn: npt.NDArray[np.complex64] = np.exp(-2j * np.pi * offset * (fy + fx)).astype(
        np.complex64
    )
    turn[len(fy) // 2] = 0
    turn[:, fx.size // 2] = 0
    return turn


def _padded(frame: FloatArray, grid: SimGrid) -> FloatArray:
    """Pad a frame with a margin that fades to the mean grey value of the frame."""
    pads = [
        (part.start, n - part.stop)
        for part, n in zip(grid.inside, grid.padded, strict=True)
    ]
    mean = np.float32(frame.mean())
    padded = np.pad(
        frame - mean,
        pads,
        mode="reflect"
        if min(frame.shape) > max(p for pair in pads for p in pair)
        else "edge",
    )
    for axis, (before, after) in enumerate(pads):
        fade = np.ones(padded.shape[axis], np.float32)
        if before:
            fade[:before] = np.sin(np.pi / 2 * (np.arange(before) + 0.5) / before) ** 2
        if after:
            down = np.sin(np.pi / 2 * (np.arange(after) + 0.5) / after) ** 2
            fade[len(fade) - after :] = down[::-1]
        padded *= fade[:, None] if axis == 0 else fade
    return np.asarray(padded + mean, np.float32)


def _upscaled(
    band: npt.NDArray[np.complexfloating], grid: SimGrid
) -> npt.NDArray[np.complex64]:
    """Return the image of a band on the fine grid."""
    from scipy import fft

    rows, columns = grid.padded
    spectrum = np.zeros(grid.fine, np.complex64)
    r, c = rows // 2, columns // 2
    spectrum[:r, :c], spectrum[:r, -c:] = band[:r, :c], band[:r, -c:]
    spectrum[-r:, :c], spectrum[-r:, -c:] = band[-r:, :c], band[-r:, -c:]
    found: npt.NDArray[np.complex64] = fft.ifft2(spectrum, overwrite_x=True)
    return found * np.float32(grid.upscale_factor**2)


def _add_power(
    power: FloatArray,
    otf: Otf,
    grid: SimGrid,
    k: tuple[float, float],
    strength: float,
    notch: float,
) -> None:
    """Add the squared transfer of a band shifted by `k`."""
    fy, fx = _frequencies(grid)
    distance = np.hypot(fy + np.float32(k[0]), fx + np.float32(k[1]))
    near = distance < otf.cut_off
    found = np.zeros_like(power)
    value = otf.at(
        np.broadcast_to(fy + k[0], power.shape)[near],
        np.broadcast_to(fx + k[1], power.shape)[near],
    )
    if notch:
        dip = np.exp(-0.5 * (distance[near] / (_NOTCH_WIDTH * otf.cut_off)) ** 2)
        value = value * np.sqrt(1 - notch * dip)
    found[near] = (strength * value) ** 2
    power += found
