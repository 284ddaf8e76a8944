"""Learn classes of voxels from a few strokes, in a fraction of a second.

The modules load numba or torch, so they are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning.painting import prior
    from napari_geosr.learning.painting.classifier import Forest, entropy, grow_forest
    from napari_geosr.learning.painting.features import banded_features, filter_features
    from napari_geosr.learning.painting.held_out import HeldOutOverlap, held_out_steps
    from napari_geosr.learning.painting.segmenter import SegmentedSlice, Segmenter
    from napari_geosr.learning.painting.strokes import Strokes, read_strokes

__all__ = [
    "Forest",
    "HeldOutOverlap",
    "SegmentedSlice",
    "Segmenter",
    "Strokes",
    "banded_features",
    "entropy",
    "filter_features",
    "grow_forest",
    "held_out_steps",
    "prior",
    "read_strokes",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submodules=["prior"],
    submod_attrs={
        "classifier": ["Forest", "entropy", "grow_forest"],
        "features": ["banded_features", "filter_features"],
        "held_out": ["HeldOutOverlap", "held_out_steps"],
        "segmenter": ["SegmentedSlice", "Segmenter"],
        "strokes": ["Strokes", "read_strokes"],
    },
)
