"""Convert between napari layers and volumes without copying voxels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core import layer_data, provenance
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.file_warnings import IS_COLOUR
from napari_geosr.core.layer_data import METADATA as METADATA
from napari_geosr.core.machine.file_state import OPENED
from napari_geosr.core.orientation import same_orientation
from napari_geosr.core.reading import READING
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers.camera import preserve_point
from napari_geosr.gui.layers.geometry import (
    check_same_rotation,
    geometry_of_layer,
    layer_type,
    origin_along,
)
from napari_geosr.gui.layers.geometry import finest as finest
from napari_geosr.gui.layers.position import plane_on_screen
from napari_geosr.gui.layers.private_napari import describe_in_status_bar
from napari_geosr.gui.layers.questions.noise import noise_metadata
from napari_geosr.gui.layers.questions.record import open_notes, open_questions
from napari_geosr.jobs.data import UneditedCheck
from napari_geosr.operations.measure.deviation import is_deviation

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

#: Keys of the plugin's entry in ``layer.metadata`` that name the layer from which this
#: layer was made.
_MADE_HERE = frozenset({"source_layer", "residual_of"})


def volume_from_layer(
    layer: Layer,
    viewer: ViewerModel | None = None,
    position: Mapping[str, int] | None = None,
    *,
    whole: bool = False,
) -> Volume:
    """Return the layer's data as a `Volume` with the layer's position in space.

    From a series, the time point and channel at `position` are taken (by default those
    on screen in `viewer`), or all of them if `whole` is set. Rotation and shear, which
    voxel size and origin cannot express, are dropped; see `alignment_with`, and
    `volume_beside` for a layer that is combined with another one.

    Parameters
    ----------
    layer : Layer
    viewer : ViewerModel, optional
        Determines which time point and channel are on screen.
    position : mapping of str to int, optional
        Time point and channel to take instead.
    whole : bool
        Whether all time points and channels are taken.

    Raises
    ------
    VolumeError
        If the layer is RGB or its axes cannot be interpreted.
    """
    if getattr(layer, "rgb", False):
        raise VolumeError(
            f"Layer {layer.name!r} is RGB; a greyscale volume is needed. Use 'Split "
            "RGB' in its context menu and choose one channel."
        )
    place = geometry_of_layer(layer)
    record = layer.metadata.get(METADATA, {})
    volume = Volume(
        finest(layer),
        place.axes,
        place.voxel_size,
        place.unit,
        place.origin,
        name=layer.name,
        provenance=tuple(record.get("provenance", ())),
        source=_source_file(layer, record),
        metadata=_reading(record)
        | _unedited_check(layer, record)
        | same_orientation(record)
        | open_questions(layer, place, layer.metadata.get(METADATA))
        | noise_metadata(layer),
    )
    if whole or place.axes in ("YX", "ZYX"):
        return volume
    if position is None:
        position = {} if viewer is None else chosen_position(layer, viewer)
    return volume.select(**position)


def volume_beside(
    layer: Layer,
    other: Layer,
    viewer: ViewerModel,
    fields: Sequence[str] = (),
) -> Volume:
    """Return the volume of a layer that is combined with the volume of another one.

    Parameters
    ----------
    layer : Layer
    other : Layer
        The layer that is not rotated relative to `layer`.
    viewer : ViewerModel
        Determines which time point and channel are on screen.
    fields : sequence of str
        Fields that an error concerns.

    Returns
    -------
    Volume
        Its origin is given along the axes of `other`.

    Raises
    ------
    VolumeError
        If the layer cannot be used as a volume, or is rotated, sheared or mirrored
        relative to `other`.
    """
    check_same_rotation(layer, other, fields)
    volume = volume_from_layer(layer, viewer)
    return volume.replace(origin=origin_along(layer, other))


def chosen_position(layer: Layer, viewer: ViewerModel) -> dict[str, int]:
    """Return the time point and channel on screen, if the layer has these axes."""
    axes, shape = geometry_of_layer(layer).axes, finest(layer).shape
    choice = {}
    for letter, word in (("T", "time"), ("C", "channel")):
        if letter in axes:
            axis = axes.index(letter)
            choice[word] = plane_on_screen(viewer, layer, axis, shape[axis])
    return choice


def is_helper(layer: Layer) -> bool:
    """Whether a layer is a helper such as a preview or curtain, not user data."""
    return "helper" in layer.metadata.get(METADATA, {})


def provenance_of(layer: Layer) -> tuple[AnyMapping, ...]:
    """Return the provenance records of the layer's data; empty if unknown."""
    return tuple(layer.metadata.get(METADATA, {}).get("provenance", ()))


def holds_deviations(layer: Layer) -> bool:
    """Whether a layer holds the deviations of a result, according to its record."""
    return is_deviation(provenance_of(layer))


def is_difference(layer: Layer) -> bool:
    """Whether a layer is a residual or the removed noise, according to its record."""
    return provenance.is_difference(provenance_of(layer))


