"""Distributes slabs of a measurement among processes; collects results in order."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.io.lazy import LazyArray
from napari_geosr.measure.interval import IntervalPart, ShiftedPores
from napari_geosr.measure.porosity_run import LabelledSlab, PorosityRun
from napari_geosr.measure.slabs.part import SlabRules, provisional_labels
from napari_geosr.measure.slabs.sharing import SlabWork

R = TypeVar("R")

#: A slab in a form that can be sent to other processes: its range of planes along Z.
Planes = tuple[int, int]


def planes_of(slabs: Sequence[slice]) -> list[Planes]:
    """Return the slabs in a form that can be sent to other processes."""
    return [(slab.start, slab.stop) for slab in slabs]


def processed(
    run: PorosityRun, work: SlabWork[R], items: Sequence[Any], doing: str
) -> Generator[R, None, None]:
    """Process all items in order, in the run's worker processes if there are any.

    Raises
    ------
    Cancelled
        If the measurement is stopped; the message names the stage (`doing`).
    """
    if run.pool is None or len(items) < 2:
        for item in items:
            run.check(doing)
            yield work(item, run.should_stop, 0)
        return
    try:
        with closing(run.pool.results(work, items, run.should_stop)) as results:
            yield from results
    except Cancelled:
        run.check(doing)
        raise


def number_again(labels: np.ndarray, numbers: np.ndarray) -> None:
    """Replace labels (uint32, contiguous) with their ``numbers``, in place."""
    from napari_geosr.measure.kernels import joining

    joining.relabel(labels.reshape(-1), numbers)


@dataclass
class _OfRun:
    """Processing of the slabs of a run, in this or another process.

    Parameters
    ----------
    run : PorosityRun
    threshold : float
    """

    run: PorosityRun
    threshold: float

    def __getstate__(self) -> dict[str, object]:
        """Return the state with which another process can read the voxels."""
        run = replace(
            self.run, target=None, pool=None, journal=None, should_stop=never_stop
        )
        return self.__dict__ | {"run": run}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ |= state
        for array, nbytes in self.run.plan.caches:
            # The arrays exist only for this work, so their cache sizes are never reset.
            if isinstance(array, LazyArray):
                array.cache_bytes = nbytes


@dataclass
class LabelWork(_OfRun):
    """Labels slabs, and counts the voxels of the sample and of the pores."""

    limits: tuple[float, float]
    rules: SlabRules

    def __call__(
        self, planes: Planes, should_stop: ShouldStop, worker: int
    ) -> LabelledSlab:
        found = self.run.labelled(
            slice(*planes), self.threshold, self.limits, self.rules
        )
        # The labels take longer to send than to compute again.
        return found if self.run.target is not None else replace(found, labels=None)


@dataclass
class NumberWork(_OfRun):
    """Renumbers the pores of slabs, using the labels of all slabs."""

    def __call__(
        self, item: tuple[Planes, np.ndarray], should_stop: ShouldStop, worker: int
    ) -> tuple[Planes, np.ndarray]:
        planes, numbers = item
        _, pores, _ = self.run.pores(slice(*planes), self.threshold)
        labels, _ = provisional_labels(pores, self.run.config.connectivity)
        number_again(labels, numbers)
        return planes, labels


@dataclass
class IntervalWork(_OfRun):
    """Counts the pores after shifting the grey values up and down."""

    shifted: ShiftedPores

    def __call__(
        self, planes: Planes, should_stop: ShouldStop, worker: int
    ) -> IntervalPart:
        slab = slice(*planes)
        block = np.asarray(self.run.source[slab])
        return self.shifted.part(slab, self.run.sample(slab, block))
