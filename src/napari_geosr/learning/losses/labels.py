"""Losses for labels: cross-entropy of the scores, and Dice overlap.

References
----------
.. [1] Dice. Measures of the amount of ecologic association between species. Ecology 26,
   297-302 (1945). doi:10.2307/1932409
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    scores: Tensor, target: Tensor, unpainted: int | None = None
) -> Tensor:
    """Return the mean of ``-log softmax(scores)`` at the labels of the labelled voxels.

    Parameters
    ----------
    scores : Tensor of shape (N, n, [Z,] Y, X)
    target : Tensor of shape (N, 1, [Z,] Y, X)
        Labels 0 … n − 1, of any dtype.
    unpainted : int, optional
        Value of voxels without a label; if no voxel has a label, the result is 0.
    """
    if unpainted is None:
        return functional.cross_entropy(scores.float(), target[:, 0].long())
    labels = target[:, 0].long()
    total = functional.cross_entropy(
        scores.float(), labels, ignore_index=unpainted, reduction="sum"
    )
    return total / (labels != unpainted).sum().clamp(min=1)


def dice_loss(scores: Tensor, target: Tensor, unpainted: int) -> Tensor:
    """Return 1 minus the Dice coefficient [1]_, averaged over the labels in `target`.

    Unlabelled voxels (value `unpainted`) are ignored; if no voxel has a label, the
    result is 0.

    Parameters
    ----------
    scores : Tensor of shape (N, n, [Z,] Y, X)
    target : Tensor of shape (N, 1, [Z,] Y, X)
    """
    labels = target[:, 0].long()
    is_painted = labels != unpainted
    chance = scores.float().softmax(dim=1).movedim(1, -1)[is_painted]
    truth = functional.one_hot(labels[is_painted], scores.shape[1]).to(chance.dtype)
    is_present = truth.sum(0) > 0
    overlap = 2 * (chance * truth).sum(0) / (chance + truth).sum(0).clamp(min=1e-6)
    missed = (1 - overlap) * is_present
    return missed.sum() / is_present.sum().clamp(min=1)


def mean_dice(predicted: Tensor, target: Tensor, labels: int) -> float:
    """Return the mean Dice coefficient [1]_ ``2 |A ∩ B| / (|A| + |B|)`` of the labels.

    Labels that occur in neither image are ignored.

    Parameters
    ----------
    predicted, target : Tensor
        Label images of the same shape, with labels 0 … labels − 1 of any dtype.
    labels : int
        Number of labels.
    """
    pairs = target.flatten().long() * labels + predicted.flatten().long()
    counts = torch.bincount(pairs, minlength=labels**2).view(labels, labels).double()
    either = counts.sum(0) + counts.sum(1)
    is_present = either > 0
    return float((2 * counts.diagonal()[is_present] / either[is_present]).mean())
