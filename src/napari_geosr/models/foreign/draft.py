"""Define the result of an importer: a network that is not yet a model bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_geosr.core.text.vocabulary import Modality, Task
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.models.card import Normalisation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.networks.foreign import NetworkConfig

RGB_REMARK = (
    "The network takes colour images (RGB): it receives the grey values in all three "
    "channels, and the three outputs are averaged."
)


def _no_reference(_network: nn.Module) -> None:
    """Do nothing, because there is no reference to compare with."""


@dataclass(frozen=True, eq=False)
class ReferenceImage:
    """An image and its expected restoration.

    Attributes
    ----------
    given : ndarray of shape ([Z,] Y, X)
        Original grey values.
    expected : ndarray
        Result of the original model, converted to the grey scale of restorations.
    known_difference : str
        Sentence about an intended difference from the original model; ``""`` if there
        is none and the results must agree.
    """

    given: AnyArray
    expected: AnyArray
    known_difference: str = ""


@dataclass(frozen=True)
class ImportDraft:
    """A third-party network with its known properties.

    Attributes
    ----------
    config : NetworkConfig
        Settings without halo, stride and locality, which are measured.
    weights : mapping of str to Tensor
        State dict of `napari_geosr.networks.foreign.ForeignNetwork`.
    origin : str
        Software that made the model, as one word; becomes the card's method.
    check : callable
        Called with the network; raises `ModelError` unless the network reproduces the
        reference result of the package, or the result of the original library.
    reference : ReferenceImage or None
        Expected result of a restoration with the written bundle.
    remarks : tuple of str
        Sentences for the card on how volumes are adapted to the network.
    """

    name: str
    title: str
    task: Task
    origin: str
    config: NetworkConfig
    weights: Mapping[str, Tensor]
    normalisation: Normalisation
    description: str
    licence: str = "unknown: ask its authors"
    citation: str = ""
    not_for: str = ""
    trained_on: str = "unknown: not given in the file"
    modalities: tuple[Modality, ...] = ()
    voxel_size: tuple[float, float] | None = None
    unit: str | None = None
    remarks: tuple[str, ...] = ()
    provenance: AnyMapping = field(default_factory=dict)
    check: Callable[[nn.Module], None] = _no_reference
    reference: ReferenceImage | None = None


def name_of(text: str) -> str:
    """Return a valid model name made from text: lower case, with hyphens."""
    name = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")
    return name or "imported"
