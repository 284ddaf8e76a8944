"""Complete names of models in the shell; fast, because no card is read."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Protocol

from cyclopts import Parameter

from napari_geosr.models.bundle_files import CARD_FILE
from napari_geosr.models.zoo import bundled_folder, user_folder


class _Typed(Protocol):
    """The command line typed so far."""

    @property
    def incomplete(self) -> str: ...


def complete_model(context: _Typed) -> list[str]:
    """Return the candidates for the name or path of a model.

    Parameters
    ----------
    context : object
        Its attribute `incomplete` is the word to be completed.

    Returns
    -------
    list of str
        Names of bundled models and the user's own; then, unless the word is empty,
        folders and zip files that begin with it.
    """
    word = context.incomplete
    names = sorted(_names(bundled_folder()) | _names(user_folder()))
    return [*names, *_paths(word)] if word else names


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    return {
        path.stem if path.suffix == ".zip" else path.name
        for path in folder.iterdir()
        if path.suffix == ".zip" or (path / CARD_FILE).is_file()
    }


def _paths(word: str) -> list[str]:
    found = map(Path, glob.glob(f"{glob.escape(word)}*"))
    return sorted(str(path) for path in found if path.suffix == ".zip" or path.is_dir())


def _parameter() -> Parameter:
    try:
        return Parameter(completer=complete_model)
    except TypeError:  # earlier versions of cyclopts complete fixed choices only
        return Parameter()


#: Parameter of options and arguments that take the name or path of a model.
MODEL_NAME = _parameter()
