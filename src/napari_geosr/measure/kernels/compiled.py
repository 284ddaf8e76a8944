"""Decorator for all kernels: compiles once per machine and releases the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` with numba on its first call, and cache it on disk."""
    return cast("F", numba.njit(cache=True, nogil=True)(function))
