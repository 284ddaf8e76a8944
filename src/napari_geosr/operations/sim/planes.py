"""Reconstruct a single plane by any of the methods."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr import learning
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    PreviewReady,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.estimate import brightest_part, computed
from napari_geosr.operations.sim.memory import (
    n_terms,
    require_network_memory,
    require_wiener_memory,
    tiles_for,
)
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy, best_iterations, thinned
from napari_geosr.sim.noise import FrameNoise, frame_noise
from napari_geosr.sim.wiener import wiener_reconstruction

if TYPE_CHECKING:
    from napari_geosr.learning.frame_fit import FrameFit

FloatArray = npt.NDArray[np.float32]

#: Maximum number of iterations of joint Richardson–Lucy if the number is chosen
#: automatically. Higher harmonics are weak and converge slowly: for nonlinear
#: illumination, more than 300 iterations gain up to 3 dB; for linear illumination, they
#: take time and gain nothing on average.
MOST_ITERATIONS = 300
MOST_NONLINEAR_ITERATIONS = 1000
#: Edge length, in camera pixels, of the part of the frames with which the number of
#: iterations is chosen, for 9 frames per plane; see `trial_edge`.
_TRIAL_EDGE = 192
_SMALLEST_TRIAL_EDGE = 64
#: Edge length, in camera pixels, of the part of the frames with which the number of
#: training steps of a network is chosen.
_NETWORK_TRIAL_EDGE = 96
#: Number of training steps without improvement after which training on this part ends.
_NETWORK_PATIENCE = 25
#: Seconds between two previews of a network.
_PREVIEW_SECONDS = 3.0


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
        Raw frames with the offset subtracted.
    patterns : PatternSet
    otf : Otf
    config : SimConfig
    device : str
    iterations : int, optional
        Iterations of joint Richardson–Lucy, if already chosen for another plane.

    Returns
    -------
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X), float32
    iterations : int
        0 if the method is not iterative.

    Raises
    ------
    VolumeError
        If the result has NaN or infinite pixels.
    """
    if config.method == "widefield":
        return widefield(block, config.upscale_factor), 0
    if config.method == "wiener":
        require_wiener_memory(patterns.shape, patterns.harmonics, otf, config)
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
        return _finite(image, config), 0
    noise = frame_noise(block, otf)
    n = config.iterations or iterations
    if n is None:
        n = yield from choose_iterations(
            block, patterns, otf, config, device, should_stop
        )
    if config.method == "pinn":
        image = yield from _network_steps(
            block, patterns, otf, config, n, noise, device, should_stop
        )
        return _finite(image, config), n
    image = yield from _tiled_steps(
        block, patterns, otf, config, n, noise, device, should_stop
    )
    return _finite(image, config), n


def _finite(image: FloatArray, config: SimConfig) -> FloatArray:
    """Return `image`; refuse it if it has NaN or infinite pixels."""
    n = image.size - int(np.count_nonzero(np.isfinite(image)))
    if n:
        raise VolumeError(
            f"{METHOD_TITLES[config.method]} failed: {n} of {image.size} pixels of the "
            "result are NaN or infinite. Check that the grey values of the frames are "
            "not extremely large or small, or use another method (--method)."
        )
    return image


def _tiled_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    noise: FrameNoise,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, FloatArray]:
    """Run joint Richardson–Lucy in overlapping tiles that fit into memory."""
    s = config.upscale_factor
    rows, columns = block.shape[-2:]
    image = np.empty((s * rows, s * columns), np.float32)
    shape, terms = (rows, columns), n_terms(patterns)
    tiles = tiles_for(shape, patterns.n_frames, terms, otf, config, device)
    for done, (core, window) in enumerate(tiles):
        steps = fit_steps(
            block[(..., *window)],
            patterns.cropped(window),
            otf,
            config,
            iterations,
            shift=noise.shift,
            device=device,
            should_stop=should_stop,
        )
        with StepIterator(steps) as iterator:
            for step in iterator:
                yield IterationDone(
                    done * iterations + step.done,
                    len(tiles) * iterations,
                    iteration=step.done,
                    iterations=iterations,
                )
        inner = tuple(
            slice(s * (c.start - w.start), s * (c.stop - w.start))
            for c, w in zip(core, window, strict=True)
        )
        place = tuple(slice(s * c.start, s * c.stop) for c in core)
        image[place] = iterator.result.result()[inner]
    return image


