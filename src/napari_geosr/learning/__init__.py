"""Learning: methods, losses and the training loop.

A method says how a batch is drawn and how it becomes a loss; a sample is a function of
(seed, step, index) alone, so that a run that was killed goes on as if it never was.
Devices, precision and several processes are `accelerate`'s business.

Files that import torch or scipy as a whole are loaded on first use, so that methods can
be listed and configured without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning import critics, image_pool, recorruption, sinogram_fit

__all__ = ["critics", "image_pool", "recorruption", "sinogram_fit"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules=__all__)
