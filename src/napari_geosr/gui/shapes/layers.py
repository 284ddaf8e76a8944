"""Layers of the Shapes dock: inputs, results and their surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core import layer_data
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import same_position, same_sizes
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import (
    add_labels_result,
    alignment_with,
    layer_metadata,
    part_of_file,
)
from napari_geosr.gui.layers.geometry import geometry_of_layer, is_turned
from napari_geosr.gui.layers.position import Floats, indices_at
from napari_geosr.jobs.handover import LayerVolume
from napari_geosr.jobs.stopped.shape import StoppedShape
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Surface
    from napari.utils.colormaps import DirectLabelColormap

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.shapes import SegmentedLayer, ShapeLayer, SurfaceMesh

#: Colours of the surfaces of a result and of a completed part.
_RESULT, _PART = "gray", "bop orange"
#: Colour of the labels of a completed part, similar to that of its surface.
_PART_COLOUR = "orange"
#: Opacity of the result's labels.
_OPACITY = 0.6


def transform_warning(layer: Layer) -> str:
    """Return a warning if a layer to be completed is not upright; else ""."""
    if not is_turned(layer):
        return ""
    return (
        f"{layer.name!r} is rotated, sheared or mirrored in napari. This is not taken "
        "into account when the missing part is predicted, so the part may be wrong. "
        "Reset the transform of the layer, or resample the shape."
    )


def check_mesh_place(labels: Layer | None, surface: Layer | None, made: Volume) -> None:
    """Raise `VolumeError` if layers of a result are not at the position of its mesh.

    Parameters
    ----------
    labels, surface : Layer or None
        Layers of the result; None if they were removed.
    made : Volume
        Voxels of the result.
    """
    is_moved = any(
        layer is not None and is_turned(layer) for layer in (labels, surface)
    )
    if labels is not None:
        place = geometry_of_layer(labels)
        is_moved |= place.unit != made.unit
        is_moved |= not same_sizes(place.voxel_size, made.voxel_size)
        is_moved |= not same_position(place.origin, made.origin, made.voxel_size)
    if is_moved:
        raise VolumeError(
            "The layers of the result were rotated, sheared, mirrored or moved in "
            "napari, or their voxel size was changed, so the mesh would not coincide "
            "with them. No file was written. Reset the transform of the shape's layer, "
            "and run again."
        )


def as_job(
    viewer: napari.viewer.Viewer,
    layer: Layer | None,
    config: RefineShapeConfig | CompleteShapeConfig | SegmentInsideConfig,
    scan: Layer | None = None,
) -> StoppedShape:
    """Return a run as a job for another process.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : Layer or None
        The shape or, for a segmentation, the mask, if there is one.
    config : RefineShapeConfig, CompleteShapeConfig or SegmentInsideConfig
    scan : Layer, optional
        Scan of a segmentation.
    """
    shape = None if layer is None else _layer_volume(layer, viewer)
    if scan is not None:
        data = _layer_volume(scan, viewer)
        # The form uses its own class of settings, so convert them.
        settings = SegmentInsideConfig.create(**config.model_dump())
        return StoppedShape("segment", data, settings, shape)
    assert shape is not None
    task = "refine" if isinstance(config, RefineShapeConfig) else "complete"
    return StoppedShape(task, shape, config)


def _layer_volume(layer: Layer, viewer: napari.viewer.Viewer) -> LayerVolume:
    volume, position = part_of_file(layer, viewer)
    return LayerVolume(volume.replace(name=layer.name), position)


def centre_of_view(viewer: ViewerModel, layer: Layer) -> Floats:
    """Return the voxel of a layer (Z, Y, X) at the centre of the view."""
    point = list(viewer.dims.point)
    displayed = list(viewer.dims.displayed)
    middle = viewer.scene.camera.center[-len(displayed) :]
    for axis, place in zip(displayed, middle, strict=True):
        point[axis] = place
    return indices_at(viewer, layer, point)[-3:]


def add_shape(
    viewer: napari.viewer.Viewer, made: ShapeLayer, source: Layer
) -> tuple[Labels, Surface]:
    """Add the labels of a result, and its surface, at the position of the source.

    If a part was completed, only the surface of this part is added.
    """
    shown = made.part if made.part is not None else made.volume
    labels = add_labels(viewer, made.volume, source, opacity=_OPACITY)
    if made.part is not None:
        labels = add_labels(viewer, made.part, source, colormap=_part_colormap())
    surface = add_surface(
        viewer,
        made.surface,
        name=f"{shown.name} surface",
        colormap=_PART if made.part is not None else _RESULT,
        metadata=layer_metadata(shown),
        **alignment_with(source),
    )
    viewer.layers.selection.active = labels
    return labels, surface


def _part_colormap() -> DirectLabelColormap:
    """Return a colormap for a completed part; the given shape has other colours."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={0: "transparent", None: _PART_COLOUR})


def add_segmentation(
    viewer: napari.viewer.Viewer, made: SegmentedLayer, scan: Layer
) -> Labels:
    """Add the labels of a segmented scan at its position."""
    labels = add_labels(viewer, made.volume, scan, opacity=_OPACITY)
    viewer.layers.selection.active = labels
    return labels


def add_labels(
    viewer: napari.viewer.Viewer, volume: Volume, source: Layer, **options: object
) -> Labels:
    """Add the labels of a volume that was computed from a layer, aligned with it."""
    given: AnyDict = {"name": volume.name, **alignment_with(source), **options}
    return add_labels_result(viewer, volume.data, volume, **given)


def add_surface(
    viewer: napari.viewer.Viewer, mesh: SurfaceMesh, **options: object
) -> Surface:
    """Add a mesh as a layer at its own position."""
    n = len(mesh.vertices)
    place = layer_data.geometry("ZYX", (1.0,) * 3, mesh.unit, (0.0,) * 3)
    made: AnyDict = {**place, "shading": "smooth", **options}
    data = (mesh.vertices, mesh.faces, np.ones(n, np.float32))
    layer: Surface = unwrapped(
        viewer.add_surface(data, contrast_limits=(0.0, 1.0), **made)
    )
    return layer
