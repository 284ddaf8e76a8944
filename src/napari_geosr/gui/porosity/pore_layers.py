"""Measured pores as a Labels layer: create, colour, pick and find it."""

from __future__ import annotations

import re
import weakref
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.gui.layers import METADATA, add_labels_result, geometry
from napari_geosr.gui.layers.position import in_layer_units
from napari_geosr.gui.porosity.threshold_preview import preview_colormap
from napari_geosr.operations import measure

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels
    from napari.utils.colormaps import DirectLabelColormap

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.measure import PorosityReport

#: Name of the colouring that gives every pore a different colour.
BY_LABEL = "label"
_COLORMAP = "viridis"
#: Column with the verdict of the explanation of each pore.
EVIDENCE = "evidence"
#: Colour of each verdict; distinguishable with any type of colour vision (palette of
#: Okabe and Ito).
_VERDICTS = {
    "well supported": (0.34, 0.71, 0.91, 1.0),
    "weak": (0.94, 0.89, 0.26, 1.0),
    "prior only": (0.84, 0.37, 0.0, 1.0),
}
#: Names of these colours, for a legend.
VERDICT_COLOURS = "blue: well supported, yellow: weak, red: prior only"
#: Colour of pores without a value.
_NO_VALUE = (0.5, 0.5, 0.5, 1.0)
#: Colour of the selected pore; it does not occur in the colormap.
HIGHLIGHT = (1.0, 0.18, 0.65, 1.0)
#: Colour of the outline of an automatic sample mask.
_SAMPLE_COLOUR = "#ffa500"
#: Metadata key of the checksum of the labels that were put into a layer.
_CHECKSUM = "labels_checksum"
_BLOCK_BYTES = 2**24
#: Maximum number of coloured pores, limited by napari's 16-bit texture of label
#: colours: more pores would share colours, and a dictionary with one colour per label
#: blocks the window for seconds.
MAX_COLOURED = 2**16 - 2


