"""Choice of where the noise is measured: in the scan itself, or elsewhere."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QShortcut,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.noise import KNOWN_NOISE, known_noise
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.widgets import text_label
from napari_geosr.gui.kit.worker import MakeSteps
from napari_geosr.gui.layers import finest, is_helper, volume_from_layer
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.layers.geometry import geometry_of_layer, layer_type
from napari_geosr.gui.layers.questions.noise import known_noise_of, set_known_noise
from napari_geosr.operations.inputs.noise_source import (
    NoiseReference,
    with_noise_steps,
)
from napari_geosr.operations.inputs.scan import describe_noise

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.volume import Volume

#: Entry for the scan itself.
_SCAN = ""
#: Entries of the menu, and their tool tips.
_KINDS = {
    _SCAN: ("this scan", "Measure the noise in the scan itself."),
    "second": (
        "second scan",
        "Measure the noise in the difference from a second scan of the same object.",
    ),
    "region": (
        "region",
        "Measure the noise in a region without structure, such as the air around the "
        "object. Paint the region in a Labels layer.",
    ),
    "blank": (
        "blank scan",
        "Measure the noise in a scan without an object, recorded and processed in "
        "the same way; for images, blank frames of the camera.",
    ),
}
_TIP = (
    "Where the noise is measured. If the object has fine texture everywhere, its noise "
    "cannot be told from the texture. Then choose another place (Alt+Shift+H)."
)
_NOT_MEASURED = "Not measured here; the noise is measured in the scan itself."
#: Time from the last edit of a layer to the next measurement, in milliseconds.
_PAUSE_MS = 1000
_MEASURING = "Measuring the noise…"


class NoiseActivity(Activity):
    """Measures the noise of a layer; a new request replaces the previous one."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._next: Callable[[], None] | None = None

    def measure(
        self,
        make_steps: MakeSteps[Volume],
        on_result: Callable[[Volume], None],
        description: str,
    ) -> None:
        """Measure as soon as nothing else is being measured.

        Parameters
        ----------
        make_steps, on_result, description
            As for `Activity.start`.
        """
        self.cancel()
        self._next = partial(
            self.start, "noise", make_steps, on_result, description=description
        )
        self._timer.start(0)

    def stop(self) -> None:
        """Stop measuring."""
        self._next = None
        self.cancel()

    @property
    def is_measuring(self) -> bool:
        """Whether something is being measured, or is about to be."""
        return bool(self.busy or self._next)

    def _start_next(self) -> None:
        start, self._next = self._next, None
        if start is not None:
            start()


@dataclass(eq=False)
class _Place:
    """The layer in which the noise of a scan is measured.

    `key` identifies the voxels that were measured; `is_painted` states whether the user
    has painted on a layer since then.
    """

    kind: str
    layer: weakref.ref[Layer]
    key: tuple[object, ...] = ()
    is_painted: bool = False


