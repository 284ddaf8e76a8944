"""If a layer is removed between two paints, the others are still drawn."""

from __future__ import annotations

import gc

import numpy as np
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtGui import QOpenGLContext
from qtpy.QtOpenGLWidgets import QOpenGLWidget

from napari_geosr.gui.kit.dock import CanvasContext, Dock


def colours(colour: str) -> DirectLabelColormap:
    return DirectLabelColormap(color_dict={0: "transparent", 1: colour, None: colour})


def test_new_textures_survive_that_another_layer_is_removed(viewer, qtbot):
    image = viewer.add_image(np.eye(8))
    labels = viewer.add_labels(
        np.eye(8, dtype=np.uint8), colormap=colours("red"), opacity=1.0
    )
    dock = Dock(viewer)
    viewer.window.add_dock_widget(dock)
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.window.screenshot(flash=False)
    # Textures are waiting to be deleted and created when the layer is removed.
    labels.colormap = colours("blue")
    gc.collect()
    labels.colormap = colours("lime")
    canvas = viewer.window._qt_window.findChild(QOpenGLWidget)
    canvas.doneCurrent()  # as after any paint
    viewer.layers.remove(image)
    picture = viewer.window.screenshot(flash=False, canvas_only=True)
    red, green, _ = np.moveaxis(picture[..., :3].astype(int), -1, 0)
    assert np.any(green > red + 100)


def test_only_canvases_in_the_window_of_the_dock_are_made_current(viewer, qtbot):
    qtbot.waitExposed(viewer.window._qt_window)
    viewer.window.screenshot(flash=False)
    canvas = viewer.window._qt_window.findChild(QOpenGLWidget)
    assert canvas.isValid()
    canvas.doneCurrent()
    dock = Dock(viewer)
    context: CanvasContext = dock._canvas
    context.make_current()  # of a dock outside a window
    assert QOpenGLContext.currentContext() is None
    viewer.window.add_dock_widget(dock)
    context.make_current()
    assert QOpenGLContext.currentContext() is canvas.context()
    canvas.doneCurrent()
