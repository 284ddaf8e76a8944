"""Learning methods, one a file, found by file name.

A method module offers, without importing torch:

``Config``
    A `napari_geosr.learning.config.TrainingConfig` with the method's own fields.
``NEEDS``
    One line on the data that it needs.
``Method``
    A `napari_geosr.learning.method.Method`.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry
from napari_geosr.learning.config import TrainingConfig

METHODS = Registry(
    package="napari_geosr.learning.methods",
    group="napari_geosr.methods",
    noun="learning method",
)


def needs() -> dict[str, str]:
    """What data each method needs, one line each, by name."""
    return {name: str(METHODS.load(name).NEEDS) for name in METHODS.names()}


def config_class(name: str) -> type[TrainingConfig]:
    """Return the config class of a method."""
    kind: type[TrainingConfig] = METHODS.load(name).Config
    return kind