class NoiseSourceBox(QWidget):
    """Chooses where the noise of a layer is measured, and measures it there.

    Signals
    -------
    changed
        The noise of the layer has changed.
    failed : object
        The error that prevented the measurement.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: weakref.ref[Image] | None = None
        self._is_running = False
        self.combo = QComboBox()
        for kind, (title, tip) in _KINDS.items():
            self.combo.addItem(title, kind)
            self.combo.setItemData(
                self.combo.count() - 1, tip, Qt.ItemDataRole.ToolTipRole
            )
        self.combo.setAccessibleName("Noise measured in")
        self.combo.setToolTip(_TIP)
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.combo.setMinimumContentsLength(6)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.layer_combo = LayerCombo(viewer, self._accepts, fixed=("Choose a layer",))
        self.layer_combo.setAccessibleName("Layer for the noise")
        self.layer_combo.setToolTip("Layer in which the noise is measured.")
        self.state = text_label("Noise measured elsewhere", _TIP, "")
        self.activity = NoiseActivity(self)
        self.activity.failed.connect(self._on_failed)
        self._places: weakref.WeakKeyDictionary[Layer, _Place] = (
            weakref.WeakKeyDictionary()
        )
        self._edits = Connections(self)
        self._repeat = QTimer(self)
        self._repeat.setSingleShot(True)
        self._repeat.timeout.connect(self._measure_if_edited)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.combo, 1)
        row.addWidget(self.layer_combo, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(self.state)
        shortcut = QShortcut(QKeySequence("Alt+Shift+H"), self)
        shortcut.activated.connect(self.combo.setFocus)
        self.combo.currentIndexChanged.connect(self._on_kind)
        self.layer_combo.layerChanged.connect(self._on_layer)
        self._show("")

    def set_layer(self, layer: Image | None) -> None:
        """Set the scan, and show where its noise was measured."""
        if layer is not self._scan():
            self.activity.stop()
        self._layer = None if layer is None else weakref.ref(layer)
        place = self._place()
        kind = _SCAN if place is None else self._places[layer].kind
        with QSignalBlocker(self.combo), QSignalBlocker(self.layer_combo):
            self.combo.setCurrentIndex(self.combo.findData(kind))
            self.layer_combo.refresh()
            self.layer_combo.set_layer(place)
        self._enable()
        self._watch()
        self._show_known()
        if place is not None:
            self._repeat.start(0)  # in case a layer has been edited since

    def _place(self) -> Layer | None:
        """Return the layer in which the noise of the scan is measured, if it exists."""
        scan = self._scan()
        choice = None if scan is None else self._places.get(scan)
        layer = None if choice is None else choice.layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def set_running(self, is_running: bool) -> None:
        """Disable the choice during a run."""
        self._is_running = is_running
        self._enable()

    def _enable(self) -> None:
        layer = self._scan()
        is_possible = layer is not None and not _has_channels(layer)
        self.setEnabled(is_possible and not self._is_running)

    def _scan(self) -> Image | None:
        return None if self._layer is None else self._layer()

    def _kind(self) -> str:
        return str(self.combo.currentData())

    def _accepts(self, layer: Layer) -> bool:
        """Whether the noise can be measured in a layer, according to its type."""
        scan, kind = self._scan(), self._kind()
        if scan is None or layer is scan or is_helper(layer) or kind == _SCAN:
            return False
        if kind == "region":
            return layer_type(layer) == "labels" and _same_planes(layer, scan)
        if layer_type(layer) != "image" or getattr(layer, "rgb", False):
            return False
        return kind == "blank" or finest(layer).shape == finest(scan).shape

    def _on_kind(self) -> None:
        with QSignalBlocker(self.layer_combo):
            self.layer_combo.refresh()
            self.layer_combo.set_layer(None)
        self._forget()

    def _forget(self) -> None:
        """Discard the noise measured elsewhere."""
        self.activity.stop()
        scan = self._scan()
        if scan is not None:
            self._places.pop(scan, None)
        self._watch()
        self._show("")
        if scan is not None and known_noise_of(scan) is not None:
            set_known_noise(scan, None)
            self.changed.emit()

    def _on_layer(self) -> None:
        scan, other = self._scan(), self.layer_combo.layer()
        if scan is None or other is None:
            self._forget()
            return
        self._places[scan] = _Place(self._kind(), weakref.ref(other))
        self._watch()
        self._measure()

    def _measure(self) -> None:
        """Measure the noise in the chosen layer."""
        self.activity.stop()
        scan, place = self._scan(), self._place()
        if scan is None or place is None:
            return
        choice = self._places[scan]
        choice.key, choice.is_painted = self._key(scan, place), False
        try:
            volume = volume_from_layer(scan, self._viewer)
            metadata = {k: v for k, v in volume.metadata.items() if k != KNOWN_NOISE}
            found = volume_from_layer(place, self._viewer, whole=self._is_stack(place))
            reference = NoiseReference(choice.kind, found)  # type: ignore[arg-type]
        except GeoSRError as error:
            self._on_failed(error)
            return
        self._show(_MEASURING)
        bare = volume.replace(metadata=metadata)
        self.activity.measure(
            lambda stop: with_noise_steps(bare, reference, stop),
            partial(self._on_measured, weakref.ref(scan), contents_key(scan)),
            f"Measuring the noise of {scan.name}",
        )

    def _key(self, scan: Layer, place: Layer) -> tuple[object, ...]:
        """Return a key that changes with the voxels of both layers."""
        return contents_key(scan), contents_key(place)

    def _watch(self) -> None:
        """Notice edits of the scan, and of the layer in which the noise is measured."""
        self._edits.end()
        scan, place = self._scan(), self._place()
        if scan is None or place is None:
            return
        for layer in (scan, place):
            self._edits.connect(layer.events.set_data, self._on_edited)
        if hasattr(place.events, "paint"):
            self._edits.connect(place.events.paint, self._on_painted)

    def _on_edited(self, _event: object = None) -> None:
        self._repeat.start(_PAUSE_MS)

    def _on_painted(self, _event: object = None) -> None:
        scan = self._scan()
        if scan is not None and scan in self._places:
            self._places[scan].is_painted = True  # a small stroke changes no key
        self._repeat.start(_PAUSE_MS)

    def _measure_if_edited(self) -> None:
        scan, place = self._scan(), self._place()
        if scan is None or place is None:
            return
        choice = self._places[scan]
        if choice.is_painted or choice.key != self._key(scan, place):
            self._measure()

    def _is_stack(self, layer: Layer) -> bool:
        """Whether all time points of a layer are used, as frames of a blank scan."""
        return self._kind() == "blank" and "T" in geometry_of_layer(layer).axes

    def _on_measured(
        self, scan: weakref.ref[Image], key: tuple[object, ...], volume: Volume
    ) -> None:
        layer, known = scan(), known_noise(volume.metadata)
        if layer is None or known is None:
            return
        set_known_noise(layer, known, key)
        if layer is self._scan():
            self._show_known()
            self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        """Show the error; the noise is measured again when the layer is edited."""
        scan = self._scan()
        self._show(_NOT_MEASURED)
        if scan is not None and known_noise_of(scan) is not None:
            set_known_noise(scan, None)
            self.changed.emit()
        self.failed.emit(error)

    def _show_known(self) -> None:
        scan = self._scan()
        known = None if scan is None else known_noise_of(scan)
        self._show("" if known is None else describe_noise(known.noise))

    def _show(self, text: str) -> None:
        self.layer_combo.setVisible(self._kind() != _SCAN)
        self.state.setText(text)
        self.state.setVisible(bool(text))


def _has_channels(layer: Layer) -> bool:
    place = geometry_of_layer(layer)
    return "C" in place.axes and finest(layer).shape[place.axes.index("C")] > 1


def _same_planes(layer: Layer, scan: Layer) -> bool:
    """Whether a mask has the shape of one time point of the scan."""
    own, others = tuple(finest(layer).shape), tuple(finest(scan).shape)
    return own == others[len(others) - len(own) :]
