"""Open, download and read files of BioImage.IO packages, with size limits."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.documents import load_yaml, read_document
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.core.types import AnyArray
from napari_geosr.models.archives import opened_zip, reading_zip
from napari_geosr.models.bundle import MAX_CARD_BYTES
from napari_geosr.models.bundle_files import MAX_WEIGHTS_BYTES
from napari_geosr.models.foreign.download import (
    download,
    file_name_of,
    is_address,
)

#: File names of a package's description.
DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")


@dataclass(frozen=True)
class RemoteDescription:
    """A downloaded description; its file names are relative to its URL.

    Attributes
    ----------
    text : str
        YAML text, which has been checked.
    address : str
        URL of the description.
    """

    text: str
    address: str


@contextmanager
def opened(source: str, folder: Path, should_stop: ShouldStop) -> Iterator[Any]:
    """Yield the source in a form that the library can read, such as an open zip."""
    path = Path(source)
    if path.is_dir():
        path = next(path / n for n in DESCRIPTIONS if (path / n).is_file())
    if is_address(source):
        if not file_name_of(source).lower().endswith(".zip"):
            yield _remote(source, folder, should_stop)
            return
        path = folder / "package.zip"
        download(source, path, should_stop)
    if not path.exists():  # an identifier, which the library resolves
        yield source
        return
    if path.suffix.lower() != ".zip":
        with _description_context(str(path)):
            _check_description(read_document(path, MAX_CARD_BYTES))
        yield path
        return
    with opened_zip(path, MAX_WEIGHTS_BYTES, source) as archive:
        for info in archive.infolist():
            if info.filename.endswith(DESCRIPTIONS):
                _check_member(archive, info, source)
        yield archive


def _remote(source: str, folder: Path, should_stop: ShouldStop) -> RemoteDescription:
    path = folder / DESCRIPTIONS[0]
    download(source, path, should_stop, limit=MAX_CARD_BYTES)
    with _description_context(source):
        text = read_document(path, MAX_CARD_BYTES)
        _check_description(text)
    return RemoteDescription(text, source)


def _check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> None:
    where = f"{info.filename} in {source}"
    if info.file_size > MAX_CARD_BYTES:
        raise ModelError(
            f"{where} unpacks to {format_bytes(info.file_size)}; the limit is "
            f"{format_bytes(MAX_CARD_BYTES)}."
        )
    with _description_context(where), reading_zip(source):
        _check_description(archive.read(info).decode("utf-8"))


def _check_description(text: str) -> None:
    """Reject descriptions that would crash the library's parser."""
    load_yaml(text)


@contextmanager
def _description_context(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        reason = str(error).rstrip(".")
        raise ModelError(
            f"The description {where} cannot be read ({reason})."
        ) from error


def fetch(
    entries: Iterable[Any], source: str, folder: Path, should_stop: ShouldStop
) -> None:
    """Download remote files of a package; the entries then refer to the local copies.

    The library would download them as well, but it would fetch every file, without a
    size limit. Local files must be regular files in the folder of the package.

    Parameters
    ----------
    entries : iterable
        Files of the description that will be read.
    source : str
        The package, as given by the user.
    folder : Path
        Folder for the copies, each in a separate subfolder.
    """
    here = Path(source)
    root = (here if here.is_dir() else here.parent).resolve()
    for i, entry in enumerate(entries):
        location = getattr(entry.source, "absolute", lambda e=entry: e.source)()
        if isinstance(location, Path):
            _check_local(location, root)
        place = str(location)
        if is_address(place):
            (folder / str(i)).mkdir()
            path = folder / str(i) / (file_name_of(place) or "file")
            download(place, path, should_stop)
            entry.source = path


def _check_local(path: Path, root: Path) -> None:
    """Reject anything but regular files below the size limit in the package."""
    if not path.resolve().is_relative_to(root):
        raise ModelError(
            f"The package refers to the file {path}, which is outside its folder or a "
            "link to a location outside it. Put the file itself into the folder."
        )
    if not path.is_file():
        raise ModelError(
            f"The package's file {path} is missing or is not a regular file. "
            "Download or copy the package again."
        )
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"The package's file {path} is larger than "
            f"{format_bytes(MAX_WEIGHTS_BYTES)}, the limit for weights."
        )


def load_description(given: object, source: str) -> Any:
    """Return the library's description of a package.

    Parameters
    ----------
    given
        The value that `opened` yields.
    source : str
        The package as given by the user, for messages.

    Raises
    ------
    ModelError
        If bioimageio.spec is missing, or cannot read the package.
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
        if isinstance(given, RemoteDescription):
            return _built(given)
        return load_model_description(
            given, format_version="latest", perform_io_checks=False
        )
    except Exception as error:  # network, file and pydantic errors
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if path.exists():
            raise ModelError(
                f"{source} is not a valid BioImage.IO model ({reason})."
            ) from error
        raise ModelError(
            f"There is no file {source}, and no BioImage.IO model of that name could "
            f"be downloaded ({reason}). Check the name and your network "
            "connection, or download its zip from bioimage.io."
        ) from error


def _built(remote: RemoteDescription) -> Any:
    """Build a description; the library's own loader has no size limit."""
    from bioimageio.spec import (
        InvalidDescr,
        build_description,
        get_validation_context,
    )
    from bioimageio.spec.common import HttpUrl
    from ruyaml import YAML

    context = get_validation_context().replace(
        root=HttpUrl(remote.address).parent,
        file_name=DESCRIPTIONS[0],
        original_source_name=remote.address,
        perform_io_checks=False,
    )
    content = YAML(typ="safe").load(remote.text)
    found = build_description(content, context=context, format_version="latest")
    if isinstance(found, InvalidDescr):
        raise ValueError(found.get_reason())
    if found.type != "model":
        raise ValueError(f"it describes a {found.type}, not a model")
    return found


@contextmanager
def on_disk(entry: Any, suffix: str, companion: Any = None) -> Iterator[Path]:
    """Yield the path of a temporary copy of a file of the package.

    Parameters
    ----------
    entry : object
        A file of the package.
    suffix : str
        Suffix of the file on disk.
    companion : object, optional
        Another file of the package that belongs in the same folder.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if companion is not None:
            name = Path(str(companion.source)).name
            (Path(folder) / name).write_bytes(_bytes(companion))
        path = Path(folder) / f"weights{suffix}"
        path.write_bytes(_bytes(entry))
        yield path


def _bytes(entry: Any) -> bytes:
    """Return the contents of a file of the package; the library checks its hash."""
    try:
        content: bytes = entry.get_reader(progressbar=False).read(MAX_WEIGHTS_BYTES + 1)
    except Exception as error:  # network, zip and checksum errors
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"The package's file {entry.source} is missing or damaged ({reason}). "
            "Download or copy the package again."
        ) from error
    if len(content) > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"The package's file {entry.source} is larger than "
            f"{format_bytes(MAX_WEIGHTS_BYTES)}, the limit for weights."
        )
    return content


def array_of(tensor: Any) -> AnyArray:
    """Read a test array of the package (``.npy``); raise `ModelError` if damaged."""
    content = io.BytesIO(_bytes(tensor))
    try:
        array: AnyArray = np.lib.format.read_array(content, allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise ValueError(array.dtype)
    except (ValueError, EOFError, MemoryError, OverflowError) as error:
        raise ModelError(
            f"The package's test data {tensor.source} are damaged. Download or copy "
            "the package again."
        ) from error
    return array
