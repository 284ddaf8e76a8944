"""Measures how well a reconstruction explains the frames.

The object that belongs to the result is illuminated by every pattern, blurred by the
objective and sampled by the camera; the difference from the frames is given in units of
the noise. What counts as the object depends on the method:

- Joint Richardson–Lucy and the network estimate the object itself.
- Wiener-SIM estimates the object times the apodisation, which is known and therefore
  divided out, wherever it exceeds 2 %. The regularisation is not divided out, because
  it decides how well the object is deconvolved.
- Widefield is the object blurred by the objective, so it is divided by the transfer
  function (regularised). A widefield image contains no frequency beyond the cut-off and
  therefore cannot explain all of the stripes: its residual shows how much information
  in the frames is not used.

For Wiener-SIM and widefield, a brightness scale and an offset are fitted to all frames
of the plane, because both may be arbitrary in such images.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate, brightest_part
from napari_geosr.operations.sim.planes import trial_edge
from napari_geosr.operations.sim.trust.causes import result_advice
from napari_geosr.physics.illumination import IlluminationOperator, SimGrid
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy
from napari_geosr.sim.outliers import Outlier
from napari_geosr.sim.wiener import apodise, wiener_reconstruction

FloatArray = npt.NDArray[np.float32]

#: Edge length, in camera pixels, of the part of the frames that is checked.
CHECKED_EDGE = 192
#: Width of the border of the field of view that is not compared, in periods of the
#: cut-off frequency: light from outside reaches it.
_BORDER = 2.0
#: Distance from a hot pixel, in periods of the cut-off frequency, up to which a result
#: is not compared: in the result, a hot pixel is blurred to the size of the
#: point-spread function.
_AROUND = 3.0
#: Smallest apodisation that is divided out.
_LEAST_APODISATION = 0.02
#: Squared transfer below which a widefield image is not deconvolved.
_LEAST_POWER = 1e-3
#: Maximum residual of a result, relative to that of the patterns or to the noise
#: (whichever is larger); above it, a warning is issued. The ratio is less than 1.1 for
#: good results, and at least 1.4 after only one iteration of Richardson–Lucy, or if the
#: regularisation is far too strong.
_WORSE = 1.3
#: A result does not explain the frames either if its residual exceeds both limits: a
#: multiple of the noise, and a fraction of the residual of the short fit. More
#: iterations reduce the residual only if optics, offset and patterns are correct: of
#: good results with a residual above 1.5 (SNR 50 and 85), the fraction is at most 0.5.
_UNEXPLAINED = 1.5
_HARDLY_BETTER = 0.8
#: Number of given iterations, per harmonic, from which this rule is used: after about
#: as many iterations as in the short fit, the two residuals do not differ, and higher
#: harmonics converge more slowly.
_ENOUGH_ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class ResultResidual:
    """Difference between the frames and those expected from a result.

    Attributes
    ----------
    frames : ndarray of shape (angles, phases)
        RMS in units of the noise, without the surroundings of hot pixels.
    map : ndarray of shape (Y, X)
        RMS over all frames, in units of the noise, of every pixel.
    place : (slice, slice)
        The part of the frames that the map covers.
    """

    frames: FloatArray
    map: FloatArray = field(repr=False)
    place: tuple[slice, slice]

    @property
    def rms(self) -> float:
        """RMS of all frames."""
        return float(np.sqrt(np.square(self.frames).mean(dtype=np.float64)))


def result_residual(
    image: FloatArray,
    block: FloatArray,
    estimate: PatternEstimate,
    config: SimConfig,
    device: str = "cpu",
    *,
    outliers: Sequence[Outlier] = (),
) -> ResultResidual:
    """Compare the frames with those expected from a result, in its brightest part.

    Parameters
    ----------
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X)
        Result for the plane.
    block : ndarray of shape (angles, phases, Y, X)
        Frames of the plane, with the offset subtracted, without outliers.
    estimate : PatternEstimate
    config : SimConfig
    device : str
    outliers : sequence of Outlier
        Hot pixels in the frames; near these pixels, the result is not compared.
    """
    place = brightest_part(block.mean(axis=(0, 1)), CHECKED_EDGE)
    patterns = estimate.patterns.cropped(place)
    expected = _expected(image, place, patterns, estimate.otf, config, device)
    inner = _without_border(place, block.shape[-2:], estimate.otf)
    rows, columns = (
        slice(i.start - p.start, i.stop - p.start)
        for i, p in zip(inner, place, strict=True)
    )
    frames = block[(..., *inner)].reshape(len(expected), -1)
    sigma = np.sqrt(estimate.noise.weights(block.mean(axis=(0, 1))[inner]))
    values = expected[:, rows, columns].reshape(frames.shape)
    kept = _far_from(outliers, inner, estimate.otf).ravel()
    scale, start = _scale(values[:, kept], frames[:, kept], sigma.ravel()[kept], config)
    squares = np.square((frames - scale * values - start) / sigma.ravel())
    each = np.sqrt(squares[:, kept].mean(axis=1, dtype=np.float64))
    return ResultResidual(
        each.reshape(block.shape[:2]).astype(np.float32),
        np.sqrt(squares.mean(axis=0)).reshape(sigma.shape).astype(np.float32),
        inner,
    )


def residual_warnings(
    residual: ResultResidual,
    patterns: float,
    harmonics: int,
    block: FloatArray,
    config: SimConfig,
) -> list[str]:
    """Warn if a result does not explain the frames.

    Its residual is compared with that of a short fit with the same patterns, and with
    the noise, because wrong optics, a wrong offset or motion of the sample affect both
    fits.

    Parameters
    ----------
    residual : ResultResidual
    patterns : float
        Residual of the patterns.
    harmonics : int
        Harmonics of the patterns; 0 for images.
    block : ndarray of shape (angles, phases, Y, X)
        Frames of the plane, with the offset subtracted, without outliers.
    config : SimConfig
    """
    possible = max(patterns, 1.0)
    is_worse = residual.rms > _WORSE * possible
    is_unexplained = _is_fitted(config, harmonics) and residual.rms > max(
        _UNEXPLAINED, _HARDLY_BETTER * patterns
    )
    if config.method == "widefield" or not (is_worse or is_unexplained):
        return []
    compared = (
        f"; {possible:.1f} is possible with these patterns"
        if is_worse
        else ", hardly less than after a few iterations"
    )
    return [
        f"{METHOD_TITLES[config.method]}: the result does not explain the frames. Its "
        f"residual is {residual.rms:.1f} times the noise{compared}. "
        f"{result_advice(block, config, settings_matter=is_worse)}"
    ]


def _is_fitted(config: SimConfig, harmonics: int) -> bool:
    """Return whether a method is expected to fit better than a few iterations."""
    if config.method == "joint-rl":
        least = _ENOUGH_ITERATIONS * max(harmonics, 1)
        return config.iterations is None or config.iterations >= least
    return config.method == "wiener"


def _expected(
    image: FloatArray,
    place: tuple[slice, slice],
    patterns: PatternSet,
    otf: Otf,
    config: SimConfig,
    device: str,
) -> FloatArray:
    """Return the frames of a part that are expected from a result.

    Parameters
    ----------
    image : ndarray
        The whole result.
    place : (slice, slice)
        The part, in camera pixels.
    patterns : PatternSet
        Patterns of the part.
    """
    import torch

    operator = IlluminationOperator.create(patterns, otf, config.upscale_factor, device)
    grid = operator.grid
    values = image
    for axis, part in enumerate(place):
        values = values.take(_rows(grid, axis, part, image.shape[axis]), axis)
    values = _object(values, patterns, otf, grid, config)
    with exact_settings(config.threads):
        frames = operator.forward(torch.from_numpy(values).to(device))
        found: FloatArray = frames.cpu().numpy()
    return found


def _rows(grid: SimGrid, axis: int, part: slice, length: int) -> npt.NDArray[np.intp]:
    """Return the rows of an image that a grid covers, mirrored at the borders."""
    s = grid.upscale_factor
    first = s * (part.start - grid.margin[axis])
    rows = np.arange(first, first + grid.fine[axis]) % (2 * length)
    found: npt.NDArray[np.intp] = np.minimum(rows, 2 * length - 1 - rows)
    return found


def _object(
    values: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    grid: SimGrid,
    config: SimConfig,
) -> FloatArray:
    """Return the object that belongs to a result, on the fine grid (see the module)."""
    from scipy import fft

    if config.method == "wiener":
        weight = apodise(patterns, otf, grid, config.apodisation)
        least = _LEAST_APODISATION
        factor = np.where(weight > least, 1 / np.maximum(weight, least), 0)
    elif config.method == "widefield":
        s, (rows, columns) = grid.upscale_factor, grid.fine
        fy, fx = np.fft.fftfreq(rows, 1 / s)[:, None], np.fft.rfftfreq(columns, 1 / s)
        transfer = otf.at(fy, fx[None])
        factor = transfer / (transfer**2 + _LEAST_POWER)
    else:
        return np.ascontiguousarray(values, np.float32)
    spectrum = fft.rfft2(values) * factor
    return np.ascontiguousarray(fft.irfft2(spectrum, grid.fine), np.float32)


def _scale(
    expected: FloatArray, frames: FloatArray, sigma: FloatArray, config: SimConfig
) -> tuple[float, float]:
    """Return the scale and offset that fit expected frames to those recorded.

    Both arrays have shape (frames, pixels). The result is 1 and 0 for methods that
    estimate the object in the units of the frames.
    """
    if config.method not in ("wiener", "widefield"):
        return 1.0, 0.0
    values = (expected / sigma).ravel().astype(np.float64)
    ones = np.broadcast_to(1 / sigma, expected.shape).ravel().astype(np.float64)
    target = (frames / sigma).ravel().astype(np.float64)
    normal = [[values @ values, values @ ones], [values @ ones, ones @ ones]]
    right = [values @ target, ones @ target]
    found = np.linalg.lstsq(np.asarray(normal), np.asarray(right), rcond=None)[0]
    return float(found[0]), float(found[1])


def _without_border(
    place: tuple[slice, slice], shape: tuple[int, ...], otf: Otf
) -> tuple[slice, slice]:
    """Return a part without the pixels at the border of the field of view."""
    border = max(2, round(_BORDER / otf.cut_off))
    found = []
    for part, n in zip(place, shape, strict=True):
        edge = border if n > 4 * border else 0
        found.append(slice(max(part.start, edge), min(part.stop, n - edge)))
    return found[0], found[1]


def _far_from(
    outliers: Sequence[Outlier], place: tuple[slice, slice], otf: Otf
) -> npt.NDArray[np.bool_]:
    """Return which pixels of a part are far from outliers; if none are, return all."""
    rows, columns = np.ogrid[place]
    far = np.ones((rows.size, columns.size), bool)
    for y, x in {(each.y, each.x) for each in outliers}:
        far &= np.hypot(rows - y, columns - x) > _AROUND / otf.cut_off
    return far if far.any() else np.ones_like(far)


def held_out_steps(
    block: FloatArray,
    estimate: PatternEstimate,
    config: SimConfig,
    iterations: int,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[float | None, str]]:
    """Repeat the reconstruction of a part without some frames, and predict these.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
    estimate : PatternEstimate
    config : SimConfig
        The method's own settings are used.
    iterations : int
        Iterations of the reconstruction.
    device : str
    should_stop : callable

    Returns
    -------
    residual : float or None
        RMS in units of the noise.
    reason : str
        Reason why there is no residual; empty if there is one.
    """
    held, reason = _held(estimate.patterns, block.shape[:2], config.method)
    if reason:
        return None, reason
    place = brightest_part(block.mean(axis=(0, 1)), trial_edge(block))
    part, patterns = block[(..., *place)], estimate.patterns.cropped(place)
    frames = part.reshape(-1, *part.shape[-2:])
    whole = (slice(0, part.shape[-2]), slice(0, part.shape[-1]))
    sigma = np.sqrt(estimate.noise.weights(part.mean(axis=(0, 1))))
    if config.method == "wiener":
        image = _wiener_without(part, patterns, held, estimate, config)
    else:
        image = yield from _object_without(
            frames,
            patterns,
            held,
            estimate,
            config,
            iterations,
            device,
            should_stop,
        )
    expected = _expected(image, whole, patterns, estimate.otf, config, device)
    inner = _without_border(whole, part.shape[-2:], estimate.otf)
    kept = [i for i in range(len(frames)) if i not in held]
    seen, values = (each[(..., *inner)] for each in (frames, expected))
    noise = sigma[inner].ravel()
    scale, start = _scale(
        values[kept].reshape(len(kept), -1),
        seen[kept].reshape(len(kept), -1),
        noise,
        config,
    )
    misfit = (seen - scale * values - start)[held].reshape(len(held), -1) / noise
    return float(np.sqrt(np.square(misfit).mean(dtype=np.float64))), ""


def _held(
    patterns: PatternSet, counts: tuple[int, ...], method: str
) -> tuple[list[int], str]:
    """Return the frames to leave out, at most one per angle, or why there are none."""
    angles, phases = counts
    one_each = [a * phases + a % phases for a in range(angles)]
    if method == "pinn":
        return [], "A second network would have to be fitted, which takes minutes."
    if method == "widefield":
        return [], "The mean of some of the frames contains stripes."
    if patterns.images is not None:
        spare = patterns.n_frames - 2
        return one_each[:spare], "" if spare > 0 else "There are too few frames."
    bands = 1 + 2 * patterns.harmonics
    if method == "wiener":
        if phases > bands:
            return one_each, ""
        return [], f"Wiener-SIM needs all {phases} phases to separate {bands} bands."
    # The central band is the same for all angles.
    needed = 1 + 2 * sum(fringe.harmonics for fringe in patterns.fringes)
    spare = angles * phases - needed
    if spare > 0:
        return one_each[:spare], ""
    return [], f"All {angles * phases} frames are needed to separate {needed} bands."


def _wiener_without(
    part: FloatArray,
    patterns: PatternSet,
    held: list[int],
    estimate: PatternEstimate,
    config: SimConfig,
) -> FloatArray:
    """Return the Wiener reconstruction without one frame of each angle."""
    phases = part.shape[1]
    blocks, fringes = [], []
    for frames, fringe, out in zip(part, patterns.fringes, held, strict=True):
        kept = [p for p in range(phases) if p != out % phases]
        blocks.append(frames[kept])
        fringes.append(
            replace(
                fringe,
                phases=tuple(fringe.phases[p] for p in kept),
                intensity=tuple(fringe.intensity[p] for p in kept),
            )
        )
    return wiener_reconstruction(
        np.stack(blocks),
        replace(patterns, fringes=tuple(fringes)),
        estimate.otf,
        config.upscale_factor,
        noise=estimate.noise.variance,
        regularisation=config.regularisation,
        apodisation=config.apodisation,
        notch=config.notch,
    )


def _object_without(
    frames: FloatArray,
    patterns: PatternSet,
    held: list[int],
    estimate: PatternEstimate,
    config: SimConfig,
    iterations: int,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, FloatArray]:
    """Return the object that joint Richardson–Lucy finds without some frames."""
    import torch

    kept = [i for i in range(len(frames)) if i not in held]
    operator = IlluminationOperator.create(
        patterns, estimate.otf, config.upscale_factor, device
    )
    operator = operator.with_mixing(operator.mixing.cpu().numpy()[kept])
    with exact_settings(config.threads):
        values = torch.from_numpy(frames[kept]).to(device)
        shift = estimate.noise.shift
        fit = JointRichardsonLucy(operator, values, config.tv, shift=shift)
    for _ in range(config.iterations or iterations):
        if should_stop():
            raise Cancelled("Stopped before the result was checked.")
        with exact_settings(config.threads):
            fit.step()
        yield BlockDone()
    return fit.result()
