"""Compare Wiener-SIM with that of napari-sim-processor (BSD-3) on the same frames.

    python benchmarks/bench_sim_processor.py

napari-sim-processor must be installed in a separate environment, without its
dependencies: ``pip install --no-deps napari-sim-processor``. Both programs are given
the optics. For napari-sim-processor, the better of two values is used for the search
radius `eta` and for the Wiener parameter `w`; its result is shifted by up to one pixel
if this improves the agreement.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import types

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bench_sim import PIXEL, frames_of
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.sim import SimConfig, estimate_steps, run_steps
from napari_geosr.physics.illumination.simulation import (
    SimScene,
    SimulatedFrames,
    simulate_frames,
)

Array = npt.NDArray[np.floating]
SCENES = (("filaments", 20), ("er", 10), ("spots", 50))
SIZE, CUT_OFF, BORDER = 256, 0.37, 24
NAME = "napari_sim_processor"


def correlation(image: Array, truth: Array) -> float:
    """Return the correlation coefficient, excluding a border."""
    part = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    return float(np.corrcoef(image[part].ravel(), truth[part].ravel())[0, 1])


def peer(made: SimulatedFrames, truth: Array) -> float:
    """Return the best correlation of the other program over its settings."""
    # Installed in a separate environment, so its types are unknown here.
    other = importlib.import_module("napari_sim_processor.processors.convSimProcessor")
    block = (made.frames - 100).reshape(9, SIZE, SIZE).astype(np.float32)
    best = 0.0
    for eta, w in itertools.product((0.75, 0.85), (0.1, 0.3)):
        program = other.ConvSimProcessor(3, 3)
        settings = {
            "debug": False,
            "magnification": 100,
            "pixelsize": 100 * PIXEL,
            "NA": 1.4,
            "n": 1.6,
            "wavelength": 2 * 1.4 * PIXEL / CUT_OFF,
            "Nx": SIZE,
            "Ny": SIZE,
            "N": SIZE,
            "eta": eta,
            "w": w,
        }
        for name, value in settings.items():
            setattr(program, name, value)
        program.calibrate(block)
        spectrum = np.fft.fft2(program.reconstruct_rfftw(block))
        for shift in (-1, -0.5, 0, 0.5, 1):
            moved = ndimage.fourier_shift(spectrum, (shift, shift))
            best = max(best, correlation(np.fft.ifft2(moved).real, truth))
    return best


def main() -> None:
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("Install napari-sim-processor in a separate environment first.")
    # The widget that its __init__ imports is not needed.
    package = types.ModuleType(NAME)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[NAME] = package
    print("| structure | SNR | napari-sim-processor | Wiener-SIM | joint RL |")
    print("|---|---|---|---|---|")
    for structure, snr in SCENES:
        scene = SimScene(size=SIZE, cut_off=CUT_OFF, snr=snr, seed=1)
        made = simulate_frames(structure, scene)
        truth = made.truth.reshape(2 * SIZE, 2, 2 * SIZE, 2).mean(axis=(1, 3))
        frames = frames_of(made)
        estimate = run_to_end(estimate_steps(frames, SimConfig(threads=1)))
        ours = []
        for method in ("wiener", "joint-rl"):
            config = SimConfig(method=method, threads=1, checks=False)
            result = run_to_end(run_steps(frames, config, patterns=estimate))
            ours.append(correlation(np.asarray(result.volume), truth))
        figures = " | ".join(f"{v:.3f}" for v in (peer(made, truth), *ours))
        print(f"| {structure} | {snr} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