def features(report: PorosityReport) -> Any:
    """The pore table as a DataFrame with the `index` column that napari requires."""
    import pandas as pd

    columns = {"index": report.table["label"], **report.table}
    return pd.DataFrame(columns, copy=False)


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
        Attributes of the layer beyond the volume's geometry.
    table : object, optional
        Features of the layer; those of the report by default.
    colour_by : str
        Column of the table, or the number of the pore.
    visible : bool
    into : Labels, optional
        An existing layer that receives the new labels.
    checksum : int, optional
        Checksum of the labels, used later to detect edits.
    """
    if report.labels is None:
        return None
    options = {
        "features": features(report) if table is None else table,
        "colormap": colormap_by(report, colour_by),
        "visible": visible,
        **(place or {"affine": np.eye(report.labels.ndim + 1)}),
        "metadata": {
            METADATA: {
                "provenance": [*volume.provenance, record],
                "source": volume.source,
                "pores_of": volume.name,
                _CHECKSUM: checksum,
            }
        },
    }
    if into is None or into not in viewer.layers or into.ndim != report.labels.ndim:
        options["name"] = _name(volume.name)
        return add_labels_result(viewer, report.labels, volume, opacity=0.7, **options)
    # A new layer blocks the event loop for about 100 ms; new data hardly block it.
    into.data = report.labels
    for attribute, value in (geometry(volume) | options).items():
        setattr(into, attribute, value)
    return into


def _name(volume_name: str) -> str:
    return f"{volume_name} · pores"


def add_sample(
    viewer: ViewerModel,
    report: PorosityReport,
    volume: Volume,
    *,
    place: AnyDict | None = None,
    visible: bool = True,
    into: Labels | None = None,
) -> Labels | None:
    """Outline the automatic sample mask over the volume; None if there is none.

    Parameters
    ----------
    viewer : ViewerModel
    report : PorosityReport
    volume : Volume
        The volume measured.
    place : dict, optional
        Attributes of the layer beyond the volume's geometry.
    visible : bool
    into : Labels, optional
        An existing layer that receives the new mask.
    """
    if report.sample_mask is None:
        return None
    mask = report.sample_mask.reshape(report.shape).view(np.uint8)
    if into is not None and into in viewer.layers and into.data.shape == mask.shape:
        into.data = mask
        return into
    layer: Labels = add_labels_result(
        viewer,
        mask,
        volume,
        name=f"{volume.name} · sample",
        colormap=sample_colormap(),
        visible=visible,
        **(place or {"affine": np.eye(mask.ndim + 1)}),
    )
    layer.contour = 1
    return layer


def sample_colormap() -> DirectLabelColormap:
    """One colour for the sample, unlike those of pores and their preview."""
    from napari.utils.colormaps import DirectLabelColormap

    colours = {0: "transparent", 1: _SAMPLE_COLOUR, None: _SAMPLE_COLOUR}
    return DirectLabelColormap(color_dict=colours)


def earlier_pore_layers(
    viewer: ViewerModel, volume_name: str
) -> list[weakref.ref[Labels]]:
    """Layers with the pores of a volume from earlier measurements, latest first.

    Layers renamed by the user are excluded.
    """
    ours = re.compile(re.escape(_name(volume_name)) + r"( \[\d+\])?")
    return [
        weakref.ref(layer)
        for layer in reversed(viewer.layers)
        if ours.fullmatch(layer.name)
        and layer.metadata.get(METADATA, {}).get("pores_of") == volume_name
    ]


def is_untouched(layer: Labels, should_stop: ShouldStop) -> bool:
    """Whether a layer still holds its original labels. Reads all of them."""
    known = layer.metadata.get(METADATA, {}).get(_CHECKSUM)
    return known is not None and known == checksum_of(layer.data, should_stop)


def checksum_of(labels: Any, should_stop: ShouldStop) -> int:
    """Compute the checksum of an array, possibly on disk; for a worker.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    plane = max(1, labels.dtype.itemsize * int(np.prod(labels.shape[1:])))
    step = max(1, _BLOCK_BYTES // plane)
    found = 0
    for first in range(0, labels.shape[0], step):
        if should_stop():
            raise Cancelled("Cancelled.")
        block = np.ascontiguousarray(labels[first : first + step])
        found = zlib.crc32(block.data, found)
    return found


def colour_columns(report: PorosityReport) -> list[str]:
    """Columns by which the pores of `report` can be coloured."""
    if not 0 < report.pore_count <= MAX_COLOURED:
        return [BY_LABEL]
    explained = [EVIDENCE] if EVIDENCE in report.table else []
    return [*measure.colour_columns(report), *explained, BY_LABEL]


def colormap_by(report: PorosityReport, column: str) -> Any:
    """A label colormap in which a pore's colour shows its value in `column`.

    Pores without a value are grey.
    """
    from napari.utils.colormaps import CyclicLabelColormap
    from napari.utils.colormaps.colormap_utils import label_colormap

    if column not in colour_columns(report) or column == BY_LABEL:
        return label_colormap()
    colours = (
        np.array([_VERDICTS.get(str(v), _NO_VALUE) for v in report.table[EVIDENCE]])
        if column == EVIDENCE
        else _scale(report, column)
    )
    # Colour 0 is the background; label i takes colour i.
    table = np.concatenate([np.zeros((1, 4)), colours]).astype(np.float32)
    return CyclicLabelColormap(colors=table, background_value=0)


def _scale(report: PorosityReport, column: str) -> AnyArray:
    """Colours of the pores by their values in a column of numbers."""
    from napari.utils.colormaps import ensure_colormap

    values = report.table[column].astype(np.float64)
    if measure.colour_columns(report)[column]:
        values = np.log(np.where(values > 0, values, np.nan))
    known = np.isfinite(values)
    low, high = (0.0, 1.0)
    if known.any():
        low, high = (float(v) for v in np.percentile(values[known], (1, 99)))
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    # Skip the lowest tenth, whose colours would be invisible on a black background.
    colours: AnyArray = ensure_colormap(_COLORMAP).map(
        0.1 + 0.9 * np.where(known, scaled, 0)
    )
    colours[~known] = _NO_VALUE
    return colours


def highlighted(report: PorosityReport, column: str, label: int) -> Any:
    """The colormap of `colormap_by` with one pore highlighted.

    With more than `MAX_COLOURED` pores, which share colours, none is highlighted.
    """
    from napari.utils.colormaps import CyclicLabelColormap

    plain = colormap_by(report, column)
    if not 0 < label <= report.pore_count <= MAX_COLOURED:
        return plain
    colours = np.array(plain.map(np.arange(report.pore_count + 1)), np.float32)
    colours[0] = 0
    colours[label] = HIGHLIGHT
    return CyclicLabelColormap(colors=colours, background_value=0)


def label_at(viewer: ViewerModel, layer: Labels, position: Any) -> int:
    """The pore under a position in world coordinates; 0 where there is none."""
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
    """Return the centroid in `row` of the report's table in voxels of `volume`."""
    places = zip(volume.spatial_axes, volume.origin, volume.voxel_size, strict=True)
    return tuple(
        (float(report.table[f"centroid_{letter.lower()}"][row]) - origin) / size
        for letter, origin, size in places
    )
