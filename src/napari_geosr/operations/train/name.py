"""What a model is called where a person gives no name: after method and source."""

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

#: What a config is called where nobody named it.
NO_NAME: str = TrainingConfig.model_fields["name"].default
#: Letters of a source's name that are taken: longer ones are cut.
_LONGEST = 32


def proposed_name(
    method: str, sources: Sequence[str | Path], taken: Container[str] = ()
) -> str:
    """Return a name such as ``noise2void-scan12``.

    Parameters
    ----------
    method : str
        Name of the learning method.
    sources : sequence of str or Path
        Files, folders or names of layers; the first one counts.
    taken : container of str
        Names that are not to be given again: then it ends in ``-2``, ``-3``, …
    """
    of_source = _in_letters(sources[0]) if sources else ""
    name = f"{method}-{of_source}" if of_source else method
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def without_no_name(values: AnyMapping) -> AnyDict:
    """`values` of a config, without its default name: a file may hold that as well."""
    return {k: v for k, v in values.items() if (k, v) != ("name", NO_NAME)}


def _in_letters(source: str | Path) -> str:
    """The name of a source in small letters, digits, dots, - and _ alone."""
    path = Path(source)
    if is_simulated(path):
        stem = str(source).split(":")[1]  # of simulated:ct-scan:0-127 the kind
    elif is_in_memory(path):
        stem = name_in_memory(path)
    else:  # what follows the dot of a folder scan_0.5um is no suffix
        stem = stem_of(path) if known_suffix(path.name) else path.name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^a-z0-9._]+", "-", plain.lower())
    return kept.strip("-._")[:_LONGEST].rstrip("-._")
