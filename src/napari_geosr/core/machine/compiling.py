"""Compile loops with numba, and cache them on disk where a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
#: Part of numba's message if it finds no folder for its cache: neither that of the
#: installation nor the user's cache folder can be written.
_NO_FOLDER = "no locator available"


def compile_loops(function: F, **options: Any) -> F:
    """Compile a function on its first call; the compiled function releases the GIL.

    The compiled function is cached on disk. If there is no writable folder for the
    cache, as in some containers, the function is compiled again in each process, which
    takes seconds; `doctor` then reports this.

    Parameters
    ----------
    function : callable
    **options
        Further options of `numba.njit`.
    """
    import numba

    try:
        made = numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError as error:
        if _NO_FOLDER not in str(error):
            raise
        made = numba.njit(nogil=True, **options)(function)
    return cast("F", made)


def loop_cache() -> str:
    """Return the cache folder of compiled functions; empty if there is none."""
    compiled: Any = compile_loops(_nothing)
    return compiled.stats.cache_path or ""


def _nothing() -> None:
    """Do nothing; only the cache of its compiled version is used."""
