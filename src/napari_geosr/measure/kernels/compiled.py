"""Decorator for all kernels: compiles once per machine and releases the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from napari_geosr.core.machine.compiling import compile_loops

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` with numba on its first call; see `compile_loops`."""
    return compile_loops(function)
