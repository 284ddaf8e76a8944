"""A section that plans how many spots of a sample to scan, and shows where."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.form import FieldFaults, texts_by_field
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.line_breaks import keep_numbers_whole
from napari_geosr.gui.kit.option_words import in_words_of_dock
from napari_geosr.gui.kit.widgets import Section, form_layout, text_label
from napari_geosr.gui.layers import (
    add_described_labels,
    chosen_position,
    helper_metadata,
    same_place,
    volume_from_layer,
)
from napari_geosr.gui.layers.contents import EditWatch
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.porosity.drawn_sample import sample_volume
from napari_geosr.gui.porosity.measured_layers import (
    MeasuredInputs,
    MeasuredLayers,
    NoteWords,
)
from napari_geosr.gui.porosity.measuring import edit_warning, without_voxels
from napari_geosr.gui.porosity.pore_layers import position_text
from napari_geosr.gui.porosity.rows import align_fields
from napari_geosr.gui.porosity.settings import PorositySettings
from napari_geosr.operations.measure import percent_text
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.mask import align_mask
from napari_geosr.operations.measure.planning import PlanConfig, ScanPlan, plan_steps

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer
    from napari.utils.colormaps import DirectLabelColormap
    from qtpy.QtCore import QEvent

    from napari_geosr.core.volume import Volume
    from napari_geosr.gui.porosity.preview.levels_reader import LevelsReader

#: Values of the setting for what the scan shows, keyed by the text of the menu entry.
_SCANS = {"the whole sample": "whole", "one spot": "spot"}
#: Option in error messages that corresponds to the second entry, in words of the dock.
_ONE_SPOT = ("(--scan spot)", "(Scan shows: one spot)")
#: Index along one axis.
Key = int | slice
#: Colour of the spots; visible on all greys from black to white.
_COLOUR = "#e69f00"
#: Width of the outlines of the spots in voxels.
_CONTOUR = 2
#: Layers of spots, by image.
_spots: weakref.WeakKeyDictionary[Layer, weakref.ref[Labels]] = (
    weakref.WeakKeyDictionary()
)
_WORDS = NoteWords("This plan", "belongs", "plan", "Press Plan scan to plan")


class PlanSection(QWidget):
    """Fields for spot size and precision; the plan as text and as a layer of spots.

    Signals
    -------
    requested
        The button was clicked.
    """

    requested = Signal()
    planned = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, settings: PorositySettings
    ) -> None:
        super().__init__()
        self._viewer, self._settings = viewer, settings
        self._scanned: tuple[weakref.ref[Layer], Volume] | None = None
        self._position: dict[str, int] = {}
        self._layers = MeasuredLayers(viewer, lambda _key: iter(()), self, _WORDS)
        self._layers.changed.connect(self._on_layers)
        self._inputs: MeasuredInputs | None = None
        self._request = ""
        self._edits, self._edited = EditWatch(self), ""
        self._connections = Connections(self)
        self._connections.connect(viewer.layers.events.removed, self._on_removed)
        self._orphans: list[weakref.ref[Labels]] = []
        self._cleaning = QTimer(self)
        self._cleaning.setSingleShot(True)
        self._cleaning.timeout.connect(self._remove_orphans)
        self.spot = QLineEdit("10%")
        self.precision = QLineEdit("5%")
        self.scan = QComboBox()
        self.scan.addItems(list(_SCANS))
        self.button = QPushButton("Plan scan")
        self.text = QLabel()
        self.text.setWordWrap(True)
        #: Why the plan is outdated; hidden if it is not.
        self.stale_note = text_label("About the plan", "")
        self.stale_note.setVisible(False)
        self._lay_out()
        #: Fields by the name of the setting, and what they contained for the plan.
        self._editors = {"spot": self.spot, "precision": self.precision}
        self._faults = FieldFaults(self._rows)
        self._before = self._requested()
        for editor in self._editors.values():
            editor.textChanged.connect(self._on_edited)
        self.scan.currentIndexChanged.connect(self._on_edited)
        self.button.clicked.connect(self.requested)
        settings.image.layerChanged.connect(self._on_image)
        self._show_whether_possible()
        self.section = Section(
            "How much to scan",
            self,
            tool_tip="Number, size and positions of the high-resolution scans (spots) "
            "needed to measure the porosity precisely.",
            shortcut="Alt+Shift+H",
        )

    def _lay_out(self) -> None:
        fields = PlanConfig.model_fields
        rows = (
            ("Spot", self.spot, fields["spot"].description),
            ("Precision", self.precision, fields["precision"].description),
            ("Scan shows", self.scan, fields["scan"].description),
        )
        form = self._rows = form_layout()
        for title, widget, description in rows:
            label = QLabel(title)
            label.setBuddy(widget)
            widget.setToolTip(description or "")
            widget.setAccessibleName(title)
            form.addRow(label, widget)
        self.button.setToolTip(
            "Calculate how many spots are needed for the chosen image, and show them."
        )
        self.button.setAccessibleName("Plan scan")
        self.text.setAccessibleName("Scan plan")
        self.text.setToolTip("The plan for the chosen image.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.stale_note)
        layout.addWidget(self.text)

    def showEvent(self, event: object) -> None:
        """Align the fields with those of the measurement."""
        super().showEvent(event)
        align_fields([self._settings.rows_below, self._rows])

    def _show_whether_possible(self) -> None:
        """Disable the button while there is no image to plan from."""
        self.button.setEnabled(self._settings.image.layer() is not None)

    def _on_image(self) -> None:
        """Clear the plan of another image."""
        self._show_whether_possible()
        if not self._is_of_chosen_image():
            self.text.setText("")
        self.mark()

    def follow(self, levels: LevelsReader) -> None:
        """Compare the inputs of plans with these grey values and this sample."""
        self._inputs = MeasuredInputs(levels, self._settings, _WORDS)

    def mark(self) -> None:
        """Show a note if the plan does not belong to what is chosen and shown."""
        note = ""
        if self.text.text() and self._inputs is not None:
            chosen = self._settings.image.layer()
            note = self._layers.note(chosen) or self._edited or self._inputs.note()
            note = note or self._changed_setting()
        self.stale_note.setText(f"\N{WARNING SIGN} {note}" if note else "")
        self.stale_note.setVisible(bool(note))

    def _on_layers(self) -> None:
        """Put the spots where their image is."""
        for layer in list(_spots):
            spots = self._spots_of(layer)
            if spots is None or layer not in self._viewer.layers:
                continue
            for name, value in same_place(layer).items():
                if not np.array_equal(getattr(spots, name), value):
                    setattr(spots, name, value)
        self.mark()

    def _spots_of(self, image: Layer) -> Labels | None:
        """Return the layer with the spots of an image, if it is open."""
        reference = _spots.get(image)
        layer = None if reference is None else reference()
        return layer if layer is not None and layer in self._viewer.layers else None

    def _on_removed(self, event: QEvent) -> None:
        """Remove the spots of an image that was removed, after napari has finished."""
        if (reference := _spots.pop(event.value, None)) is not None:
            self._orphans.append(reference)
            self._cleaning.start(0)

    def _remove_orphans(self) -> None:
        while self._orphans:
            layer = self._orphans.pop()()
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _requested(self) -> dict[str, str]:
        """Return the contents of the fields, by their name in sentences."""
        return {
            "spot": self.spot.text().strip(),
            "precision": self.precision.text().strip(),
            "type of scan": self.scan.currentText(),
        }

    def _changed_setting(self) -> str:
        """Return a note if a field has changed since the plan; empty if none has."""
        now = self._requested().items()
        changed = [name for name, value in now if value != self._before[name]]
        if not changed:
            return ""
        were = "was" if len(changed) == 1 else "were"
        return _WORDS.changed(f"The {' and '.join(changed)} {were}")

    def _on_edited(self, _value: object) -> None:
        self.clear_faults()
        self.mark()

    def show_faults(self, error: Exception) -> list[QWidget]:
        """Show an error below the fields that it concerns, and return these fields."""
        self.clear_faults()
        texts, shown = texts_by_field(error), list[QWidget]()
        for name in self._editors.keys() & texts.keys():
            text = in_words_of_dock(texts[name].replace(*_ONE_SPOT), self)
            self._faults.add(name, self._editors[name], text)
            shown.append(self._editors[name])
        return shown

    def clear_faults(self) -> None:
        """Remove the errors below the fields."""
        self._faults.clear()

    @property
    def faults(self) -> dict[str, str]:
        """Errors below the fields, by the name of the setting."""
        return self._faults.texts

    def image(self) -> Layer | None:
        """Return the image of the latest plan, if it still exists."""
        return None if self._scanned is None else self._scanned[0]()

    def _is_of_chosen_image(self) -> bool:
        scanned = self.image()
        return scanned is not None and scanned is self._settings.image.layer()

    def config(self) -> PlanConfig:
        """Return the settings of a plan.

        Raises
        ------
        ConfigError
            If the text of a field is invalid.
        """
        measuring = self._settings.config()
        return PlanConfig.create(
            spot=self.spot.text(),
            precision=self.precision.text(),
            scan=_SCANS[self.scan.currentText()],
            threshold=measuring.threshold,
            phase=measuring.phase,
            local_window=measuring.local_window,
            hysteresis=measuring.hysteresis,
            sample_mask=measuring.sample_mask,
            mask_closing=measuring.mask_closing,
            connectivity=measuring.connectivity,
            memory=measuring.memory,
        )

    def start(
        self,
        activity: Activity,
        on_step: Callable[[Step], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Plan the spots from the chosen image, in a worker."""
        layer, mask = self._settings.image.layer(), self._settings.sample.layer()

        def fail(error: Exception) -> None:
            self._edits.end()
            if not isinstance(error, Cancelled):
                self._clear(layer)
            on_error(error)

        try:
            if layer is None:
                raise ConfigError("No layer is selected. Open an image first.")
            config = self.config()
            volume = volume_from_layer(layer, self._viewer)
            sample = sample_volume(mask, layer, self._viewer)
            if sample is not None:
                align_mask(sample, one_volume(volume))  # refuses a misfit
        except GeoSRError as error:
            fail(error)
            return
        self._scanned = (weakref.ref(layer), without_voxels(volume))
        self._position = chosen_position(layer, self._viewer)
        if self._inputs is not None:
            self._inputs.begin(config)
        self._request = self._request_text(config, mask)
        self._edits.begin([layer, mask])
        activity.start(
            "plan",
            lambda should_stop: plan_steps(
                volume, config, sample, should_stop=should_stop
            ),
            partial(self._show, self._requested()),
            on_step=on_step,
            on_error=fail,
            description=f"Planning scans of {layer.name}",
        )

    def _request_text(self, config: PlanConfig, mask: Layer | None) -> str:
        """Return what a plan is for: settings, sample, time point and channel."""
        threshold = config.threshold
        if not isinstance(threshold, str):
            threshold = f"{threshold:g}"
        sample = "no sample mask"
        if mask is not None:
            sample = f"sample {mask.name!r}"
        elif config.sample_mask != "none":
            sample = f"sample {config.sample_mask}"
        parts = [
            f"spot {self.spot.text()}",
            f"precision {self.precision.text()}",
            f"scan of {self.scan.currentText()}",
            f"threshold {threshold}",
            sample,
            position_text(self._position),
        ]
        return f"Planned for: {', '.join(part for part in parts if part)}"

    def _clear(self, layer: Layer | None) -> None:
        """Remove the plan and the spots of an image, because a new plan failed."""
        self.text.setText("")
        self.mark()
        spots = None if layer is None else self._spots_of(layer)
        if spots is not None:
            self._viewer.layers.remove(spots)

    def _show(self, requested: dict[str, str], plan: ScanPlan) -> None:
        """Show the plan if its image is chosen, and the spots if its layer is open."""
        self._before, edited = requested, self._edits.end()
        self._edited = edit_warning(edited, "plan", "this plan", _WORDS.again)
        rows = (f"{label}: {keep_numbers_whole(text)}" for label, text in plan.rows())
        lines = [keep_numbers_whole(self._request), *rows]
        self.text.setText("\n".join(lines) if self._is_of_chosen_image() else "")
        self.planned.emit()
        assert self._scanned is not None
        reference, volume = self._scanned
        if self._inputs is not None:
            self._inputs.finish()
        scans = PlannedScans({"data": volume}, {"data": self._position})
        self._layers.set_measured(scans, {"data": reference})
        self.mark()
        layer = reference()
        if layer is not None and layer in self._viewer.layers:
            if (earlier := self._spots_of(layer)) is not None:
                self._viewer.layers.remove(earlier)
            if plan.spots:
                self._add_spots(layer, volume, plan)

    def _add_spots(self, layer: Layer, volume: Volume, plan: ScanPlan) -> Labels:
        """Outline the spots in every slice; number them from the least porous."""
        ndim = len(volume.voxel_size)
        size, origin = np.array(volume.voxel_size), np.array(volume.origin)
        centres = np.array([spot.centre[3 - ndim :] for spot in plan.spots])
        edges = plan.spot_edge / size
        starts = np.rint((centres - origin) / size - (edges - 1) / 2).astype(int)
        name = f"{layer.name} · spots"
        if position := position_text(self._position):
            name += f" ({position})"
        words = {"T": "time", "C": "channel"}
        axes = geometry_of_layer(layer).axes[: layer.ndim - ndim]
        at = [self._position.get(words.get(axis, "")) for axis in axes]
        shape, whole = layer.data.shape, np.rint(edges).astype(int)
        array = SpotArray(shape, starts, whole, at)
        porosities = [spot.porosity for spot in plan.spots]
        shown = add_described_labels(
            self._viewer,
            array,
            lambda label: spot_text(label, porosities),
            name=name,
            colormap=spot_colormap(),
            features={  # row 0 is the background
                "index": [0, *(spot.stratum for spot in plan.spots)],
                "porosity": [np.nan, *porosities],
            },
            metadata=helper_metadata("spots"),
            contour=_CONTOUR,
            editable=False,
            **same_place(layer),
        )
        _spots[layer] = weakref.ref(shown)
        return shown


