"""Small simulated frames for the tests of structured illumination."""

from __future__ import annotations

import functools

import numpy as np

from napari_geosr.core.sim_frames import Optics, SimFrames
from napari_geosr.core.volume import Volume
from napari_geosr.physics.illumination.simulation import (
    SimScene,
    SimulatedFrames,
    simulate_frames,
)

#: Pixel size in µm, and the optics that yield the cut-off of `SimScene`.
PIXEL = 0.065
OPTICS = Optics(1.4, (2 * 1.4 * PIXEL * 1000 / 0.37,), 1.515)


@functools.cache
def scene(structure: str = "filaments", **settings: object) -> SimulatedFrames:
    """Simulated frames, cached for other tests with the same settings."""
    return simulate_frames(structure, SimScene(**{"size": 128, **settings}))


def volume_of(made: SimulatedFrames, order: str = "apz") -> Volume:
    """The frames as one interleaved stack in the given order."""
    stack = made.frames[:, :, None]
    stack = stack.transpose([*("apz".index(letter) for letter in order), 3, 4])
    size = (0.2, PIXEL, PIXEL)
    return Volume(stack.reshape(-1, *stack.shape[-2:]), "ZYX", size, "µm", name="raw")


def frames_of_scene(made: SimulatedFrames, **settings: object) -> SimFrames:
    """The frames, with their optics and the offset of the simulation."""
    angles, phases = made.frames.shape[:2]
    given = {"order": "apz", "optics": OPTICS, "offset": 100.0, **settings}
    return SimFrames.from_volume(volume_of(made), angles=angles, phases=phases, **given)


def fitted_psnr(image: np.ndarray, truth: np.ndarray, border: int = 12) -> float:
    """PSNR in dB after scaling `image` to the truth, without a border."""
    a, t = (v[border:-border, border:-border].astype(float) for v in (image, truth))
    slope, start = np.polyfit(a.ravel(), t.ravel(), 1)
    error = np.mean((slope * a + start - t) ** 2)
    return float(10 * np.log10((t.max() - t.min()) ** 2 / error))


def correlation(image: np.ndarray, truth: np.ndarray, border: int = 12) -> float:
    """Correlation coefficient, without a border."""
    a, t = (v[border:-border, border:-border].ravel() for v in (image, truth))
    return float(np.corrcoef(a, t)[0, 1])
