"""Layers of a measurement: the pores as labels, and the anisotropy as lines."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.gui.layers import (
    METADATA,
    add_labels_result,
    chosen_position,
    geometry,
    helper_metadata,
    layer_metadata,
)
from napari_geosr.gui.layers.contents import CHECKSUM
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.layers.position import in_layer_units
from napari_geosr.gui.layers.private_napari import describe_in_status_bar
from napari_geosr.gui.porosity.pore_colours import BY_LABEL, colormap_of
from napari_geosr.gui.porosity.preview.threshold_preview import preview_colormap
from napari_geosr.operations.measure import number_text

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Layer, Vectors
    from napari.utils.colormaps import DirectLabelColormap

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport

#: Colour of the outline of an automatic sample mask.
_SAMPLE_COLOUR = "#ffa500"
#: Metadata key of the layer whose sample mask a layer outlines.
_SAMPLE_OF = "sample_of"
#: Metadata key of the image whose pores a layer shows (`PoreTarget.origin`).
_ORIGIN = "pores_origin"
#: Length of the longest line of a rose plot, measured from the centre, relative to the
#: shortest edge of the volume.
_LONGEST_LINE = 0.45
#: Kind of the layer of mean intercept lengths (a rose plot).
_ROSE = "rose"
#: Columns of the pore table that napari's status bar shows, if they exist.
_IN_STATUS_BAR = ("volume", "area", "equivalent_diameter", "sphericity", "circularity")


def features(report: PorosityReport) -> Any:
    """Return the pore table as a DataFrame with the `index` column napari requires.

    Row 0 is the background, because napari's features table uses the row number as the
    label.
    """
    import pandas as pd

    columns = {"index": report.table["label"], **report.table}
    return pd.DataFrame({k: with_background(v) for k, v in columns.items()}, copy=False)


def with_background(column: AnyArray) -> AnyArray:
    """Return a column of the pore table with a first row for label 0: empty, or 0."""
    first: object = {"f": np.nan, "U": "", "O": ""}.get(column.dtype.kind, 0)
    extended: AnyArray = np.concatenate([np.array([first], column.dtype), column])
    return extended


def warm_up() -> None:
    """Compile napari's label colouring in advance, in a worker.

    Otherwise napari compiles it when the first labels are added, and the window freezes
    for a second or more. A layer outside a viewer is plain Python without Qt.
    """
    from napari.layers import Labels

    Labels(np.eye(4, dtype=np.uint32)[None].repeat(2, 0))
    Labels(np.eye(4, dtype=np.uint8)[None], colormap=preview_colormap())


def add_pores(
    viewer: ViewerModel,
    report: PorosityReport,
    volume: Volume,
    record: AnyDict,
    *,
    place: AnyDict | None = None,
    table: object = None,
    colour_by: str = BY_LABEL,
    visible: bool = True,
    into: Labels | None = None,
    checksum: int | None = None,
    origin: AnyDict | None = None,
) -> Labels | None:
    """Add the labels over the volume, or put them into an existing layer.

    Returns None if the report has no labels.

    Parameters
    ----------
    viewer : ViewerModel
    report : PorosityReport
    volume : Volume
        The volume measured.
    record : dict
        Provenance of the measurement.
    place : dict, optional
        Attributes that align the layer, in addition to the volume's geometry.
    table : object, optional
        Features of the layer; by default, the features of the report.
    colour_by : str
        Column that determines the colours; by default the label of the pore.
    visible : bool
    into : Labels, optional
        An existing layer that receives the new labels.
    checksum : int, optional
        Checksum of the labels, used later to detect edits.
    origin : dict, optional
        Identifies the image (`PoreTarget.origin`).
    """
    if report.labels is None:
        return None
    options = {
        "features": features(report) if table is None else table,
        "colormap": colormap_of(report, colour_by),
        "visible": visible,
        **(place or {"affine": np.eye(report.labels.ndim + 1)}),
        "metadata": {
            METADATA: {
                "provenance": [*volume.provenance, record],
                "source": volume.source,
                _ORIGIN: origin,
                CHECKSUM: checksum,
            }
        },
    }
    if into is None or into not in viewer.layers or into.ndim != report.labels.ndim:
        options["name"] = _name(volume.name, origin)
        text_of, opacity = _status_of(report), 0.7
        return add_labels_result(
            viewer, report.labels, volume, text_of=text_of, opacity=opacity, **options
        )
    # A new layer blocks the event loop for about 100 ms; new data hardly block it.
    describe_in_status_bar(into, _status_of(report))
    into.data = report.labels
    for attribute, value in (geometry(volume) | options).items():
        setattr(into, attribute, value)
    return into


def _status_of(report: PorosityReport) -> Callable[[int], str]:
    """Return a function that describes a pore in words and with units."""
    columns = {
        name.replace("_", " "): (report.table[name], report.units.get(name, ""))
        for name in _IN_STATUS_BAR
        if name in report.table
    }
    return lambda label: pore_text(label, columns)


def pore_text(label: int, columns: Mapping[str, tuple[AnyArray, str]]) -> str:
    """Describe a pore by its label and the values of these columns, with units."""
    if label == 0:
        return "no pore"
    values = [
        f"{title} {number_text(float(values[label - 1]))} {unit}".rstrip()
        for title, (values, unit) in columns.items()
        if label <= len(values) and np.isfinite(values[label - 1])
    ]
    return f"pore {label}" + (f": {', '.join(values)}" if values else "")


def _name(volume_name: str, origin: AnyDict | None, kind: str = "pores") -> str:
    """Return the name of a layer, which states the time point and channel, if any."""
    position = position_text(origin or {})
    return f"{volume_name} · {kind}" + (f" ({position})" if position else "")


def position_text(position: Mapping[str, Any]) -> str:
    """Describe a time point and channel: ``time 2, channel 0``; may be empty."""
    names = [name for name in ("time", "channel") if name in position]
    return ", ".join(f"{name} {position[name]}" for name in names)


def add_sample(
    viewer: ViewerModel,
    report: PorosityReport,
    volume: Volume,
    *,
    place: AnyDict | None = None,
    visible: bool = True,
    earlier: Sequence[Labels] = (),
    origin: AnyDict | None = None,
) -> Labels | None:
    """Outline the automatic sample mask over the volume; return None without a mask.

    Parameters
    ----------
    viewer : ViewerModel
    report : PorosityReport
    volume : Volume
        The volume measured.
    place : dict, optional
        Attributes that align the layer, in addition to the volume's geometry.
    visible : bool
    earlier : sequence of Labels
        Existing outlines for this image; one of the same shape receives the new mask.
    origin : dict, optional
        Identifies the image (`PoreTarget.origin`).
    """
    if report.sample_mask is None:
        return None
    mask = report.sample_mask.reshape(report.shape).view(np.uint8)
    options = {"visible": visible, **(place or {"affine": np.eye(mask.ndim + 1)})}
    for into in earlier:
        if into.data.shape == mask.shape:
            into.data = mask
            for attribute, value in (geometry(volume) | options).items():
                setattr(into, attribute, value)
            return into
    metadata = layer_metadata(volume)
    metadata[METADATA][_SAMPLE_OF] = origin
    layer: Labels = add_labels_result(
        viewer,
        mask,
        volume,
        name=_name(volume.name, origin, "sample"),
        colormap=sample_colormap(),
        metadata=metadata,
        contour=1,
        **options,
    )
    return layer


def earlier_samples(viewer: ViewerModel, origin: AnyDict | None) -> list[Labels]:
    """Return the outlines of automatic sample masks of an image, latest first."""
    return [
        layer
        for layer in reversed(viewer.layers)
        if origin
        and layer_type(layer) == "labels"
        and layer.metadata.get(METADATA, {}).get(_SAMPLE_OF) == origin
    ]


def image_of(origin: AnyDict | None) -> str:
    """Return the layer's id in a `PoreTarget.origin`; empty if it is unknown."""
    return str((origin or {}).get("layer", ""))


