"""The setting that says how much memory a run may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from napari_geosr.core.config import parse_bytes


def _as_text(value: object) -> object:
    """A plain number of a settings file is one of bytes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _checked(value: str | None) -> str | None:
    if value is not None:
        parse_bytes(value)
    return value


MemoryBudget = Annotated[
    str | None,
    BeforeValidator(_as_text),
    AfterValidator(_checked),
    Field(
        title="Memory",
        description="Memory that the run may use on top of the program and the model, "
        "such as 4GB; by default a share of what is free.",
    ),
]
