"""What a denoiser does to the sample blocks of a scan, and to noise added to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.risk.blocks import (
    N_BLOCKS,
    Block,
    FloatArray,
    block_like,
    draw_blocks,
)
from napari_geosr.inference.risk.probes import level_map, noise_like
from napari_geosr.inference.risk.stein import CellMeans
from napari_geosr.inference.runner import restore_region
from napari_geosr.inference.windows import Standardisation

if TYPE_CHECKING:
    from torch import nn

#: Strength of the probe in units of the noise: small against it, large against
#: rounding.
_EPSILON = 0.1
_SEED = 20_813


@dataclass(frozen=True, eq=False)
class EvaluationSample:
    """Sample blocks of a scan, with the probes that all denoisers get alike.

    Attributes
    ----------
    blocks : sequence of Block
    probes : sequence of ndarray
        Noise of the scan's covariance for the window of each block, in grey values.
    variances : sequence of ndarray
        Variance of the noise at the voxels of each core.
    seconds : sequence of ndarray, optional
        The cores in a second scan of the same object.
    """

    blocks: Sequence[Block]
    probes: Sequence[FloatArray]
    variances: Sequence[FloatArray]
    seconds: Sequence[FloatArray] = ()

    def first(self, n: int) -> EvaluationSample:
        """The first `n` blocks alone."""
        return EvaluationSample(
            self.blocks[:n], self.probes[:n], self.variances[:n], self.seconds[:n]
        )


def draw_sample(
    source: ArrayLike,
    noise: Noise,
    *,
    second: ArrayLike | None = None,
    n: int = N_BLOCKS,
    seed: int = _SEED,
) -> EvaluationSample:
    """Draw blocks of a scan and probes like its noise; the same ones every time.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
    noise : Noise
        Of `source`, in its grey values.
    second : ArrayLike of the same shape, optional
        Another scan of the same object with independent noise of the same level.
    """
    rng = np.random.default_rng(seed)
    blocks = draw_blocks(source, n)
    probes, variances, seconds = [], [], []
    checked = []
    for block in blocks:
        checked.append(block)
        levels = level_map(block.window, noise)
        unit = noise_like(block.window.shape, noise.correlation, rng)
        probes.append(levels * unit)
        variances.append(np.square(levels[block.core]))
        if second is not None:
            again = block_like(second, block)[block.core]
            known = np.isfinite(again)
            checked[-1] = replace(block, valid=block.valid & known)
            seconds.append(np.where(known, again, 0.0))
    if not any(block.valid.any() for block in checked):
        raise VolumeError(
            "The two scans have no part in which both hold values: nothing can be "
            "compared. Choose a second scan that covers the same place."
        )
    return EvaluationSample(checked, probes, variances, seconds)


def evaluate(
    network: nn.Module,
    sample: EvaluationSample,
    statistics: Standardisation,
    *,
    device: str = "cpu",
    budget: int = 2 << 30,
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
    results: list[FloatArray] | None = None,
) -> CellMeans:
    """Run a denoiser on the sample, and on the sample with a little more noise.

    Parameters
    ----------
    network : nn.Module
        Keeps voxels and grey values; one that is told the noise was told it, and sees
        the same noise in both runs.
    statistics : Standardisation
        Of the whole scan, as a run over it would take them.
    results : list, optional
        Takes what the denoiser makes of the core of each block.

    Returns
    -------
    CellMeans
        In squares of grey values.

    Raises
    ------
    Cancelled, DeviceMemoryError, EngineError
        As :func:`napari_geosr.inference.runner.restore_region`.
    """

    def restored(block: Block, window: FloatArray) -> FloatArray:
        found = restore_region(
            network,
            window,
            block.core,
            statistics=statistics,
            device=device,
            budget=budget,
            threads=threads,
            should_stop=should_stop,
        )
        return found.astype(np.float64)

    rows = []
    for i, block in enumerate(sample.blocks):
        result = restored(block, block.window)
        if results is not None:
            results.append(result)
        if sample.seconds:
            against = sample.seconds[i]
            change = kept = np.zeros_like(result)
            apart = np.square(block.window[block.core] - against)
        else:
            against, apart = block.window[block.core], None
            probe = sample.probes[i]
            shifted = restored(block, block.window + _EPSILON * probe)
            change = (shifted - result) / _EPSILON
            kept = probe[block.core] * change
        maps = [np.square(result - against), kept, np.square(change)]
        maps.append(sample.variances[i])
        if apart is not None:
            maps.append(apart)
        rows += _cells(block, maps)
    n, *means = np.asarray(rows, np.float64).T
    removed, kept, passed, noise, *second = means
    return CellMeans(
        removed, kept, passed, noise, n, second[0] if sample.seconds else None
    )


def _cells(block: Block, maps: Sequence[FloatArray]) -> list[list[float]]:
    """Number of valid voxels and means over them, for each cell that has any."""
    rows = []
    for place in block.cells():
        valid: Any = block.valid[place]
        n = int(valid.sum())
        if n:
            means = (float(part[place][valid].mean()) for part in maps)
            rows.append([float(n), *means])
    return rows
