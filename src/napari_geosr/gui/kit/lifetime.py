"""Connections that end with a widget, and the objects behind napari's proxies."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject


def unwrapped(proxy: object) -> Any:
    """Return the viewer or layer behind the proxy that napari passes to plugins.

    Each access creates a new proxy, so neither identity nor weak references work.
    """
    return getattr(proxy, "__wrapped__", proxy)


def when_destroyed(widget: QObject, function: Callable[[], None]) -> None:
    """Call `function` once, when `widget` is destroyed or collected, or at exit.

    ``destroyed`` alone is not sufficient: when the garbage collector finds a widget in
    a reference cycle, PyQt drops the connection, or calls a slot after its closure has
    been cleared, which crashes the process. A finalizer is not part of any cycle.
    `function` must not refer to the widget or the viewer, which would otherwise never
    be collected.
    """
    widget.destroyed.connect(weakref.finalize(widget, function))


class Connections:
    """Connections to napari's events that end when the widget is destroyed.

    Otherwise the viewer, which outlives docks, would call slots of destroyed widgets.
    """

    def __init__(self, widget: QObject) -> None:
        ends: list[Callable[[], None]] = []
        self._ends = ends
        # Do not connect a bound method: it would keep this object alive.
        when_destroyed(widget, lambda: _end(ends))

    def end(self) -> None:
        """End all connections now, e.g. to a layer that is no longer shown."""
        _end(self._ends)

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot`, a bound method, when `emitter` fires."""
        emitter.connect(slot)
        method, sender = weakref.WeakMethod(slot), weakref.ref(emitter)

        def end() -> None:
            """Disconnect, if both ends still exist."""
            bound, alive = method(), sender()
            if bound is not None and alive is not None:
                alive.disconnect(bound)

        self._ends.append(end)

    def add_to(self, holder: Any, name: str, function: Callable[..., Any]) -> None:
        """Add `function` to a list of callbacks.

        The function must not hold a strong reference to the widget; a weak one is
        allowed.

        Parameters
        ----------
        holder : object
            Owner of the list, e.g. a viewer; the owner is not kept alive.
        name : str
            Attribute of the list, e.g. ``"mouse_drag_callbacks"``.
        """
        getattr(holder, name).append(function)
        owner = weakref.ref(holder)

        def end() -> None:
            """Remove the function, if the list still exists."""
            alive = owner()
            if alive is not None and function in getattr(alive, name):
                getattr(alive, name).remove(function)

        self._ends.append(end)


def _end(ends: list[Callable[[], None]]) -> None:
    while ends:
        ends.pop()()
