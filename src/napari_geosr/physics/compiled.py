"""Compiles loops over rays and runs them in threads on the CPU.

Torch alone takes about twenty times as long there for one slice of 512², and five to
ten times for eight of them: it writes the places and weights of all taps to memory and
reads them back, where a loop keeps them in registers.

Threads are Python's and not numba's, whose portable layer aborts the process when two
of them come from different threads of the caller, as in a dock with a preview.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])
_PARTS_PER_THREAD = 4


def compiled(function: F) -> F:
    """Compile `function` with numba when it is first called; keep it on disk.

    Sums may be reordered, which lets them be vectorised; NaN stays NaN.
    """
    fast = {"reassoc", "contract", "nsz", "arcp"}
    return cast("F", numba.njit(cache=True, nogil=True, fastmath=fast)(function))


def in_threads(kernel: Callable[..., None], total: int, *arguments: Any) -> None:
    """Call ``kernel(start, stop, *arguments)`` for parts of ``range(total)``.

    As many threads as torch uses work on them; parts must not write to one place.
    """
    import torch

    threads = min(torch.get_num_threads(), total)
    if threads <= 1:
        kernel(0, total, *arguments)
        return
    parts = min(total, threads * _PARTS_PER_THREAD)
    bounds = [total * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(threads) as pool:
        running = [
            pool.submit(kernel, start, stop, *arguments)
            for start, stop in itertools.pairwise(bounds)
        ]
        for part in running:
            part.result()
