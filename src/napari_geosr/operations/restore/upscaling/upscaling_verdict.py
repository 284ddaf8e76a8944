"""Predicts, without ground truth, whether super-resolution outperforms interpolation.

The error of a super-resolved result has two parts, both of which can be estimated from
the scan:

- The error of the averages over each voxel of the scan. This error is measured on parts
  of the scan: noise `n` of the same kind is drawn, added to the input of the model
  (``x + a n``), and subtracted from the data that its averaged result is compared with
  (``x - n / a``). The noise in both is then independent, and its contribution can be
  subtracted [1]_.
- The error of the detail within these voxels. The scan itself is the ground truth for a
  scan that is coarser by the model's factor: parts of the scan are averaged, upscaled
  again, and compared with the original. Noise is drawn in the same way, so that the
  averaged scan is as noisy as the scan itself. Detail becomes weaker from scale to
  scale, by a factor that is estimated from the two scales of the scan.

The error of cubic interpolation is estimated in the same way.

References
----------
.. [1] Pang, Zheng, Quan, Ji. Recorrupted-to-recorrupted: unsupervised deep learning for
   image denoising. CVPR (2021). doi:10.1109/CVPR46437.2021.00208
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr import networks
from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.stein import variance_range
from napari_geosr.operations.restore.upscaling.doubtful_noise import undoubted_noise
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict
from napari_geosr.operations.restore.upscaling.trial import (
    ScanTrial,
    TrialPart,
    TrialResources,
)

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model

#: Margin, in dB, by which the true gain may lie below the expected gain, in addition to
#: the variation between parts. If margin and variation are added in quadrature, the
#: interval contains the true gain in nine of ten cases of
#: ``benchmarks/bench_sr_consistency.py --gains``.
MARGIN_BELOW = 2.2
#: Margin, in dB, by which the true gain may lie above the expected gain.
MARGIN_ABOVE = 4.1
#: Lower limit of the ratio of the detail at one scale to that at the next coarser one.
_MIN_RATIO = 0.05
#: Quantile of the normal distribution for a two-sided 90 % interval.
_Z_90 = 1.645
#: Number of standard errors below zero at which measured errors are clipped.
_FAR = 5.0


def upscaling_verdict_steps(
    volume: Volume,
    model: Model,
    noise: Noise,
    *,
    sharpness: SharpnessChoice = "scan",
    measured: networks.Sharpness | None = None,
    strength: float = 1.0,
    seed: int = 0,
    machine: TrialResources | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, UpscalingVerdict]:
    """Estimate the gain of a super-resolution model over cubic interpolation.

    Parameters
    ----------
    volume : Volume
        The scan, (Z, Y, X) or (Y, X); some parts of it are read.
    model : Model
        A super-resolution model.
    noise : Noise
        Noise of the scan, in its grey values.
    sharpness : {"auto", "scan", "object"}
    measured : Sharpness, optional
        Sharpness of the prepared run, which is then also used for the test; by default,
        it is measured on the parts.
    strength : float
        As in the settings of a restoration.
    seed : int
        Seed for the added noise.
    machine : TrialResources, optional
        Device and resources for the model.

    Yields
    ------
    Step
        `BlockDone` for each part at each scale.

    Returns
    -------
    UpscalingVerdict

    Raises
    ------
    ModelError
        If the model does not upscale.
    VolumeError
        If the scan is too small for a test at the coarser scale, or has no structure.
    Cancelled
        If `should_stop` returns True.
    """
    card = model.card
    if card.upscale_factor < 2 or card.labels > 1:
        raise ModelError(
            f"The model {card.name!r} does not upscale, so it cannot be compared with "
            "interpolation. Choose a model for super-resolution."
        )
    volume, noise = volume.select(), undoubted_noise(noise)
    machine = replace(machine or TrialResources(), should_stop=should_stop)
    trial = ScanTrial(model, volume, noise, sharpness, machine, strength, measured)
    boxes = trial.boxes()
    rng = np.random.default_rng(seed)
    drawn = []
    for box in boxes:
        if should_stop():
            raise Cancelled("Stopped while evaluating the model.")
        drawn.append(trial.draw(box, rng))
    trial.prepare([own for own, _ in drawn], trial.own_noise, is_coarse=False)
    excess, is_object = trial.excess, trial.blur > 0
    own = yield from _error_steps(trial, [own for own, _ in drawn], 0, should_stop)
    trial.prepare([each for _, each in drawn], trial.coarse_noise, is_coarse=True)
    coarse = yield from _error_steps(
        trial, [c for _, c in drawn], len(boxes), should_stop
    )
    ratios = [trial.detail(part) for _, part in drawn]
    found = _combine_parts(
        own,
        coarse,
        ratios,
        excess,
        model.card.training.blur,
        _variance_errors(noise, [part.variance for part, _ in drawn]),
    )
    name = "" if card.has_weights else card.name
    return replace(
        found,
        sharpness=sharpness,
        interpolation=name,
        is_as_object=is_object,
        porosities=trial.porosities(),
    )


def upscaling_verdict(
    volume: Volume, model: Model, noise: Noise, **settings: Any
) -> UpscalingVerdict:
    """Run `upscaling_verdict_steps` to completion."""
    return run_to_end(upscaling_verdict_steps(volume, model, noise, **settings))


def _error_steps(
    trial: ScanTrial, parts: Sequence[TrialPart], done: int, should_stop: ShouldStop
) -> Generator[Step, None, npt.NDArray[np.float64]]:
    """Return the errors at one scale: array (part, model or cubic, means or detail)."""
    found = []
    for i, part in enumerate(parts, start=1):
        if should_stop():
            raise Cancelled("Stopped while evaluating the model.")
        found.append(trial.errors(part))
        yield BlockDone(done + i, 2 * len(parts))
    return np.array(found, np.float64)


def _variance_errors(noise: Noise, variances: Sequence[float]) -> tuple[float, float]:
    """Return lower and upper standard errors of the noise variance of the parts."""
    low, high = variance_range(noise)
    mean = float(np.mean(variances))
    return mean * (1 - low) / _Z_90, mean * (high - 1) / _Z_90


def _combine_parts(
    own: npt.NDArray[np.float64],
    coarse: npt.NDArray[np.float64],
    details: Sequence[tuple[float, float]],
    excess: float,
    trained: tuple[float, float] | None,
    unsure: tuple[float, float],
) -> UpscalingVerdict:
    """Return the gain over all parts, with its 90 % interval (jackknife).

    `unsure` are the lower and upper standard errors of the noise variance that was
    subtracted. These standard errors apply to the errors of the averages, not to those
    of the detail.
    """
    detail = np.array(details, np.float64)
    n = len(own)
    # The noise was subtracted from the errors of the averages. The noise is known only
    # approximately, and the errors vary from part to part.
    means = own[:, :, 0]
    scatter = means.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.zeros(2)
    doubt = np.hypot(scatter, min(unsure))

    def errors_of(kept: list[int], shift: float = 0.0) -> tuple[float, float]:
        fine, wide = detail[kept].mean(axis=0)
        ratio = float(np.clip(fine / wide, _MIN_RATIO, 1.0)) if wide > 0 else 1.0
        # If there is more noise than measured, the model is better than estimated, and
        # cubic interpolation is worse.
        off = unsure[0] if shift > 0 else unsure[1]
        change = shift * np.array([math.hypot(scatter[0], off), -off])
        of_means = means[kept].mean(axis=0) + change
        likely = [_positive(m, d) for m, d in zip(of_means, doubt, strict=True)]
        of_detail = coarse[kept].mean(axis=0)[:, 1]
        errors = np.array(likely) + ratio * np.maximum(of_detail, 0)
        least = 1e-3 * float(errors.max()) or 1e-12
        model, cubic = (max(least, float(v)) for v in errors)
        return model, cubic

    def gain(kept: list[int], shift: float = 0.0) -> float:
        model, cubic = errors_of(kept, shift)
        return 10 * math.log10(cubic / model)

    whole = list(range(n))
    value, spread = gain(whole), 0.0
    errors = tuple(map(math.sqrt, errors_of(whole)))
    if n > 1:
        others = [gain([j for j in range(n) if j != i]) for i in range(n)]
        spread = _Z_90 * math.sqrt((n - 1) * float(np.var(others)))
    below = max(spread, value - gain(whole, _Z_90))
    above = max(spread, gain(whole, -_Z_90) - value)
    low, high = math.hypot(below, MARGIN_BELOW), math.hypot(above, MARGIN_ABOVE)
    interval = value - low, value + high
    return UpscalingVerdict(value, interval, excess, trained, n, (errors[0], errors[1]))


def _positive(value: float, deviation: float) -> float:
    """Return the expectation of a positive quantity, given its measurement.

    The expectation is the mean of the normal distribution truncated at zero.
    """
    if not deviation > 0:
        return max(value, 0.0)
    z = max(value / deviation, -_FAR)
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    found = deviation * (z + density / (0.5 * math.erfc(-z / math.sqrt(2))))
    return max(found, 0.0)
