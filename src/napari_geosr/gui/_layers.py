"""Between napari's layers and our volumes, without copying voxels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.units import PIXEL, parse_unit
from napari_geosr.core.volume import AXES, Volume

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer

#: Key of our record in ``layer.metadata``.
METADATA = "geosr"
#: napari (pint) spelling of our units, where it differs.
_PINT = {"µm": "um", "Å": "angstrom", "in": "inch"}
_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}


def unwrapped(thing: Any) -> Any:
    """Give the viewer or layer behind the proxy that napari hands to plugins.

    Each access makes a new proxy, so neither identity nor weak references hold.
    """
    return getattr(thing, "__wrapped__", thing)


def volume_from_layer(layer: Layer, viewer: ViewerModel | None = None) -> Volume:
    """Give the layer's data as a `Volume` in the layer's place in space.

    Of a time series or channel stack, the part on screen in `viewer` is taken.

    Raises
    ------
    VolumeError
        If the layer is RGB or its axes cannot be understood.
    """
    if getattr(layer, "rgb", False):
        raise VolumeError(
            f"Layer {layer.name!r} is RGB; one grey-level volume is needed. Use "
            "'Split RGB' in its context menu and choose one channel."
        )
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    axes = _axes(layer, data.ndim)
    n = sum(letter in "ZYX" for letter in axes)
    units = {_unit(u) for u in layer.units[-n:]}
    unit = units.pop() if len(units) == 1 else PIXEL
    record = layer.metadata.get(METADATA, {})
    volume = Volume(
        data,
        axes,
        tuple(float(v) for v in layer.scale[-n:]),
        unit,
        tuple(float(v) for v in layer.translate[-n:]),
        name=layer.name,
        provenance=tuple(record.get("provenance", ())),
        source=_source_file(layer, record),
    )
    if axes in ("YX", "ZYX"):
        return volume
    choice = {} if viewer is None else chosen_position(layer, viewer)
    return volume.select(**choice)


def chosen_position(layer: Layer, viewer: ViewerModel) -> dict[str, int]:
    """Time point and channel on screen, for those axes that the layer has."""
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    axes = _axes(layer, data.ndim)
    offset = viewer.dims.ndim - data.ndim
    choice = {}
    for letter, word in (("T", "time"), ("C", "channel")):
        if letter in axes:
            axis = axes.index(letter)
            step = viewer.dims.point[axis + offset] - layer.translate[axis]
            index = round(float(step / layer.scale[axis]))
            choice[word] = int(np.clip(index, 0, data.shape[axis] - 1))
    return choice


def _axes(layer: Layer, ndim: int) -> str:
    labels = "".join(str(label).upper()[:1] for label in layer.axis_labels)
    ordered = "".join(letter for letter in AXES if letter in labels)
    if labels == ordered and len(labels) == ndim and labels.endswith("YX"):
        return labels
    if ndim not in _DEFAULT_AXES:
        raise VolumeError(
            f"Layer {layer.name!r} has {ndim} axes; images and volumes of 2 to 5 axes "
            "can be used."
        )
    return _DEFAULT_AXES[ndim]


def _source_file(layer: Layer, record: dict[str, Any]) -> Path | None:
    """The file that holds the layer's whole data, if we know one."""
    path = record.get("source")
    if path is None and not record and layer.source.parent is None:
        path = layer.source.path
    return None if path is None else Path(path)


def _unit(unit: Any) -> str:
    return parse_unit(str(getattr(unit, "units", unit))) or PIXEL


def geometry(volume: Volume) -> dict[str, Any]:
    """`scale`, `translate`, `units` and `axis_labels` for ``viewer.add_image``."""
    unit = _PINT.get(volume.unit, volume.unit)
    n_other = len(volume.axes) - len(volume.spatial_axes)
    return {
        "scale": (1.0,) * n_other + volume.voxel_size,
        "translate": (0.0,) * n_other + volume.origin,
        "units": (PIXEL,) * n_other + (unit,) * len(volume.spatial_axes),
        "axis_labels": tuple(volume.axes.lower()),
    }


def layer_metadata(volume: Volume) -> dict[str, Any]:
    """Give the record that a layer made from `volume` carries in its ``metadata``."""
    return {METADATA: {"provenance": list(volume.provenance), "source": volume.source}}


def has_physical_size(layer: Layer) -> bool:
    """Whether the layer's spatial axes carry a physical unit."""
    n = spatial_ndim(layer)
    return all(_unit(unit) != PIXEL for unit in layer.units[-n:])


def spatial_ndim(layer: Layer) -> int:
    """How many of the layer's axes are Z, Y or X (2 or 3)."""
    return sum(letter in "ZYX" for letter in _axes(layer, layer.ndim))


def set_voxel_size(layer: Layer, voxel_size: tuple[float, ...], unit: str) -> None:
    """Give a layer the voxel size that a person typed; its origin moves with it."""
    n = len(voxel_size)
    old = np.asarray(layer.scale, dtype=float)
    scale, translate = old.copy(), np.asarray(layer.translate, dtype=float).copy()
    scale[-n:] = voxel_size
    translate[-n:] *= scale[-n:] / old[-n:]
    layer.scale, layer.translate = scale, translate
    pint = _PINT.get(unit, unit)
    layer.units = tuple(str(u) for u in layer.units[:-n]) + (pint,) * n


def add_image_result(
    viewer: ViewerModel, volume: Volume, like: Image | None, **kwargs: Any
) -> Image:
    """Add `volume` as an image layer over `like`, with its colours and contrast."""
    options: dict[str, Any] = {"name": volume.name, "metadata": layer_metadata(volume)}
    if like is not None:
        options["colormap"] = like.colormap
        options["contrast_limits"] = tuple(like.contrast_limits)
        options["gamma"] = like.gamma
    return unwrapped(
        viewer.add_image(volume.data, **geometry(volume), **(options | kwargs))
    )


def add_labels_result(
    viewer: ViewerModel, labels: Any, volume: Volume, **kwargs: Any
) -> Labels:
    """Add an integer array as labels in the place of `volume`."""
    options = {"metadata": layer_metadata(volume)} | kwargs
    return unwrapped(viewer.add_labels(labels, **geometry(volume), **options))
