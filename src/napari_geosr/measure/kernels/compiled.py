"""How every kernel is compiled: once per machine, without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` with numba when it is first called; keep it on disk."""
    return cast("F", numba.njit(cache=True, nogil=True)(function))
