"""Load torch and compile in a worker without freezing the window."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lock = threading.Lock()
_n_pausing = 0


def load_torch() -> None:
    """Import torch while other threads run.

    Call this function in a worker, before anything else imports torch. A plain import
    would freeze the window several times for more than a tenth of a second (measured):
    while Python loads the libraries, and while the garbage collector checks the new
    objects.
    """
    if "torch" in sys.modules:
        return
    if os.name == "posix":
        _map_torch_libraries()
    with garbage_collection_paused():
        importlib.import_module("torch")


def prepare_shapes() -> None:
    """Import and compile what napari needs for its first shapes layer.

    Call this function in a worker: it takes half a second, and would freeze the window.
    """
    import numpy as np
    from napari.layers import Shapes

    box = np.asarray([(0, 0), (0, 9), (9, 9), (9, 0)], float)
    with garbage_collection_paused():
        Shapes([box], shape_type="ellipse")


def _map_torch_libraries() -> None:
    """Map torch's shared libraries before Python loads them.

    Python holds its global lock while it loads an extension module. A foreign function
    call releases the lock, so the libraries are first opened in that way, and the later
    import finds them loaded. Where this is not possible (Windows, unusual
    installations), the import itself loads the libraries.
    """
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
def garbage_collection_paused() -> Iterator[None]:
    """Pause Python's garbage collector while many permanent objects are created.

    Importing torch and numba creates a million objects. Whenever the number of objects
    has grown by a quarter, the collector checks all of them in one step that no other
    thread can interrupt and that took a quarter of a second in a measurement. Objects
    created in this context are treated as old afterwards, so they do not trigger such a
    step.
    """
    global _n_pausing  # number of threads inside this context
    with _lock:
        _n_pausing += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _n_pausing -= 1
            if not _n_pausing:
                # Move all objects to the permanent generation, and from there to the
                # oldest one.
                gc.freeze()
                gc.unfreeze()
                gc.enable()
