"""Default names of models, derived from the method and the source."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence
from pathlib import Path

from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.formats import known_suffix
from napari_geosr.io.suffixes import stem_of
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.operations.train.in_memory import is_in_memory, name_in_memory
from napari_geosr.physics.simulated import is_simulated

#: Default of the field ``name``, which is treated as if no name were given.
DEFAULT_NAME: str = TrainingConfig.model_fields["name"].default
#: Maximum number of characters taken from the name of the source.
_MAX_CHARACTERS = 32


def proposed_name(
    method: str, sources: Sequence[str | Path], taken: Container[str] = ()
) -> str:
    """Return a name for a model, such as ``noise2void-scan12``.

    Parameters
    ----------
    method : str
        Name of the learning method.
    sources : sequence of str or Path
        Files, folders or names of layers; only the first is used.
    taken : container of str
        Names already in use; ``-2``, ``-3``, … is appended to avoid them.
    """
    source_name = _sanitise(sources[0]) if sources else ""
    name = f"{method}-{source_name}" if source_name else method
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def without_default_name(values: AnyMapping) -> AnyDict:
    """Return `values` without the key ``name`` if it has its default value."""
    return {k: v for k, v in values.items() if (k, v) != ("name", DEFAULT_NAME)}


def _sanitise(source: str | Path) -> str:
    """Convert the name of a source to lower-case letters, digits, dots, - and _."""
    path = Path(source)
    if is_simulated(path):
        stem = str(source).split(":")[1]  # the kind, such as ct-scan
    elif is_in_memory(path):
        stem = name_in_memory(path)
    else:  # in a folder name such as scan_0.5um, .5um is not a suffix
        stem = stem_of(path) if known_suffix(path.name) else path.name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    cleaned = re.sub(r"[^a-z0-9._]+", "-", plain.lower())
    return cleaned.strip("-._")[:_MAX_CHARACTERS].rstrip("-._")
