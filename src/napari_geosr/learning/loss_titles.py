"""What the losses that methods name mean, in a few plain words."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.losses.terms import titles
from napari_geosr.learning.methods import METHODS

#: Of all methods; what each has beside these its ``Method.loss_titles`` say.
_TITLES = {
    "loss": "training",
    "validation": "validation",
}


@cache
def loss_titles() -> dict[str, str]:
    """What the losses of all methods are called, by name."""
    found = titles()
    for name in METHODS.names():
        # A method of another package that cannot be imported has no curves to name.
        with suppress(ConfigError):
            found |= METHODS.load(name).Method.loss_titles
    return found | _TITLES


def loss_title(name: str) -> str:
    """Return what a curve of the loss `name` is called; `name` if it has no title."""
    return loss_titles().get(name, name)
