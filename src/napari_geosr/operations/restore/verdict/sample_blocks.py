"""Runs a model on sample blocks of a scan before the full run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop
from napari_geosr.inference.risk.evaluation import draw_sample, evaluate
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.comparison.removed import ScanBlock
from napari_geosr.measure.resolution.redegrade import blur_reach, blurred_means

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.operations.restore.preparation import PreparedRestoration

Array = npt.NDArray[np.float64]

#: Candidate blurs, in voxels of the scan, for comparing a finer result with the scan;
#: the best one is used.
_BLURS = (0.0, 0.35, 0.6, 0.85, 1.1)


@dataclass(frozen=True, eq=False)
class BlockResults:
    """Sample blocks of a scan and the model's results for them.

    Attributes
    ----------
    sample : EvaluationSample
        The blocks.
    results : sequence of ndarray
        The model's result for the core of each block, on its own grid, in grey values.
    pieces : sequence of ScanBlock
        Scan and result on the grid of the scan.
    cells : CellMeans or None
        Values from which the gain is estimated; None if the model changes the grid or
        there is no noise.
    """

    sample: EvaluationSample
    results: Sequence[Array]
    pieces: Sequence[ScanBlock]
    cells: CellMeans | None


def run_on_sample(
    prepared: PreparedRestoration, noise: Noise, n: int, should_stop: ShouldStop
) -> BlockResults:
    """Run a model on blocks of the scan, with and without a little added noise.

    Parameters
    ----------
    n : int
        Maximum number of blocks.

    Raises
    ------
    VolumeError
        If no part of the scan has enough varying voxels.
    Cancelled
        If `should_stop` returns True.
    """
    sample = draw_sample(prepared.seen_volume.data, noise, n=n)
    results: list[Array] = []
    cells: CellMeans | None = None
    finer = max(prepared.factors) > 1
    if finer or noise.level == 0:
        results = [
            restored(prepared, block.window, block.core, should_stop)
            for block in sample.blocks
        ]
    else:
        cells = evaluate(
            prepared.network,
            sample,
            prepared.statistics,
            device=prepared.device,
            budget=prepared.budget,
            threads=prepared.config.threads,
            should_stop=should_stop,
            results=results,
        )
    pieces = []
    for block, result in zip(sample.blocks, results, strict=True):
        scan, seen, valid = block.window[block.core], result, block.valid
        if finer:
            seen, inner = _seen(scan, result, prepared.factors)
            valid = valid & inner
        pieces.append(ScanBlock(scan, seen, valid))
    return BlockResults(sample, results, pieces, cells)


def restored(
    prepared: PreparedRestoration, window: Array, core: Any, should_stop: ShouldStop
) -> Array:
    """Restore the core of a window; for an ensemble, return the mean over its members.

    Parameters
    ----------
    prepared : PreparedRestoration
    window : ndarray
        Grey values including the halo.
    core : tuple of slice
        Part of the window to return.
    should_stop : callable
    """
    found = restore_region(
        prepared.network,
        window,
        core,
        statistics=prepared.statistics,
        device=prepared.device,
        budget=prepared.budget,
        threads=prepared.config.threads,
        should_stop=should_stop,
    )
    return found.astype(np.float64)


def _seen(
    scan: Array, result: Array, factors: tuple[int, ...]
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Average a finer result over the scan's voxels, with the best-fitting blur."""
    flat = scan.ndim == 2
    fine = (result[None] if flat else result).astype(np.float32)
    steps = (1, *factors)[-3:]
    best, smallest, width = scan, np.inf, 0.0
    for blur in _BLURS:
        blurs = [blur if n > 1 else 0.0 for n in (1, *scan.shape)[-3:]]
        seen = blurred_means(fine, steps, blurs).astype(np.float64)
        seen = seen[0] if flat else seen
        left = float(np.square(scan - seen).mean())
        if left < smallest:
            best, smallest, width = seen, left, blur
    inner = np.zeros(scan.shape, bool)
    reach = min(blur_reach((width,) * 3)[0], 2)
    margins = (reach if n > 8 else 0 for n in scan.shape)
    box = (slice(m, n - m) for m, n in zip(margins, scan.shape, strict=True))
    inner[tuple(box)] = True
    return best, inner
