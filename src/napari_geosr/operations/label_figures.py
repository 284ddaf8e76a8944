"""How well labels are told apart, beside what a threshold can do without learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.models.card import FigureRow

Array = np.ndarray[Any, Any]


def label_figures(
    source: Array,
    target: Array,
    found: Array,
    labels: int,
    title: str,
    sigmas: Sequence[float],
) -> tuple[FigureRow, ...]:
    """Mean Dice of the model on a block, and of two labels that of Otsu's threshold.

    A threshold does not say which side is which label: it is given the one with the
    larger overlap. It is applied to the input, and to the input after a Gaussian filter
    whose width is the best for this very target.

    Parameters
    ----------
    source, target, found : ndarray of shape ([Z,] Y, X)
        Input, right labels and the model's labels.
    title : str
        Of the target.
    sigmas : sequence of float
        Widths to try, in voxels.
    """
    rows: dict[str, float] = {}
    if labels == 2 and source.min() < source.max():
        from scipy.ndimage import gaussian_filter

        rows["Otsu"] = _otsu_dice(source, target)
        smooth = {s: _otsu_dice(gaussian_filter(source, s), target) for s in sigmas}
        best = max(smooth, key=lambda s: smooth[s])
        rows[f"Gaussian {best:g}, Otsu"] = smooth[best]
    rows["model"] = _dice(found, target, labels)
    where = f"validation block against the {labels} labels of {title}"
    return tuple(
        FigureRow(test_set=where, method=name, dice=round(value, 4))
        for name, value in rows.items()
    )


def _otsu_dice(image: Array, target: Array) -> float:
    from skimage.filters import threshold_otsu

    bright = (image > threshold_otsu(image)).astype(np.uint8)
    return max(_dice(side, target, 2) for side in (bright, 1 - bright))


def _dice(found: Array, target: Array, labels: int) -> float:
    import torch

    from napari_geosr.learning.losses.labels import mean_dice

    one, other = (torch.from_numpy(np.ascontiguousarray(a)) for a in (found, target))
    return mean_dice(one, other, labels)
