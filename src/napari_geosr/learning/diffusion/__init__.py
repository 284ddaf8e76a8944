"""Provide the noise schedule of diffusion models, and draw samples with it.

All modules import torch, so they are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning.diffusion import (
        conditional,
        in_windows,
        posterior,
        sampling,
        schedule,
    )

__all__ = ["conditional", "in_windows", "posterior", "sampling", "schedule"]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules=__all__)
