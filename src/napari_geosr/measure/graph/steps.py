"""Traces the graph of a measured phase, which is read slab by slab."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.config import (
    format_available,
    format_enough,
)
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.measure.graph import NetworkGraph, network_graph
from napari_geosr.measure.sums import Geometry

Mask = npt.NDArray[np.bool_]

#: Bytes per voxel for the phase, its labels, its centrelines and the distances to its
#: surface.
_BYTES_PER_VOXEL = 32


def check_graph_memory(
    shape: Sequence[int], free: int, name: str, budget: int | None = None
) -> None:
    """Reject a graph that would not fit into memory, before any voxel is read.

    Parameters
    ----------
    shape : sequence of int
    free : int
        Memory available for the graph, in bytes.
    name : str
        Name of the volume in messages.
    budget : int, optional
        The memory budget of the whole measurement; None if only the free memory limits
        it.

    Raises
    ------
    VolumeError
        If the graph needs more than `free` bytes.
    """
    needed = _BYTES_PER_VOXEL * math.prod(shape)
    if needed <= free:
        return
    if budget is None:
        raise VolumeError(
            f"The graph of {name!r} needs {format_enough(needed)} of memory, but "
            f"only {format_available(free)} may be used. Measure a part of the volume, "
            "or omit the graph (--graph)."
        )
    raise VolumeError(
        f"Measuring {name!r} with its graph needs at least "
        f"{format_enough(needed + budget - free)} of memory, but the budget is "
        f"{format_available(budget)}. Increase it (--memory), measure a part of the "
        "volume, or omit the graph (--graph)."
    )


def graph_steps(
    pores: Callable[[slice], Mask],
    slabs: Sequence[slice],
    shape: tuple[int, ...],
    geometry: Geometry,
    smallest: int,
) -> Generator[Step, None, NetworkGraph]:
    """Trace the graph of a phase, such as the pores.

    Parameters
    ----------
    pores : callable
        Returns the phase in a slab of planes.
    smallest : int
        Minimum number of voxels of a component; smaller ones are removed.

    Yields
    ------
    Step
        `StageStarted`.

    Returns
    -------
    NetworkGraph
    """
    yield StageStarted(message="Tracing the graph")
    phase = np.zeros(shape, bool)
    for slab in slabs:
        phase[slab] = pores(slab)
    return network_graph(
        phase,
        geometry.voxel_size,
        geometry.origin,
        geometry.unit,
        smallest=smallest,
    )
