"""Import third-party networks, which are read as data; their code is never run.

The modules of the formats are found by file name. A module must not import torch or
optional libraries at module level. It provides:

``ABOUT``
    Short description of the supported files: "CAREamics checkpoints (.ckpt)".
``SUFFIXES``
    Suffixes of the files, in lower case with their dots.
``recognises(source) -> bool``
    Whether a `ModelSource` has this format: judged by its suffix, and for
    weights files by their contents, ``source.tensors``.
``read(source, channel) -> Draft``
    Returns the network and what is known about it (`draft.ImportDraft`); `channel` is
    the output channel to use, or None. Raises `ModelError` if the import fails.
``FALLBACK`` (optional)
    True if the format is tried only after all others.

For each format, a module of `napari_geosr.networks.foreign_formats` rebuilds the
network from its bundle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ModelError
from napari_geosr.core.registry import Registry
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyMapping
from napari_geosr.models.foreign.tensors import read_file

if TYPE_CHECKING:
    from napari_geosr.models.foreign.draft import ImportDraft

FORMATS = Registry(
    package="napari_geosr.models.foreign",
    group="napari_geosr.foreign_models",
    noun="third-party model format",
    not_entries=frozenset(
        {"download", "draft", "onnx_graph", "package_files", "scales", "tensors"}
    ),
)
#: Suffix of a graph that is not part of a package.
_GRAPH = ".onnx"


@dataclass(frozen=True)
class ModelSource:
    """The source given by the user: a file, a folder, a URL or an identifier.

    Attributes
    ----------
    text : str
    should_stop : callable
        Called between the chunks of a download; returns True to cancel the download.
    """

    text: str
    should_stop: ShouldStop = never_stop

    @property
    def path(self) -> Path:
        """The source as a path, whether or not it exists."""
        return Path(self.text).expanduser()

    @property
    def suffix(self) -> str:
        """The last suffix, in lower case."""
        return self.path.suffix.lower()

    @property
    def is_path(self) -> bool:
        """Whether this can only be a path, not a URL or identifier."""
        if "://" in self.text:
            return False
        of_a_file = self.suffix in (_GRAPH, *suffixes())
        return of_a_file or self.text.startswith((".", "/", "~"))

    @cached_property
    def tensors(self) -> AnyMapping:
        """Contents of a weights file by name; raises `ModelError` for other files."""
        return read_file(self.path)


def read(
    source: str, *, channel: int | None = None, should_stop: ShouldStop = never_stop
) -> ImportDraft:
    """Read a third-party model of any supported format.

    Parameters
    ----------
    source : str
        Source in one of the formats; see `about`.
    channel : int, optional
        Output channel to use, for packages with several.
    should_stop : callable
        Called during downloads; returns True to cancel them.

    Raises
    ------
    ModelError
        If the model cannot be imported.
    Cancelled
        If `should_stop` returned True.
    """
    given = ModelSource(source, should_stop)
    refusal: ModelError | None = None
    for module in _modules():
        try:
            mine = module.recognises(given)
        except ModelError as error:  # another format may recognise the file
            refusal = refusal or error
            continue
        if mine:
            draft: ImportDraft = module.read(given, channel)
            return draft
    raise refusal or _unknown(given)


def about() -> list[str]:
    """Return short descriptions of the supported formats."""
    return [str(module.ABOUT) for module in _modules()]


def suffixes() -> list[str]:
    """Return the suffixes of the files that can be imported."""
    all_suffixes = (suffix for module in _modules() for suffix in module.SUFFIXES)
    return list(dict.fromkeys(all_suffixes))


def _modules() -> Iterator[Any]:
    """Yield all formats, in the order in which they are tried."""
    modules = FORMATS.load_all(ABOUT=str, SUFFIXES=tuple)
    yield from sorted(modules, key=lambda module: getattr(module, "FALLBACK", False))


def _unknown(given: ModelSource) -> ModelError:
    if given.suffix == _GRAPH:
        return ModelError(
            f"{given.path} is a graph without a description of how grey values must "
            "be scaled. Use the BioImage.IO package that it belongs to."
        )
    if not given.path.exists():
        return ModelError(f"There is no file or folder {given.path}.")
    *most, last = about()
    return ModelError(
        f"{given.path} is not a model that can be imported. Supported formats: "
        f"{', '.join(most)} and {last}."
    )
