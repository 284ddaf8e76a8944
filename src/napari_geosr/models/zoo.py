"""The zoo: models that come with the package and those in the user's folder."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.errors import ModelError
from napari_geosr.io import atomic
from napari_geosr.models import bundle
from napari_geosr.models.bundle import CARD_FILE, Model
from napari_geosr.models.card import ModelCard

_BUNDLED = Path(__file__).resolve().parent.parent / "pretrained"


@dataclass(frozen=True)
class ZooEntry:
    """A model that is at hand.

    Attributes
    ----------
    name : str
        What to choose it by.
    path : Path
        Folder or zip of the bundle.
    card : ModelCard
        What it is.
    bundled : bool
        Whether it came with the package.
    """

    name: str
    path: Path
    card: ModelCard
    bundled: bool


def user_folder() -> Path:
    """Where people put models of their own, each a folder or zip. May not exist yet."""
    from platformdirs import user_data_path

    return user_data_path("napari-geosr", appauthor=False) / "models"


def bundled_folder() -> Path:
    """Where the models that come with the package lie."""
    return _BUNDLED


def list_models() -> list[ZooEntry]:
    """Return all usable models by name, the user's own before bundled namesakes.

    Damaged bundles in the user's folder are left out here; :func:`damaged` names them.
    """
    return _scan()[0]


def damaged() -> dict[Path, str]:
    """Return what is in the folders but cannot be used, each with the reason."""
    return _scan()[1]


def find(name_or_path: str | Path) -> Model:
    """Return a model by its name in the zoo or by the path of its bundle.

    The folder of a training stands for the one model that was made in it.

    Raises
    ------
    ModelError
        If there is none or it is damaged.
    """
    text = str(name_or_path)
    entries, faults = _scan()
    for entry in entries:
        if entry.name == text:
            return Model(entry.card, entry.path)
    path = Path(name_or_path).expanduser()
    if path.exists():
        return bundle.load(_made_in(path))
    for folder, reason in faults.items():
        if folder.stem == text:
            raise ModelError(reason)
    known = ", ".join(entry.name for entry in entries) or "none"
    raise ModelError(
        f"There is no model {text!r}. Known: {known}. Give one of these names or the "
        f"path of a bundle, or put the bundle into {user_folder()}."
    )


def _made_in(path: Path) -> Path:
    """The bundle in the folder of a training; `path` itself if it is none."""
    results = path / "result"
    if _may_be_bundle(path) or not path.is_dir():
        return path
    found = _bundles(results)
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(map(str, found))
        raise ModelError(f"{path} holds several models. Give one of them: {listed}.")
    if (path / "config.yaml").is_file():
        raise ModelError(
            f"The training in {path} has made no model yet. It will be in {results}: "
            "resume the training first."
        )
    return path


def adopt(path: str | Path) -> Path:
    """Copy the bundle folder at `path` among the user's own models; return the copy.

    A model that is there already is not copied again. Another one of the same name, or
    a bundled one, stays: the copy's name then gets a number.

    Raises
    ------
    ModelError
        If `path` holds no sound bundle.
    FileError
        If the user's folder cannot be written to.
    """
    source = Path(path)
    card = bundle.read_card(source)
    for name in _names_like(card.name):
        target = user_folder() / name
        if target.exists():
            if _same_weights(target, card):
                return target
            continue
        if (_BUNDLED / name).exists():
            continue
        title = name if card.title == card.name else card.title
        renamed = card.model_copy(update={"name": name, "title": title})
        with atomic.explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(target, overwrite=False) as folder:
                shutil.copytree(source, folder)
                (folder / CARD_FILE).write_text(renamed.to_yaml(), encoding="utf-8")
        return target
    raise AssertionError("names never end")


def _names_like(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def _same_weights(path: Path, card: ModelCard) -> bool:
    try:
        return bundle.read_card(path).weights_sha256 == card.weights_sha256
    except ModelError:
        return False


def _scan() -> tuple[list[ZooEntry], dict[Path, str]]:
    entries: dict[str, ZooEntry] = {}
    faults: dict[Path, str] = {}
    for folder, bundled in ((_BUNDLED, True), (user_folder(), False)):
        try:
            paths = _bundles(folder)
        except OSError as error:
            faults[folder] = f"{folder} cannot be read: {error.strerror}."
            continue
        for path in paths:
            try:
                card = bundle.read_card(path)
            except ModelError as error:
                faults[path] = str(error)
                continue
            entries[card.name] = ZooEntry(card.name, path, card, bundled)
    return sorted(entries.values(), key=lambda entry: entry.name), faults


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _may_be_bundle(path))


def _may_be_bundle(path: Path) -> bool:
    try:
        zipped = path.suffix == ".zip" and path.is_file()
        return zipped or (path / CARD_FILE).is_file()
    except OSError:  # reading it will say why
        return True
