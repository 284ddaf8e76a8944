"""Lists the algorithms that a study compares: built-in and third-party ones.

This module does not import torch, because it is used to validate settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning import methods
from napari_geosr.tomography import algorithms

#: Entry points of other packages. Each names a module with ``TITLE`` (name shown to the
#: user), ``LEARNS`` (whether it is trained on other rows), ``ALGORITHM`` (from
#: `tomography.algorithms`) or ``METHOD`` (from `learning.methods`), whose settings it
#: uses, and ``reconstruct_steps(cell, should_stop)``, which returns an
#: `operations.study.cell.AlgorithmResult`. ``CANDIDATES`` (settings to tune) is
#: optional.
GROUP = "napari_geosr.study_algorithms"


@dataclass(frozen=True)
class Classical:
    """An algorithm of `tomography.algorithms`.

    Attributes
    ----------
    title : str
        Name shown to the user.
    algorithm : str
        Name of the algorithm in `tomography.algorithms`.
    candidates : tuple of mapping
        Settings in ascending order, from which a study selects the one with the
        smallest error on unused projections; empty if there is nothing to select.
    """

    title: str
    algorithm: str
    candidates: tuple[AnyMapping, ...] = ()
    #: Learning method; set only for learned algorithms.
    method: ClassVar[None] = None

    def config_class(self) -> type[Config]:
        """Return the class of the algorithm's settings."""
        return algorithms.config_class(self.algorithm)


@dataclass(frozen=True)
class LearningMethod:
    """A method of `learning.methods`, trained on rows that are not evaluated.

    Attributes
    ----------
    title : str
        Name shown to the user.
    method : str
        Name of the method in `learning.methods`.
    settings : mapping
        Settings of the method, in addition to those shared by all methods of a study.
    """

    title: str
    method: str
    settings: AnyMapping
    candidates: ClassVar[tuple[AnyMapping, ...]] = ()

    def config_class(self) -> type[Config]:
        """Return the class of the method's settings."""
        return methods.config_class(self.method)


@dataclass(frozen=True)
class ThirdParty:
    """An algorithm of another package; see `GROUP`."""

    module: Any

    @property
    def title(self) -> str:
        return str(self.module.TITLE)

    @property
    def method(self) -> str | None:
        return str(self.module.METHOD) if self.module.LEARNS else None

    @property
    def candidates(self) -> tuple[AnyMapping, ...]:
        return tuple(getattr(self.module, "CANDIDATES", ()))

    def config_class(self) -> type[Config]:
        """Return the class of the algorithm's settings."""
        if self.module.LEARNS:
            return methods.config_class(self.module.METHOD)
        return algorithms.config_class(self.module.ALGORITHM)


Algorithm = Classical | LearningMethod | ThirdParty


def _iterations(*numbers: int) -> tuple[AnyMapping, ...]:
    return tuple({"iterations": n} for n in numbers)


#: Algorithms by the name used in settings.
ALGORITHMS: Mapping[str, Algorithm] = {
    # The baseline, which has no settings to tune.
    "fbp": Classical("FBP", "fbp"),
    "sirt": Classical("SIRT", "sirt", _iterations(5, 10, 20, 40, 80, 160, 320, 640)),
    "cgls": Classical("CGLS", "cgls", _iterations(2, 5, 10, 20, 40, 80)),
    "tv": Classical(
        "TV",
        "tv",
        tuple({"weight": w} for w in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    ),
    # Methods that learn to turn reconstructions from few projections into those from
    # all.
    "msdnet": LearningMethod("MSDNet", "supervised", {"network": "msdnet"}),
    # TomoGAN as published, and a variant with a Wasserstein critic.
    "tomogan-js": LearningMethod(
        "TomoGAN (JS)", "tomogan", {"distance": "jensen-shannon"}
    ),
    "tomogan-w": LearningMethod("TomoGAN (W)", "tomogan", {"distance": "wasserstein"}),
    # A method that is trained only on subsets of the few projections.
    "noise2inverse": LearningMethod(
        "Noise2Inverse", "noise2inverse", {"network": "msdnet"}
    ),
}


@cache
def _third_parties() -> Mapping[str, str]:
    """Return the entry points of other packages, by the name used in settings."""
    found = {p.name.replace("_", "-"): p.module for p in entry_points(group=GROUP)}
    for name in found.keys() & ALGORITHMS.keys():
        raise ConfigError(
            f"Two algorithms of a study are called {name!r}: one from napari-geosr "
            f"and one from {found[name]}. Uninstall the package that provides the "
            "second one."
        )
    return found


def algorithm_names() -> list[str]:
    """Return the names of all algorithms, in alphabetical order."""
    return sorted([*ALGORITHMS, *_third_parties()])


def find_algorithm(name: str) -> Algorithm:
    """Return the algorithm of this name; underscores may stand for hyphens.

    Raises
    ------
    ConfigError
        If there is no such algorithm, or its module cannot be imported.
    """
    key = name.replace("_", "-")
    if key in ALGORITHMS:
        return ALGORITHMS[key]
    modules = _third_parties()
    if key not in modules:
        raise ConfigError(
            f"There is no study algorithm {name!r}. Known: "
            f"{', '.join(algorithm_names())}."
        )
    try:
        return ThirdParty(import_module(modules[key]))
    except ImportError as error:
        raise ConfigError(
            f"The study algorithm {name!r} cannot be used: its module "
            f"{modules[key]} cannot be imported ({error}). Reinstall the package that "
            "provides it."
        ) from error


def checked_options(name: str, options: AnyMapping) -> AnyDict:
    """Convert a user's settings for an algorithm to their types.

    Raises
    ------
    ConfigError
        If there is no such algorithm, it has no such setting, or a value is invalid.
    """
    kind = find_algorithm(name).config_class()
    return kind.create(**options).model_dump(mode="json", include=set(options))
