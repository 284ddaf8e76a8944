"""One napari window for most tests, because opening and closing one takes a second."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import napari
from app_model import Application
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.qt_viewer import QtViewer
from napari._qt.widgets.qt_viewer_buttons import QtViewerPushButton
from napari._vispy import canvas
from napari.components import Dims, ViewerModel
from napari.plugins import _initialize_plugins
from napari.settings import get_settings
from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QThreadPool
from qtpy.QtWidgets import QApplication, QDockWidget, QWidget
from vispy.gloo.glir import GlirProgram

#: Lists of a viewer that docks may add functions to.
_MOUSE = (
    "mouse_move_callbacks",
    "mouse_drag_callbacks",
    "mouse_wheel_callbacks",
    "mouse_double_click_callbacks",
)

#: Number of axes of an empty viewer. Most tests add a volume; the sliders of its axes,
#: which are slow to create, then exist already.
_USUAL_AXES = 3
#: Number of tests after which garbage is collected, which takes 0.1 s.
_COLLECTED_AFTER = 8


class SharedViewer:
    """A viewer that is shown once and emptied after each test.

    It checks that a test leaves no dock that was not destroyed, and no methods that are
    still connected to the viewer's events.
    """

    def __init__(self) -> None:
        self._app = NapariApplication("shared_app")
        self._app.injection_store.namespace = _napari_names
        with self._as_model(), patch_of_napari():
            self.viewer = napari.Viewer(show=True, show_welcome_screen=False)
        # Mesa's software renderer (22.3) can crash at the next draw after a program was
        # deleted, as happens whenever a layer is removed. A window that closes soon is
        # rarely affected; this one stays open, so it keeps the programs.
        self._patches = ExitStack()
        self._patches.enter_context(patch.object(GlirProgram, "delete"))
        # Whenever a layer is removed, napari collects all garbage, for some drivers on
        # Windows; whenever another one is selected, it restyles three of its buttons.
        # Together, this takes a twelfth of the time of all dock tests.
        self._patches.enter_context(patch.object(canvas, "gc"))
        self._patches.enter_context(patch.object(QtViewerPushButton, "_refresh_qss"))
        # napari's own fixture would report it as a leak of its test.
        QtViewer._instances.clear()
        self._window = self.viewer.window._qt_window
        self._docks = set(self._window.findChildren(QDockWidget))
        self._window.resize(860, 500)
        QApplication.processEvents()
        self._size = self._window.size()
        leave_out_of_collections()
        self._mouse = {name: list(getattr(self.viewer, name)) for name in _MOUSE}
        get_settings().reset()
        self._n_tests = 0

    @contextmanager
    def _as_model(self) -> Iterator[None]:
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
        with patch.object(NapariApplication, "get_app_model", return_value=self._app):
            yield

    @contextmanager
    def lent(self) -> Iterator[napari.Viewer]:
        """Lend the viewer to a test, and empty it afterwards."""
        assert isalive(self._window), "a test closed it: there, make_napari_viewer"
        with patch.object(NapariApplication, "get_app_model", return_value=self._app):
            self._window.activateWindow()
            yield self.viewer
            assert isalive(self._window), "closed: make a viewer of its own"
            self._empty()

    def _empty(self) -> None:
        viewer = self.viewer
        # Do not draw while items are removed one by one.
        self._window.setUpdatesEnabled(False)
        docks = list(self._remove_docks())
        for dock in docks:
            dock.close()
            dock.deleteLater()
        # Wait for workers of closed docks; otherwise those of the next test would wait.
        QThreadPool.globalInstance().waitForDone(10_000)
        # Reset the axes once, not for each layer.
        with patch.object(ViewerModel, "_on_layers_change"):
            viewer.layers.clear()
        viewer._layers_had_custom_axis_labels = False
        viewer.dims.update(Dims(ndim=_USUAL_AXES).model_dump())
        viewer.reset_view()
        for name, callbacks in self._mouse.items():
            getattr(viewer, name)[:] = callbacks
        get_settings().reset()
        self._window.resize(self._size)
        _run_events()
        self._window.setUpdatesEnabled(True)
        self._n_tests += 1
        if self._n_tests % _COLLECTED_AFTER == 0:
            leave_out_of_collections()
        assert not [dock for dock in docks if isalive(dock)], "a dock is still there"
        listeners = list(self._disconnected_docks())
        assert not listeners, f"docks still listen to the viewer: {listeners}"

    def _remove_docks(self) -> Iterator[QWidget]:
        for dock in self._window.findChildren(QDockWidget):
            if dock in self._docks:
                continue
            widget = dock.widget()
            dock.setFloating(False)
            self.viewer.window.remove_dock_widget(dock)
            if widget is not None:
                yield widget
        # Docks that a test took out of the window.
        for widget in QApplication.topLevelWidgets():
            if type(widget).__module__.startswith("napari_geosr"):
                yield widget

    def _disconnected_docks(self) -> Iterator[str]:
        """Events of the viewer that objects of the plugin were connected to.

        They are disconnected, so that a leak of one test does not fail all others.
        """
        viewer = self.viewer
        groups = (
            viewer.layers.events,
            viewer.layers.selection.events,
            viewer.dims.events,
            viewer.events,
        )
        for events in groups:
            for name, emitter in events.emitters.items():
                for callback in tuple(emitter.callbacks):
                    owner = _owner(callback)
                    if type(owner).__module__.startswith("napari_geosr"):
                        emitter.disconnect(callback)
                        yield f"{type(owner).__name__}: {name}"

    def close(self) -> None:
        """Close the window, at the end of all tests."""
        self._patches.close()
        with (
            patch.object(NapariApplication, "get_app_model", return_value=self._app),
            patch.object(self._window, "_save_current_window_settings"),
        ):
            self.viewer.close()
        Application.destroy("shared_app")


def leave_out_of_collections() -> None:
    """Exclude existing objects when napari collects all garbage.

    It does so whenever a layer is removed; with the objects that hundreds of tests have
    left in caches, this would take a third of the time of all tests.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def patch_of_napari() -> Iterator[None]:
    """Disable the status thread and the console, like napari's own fixture."""
    with patch("napari._qt.threads.status_checker.StatusChecker.start"):
        yield


def _owner(callback: Any) -> object | None:
    """The owner of a method; None for functions and for deleted owners."""
    if isinstance(callback, tuple):
        callback = callback[0]
        return callback() if isinstance(callback, weakref.ref) else callback
    return getattr(callback, "__self__", None)


def _run_events() -> None:
    for _ in range(2):
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
