"""Layers of the Segment dock: strokes, prediction, uncertainty and result."""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    add_labels_result,
    alignment_with,
    chosen_position,
    geometry,
    helper_metadata,
    layer_metadata,
    replace_data,
)
from napari_geosr.gui.layers.contents import CHECKSUM, checksum_of, is_untouched
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.position import plane_on_screen

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

#: Suffixes of the names of the layers.
_STROKES, _PREDICTION, _EXTRA = "labels", "prediction", "certainty"
#: Metadata key of the scan whose classes a layer shows (`SegmentTarget.origin`).
_ORIGIN = "segmented_origin"
#: Opacity of the prediction, low enough to see the scan below.
_OPACITY = 0.4
#: Opacity of the labels of the segmented scan.
_RESULT_OPACITY = 0.6


def warm_up() -> None:
    """Compile napari's label colouring in a worker, to keep the window responsive."""
    from napari.layers import Labels

    Labels(np.eye(4, dtype=np.uint8)[None].repeat(2, 0))


def add_strokes(viewer: ViewerModel, scan: Image, volume: Volume) -> Labels:
    """Add an empty Labels layer over a scan, and activate the brush."""
    layer: Labels = unwrapped(
        viewer.add_labels(
            np.zeros(volume.shape, np.uint8),
            name=f"{scan.name} {_STROKES}",
            **geometry(volume),
            **alignment_with(scan),
        )
    )
    viewer.layers.selection.active = layer
    layer.brush_size = max(3, min(volume.shape[-2:]) // 100)
    layer.mode = "paint"
    return layer


class SliceLayers:
    """Shows the prediction of one slice, below the strokes.

    The layers have the thickness of the slice, so that an outdated prediction is never
    shown in another slice.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._prediction: weakref.ref[Labels] | None = None
        self._extra: weakref.ref[Image] | None = None

    @property
    def prediction(self) -> Labels | None:
        """Layer of the predicted classes, if it is in the viewer."""
        return _alive(self._viewer, self._prediction)

    @property
    def extra(self) -> Image | None:
        """Layer of the uncertainty or of a probability, if it is in the viewer."""
        return _alive(self._viewer, self._extra)

    def show_labels(
        self, labels: AnyArray, z: int, scan: Volume, like: Image, strokes: Layer
    ) -> None:
        """Show the predicted classes of a slice."""
        volume = _slice_of(scan, labels, z)
        layer = self.prediction
        if layer is not None:
            replace_data(self._viewer, layer, volume, like)
            return
        options: AnyDict = {
            "name": f"{like.name} {_PREDICTION}",
            "opacity": _OPACITY,
            "metadata": helper_metadata("prediction"),
        }
        active = self._viewer.layers.selection.active
        made = add_labels_result(
            self._viewer, volume.data, volume, **options, **alignment_with(like)
        )
        self._prediction = weakref.ref(made)
        _put_below(self._viewer, made, strokes, active)

    def show_values(
        self, values: AnyArray, z: int, scan: Volume, like: Image, strokes: Layer
    ) -> None:
        """Show the uncertainty or a probability of a slice, from 0 to 1."""
        volume = _slice_of(scan, values, z)
        layer = self.extra
        if layer is not None:
            replace_data(self._viewer, layer, volume, like)
            return
        active = self._viewer.layers.selection.active
        made = add_image_result(
            self._viewer,
            volume,
            like,
            name=f"{like.name} {_EXTRA}",
            colormap="inferno",
            contrast_limits=(0.0, 1.0),
            gamma=1.0,
            blending="additive",
            metadata=helper_metadata("certainty"),
        )
        self._extra = weakref.ref(made)
        _put_below(self._viewer, made, strokes, active)

    def hide_values(self) -> None:
        """Remove the uncertainty or probability."""
        if self.extra is not None:
            self._remove(self.extra)
        self._extra = None

    def clear(self) -> None:
        """Remove both layers."""
        self.hide_values()
        if self.prediction is not None:
            self._remove(self.prediction)
        self._prediction = None

    def _remove(self, layer: Layer) -> None:
        active = self._viewer.layers.selection.active
        self._viewer.layers.remove(layer)
        if active is not layer and active in self._viewer.layers:
            self._viewer.layers.selection.active = active


def slice_on_screen(viewer: ViewerModel, layer: Labels) -> int | None:
    """Return the index of a layer's current slice; None if the view shows no slice."""
    dims = viewer.dims
    if tuple(dims.displayed) != (dims.ndim - 2, dims.ndim - 1):
        return None
    if layer.ndim < 3:
        return 0
    axis = layer.ndim - 3
    return plane_on_screen(viewer, layer, axis, layer.data.shape[axis])


@dataclass(frozen=True)
class SegmentTarget:
    """Where to show the classes of a scan.

    Attributes
    ----------
    origin : dict
        Identifies the scan: its layer, and the time point and channel segmented.
    earlier : tuple of weakref
        Layers with earlier results for this scan, latest first. Layers renamed by the
        user are excluded.
    """

    origin: AnyDict
    earlier: tuple[weakref.ref[Labels], ...]

    @classmethod
    def of(cls, scan: Layer, name: str, viewer: ViewerModel) -> SegmentTarget:
        """Return the target for the part of `scan` that is on screen.

        Parameters
        ----------
        name : str
            Name of the result.
        """
        origin = {"layer": str(scan.unique_id), **chosen_position(scan, viewer)}
        ours = re.compile(re.escape(name) + r"( \[\d+\])?")
        return cls(
            origin,
            tuple(
                weakref.ref(layer)
                for layer in reversed(viewer.layers)
                if layer_type(layer) == "labels"  # napari converts labels to images
                and layer.metadata.get(METADATA, {}).get(_ORIGIN) == origin
                and ours.fullmatch(layer.name)
            ),
        )


@dataclass(frozen=True)
class SegmentedScan:
    """The classes of a whole scan, and the layer that may show them.

    Attributes
    ----------
    volume : Volume
    fractions : mapping of int to float
        Fraction of the segmented voxels in each class.
    origin : dict
        As in `SegmentTarget`.
    checksum : int
        Checksum of the classes.
    into : weakref or None
        Layer with an earlier result that nobody has edited since.
    kept : tuple of str
        Names of the layers with earlier results that were edited.
    """

    volume: Volume
    fractions: Mapping[int, float]
    origin: AnyDict
    checksum: int
    into: weakref.ref[Labels] | None
    kept: tuple[str, ...]

    @classmethod
    def of(
        cls,
        made: tuple[Volume, Mapping[int, float]],
        target: SegmentTarget,
        should_stop: ShouldStop,
    ) -> SegmentedScan:
        """Find the layer to reuse, in a worker: all of its voxels are read."""
        volume, fractions = made
        checksum = checksum_of(volume.data, should_stop)
        into, kept = None, []
        for reference in target.earlier:
            layer = reference()
            if layer is None:
                continue
            if is_untouched(layer, should_stop):
                into = reference
                break
            kept.append(layer.name)
        return cls(volume, fractions, target.origin, checksum, into, tuple(kept))

    @property
    def note(self) -> str:
        """Which layers were kept because they were edited; empty if there are none."""
        if not self.kept:
            return ""
        return (
            f"Labels changed by hand are kept ({', '.join(self.kept)}); the new result "
            "is in a separate layer."
        )


def show_result(
    viewer: ViewerModel,
    made: SegmentedScan,
    like: Image | None,
    strokes: Layer | None,
) -> Labels:
    """Show the segmented scan below the strokes, if possible in an earlier layer."""
    volume = made.volume
    metadata = layer_metadata(volume)
    metadata[METADATA] |= {_ORIGIN: made.origin, CHECKSUM: made.checksum}
    earlier = _alive(viewer, made.into)
    if earlier is not None and earlier.data.shape == volume.shape:
        replace_data(viewer, earlier, volume, like)
        earlier.metadata = metadata
        return earlier
    active = viewer.layers.selection.active
    options = {} if like is None else alignment_with(like)
    added = add_labels_result(
        viewer,
        volume.data,
        volume,
        name=volume.name,
        opacity=_RESULT_OPACITY,
        metadata=metadata,
        **options,
    )
    _put_below(viewer, added, strokes, active)
    return added


def _put_below(
    viewer: ViewerModel, layer: Layer, strokes: Layer | None, active: Layer | None
) -> None:
    """Move a new layer below the strokes, and make `active` the active layer again."""
    layers = viewer.layers
    if strokes is not None and strokes in layers:
        layers.move(layers.index(layer), layers.index(strokes))
    if active is not None and active in layers:
        layers.selection.active = active


def _slice_of(scan: Volume, values: AnyArray, z: int) -> Volume:
    if scan.axes == "YX":
        return scan.replace(data=values, metadata={}, source=None)
    first = scan.origin[0] + z * scan.voxel_size[0]
    return scan.replace(
        data=values[None],
        origin=(first, *scan.origin[1:]),
        metadata={},
        source=None,
    )


def _alive(viewer: ViewerModel, reference: weakref.ref[Layer] | None) -> Layer | None:
    layer = None if reference is None else reference()
    return layer if layer is not None and layer in viewer.layers else None


def add_class_as_pores(
    viewer: ViewerModel, result: Labels, volume: Volume, number: int
) -> Image:
    """Add an image in which one class is dark, like pores, and all others bright."""
    values = np.where(np.asarray(result.data) == number, 0, 255).astype(np.uint8)
    shown = volume.replace(data=values, metadata={})
    return add_image_result(
        viewer,
        shown,
        None,
        name=f"{result.name} class {number}",
        contrast_limits=(0, 255),
        visible=False,
        **alignment_with(result),
    )
