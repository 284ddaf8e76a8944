"""Simulated frames of structured illumination, with a known object and known patterns.

References
----------
.. [1] Heintzmann, Jovin and Cremer. Saturated patterned excitation microscopy. J. Opt.
   Soc. Am. A 19, 1599-1609 (2002). doi:10.1364/JOSAA.19.001599
.. [2] Gustafsson. Nonlinear structured-illumination microscopy. PNAS 102, 13081-13086
   (2005). doi:10.1073/pnas.0406877102
.. [3] Gustafsson et al. Three-dimensional resolution doubling in wide-field
   fluorescence microscopy by structured illumination. Biophys. J. 94, 4957-4970
   (2008). doi:10.1529/biophysj.107.120345
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.physics.illumination import IlluminationOperator, SimGrid
from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Structures that can be simulated.
STRUCTURES = ("filaments", "rings", "er", "spots")
#: Responses of the fluorophores to the light.
RESPONSES = ("linear", "saturated", "saturated-hyperbolic", "switching")
#: Number of pixels of the finest grid per camera pixel, along each axis.
_FINE = 4
#: Standard deviation of the blur of structures, in fine pixels; the blur avoids
#: undersampling.
_THICKNESS = 0.8
#: Number of points along one period for the expansion of a response into harmonics.
_PERIOD = 256
#: Standard deviation of the spectrum of out-of-focus haze, relative to the cut-off.
_HAZE_CUT_OFF = 0.12
#: Minimum relative amplitude of the harmonics of a nonlinear response that are
#: simulated.
_MIN_HARMONIC = 1e-3
#: Maximum number of harmonics that are simulated.
_MAX_HARMONICS = 8


@dataclass(frozen=True)
class SimScene:
    """Settings of simulated frames.

    Attributes
    ----------
    size : int
        Edge length of a frame in camera pixels.
    angles, phases : int
    cut_off : float
        Cut-off frequency of the objective, in cycles per camera pixel.
    frequency : float
        Frequency of the finest pattern of the light, relative to the cut-off.
    beams : int
        2, or 3 for three equally bright beams: the light then also has a stronger
        pattern with half the frequency [3]_.
    modulation : float
        Modulation of the excitation light, 0 to 1; 1 is that of ideal beams.
    response : str
        One of `RESPONSES`.
    saturation : float
        Strength s of the nonlinear response.
    snr : float
        99th percentile of the noise-free frames, without offset, relative to the noise
        at this grey value. It determines the photon count, because the noise is the
        square root of the number of photons. 0 disables the noise.
    read_noise : float
        Standard deviation of the camera's noise, in photons per pixel; not part of
        `snr`, and disabled with it.
    offset : float
        Grey value without light.
    gain : float
        Grey values per photon.
    bleaching : float
        Fraction of the light that is lost from the first frame to the last.
    haze : float
        Out-of-focus light relative to the mean of the frames.
    phase_error : float
        Standard deviation of the phase errors relative to equal steps, in degrees.
    wave_vector_error : float
        Relative standard deviation of the length of wave vectors.
    seed : int
    plane : int
        Index of the plane: planes with the same seed have the same patterns, but
        different objects.
    """

    size: int = 256
    angles: int = 3
    phases: int = 3
    cut_off: float = 0.37
    frequency: float = 0.85
    beams: int = 2
    modulation: float = 0.9
    response: str = "linear"
    saturation: float = 4.0
    snr: float = 20.0
    read_noise: float = 0.0
    offset: float = 100.0
    gain: float = 2.0
    bleaching: float = 0.0
    haze: float = 0.0
    phase_error: float = 0.0
    wave_vector_error: float = 0.0
    seed: int = 0
    plane: int = 0


@dataclass(frozen=True, eq=False)
class SimulatedFrames:
    """Simulated frames with their ground truth.

    Attributes
    ----------
    frames : ndarray of shape (angles, phases, Y, X), float32
        Grey values, with offset and noise.
    clean : ndarray of the same shape
        The frames without noise and offset.
    truth : ndarray of shape (4 Y, 4 X), float32
        The object, in units of its mean.
    patterns : PatternSet
    otf : Otf
    """

    frames: FloatArray
    clean: FloatArray
    truth: FloatArray
    patterns: PatternSet
    otf: Otf


def simulate_frames(structure: str, scene: SimScene) -> SimulatedFrames:
    """Simulate the frames of one plane.

    Parameters
    ----------
    structure : {"filaments", "rings", "er", "spots"}
    scene : SimScene

    Raises
    ------
    ConfigError
        If there is no such structure or response.
    """
    if structure not in STRUCTURES:
        raise ConfigError(
            f"Unknown structure {structure!r}. Choose one of {', '.join(STRUCTURES)}."
        )
    rng = np.random.default_rng(scene.seed)
    patterns = scene_patterns(scene, rng)
    rng = np.random.default_rng([scene.seed, STRUCTURES.index(structure), scene.plane])
    otf = Otf(scene.cut_off)
    truth, clean = _clean_frames(structure, scene, patterns, otf, rng)
    frames = _exposed(clean, scene, rng)
    return SimulatedFrames(frames, clean, truth, patterns, otf)


def scene_patterns(scene: SimScene, rng: np.random.Generator) -> PatternSet:
    """Return a scene's patterns: evenly spaced apart from the simulated errors."""
    amplitudes = harmonic_amplitudes(scene)
    start = rng.uniform(0, math.pi)
    fringes = []
    for a in range(scene.angles):
        direction = start + a * math.pi / scene.angles
        length = scene.frequency * scene.cut_off / (scene.beams - 1)
        length *= 1 + scene.wave_vector_error * rng.standard_normal()
        first = rng.uniform(0, 2 * math.pi)
        phases = first + 2 * math.pi * np.arange(scene.phases) / scene.phases
        phases = phases + np.radians(scene.phase_error) * rng.standard_normal(
            scene.phases
        )
        k = (length * math.sin(direction), length * math.cos(direction))
        if k[0] < 0 or (k[0] == 0 and k[1] < 0):
            k, phases = (-k[0], -k[1]), -phases
        place = a * scene.phases + np.arange(scene.phases)
        total = scene.angles * scene.phases
        light = 1 - scene.bleaching * place / max(total - 1, 1)
        fringes.append(
            FringePattern(
                k,
                tuple(float(p) for p in phases),
                amplitudes,
                tuple(float(v) for v in light),
            )
        )
    return PatternSet(tuple(fringes), (scene.size, scene.size))


