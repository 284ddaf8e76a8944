"""Annotation for text fields of configs that list names, so a form can offer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NameChoices:
    """Marks a text field as a list of names: ``Annotated[str, NameChoices(…)]``.

    Attributes
    ----------
    names : callable
        Returns the names, each with a one-line description; called on demand.
    """

    names: Callable[[], Mapping[str, str]]
