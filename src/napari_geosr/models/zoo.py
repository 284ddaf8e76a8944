"""List and manage the zoo: bundled models and those in the user's folder."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from platformdirs import user_data_path

from napari_geosr.core.errors import ModelError
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.core.text.vocabulary import ModelOrigin
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.hidden import temporary_sibling
from napari_geosr.models import bundle
from napari_geosr.models.archives import copy_folder, zip_names
from napari_geosr.models.bundle import Model
from napari_geosr.models.bundle_files import CARD_FILE, MAX_WEIGHTS_BYTES, is_member
from napari_geosr.models.card import NAME_PATTERN, ModelCard

_BUNDLED = Path(__file__).resolve().parent.parent / "pretrained"
#: Maximum total size of the files of a bundle in bytes: weights, and pictures in its
#: folder.
_MAX_BUNDLE_BYTES = MAX_WEIGHTS_BYTES + 10**8
#: Cards modified less than this many nanoseconds ago are not cached: they may change
#: again within one tick, if the clock of the file system is coarse.
_YOUNG_NS = 2 * 10**9


@dataclass(frozen=True)
class ZooEntry:
    """An available model in the zoo.

    Attributes
    ----------
    name : str
        Name by which the model is selected.
    path : Path
        Folder or zip of the bundle.
    card : ModelCard
        Description of the model.
    bundled : bool
        Whether the model is part of the package.
    """

    name: str
    path: Path
    card: ModelCard
    bundled: bool

    def __repr__(self) -> str:
        return f"<ZooEntry {self.name!r}: {self.card.task}, {self.location}>"

    @property
    def origin(self) -> ModelOrigin:
        """Label for lists: bundled, or the user's own."""
        return "bundled" if self.bundled else "own"

    @property
    def location(self) -> str:
        """The `origin`, followed by the path for the user's own models."""
        return self.origin if self.bundled else f"{self.origin}: {self.path}"


def user_folder() -> Path:
    """Return the folder for the user's own models, which may not exist yet."""
    return user_data_path("napari-geosr", appauthor=False) / "models"


def bundled_folder() -> Path:
    """Return the folder of the bundled models."""
    return _BUNDLED


def list_models() -> list[ZooEntry]:
    """Return all usable models by name; the user's own override bundled ones.

    Damaged bundles in the user's folder are left out here; `damaged` names them.
    """
    return scan_folders()[0]


def damaged() -> dict[Path, str]:
    """Return unusable entries of the folders, each with the reason."""
    return scan_folders()[1]


def find(name_or_path: str | Path) -> Model:
    """Return a model by its name in the zoo or by the path of its bundle.

    The path of a training folder selects the model that the training produced.

    Raises
    ------
    ModelError
        If there is no such model or it is damaged.
    """
    text = str(name_or_path)
    # The user's models may have any folder name, so all of their cards are read. Of the
    # bundled models, only one is read, because reading all takes a quarter of a second.
    entry = _scan(user_folder(), bundled=False)[0].get(text) or _bundled_entry(text)
    if entry is not None:
        return Model(entry.card, entry.path)
    path = Path(name_or_path).expanduser()
    if path.exists():
        bundle_path = _trained_bundle(path)
        return Model(_card(bundle_path), bundle_path)
    entries, faults = scan_folders()
    for folder, reason in faults.items():
        if folder.stem == text:
            raise ModelError(reason)
    if text == "none":
        raise ModelError(
            "'none' means that the scan is left unchanged: there is nothing to run. "
            "Use the scan itself, or choose a model."
        )
    if (_BUNDLED / "shapes" / text / CARD_FILE).is_file():
        raise ModelError(
            f"The model {text!r} is for shapes, not for grey values. Use it with "
            "napari-geosr shapes."
        )
    names = [entry.name for entry in entries]
    raise ModelError(
        f"There is no model {text!r}.{did_you_mean(text, names)} Known: "
        f"{', '.join(names) or 'none'}. Give one of these names or the path of a "
        f"bundle, or put the bundle into {user_folder()}."
    )


def _trained_bundle(path: Path) -> Path:
    """Return the bundle in a training folder; other paths are returned unchanged."""
    results = path / "result"
    if _may_be_bundle(path) or not path.is_dir():
        return path
    bundles = _bundles(results)
    if len(bundles) == 1:
        return bundles[0]
    if bundles:
        listed = ", ".join(map(str, bundles))
        raise ModelError(f"{path} contains several models. Give one of them: {listed}.")
    if (path / "config.yaml").is_file():
        raise ModelError(
            f"The training in {path} has not produced a model yet (it will be in "
            f"{results}). Resume the training first."
        )
    return path


def is_bundle(path: Path) -> bool:
    """Whether a folder or zip is, or was meant to be, a model bundle."""
    if path.is_dir():
        return (path / CARD_FILE).is_file()
    return any(is_member(name, CARD_FILE) for name in zip_names(path))


