"""Buttons of the Restore dock that compare a result with its scan."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import COMPARE
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    geometry,
    layer_metadata,
    volume_beside,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import remove_in_place
from napari_geosr.gui.layers.questions.record import mark_misfit
from napari_geosr.operations.restore.consistency import (
    ConsistencyCheck,
    consistency_steps,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer, Points

    _References = tuple[weakref.ref[Image], weakref.ref[Image]]

#: Contrast limits of the residual, in standard deviations of the noise.
_LIMIT = 4.0
#: Message kind for each level of a verdict.
_KINDS = {"ok": "ok", "caution": "warning", "harmful": "misfit"}
#: Diameter of the marks on suspicious regions, in voxels of the scan.
_MARK_SIZE = 9


class CheckButton(QPushButton):
    """Adds the residual of a result, and marks regions that noise does not explain.

    Signals
    -------
    checked_result : ConsistencyCheck, str
        The findings, and the name of the result if it is not the current one.
    failed : object
        The error that prevented the check.
    """

    checked_result = Signal(object, str)
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__("Check consistency with the scan", parent)
        self.setToolTip(
            "Simulate a scan from the result and show the residual as a layer. "
            "Regions that noise cannot explain are marked (Alt+Shift+C)."
        )
        self.setAccessibleName("Check consistency with the scan")
        self.setShortcut("Alt+Shift+C")
        self._viewer = viewer
        self._pair: _References | None = None
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)
        self.activity.busyChanged.connect(lambda what: self.setEnabled(not what))
        #: Pairs of a checked result and a layer that the check added for this result.
        self._added: list[tuple[weakref.ref[Image], weakref.ref[Layer]]] = []
        self.clicked.connect(self.check)
        self.setVisible(False)

    def set_pair(self, source: Image | None, result: Image | None) -> None:
        """Set the pair to compare; with None, hide the button."""
        if source is None or result is None:
            self._pair = None
        else:
            self._pair = weakref.ref(source), weakref.ref(result)
        self.setVisible(self._pair is not None)

    def check(self) -> None:
        """Compare the pair in a worker, unless a comparison is running."""
        if self._pair is None or self.activity.busy:
            return
        source, result = (reference() for reference in self._pair)
        if source is None or result is None:
            self.set_pair(None, None)
            return
        position = result.metadata.get(METADATA, {}).get("position")
        try:
            scan = volume_from_layer(source, self._viewer, position)
            restored = volume_beside(result, source, self._viewer)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.activity.start(
            "check",
            lambda stop: consistency_steps(scan, restored, should_stop=stop),
            # Bind the pair: another pair may be set before the check ends.
            partial(self._on_checked, self._pair, source, restored.name),
            description=f"Checking {result.name}",
        )

    def _on_checked(
        self,
        pair: _References,
        source: Image,
        name: str,
        checked: ConsistencyCheck,
    ) -> None:
        self._remove_earlier(pair[1])
        limit = _LIMIT * (checked.figures.noise or checked.figures.residual_rms) or 1.0
        active = self._viewer.layers.selection.active
        layer = add_image_result(
            self._viewer,
            checked.residual,
            source,
            colormap="PiYG",
            contrast_limits=(-limit, limit),
            gamma=1.0,
        )
        layer.metadata[METADATA]["residual_of"] = source.name
        self._added.append((pair[1], weakref.ref(layer)))
        if checked.figures.places:
            marks = self._add_marks(checked, source)
            self._added.append((pair[1], weakref.ref(marks)))
        if active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        layer.refresh()
        restored = pair[1]()
        if restored is not None:
            verdict = checked.verdict
            mark_misfit(
                restored, verdict.sentence if verdict.level == "harmful" else ""
            )
        self.checked_result.emit(checked, "" if self._pair == pair else name)

    def hide_layers(self, hidden: bool = True) -> None:
        """Hide residuals and marks, which would cover the layers to compare."""
        for _, reference in self._added if hidden else ():
            layer = reference()
            if layer is not None:
                layer.visible = False

    def _remove_earlier(self, result: weakref.ref[Image]) -> None:
        """Remove the layers that an earlier check of the same result added."""
        for checked, reference in self._added:
            layer = reference()
            if checked is result and layer in self._viewer.layers:
                remove_in_place(self._viewer, layer)
        self._added = [each for each in self._added if each[1]() is not None]

    def _add_marks(self, checked: ConsistencyCheck, source: Image) -> Points:
        volume, places = checked.residual, checked.figures.places
        ndim = len(volume.shape)
        marks: Points = self._viewer.add_points(
            np.array([place.index[-ndim:] for place in places], float),
            **geometry(volume),
            **alignment_with(source),
            name=f"{volume.name}: suspicious regions",
            size=_MARK_SIZE,
            symbol="disc",
            face_color="transparent",
            border_color="orange",
            border_width=0.15,
            features={
                "strength": [place.strength for place in places],
                "voxels": [place.voxels for place in places],
                "result_is": [place.result_is for place in places],
            },
            metadata=layer_metadata(volume),
        )
        return marks


class CheckVerdict(MessageRow):
    """The verdict of the check; its *Details* button shows all findings.

    Signals
    -------
    contradicted
        The current result is not consistent with the scan.
    """

    contradicted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, shortcut="Alt+Shift+E")

    def show_check(self, checked: ConsistencyCheck, name: str = "") -> None:
        """Show the findings.

        Parameters
        ----------
        name : str
            Name of the result, if it is not the current one.
        """
        verdict = checked.verdict
        figures = "\n".join(f"{line}." for line in checked.figure_lines())
        self.show_message(
            f"{name}: {verdict.sentence}" if name else verdict.sentence,
            _KINDS[verdict.level],
            "\n\n".join([*checked.sentences, figures]),
        )
        if not name and verdict.level != "ok":
            self.contradicted.emit()


class CompareButton(QPushButton):
    """Opens the Compare dock with a result and its scan checked in the list."""

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__("Compare…", parent)
        self.setShortcut("Alt+Shift+A")
        self.setToolTip(
            "Open the Compare dock with the restored layer and its scan, to see "
            "quality metrics and the pores that differ (Alt+Shift+A)."
        )
        self.setAccessibleName("Compare")
        self._viewer = viewer
        self._pair: tuple[weakref.ref[Image], weakref.ref[Image]] | None = None
        self.clicked.connect(self._on_click)
        self.setVisible(False)

    def set_pair(self, source: Image | None, result: Image | None) -> None:
        """Set the pair to compare; with None, hide the button."""
        self._pair = None
        if source is not None and result is not None:
            self._pair = weakref.ref(source), weakref.ref(result)
        self.setVisible(self._pair is not None)

    def _on_click(self) -> None:
        layers = [] if self._pair is None else [ref() for ref in self._pair]
        there = [layer for layer in layers if layer in self._viewer.layers]
        open_dock(self._viewer, COMPARE, lambda dock: dock.choose_images(*there))
