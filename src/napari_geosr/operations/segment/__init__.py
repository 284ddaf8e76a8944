"""Segment a scan by what was painted on some of its slices.

Settings load without numba and torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.learning.painting.segmenter import (
        SegmentedSlice,
        Segmenter,
        Suggestion,
    )
    from napari_geosr.operations.segment.config import SegmentConfig
    from napari_geosr.operations.segment.live import (
        StrokeAnswer,
        answer_steps,
        segmented_layer_steps,
        suggest_steps,
    )
    from napari_geosr.operations.segment.run import (
        Segmentation,
        open_segmenter,
        segment_steps,
    )

__all__ = [
    "SegmentConfig",
    "Segmentation",
    "SegmentedSlice",
    "Segmenter",
    "StrokeAnswer",
    "Suggestion",
    "answer_steps",
    "open_segmenter",
    "segment_steps",
    "segmented_layer_steps",
    "suggest_steps",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["SegmentConfig"],
        "live": [
            "StrokeAnswer",
            "answer_steps",
            "segmented_layer_steps",
            "suggest_steps",
        ],
        "run": [
            "Segmentation",
            "SegmentedSlice",
            "Segmenter",
            "open_segmenter",
            "segment_steps",
        ],
    },
)