def sample_colormap() -> DirectLabelColormap:
    """Return a colormap for the sample; pores and their preview have other colours."""
    from napari.utils.colormaps import DirectLabelColormap

    colours = {0: "transparent", 1: _SAMPLE_COLOUR, None: _SAMPLE_COLOUR}
    return DirectLabelColormap(color_dict=colours)


@dataclass(frozen=True, eq=False)
class PoreTarget:
    """Where to show the pores of an image.

    Attributes
    ----------
    origin : dict
        Identifies the image: its layer, and the time point and channel measured.
    earlier : list of weakref
        Layers with the pores of this image from earlier measurements, latest first.
        Layers renamed by the user are excluded.
    """

    origin: AnyDict
    earlier: list[weakref.ref[Labels]]

    @classmethod
    def of(cls, layer: Layer, viewer: ViewerModel) -> PoreTarget:
        """Return the target for the part of `layer` that is on screen."""
        origin = {"layer": str(layer.unique_id), **chosen_position(layer, viewer)}
        ours = re.compile(re.escape(_name(layer.name, origin)) + r"( \[\d+\])?")
        earlier = [
            weakref.ref(pores)
            for pores in reversed(viewer.layers)
            if layer_type(pores) == "labels"  # napari converts labels to images
            and ours.fullmatch(pores.name)
            and pores.metadata.get(METADATA, {}).get(_ORIGIN) == origin
        ]
        return cls(origin, earlier)


