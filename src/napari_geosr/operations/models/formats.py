"""Files that models are imported from and exported to, as help and menus name them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError
from napari_geosr.models import foreign
from napari_geosr.models.exports import EXPORTS


@dataclass(frozen=True)
class Format:
    """A format as people see it.

    Attributes
    ----------
    title, suffix : str
    """

    title: str
    suffix: str


def formats() -> dict[str, Format]:
    """The formats that there are, by name; imports none of their libraries."""
    found = {}
    for name in EXPORTS.names():
        # One of another package that cannot be imported is refused when it is chosen.
        with suppress(ConfigError):
            module = EXPORTS.load(name)
            found[name] = Format(str(module.TITLE), str(module.SUFFIX))
    return found


def about_formats() -> str:
    """Their names, and how files of each end, for a line of help."""
    return ", ".join(f"{name} ({kind.suffix})" for name, kind in formats().items())


def about_sources() -> str:
    """What can be imported beside bundles of ours, in words; imports no torch."""
    *most, last = foreign.about()
    return f"{', '.join(most)} or {last}"


def suffixes() -> list[str]:
    """Of files that can be imported; bundles of ours are zips."""
    return list(dict.fromkeys([".zip", *foreign.suffixes()]))
