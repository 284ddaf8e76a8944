"""A loss that counts necks and thin pores more: the least error alone cuts them.

Where it is not certain whether two pores are joined, the mean of what is possible is
grey, and a threshold cuts the neck: pores are counted twice and connectivity is lost.
Counting errors in thin parts ``1 + w`` times keeps a neck that has a probability above
``1 / (2 + w)`` instead of one half.

References
----------
.. [1] Soille. Morphological image analysis, 2nd ed., section 4.5 (top-hats). Springer
   (2004). doi:10.1007/978-3-662-05088-0
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.learning.losses.pixel import HUBER_DELTA

#: Parts thinner than this many voxels along some direction of the axes are thin.
WIDTH = 5
#: Grey values that span less, in standard deviations, show one phase alone.
_LEAST_CONTRAST = 0.5


def thin_parts(target: Tensor, width: int = WIDTH) -> Tensor:
    """How far each voxel belongs to a thin part of the rarer phase, 0 to 1.

    The top-hat [1]_ of the target by a square (cube) of edge `width`, as a share of the
    target's contrast: of its dark parts if the darkest grey value is farther from the
    mean of the data, 0, than the brightest, otherwise of its bright ones.

    Parameters
    ----------
    target : Tensor of shape (N, 1, [Z,] Y, X)
        In standard deviations of the training data, with their mean at 0.
    width : int
        Odd.

    Returns
    -------
    Tensor of the target's shape
    """
    axes = tuple(range(1, target.ndim))
    high, low = target.amax(axes, keepdim=True), target.amin(axes, keepdim=True)
    # Dark parts of the negative are the bright ones.
    sign = torch.where(high + low > 0, -1.0, 1.0).to(target)
    rarer = target * sign
    top_hat = _closed(rarer, width) - rarer
    contrast = high - low
    share = top_hat / contrast.clamp_min(_LEAST_CONTRAST)
    return torch.where(contrast > _LEAST_CONTRAST, share, 0.0)


def thin_error(output: Tensor, target: Tensor) -> Tensor:
    """Huber's loss in the thin parts; the mean over all voxels."""
    error = functional.huber_loss(output, target, delta=HUBER_DELTA, reduction="none")
    return (error * thin_parts(target)).mean()


def _closed(image: Tensor, width: int) -> Tensor:
    """Grey closing by a square or cube; the border is no edge of anything."""
    pool = functional.max_pool3d if image.ndim == 5 else functional.max_pool2d
    dilated = pool(image, width, stride=1, padding=width // 2)
    return -pool(-dilated, width, stride=1, padding=width // 2)
