"""Files of BioImage.IO packages: opened, fetched and read, up to a size."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyArray
from napari_geosr.models.bundle import MAX_CARD_BYTES, MAX_WEIGHTS_BYTES
from napari_geosr.models.foreign.download import download, is_address

#: What a description is called in a folder.
DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")


@contextmanager
def opened(source: str, folder: Path, should_stop: ShouldStop) -> Iterator[Any]:
    """What the library reads; a zip is closed when all of it was read."""
    path = Path(source)
    if path.is_dir():
        path = next(path / n for n in DESCRIPTIONS if (path / n).is_file())
    if is_address(source) and urlsplit(source).path.lower().endswith(".zip"):
        path = folder / "package.zip"
        download(source, path, should_stop)
    if path.suffix.lower() != ".zip" or not path.exists():
        yield path if path.exists() else source
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{source} is not a readable zip file ({error}).") from error
    with archive:
        for info in archive.infolist():
            is_text = Path(info.filename).name in DESCRIPTIONS
            limit = MAX_CARD_BYTES if is_text else MAX_WEIGHTS_BYTES
            if info.file_size > limit:
                raise ModelError(
                    f"{info.filename} of {source} has {format_bytes(info.file_size)} "
                    f"unpacked; at most {format_bytes(limit)} are read."
                )
        yield archive


def fetch(entries: Iterable[Any], folder: Path, should_stop: ShouldStop) -> None:
    """Download files of a package that lie elsewhere; the entries then name the copies.

    The library would do so as well, but all at once, of any size.

    Parameters
    ----------
    entries : iterable
        Files of a description that are going to be read.
    folder : Path
        For the copies, each in a folder of its own there.
    """
    for i, entry in enumerate(entries):
        place = str(getattr(entry.source, "absolute", lambda e=entry: e.source)())
        if is_address(place):
            (folder / str(i)).mkdir()
            path = folder / str(i) / (Path(urlsplit(place).path).name or "file")
            download(place, path, should_stop)
            entry.source = path


def described(given: object, source: str) -> Any:
    """The library's description of a package.

    Parameters
    ----------
    given
        What :func:`opened` gave.
    source : str
        As a person named it, for messages.

    Raises
    ------
    ModelError
        If bioimageio.spec is missing, or cannot read it.
    """
    try:
        from bioimageio.spec import load_model_description
    except ImportError as error:
        raise ModelError(
            "BioImage.IO packages need the library bioimageio.spec, which is not "
            "installed. Install it: pip install 'napari-geosr[zoo]'"
        ) from error
    path = Path(source)
    try:
        return load_model_description(
            given, format_version="latest", perform_io_checks=False
        )
    except Exception as error:  # of the network, of files, of pydantic
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if path.exists():
            raise ModelError(
                f"{source} is not a BioImage.IO model that can be read ({reason})."
            ) from error
        raise ModelError(
            f"There is no file {source}, and no BioImage.IO model of that name could "
            f"be had ({reason}). Check the name and the network, or download its zip "
            "from bioimage.io."
        ) from error


@contextmanager
def on_disk(entry: Any, suffix: str, beside: Any = None) -> Iterator[Path]:
    """A file of the package in a folder of its own, while it is read."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if beside is not None:
            name = Path(str(beside.source)).name
            (Path(folder) / name).write_bytes(_bytes(beside))
        path = Path(folder) / f"weights{suffix}"
        path.write_bytes(_bytes(entry))
        yield path


def _bytes(entry: Any) -> bytes:
    """A file of the package; its checksum is compared with the description's."""
    try:
        content: bytes = entry.get_reader(progressbar=False).read(MAX_WEIGHTS_BYTES + 1)
    except Exception as error:  # of the network, of zips, of checksums
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"The package's file {entry.source} is not there or damaged ({reason})."
        ) from error
    if len(content) > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"The package's file {entry.source} has more than "
            f"{format_bytes(MAX_WEIGHTS_BYTES)}, which is too large."
        )
    return content


def array_of(tensor: Any) -> AnyArray:
    """A test of the package, ``.npy`` without objects; `ModelError` if damaged."""
    content = io.BytesIO(_bytes(tensor))
    try:
        array: AnyArray = np.lib.format.read_array(content, allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise ValueError(array.dtype)
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        raise ModelError(f"The package's test {tensor.source} is damaged.") from error
    return array
