"""The strength of a classical filter with the smallest expected error on a scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.evaluation import draw_sample, evaluate
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.networks import tell_noise
from napari_geosr.networks.classical import FILTERS

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.inference.intensity import IntensityStatistics
    from napari_geosr.inference.risk.evaluation import EvaluationSample
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.models.bundle import Model
    from napari_geosr.operations.restore.outlook.rehearsal import Array, Restore

#: Blocks that strengths are compared on; the best is then judged on all.
_FEW = 2
BUDGET = 2 << 30


@dataclass(frozen=True, eq=False)
class TrialSetup:
    """What every candidate is tried on, and with."""

    sample: EvaluationSample
    statistics: IntensityStatistics
    noise: Noise
    device: str = "cpu"
    threads: int | None = None
    should_stop: ShouldStop = never_stop

    def cells(
        self, model: Model, statistics: IntensityStatistics | None = None, n: int = 100
    ) -> CellMeans:
        """What a model does to the first `n` blocks, as a run over the scan would."""
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
        """What a model makes of the core of a window, as a run over the scan would."""
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
        """The network of a model that was told the noise."""
        network = model.restorer()
        tell_noise(network, self.noise.standardised(scale.input_mean, scale.input_std))
        return network


def is_tunable(model: Model) -> bool:
    """Whether a model is a classical filter without a strength on its card."""
    card = model.card
    return not card.has_weights and "strength" not in card.network_kwargs


def for_axes(model: Model, volume: Volume) -> Model:
    """A classical filter for the axes of a volume; any other model as it is."""
    card = model.card
    if card.has_weights or "ndim" in card.network_kwargs:
        return model
    return model.with_settings(ndim=len(volume.axes))


def tuned(model: Model, setup: TrialSetup) -> tuple[Model, CellMeans]:
    """A filter with the best of its strengths, and what it then does to the sample.

    Strengths are compared on a few blocks, downhill from the middle one, and the best
    is refined by a parabola.
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
    """Index of a minimum, walking from the middle."""
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
    """Strength at the minimum of a parabola through a minimum and its neighbours.

    Parameters
    ----------
    strengths : tuple of float
        That were tried, ascending.
    i : int
        Index of the best one.
    risk : callable
        From a strength to its expected error.
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
    """Fit a classical filter to a scan: its axes, and its strength if it has none.

    Parameters
    ----------
    model : Model
        Of a classical filter.
    noise : Noise, optional
        Of the volume; measured by default.
    factor : float
        What the best strength is multiplied by.

    Returns
    -------
    model : Model
        Where nothing that the filter does is expected to help, its strength is 0, and
        it returns the scan.
    noise : Noise
    """
    if noise is None:
        yield StageStarted(message="Measuring the noise")
        noise = estimate_noise(volume)
    fitted = for_axes(model, volume)
    if is_tunable(fitted) and noise.level == 0:
        fitted = fitted.with_settings(strength=0.0)
    elif is_tunable(fitted):
        yield StageStarted(message=f"Finding the best strength of {model.card.name}")
        sample = draw_sample(volume.data, noise)
        setup = TrialSetup(sample, statistics, noise, device, threads, should_stop)
        chosen, cells = tuned(fitted, setup)
        harmful = cells.mean(cells.risks()) >= cells.mean(cells.left_alone())
        fitted = chosen.with_settings(strength=0.0) if harmful else chosen
    if factor != 1.0:
        fitted = scaled_strength(fitted, factor)
    return fitted, noise


def scaled_strength(model: Model, factor: float) -> Model:
    """A filter with `factor` times its strength."""
    strength = model.card.network_kwargs.get("strength")
    if strength is None:  # that of the filter itself
        strength = model.network().config.strength  # type: ignore[union-attr]
    return model.with_settings(strength=factor * float(strength))  # type: ignore[arg-type]
