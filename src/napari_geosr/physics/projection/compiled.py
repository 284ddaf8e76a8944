"""Compile loops over rays, and run them in threads on the CPU.

Torch alone takes about twenty times as long on the CPU for one slice of 512², and five
to ten times as long for eight slices: it writes the indices and weights of all taps to
memory and reads them back, whereas a loop keeps them in registers.

Python threads are used rather than those of numba, because numba's portable threading
layer aborts the process when it is called from two threads at once, as in a dock with a
preview.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from napari_geosr.core.machine.compiling import compile_loops

F = TypeVar("F", bound=Callable[..., Any])
_PARTS_PER_THREAD = 4
#: Minimum number of parts of a loop, even for one thread, because cancellation is
#: checked between parts.
_MIN_PARTS = 16
_caller = threading.local()


def compiled(function: F) -> F:
    """Compile `function` with numba on its first call; see `compile_loops`.

    Sums may be reordered so that they can be vectorised; NaN is preserved.
    """
    fast = {"reassoc", "contract", "nsz", "arcp"}
    return compile_loops(function, fastmath=fast)


@contextmanager
def interruptible(raise_if_stopped: Callable[[], None]) -> Iterator[None]:
    """Call `raise_if_stopped`, which may raise, between the parts of `in_threads`."""
    before = getattr(_caller, "raise_if_stopped", None)
    _caller.raise_if_stopped = raise_if_stopped
    try:
        yield
    finally:
        _caller.raise_if_stopped = before


def _raise_if_stopped() -> None:
    ask = getattr(_caller, "raise_if_stopped", None)
    if ask is not None:
        ask()


def in_threads(kernel: Callable[..., None], total: int, *arguments: Any) -> None:
    """Call ``kernel(start, stop, *arguments)`` for parts of ``range(total)``.

    The number of threads is that of torch; parts must not write to the same elements.
    """
    import torch

    threads = min(torch.get_num_threads(), total)
    parts = min(total, max(threads * _PARTS_PER_THREAD, _MIN_PARTS))
    bounds = itertools.pairwise(total * part // parts for part in range(parts + 1))
    if threads <= 1:
        for start, stop in bounds:
            _raise_if_stopped()
            kernel(start, stop, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(kernel, *bound, *arguments) for bound in bounds]
        try:
            for part in running:
                _raise_if_stopped()
                part.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