def label_at(viewer: ViewerModel, layer: Labels, position: Any) -> int:
    """Return the label of the pore at a position in world coordinates; 0 if none."""
    value = layer.get_value(
        in_layer_units(viewer, layer, position),
        view_direction=viewer.scene.camera.view_direction
        if viewer.dims.ndisplay == 3
        else None,
        dims_displayed=list(viewer.dims.displayed),
        world=True,
    )
    return 0 if value is None else int(value)


def row_index(report: PorosityReport, row: int, volume: Volume) -> tuple[float, ...]:
    """Return the centroid of the pore in `row` of the table, in voxels of `volume`."""
    places = zip(volume.spatial_axes, volume.origin, volume.voxel_size, strict=True)
    return tuple(
        (float(report.table[f"centroid_{letter.lower()}"][row]) - origin) / size
        for letter, origin, size in places
    )


def add_rose(
    viewer: ViewerModel,
    report: PorosityReport,
    volume: Volume,
    *,
    place: AnyDict | None = None,
    origin: AnyDict | None = None,
) -> Vectors | None:
    """Draw a line in each direction; lengths show the mean intercept length (MIL).

    The layer is hidden, because the lines would cover the pores. An earlier layer of
    the same image is replaced; if it is shown, the new one is shown as well.

    Parameters
    ----------
    viewer : ViewerModel
    report : PorosityReport
    volume : Volume
        The volume measured.
    place : dict, optional
        Attributes that align the layer, in addition to the volume's geometry.
    origin : dict, optional
        Identifies the image (`PoreTarget.origin`).

    Returns
    -------
    Vectors or None
        None if the anisotropy was not measured.
    """
    name, record = _name(volume.name, origin, "anisotropy"), helper_metadata(_ROSE)
    record[METADATA][_ORIGIN] = image_of(origin)
    active, visible = viewer.layers.selection.active, False
    for earlier in list(viewer.layers):
        if earlier.name == name and earlier.metadata == record:
            visible = visible or earlier.visible
            viewer.layers.remove(earlier)
    found = report.morphometry.get("anisotropy")
    curve = None if found is None else found.curves.get("rose")
    if curve is None:
        return None
    every = np.array(curve["MIL"], float)
    known = np.isfinite(every)
    sizes = np.array(report.voxel_size, float)
    ndim = len(sizes)
    lengths = every[known]
    directions = np.stack([curve[axis] for axis in "zyx"[-ndim:]], axis=1)[known]
    # Draw lines in both directions, in voxels of the volume.
    both = np.concatenate([directions, -directions]) * np.tile(lengths, 2)[:, None]
    shortest = float((sizes * report.shape[-ndim:]).min())
    both *= _LONGEST_LINE * shortest / lengths.max() / sizes
    centre = (np.array(report.shape[-ndim:], float) - 1) / 2
    data = np.stack([np.broadcast_to(centre, both.shape), both], axis=1)
    options = geometry(volume) | (place or {"affine": np.eye(ndim + 1)})
    layer = viewer.add_vectors(
        data,
        name=name,
        features={"MIL": np.tile(lengths, 2)},
        edge_color="MIL",
        edge_colormap="viridis",
        edge_width=max(0.3, 0.004 * min(report.shape[-ndim:])),
        vector_style="line",
        metadata=record,
        visible=visible,
        **options,
    )
    if active is not None and active in viewer.layers:
        viewer.layers.selection.active = active
    return layer
