"""Importers of third-party networks, which are read as data and never run.

Found by file name. A format's module offers, without importing torch or a library that
it needs at module level:

``ABOUT``
    What can be given, in a few words: "CAREamics checkpoints (.ckpt)".
``SUFFIXES``
    Of its files, small and with their dots.
``recognises(source) -> bool``
    Whether a :class:`ModelSource` is of this format: by its suffix, then files of
    weights by what they hold, ``source.tensors``.
``read(source, channel) -> Draft``
    The network with what is known of it (`draft.Draft`); `channel` is the one of the
    result that is wanted, or None. Raises `ModelError` where it cannot be had.
``FALLBACK`` (optional)
    True: asked only when all others have said no.

What builds the network again from the bundle that is kept is a file in
`napari_geosr.networks.foreign_formats`.
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
    from napari_geosr.models.foreign.draft import Draft

FORMATS = Registry(
    package="napari_geosr.models.foreign",
    group="napari_geosr.foreign_models",
    noun="format of foreign models",
    not_entries=frozenset(
        {"download", "draft", "onnx_graph", "package_files", "scales", "tensors"}
    ),
)
#: A graph alone, which belongs to a package.
_GRAPH = ".onnx"


@dataclass(frozen=True)
class ModelSource:
    """The given source: a file, a folder, a URL or an identifier.

    Attributes
    ----------
    text : str
    should_stop : callable
        Asked between the pieces of a download.
    """

    text: str
    should_stop: ShouldStop = never_stop

    @property
    def path(self) -> Path:
        """The source as a path, whether or not it exists."""
        return Path(self.text).expanduser()

    @property
    def suffix(self) -> str:
        """The last one, small."""
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
        """Named contents of a weights file; `ModelError` if it is not one."""
        return read_file(self.path)


def read(
    source: str, *, channel: int | None = None, should_stop: ShouldStop = never_stop
) -> Draft:
    """Read a third-party model of any supported format.

    Parameters
    ----------
    source : str
        Of one of the formats, see :func:`about`.
    channel : int, optional
        Which channel of the result is wanted, for packages that give several.
    should_stop : callable
        Asked while something is downloaded.

    Raises
    ------
    ModelError
        With what is wrong with it.
    Cancelled
        If `should_stop` said so.
    """
    given = ModelSource(source, should_stop)
    refusal: ModelError | None = None
    for module in _modules():
        try:
            mine = module.recognises(given)
        except ModelError as error:  # another format may know it
            refusal = refusal or error
            continue
        if mine:
            draft: Draft = module.read(given, channel)
            return draft
    raise refusal or _unknown(given)


def about() -> list[str]:
    """Short descriptions of the supported formats."""
    return [str(module.ABOUT) for module in _modules()]


def suffixes() -> list[str]:
    """Of files that can be imported."""
    found = (suffix for module in _modules() for suffix in module.SUFFIXES)
    return list(dict.fromkeys(found))


def _modules() -> Iterator[Any]:
    """All formats, in the order in which they are tried."""
    found = FORMATS.load_all(ABOUT=str, SUFFIXES=tuple)
    yield from sorted(found, key=lambda module: getattr(module, "FALLBACK", False))


def _unknown(given: ModelSource) -> ModelError:
    if given.suffix == _GRAPH:
        return ModelError(
            f"{given.path} is a graph without a description of how grey values must "
            "be scaled. Give the BioImage.IO package it belongs to."
        )
    if not given.path.exists():
        return ModelError(f"There is no file or folder {given.path}.")
    *most, last = about()
    return ModelError(
        f"{given.path} is not a model that can be imported. Supported are "
        f"{', '.join(most)} and {last}."
    )
