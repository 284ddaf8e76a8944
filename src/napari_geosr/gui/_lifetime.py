"""What to do when a widget goes, without keeping it, or the viewer, alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject

_waiting: set[Callable[..., None]] = set()


def when_destroyed(widget: QObject, function: Callable[[], None]) -> None:
    """Call `function` when `widget` is destroyed.

    The slot is kept in a module, out of the reach of the garbage collector. A slot that
    dies in one reference cycle with its widget is called after the collector emptied
    its closure, which crashes the process. For the same reason `function` must not
    refer to the widget or the viewer: they would then never be collected.
    """

    def call(*_: object) -> None:
        _waiting.discard(call)
        function()

    _waiting.add(call)
    widget.destroyed.connect(call)


class Connections:
    """Connections to napari's events that end when the widget is destroyed.

    napari outlives a dock; a slot of a destroyed widget would be called otherwise.
    """

    def __init__(self, widget: QObject) -> None:
        ends: list[Callable[[], None]] = []
        self._ends = ends

        def close() -> None:
            while ends:
                ends.pop()()

        when_destroyed(widget, close)

    def connect(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Call `slot`, a bound method, when `emitter` fires."""
        emitter.connect(slot)
        method, sender = weakref.WeakMethod(slot), weakref.ref(emitter)

        def end() -> None:
            bound, alive = method(), sender()
            if bound is not None and alive is not None:
                alive.disconnect(bound)

        self._ends.append(end)

    def add_to(self, callbacks: list[Any], function: Callable[..., Any]) -> None:
        """Put `function` into a list of callbacks, e.g. a viewer's mouse callbacks.

        It may refer to the widget weakly only.
        """
        is_open = [True]

        def call(*args: Any) -> Any:
            return function(*args) if is_open else None

        callbacks.append(call)
        self._ends.append(is_open.clear)
