"""Whether a super-resolution model will do better than interpolation, without truth.

The scan itself is the truth for a scan that is coarser by the model's factor: parts of
it are averaged, made finer again, and compared with what was there, and the same is done
by cubic interpolation. The noise would spoil the comparison, because the averaged scan
has its noise from the very voxels that it is compared with. So noise `n` of the same
kind is drawn and added to what is averaged (``x + a n``) and taken from what it is
compared with (``x - n / a``): the noise of the two is then independent, and with the
right `a` the averaged scan is as noisy as the scan itself [1]_.

References
----------
.. [1] Pang, Zheng, Quan, Ji. Recorrupted-to-recorrupted: unsupervised deep learning for
   image denoising. CVPR (2021). doi:10.1109/CVPR46437.2021.00208
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    BlockDone,
    ResultReady,
    ShouldStop,
    Step,
    never_stop,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.finer.places import Place, places
from napari_geosr.operations.finer.sharpness import Choice, fit_sharpness

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.networks._consistent import Consistent

FloatArray = npt.NDArray[np.float32]

#: Parts of the scan that are averaged, and their edge in averaged voxels by the axes of
#: the network.
_PARTS, _EDGE = 4, {2: 48, 3: 16}
#: Averaged voxels along an axis that are needed at least.
_LEAST_EDGE = 6
#: How far the gain on the scan itself may be from that one scale coarser, in dB, beside
#: the spread over parts of the scan (from `benchmarks/sr_consistency.py`).
TRANSFER = 1.0
#: Two-sided 90 % of a normal distribution.
_NINETY = 1.645


@dataclass(frozen=True)
class Outlook:
    """What can be expected of a super-resolution model on a scan.

    Attributes
    ----------
    gain : float
        Expected gain over cubic interpolation, in dB.
    interval : (float, float)
        Range that holds the gain with about 90 % confidence.
    excess : float
        How much sharper than the scan the model's result is: the standard deviation, in
        voxels of the scan, of the blur between the two.
    trained_blur : (float, float) or None
        Blur of the scans that the model was trained on, in their voxels.
    parts : int
        Parts of the scan that were looked at.
    """

    gain: float
    interval: tuple[float, float]
    excess: float
    trained_blur: tuple[float, float] | None
    parts: int

    @property
    def is_doubtful(self) -> bool:
        """Whether interpolation may well be better."""
        return self.interval[0] < 0

    @property
    def sentence(self) -> str:
        """What a person should know."""
        low, high = self.interval
        figures = f"{self.gain:+.1f} dB ({low:+.1f} to {high:+.1f})"
        if self.gain < 0:
            said = (
                f"Cubic interpolation is expected to be closer to the sample than this "
                f"model: {figures} on parts of the scan itself. Choose cubic."
            )
        elif self.is_doubtful:
            said = (
                f"This model may be no better than cubic interpolation: {figures} on "
                "parts of the scan itself."
            )
        else:
            said = (
                f"The expected gain over cubic interpolation is {figures}, measured on "
                "parts of the scan itself."
            )
        blur = self.trained_blur
        if blur is not None and not blur[0] - 0.1 <= self.excess <= blur[1] + 0.1:
            low_blur, high_blur = blur
            what = "too soft" if self.excess > high_blur else "sharper"
            said += (
                f" The model expects a blur of {low_blur:g} to {high_blur:g} voxels, and "
                f"its result differs from the scan by {self.excess:.2f}: the scan is "
                f"{what} than what it was trained on."
            )
        return said

    def to_json_dict(self) -> dict[str, Any]:
        """For records and ``--json``."""
        return {
            "expected_gain_over_cubic_db": self.gain,
            "interval_db": list(self.interval),
            "excess_sharpness": self.excess,
            "trained_blur": None
            if self.trained_blur is None
            else list(self.trained_blur),
            "parts": self.parts,
            "doubtful": self.is_doubtful,
            "sentence": self.sentence,
        }


def sr_outlook_steps(
    volume: Volume,
    model: Model,
    noise: Noise,
    *,
    sharpness: Choice = "auto",
    seed: int = 0,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Estimate the gain of a super-resolution model over cubic interpolation.

    Parameters
    ----------
    volume : Volume
        The scan, (Z, Y, X) or (Y, X); some parts of it are read.
    model : Model
        One that makes voxels finer.
    noise : Noise
        Of the scan, in its grey values.
    sharpness : {"auto", "scan", "object"}
        As in a restoration.
    seed : int
        Of the noise that is drawn.

    Yields
    ------
    Step
        `BlockDone` for every part; the last is ``ResultReady(Outlook)``.

    Raises
    ------
    ModelError
        If the model makes nothing finer.
    VolumeError
        If the scan is too small to be averaged by the factor, or has no structure.
    Cancelled
        If `should_stop` says so.
    """
    card = model.card
    if card.upscale_factor < 2 or card.labels > 1:
        raise ModelError(
            f"The model {card.name!r} does not make voxels finer, so it cannot be "
            "compared with interpolation. Choose a model for super-resolution."
        )
    volume = volume.select()
    trial = _Trial(model, volume, noise, sharpness, seed)
    boxes = trial.boxes()
    coarse = []
    for i, box in enumerate(boxes):
        if should_stop():
            raise Cancelled("Stopped while judging the model.")
        coarse.append(trial.averaged(box, i))
    statistics = _pooled([x for x, _ in coarse])
    trial.prepare(coarse, statistics)
    errors = []
    for i, (x, truth) in enumerate(coarse, start=1):
        if should_stop():
            raise Cancelled("Stopped while judging the model.")
        errors.append(trial.errors(x, truth, statistics))
        yield BlockDone(i, len(coarse))
    yield ResultReady(result=_outlook(np.array(errors), trial))


