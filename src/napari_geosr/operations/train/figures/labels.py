"""Measures the overlap between true labels and those of a model or a threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.learning import losses
from napari_geosr.models.card import FigureRow

Array = AnyArray


def label_figures(
    sources: Sequence[Array],
    targets: Sequence[Array],
    predicted: Sequence[Array],
    labels: int,
    where: str,
    sigmas: Sequence[float],
    raise_if_stopped: Callable[[], None] = lambda: None,
    *,
    unpainted: int | None = None,
) -> tuple[FigureRow, ...]:
    """Compute the mean Dice of the model and, for two labels, that of Otsu's threshold.

    The labels are assigned to the two sides of the threshold in the order that gives
    the larger overlap. The threshold is applied to the input, and to the input after a
    Gaussian filter with the width that is best for these targets. All blocks are
    pooled, because some may not contain every label.

    Parameters
    ----------
    sources, targets, predicted : sequences of ndarray of shape ([Z,] Y, X)
        Inputs, true labels and predicted labels.
    where : str
        Description of the evaluation data.
    sigmas : sequence of float
        Filter widths to try, in voxels.
    raise_if_stopped : callable
        Called between filters; may raise an exception.
    unpainted : int, optional
        Value of the true labels at voxels that are not compared. If it is 0, the other
        labels are 1 … `labels` - 1.
    """
    truth = _concatenate(targets)
    is_painted = np.ones(truth.shape, bool) if unpainted is None else truth != unpainted
    truth, found = truth[is_painted], _concatenate(predicted)[is_painted]
    if unpainted == 0:
        labels, truth, found = labels - 1, truth - 1, found - 1.0
        # A predicted 0 is always wrong, so replace it with another wrong label.
        found = np.where(found < 0, (truth + 1) % labels, found)
    rows: dict[str, float] = {}
    if labels == 2 and all(source.min() < source.max() for source in sources):
        from scipy.ndimage import gaussian_filter

        rows["Otsu"] = _otsu_dice(sources, truth, is_painted)
        smooth = {}
        for sigma in sigmas:
            raise_if_stopped()
            filtered = [gaussian_filter(source, sigma) for source in sources]
            smooth[sigma] = _otsu_dice(filtered, truth, is_painted)
        best = max(smooth, key=lambda s: smooth[s])
        rows[f"Gaussian {best:g}, Otsu"] = smooth[best]
    rows["model"] = _dice(found, truth, labels)
    return tuple(
        FigureRow(test_set=where, method=name, dice=round(value, 4))
        for name, value in rows.items()
    )


def _concatenate(blocks: Sequence[Array]) -> Array:
    return np.concatenate([block.ravel() for block in blocks])


def _otsu_dice(images: Sequence[Array], truth: Array, is_painted: Array) -> float:
    from skimage.filters import threshold_otsu

    bright = _concatenate([image > threshold_otsu(image) for image in images]).astype(
        np.uint8
    )[is_painted]
    return max(_dice(side, truth, 2) for side in (bright, 1 - bright))


def _dice(predicted: Array, target: Array, labels: int) -> float:
    import torch

    one, other = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in (predicted, target)
    )
    return losses.labels.mean_dice(one, other, labels)
