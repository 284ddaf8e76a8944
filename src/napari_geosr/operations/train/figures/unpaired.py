"""Measures the similarity of a model's results to unpaired targets.

There is no true value for any voxel. Therefore, the distributions of the grey levels
(Wasserstein-1 distance) and of the power over frequency are compared. The distances
measure whether results resemble targets as a whole, not whether structures are correct.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyArray
from napari_geosr.models.card import FigureRow
from napari_geosr.models.distribution import signature
from napari_geosr.operations.train.figures.blocks import (
    blocks_text,
    select_scenes,
    validation_block,
)
from napari_geosr.operations.train.figures.evaluator import Evaluator, Rows, enlarge

Array = AnyArray

#: Maximum edge length, in voxels, of the patches used for spectra.
_EDGE = 64
#: Quantiles at which grey levels are compared.
_LEVELS = (np.arange(2000) + 0.5) / 2000


def unpaired_steps(
    evaluator: Evaluator, sigmas: Sequence[float]
) -> Generator[Step, None, Rows]:
    """Compute the distances of input, best filter and model from the targets.

    Inputs and targets are standardised by the grey scales of their roles; results have
    the grey scale of the targets. The best filter is the one with the closest spectrum.
    In super-resolution, the input is enlarged by cubic splines, without a filter.
    """
    from scipy.ndimage import gaussian_filter

    patches, factor = evaluator.patches, evaluator.trainer.method.upscale_factor
    scenes, n_scenes = select_scenes(patches, "source")
    target_scenes, n_target_scenes = select_scenes(patches, "target")
    sources = [validation_block(s, patches, "source", len(scenes)) for s in scenes]
    targets = [
        validation_block(s, patches, "target", len(target_scenes))
        for s in target_scenes
    ]
    shapes = [_upscaled_shape(s.shape, factor, patches.config.ndim) for s in sources]
    restored = yield from evaluator.restored(sources, shapes)
    edge = min(_EDGE, *(n for block in restored + targets for n in block.shape[-2:]))

    def distances(blocks: Sequence[Array]) -> tuple[float, float]:
        return (
            grey_level_distance(blocks, targets),
            spectrum_distance(blocks, targets, edge),
        )

    where = (
        f"{blocks_text(scenes, n_scenes, 'source')} against "
        f"{blocks_text(target_scenes, n_target_scenes, 'target')} (unpaired)"
    )
    if factor > 1:
        where += " (input: cubic enlargement)"
        sources = [enlarge(s, size) for s, size in zip(sources, shapes, strict=True)]
    rows = {"input": distances(sources)}
    if factor == 1:
        by_sigma = {}
        for sigma in sigmas:
            evaluator.raise_if_stopped()
            by_sigma[sigma] = distances([gaussian_filter(s, sigma) for s in sources])
        best = min(by_sigma, key=lambda s: by_sigma[s][1])
        rows[f"Gaussian {best:g}"] = by_sigma[best]
    rows["model"] = distances(restored)
    return tuple(
        FigureRow(
            test_set=where,
            method=name,
            grey_level_distance=round(grey, 4),
            spectrum_distance=round(spectrum, 4),
        )
        for name, (grey, spectrum) in rows.items()
    )


def _upscaled_shape(shape: tuple[int, ...], factor: int, ndim: int) -> tuple[int, ...]:
    n_kept_axes = len(shape) - ndim
    return tuple(
        n if axis < n_kept_axes else n * factor for axis, n in enumerate(shape)
    )


def grey_level_distance(blocks: Sequence[Array], targets: Sequence[Array]) -> float:
    """Return the Wasserstein-1 distance between the grey levels of both sets."""
    one, other = (
        np.quantile(np.concatenate([b.ravel() for b in several]), _LEVELS)
        for several in (blocks, targets)
    )
    return float(np.abs(one - other).mean())


def spectrum_distance(
    blocks: Sequence[Array], targets: Sequence[Array], edge: int
) -> float:
    """Return the mean difference of log10 power over rings of in-plane frequency.

    The difference does not depend on contrast, because both sets are standardised
    first.

    Parameters
    ----------
    blocks, targets : sequence of ndarray
        Grey values, (Z, Y, X).
    edge : int
        Edge length of the patches, in voxels.
    """
    one, other = (signature(_patches(several, edge)) for several in (blocks, targets))
    if one is None or other is None:  # constant images have no power
        return float("inf") if (one is None) != (other is None) else 0.0
    return float(np.abs(one.spectrum - other.spectrum).mean())


def _patches(blocks: Sequence[Array], edge: int) -> Array:
    """Cut the blocks into patches (n, edge, edge); incomplete patches are dropped."""
    patches = []
    for block in blocks:
        planes = block.reshape(-1, *block.shape[-2:])
        ny, nx = (n // edge for n in planes.shape[-2:])
        cut = planes[:, : ny * edge, : nx * edge].reshape(-1, ny, edge, nx, edge)
        patches.append(cut.swapaxes(2, 3).reshape(-1, edge, edge))
    return np.concatenate(patches)
