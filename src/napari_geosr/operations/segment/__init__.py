"""Segment a scan from strokes painted on some of its slices.

Importing the settings does not load numba or torch.
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
    from napari_geosr.learning.painting.strokes import TooFewClassesError
    from napari_geosr.operations.segment.compare import (
        PretrainingComparison,
        compare_steps,
    )
    from napari_geosr.operations.segment.config import SegmentConfig
    from napari_geosr.operations.segment.live import (
        StrokeAnswer,
        answer_steps,
        name_of_result,
        painted_classes,
        segmented_layer_steps,
        suggest_steps,
        warm_up,
    )
    from napari_geosr.operations.segment.run import (
        Segmentation,
        open_segmenter,
        segment_steps,
    )

__all__ = [
    "PretrainingComparison",
    "SegmentConfig",
    "Segmentation",
    "SegmentedSlice",
    "Segmenter",
    "StrokeAnswer",
    "Suggestion",
    "TooFewClassesError",
    "answer_steps",
    "compare_steps",
    "name_of_result",
    "open_segmenter",
    "painted_classes",
    "segment_steps",
    "segmented_layer_steps",
    "suggest_steps",
    "warm_up",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "compare": ["PretrainingComparison", "compare_steps"],
        "config": ["SegmentConfig"],
        "live": [
            "StrokeAnswer",
            "answer_steps",
            "name_of_result",
            "painted_classes",
            "segmented_layer_steps",
            "suggest_steps",
            "Suggestion",
            "TooFewClassesError",
            "warm_up",
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