def check_name_available(name: str) -> None:
    """Raise `ModelError` if `name` is invalid or taken."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ModelError(
            f"Invalid model name {name!r}: use lower-case letters, digits, dots, "
            "hyphens and underscores, and start with a letter or digit."
        )
    if any(entry.name == name for entry in list_models()) or _is_taken(name):
        raise ModelError(f"A model {name!r} already exists. Choose another name.")


def _is_taken(name: str) -> bool:
    return (user_folder() / name).exists() or (_BUNDLED / name).exists()


def adopt(path: str | Path, name: str | None = None) -> Path:
    """Copy the bundle at `path` to the user's own models; return the path of the copy.

    A model that already exists there is not copied again. If another model has the same
    name, a number is added to the name of the copy.

    Parameters
    ----------
    path : str or Path
        Folder or zip of the bundle.
    name : str, optional
        Name of the copy; by default that of the model.

    Raises
    ------
    ModelError
        If `path` does not contain a valid bundle.
    FileError
        If the user's folder cannot be written to.
    """
    source = Path(path)
    card = bundle.read_card(source)
    for candidate in _candidate_names(name or card.name):
        target = user_folder() / candidate
        if target.exists():
            if _is_same(target, card):
                return target
            continue
        if (_BUNDLED / candidate).exists():
            continue
        title = candidate if card.title == card.name else card.title
        renamed = card.model_copy(update={"name": candidate, "title": title})
        with atomic.explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic.replacing(target, overwrite=False) as folder:
                _copy(source, folder)
                (folder / CARD_FILE).write_text(renamed.to_yaml(), encoding="utf-8")
        return target
    raise AssertionError("too many file names")


def remove(name: str) -> Path:
    """Delete one of the user's own models, by its name or its folder's name.

    Afterwards, the name refers to the bundled model of the same name, if there is one.

    Returns
    -------
    Path
        The deleted file or folder.

    Raises
    ------
    ModelError
        If there is no such model, or it is part of the package.
    FileError
        If it cannot be deleted.
    """
    entries, faults = scan_folders()
    own_models = {entry.name: entry.path for entry in entries if not entry.bundled}
    damaged_ones = {path.name: path for path in faults if path.parent == user_folder()}
    path = own_models.get(name) or damaged_ones.get(name)
    if path is None:
        if any(entry.name == name for entry in entries):
            raise ModelError(
                f"The model {name!r} is part of napari-geosr and cannot be removed."
            )
        known = ", ".join(sorted({*own_models, *damaged_ones})) or "none"
        raise ModelError(
            f"There is no model {name!r} among your own models. Yours: {known}."
        )
    with atomic.explained(path):
        # Rename first: a partly deleted model would be listed as damaged.
        temporary = temporary_sibling(path)
        path.rename(temporary)
    atomic.remove(temporary)
    return path


def _copy(source: Path, folder: Path) -> None:
    """Copy a bundle to a new folder."""
    if source.is_dir():
        copy_folder(source, folder, _MAX_BUNDLE_BYTES)
        return
    folder.mkdir()
    for file, content in bundle.contents(source).items():
        (folder / file).write_bytes(content)


def _candidate_names(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def _is_same(path: Path, card: ModelCard) -> bool:
    """Whether the model at `path` has the weights and settings of `card`."""
    try:
        existing = bundle.read_card(path)
    except ModelError:
        return False
    return (existing.weights_sha256, existing.network, existing.network_kwargs) == (
        card.weights_sha256,
        card.network,
        card.network_kwargs,
    )


def scan_folders() -> tuple[list[ZooEntry], dict[Path, str]]:
    """Return the results of `list_models` and `damaged` from a single search."""
    entries, faults = _scan(_BUNDLED, bundled=True)
    own, own_faults = _scan(user_folder(), bundled=False)
    both = entries | own
    return [both[name] for name in sorted(both)], faults | own_faults


def _scan(folder: Path, bundled: bool) -> tuple[dict[str, ZooEntry], dict[Path, str]]:
    """Return the models of a folder by name, and unusable entries with the reason."""
    entries: dict[str, ZooEntry] = {}
    faults: dict[Path, str] = {}
    try:
        paths = _bundles(folder)
    except OSError as error:
        return {}, {folder: f"{folder} cannot be read: {error.strerror}."}
    for path in paths:
        try:
            card = _card(path)
        except ModelError as error:
            faults[path] = str(error)
            continue
        entries[card.name] = ZooEntry(card.name, path, card, bundled)
    return entries, faults


def _bundled_entry(name: str) -> ZooEntry | None:
    """Return the bundled model with this name, which is also the name of its folder."""
    try:
        for path in _bundles(_BUNDLED):
            if path.name == name:
                return ZooEntry(name, path, _card(path), bundled=True)
    except (OSError, ModelError):  # `damaged` gives the reason
        pass
    return None


def _card(path: Path) -> ModelCard:
    """Read the card of a bundle, parsing it again only if its file changed."""
    try:
        stat = (path / CARD_FILE if path.is_dir() else path).stat()
    except OSError:  # reading the card raises the error
        return bundle.read_card(path)
    if time.time_ns() - stat.st_mtime_ns < _YOUNG_NS:
        return bundle.read_card(path)
    # A copy may preserve the file times, but has a different inode and change time.
    return _parsed(path, stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_ctime_ns)


@lru_cache(maxsize=256)
def _parsed(path: Path, *_stamp: int) -> ModelCard:
    # The state of the file was read before the card: a change in between is harmless,
    # as the old state never recurs. Errors are not cached.
    return bundle.read_card(path)


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    # Hidden entries belong to models that are being created or removed.
    paths = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in paths if _may_be_bundle(path))


def _may_be_bundle(path: Path) -> bool:
    try:
        zipped = path.suffix == ".zip" and path.is_file()
        return zipped or (path / CARD_FILE).is_file()
    except OSError:  # reading it later raises the error
        return True
