"""Shared settings of 2D, 2.5D and 3D networks."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from napari_geosr.core.config import Config


class PlanesConfig(Config):
    """Number of spatial axes and of adjacent slices of a network."""

    ndim: Literal[2, 3] = 2
    """Number of spatial axes: planes (2) or volumes (3)."""
    adjacent_slices: int = Field(1, ge=1, le=31)
    """Number of adjacent slices given as input channels (2.5D); odd; 2D only."""

    @model_validator(mode="after")
    def _check_slices(self) -> Self:
        if self.adjacent_slices % 2 == 0:
            raise ValueError("the number of adjacent slices must be odd")
        if self.ndim == 3 and self.adjacent_slices != 1:
            raise ValueError("a 3D network does not use adjacent slices")
        return self
