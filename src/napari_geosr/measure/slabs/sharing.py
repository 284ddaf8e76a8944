"""Interfaces for sharing the slabs of a measurement among processes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol, TypeVar

from napari_geosr.core.steps import ShouldStop

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class SlabWork(Protocol[R_co]):
    """Processing of each slab, in this or another process."""

    def __call__(self, planes: Any, should_stop: ShouldStop, worker: int, /) -> R_co:
        """Process one slab, given its data, a stop function and the worker number."""


class SlabPool(Protocol):
    """Processes that share the slabs of a measurement."""

    #: Number of processes that share the memory of a computer.
    per_host: int

    def results(
        self, work: SlabWork[R], items: Sequence[Any], should_stop: ShouldStop
    ) -> Generator[R, None, None]:
        """Process all items, and yield their results in the order of the items.

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        """
