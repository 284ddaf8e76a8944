"""Whether a super-resolution model will do better than interpolation, without truth.

The error of a finer result has two parts, and the scan tells something of both:

- Of the averages over the voxels of the scan. It is measured on parts of the scan:
  noise `n` of the same kind is drawn and added to what the model is given (``x + a n``)
  and taken from what its averaged result is compared with (``x - n / a``). The noise of
  the two is then independent, and its share can be subtracted [1]_.
- Of the detail within these voxels. The scan itself is the truth for a scan that is
  coarser by the model's factor: parts of it are averaged, upscaled again, and
  compared with what was there, with noise drawn in the same way so that the averaged
  scan is as noisy as the scan. Detail gets weaker from scale to scale; how much is
  taken from the two scales that the scan has.

Cubic interpolation is judged in the same way.

References
----------
.. [1] Pang, Zheng, Quan, Ji. Recorrupted-to-recorrupted: unsupervised deep learning for
   image denoising. CVPR (2021). doi:10.1109/CVPR46437.2021.00208
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from napari_geosr import networks
from napari_geosr.core.errors import Cancelled, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.runner import restore_region
from napari_geosr.networks import tell_noise
from napari_geosr.operations.restore.finer.places import Place, places
from napari_geosr.operations.restore.finer.sharpness import Choice, fit_sharpness

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.networks.spec import NetworkSpec

FloatArray = npt.NDArray[np.float32]

#: Parts of the scan that are averaged, and their edge in averaged voxels by the axes of
#: the network.
_PARTS, _EDGE = 4, {2: 48, 3: 16}
#: Averaged voxels along an axis that are needed at least.
_LEAST_EDGE = 8
#: How far the true gain may lie below and above the expected one, in dB, beside the
#: spread over parts of the scan (from `benchmarks/bench_sr_consistency.py`).
BELOW, ABOVE = 2.2, 4.1
#: Strength of the noise that is drawn on the scan's own scale, relative to its noise.
_RATE = 0.6
#: Least ratio of the detail on a scale to that on the next coarser one.
_LEAST_RATIO = 0.05
#: Two-sided 90 % of a normal distribution.
_NINETY = 1.645


@dataclass(frozen=True)
class Machine:
    """Where parts are restored, and with how much.

    Attributes
    ----------
    device : str
        Such as ``"cpu"`` or ``"cuda:0"``.
    budget : int
        Bytes that a run of the model on a part may take.
    threads : int, optional
        CPU threads; by default all cores but one.
    should_stop : callable
        Asked while a part is restored.
    """

    device: str = "cpu"
    budget: int = 2 * 10**9
    threads: int | None = None
    should_stop: ShouldStop = field(default=never_stop, compare=False)


@dataclass(frozen=True)
class FinerOutlook:
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
        Parts of the scan that were looked at, each on two scales.
    """

    gain: float
    interval: tuple[float, float]
    excess: float
    trained_blur: tuple[float, float] | None
    parts: int

    @property
    def is_doubtful(self) -> bool:
        """Whether interpolation is expected to be better."""
        return self.gain < 0

    @property
    def sentence(self) -> str:
        """What a person should know."""
        low, high = self.interval
        figures = f"{self.gain:+.1f} dB ({low:+.1f} to {high:+.1f})"
        if self.is_doubtful:
            said = (
                f"Cubic interpolation is expected to be closer to the sample than this "
                f"model: {figures} on parts of the scan itself. Choose cubic."
            )
        elif low < 0:
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
            what = "softer" if self.excess > high_blur else "sharper"
            said += (
                f" The model expects a blur of {low_blur:g} to {high_blur:g} voxels, "
                f"and its result differs from the scan by {self.excess:.2f}: the scan "
                f"is {what} than what it was trained on."
            )
        return said

    def to_json_dict(self) -> AnyDict:
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
    machine: Machine | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, FinerOutlook]:
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
    machine : Machine, optional
        Where the model is run.

    Yields
    ------
    Step
        `BlockDone` for every part.

    Returns
    -------
    FinerOutlook

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
    machine = replace(machine or Machine(), should_stop=should_stop)
    trial = _Trial(model, volume, noise, sharpness, machine)
    boxes = trial.boxes()
    rng = np.random.default_rng(seed)
    drawn = []
    for box in boxes:
        if should_stop():
            raise Cancelled("Stopped while judging the model.")
        drawn.append(trial.draw(box, rng))
    trial.prepare([own for own, _ in drawn], trial.own_noise)
    excess = trial.excess
    own = yield from _judged(trial, [own for own, _ in drawn], 0, should_stop)
    trial.prepare([coarse for _, coarse in drawn], trial.coarse_noise)
    coarse = yield from _judged(trial, [c for _, c in drawn], len(boxes), should_stop)
    ratios = [trial.detail(part) for _, part in drawn]
    return _outlook(own, coarse, ratios, excess, model.card.training.blur)