@dataclass(frozen=True)
class PlannedScans:
    """The volume that was planned from, without voxels, and its time point."""

    volumes: Mapping[str, Volume]
    origins: Mapping[str, AnyDict]


def spot_text(label: int, porosities: Sequence[float]) -> str:
    """Describe a spot by its number and its porosity."""
    if not 0 < label <= len(porosities):
        return "no spot"
    return f"spot {label}: porosity {percent_text(porosities[label - 1])}"


def spot_colormap() -> DirectLabelColormap:
    """Return a colormap with one colour for all spots."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={0: "transparent", None: _COLOUR})


class SpotArray:
    """A lazy label array of boxes; each part is computed when it is requested.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array, including leading axes that the boxes lack, such as time.
    starts : ndarray of shape (n, ndim), int
        First voxels of the boxes.
    edges : ndarray of shape (ndim,), int
        Edge lengths of the boxes, in voxels.
    at : sequence of int or None, optional
        Positions along the leading axes at which the boxes are; None for all positions
        along an axis.
    """

    def __init__(
        self,
        shape: Sequence[int],
        starts: npt.NDArray[np.int64],
        edges: npt.NDArray[np.int64],
        at: Sequence[int | None] = (),
    ) -> None:
        self._starts, self._edges = starts, edges
        self._at = tuple(at) or (None,) * (len(shape) - len(edges))
        self.shape = tuple(int(n) for n in shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))
        self.dtype = np.dtype(np.uint16 if len(starts) < 2**16 else np.uint32)

    def __getitem__(self, key: Key | tuple[Key, ...]) -> npt.NDArray[np.generic]:
        keys = list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (self.ndim - len(keys))
        places = [np.arange(n)[k] for n, k in zip(self.shape, keys, strict=True)]
        found = np.zeros([len(p) for p in places if p.ndim], self.dtype)
        n_leading = self.ndim - len(self._edges)
        near = np.ones(len(self._starts), bool)
        first, last = np.zeros((2, *self._starts.shape), int)
        for i, (p, edge) in enumerate(
            zip(places[n_leading:], self._edges, strict=True)
        ):
            first[:, i], last[:, i] = _ranges(
                np.atleast_1d(p), self._starts[:, i], edge
            )
            near &= first[:, i] < last[:, i]
        lead = []
        for p, here in zip(places[:n_leading], self._at, strict=True):
            hits = np.flatnonzero((np.atleast_1d(p) == here) | (here is None))
            if not hits.size:
                return found
            if p.ndim:
                lead.append(slice(int(hits[0]), int(hits[-1]) + 1))
        kept = [i for i, p in enumerate(places[n_leading:]) if p.ndim]
        for number in np.flatnonzero(near):
            ends = zip(first[number, kept], last[number, kept], strict=True)
            box = [slice(low, high) for low, high in ends]
            found[(*lead, *box)] = number + 1
        return found

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        return np.asarray(self[(slice(None),) * self.ndim], dtype=dtype)


def _ranges(
    places: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], edge: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which places, evenly spaced, are in each box: the first, and one more."""
    if len(places) > 1 and places[0] > places[-1]:
        first, last = _ranges(places[::-1], starts, edge)
        return len(places) - last, len(places) - first
    return np.searchsorted(places, starts), np.searchsorted(places, starts + edge)
