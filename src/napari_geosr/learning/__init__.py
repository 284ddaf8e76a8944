"""Train networks: methods, losses and the training loop.

A method defines how a batch is drawn and how its loss is computed. Samples depend only
on (seed, step, index), so that a resumed run gives the same result as an uninterrupted
one. `accelerate` handles devices, precision and several processes.

Modules that import torch or scipy are loaded on first use, so that methods can be
listed and configured without these libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning import (
        critics,
        frame_fit,
        image_pool,
        recorruption,
        sinogram_fit,
    )

__all__ = ["critics", "frame_fit", "image_pool", "recorruption", "sinogram_fit"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules=__all__)
