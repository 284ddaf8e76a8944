"""A menu of the viewer's layers that is kept up to date."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from napari_geosr.gui.kit.lifetime import Connections

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer


#: Minimum width, in pixels; Qt's default leaves room for the whole placeholder.
_MIN_WIDTH = 96
#: Text shown while no layer can be chosen.
_NOTHING_TO_LIST = "None suitable"


class ElidingCombo(QComboBox):
    """A menu that shortens an entry that does not fit, by default in the middle."""

    #: Position at which a long entry is shortened.
    elide_mode = Qt.TextElideMode.ElideMiddle

    def shown_text(self) -> str:
        """Return the chosen entry, shortened to the available width."""
        option = self._option()
        style = self.style()
        assert style is not None
        field = QStyle.SubControl.SC_ComboBoxEditField
        complex_control = QStyle.ComplexControl.CC_ComboBox
        room = style.subControlRect(complex_control, option, field, self).width()
        return self._shortened(self.currentText() or self._empty_text(), room - 2)

    def _shortened(self, text: str, room: int) -> str:
        """Shorten a text so that it fits into `room` pixels."""
        return str(self.fontMetrics().elidedText(text, self.elide_mode, room))

    def paintEvent(self, _event: QPaintEvent | None) -> None:
        """Draw the combo box as usual, with a shortened name."""
        painter = QStylePainter(self)
        option = self._option()
        option.currentText = self.shown_text()
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()

    def _option(self) -> QStyleOptionComboBox:
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        return option

    def _empty_text(self) -> str:
        """Return the text shown while no entry is chosen; by default nothing."""
        return str(self.placeholderText()) if self.count() else ""


class LayerCombo(ElidingCombo):
    """Lists the layers that `accept` allows; keeps the choice as layers come and go.

    A layer that is hidden when it is selected automatically is kept only until a
    visible one can be selected, because users expect to work on what they see. A layer
    hidden later is kept: docks themselves hide layers to compare others.

    Long names are shortened in the middle, as in napari's list, because the names of a
    scan and its results begin with the same text.

    Parameters
    ----------
    accept : callable
        Returns whether a layer can be chosen.
    fixed : sequence of str
        Entries above the layers, which do not represent layers.
    proposes : callable, optional
        Returns whether a layer may be selected automatically; by default, all may.

    Signals
    -------
    layerChanged
        Another entry is chosen, by the user or because the layers changed. If napari's
        list changed, the signal is emitted after napari has finished: until then, its
        layer indices are stale, and adding or removing layers is unsafe.
    """

    layerChanged = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        accept: Callable[[Layer], bool],
        *,
        fixed: tuple[str, ...] = (),
        proposes: Callable[[Layer], bool] = lambda _layer: True,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accept, self._fixed = viewer, accept, fixed
        self._proposes = proposes
        self._texts: dict[str, str] = {}
        self.setPlaceholderText("Choose a layer")
        self._layers: list[weakref.ref[Layer]] = []
        self._is_stopgap = False
        self._notifying = QTimer(self)
        self._notifying.setSingleShot(True)
        self._notifying.timeout.connect(self.layerChanged)
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(8)
        self.setMinimumWidth(_MIN_WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._connections = Connections(self)
        events = viewer.layers.events
        for name in ("inserted", "removed", "reordered"):
            self._connections.connect(getattr(events, name), self._on_layers)
        self._connections.connect(events.renamed, self._on_layers)
        self._fill(None)
        self.currentIndexChanged.connect(self._on_index)
        self.activated.connect(self._settle)

    def layer(self) -> Layer | None:
        """Return the chosen layer; None for a fixed entry or an empty list."""
        i = self.currentIndex() - len(self._fixed)
        return self._layers[i]() if 0 <= i < len(self._layers) else None

    def fixed_entry(self) -> str | None:
        """Return the chosen fixed entry; None if a layer is chosen."""
        i = self.currentIndex()
        return self._fixed[i] if 0 <= i < len(self._fixed) else None

    def set_layer(self, layer: Layer | None) -> None:
        """Choose `layer` if it is listed; None chooses the first entry."""
        self._settle()
        known = [ref() for ref in self._layers]
        if layer is None:
            self.setCurrentIndex(0 if self.count() else -1)
        elif layer in known:
            self.setCurrentIndex(len(self._fixed) + known.index(layer))

    def set_text(self, entry: str, text: str) -> None:
        """Show another text for a fixed entry, which keeps its name."""
        self._texts[entry] = text
        self.setItemText(self._fixed.index(entry), text)

    def propose_layer(self, layer: Layer) -> None:
        """Choose `layer`; if it is hidden, only until a visible one can be chosen."""
        self.set_layer(layer)
        self._is_stopgap = not layer.visible

    @property
    def is_stopgap(self) -> bool:
        """Whether a hidden layer is chosen only because no other one was visible."""
        layer = self.layer()
        return self._is_stopgap and layer is not None and not layer.visible

    def _empty_text(self) -> str:
        """Return the text that explains why the list is empty."""
        return super()._empty_text() if self.count() else _NOTHING_TO_LIST

    def refresh(self) -> None:
        """Refill the list; call this when the results of `accept` may have changed."""
        if self._refill():
            self.layerChanged.emit()

    def _fill(self, keep: Layer | None) -> None:
        entry_index = self.currentIndex()
        layers = [layer for layer in self._viewer.layers if self._accept(layer)]
        is_replaced = not self._fixed and self._is_replaced(layers)
        self._layers = [weakref.ref(layer) for layer in layers]
        self.clear()
        names = (" ".join(layer.name.splitlines()) for layer in layers)
        texts = (self._texts.get(entry, entry) for entry in self._fixed)
        self.addItems([*texts, *names])
        if keep is not None and keep in layers and not is_replaced:
            self.setCurrentIndex(len(self._fixed) + layers.index(keep))
        elif self._fixed:
            is_fixed = 0 <= entry_index < len(self._fixed)
            self.setCurrentIndex(entry_index if is_fixed else 0)
        else:
            layer = self._proposal(layers)
            self._is_stopgap = layer is not None and not layer.visible
            self.setCurrentIndex(-1 if layer is None else layers.index(layer))

    def _proposal(self, layers: list[Layer]) -> Layer | None:
        """Return the layer to select automatically: a visible one, if there is one."""
        proposed = [layer for layer in layers if self._proposes(layer)]
        proposed = [layer for layer in proposed if layer.visible] or proposed
        active = self._viewer.layers.selection.active
        return active if active in proposed else next(reversed(proposed), None)

    def _is_replaced(self, layers: list[Layer]) -> bool:
        """Whether a visible layer can now replace a hidden one."""
        if not self.is_stopgap:
            return False
        better = self._proposal(layers)
        return better is not None and better.visible

    def _settle(self, _index: int = 0) -> None:
        """Keep the chosen entry from now on."""
        self._is_stopgap = False

    def _on_layers(self, event: object = None) -> None:
        if self._refill():
            self._notifying.start(0)

    def _refill(self) -> bool:
        """Refill the list; return whether the chosen entry has changed."""
        before, entry = self.layer(), self.currentText()
        blocked = self.blockSignals(True)  # the caller may have blocked signals, too
        self._fill(before)
        self.blockSignals(blocked)
        return self.layer() is not before or (
            before is None and self.currentText() != entry
        )

    def _on_index(self, _index: int) -> None:
        self.layerChanged.emit()
