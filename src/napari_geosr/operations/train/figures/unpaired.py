"""How near a model comes to targets that show other places than its input.

No voxel has a truth, so what can be compared are distributions: of the grey levels
(Wasserstein-1 distance) and of the power over frequencies. They say whether results
look like targets as a whole, not whether structures are right: read them as such.
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
    judged_scenes,
    validation_block,
)
from napari_geosr.operations.train.figures.evaluator import Evaluator, Rows, enlarge

Array = AnyArray

#: Edge of the patches that spectra are computed from, as large as blocks allow.
_EDGE = 64
#: Grey levels are compared at so many quantiles.
_LEVELS = (np.arange(2000) + 0.5) / 2000


def unpaired_steps(
    evaluator: Evaluator, sigmas: Sequence[float]
) -> Generator[Step, None, Rows]:
    """Distances of input, best Gaussian filter and model to the targets.

    Grey levels are those of the standardised volumes: the input with the mean and the
    spread of its own kind, where kinds differ in them. The filter is the one whose
    spectrum comes nearest; where voxels become finer, the input is enlarged by cubic
    splines and there is no filter.
    """
    from scipy.ndimage import gaussian_filter

    patches, factor = evaluator.patches, evaluator.trainer.method.upscale_factor
    given, n_given = judged_scenes(patches, "source")
    wanted, n_wanted = judged_scenes(patches, "target")
    sources = [validation_block(s, patches, "source", len(given)) for s in given]
    targets = [validation_block(s, patches, "target", len(wanted)) for s in wanted]
    shapes = [_finer(s.shape, factor, patches.config.ndim) for s in sources]
    restored = yield from evaluator.restored(sources, shapes)
    edge = min(_EDGE, *(n for block in restored + targets for n in block.shape[-2:]))

    def distances(blocks: Sequence[Array]) -> tuple[float, float]:
        return (
            grey_level_distance(blocks, targets),
            spectrum_distance(blocks, targets, edge),
        )

    where = (
        f"{blocks_text(given, n_given, 'source')} against "
        f"{blocks_text(wanted, n_wanted, 'target')} (unpaired)"
    )
    if factor > 1:
        where += " (input: cubic enlargement)"
        sources = [enlarge(s, size) for s, size in zip(sources, shapes, strict=True)]
    rows = {"input": distances(sources)}
    if factor == 1:
        found = {}
        for sigma in sigmas:
            evaluator.stop_if_asked()
            found[sigma] = distances([gaussian_filter(s, sigma) for s in sources])
        best = min(found, key=lambda s: found[s][1])
        rows[f"Gaussian {best:g}"] = found[best]
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


def _finer(shape: tuple[int, ...], factor: int, ndim: int) -> tuple[int, ...]:
    kept = len(shape) - ndim
    return tuple(n if axis < kept else n * factor for axis, n in enumerate(shape))


def grey_level_distance(blocks: Sequence[Array], targets: Sequence[Array]) -> float:
    """Wasserstein-1 distance between all grey levels of `blocks` and of `targets`."""
    one, other = (
        np.quantile(np.concatenate([b.ravel() for b in several]), _LEVELS)
        for several in (blocks, targets)
    )
    return float(np.abs(one - other).mean())


def spectrum_distance(
    blocks: Sequence[Array], targets: Sequence[Array], edge: int
) -> float:
    """Mean difference of the log10 powers in rings of in-plane frequency.

    Contrast plays no role: both are brought to the same spread first.

    Parameters
    ----------
    blocks, targets : sequence of ndarray
        Grey values, (Z, Y, X).
    edge : int
        Edge of the squares that are compared, in voxels.
    """
    one, other = (signature(_patches(several, edge)) for several in (blocks, targets))
    if one is None or other is None:  # the same everywhere: no power at all
        return float("inf") if (one is None) != (other is None) else 0.0
    return float(np.abs(one.spectrum - other.spectrum).mean())


def _patches(blocks: Sequence[Array], edge: int) -> Array:
    """The blocks cut into squares (n, edge, edge), without a rest."""
    found = []
    for block in blocks:
        planes = block.reshape(-1, *block.shape[-2:])
        ny, nx = (n // edge for n in planes.shape[-2:])
        cut = planes[:, : ny * edge, : nx * edge].reshape(-1, ny, edge, nx, edge)
        found.append(cut.swapaxes(2, 3).reshape(-1, edge, edge))
    return np.concatenate(found)
