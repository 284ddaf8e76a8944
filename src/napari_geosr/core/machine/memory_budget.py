"""The setting for the memory that a run may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from napari_geosr.core.config import format_bytes, parse_bytes
from napari_geosr.core.errors import ConfigError


def _as_text(value: object) -> object:
    """Convert a number of bytes without a unit, from a settings file, to text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _checked(value: str | None) -> str | None:
    if value is not None and parse_bytes(value) < _MIN_BYTES:
        raise ConfigError(
            f"{value} means {format_bytes(parse_bytes(value))}, which is too little "
            "for any run. Give a unit, such as 4GB or 800MB."
        )
    return value


#: Minimum budget in bytes; for a smaller one, the unit was probably forgotten (4 for
#: 4 GB).
_MIN_BYTES = 1000

MemoryBudget = Annotated[
    str | None,
    BeforeValidator(_as_text),
    AfterValidator(_checked),
    Field(
        title="Memory",
        description="Maximum memory of the run, such as 4GB, in addition to the "
        "program (and the model, if any). By default, part of the free memory is used.",
    ),
]
