"""A pool of previously generated images, which critics receive again."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Pool that, once full, replaces half of the new images with earlier ones [1]_.

    The pool uses torch's random numbers, which the training loop seeds at every step.
    If a resumed run loads the stored `state`, it gives the same images.

    Parameters
    ----------
    size : int
        Number of stored images; with 0, new images are returned unchanged.

    References
    ----------
    .. [1] Shrivastava et al. Learning from simulated and unsupervised images through
       adversarial training. CVPR (2017). doi:10.1109/CVPR.2017.241
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []

    def copy(self) -> ImagePool:
        """Copy the pool; the images themselves are shared."""
        other = ImagePool(self.size)
        other.images = list(self.images)
        return other

    def exchange(self, images: Tensor) -> Tensor:
        """Add N images ``(N, …)``, and return N new or earlier images."""
        if not self.size:
            return images
        returned = []
        for image in images.detach():
            if len(self.images) < self.size:
                self.images.append(image.clone())
                returned.append(image)
            elif float(torch.rand(())) < 0.5:
                i = int(torch.randint(self.size, ()))
                returned.append(self.images[i].to(image.device))
                self.images[i] = image.clone()
            else:
                returned.append(image)
        return torch.stack(returned)

    def state(self) -> Tensor | None:
        """Return the stored images as one tensor; None if there are none."""
        if not self.images:
            return None
        # After resuming, loaded images are on the CPU and new ones on the device.
        return torch.stack([image.cpu() for image in self.images])

    def restore(self, state: Tensor | None) -> None:
        """Load the images returned by `state`."""
        self.images = [] if state is None else list(state.unbind())