def helper_metadata(kind: str) -> AnyDict:
    """Return the ``metadata`` that marks a layer as a helper of the plugin."""
    return {METADATA: {"helper": kind}}


def is_own_result(layer: Layer) -> bool:
    """Whether a layer was made in this session by restoring or checking another one."""
    return not _MADE_HERE.isdisjoint(layer.metadata.get(METADATA, {}))


def is_measurable(layer: Layer) -> bool:
    """Whether a layer is a grey image, but not a helper, deviations or a difference."""
    if layer_type(layer) != "image" or getattr(layer, "rgb", False):
        return False
    return not (is_helper(layer) or holds_deviations(layer) or is_difference(layer))


def _source_file(layer: Layer, record: AnyDict) -> Path | None:
    """Return the file that holds all of the layer's data, if known."""
    path = record.get("source")
    if path is None and not record and layer.source.parent is None:
        path = layer.source.path
    return None if path is None else Path(path)


def _reading(record: AnyDict) -> AnyDict:
    """Return facts about the file: the part that was read, its state, its colours."""
    info = record.get("info", {})
    keys = ("dataset", OPENED, READING, IS_COLOUR)
    return {key: info[key] for key in keys if key in info}


def _unedited_check(layer: Layer, record: AnyDict) -> AnyDict:
    """Return metadata for checking that a layer is unedited; empty if it has no file.

    Records of runs then state the checksum of the voxels that were really used.
    """
    if _source_file(layer, record) is None:
        return {}
    dataset = record.get("info", {}).get("dataset")
    return {provenance.IS_IN_FILE: UneditedCheck(finest(layer), dataset)}


def part_of_file(
    layer: Layer, viewer: ViewerModel, *, whole: bool = False
) -> tuple[Volume, dict[str, int]]:
    """Return the layer's volume and its time point and channel within its file.

    The plugin's reader creates one layer per channel of a file. With `whole`, all time
    points and channels of the layer's own axes are included.

    Parameters
    ----------
    layer : Layer
    viewer : ViewerModel
    whole : bool
        Whether all time points and channels of the layer are taken.

    Returns
    -------
    volume : Volume
    part : dict of str to int
        Time point and channel, such as ``{"time": 3}``; empty for the whole file.
    """
    volume = volume_from_layer(layer, viewer, whole=whole)
    part = {} if whole else chosen_position(layer, viewer)
    record = layer.metadata.get(METADATA, {})
    if volume.source is None and record.get("file") is not None:
        volume = volume.replace(source=Path(record["file"]))
        part["channel"] = record["channel"]
    return volume, part


def geometry(volume: Volume) -> AnyDict:
    """Return `scale`, `translate`, `units` and `axis_labels` of a layer of `volume`."""
    return layer_data.geometry(
        volume.axes, volume.voxel_size, volume.unit, volume.origin
    )


def alignment_with(layer: Layer, volume: Volume | None = None) -> AnyDict:
    """Return the affine that aligns a result, placed by `geometry`, with `layer`.

    Parameters
    ----------
    layer : Layer
    volume : Volume, optional
        The result. If it has fewer spatial axes than the layer, like an image that was
        generated by a model of slices, it is aligned along these axes.
    """
    affine = geometry_of_layer(layer).affine
    if volume is not None:
        n = len(volume.spatial_axes) + 1
        affine = affine[-n:, -n:]
    return {"affine": affine}


def series_alignment_with(volume: Volume, layer: Layer) -> AnyDict:
    """Return the attributes that align a restored series with its source `layer`.

    Along time and channels, where `volume` has no position, the layer's scale and
    position are used.
    """
    place = geometry(volume)
    n = len(volume.axes) - len(volume.spatial_axes)
    start = np.asarray(layer.data_to_world((0,) * layer.ndim), float)
    steps = []
    for axis in range(n):
        one = np.zeros(layer.ndim)
        one[axis] = 1
        steps.append(float((np.asarray(layer.data_to_world(one)) - start)[axis]))
    units = tuple(str(unit) for unit in layer.units)
    return {
        "scale": (*steps, *place["scale"][n:]),
        "translate": (*map(float, start[:n]), *place["translate"][n:]),
        "units": (*units[:n], *place["units"][n:]),
    }


def same_place(layer: Layer) -> AnyDict:
    """Return the attributes that align an array of the same shape with `layer`."""
    names = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    return {name: getattr(layer, name) for name in names}


def layer_metadata(volume: Volume) -> AnyDict:
    """Return the ``metadata`` record of a layer made from `volume`."""
    return layer_data.entry(volume.provenance, volume.source, volume.metadata)


def has_physical_size(layer: Layer) -> bool:
    """Whether the layer's spatial axes have a physical unit."""
    return geometry_of_layer(layer).unit != PIXEL


