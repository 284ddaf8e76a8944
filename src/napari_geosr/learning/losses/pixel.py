"""Voxel-wise and window-wise losses between an output and its target.

Tensors are (N, 1, [Z,] Y, X) in standard deviations of the training data; a loss is the
mean over the batch, so that a batch processed in parts gives the same gradient.

References
----------
.. [1] Wang et al. Image quality assessment: from error visibility to structural
   similarity. IEEE TIP 13, 600-612 (2004). doi:10.1109/TIP.2003.819861
.. [2] Zhao et al. Loss functions for image restoration with neural networks. IEEE TCI
   3, 47-57 (2017). doi:10.1109/TCI.2016.2644865
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Errors above this many standard deviations count linearly in the Huber loss.
HUBER_DELTA = 0.5
#: Weight of the structural similarity when mixed with the absolute error, as in [2]_.
SSIM_SHARE = 0.84
#: Value subtracted for SSIM: nearly all standardised grey values are higher.
_MIN_VALUE = -2.0
#: Range of nearly all standardised grey values, for SSIM.
_VALUE_RANGE = 4.0
#: Radius of the SSIM window in voxels.
_RADIUS = 5


def l2(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error, on which PSNR is based.

    The mean of all possible targets minimises it.
    """
    return (output - target).square().mean()


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error.

    The median of all possible targets minimises it, so edges are sharper than for l2.
    """
    return (output - target).abs().mean()


def huber(output: Tensor, target: Tensor) -> Tensor:
    """Return the Huber loss: squared for small errors, linear for large ones."""
    return functional.huber_loss(output, target, delta=HUBER_DELTA)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Return a mixture [2]_ of structural dissimilarity and mean absolute error."""
    shifted = (image - _MIN_VALUE for image in (output, target))
    similarity = structural_similarity(*shifted, data_range=_VALUE_RANGE)
    return SSIM_SHARE * (1 - similarity) + (1 - SSIM_SHARE) * l1(output, target)


def gradient_difference(output: Tensor, target: Tensor) -> Tensor:
    """Return the sum over the axes of ``mean |∂ output - ∂ target|``."""
    error = output - target
    # The difference of two gradients is the gradient of the difference.
    parts = [error.diff(dim=d).abs().mean() for d in range(2, error.ndim)]
    return torch.stack(parts).sum()


def structural_similarity(
    output: Tensor, target: Tensor, *, data_range: float, sigma: float = 1.5
) -> Tensor:
    """Return the mean structural similarity [1]_ with a Gaussian window.

    Windows that extend beyond the border are left out.

    Parameters
    ----------
    output, target : Tensor of shape (N, 1, [Z,] Y, X)
    data_range : float
        Largest minus smallest possible grey value.
    sigma : float
        Standard deviation of the window in voxels. The window is 11 voxels wide, but
        not wider than the image.
    """
    radius = min(_RADIUS, (min(output.shape[2:]) - 1) // 2)
    positions = torch.arange(-radius, radius + 1, dtype=torch.float64)
    line = torch.exp(-0.5 * (positions / sigma).square())
    dtype = torch.promote_types(output.dtype, torch.float32)
    # Convert the window to `dtype` before copying it to the device: some devices do not
    # support float64.
    line = (line / line.sum()).to(dtype).to(output.device)
    # Computing variances as differences of squares requires full precision.
    with torch.autocast(output.device.type, enabled=False):
        x, y = output.to(dtype), target.to(dtype)
        moments = torch.cat([x, y, x * x, y * y, x * y], dim=1)
        mean_x, mean_y, xx, yy, xy = _window_means(moments, line).unbind(1)
        var_x, var_y = xx - mean_x.square(), yy - mean_y.square()
        covariance = xy - mean_x * mean_y
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        luminance = (2 * mean_x * mean_y + c1) / (
            mean_x.square() + mean_y.square() + c1
        )
        structure = (2 * covariance + c2) / (var_x + var_y + c2)
        return (luminance * structure).mean()


def _window_means(x: Tensor, line: Tensor) -> Tensor:
    """Return weighted means along each axis, over complete windows only."""
    n_axes = x.ndim - 2
    convolve = functional.conv3d if n_axes == 3 else functional.conv2d
    channels = x.shape[1]
    for axis in range(n_axes):
        shape = [1, 1] + [1] * n_axes
        shape[2 + axis] = -1
        kernel = line.view(shape).repeat(channels, 1, *[1] * n_axes)
        x = convolve(x, kernel, groups=channels)
    return x
