"""The viewer and layers behind the proxies that napari gives to plugins. No Qt."""

from __future__ import annotations

from typing import Any


def unwrapped(thing: object) -> Any:
    """Give the viewer or layer behind the proxy that napari hands to plugins.

    Each access makes a new proxy, so neither identity nor weak references hold.
    """
    return getattr(thing, "__wrapped__", thing)
