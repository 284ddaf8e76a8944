"""Connections made by a widget end with the widget."""

from __future__ import annotations

import gc
import weakref

from qtpy.QtCore import QObject

from napari_geosr.gui.kit.lifetime import Connections


class Holder:
    """An object with a list of callbacks, like a viewer."""

    def __init__(self):
        self.callbacks = []


def test_callbacks_are_taken_out_with_the_widget(qtbot):
    holder, called = Holder(), []
    holder.callbacks.append(print)
    for _ in range(3):
        widget = QObject()
        Connections(widget).add_to(holder, "callbacks", called.append)
        assert len(holder.callbacks) == 2
        holder.callbacks[1]("pressed")
        widget.deleteLater()
        qtbot.waitUntil(lambda: len(holder.callbacks) == 1, timeout=5_000)
    assert called == ["pressed"] * 3
    assert holder.callbacks == [print]


def test_a_list_may_go_first(qtbot):
    widget, holder = QObject(), Holder()
    Connections(widget).add_to(holder, "callbacks", print)
    known = weakref.ref(holder)
    del holder
    gc.collect()
    assert known() is None
    with qtbot.waitSignal(widget.destroyed, timeout=5_000):
        widget.deleteLater()
