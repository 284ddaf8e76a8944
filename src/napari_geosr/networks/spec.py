"""Define the network properties that tiled inference requires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from napari_geosr.core.errors import ConfigError

if TYPE_CHECKING:
    import torch


@runtime_checkable
class SupportsTrainingDtype(Protocol):
    """A network that can use another floating-point type during training.

    Attributes
    ----------
    training_dtype : torch.dtype or None
        Floating-point type in training; None for the type of the input.
    """

    training_dtype: torch.dtype | None


@dataclass(frozen=True)
class NetworkSpec:
    """Properties of a network that tiled inference relies on.

    Attributes
    ----------
    axes : str
        ``"YX"`` for a network on planes, ``"ZYX"`` for one on volumes.
    halo : tuple of int
        Radius of the receptive field along `axes`, in input voxels.
    stride : tuple of int
        Total stride along `axes`; tiles start at multiples of it.
    upscale_factor : tuple of int
        Output voxels per input voxel along `axes`.
    adjacent_slices : int
        Odd number of adjacent slices given as input channels (2.5D); 1 otherwise.
    minimum_size : tuple of int
        Minimum input size along `axes`, e.g. because of reflection padding; by default
        1 along each axis.
    local : bool
        False for networks with global statistics, which cannot be tiled exactly.
    at_once : int or None
        Largest number of input voxels that the network processes at once; it splits
        larger inputs itself. None if it does not split inputs.
    n_outputs : int
        Number of output channels: 1, the restored values; or 2, their mean and standard
        deviation over several predictions.
    input : {"grey", "shape"}
        Whether the input is grey values, or the occupied voxels of a shape.

    Raises
    ------
    ConfigError
        If the values are inconsistent.
    """

    axes: str
    halo: tuple[int, ...]
    stride: tuple[int, ...]
    upscale_factor: tuple[int, ...]
    adjacent_slices: int = 1
    minimum_size: tuple[int, ...] = ()
    local: bool = True
    n_outputs: int = 1
    at_once: int | None = None
    input: Literal["grey", "shape"] = "grey"

    def __post_init__(self) -> None:
        n = len(self.axes)
        if not self.minimum_size:
            object.__setattr__(self, "minimum_size", (1,) * n)
        for name in ("halo", "stride", "upscale_factor", "minimum_size"):
            values = getattr(self, name)
            if len(values) != n or min(values) < (0 if name == "halo" else 1):
                raise ConfigError(
                    f"{name} {values} does not match a network on the axes "
                    f"{self.axes}: give one whole number for each axis."
                )
        if self.axes not in ("YX", "ZYX") or self.adjacent_slices % 2 != 1:
            raise ConfigError(
                f"Invalid axes {self.axes!r} or number of adjacent slices "
                f"{self.adjacent_slices}: axes must be YX or ZYX, and the number of "
                "slices must be odd."
            )
