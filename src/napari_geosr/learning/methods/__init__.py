"""Learning methods, one per file, found by file name.

The module of a method must not import torch at module level. It provides:

``Config``
    A `napari_geosr.learning.config.TrainingConfig` with the method's own fields.
``PURPOSE``
    Purpose of its models, in a few words (optional).
``NEEDS``
    One line on the data that the method needs.
``Method``
    A `napari_geosr.learning.method.Method`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.losses.terms import titles

METHODS = Registry(
    package="napari_geosr.learning.methods",
    group="napari_geosr.methods",
    noun="learning method",
)
#: Titles of the losses common to all methods; others are in ``Method.loss_titles``.
_TITLES = {
    "loss": "training",
    "validation": "validation",
}


def needs() -> dict[str, str]:
    """Return the data that each method needs, one line each, by method name."""
    return {name: str(METHODS.load(name).NEEDS) for name in METHODS.names()}


def purposes() -> dict[str, str]:
    """Return what the models of each method do, by method name; empty if not stated."""
    return {n: str(getattr(METHODS.load(n), "PURPOSE", "")) for n in METHODS.names()}


def config_class(name: str) -> type[TrainingConfig]:
    """Return the config class of a method."""
    kind: type[TrainingConfig] = METHODS.load(name).Config
    return kind


@cache
def loss_titles() -> dict[str, str]:
    """Return the titles of the losses of all methods, by name."""
    all_titles = titles()
    for name in METHODS.names():
        # Skip methods of other packages that cannot be imported.
        with suppress(ConfigError):
            all_titles |= METHODS.load(name).Method.loss_titles
    return all_titles | _TITLES


def loss_title(name: str) -> str:
    """Return the title of the loss `name`; `name` if it has none."""
    return loss_titles().get(name, name)
