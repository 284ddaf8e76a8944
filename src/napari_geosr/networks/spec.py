"""What the tiler has to know about a network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSpec:
    """The contract between a network and tiled inference.

    Attributes
    ----------
    axes : str
        ``"YX"`` for a network on planes, ``"ZYX"`` for one on volumes.
    halo : tuple of int
        Radius of the receptive field along `axes`, in input voxels.
    stride : tuple of int
        Total stride along `axes`: tiles start at multiples of it.
    upscale_factor : tuple of int
        Output voxels per input voxel along `axes`.
    adjacent_slices : int
        Odd number of neighbouring planes given as input channels (2.5D); 1 otherwise.
    minimum_size : tuple of int
        Smallest input along `axes` (padding by reflection needs some).
    local : bool
        False for networks with global statistics, which cannot be tiled exactly.
    """

    axes: str
    halo: tuple[int, ...]
    stride: tuple[int, ...]
    upscale_factor: tuple[int, ...]
    adjacent_slices: int = 1
    minimum_size: tuple[int, ...] = (1, 1)
    local: bool = True
