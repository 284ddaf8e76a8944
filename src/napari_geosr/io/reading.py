"""Read one file of any known format, or explain why it cannot be read."""

from __future__ import annotations

import os
from pathlib import Path

from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import ReadOptions, format_that_reads, read_suffixes
from napari_geosr.io.suffixes import looks_like, suffix_of
from napari_geosr.io.unfinished_files.repairs import repair_text

#: Suffixes of files with model weights.
_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")
_ARCHIVES = (".zip", ".gz", ".7z", ".tar", ".rar", ".bz2", ".xz")


def check_readable(path: Path) -> None:
    """Raise `FileError` if `path` does not exist, is not readable, or is empty."""
    if not path.exists():
        advice = repair_text(path) or "Check the name and the folder."
        raise FileError(f"{path} does not exist. {advice}")
    if not os.access(path, os.R_OK):
        raise FileError(
            f"You do not have permission to read {path}. Ask its owner for access."
        )
    if not path.is_dir() and not path.is_file():
        raise FileError(
            f"{path.name} is a pipe or a device, not a file. Write its content to a "
            "file first."
        )
    if not path.is_dir() and path.stat().st_size == 0:
        raise FileError(f"{path.name} is empty (0 bytes). Copy or export it again.")


def read_file(path: Path, options: ReadOptions | None = None) -> Volume:
    """Read a volume from one file, or from one folder such as an OME-Zarr.

    Raises
    ------
    FileError
        If the file does not exist, is damaged, or is not an image volume.
    """
    check_readable(path)
    given = options or ReadOptions()
    found = format_that_reads(path, given)
    if found is None:
        raise _unsupported(path)
    if found.states_shape and given.describes_voxels:
        raise FileError(
            f"{path.name} is read as {found.title}, which states its shape and data "
            "type: omit the shape, the data type and the offset, which apply only to "
            "raw files."
        )
    return found.read(path, given)


def _unsupported(path: Path) -> FileError:
    known = ", ".join(s for s in read_suffixes() if s.count(".") == 1)
    if suffix_of(path) in _ARCHIVES:
        return FileError(
            f"{path.name} is an archive, not an image volume. Unpack it first and open "
            "the file inside."
        )
    if suffix_of(path) in _WEIGHTS:
        return FileError(
            f"{path.name} contains a model, not an image volume. To use the model, "
            "import it (napari-geosr models import)."
        )
    return FileError(
        f"{path.name} is not an image volume that can be read ({looks_like(path)}). "
        f"Supported: {known} and folders of slices."
    )