def sr_outlook(
    volume: Volume, model: Model, noise: Noise, **settings: Any
) -> FinerOutlook:
    """:func:`sr_outlook_steps` to its end."""
    return run_to_end(sr_outlook_steps(volume, model, noise, **settings))


@dataclass(frozen=True)
class _Pooled:
    """Mean and spread of all parts on a scale; a `Standardisation`."""

    mean: float
    std: float

    input_mean = property(lambda self: self.mean)
    input_std = property(lambda self: self.std)
    output_mean = property(lambda self: self.mean)
    output_std = property(lambda self: self.std)
    hot = property(lambda self: None)


@dataclass(frozen=True)
class _Part:
    """What a model is given, and what its result is compared with.

    Attributes
    ----------
    given, known : ndarray
        `known` has independent noise; it is on the grid of the result or, on the scan's
        own scale, on that of `given`.
    noise : float
        Mean variance of the noise of `known`.
    """

    given: FloatArray
    known: FloatArray
    noise: float


class _Trial:
    """One model on parts of a scan, on its own scale and one scale coarser."""

    def __init__(
        self,
        model: Model,
        volume: Volume,
        noise: Noise,
        choice: Choice,
        machine: Machine | None = None,
    ) -> None:
        self.machine = machine or Machine()
        self.card, self.volume, self.noise = model.card, volume, noise
        self.choice = choice
        # The run that is looked at has the same network, and other noise to be told.
        self.network: Any = deepcopy(model.restorer())
        spec = cast("NetworkSpec", self.network.spec)
        self.ndim = len(spec.axes)
        whole = len(volume.axes) - self.ndim
        self.factors = (1,) * whole + tuple(spec.upscale_factor)
        self.context = spec.adjacent_slices
        self.excess = 0.0
        #: Share of the noise's variance that is left in the mean over a block.
        self.kept, self.kept_coarse = self._kept()
        # The averaged scan gets as noisy as the scan; noise that hardly falls when it
        # is averaged gets stronger by some all the same.
        self.rate = math.sqrt(max(1 / self.kept - 1, 0.25))
        self.own_noise = noise.scaled(math.hypot(1, _RATE))
        self.coarse_noise = noise.scaled(math.sqrt(self.kept * (1 + self.rate**2)))
        self.statistics = _Pooled(0.0, 1.0)

    def _kept(self) -> tuple[float, float]:
        """Of the scan's noise, and of the averaged scan's, which correlates less."""
        own = coarse = 1.0
        for axis, f in zip(self.volume.axes.lower(), self.factors, strict=True):
            rho = min(0.95, max(0.0, self.noise.correlation.get(axis, 0.0)))
            kept = _left(rho, f)
            neighbours = rho * ((1 - rho**f) / (1 - rho) / f) ** 2
            own *= kept
            coarse *= _left(neighbours / kept, f)
        return own, coarse

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
                    f"{self.card.name!r} on it: at least {_LEAST_EDGE * f} voxels "
                    f"along each axis are needed, not {n}."
                )
        found = places(self.volume, edges, _PARTS)
        if not found:
            raise VolumeError(
                f"{self.volume.title} has no part with structure and without NaN to "
                f"judge the model {self.card.name!r} on."
            )
        return found

    def draw(self, box: Place, rng: np.random.Generator) -> tuple[_Part, _Part]:
        """A part on the scan's own scale, and one scale coarser."""
        values = np.asarray(self.volume.data[box], dtype=np.float32)
        level = float(np.mean(self.noise.at(values) ** 2))
        # As many voxels on either scale: the middle of the part.
        middle = tuple(
            slice((n - n // f) // 2, (n - n // f) // 2 + n // f)
            if f > 1
            else slice(None)
            for n, f in zip(values.shape, self.factors, strict=True)
        )
        own, n = values[middle], self._drawn(values[middle], rng)
        first = _Part(own + _RATE * n, own - n / _RATE, level * (1 + 1 / _RATE**2))
        n = self._drawn(values, rng)
        second = _Part(
            self.averaged(values + self.rate * n),
            values - n / self.rate,
            level * (1 + 1 / self.rate**2),
        )
        return first, second

    def averaged(self, values: FloatArray) -> FloatArray:
        """Means over blocks as large as the factors."""
        split = [
            p
            for n, f in zip(values.shape, self.factors, strict=True)
            for p in (n // f, f)
        ]
        cut = tuple(
            slice(0, n // f * f)
            for n, f in zip(values.shape, self.factors, strict=True)
        )
        blocks = values[cut].reshape(split)
        return np.asarray(blocks.mean(axis=tuple(range(1, len(split), 2))), np.float32)

    def _drawn(self, values: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Noise of the scan's level and correlation."""
        from scipy import ndimage, signal

        drawn = rng.standard_normal(values.shape)
        for axis, letter in enumerate(self.volume.axes.lower()):
            rho = min(0.95, max(0.0, self.noise.correlation.get(letter, 0.0)))
            if not rho or values.shape[axis] == 1:
                continue
            # The first value has the variance of all others.
            step = math.sqrt(1 - rho**2)
            first = np.take(drawn, [0], axis) * (1 / step - 1)
            drawn = step * signal.lfilter([1], [1, -rho], drawn, axis, zi=first)[0]
        grey = values
        if len(set(self.noise.levels)) > 1:
            grey = ndimage.uniform_filter(values, 3, mode="nearest")
        return np.asarray(drawn * self.noise.at(grey), np.float32)

    def prepare(self, parts: Sequence[_Part], noise: Noise) -> None:
        """Tell the network noise and sharpness of parts, as before a restoration."""
        values = np.concatenate([part.given.ravel() for part in parts])
        std = float(values.std(dtype=np.float64)) or 1.0
        self.statistics = _Pooled(float(values.mean(dtype=np.float64)), std)
        tell_noise(self.network, noise.standardised(self.statistics.mean, std))
        layer = (
            self.network
            if isinstance(self.network, networks.ConsistentUpscaling)
            else None
        )
        plain = self.network if layer is None else layer.network
        pairs = [(part.given, self.run(part.given, plain)) for part in parts]
        fit = fit_sharpness(pairs, self.factors, noise)
        self.excess = fit.excess
        if layer is not None:
            auto = self.choice == "auto" and fit.is_explained
            keep = self.choice == "object" or auto
            layer.set_sharpness(networks.Sharpness(fit.excess, keep))

    def run(self, values: FloatArray, network: Any = None) -> FloatArray:
        """What the model (or another network) makes of a part."""
        found = restore_region(
            self.network if network is None else network,
            values,
            tuple(slice(0, n) for n in values.shape),
            statistics=self.statistics,
            device=self.machine.device,
            budget=self.machine.budget,
            threads=self.machine.threads,
            should_stop=self.machine.should_stop,
        )
        return np.asarray(found, np.float32)

    def interpolated(self, values: FloatArray) -> FloatArray:
        """The same by cubic interpolation."""
        import torch

        factor = max(self.factors)
        planes = torch.from_numpy(values.reshape(-1, 1, *values.shape[-self.ndim :]))
        kernel = networks.cubic_kernel(factor, self.ndim).float()
        fine = networks.interpolated(planes, kernel, factor)
        shape = [n * f for n, f in zip(values.shape, self.factors, strict=True)]
        return np.asarray(fine.numpy().reshape(shape), np.float32)

    def errors(self, part: _Part) -> list[tuple[float, float]]:
        """Of the model and of cubic interpolation: of block averages, and of detail.

        Mean squares without the noise. On the scan's own scale the second is 0.
        """
        found = []
        for result in (self.run(part.given), self.interpolated(part.given)):
            if part.known.shape == part.given.shape:
                rest = self._inner(self.averaged(result) - part.known)
                found.append((_mean_square(rest) - part.noise, 0.0))
                continue
            rest = result - part.known
            means = self._inner(self.averaged(rest))
            inner = self._inner(rest, fine=True)
            of_means = _mean_square(means) - self.kept * part.noise
            of_all = _mean_square(inner) - part.noise
            found.append((of_means, of_all - of_means))
        return found

    def detail(self, part: _Part) -> tuple[float, float]:
        """Variance within blocks of the scan, and within those of the coarser scan."""
        found = []
        coarse = float(np.mean(self.coarse_noise.at(part.given) ** 2))
        for values, noise, kept in (
            (part.known, part.noise, self.kept),
            (part.given, coarse, self.kept_coarse),
        ):
            means = self.averaged(values)
            cut = tuple(
                slice(0, n * f) for n, f in zip(means.shape, self.factors, strict=True)
            )
            total = _mean_square(values[cut] - float(means.mean()))
            within = total - _mean_square(means - float(means.mean()))
            found.append(within - noise * (1 - kept))
        return found[0], found[1]

    def _inner(self, values: FloatArray, *, fine: bool = False) -> FloatArray:
        """Without borders, which have no neighbours."""
        return values[
            tuple(
                slice(2 * (f if fine else 1), -2 * (f if fine else 1))
                if f > 1
                else slice(None)
                for f in self.factors
            )
        ]


def _judged(
    trial: _Trial, parts: Sequence[_Part], done: int, should_stop: ShouldStop
) -> Generator[Step, None, npt.NDArray[np.float64]]:
    """Errors of all parts on a scale: (part, model or cubic, averages or detail)."""
    found = []
    for i, part in enumerate(parts, start=1):
        if should_stop():
            raise Cancelled("Stopped while judging the model.")
        found.append(trial.errors(part))
        yield BlockDone(done + i, 2 * len(parts))
    return np.array(found, np.float64)


def _outlook(
    own: npt.NDArray[np.float64],
    coarse: npt.NDArray[np.float64],
    details: Sequence[tuple[float, float]],
    excess: float,
    trained: tuple[float, float] | None,
) -> FinerOutlook:
    """Gain over all parts, with the spread between them (jackknife)."""
    detail = np.array(details, np.float64)

    def gain(kept: list[int]) -> float:
        fine, wide = detail[kept].mean(axis=0)
        ratio = float(np.clip(fine / wide, _LEAST_RATIO, 1.0)) if wide > 0 else 1.0
        of_means = own[kept].mean(axis=0)[:, 0]
        of_detail = coarse[kept].mean(axis=0)[:, 1]
        errors = np.maximum(of_means, 0) + ratio * np.maximum(of_detail, 0)
        least = 1e-3 * float(errors.max()) or 1e-12
        model, cubic = (max(least, float(v)) for v in errors)
        return 10 * math.log10(cubic / model)

    n = len(own)
    value, spread = gain(list(range(n))), 0.0
    if n > 1:
        others = [gain([j for j in range(n) if j != i]) for i in range(n)]
        spread = _NINETY * math.sqrt((n - 1) * float(np.var(others)))
    low, high = math.hypot(spread, BELOW), math.hypot(spread, ABOVE)
    return FinerOutlook(value, (value - low, value + high), excess, trained, n)


def _left(rho: float, n: int) -> float:
    """Variance of the mean of `n` values in a row, in units of that of one.

    Correlation falls by `rho` with every step.
    """
    lags = np.arange(1, n)
    return (n + 2 * float(((n - lags) * rho**lags).sum())) / n**2


def _mean_square(values: FloatArray) -> float:
    return float(np.square(values, dtype=np.float64).mean())
