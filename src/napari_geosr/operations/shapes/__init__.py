"""Complete, refine, segment and compare shapes, and convert them to and from meshes.

The generators load torch or scipy on first use; the configs do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from napari_geosr.operations.shapes.config import (
    CompareShapesConfig,
    CompleteShapeConfig,
    MeshConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
    SimulateShapesConfig,
    VoxeliseConfig,
)
from napari_geosr.operations.shapes.job import (
    ShapeTrainJob,
    shape_config_class,
    shape_needs,
    shape_purposes,
)

if TYPE_CHECKING:
    from napari_geosr.measure.shapes import SurfaceMesh
    from napari_geosr.operations.shapes.agreement import compare_shape_steps
    from napari_geosr.operations.shapes.complete import (
        ShapeCompletion,
        complete_shape_steps,
    )
    from napari_geosr.operations.shapes.inside import (
        MaskSegmentation,
        SegmentedLayer,
        segment_inside_steps,
        segmented_layer_steps,
    )
    from napari_geosr.operations.shapes.layers import (
        ShapeLayer,
        ShapePreview,
        completed_layer_steps,
        contents_of,
        part_surface_steps,
        preview_steps,
        refined_layer_steps,
        surface_file_steps,
    )
    from napari_geosr.operations.shapes.meshing import MeshResult, mesh_steps
    from napari_geosr.operations.shapes.models import COMPLETING, shape_models
    from napari_geosr.operations.shapes.refine import (
        ShapeRefinement,
        refine_shape_steps,
    )
    from napari_geosr.operations.shapes.simulation import simulate_shape_steps
    from napari_geosr.operations.shapes.training import train_shape_steps
    from napari_geosr.operations.shapes.voxelising import VoxelisedMesh, voxelise_steps

__all__ = [
    "COMPLETING",
    "CompareShapesConfig",
    "CompleteShapeConfig",
    "MaskSegmentation",
    "MeshConfig",
    "MeshResult",
    "RefineShapeConfig",
    "SegmentInsideConfig",
    "SegmentedLayer",
    "ShapeCompletion",
    "ShapeLayer",
    "ShapePreview",
    "ShapeRefinement",
    "ShapeTrainJob",
    "SimulateShapesConfig",
    "SurfaceMesh",
    "VoxeliseConfig",
    "VoxelisedMesh",
    "compare_shape_steps",
    "complete_shape_steps",
    "completed_layer_steps",
    "contents_of",
    "mesh_steps",
    "part_surface_steps",
    "preview_steps",
    "refine_shape_steps",
    "refined_layer_steps",
    "segment_inside_steps",
    "segmented_layer_steps",
    "shape_config_class",
    "shape_models",
    "shape_needs",
    "shape_purposes",
    "simulate_shape_steps",
    "surface_file_steps",
    "train_shape_steps",
    "voxelise_steps",
]

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "agreement": ["compare_shape_steps"],
        "complete": ["ShapeCompletion", "complete_shape_steps"],
        "inside": [
            "MaskSegmentation",
            "SegmentedLayer",
            "segment_inside_steps",
            "segmented_layer_steps",
        ],
        "layers": [
            "ShapeLayer",
            "SurfaceMesh",
            "completed_layer_steps",
            "contents_of",
            "part_surface_steps",
            "preview_steps",
            "refined_layer_steps",
            "surface_file_steps",
        ],
        "models": ["COMPLETING", "shape_models"],
        "meshing": ["MeshResult", "mesh_steps"],
        "refine": ["ShapeRefinement", "refine_shape_steps"],
        "simulation": ["simulate_shape_steps"],
        "training": ["train_shape_steps"],
        "voxelising": ["VoxelisedMesh", "voxelise_steps"],
    },
)
