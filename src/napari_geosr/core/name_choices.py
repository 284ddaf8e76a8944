"""Text fields of configs that list names: what a form needs to offer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NameChoices:
    """Says of a text field (``Annotated[str, NameChoices(…)]``) that it lists names.

    Attributes
    ----------
    names : callable
        Gives the names, each with a line about it; called when a person looks.
    """

    names: Callable[[], Mapping[str, str]]
