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


def cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Mean over all voxels of ``-log softmax(scores)`` at the correct label.

    Parameters
    ----------
    scores : Tensor of shape (N, n, [Z,] Y, X)
    target : Tensor of shape (N, 1, [Z,] Y, X)
        Labels 0 … n - 1, of any dtype.
    """
    return functional.cross_entropy(scores.float(), target[:, 0].long())


def mean_dice(predicted: Tensor, target: Tensor, labels: int) -> float:
    """Dice coefficient [1]_ ``2 |A ∩ B| / (|A| + |B|)``, averaged over the labels.

    Labels that occur in neither image are ignored.

    Parameters
    ----------
    predicted, target : Tensor
        Label images of the same shape, with labels 0 … labels - 1 of any dtype.
    labels : int
        Number of labels.
    """
    pairs = target.flatten().long() * labels + predicted.flatten().long()
    counts = torch.bincount(pairs, minlength=labels**2).view(labels, labels).double()
    either = counts.sum(0) + counts.sum(1)
    is_present = either > 0
    return float((2 * counts.diagonal()[is_present] / either[is_present]).mean())
