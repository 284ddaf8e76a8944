"""Tests a super-resolution model on parts of a scan, at two scales.

The first scale is that of the scan. The second scale is coarser by the model's upscale
factor, so that the scan provides the ground truth; see
`napari_geosr.operations.restore.upscaling.upscaling_verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from napari_geosr import networks
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.evaluation import BUDGET
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.resolution.edge_sharpness import edge_sharpness
from napari_geosr.measure.resolution.redegrade import blurred_means
from napari_geosr.networks import set_network_noise
from napari_geosr.operations.restore.upscaling.sample_boxes import (
    Slices,
    structured_boxes,
)
from napari_geosr.operations.restore.upscaling.sharpness import fit_sharpness
from napari_geosr.physics.correlated_noise import filtered_covariance

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.networks.spec import NetworkSpec

FloatArray = npt.NDArray[np.float32]

#: Number of parts of the scan that are tested.
_N_PARTS = 4
#: Edge length of a part in averaged voxels, by number of the network's axes.
_PART_EDGE = {2: 48, 3: 16}
#: Minimum number of averaged voxels along an axis.
_MIN_EDGE = 8
#: Level of the noise added at the scan's own scale, relative to the scan's noise level.
_RATE = 0.6
#: Minimum fraction of the variance of grey values that the difference between dark and
#: bright voxels explains. This fraction is 0.64 for normally distributed values of one
#: phase.
_MIN_SEPARATED = 0.7


@dataclass(frozen=True)
class TrialResources:
    """Device and resources for restoring parts of a scan.

    Attributes
    ----------
    device : str
        Name of the device, such as ``"cpu"`` or ``"cuda:0"``.
    budget : int
        Memory budget for restoring a part, in bytes.
    threads : int, optional
        Number of CPU threads; all cores but one by default.
    should_stop : callable
        Called while a part is restored.
    """

    device: str = "cpu"
    budget: int = BUDGET
    threads: int | None = None
    should_stop: ShouldStop = field(default=never_stop, compare=False)


@dataclass(frozen=True)
class _PooledStatistics:
    """Mean and standard deviation of all parts at one scale; a `Standardisation`."""

    mean: float
    std: float

    input_mean = property(lambda self: self.mean)
    input_std = property(lambda self: self.std)
    output_mean = property(lambda self: self.mean)
    output_std = property(lambda self: self.std)
    hot = property(lambda self: None)
    padding = property(lambda self: None)


@dataclass(frozen=True)
class TrialPart:
    """Input of a model, and the data with which its result is compared.

    Attributes
    ----------
    network_input, reference : ndarray
        `reference` has independent noise; it is on the grid of the result or, at the
        scan's own scale, on the grid of `network_input`.
    noise : float
        Mean variance of the noise of `reference`.
    variance : float
        Mean variance of the scan's own noise.
    """

    network_input: FloatArray
    reference: FloatArray
    noise: float
    variance: float


class ScanTrial:
    """Test of a model on parts of a scan, at the scan's own scale and a coarser one."""

    def __init__(
        self,
        model: Model,
        volume: Volume,
        noise: Noise,
        choice: SharpnessChoice,
        machine: TrialResources | None = None,
        strength: float = 1.0,
        sharpness: networks.Sharpness | None = None,
    ) -> None:
        self.machine = machine or TrialResources()
        self.card, self.volume, self.noise = model.card, volume, noise
        self.choice, self.strength, self.sharpness = choice, strength, sharpness
        # Copy the network: the run in preparation uses the same one with other noise
        # settings.
        self.network: Any = deepcopy(model.restorer())
        spec = cast("NetworkSpec", self.network.spec)
        self.ndim = len(spec.axes)
        whole = len(volume.axes) - self.ndim
        self.factors = (1,) * whole + tuple(spec.upscale_factor)
        self.context = spec.adjacent_slices
        self.excess = 0.0
        #: Blur applied to results at the scan's own scale, in voxels of the scan.
        self.blur = 0.0
        #: Fraction of the noise variance that remains after averaging over a block: at
        #: the scan's own scale, and when the averaged scan is averaged again.
        self.variance_share, self.coarse_variance_share = self._variance_shares()
        # Level of the noise added before averaging, relative to the scan's noise level:
        # the averaged scan is then as noisy as the scan. The level is at least 0.5, in
        # case averaging hardly reduces the noise.
        self.rate = math.sqrt(max(1 / self.variance_share - 1, 0.25))
        self.own_noise = noise.scaled(math.hypot(1, _RATE))
        self.coarse_noise = self._averaged_noise().scaled(math.hypot(1, self.rate))
        self.statistics = _PooledStatistics(0.0, 1.0)
        #: Results of the model and of cubic interpolation at the scan's own scale.
        self.results: list[tuple[FloatArray, FloatArray]] = []

    def _variance_shares(self) -> tuple[float, float]:
        """Return the fraction of noise variance that averaging leaves at each scale."""
        own, both = (
            filtered_covariance(self.noise, _averaging([f**n for f in self.factors]))
            for n in (1, 2)
        )
        return own, both / own

    def _averaged_noise(self) -> Noise:
        """Return the noise after averaging over blocks, without the added noise."""
        kernels, share = _averaging(self.factors), self.variance_share
        correlation = {}
        for i, axis in enumerate(self.volume.axes.lower()):
            next_block = [f if j == i else 0 for j, f in enumerate(self.factors)]
            covariance = filtered_covariance(self.noise, kernels, next_block)
            correlation[axis] = covariance / share
        white = min(max(self.noise.white, 0.0), 1.0)
        cutoff = self.noise.cutoff
        return replace(
            self.noise.scaled(math.sqrt(share)),
            correlation=correlation,
            white=min(1.0, white / math.prod(self.factors) / share),
            # The cut-off is relative to the Nyquist frequency of the coarser grid.
            cutoff=None if cutoff is None else cutoff * max(self.factors[-2:]),
        )

    def boxes(self) -> list[Slices]:
        """Return parts of the scan with edges divisible by the upscale factors."""
        edges = []
        for f, n in zip(self.factors, self.volume.shape, strict=True):
            if f == 1:
                edges.append(min(n, self.context))
                continue
            edges.append(min(_PART_EDGE[self.ndim], n // f) * f)
            if n // f < _MIN_EDGE:
                raise VolumeError(
                    f"{self.volume.title} is too small: a test of {self.card.name} "
                    f"needs at least {_MIN_EDGE * f} voxels along each axis, but the "
                    f"scan has only {n} along one. Restore a larger part of the scan, "
                    "or restore it with cubic interpolation as well and compare both "
                    "results."
                )
        found = structured_boxes(self.volume, edges, _N_PARTS)
        if not found:
            raise VolumeError(
                f"The model {self.card.name!r} cannot be tested on "
                f"{self.volume.title}: it has no region that shows structure and "
                "contains no NaN."
            )
        return found

    def draw(
        self, box: Slices, rng: np.random.Generator
    ) -> tuple[TrialPart, TrialPart]:
        """Draw input and reference at the scale of the scan and at a coarser one."""
        values = np.asarray(self.volume.data[box], dtype=np.float32)
        level = float(np.mean(self.noise.at(values) ** 2))
        # Use the same number of voxels at both scales: at the finer one, the centre of
        # the part.
        middle = tuple(
            slice((n - n // f) // 2, (n - n // f) // 2 + n // f)
            if f > 1
            else slice(None)
            for n, f in zip(values.shape, self.factors, strict=True)
        )
        own, n = values[middle], self._random_noise(values[middle], rng)
        first = TrialPart(
            own + _RATE * n, own - n / _RATE, level * (1 + 1 / _RATE**2), level
        )
        n = self._random_noise(values, rng)
        second = TrialPart(
            self.averaged(values + self.rate * n),
            values - n / self.rate,
            level * (1 + 1 / self.rate**2),
            level,
        )
        return first, second

    def averaged(self, values: FloatArray) -> FloatArray:
        """Return the means over blocks of the size of the upscale factors."""
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

    def seen(self, values: FloatArray, blur: float) -> FloatArray:
        """Blur along upscaled axes (width in scan voxels), then average over blocks."""
        if not blur:
            return self.averaged(values)
        missing = (1,) * (3 - values.ndim)
        factors = missing + self.factors
        widths = [blur * (f > 1) for f in factors]
        means = blurred_means(values.reshape(missing + values.shape), factors, widths)
        return np.asarray(means, np.float32).reshape(means.shape[3 - values.ndim :])

    def _random_noise(self, values: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return random noise with the level and spectrum of the scan's noise."""
        level = level_map(np.asarray(values, np.float64), self.noise)
        drawn = noise_of_scan(self.noise, values.shape, rng)
        return np.asarray(level * drawn, np.float32)

    def prepare(
        self, parts: Sequence[TrialPart], noise: Noise, *, is_coarse: bool
    ) -> None:
        """Set noise and sharpness of the network, as before a restoration.

        At the scan's own scale, the sharpness is that of the prepared run, if there is
        one. A result that is as sharp as the object must be blurred before it can be
        compared with the scan. At the coarser scale, the scan is the ground truth, so
        results are as sharp as the scan.
        """
        greys = np.concatenate([part.network_input.ravel() for part in parts])
        std = float(greys.std(dtype=np.float64)) or 1.0
        self.statistics = _PooledStatistics(float(greys.mean(dtype=np.float64)), std)
        told = noise.scaled(self.strength)
        set_network_noise(self.network, told.standardised(self.statistics.mean, std))
        layer = (
            self.network
            if isinstance(self.network, networks.ConsistentUpscaling)
            else None
        )
        plain = self.network if layer is None else layer.network
        if getattr(plain, "is_as_sharp_as_scan", False):
            values = (part.network_input for part in parts)
            networks.set_scan_sharpness(plain, edge_sharpness(values, noise))
            self.excess = self.blur = 0.0
            return
        pairs = [
            (part.network_input, self.run(part.network_input, plain)) for part in parts
        ]
        fit = fit_sharpness(pairs, self.factors, noise)
        self.excess, self.blur = fit.excess, 0.0
        if layer is not None:
            auto = self.choice == "auto" and fit.is_explained
            chosen = networks.Sharpness(fit.excess, self.choice == "object" or auto)
            if is_coarse:
                chosen = replace(chosen, keep=False)
            elif self.sharpness is not None:
                chosen = self.sharpness
            layer.set_sharpness(chosen)
            self.blur = chosen.excess if chosen.keep else 0.0

    def run(self, values: FloatArray, network: Any = None) -> FloatArray:
        """Return the output of the model (or another network) for a part."""
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
        """Return the cubic interpolation of a part."""
        import torch

        factor = max(self.factors)
        planes = torch.from_numpy(values.reshape(-1, 1, *values.shape[-self.ndim :]))
        kernel = networks.cubic_kernel(factor, self.ndim).float()
        fine = networks.interpolated(planes, kernel, factor)
        shape = [n * f for n, f in zip(values.shape, self.factors, strict=True)]
        return np.asarray(fine.numpy().reshape(shape), np.float32)

    def errors(self, part: TrialPart) -> list[tuple[float, float]]:
        """Return the errors of the model and of cubic interpolation.

        Each error has two components, the mean squares of block averages and of detail,
        corrected for noise. At the scan's own scale, the error of the detail is 0.
        """
        found = []
        both = self.run(part.network_input), self.interpolated(part.network_input)
        if part.reference.shape == part.network_input.shape:
            self.results.append(both)
        for result, blur in zip(both, (self.blur, 0.0), strict=True):
            if part.reference.shape == part.network_input.shape:
                difference = self._inner(self.seen(result, blur) - part.reference)
                found.append((_mean_square(difference) - part.noise, 0.0))
                continue
            difference = result - part.reference
            means = self._inner(self.averaged(difference))
            inner = self._inner(difference, fine=True)
            of_means = _mean_square(means) - self.variance_share * part.noise
            of_all = _mean_square(inner) - part.noise
            found.append((of_means, of_all - of_means))
        return found

    def porosities(self) -> tuple[float, float] | None:
        """Return the porosity of the results, and of the interpolated parts.

        Returns
        -------
        (float, float) or None
            Fractions of dark voxels according to Otsu's threshold; None if the results
            do not consist of dark and bright voxels.
        """
        found = []
        for images in zip(*self.results, strict=True):
            values = np.concatenate(
                [self._inner(one, fine=True).ravel() for one in images]
            )
            share = dark_share(values)
            if share is None:
                return None
            found.append(share)
        return (found[0], found[1]) if found else None

    def detail(self, part: TrialPart) -> tuple[float, float]:
        """Return the variance within blocks of the scan and of the coarser scan."""
        found = []
        coarse = float(np.mean(self.coarse_noise.at(part.network_input) ** 2))
        for values, noise, variance_share in (
            (part.reference, part.noise, self.variance_share),
            (part.network_input, coarse, self.coarse_variance_share),
        ):
            means = self.averaged(values)
            cut = tuple(
                slice(0, n * f) for n, f in zip(means.shape, self.factors, strict=True)
            )
            total = _mean_square(values[cut] - float(means.mean()))
            within = total - _mean_square(means - float(means.mean()))
            found.append(within - noise * (1 - variance_share))
        return found[0], found[1]

    def _inner(self, values: FloatArray, *, fine: bool = False) -> FloatArray:
        """Return the values without the border, where neighbours are missing."""
        return values[
            tuple(
                slice(2 * (f if fine else 1), -2 * (f if fine else 1))
                if f > 1
                else slice(None)
                for f in self.factors
            )
        ]


def _averaging(sizes: Sequence[int]) -> list[npt.NDArray[np.float64]]:
    """Return the kernels, one for each axis, that average over a block."""
    return [np.full(n, 1 / n) for n in sizes]


def dark_share(values: FloatArray) -> float | None:
    """Return the fraction of values below Otsu's threshold; None for a single phase.

    Examples
    --------
    >>> dark_share(np.repeat(np.float32([0, 1]), [25, 75]))
    0.25
    >>> dark_share(np.zeros(9, np.float32)) is None
    True
    """
    from skimage.filters import threshold_otsu

    variance = float(values.var(dtype=np.float64))
    if not variance > 0:
        return None
    is_dark = values <= threshold_otsu(values)
    share = float(is_dark.mean())
    if not 0 < share < 1:
        return None
    distance = float(values[~is_dark].mean(dtype=np.float64)) - float(
        values[is_dark].mean(dtype=np.float64)
    )
    separated = share * (1 - share) * distance**2 / variance
    return share if separated > _MIN_SEPARATED else None


def _mean_square(values: FloatArray) -> float:
    return float(np.square(values, dtype=np.float64).mean())
