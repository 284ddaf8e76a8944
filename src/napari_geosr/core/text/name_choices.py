"""Annotation for text fields that list names, so that a form can offer the names."""

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
