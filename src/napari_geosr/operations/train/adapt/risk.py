"""Estimates the expected error of a network on held-out blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.risk.evaluation import (
    N_BLOCKS,
    EvaluationSample,
    draw_sample,
    evaluate,
)
from napari_geosr.inference.risk.stein import (
    LEAST_PASSED,
    CellMeans,
    common_scale,
    decibels,
)
from napari_geosr.models.training_data import ArrayView
from napari_geosr.networks import set_network_noise

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.core.noise import Noise
    from napari_geosr.learning.sampling.patches import Patches, TrainingSubject

#: Maximum number of scans to evaluate.
_MAX_SCANS = 3
#: Number of held-out blocks on which errors are estimated, divided among the scans;
#: each scan has at least two.
_BLOCKS = 6


@dataclass(frozen=True, eq=False)
class _RiskSample:
    """Sample blocks of one scan, with the noise that the network is given."""

    sample: EvaluationSample
    noise: Noise
    statistics: IntensityStatistics


class RiskEstimator:
    """Estimates the error of a network relative to the unknown noise-free scans.

    Uses Stein's estimate on sample blocks, or the difference from a second scan.

    Parameters
    ----------
    patches : Patches
        The training data, with the noise of the sources.
    device : str
        Device of the network.
    held_out : bool
        Whether the blocks come from the held-out part of the scans only; otherwise they
        are those with which `napari-geosr models rank` compares models.
    """

    def __init__(
        self,
        patches: Patches,
        device: str,
        should_stop: ShouldStop = never_stop,
        *,
        held_out: bool = True,
    ) -> None:
        self.device, self.threads = device, patches.config.threads
        self.should_stop = should_stop
        scenes = patches.scenes[:_MAX_SCANS]
        n = max(2, _BLOCKS // len(scenes)) if held_out else N_BLOCKS
        self._samples = [_risk_sample(each, patches, n, held_out) for each in scenes]

    def estimate(self, network: nn.Module) -> CellMeans:
        """Evaluate `network` on the blocks; the result's ``risks()`` are the errors.

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        """
        cells = []
        for each in self._samples:
            set_network_noise(network, each.noise)
            cells.append(
                evaluate(
                    network,
                    each.sample,
                    each.statistics,
                    device=self.device,
                    threads=self.threads,
                    should_stop=self.should_stop,
                )
            )
        return _join_scans(cells, [each.statistics.std for each in self._samples])


def _risk_sample(
    scene: TrainingSubject, patches: Patches, n: int, held_out: bool
) -> _RiskSample:
    grey, noise = patches.grey["source"], scene.noises["source"]
    volume, second = scene.volumes["source"], scene.volumes.get("target")
    box = [slice(0, size) for size in volume.shape]
    if held_out:
        box[scene.split.axis] = slice(*scene.split.validation)
    sample = draw_sample(
        ArrayView(volume.data, tuple(box)),
        noise.standardised(-grey.mean / grey.std, 1 / grey.std),
        second=None if second is None else ArrayView(second.data, tuple(box)),
        n=n,
    )
    statistics = IntensityStatistics(grey.mean, grey.std, -math.inf, math.inf, 0)
    return _RiskSample(sample, noise, statistics)


def _join_scans(cells: Sequence[CellMeans], stds: Sequence[float]) -> CellMeans:
    """Combine the estimates of several scans, in units of the grey scale's variance."""

    def joined(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        parts = zip(cells, stds, strict=True)
        return np.concatenate([getattr(cells, name) / std**2 for cells, std in parts])

    joined_fields: AnyDict = {}
    for field in fields(CellMeans):
        if field.name == "voxels":
            joined_fields["voxels"] = np.concatenate([cells.voxels for cells in cells])
        elif getattr(cells[0], field.name) is not None:
            joined_fields[field.name] = joined(field.name)
    return CellMeans(**joined_fields)


@dataclass(frozen=True)
class Gain:
    """Improvement of one network over another in expected error.

    Attributes
    ----------
    decibels : float
    interval : (float, float)
        Confidence interval (about 90 %), given the noise.
    """

    decibels: float
    interval: tuple[float, float]

    @property
    def is_significant(self) -> bool:
        """Whether the gain is significantly above zero."""
        return self.interval[0] > 0


def gain_over(before: CellMeans, after: CellMeans) -> Gain:
    """Return the gain of `after` over `before`, two evaluations of the same blocks."""
    # Estimated errors may be too small, even negative. Lower limits are the variance of
    # the noise that remains in the result, and 0.1 % of the noise variance of the scan.
    scale = common_scale((before, after))
    floor = 1e-3 * scale * before.mean(before.noise)
    old, new = (
        max(
            cells.mean(cells.risks(scale)),
            scale * LEAST_PASSED * cells.mean(cells.passed),
            floor,
        )
        for cells in (before, after)
    )
    off = 1.645 * before.standard_error(before.risks(scale) - after.risks(scale))
    low, high = (decibels(old, old - (old - new) - sign * off) for sign in (-1, 1))
    return Gain(decibels(old, new), (low, high))
