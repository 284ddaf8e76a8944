"""Losses, one family per file; ``terms`` contains the user-selectable ones.

The files of ``terms`` and `choice` do not import torch, because ``--help`` imports
them. The families import torch, and are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning.losses import (
        adversarial,
        boxes,
        euler,
        labels,
        morphology,
        perceptual,
        pixel,
    )

__all__ = [
    "adversarial",
    "boxes",
    "euler",
    "labels",
    "morphology",
    "perceptual",
    "pixel",
]
__getattr__, __dir__, _ = lazy_loader.attach(__name__, submodules=__all__)