def _network_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    noise: FrameNoise,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, FloatArray]:
    """Improve the result of `fit_steps` with a network fitted to the frames."""
    require_network_memory(
        patterns.shape, patterns.n_frames, n_terms(patterns), otf, config, device
    )
    steps = config.steps
    if config.recipe == "refine":
        steps = yield from choose_network_steps(
            block, patterns, otf, config, iterations, device, should_stop
        )
    fit = yield from fit_steps(
        block,
        patterns,
        otf,
        config,
        iterations,
        shift=noise.shift,
        device=device,
        should_stop=should_stop,
    )
    if steps == 0:
        yield WarningIssued(
            message="Held-out photons are predicted best without the network: the "
            "result is that of joint Richardson–Lucy."
        )
        return fit.result()
    network = frame_fit_of(fit, block, patterns, noise, config)
    shown = -math.inf
    for done in range(steps):
        if should_stop():
            raise Cancelled("Stopped before the result was complete.")
        with exact_settings(config.threads, gradients=True):
            network.step()
        yield IterationDone(done + 1, steps, iteration=done + 1, iterations=steps)
        if time.monotonic() - shown >= _PREVIEW_SECONDS:
            with exact_settings(config.threads):
                fit.image = network.result()
            image = Volume(fit.result().copy(), "YX", (1.0, 1.0), name="preview")
            yield PreviewReady(done + 1, steps, image)
            shown = time.monotonic()
    with exact_settings(config.threads):
        fit.image = network.result()
    return fit.result()


def frame_fit_of(
    fit: JointRichardsonLucy,
    block: FloatArray,
    patterns: PatternSet,
    noise: FrameNoise,
    config: SimConfig,
    *,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> FrameFit:
    """Create a network that starts from the current object of `fit`.

    Parameters
    ----------
    fit : JointRichardsonLucy
    block : ndarray of shape (angles, phases, Y, X)
        The frames of `fit`.
    patterns : PatternSet
    noise : FrameNoise
    config : SimConfig
    learning_rate : float
    seed : int
    """
    import torch

    variance = torch.from_numpy(noise.weights(block.mean(axis=(0, 1))))
    settings = learning.frame_fit.FrameFitSettings(
        recipe=config.recipe,
        learning_rate=learning_rate,
        features=config.features,
        seed=seed,
        patterns_after=config.patterns_after,
    )
    # Tensors created in inference mode cannot be differentiated.
    with exact_settings(config.threads, gradients=True):
        return learning.frame_fit.FrameFit(
            fit.operator,
            fit.frames.clone(),
            fit.image.clone(),
            variance.to(fit.frames.device),
            settings,
            patterns,
        )


def choose_network_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, int]:
    """Find the number of steps that predicts held-out photons best; 0 if none helps."""
    import torch

    place = brightest_part(block.mean(axis=(0, 1)), _NETWORK_TRIAL_EDGE)
    part = block[(..., *place)]
    noise = frame_noise(block, otf)
    single = noise.weights(part.mean(axis=(0, 1)))
    kept, held = thinned(part, single)
    fit = yield from fit_steps(
        kept,
        patterns.cropped(place),
        otf,
        config,
        iterations,
        shift=noise.shift,
        device=device,
        should_stop=should_stop,
    )
    network = frame_fit_of(fit, kept, patterns.cropped(place), noise, config)
    target = torch.from_numpy(held.reshape(-1, *part.shape[-2:])).to(device)
    scale = torch.from_numpy(2 * single).to(device)
    misfits: list[float] = []
    yield StageStarted(message="Choosing the number of steps")
    for done in range(config.steps + 1):
        if should_stop():
            raise Cancelled("Stopped while the number of steps was being chosen.")
        with exact_settings(config.threads):
            misfits.append(network.held_out_misfit(target, scale))
        best = int(np.argmin(misfits))
        if len(misfits) - 1 - best >= _NETWORK_PATIENCE:
            break
        with exact_settings(config.threads, gradients=True):
            network.step()
        yield BlockDone(done + 1, config.steps)
    yield StageStarted(message=METHOD_TITLES[config.method])
    # An improvement smaller than the scatter of the misfit does not count.
    scatter = math.sqrt(2 / target.numel())
    best = int(np.argmin(misfits))
    return best if misfits[0] - misfits[best] > scatter else 0


