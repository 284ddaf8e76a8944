"""Widgets that go without keeping a viewer alive, and viewers behind proxies."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject


def unwrapped(thing: object) -> Any:
    """Give the viewer or layer behind the proxy that napari hands to plugins.

    Each access makes a new proxy, so neither identity nor weak references hold.
    """
    return getattr(thing, "__wrapped__", thing)


def when_destroyed(widget: QObject, function: Callable[[], None]) -> None:
    """Call `function` once, when `widget` is destroyed or collected, or at exit.

    ``destroyed`` alone does not do: when the garbage collector finds a widget in a
    reference cycle, PyQt drops the connection, or calls a slot whose closure is already
    empty, which crashes the process. A finalizer is kept outside of any cycle. For the
    same reason `function` must not refer to the widget or the viewer: they would then
    never be collected.
    """
    widget.destroyed.connect(weakref.finalize(widget, function))


class Connections:
    """Connections to napari's events that end when the widget is destroyed.

    napari outlives a dock; a slot of a destroyed widget would be called otherwise.
    """

    def __init__(self, widget: QObject) -> None:
        ends: list[Callable[[], None]] = []
        self._ends = ends
        # No method of this object: that would keep what it refers to alive.
        when_destroyed(widget, lambda: _end(ends))

    def end(self) -> None:
        """End all connections now, as those to a layer that a widget shows no more."""
        _end(self._ends)

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot`, a bound method, when `emitter` fires."""
        emitter.connect(slot)
        method, sender = weakref.WeakMethod(slot), weakref.ref(emitter)

        def end() -> None:
            """Disconnect, if both ends are still there."""
            bound, alive = method(), sender()
            if bound is not None and alive is not None:
                alive.disconnect(bound)

        self._ends.append(end)

    def add_to(self, holder: Any, name: str, function: Callable[..., Any]) -> None:
        """Put `function` into a list of callbacks; it may refer to the widget weakly.

        Parameters
        ----------
        holder : object
            What has the list, e.g. a viewer. It is not kept alive.
        name : str
            Attribute of the list, e.g. ``"mouse_drag_callbacks"``.
        """
        getattr(holder, name).append(function)
        owner = weakref.ref(holder)

        def end() -> None:
            """Take it out, if the list is still there."""
            alive = owner()
            if alive is not None and function in getattr(alive, name):
                getattr(alive, name).remove(function)

        self._ends.append(end)


def _end(ends: list[Callable[[], None]]) -> None:
    while ends:
        ends.pop()()
