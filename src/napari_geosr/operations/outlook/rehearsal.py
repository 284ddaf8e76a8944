"""A rehearsal on blocks that are known: the pores that the model invents or loses.

The scan is smoothed as much as its noise asks for and taken for the truth. Noise like
that of the scan is laid over it, the model is run, and pores are counted before and
after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop
from napari_geosr.measure.quality import pore_volumes
from napari_geosr.operations.outlook.looking import Looked, restored

if TYPE_CHECKING:
    from napari_geosr.operations.restore_preparation import Prepared

Array = npt.NDArray[np.float64]

#: Widths of the smoothing that are tried, in voxels.
_WIDTHS = (0.0, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
#: Smaller pores do not count, in voxels.
SMALLEST = 27
_SEED = 4711
#: Blocks that are rehearsed on.
_BLOCKS = 3


@dataclass(frozen=True)
class Rehearsal:
    """What became of a known scan.

    Attributes
    ----------
    gain : float
        In dB, of the model over leaving the scan.
    true_pores, pores : int
        In the smoothed scan, and in what the model made of it under noise.
    """

    gain: float
    true_pores: int
    pores: int


def rehearse(
    prepared: Prepared, looked: Looked, noise: Noise, should_stop: ShouldStop
) -> Rehearsal:
    """Run the model on known blocks with noise like that of the scan.

    Raises
    ------
    Cancelled
        If `should_stop` says so.
    """
    from napari_geosr.inference.risk.probes import level_map, noise_like

    rng = np.random.default_rng(_SEED)
    width = best_width(looked)
    truths, results, before, after = [], [], 0.0, 0.0
    for block in looked.sample.blocks[:_BLOCKS]:
        truth = smoothed(block.window, width)
        unit = noise_like(truth.shape, noise.correlation, rng)
        noisy = truth + level_map(truth, noise) * unit
        result = restored(prepared, noisy, block.core, should_stop)
        core = truth[block.core]
        truths.append(core)
        results.append(result)
        before += float(np.square(noisy[block.core] - core).sum())
        after += float(np.square(result - core).sum())
    return Rehearsal(
        gain=10 * math.log10(before / after) if before > 0 and after > 0 else 0.0,
        true_pores=count_pores(truths),
        pores=count_pores(results),
    )


def best_width(looked: Looked) -> float:
    """Width of the Gaussian with the least expected error on the blocks."""
    best, least = 0.0, math.inf
    for width in _WIDTHS:
        risk, voxels = 0.0, 0
        for block, probe, variance in zip(
            looked.sample.blocks,
            looked.sample.probes,
            looked.sample.variances,
            strict=True,
        ):
            valid, core = block.valid, block.core
            left = block.window[core] - smoothed(block.window, width)[core]
            kept = probe[core] * smoothed(probe, width)[core]
            risk += float((np.square(left) - variance + 2 * kept)[valid].sum())
            voxels += int(valid.sum())
        if voxels and risk / voxels < least:
            best, least = width, risk / voxels
    return best


def smoothed(window: Array, width: float) -> Array:
    """A window under a Gaussian of `width` voxels."""
    if width == 0:
        return window
    found: Array = ndimage.gaussian_filter(window, width)
    return found


def count_pores(blocks: Sequence[Array]) -> int:
    """Dark objects of all blocks together, by the threshold of Otsu over all."""
    from skimage.filters import threshold_otsu

    values = np.concatenate([block.ravel() for block in blocks])
    if not np.ptp(values) > 0:
        return 0
    threshold = threshold_otsu(values)
    return sum(
        len(pore_volumes(block <= threshold, smallest=SMALLEST)) for block in blocks
    )