def fit_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    iterations: int,
    *,
    shift: float,
    device: str = "cpu",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, JointRichardsonLucy]:
    """Run joint Richardson–Lucy on one plane.

    The arguments are as in `plane_steps`; for `shift`, see `JointRichardsonLucy`.
    """
    import torch

    operator = IlluminationOperator.create(patterns, otf, config.upscale_factor, device)
    frames = np.ascontiguousarray(block.reshape(-1, *block.shape[-2:]))
    with exact_settings(config.threads):
        values = torch.from_numpy(frames).to(device)
        fit = JointRichardsonLucy(operator, values, config.tv, shift=shift)
    for i in range(iterations):
        if should_stop():
            raise Cancelled("Stopped before the result was complete.")
        with exact_settings(config.threads):
            fit.step()
        yield IterationDone(i + 1, iterations, iteration=i + 1, iterations=iterations)
    return fit


def choose_iterations(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, int]:
    """Choose the number of iterations for a plane, using its brightest part."""
    yield StageStarted(message="Choosing the number of iterations")
    place = brightest_part(block.mean(axis=(0, 1)), trial_edge(block))
    part = block[(..., *place)]
    noise: FrameNoise = frame_noise(block, otf)
    operator = IlluminationOperator.create(
        patterns.cropped(place), otf, config.upscale_factor, device
    )
    steps = best_iterations(
        operator,
        part.reshape(-1, *part.shape[-2:]),
        noise.weights(part.mean(axis=(0, 1))),
        most=most_iterations(patterns),
        shift=noise.shift,
        tv=config.tv,
        should_stop=should_stop,
    )
    with StepIterator(computed(steps, config.threads)) as iterator:
        for step in iterator:
            yield BlockDone(step.done, step.total)
    yield StageStarted(message=METHOD_TITLES[config.method])
    return iterator.result.best


def most_iterations(patterns: PatternSet) -> int:
    """Return the maximum number of iterations that may be chosen for these patterns."""
    return MOST_ITERATIONS if patterns.harmonics < 2 else MOST_NONLINEAR_ITERATIONS


def trial_edge(block: FloatArray) -> int:
    """Return the edge length of the part that is reconstructed in trials.

    The edge decreases with the number of frames, so that the total number of pixels
    stays about the same.
    """
    edge = round(_TRIAL_EDGE * math.sqrt(9 / (block.shape[0] * block.shape[1])))
    return min(_TRIAL_EDGE, max(_SMALLEST_TRIAL_EDGE, edge))


def widefield(block: FloatArray, upscale_factor: int) -> FloatArray:
    """Return the mean of all frames, interpolated to the grid of the other methods."""
    from scipy import ndimage

    mean = block.mean(axis=(0, 1))
    if upscale_factor == 1:
        return np.asarray(mean, np.float32)
    found = ndimage.zoom(mean, upscale_factor, order=3, mode="nearest", grid_mode=True)
    return np.asarray(found, np.float32)
