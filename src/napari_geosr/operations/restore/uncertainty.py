"""Kinds of uncertainty, as people choose them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.inference.members import KINDS, NONE

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

__all__ = ["NONE", "UncertaintyKind", "go_together", "kinds"]


@dataclass(frozen=True)
class UncertaintyKind:
    """A way to find out how sure a model is.

    Attributes
    ----------
    name : str
        As settings have it.
    title, help : str
        For people.
    needs_others : bool
        Whether further models are given.
    """

    name: str
    title: str
    help: str
    needs_others: bool


def kinds() -> list[UncertaintyKind]:
    """All kinds there are; imports no torch. One that needs no other models first."""
    found = []
    for name in KINDS.names():
        module = KINDS.load(name)
        found.append(
            UncertaintyKind(name, module.TITLE, module.HELP, module.NEEDS_OTHERS)
        )
    return sorted(found, key=lambda kind: (kind.needs_others, kind.name))


def go_together(one: ModelCard, other: ModelCard) -> bool:
    """Whether two models may be an ensemble, by what their cards say."""
    return (
        (one.task, one.upscale_factor, one.axes)
        == (other.task, other.upscale_factor, other.axes)
        and one.weights_sha256 != other.weights_sha256
        and one.labels == other.labels == 1
        and one.has_weights
        and other.has_weights
    )