def spatial_ndim(layer: Layer) -> int:
    """Return the number of a layer's spatial axes (2 or 3)."""
    return len(geometry_of_layer(layer).voxel_size)


def set_voxel_size(layer: Layer, voxel_size: tuple[float, ...], unit: str) -> None:
    """Set a layer's voxel size as entered by the user; its origin scales with it.

    Parameters
    ----------
    layer : Layer
    voxel_size : tuple of float
        Edge lengths along the last axes of the layer, in `unit`.
    unit : str
    """
    n = len(voxel_size)
    ratio = np.ones(layer.ndim)
    ratio[-n:] = np.divide(voxel_size, geometry_of_layer(layer).voxel_size)
    stretch = np.diag([*ratio, 1.0])
    affine = stretch @ layer.affine.affine_matrix @ np.linalg.inv(stretch)
    scale, translate = layer.scale * ratio, layer.translate * ratio
    layer.scale, layer.translate, layer.affine = scale, translate, affine
    units = tuple(str(u) for u in layer.units[:-n])
    layer.units = units + (layer_data.pint_unit(unit),) * n


def add_image_result(
    viewer: ViewerModel, volume: Volume, like: Image | None, **kwargs: Any
) -> Image:
    """Add `volume` as an image layer, with the colormap and contrast limits of `like`.

    Parameters
    ----------
    viewer : ViewerModel
    volume : Volume
    like : Image or None
        The layer from which `volume` was made.
    **kwargs
        Options of the layer, which take precedence.
    """
    options: AnyDict = {"name": volume.name, "metadata": layer_metadata(volume)}
    if like is not None and not volume.holds_labels:
        options["colormap"] = like.colormap
        options["contrast_limits"] = tuple(like.contrast_limits)
        options["gamma"] = like.gamma
    if like is not None:
        assumed = [n for n in open_notes(like) if n.corrected_by == "slice distance"]
        if assumed:  # pass the assumption on to the result
            options["metadata"][METADATA]["info"] = {"notes": tuple(assumed)}
        options |= alignment_with(like, volume)
    options = geometry(volume) | options | kwargs
    return unwrapped(viewer.add_image(volume.data, **options))


def replace_data(
    viewer: ViewerModel, layer: Image | Labels, volume: Volume, like: Layer | None
) -> None:
    """Show `volume` in an existing layer, at the position of the volume.

    This is faster than removing the layer and adding another: on removal, napari
    collects garbage while the window is blocked. The slice on screen stays the same.

    Parameters
    ----------
    viewer : ViewerModel
    layer : Image or Labels
        Layer with as many axes as `volume`.
    volume : Volume
    like : Layer or None
        The layer from which `volume` was made.
    """
    place = geometry(volume) | ({} if like is None else alignment_with(like))
    with preserve_point(viewer):
        layer.data = volume.data
        for name, value in place.items():
            if not np.array_equal(getattr(layer, name), value):  # each change redraws
                setattr(layer, name, value)


def add_result(
    viewer: ViewerModel, volume: Volume, like: Image | None, **kwargs: Any
) -> Image | Labels:
    """Add `volume` over `like`, as labels or as an image with the same appearance.

    Parameters
    ----------
    viewer, volume, like, **kwargs
        As in `add_image_result`.
    """
    if not volume.holds_labels:
        return add_image_result(viewer, volume, like, **kwargs)
    options: AnyDict = {"name": volume.name, "opacity": 0.6}
    options |= ({} if like is None else alignment_with(like, volume)) | kwargs
    return add_labels_result(viewer, volume.data, volume, **options)


def add_labels_result(
    viewer: ViewerModel,
    labels: object,
    volume: Volume,
    *,
    text_of: Callable[[int], str] | None = None,
    **kwargs: Any,
) -> Labels:
    """Add an integer array as labels at the position of `volume`.

    Parameters
    ----------
    viewer : ViewerModel
    labels : array-like of int
        Labels with the shape of `volume`.
    volume : Volume
    text_of : callable, optional
        Describes a label in the status bar.
    **kwargs
        Options of the layer, which take precedence.
    """
    options: AnyDict = {"metadata": layer_metadata(volume)}
    options = geometry(volume) | options | kwargs
    return add_described_labels(viewer, labels, text_of, **options)


def add_described_labels(
    viewer: ViewerModel,
    labels: object,
    text_of: Callable[[int], str] | None,
    *,
    contour: int = 0,
    editable: bool = True,
    **options: Any,
) -> Labels:
    """Add labels that `text_of` describes in the status bar from the beginning.

    napari (0.9.2) reads the features for the status bar as soon as the layer is added;
    in 3D, this fails unless the mouse has been over the canvas.
    """
    from napari.layers import Labels

    layer = Labels(labels, **options)
    layer.contour, layer.editable = contour, editable
    if text_of is not None:
        describe_in_status_bar(layer, text_of)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Contours are not displayed")  # in 3D
        return unwrapped(viewer.add_layer(layer))
