"""Reconstruct one plane by one method."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    ShouldStop,
    Step,
    StepIterator,
    never_stop,
)
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import brightest_part
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy, best_iterations
from napari_geosr.sim.noise import FrameNoise, frame_noise
from napari_geosr.sim.wiener import wiener_reconstruction

FloatArray = npt.NDArray[np.float32]

#: Maximum number of iterations of joint Richardson–Lucy if it is chosen.
MOST_ITERATIONS = 80
#: Edge in camera pixels of the part on which the number of iterations is chosen.
_TRIAL_EDGE = 192


def plane_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    *,
    device: str = "cpu",
    iterations: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[FloatArray, int]]:
    """Reconstruct one plane.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        With the offset subtracted.
    patterns : PatternSet
    otf : Otf
    config : SimConfig
    device : str
    iterations : int, optional
        Iterations of joint Richardson–Lucy, if they were chosen for another plane.

    Returns
    -------
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X), float32
    iterations : int
        0 if the method does not iterate.
    """
    if config.method == "widefield":
        return widefield(block, config.upscale_factor), 0
    if config.method == "wiener":
        image = wiener_reconstruction(
            block,
            patterns,
            otf,
            config.upscale_factor,
            noise=frame_noise(block, otf).variance,
            regularisation=config.regularisation,
            apodisation=config.apodisation,
            notch=config.notch,
        )
        return image, 0
    n = config.iterations or iterations
    if n is None:
        n = yield from _choose_iterations(
            block, patterns, otf, config, device, should_stop
        )
    fit = yield from fit_steps(
        block, patterns, otf, config, n, device=device, should_stop=should_stop
    )
    return fit.result(), n


def fit_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    *,
    device: str = "cpu",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, JointRichardsonLucy]:
    """Run joint Richardson–Lucy on one plane; the arguments are as in `plane_steps`."""
    import torch

    operator = IlluminationOperator.create(patterns, otf, config.upscale_factor, device)
    values = torch.from_numpy(np.maximum(block, 0).reshape(-1, *block.shape[-2:]))
    with exact_settings(config.threads):
        fit = JointRichardsonLucy(operator, values.to(device), config.tv)
    for i in range(iterations):
        if should_stop():
            raise Cancelled("Stopped before the result was complete.")
        with exact_settings(config.threads):
            fit.step()
        yield IterationDone(i + 1, iterations, iteration=i + 1, iterations=iterations)
    return fit


def _choose_iterations(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, int]:
    """Number of iterations for a plane, from its brightest part."""
    place = brightest_part(block.mean(axis=(0, 1)), _TRIAL_EDGE)
    part = block[(..., *place)]
    noise: FrameNoise = frame_noise(block, otf)
    operator = IlluminationOperator.create(
        patterns.cropped(place), otf, config.upscale_factor, device
    )
    steps = best_iterations(
        operator,
        part.reshape(-1, *part.shape[-2:]),
        noise.weights(part.mean(axis=(0, 1))),
        most=MOST_ITERATIONS,
        tv=config.tv,
        should_stop=should_stop,
    )
    yield BlockDone()
    with StepIterator(steps) as iterator:
        for _ in iterator:
            yield BlockDone()
    return iterator.result.best


def widefield(block: FloatArray, upscale_factor: int) -> FloatArray:
    """Mean of all frames, interpolated to the grid of the other methods."""
    from scipy import ndimage

    mean = block.mean(axis=(0, 1))
    if upscale_factor == 1:
        return np.asarray(mean, np.float32)
    found = ndimage.zoom(mean, upscale_factor, order=3, mode="nearest", grid_mode=True)
    return np.asarray(found, np.float32)
