"""Finds the strength of a classical filter with the smallest expected error."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.evaluation import BUDGET, draw_sample, evaluate
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.noise import noise_steps
from napari_geosr.networks import set_network_noise
from napari_geosr.networks.classical import FILTERS

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.inference.risk.evaluation import EvaluationSample
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.models.bundle import Model
    from napari_geosr.operations.restore.verdict.inserted_pores import Array, Restore

#: Number of blocks on which strengths are compared; the best is evaluated on all
#: blocks.
_FEW = 2


@dataclass(frozen=True)
class TunedFilter:
    """Settings of a classical filter that was fitted to a scan.

    Attributes
    ----------
    settings : mapping
        Fields of the filter's ``NetworkConfig``.
    noise : Noise
        Noise of the scan.
    """

    settings: AnyMapping
    noise: Noise


@dataclass(frozen=True, eq=False)
class TrialSetup:
    """Sample blocks and settings for testing all candidates.

    `strength` is the factor of the noise level that networks assume.
    """

    sample: EvaluationSample
    statistics: IntensityStatistics
    noise: Noise
    device: str = "cpu"
    threads: int | None = None
    should_stop: ShouldStop = never_stop
    strength: float = 1.0

    def cells(
        self, model: Model, statistics: IntensityStatistics | None = None, n: int = 100
    ) -> CellMeans:
        """Compute the response of a model to the first `n` blocks, as in a full run."""
        scale = self.statistics if statistics is None else statistics
        network = self._network(model, scale)
        return evaluate(
            network,
            self.sample.first(n),
            scale,
            device=self.device,
            budget=BUDGET,
            threads=self.threads,
            should_stop=self.should_stop,
        )

    def restorer(self, model: Model, statistics: IntensityStatistics) -> Restore:
        """Return a function that restores the core of a window, as in a full run."""
        network = self._network(model, statistics)

        def restore(window: Array, core: tuple[slice, ...]) -> Array:
            found = restore_region(
                network,
                window,
                core,
                statistics=statistics,
                device=self.device,
                budget=BUDGET,
                threads=self.threads,
                should_stop=self.should_stop,
            )
            return found.astype(np.float64)

        return restore

    def _network(self, model: Model, scale: IntensityStatistics) -> nn.Module:
        """Return the network of a model, with its noise set."""
        network = model.restorer()
        noise = self.noise.scaled(self.strength)
        set_network_noise(
            network, noise.standardised(scale.input_mean, scale.input_std)
        )
        return network


def is_tunable(model: Model) -> bool:
    """Return whether a model is a classical filter without a strength on its card."""
    card = model.card
    return not card.has_weights and "strength" not in card.network_kwargs


def for_axes(model: Model, volume: Volume) -> Model:
    """Adapt a classical filter to the axes of a volume; return other models unchanged.

    Only the number of axes changes: an image has no third axis, and a single slice is
    not interpolated along Z.
    """
    card = model.card
    if card.has_weights or card.method != "classical":
        return model
    is_slice = card.upscale_factor > 1 and is_image(volume)
    n = 2 if is_slice else len(volume.axes)
    n_axes = min(n, int(card.network_kwargs.get("ndim", n)))
    if n_axes == card.network_kwargs.get("ndim"):
        return model
    return model.with_settings(ndim=n_axes)


def is_image(volume: Volume) -> bool:
    """Return whether a volume is an image, or a single slice."""
    return volume.axes == "YX" or volume.shape[0] == 1


def tuned(model: Model, setup: TrialSetup) -> tuple[Model, CellMeans]:
    """Return a filter with its best strength, and its response to the sample blocks.

    Strengths are compared on a few blocks, from the middle strength towards smaller
    errors; the best strength is refined by a parabola.
    """
    strengths: tuple[float, ...] = FILTERS.load(model.card.network).STRENGTHS
    risks: dict[float, float] = {}

    def risk(strength: float) -> float:
        if strength not in risks:
            cells = setup.cells(model.with_settings(strength=strength), n=_FEW)
            risks[strength] = cells.mean(cells.risks())
        return risks[strength]

    best = refined(strengths, downhill(strengths, risk), risk)
    chosen = model.with_settings(strength=best)
    return chosen, setup.cells(chosen)


def downhill(strengths: tuple[float, ...], risk: Callable[[float], float]) -> int:
    """Return the index of a local minimum of `risk`, searched from the middle."""
    i = len(strengths) // 2
    for step in (-1, 1):
        moved = False
        while 0 <= i + step < len(strengths):
            if risk(strengths[i + step]) >= risk(strengths[i]):
                break
            i, moved = i + step, True
        if moved:
            break
    return i


def refined(
    strengths: tuple[float, ...], i: int, risk: Callable[[float], float]
) -> float:
    """Refine the best strength by a parabola through it and its neighbours.

    Parameters
    ----------
    strengths : tuple of float
        Strengths tried, in ascending order.
    i : int
        Index of the best one.
    risk : callable
        Expected error for a strength.
    """
    if not 0 < i < len(strengths) - 1:
        return strengths[i]
    x = [math.log(s) for s in strengths[i - 1 : i + 2]]
    y = [risk(s) for s in strengths[i - 1 : i + 2]]
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    if not curvature > 0:
        return strengths[i]
    place = 0.5 * (x[0] + x[1]) - 0.5 * left / curvature
    return round(math.exp(min(max(place, x[0]), x[2])), 3)


def tune_steps(
    model: Model,
    volume: Volume,
    statistics: IntensityStatistics,
    *,
    noise: Noise | None = None,
    factor: float = 1.0,
    device: str = "cpu",
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[Model, Noise]]:
    """Fit a classical filter to a scan: set the axes and, if missing, the strength.

    Parameters
    ----------
    model : Model
        A classical filter.
    noise : Noise, optional
        Noise of the volume; measured by default.
    factor : float
        Factor applied to the best strength.

    Returns
    -------
    model : Model
        If the filter is not expected to help, its strength is 0, and it returns the
        scan unchanged.
    noise : Noise
    """
    if noise is None:
        yield StageStarted(message="Measuring the noise")
        noise = yield from noise_steps(volume, should_stop=should_stop)
    fitted = for_axes(model, volume)
    if is_tunable(fitted) and noise.level == 0:
        fitted = fitted.with_settings(strength=0.0)
    elif is_tunable(fitted):
        yield StageStarted(message=f"Finding the best strength of {model.card.name}")
        sample = draw_sample(volume.data, noise)
        setup = TrialSetup(sample, statistics, noise, device, threads, should_stop)
        chosen, cells = tuned(fitted, setup)
        harmful = cells.mean(cells.risks()) >= cells.mean(cells.unchanged_risks())
        fitted = chosen.with_settings(strength=0.0) if harmful else chosen
    if factor != 1.0:
        fitted = scaled_strength(fitted, factor)
    return fitted, noise


def scaled_strength(model: Model, factor: float) -> Model:
    """Return a filter with `factor` times its strength."""
    strength = model.card.network_kwargs.get("strength")
    if strength is None:  # use the default of the filter
        strength = model.network().config.strength  # type: ignore[union-attr]
    return model.with_settings(strength=factor * float(strength))  # type: ignore[arg-type]
