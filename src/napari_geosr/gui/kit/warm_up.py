"""Load torch, and compile, in a worker without freezing the window meanwhile."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lock = threading.Lock()
_resting = 0


def load_torch_libraries() -> None:
    """Map torch's shared libraries while other threads run.

    Python holds its global lock while it loads an extension module, so importing torch
    in a thread still freezes the window for a quarter of a second (measured). A foreign
    function call releases the lock: the libraries are opened that way first, and the
    import that follows finds them loaded. Where this is not possible (Windows, another
    layout) the import simply loads them itself.
    """
    if "torch" in sys.modules or os.name != "posix":
        return
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return
    folder = Path(spec.origin).parent / "lib"
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    for name, mode in (
        ("libtorch_global_deps", os.RTLD_LAZY | os.RTLD_GLOBAL),
        ("libtorch_python", os.RTLD_LAZY),
    ):
        library = folder / f"{name}{suffix}"
        if library.is_file():
            dlopen(os.fsencode(library), mode)


@contextmanager
def without_collections() -> Iterator[None]:
    """Let Python's garbage collector rest while much is made that will stay.

    Torch, numba and what they register are a million objects. With each quarter more of
    them the collector looks at all, in a single step that no other thread interrupts: a
    quarter of a second (measured). What was made in here counts as old afterwards, so
    that it is not the reason for such a step any more.
    """
    global _resting  # how many threads are in here
    with _lock:
        _resting += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _resting -= 1
            if not _resting:
                # Into the permanent generation, and from there into the oldest.
                gc.freeze()
                gc.unfreeze()
                gc.enable()
