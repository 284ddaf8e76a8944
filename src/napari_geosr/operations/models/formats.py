"""Formats for importing and exporting models, as named in help and menus."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError
from napari_geosr.models import foreign
from napari_geosr.models.exports import EXPORTS


@dataclass(frozen=True)
class Format:
    """A format as shown to the user.

    Attributes
    ----------
    title, suffix : str
    """

    title: str
    suffix: str


def formats() -> dict[str, Format]:
    """Return the available formats, by name, without importing their libraries."""
    available = {}
    for name in EXPORTS.names():
        # Omit third-party formats whose modules cannot be imported; choosing one of
        # them raises the error.
        with suppress(ConfigError):
            module = EXPORTS.load(name)
            available[name] = Format(str(module.TITLE), str(module.SUFFIX))
    return available


def format_help() -> str:
    """Return the names and suffixes of the formats, as text for help."""
    return ", ".join(f"{name} ({kind.suffix})" for name, kind in formats().items())


def source_help() -> str:
    """Return the model formats that can be imported in addition to bundles, as text.

    This function does not import torch.
    """
    *most, last = foreign.about()
    return f"{', '.join(most)} or {last}"


def suffixes() -> list[str]:
    """Return the suffixes of files that can be imported, including ``.zip``."""
    return list(dict.fromkeys([".zip", *foreign.suffixes()]))
