"""Reasons other than the patterns why a result may not explain the frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.sim.noise import dark_level

FloatArray = npt.NDArray[np.float32]

#: Maximum distance of the darkest parts below the offset, in units of the noise of a
#: pixel without light; above it, a warning is issued. With the correct offset, the
#: darkest parts of 48 simulated scenes (SNR of 5 to 85) lay above the offset, by at
#: least 0.29 of this noise.
_BELOW = 1.5
#: Minimum shift between the mean frames of two angles, in pixels, that counts as motion
#: of the sample. Without motion, it is at most 0.05 in these scenes.
_MOVED = 0.25
#: Precision of the shift, as the number of steps per pixel.
_SUBPIXELS = 20
#: Settings of each method that decide how well its result fits the frames.
_FIT_SETTINGS = {
    "wiener": ("regularisation",),
    "joint-rl": ("iterations", "tv"),
    "pinn": ("steps", "iterations", "tv"),
}
#: Advice on what to change if the user has changed such a setting.
_ADVICE = {
    "wiener": "Use weaker regularisation (--regularisation), or the default.",
    "joint-rl": "Use more iterations (--iterations) or a smaller weight of the total "
    "variation (--tv), or the defaults.",
    "pinn": "Use more steps (--steps), or --method joint-rl.",
}
#: Possible causes if these settings have their defaults.
_OTHER_CAUSES = (
    "Possible causes: the sample moved between the frames, light from out of focus, an "
    "offset (--offset) that is wrong because no part of the frames is dark, or wrong "
    "optics (--na, --wavelength, --pixel, --psf)."
)


def offset_warnings(block: FloatArray, estimate: PatternEstimate) -> list[str]:
    """Warn if the offset is higher than the darkest parts of the frames.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Frames of a plane, with the offset subtracted.
    estimate : PatternEstimate
    """
    level = dark_level(block.reshape(-1, *block.shape[-2:]))
    if level is None:
        return []
    noise = math.sqrt(estimate.noise.weights(np.array(level)).item())
    if level >= -_BELOW * noise:
        return []
    return [
        f"The offset is too high: the darkest parts of the frames are {-level:.3g} "
        "grey values below it. Use a smaller one (--offset), or leave it out to have "
        "it estimated."
    ]


def result_advice(
    block: FloatArray, config: SimConfig, *, settings_matter: bool = True
) -> str:
    """Return what to change, or what to suspect, if a result does not fit the frames.

    Settings are named only if they differ from the defaults and can be the cause.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Frames of a plane, with the offset subtracted, without outliers.
    config : SimConfig
    settings_matter : bool
        Whether a better fit is possible with the same patterns.
    """
    settings = _FIT_SETTINGS[config.method]
    if config.method == "pinn" or (
        settings_matter and not has_defaults(config, settings)
    ):
        return _ADVICE[config.method]
    shift = sample_shift(block)
    if shift < _MOVED:
        return _OTHER_CAUSES
    return (
        f"The sample probably moved: the mean frames of the angles are shifted by "
        f"up to {shift:.1f} pixels. Record the frames faster, or use fewer of them."
    )


def has_defaults(config: SimConfig, settings: Sequence[str]) -> bool:
    """Return whether settings of a reconstruction have their default values."""
    fields = type(config).model_fields
    return all(getattr(config, name) == fields[name].default for name in settings)


def sample_shift(block: FloatArray) -> float:
    """Return the largest shift of an angle's mean frame from the first, in pixels.

    The mean over the phases of an angle contains no stripes, so the shift is that of
    the sample.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
    """
    from skimage.registration import phase_cross_correlation

    means = block.mean(axis=1)
    window = np.outer(*(np.hanning(n) for n in means.shape[1:]))
    first, *others = ((mean - mean.mean()) * window for mean in means)
    shifts = [
        phase_cross_correlation(
            first, other, upsample_factor=_SUBPIXELS, normalization=None
        )[0]
        for other in others
    ]
    return max((float(np.hypot(*shift)) for shift in shifts), default=0.0)