def harmonic_amplitudes(scene: SimScene) -> tuple[float, ...]:
    """Return the amplitudes of the harmonics of the emission, relative to its mean.

    The excitation is ``I = 1 + m cos``, or ``1 + m (4 cos(t) + 2 cos(2 t)) / 3`` for
    three beams [3]_; the emission is ``I``, ``1 - exp(-s I)`` [1]_, ``s I / (1 + s I)``
    [2]_, or, for photo-switching, ``exp(-s I)``: only fluorophores that the pattern has
    not switched off emit light.

    Raises
    ------
    ConfigError
        If there is no such response.
    """
    turn = 2 * np.pi * np.arange(_PERIOD) / _PERIOD
    stripes = np.cos(turn)
    if scene.beams == 3:
        stripes = (4 * np.cos(turn) + 2 * np.cos(2 * turn)) / 3
    light = 1 + scene.modulation * stripes
    s = scene.saturation
    responses = {
        "linear": light,
        "saturated": 1 - np.exp(-s * light),
        "saturated-hyperbolic": s * light / (1 + s * light),
        "switching": np.exp(-s * light),
    }
    if scene.response not in responses:
        raise ConfigError(
            f"Unknown response {scene.response!r}. Choose one of "
            f"{', '.join(RESPONSES)}."
        )
    emission = np.fft.rfft(responses[scene.response])
    amplitudes = 2 * emission.real[1 : _MAX_HARMONICS + 1] / emission.real[0]
    kept = np.flatnonzero(np.abs(amplitudes) >= _MIN_HARMONIC)
    last = int(kept[-1]) + 1 if len(kept) else 1
    return tuple(float(v) for v in amplitudes[:last])


