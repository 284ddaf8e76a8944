"""Result of an importer: a third-party network, not yet a model bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.vocabulary import Modality, Task
from napari_geosr.models.card import Normalisation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.networks.foreign import NetworkConfig

RGB_REMARK = (
    "The network takes colour images (RGB): it receives the grey values in all three "
    "channels, and the three outputs are averaged."
)


def _nothing(_network: nn.Module) -> None:
    """No reference to compare with."""


@dataclass(frozen=True, eq=False)
class ReferenceImage:
    """An image and its expected restoration.

    Attributes
    ----------
    given : ndarray of shape ([Z,] Y, X)
        Grey values as they come.
    expected : ndarray
        The original's result, in the grey values that are restored here.
    departs : str
        What is done otherwise here on purpose, as a sentence; ``""``: nothing, so that
        the two have to be the same.
    """

    given: AnyArray
    expected: AnyArray
    departs: str = ""


@dataclass(frozen=True)
class Draft:
    """A third-party network with what is known about it.

    Attributes
    ----------
    config : NetworkConfig
        Without halo, stride and locality: those are measured.
    weights : mapping of str to Tensor
        State of `napari_geosr.networks.foreign.ForeignNetwork`.
    origin : str
        What it was made with, in a word: the card's method.
    check : callable
        Raises `ModelError` unless the network it is given reproduces the reference
        result that came with the model, or that its own library computes.
    reference : ReferenceImage or None
        What a restoration with the bundle that is kept has to give.
    remarks : tuple of str
        Sentences for the card on what is done to fit it to volumes.
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
    trained_on: str = "unknown: the file does not say"
    modalities: tuple[Modality, ...] = ()
    voxel_size: tuple[float, float] | None = None
    unit: str | None = None
    remarks: tuple[str, ...] = ()
    provenance: AnyMapping = field(default_factory=dict)
    check: Callable[[nn.Module], None] = _nothing
    reference: ReferenceImage | None = None


def name_of(text: str) -> str:
    """A name for a card: lower-case letters, digits, hyphens."""
    name = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._")
    return name or "imported"
