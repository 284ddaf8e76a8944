"""Check whether torch can be imported on this computer; a login node may lack it."""

from __future__ import annotations

import socket
from importlib import import_module

#: Name under which PyTorch is imported.
_TORCH = "torch"


def why_no_torch() -> str:
    """Return the reason why torch cannot be imported, as a clause; empty if it can.

    The first call imports torch, which takes seconds.
    """
    try:
        import_module(_TORCH)
    except (ImportError, OSError) as error:
        return _first_line(error)
    return ""


def describe_missing_torch(error: BaseException) -> str:
    """Explain an error that importing torch raised; return "" for other errors."""
    if not (isinstance(error, ImportError | OSError) and _is_from_import(error)):
        return ""
    return (
        f"Torch cannot be imported on this computer ({socket.gethostname()}): "
        f"{_first_line(error)}. This command needs torch. Install it in the "
        "environment of napari-geosr (pip install torch), or run the command on a "
        "computer that has it."
    )


def _is_from_import(error: ImportError | OSError) -> bool:
    """Whether torch is missing, or the error was raised while it was being imported."""
    if isinstance(error, ImportError) and error.name == _TORCH:
        return True
    frame = error.__traceback__
    while frame is not None:
        names = frame.tb_frame.f_globals.get("__name__"), frame.tb_frame.f_code.co_name
        if names == (_TORCH, "<module>"):
            return True
        frame = frame.tb_next
    return False


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
