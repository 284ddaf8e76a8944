"""Load torch in a worker without freezing the window meanwhile."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path


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