def sr_outlook(volume: Volume, model: Model, noise: Noise, **settings: Any) -> Outlook:
    """:func:`sr_outlook_steps` to its end."""
    found: Outlook = run_to_end(sr_outlook_steps(volume, model, noise, **settings))
    return found


@dataclass(frozen=True)
class _Pooled:
    """Mean and spread of all averaged parts; a `Standardisation`."""

    mean: float
    std: float

    input_mean = property(lambda self: self.mean)
    input_std = property(lambda self: self.std)
    output_mean = property(lambda self: self.mean)
    output_std = property(lambda self: self.std)


class _Trial:
    """One model on averaged parts of a scan."""

    def __init__(
        self, model: Model, volume: Volume, noise: Noise, choice: Choice, seed: int
    ) -> None:
        self.card, self.volume, self.noise = model.card, volume, noise
        self.choice, self.seed = choice, seed
        self.network: Any = model.restorer()
        spec = self.network.spec
        self.ndim = len(spec.axes)
        self.factors = (1,) * (len(volume.axes) - self.ndim) + tuple(
            spec.upscale_factor
        )
        self.context = spec.adjacent_slices
        self.excess = 0.0
        self._rate()

    def _rate(self) -> None:
        """Strength of the drawn noise: the averaged scan is as noisy as the scan."""
        kept = 1.0
        for axis, f in zip(self.volume.axes.lower(), self.factors, strict=True):
            rho = max(0.0, self.noise.correlation.get(axis, 0.0))
            lags = np.arange(1, f)
            kept *= (f + 2 * float(((f - lags) * rho**lags).sum())) / f**2
        # Strongly correlated noise hardly falls: draw some all the same.
        self.rate = math.sqrt(max(1 / kept - 1, 0.25))
        self.coarse_noise = self.noise.scaled(math.sqrt(kept * (1 + self.rate**2)))

    def boxes(self) -> list[Place]:
        """Parts of the scan, whole numbers of averaged voxels."""
        edges = []
        for f, n in zip(self.factors, self.volume.shape, strict=True):
            if f == 1:
                edges.append(min(n, self.context))
                continue
            edges.append(min(_EDGE[self.ndim], n // f) * f)
            if n // f < _LEAST_EDGE:
                raise VolumeError(
                    f"{self.volume.title} is too small to judge the model "
                    f"{self.card.name!r} on it: at least {_LEAST_EDGE * f} voxels along "
                    f"each axis are needed, not {n}."
                )
        found = places(self.volume, edges, _PARTS)
        if not found:
            raise VolumeError(
                f"{self.volume.title} has no part with structure and without NaN to "
                f"judge the model {self.card.name!r} on."
            )
        return found

    def averaged(self, box: Place, number: int) -> tuple[FloatArray, FloatArray]:
        """A part one scale coarser, and what it is compared with."""
        values = np.asarray(self.volume.data[box], dtype=np.float32)
        rng = np.random.default_rng([self.seed, number])
        drawn = self._drawn(values, rng)
        split = [
            p
            for n, f in zip(values.shape, self.factors, strict=True)
            for p in (n // f, f)
        ]
        noisier = (values + self.rate * drawn).reshape(split)
        x = noisier.mean(axis=tuple(range(1, len(split), 2)), dtype=np.float32)
        return x, np.asarray(values - drawn / self.rate, np.float32)

    def _drawn(self, values: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Noise of the scan's level and correlation."""
        from scipy import ndimage, signal

        drawn = rng.standard_normal(values.shape)
        for axis, letter in enumerate(self.volume.axes.lower()):
            rho = min(0.95, max(0.0, self.noise.correlation.get(letter, 0.0)))
            if not rho or values.shape[axis] == 1:
                continue
            # The first value has the variance of all others.
            first = np.take(drawn, [0], axis) * (rho / math.sqrt(1 - rho**2))
            step = math.sqrt(1 - rho**2)
            drawn = step * signal.lfilter([1], [1, -rho], drawn, axis, zi=first)[0]
        grey = values
        if len(set(self.noise.levels)) > 1:
            grey = ndimage.uniform_filter(values, 3, mode="nearest")
        return np.asarray(drawn * self.noise.at(grey), np.float32)

    def prepare(
        self, coarse: Sequence[tuple[FloatArray, FloatArray]], statistics: _Pooled
    ) -> None:
        """Tell the network the noise and the sharpness, as before a restoration."""
        from napari_geosr.networks import tell_noise
        from napari_geosr.networks._consistent import Consistent, Sharpness

        told = self.coarse_noise.standardised(statistics.mean, statistics.std)
        tell_noise(self.network, told)
        layer: Consistent | None = (
            self.network if isinstance(self.network, Consistent) else None
        )
        plain = self.network if layer is None else layer.network
        pairs = [(x, self._run(plain, x, statistics)) for x, _ in coarse]
        fit = fit_sharpness(pairs, self.factors, self.coarse_noise)
        self.excess = fit.excess
        if layer is not None:
            keep = self.choice == "object" or (
                self.choice == "auto" and fit.is_explained
            )
            layer.set_sharpness(Sharpness(fit.excess, keep))

    def _run(self, network: Any, x: FloatArray, statistics: _Pooled) -> FloatArray:
        from napari_geosr.inference.runner import restore_region

        everything = tuple(slice(0, n) for n in x.shape)
        return np.asarray(
            restore_region(
                network, x, everything, statistics=statistics, budget=2 * 10**9
            ),
            np.float32,
        )

    def errors(
        self, x: FloatArray, truth: FloatArray, statistics: _Pooled
    ) -> tuple[float, float]:
        """Mean square errors of the model and of cubic interpolation, noise removed."""
        import torch

        from napari_geosr.networks._upsampling import cubic_kernel, interpolated

        result = self._run(self.network, x, statistics)
        factor = max(self.factors)
        planes = torch.from_numpy(x.reshape(-1, 1, *x.shape[-self.ndim :]))
        kernel = cubic_kernel(factor, self.ndim).float()
        cubic = interpolated(planes, kernel, factor).numpy().reshape(truth.shape)
        extra = float(np.mean(self.noise.at(truth) ** 2)) * (1 + 1 / self.rate**2)
        # Borders have no neighbours: interpolation repeats them.
        inner = tuple(
            slice(2 * f, -2 * f) if f > 1 else slice(None) for f in self.factors
        )
        model, plain = (
            float(np.square((y - truth)[inner], dtype=np.float64).mean()) - extra
            for y in (result, cubic)
        )
        return model, plain


def _pooled(parts: Sequence[FloatArray]) -> _Pooled:
    values = np.concatenate([part.ravel() for part in parts])
    return _Pooled(
        float(values.mean(dtype=np.float64)),
        float(values.std(dtype=np.float64)) or 1.0,
    )


def _outlook(errors: npt.NDArray[np.float64], trial: _Trial) -> Outlook:
    """Gain over all parts, with the spread between them (jackknife)."""
    least = 1e-3 * float(np.abs(errors).max()) or 1e-12

    def gain(rows: npt.NDArray[np.float64]) -> float:
        model, cubic = (max(least, float(v)) for v in rows.mean(axis=0))
        return 10 * math.log10(cubic / model)

    n = len(errors)
    value, spread = gain(errors), 0.0
    if n > 1:
        others = [gain(np.delete(errors, i, axis=0)) for i in range(n)]
        spread = math.sqrt((n - 1) * float(np.var(others)))
    half = _NINETY * math.hypot(spread, TRANSFER / _NINETY)
    return Outlook(
        gain=value,
        interval=(value - half, value + half),
        excess=trial.excess,
        trained_blur=trial.card.training.blur,
        parts=n,
    )
