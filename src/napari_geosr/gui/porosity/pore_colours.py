"""Colours of pores: by any column of the table, with the selected pores highlighted.

Each pore has one of 256 colour classes in an array indexed by its label. A change of
the colours or of the selection therefore takes the same short time for any number of
pores, and labels are looked up only in the part of the volume that is shown.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import (
    CyclicLabelColormap,
    DirectLabelColormap,
    ensure_colormap,
)
from napari.utils.colormaps.colormap_utils import label_colormap
from pydantic import PrivateAttr
from qtpy.QtCore import QObject, QTimer

from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.gui.layers.private_napari import (
    can_redraw,
    can_replace_textures,
    redraw_labels,
)
from napari_geosr.operations import measure

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_geosr.operations.measure import PorosityReport

#: Name of the colouring that gives neighbouring pores different colours.
BY_LABEL = "label"
_COLORMAP = "viridis"
#: Column with the verdict of each pore's explanation.
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
#: Colour of selected pores; it does not occur in the colormap.
HIGHLIGHT = (1.0, 0.18, 0.65, 1.0)
#: Number of colour classes of a scale. Class 0 is the background.
_LEVELS = 253
#: Class of pores without a value.
_GREY = 254
#: Class of selected pores.
_SELECTED = 255
#: Minimum ratio of the largest to the smallest value for a logarithmic scale.
_LOG_RATIO = 100.0
#: Prefixes of columns of positions, which never have a logarithmic scale.
_POSITIONS = ("centroid_", "bbox_")
#: Delay in milliseconds from the last change until the layer's thumbnail is drawn.
_REST = 200


@dataclass(frozen=True, eq=False)
class PoreColours:
    """Colour classes of pores.

    Attributes
    ----------
    classes : ndarray of uint8, shape (n + 1,)
        Class of each label; 0 for the background.
    colours : ndarray of float32, shape (256, 4)
        RGBA colour of each class.
    low, high : float or None
        Values at the ends of the scale; None if the colours do not form a scale.
    """

    classes: AnyArray
    colours: AnyArray
    low: float | None = None
    high: float | None = None

    def of_pores(self) -> AnyArray:
        """Return the RGBA colour of each pore, shape (n, 4), by its row."""
        colours: AnyArray = self.colours[self.classes[1:]]
        return colours

    def colormap(
        self, marked: AnyArray | None = None, *, hide_others: bool = False
    ) -> PoreColormap | DirectLabelColormap:
        """Return the colormap of a Labels layer.

        If this version of napari lacks the private methods that `PoreColormap`
        replaces, a dictionary of colours is returned, which takes much longer.

        Parameters
        ----------
        marked : ndarray of bool, shape (n,), optional
            Pores to highlight.
        hide_others : bool
            Whether to show only these pores.
        """
        classes = self.highlighted(marked, hide_others=hide_others)
        if not can_replace_textures():
            by_label: dict[Any, AnyArray] = dict(enumerate(self.colours[classes]))
            return DirectLabelColormap(
                color_dict=by_label | {None: self.colours[_GREY]}
            )
        colormap = PoreColormap(colors=self.colours, background_value=0)
        colormap._classes = classes
        return colormap

    def highlighted(
        self, marked: AnyArray | None = None, *, hide_others: bool = False
    ) -> AnyArray:
        """Return the class of each label, shape (n + 1,), with pores highlighted."""
        if marked is None or not (hide_others or marked.any()):
            return self.classes
        classes: AnyArray = self.classes.copy()
        if hide_others:
            classes.fill(0)
        classes[1:][marked] = _SELECTED
        return classes


class PoreColormap(CyclicLabelColormap):
    """Label colormap that looks up the class of each label in an array.

    napari's own colormaps either repeat after 65,534 labels or need a dictionary with
    an entry for each label, which takes seconds to build.
    """

    _classes: Any = PrivateAttr(default=None)

    def set_classes(self, classes: AnyArray) -> None:
        """Replace the class of each label, shape (n + 1,), without notifying napari."""
        self._classes = classes

    def _class_of(self, labels: AnyArray) -> AnyArray:
        """Return the classes of labels; grey for labels added by hand."""
        extended = np.append(self._classes, np.uint8(_GREY))
        found: AnyArray = extended.take(labels, mode="clip")
        return found

    def _data_to_texture(self, values: Any) -> Any:
        array = np.asarray(values)
        if self._classes is None or array.dtype.itemsize <= 2:
            # napari sends such labels to the graphics card unchanged.
            return super()._data_to_texture(values)
        if self.use_selection:
            shown = (array == self.selection) & (array != self.background_value)
            found = shown * np.uint8(self._selected_class)
        else:
            found = self._class_of(array)
        return found if np.ndim(values) else found.dtype.type(found)

    @property
    def _selected_class(self) -> int:
        """Class that napari calculates for a label that is shown alone."""
        return int(self.selection - 1) % (len(self.colors) - 1) + 1

    def _map_without_cache(self, values: AnyArray) -> AnyArray:
        if self._classes is None:
            colours: AnyArray = super()._map_without_cache(values)
            return colours
        mapped: AnyArray = self.colors[self._class_of(values)]
        return mapped

    def model_dump(self, **options: Any) -> AnyDict:
        """Return the fields from which napari builds the table of colours on screen."""
        fields: AnyDict = super().model_dump(**options)
        if self._classes is not None and self.use_selection and "colors" in fields:
            colours = np.array(fields["colors"])
            own = self._class_of(np.array([self.selection]))[0]
            colours[self._selected_class] = self.colors[own]
            fields["colors"] = colours
        return fields


def colour_columns(report: PorosityReport) -> list[str]:
    """Return the columns by which the pores of `report` can be coloured."""
    if not report.pore_count:
        return [BY_LABEL]
    known = list(measure.colour_columns(report))
    explained = [EVIDENCE] if EVIDENCE in report.table else []
    others = [name for name in number_columns(report) if name not in known]
    return [*known, *explained, *others, BY_LABEL]


def number_columns(report: PorosityReport) -> list[str]:
    """Return the columns of numbers and Boolean values, except the labels."""
    return [
        name
        for name, values in report.table.items()
        if name != BY_LABEL and values.dtype.kind in "fiub"
    ]


def is_logarithmic(report: PorosityReport, column: str) -> bool:
    """Whether a column has a logarithmic scale.

    The scale of an unregistered column is logarithmic if its values are positive and
    span two decades.
    """
    if column.startswith(_POSITIONS):
        return False
    known = measure.colour_columns(report)
    if column in known:
        return bool(known[column])
    values = report.table[column].astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values) or values.min() <= 0:
        return False
    return bool(values.max() >= _LOG_RATIO * values.min())


def pore_colours(report: PorosityReport, column: str) -> PoreColours:
    """Return the colours of the pores by `column`; pores without a value are grey."""
    table = np.zeros((256, 4), np.float32)
    table[_GREY], table[_SELECTED] = _NO_VALUE, HIGHLIGHT
    if column == EVIDENCE and EVIDENCE in report.table:
        table[1 : len(_VERDICTS) + 1] = list(_VERDICTS.values())
        known = {verdict: i for i, verdict in enumerate(_VERDICTS, 1)}
        found = [known.get(str(v), _GREY) for v in report.table[EVIDENCE]]
        return PoreColours(np.array([0, *found], np.uint8), table)
    if column == BY_LABEL or column not in number_columns(report):
        cycle = np.asarray(label_colormap().colors)[1 : _LEVELS + 1]
        table[1 : len(cycle) + 1] = cycle
        labels = np.arange(report.pore_count + 1)
        classes = ((labels - 1) % len(cycle) + 1).astype(np.uint8)
        classes[0] = 0
        return PoreColours(classes, table)
    return _scale(report, column, table)


def _scale(report: PorosityReport, column: str, table: AnyArray) -> PoreColours:
    """Return colours on a scale for the values of a numeric column."""
    values = report.table[column].astype(np.float64)
    logarithmic = is_logarithmic(report, column)
    if logarithmic:
        values = np.log(np.where(values > 0, values, np.nan))
    known = np.isfinite(values)
    low, high = (0.0, 1.0)
    if known.any():
        low, high = (float(v) for v in np.percentile(values[known], (1, 99)))
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    levels = np.rint(np.where(known, scaled, 0) * (_LEVELS - 1)).astype(np.uint8) + 1
    levels[~known] = _GREY
    table[1 : _LEVELS + 1] = scale_colours(np.linspace(0, 1, _LEVELS))
    ends = (float(np.exp(low)), float(np.exp(high))) if logarithmic else (low, high)
    classes = np.append(np.zeros(1, np.uint8), levels)
    return PoreColours(classes, table, *(ends if known.any() else (None, None)))


def scale_colours(fractions: AnyArray) -> AnyArray:
    """Return the RGBA colours of the scale at positions from 0 to 1.

    The lowest tenth of the colormap is left out because it is invisible on black.
    """
    colours: AnyArray = ensure_colormap(_COLORMAP).map(0.1 + 0.9 * fractions)
    return colours


def colormap_of(report: PorosityReport, column: str) -> PoreColormap:
    """Return the colormap of the pores of a report by `column`, without a selection."""
    return pore_colours(report, column).colormap()


class Highlighter(QObject):
    """Highlights the selected pores in a layer by their colour.

    When a colormap is assigned, napari compiles a shader and redraws the layer list and
    the layer controls. Therefore, if possible, a new selection is shown by sending only
    the labels on screen to the graphics card; the thumbnail is drawn a moment later.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._layer: weakref.ref[Labels] | None = None
        self._colormap: PoreColormap | DirectLabelColormap | None = None
        self._of: PoreColours | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REST)
        self._timer.timeout.connect(self._rest)

    def show(
        self,
        layer: Labels,
        colours: PoreColours,
        marked: AnyArray,
        *,
        hide_others: bool = False,
    ) -> None:
        """Colour the pores of a layer, and highlight the marked ones.

        Parameters
        ----------
        layer : Labels
        colours : PoreColours
        marked : ndarray of bool, shape (n,)
            Pores to highlight.
        hide_others : bool
            Whether to show only these pores.
        """
        colormap = self._colormap
        if (
            isinstance(colormap, PoreColormap)
            and self._of is colours
            and layer.colormap is colormap
            and can_redraw(layer)
        ):
            colormap.set_classes(colours.highlighted(marked, hide_others=hide_others))
            if redraw_labels(layer):
                self._timer.start()
                return
        self._timer.stop()
        colormap = colours.colormap(marked, hide_others=hide_others)
        layer.colormap = colormap
        self._layer, self._of = weakref.ref(layer), colours
        self._colormap = colormap

    def _rest(self) -> None:
        """Draw the layer's thumbnail, and show the colour of the selected label."""
        layer = None if self._layer is None else self._layer()
        if layer is not None:
            layer.refresh(data_displayed=False, highlight=False, extent=False)
            layer.events.selected_label()
