"""Refine phases and intensities of patterns with a super-resolved object.

Correlations of single frames contain the object's own correlation at the pattern's
frequency, which limits the accuracy of phases to a few degrees. Likewise, the mean of a
frame depends not only on the light, but also on the position of the stripes relative to
the structures of the sample. With an object reconstructed from all frames, the
illumination of each frame is found by linear regression, without these errors.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy
from napari_geosr.sim.noise import FrameNoise

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]

#: Number of times that object and phases are fitted alternately.
ROUNDS = 5
#: Number of iterations of joint Richardson–Lucy in each round.
_ITERATIONS = 10
#: Smallest number of pixels of the object per camera pixel, along each axis.
_LEAST_UPSCALE = 2
#: Exponent of the change of the intensities in each round: the object partly adapts to
#: wrong intensities, so each fit finds only part of their error.
_OVERSHOOT = 2.0
#: Smallest intensity of a frame, relative to the mean: a pattern that does not explain
#: its frame at all has an intensity of about 0, which is not allowed.
_LEAST_LIGHT = 0.02
#: Condition number of the fit above which points do not determine a circle.
_MAX_CONDITION = 20
#: Maximum distance of the centre from the mean of the points, relative to their mean
#: distance from it. A frame of another angle, with a point near 0, moves the centre by
#: 0.95. Correct phases in steps of 60° move the centre equally far, but their points
#: have about the same absolute value; a larger distance is therefore allowed for such
#: points.
_FAR = 0.5
_FAR_IF_EVEN = 1.2
#: Minimum absolute value of a point, relative to the mean, at which the absolute values
#: count as about the same.
_EVEN = 0.7


def refine_phases_steps(
    block: FloatArray,
    patterns: PatternSet,
    otf: Otf,
    noise: FrameNoise,
    *,
    rounds: int = ROUNDS,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PatternSet]:
    """Fit the object and the phases and intensities of all frames alternately.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted.
    patterns : PatternSet
        Fringes with approximate phases and intensities.
    otf : Otf
    noise : FrameNoise
    rounds : int
    should_stop : callable

    Returns
    -------
    PatternSet
        The patterns with the phases and intensities of the last round.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    import torch

    values = np.ascontiguousarray(block.reshape(-1, *block.shape[-2:]))
    frames = torch.from_numpy(values)
    weight = np.reciprocal(noise.weights(block.mean(axis=(0, 1))))
    image: torch.Tensor | None = None
    factor = support_factor(patterns, otf)
    for done in range(rounds):
        operator = IlluminationOperator.create(patterns, otf, factor)
        fit = JointRichardsonLucy(operator, frames, shift=noise.shift)
        if image is not None:
            fit.image = image
        for _ in range(_ITERATIONS):
            if should_stop():
                raise Cancelled("Stopped before the patterns were found.")
            with torch.inference_mode():
                fit.step()
        image = fit.image
        with torch.inference_mode():
            terms = operator.terms(image).numpy()
        found = fitted_patterns(patterns, block, terms, weight)
        patterns = _overshot(patterns, found)
        yield BlockDone(done + 1, rounds)
    return patterns


def _overshot(before: PatternSet, after: PatternSet) -> PatternSet:
    """Return `after`, with larger changes of the intensities since `before`."""
    old, new = (
        np.asarray([fringe.intensity for fringe in patterns.fringes])
        for patterns in (before, after)
    )
    return _with_light(after, old * (new / old) ** _OVERSHOOT)


def _with_light(patterns: PatternSet, light: npt.NDArray[np.floating]) -> PatternSet:
    """Return the patterns with intensities proportional to `light`, with mean 1."""
    light = np.maximum(light, _LEAST_LIGHT * np.abs(light).mean())
    rows = light / (light.mean() or 1.0)
    return replace(
        patterns,
        fringes=tuple(
            replace(fringe, intensity=tuple(float(v) for v in row))
            for fringe, row in zip(patterns.fringes, rows, strict=True)
        ),
    )


def support_factor(patterns: PatternSet, otf: Otf) -> int:
    """Return the upscale factor at which a grid contains all frequencies of the frames.

    Parameters
    ----------
    patterns : PatternSet
        Fringes, not images.
    otf : Otf
    """
    reach = otf.cut_off + max(
        fringe.harmonics * max(map(abs, fringe.wave_vector))
        for fringe in patterns.fringes
    )
    return max(_LEAST_UPSCALE, math.ceil(2 * reach))


def fitted_patterns(
    patterns: PatternSet, block: FloatArray, terms: FloatArray, weight: FloatArray
) -> PatternSet:
    """Return the patterns with the phases and intensities that explain each frame best.

    The mean of all intensities is 1.

    Parameters
    ----------
    patterns : PatternSet
    block : ndarray of shape (angles, phases, Y, X)
    terms : ndarray of shape (1 + 2 · harmonics · angles, Y, X)
        The object times 1 and the cosine and sine of every harmonic, as imaged by the
        camera (`IlluminationOperator.terms`).
    weight : ndarray of shape (Y, X)
        Inverse variance of the pixels.
    """
    fringes: list[FringePattern] = []
    intensities: list[npt.NDArray[np.float64]] = []
    column = 1
    flat_weight = weight.ravel()
    for fringe, frames in zip(patterns.fringes, block, strict=True):
        used = [0, *range(column, column + 2 * fringe.harmonics)]
        column += 2 * fringe.harmonics
        basis = terms[used].reshape(len(used), -1).astype(np.float64)
        normal = (basis * flat_weight) @ basis.T
        right = (basis * flat_weight) @ frames.reshape(len(frames), -1).T
        found = np.linalg.lstsq(normal, right, rcond=None)[0]
        # A negative amplitude of the fundamental corresponds to a phase of π.
        phases = np.arctan2(-found[2], found[1])
        if fringe.modulation[0] < 0:
            phases = phases + math.pi
        turned = tuple(float(p) for p in np.angle(np.exp(1j * phases)))
        fringes.append(replace(fringe, phases=turned))
        intensities.append(found[0])
    found_patterns = replace(patterns, fringes=tuple(fringes))
    return _with_light(found_patterns, np.asarray(intensities))


def circle_centre(
    points: npt.NDArray[np.complexfloating],
) -> complex:
    """Return the centre of the circle through points, in the least-squares sense.

    The correlation of frame n with the central band is ``A + B exp(i φ_n)``: the
    object's own correlation A is the same for all frames. If the points do not
    determine a circle, or one of them is probably not on it, their mean is returned.
    """
    x, y = points.real, points.imag
    mean = complex(points.mean())
    spread = float(np.abs(points - mean).mean())
    if len(points) < 3 or not spread > 0:
        return mean
    u, v = (x - mean.real) / spread, (y - mean.imag) / spread
    matrix = np.stack([2 * u, 2 * v, np.ones_like(u)], 1)
    if np.linalg.cond(matrix) > _MAX_CONDITION:
        return mean
    (cu, cv, _), *_ = np.linalg.lstsq(matrix, u**2 + v**2, rcond=None)
    size, distance = np.abs(points), float(np.hypot(cu, cv))
    is_even = float(size.min()) > _EVEN * float(size.mean())
    if distance > (_FAR_IF_EVEN if is_even else _FAR):
        return mean
    return mean + spread * complex(cu, cv)
