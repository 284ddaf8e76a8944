"""Reject file names that the operating system does not accept."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.errors import FileError


def refuse_nul(path: str | Path) -> None:
    """Raise `FileError` for a NUL character, which Python does not report clearly."""
    if "\0" in str(path):
        raise FileError(
            f"{str(path)!r} contains a NUL character, which no file name can have. "
            "Remove it."
        )
