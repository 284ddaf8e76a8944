"""Agreement of two shapes, and closed surfaces of shapes."""

from __future__ import annotations

from napari_geosr.measure.shapes.figures import ShapeFigures, describe_shape_steps
from napari_geosr.measure.shapes.match import SurfaceMatch, match_surface
from napari_geosr.measure.shapes.quality import (
    ShapeAgreement,
    compare_shapes,
    dice,
)
from napari_geosr.measure.shapes.surface import (
    SurfaceCheck,
    SurfaceMesh,
    check_surface,
    extract_surface,
    merged_surface,
)

__all__ = [
    "ShapeAgreement",
    "ShapeFigures",
    "SurfaceCheck",
    "SurfaceMatch",
    "SurfaceMesh",
    "check_surface",
    "compare_shapes",
    "describe_shape_steps",
    "dice",
    "extract_surface",
    "match_surface",
    "merged_surface",
]