def _clean_frames(
    structure: str,
    scene: SimScene,
    patterns: PatternSet,
    otf: Otf,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Return the object in the field of view, and noise-free frames of mean 1."""
    import torch

    operator = IlluminationOperator.create(patterns, otf, _FINE)
    light = draw_structure(structure, operator.grid.fine, _FINE / scene.cut_off, rng)
    with torch.inference_mode():
        image = torch.from_numpy(light)
        seen = operator.forward(image).numpy()
        if scene.haze:
            blurred = _haze(light, operator.grid, scene)
            weights = np.concatenate([f.intensity for f in patterns.fringes])
            seen = seen + weights[:, None, None].astype(np.float32) * blurred
    seen = np.maximum(seen, 0)
    mean = float(seen.mean())
    truth = light[operator.grid.inside_fine]
    shape = (scene.angles, scene.phases, scene.size, scene.size)
    scaled = (seen / mean).reshape(shape).astype(np.float32)
    return np.ascontiguousarray(truth / truth.mean(), np.float32), scaled


def _haze(light: FloatArray, grid: SimGrid, scene: SimScene) -> FloatArray:
    """Return the out-of-focus light on the camera: blurred, and not modulated."""
    from scipy import ndimage

    width = _FINE / (2 * math.pi * _HAZE_CUT_OFF * scene.cut_off)
    blurred = ndimage.gaussian_filter(light, width, mode="wrap")
    rows, columns = grid.inside_fine
    s = _FINE
    part = blurred[rows, columns].reshape(grid.shape[0], s, grid.shape[1], s)
    return np.asarray(scene.haze * part.mean(axis=(1, 3)), np.float32)


def _exposed(
    clean: FloatArray, scene: SimScene, rng: np.random.Generator
) -> FloatArray:
    """Return the frames in grey values, with shot noise and read noise."""
    bright = float(np.percentile(clean, 99))
    photons = scene.snr**2 / bright if scene.snr else 1000.0 / bright
    counts = np.asarray(clean * photons, np.float64)
    if scene.snr:
        counts = rng.poisson(counts).astype(np.float64)
        if scene.read_noise:
            counts += scene.read_noise * rng.standard_normal(counts.shape)
    return np.asarray(scene.offset + scene.gain * counts, np.float32)


def draw_structure(
    structure: str, shape: tuple[int, int], period: float, rng: np.random.Generator
) -> FloatArray:
    """Draw an object with detail too fine for a widefield microscope to resolve.

    Parameters
    ----------
    structure : str
    shape : (int, int)
    period : float
        Cut-off period of a widefield microscope in pixels, to which sizes are relative.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of `shape`, float32
    """
    from scipy import ndimage

    light = np.zeros(shape, np.float32)
    area = shape[0] * shape[1]
    if structure == "filaments":
        for _ in range(max(4, int(area / (14 * period) ** 2 * 6))):
            _add_points(light, *_filament(shape, period, rng))
    elif structure == "rings":
        for _ in range(max(4, int(area / (4 * period) ** 2))):
            _add_points(light, *_ring(shape, period, rng))
    elif structure == "er":
        _add_network(light, period, rng)
    else:
        n = max(20, int(area / (2 * period) ** 2))
        points = rng.uniform(0, shape, (n, 2))
        _add_points(light, points, rng.lognormal(0, 0.4, n))
    smooth = ndimage.gaussian_filter(light, _THICKNESS, mode="wrap")
    return np.asarray(smooth, np.float32)


def _filament(
    shape: tuple[int, int], period: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw the points of a curved line."""
    n = int(2 * max(shape))
    turns = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.12 / period, n))
    y = rng.uniform(0, shape[0]) + np.cumsum(0.5 * np.sin(turns))
    x = rng.uniform(0, shape[1]) + np.cumsum(0.5 * np.cos(turns))
    return np.stack([y, x], 1), np.full(n, rng.uniform(0.5, 1))


def _ring(
    shape: tuple[int, int], period: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Draw the points of a circle near the resolution limit, such as a coated pit."""
    radius = period * rng.uniform(0.3, 0.7)
    n = int(8 * np.pi * radius)
    turns = np.linspace(0, 2 * np.pi, n, endpoint=False)
    centre = rng.uniform(0, shape)
    points = centre + radius * np.stack([np.sin(turns), np.cos(turns)], 1)
    return points, np.full(n, rng.uniform(0.5, 1))


def _add_network(light: FloatArray, period: float, rng: np.random.Generator) -> None:
    """Draw the edges of random polygons: tubules as in the endoplasmic reticulum."""
    from scipy.spatial import Voronoi

    rows, columns = light.shape
    spacing = 3 * period
    n = max(8, int(rows * columns / spacing**2))
    cells = Voronoi(rng.uniform(-spacing, [rows + spacing, columns + spacing], (n, 2)))
    for one, other in cells.ridge_vertices:
        if min(one, other) < 0:
            continue
        start, end = cells.vertices[one], cells.vertices[other]
        length = float(np.hypot(*(end - start)))
        if length > 10 * spacing:
            continue
        along = np.linspace(0, 1, max(2, int(2 * length)))[:, None]
        points = start + along * (end - start)
        _add_points(light, points, np.full(len(points), 1.0))


def _add_points(
    light: FloatArray,
    points: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> None:
    """Distribute points among the four surrounding pixels."""
    low = np.floor(points).astype(int)
    share = points - low
    for corner in np.ndindex(2, 2):
        place = low + corner
        weight = weights * np.prod(np.where(corner, share, 1 - share), axis=1)
        inside = ((place >= 0) & (place < light.shape)).all(axis=1)
        np.add.at(light, tuple(place[inside].T), weight[inside].astype(np.float32))
