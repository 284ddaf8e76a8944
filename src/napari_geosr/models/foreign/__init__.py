"""Importers of networks that others made: read as data, never run as programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ModelError

if TYPE_CHECKING:
    from napari_geosr.models.foreign.draft import Draft


def read(source: str, *, channel: int | None = None) -> Draft:
    """Read a foreign model, whatever it is.

    Parameters
    ----------
    source : str
        A BioImage.IO package (zip, folder, description, address, identifier), a
        CAREamics checkpoint, or weights that spandrel knows.
    channel : int, optional
        Which channel of the result is wanted, for packages that give several.

    Raises
    ------
    ModelError
        With what is wrong with it.
    """
    from napari_geosr.models.foreign import bioimageio, careamics, spandrel, tensors

    path = Path(source).expanduser()
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        raise ModelError(
            f"{path} is a graph that does not say how grey values are scaled for it. "
            "Give the BioImage.IO package that it belongs to."
        )
    if suffix in (tensors.SAFETENSORS, *tensors.PICKLES):
        found = tensors.read_file(path)
        if careamics.is_checkpoint(found):
            return careamics.draft(path, found)
        return spandrel.draft(path, found)
    if not path.exists() and _is_path(source):
        raise ModelError(f"There is no file or folder {path}.")
    if path.exists() and not bioimageio.is_package(path):
        raise ModelError(
            f"{path} is no model that can be imported. Known are BioImage.IO packages "
            "(.zip, a folder, rdf.yaml), CAREamics checkpoints (.ckpt) and weights for "
            "spandrel (.pth, .pt, .safetensors)."
        )
    return bioimageio.draft(str(path) if path.exists() else source, channel)


def _is_path(source: str) -> bool:
    """Whether a text can only be meant as a path, not as address or identifier."""
    if "://" in source:
        return False
    of_a_file = Path(source).suffix.lower() in (".zip", ".yaml", ".yml")
    return of_a_file or source.startswith((".", "/", "~"))
