"""How well labels are told apart, beside what a threshold can do without learning."""

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
    found: Sequence[Array],
    labels: int,
    where: str,
    sigmas: Sequence[float],
    stop_if_asked: Callable[[], None] = lambda: None,
) -> tuple[FigureRow, ...]:
    """Mean Dice of the model on blocks, and of two labels that of Otsu's threshold.

    A threshold does not say which side is which label: it is given the one with the
    larger overlap. It is applied to the input, and to the input after a Gaussian filter
    whose width is the best for these very targets. Voxels of all blocks count alike, as
    not every label need be in each of them.

    Parameters
    ----------
    sources, targets, found : sequences of ndarray of shape ([Z,] Y, X)
        Inputs, right labels and the model's labels.
    where : str
        What the figures are computed on.
    sigmas : sequence of float
        Widths to try, in voxels.
    stop_if_asked : callable
        Called now and then; may raise.
    """
    truth = _all(targets)
    rows: dict[str, float] = {}
    if labels == 2 and all(source.min() < source.max() for source in sources):
        from scipy.ndimage import gaussian_filter

        rows["Otsu"] = _otsu_dice(sources, truth)
        smooth = {}
        for sigma in sigmas:
            stop_if_asked()
            filtered = [gaussian_filter(source, sigma) for source in sources]
            smooth[sigma] = _otsu_dice(filtered, truth)
        best = max(smooth, key=lambda s: smooth[s])
        rows[f"Gaussian {best:g}, Otsu"] = smooth[best]
    rows["model"] = _dice(_all(found), truth, labels)
    return tuple(
        FigureRow(test_set=where, method=name, dice=round(value, 4))
        for name, value in rows.items()
    )


def _all(blocks: Sequence[Array]) -> Array:
    return np.concatenate([block.ravel() for block in blocks])


def _otsu_dice(images: Sequence[Array], truth: Array) -> float:
    from skimage.filters import threshold_otsu

    bright = _all([image > threshold_otsu(image) for image in images]).astype(np.uint8)
    return max(_dice(side, truth, 2) for side in (bright, 1 - bright))


def _dice(found: Array, target: Array, labels: int) -> float:
    import torch

    one, other = (torch.from_numpy(np.ascontiguousarray(a)) for a in (found, target))
    return losses.labels.mean_dice(one, other, labels)
