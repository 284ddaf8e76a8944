"""Which parts of a result are finished, and the processor time that a job has used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import psutil

from napari_geosr.core.steps import Step, TargetReady, TileDone
from napari_geosr.core.types import AnyDict

#: Maximum number of parts that are distinguished.
MAX_PARTS = 60


class Coverage:
    """Finished percentage of the parts of a volume, in the order of its planes.

    Parameters
    ----------
    before : sequence of int
        Percentages that are shown until `begin` is called.

    Examples
    --------
    >>> coverage = Coverage()
    >>> coverage.begin((4, 10, 10))
    >>> coverage.add((slice(0, 2), slice(0, 10), slice(0, 5)))
    >>> coverage.parts
    [50, 50, 0, 0]
    """

    def __init__(self, before: Sequence[int] = ()) -> None:
        self._before = list(before)
        self._planes = np.zeros(0)
        self._shape: tuple[int, ...] = ()

    def record(self, step: Step) -> None:
        """Follow the steps of a run."""
        if isinstance(step, TargetReady) and step.volume is not None:
            self.begin(step.volume.shape)
            for box in step.finished:
                self.add(box)
        elif isinstance(step, TileDone) and len(step.slices) == len(self._shape):
            self.add(step.slices)

    def begin(self, shape: Sequence[int]) -> None:
        """Start a volume of this shape, of which nothing is finished."""
        self._shape = tuple(shape)
        self._planes = np.zeros(math.prod(self._shape[:-2]))

    def add(self, slices: Sequence[slice]) -> None:
        """Add a finished box."""
        plane = tuple(slices[-2:])
        share = math.prod(
            len(range(*part.indices(n)))
            for part, n in zip(plane, self._shape[-2:], strict=True)
        ) / math.prod(self._shape[-2:])
        planes = self._planes.reshape(self._shape[:-2])
        planes[tuple(slices[:-2])] += share

    @property
    def parts(self) -> list[int]:
        """Finished percentages of at most `MAX_PARTS` equal parts."""
        if not self._planes.size:
            return self._before
        parts = np.array_split(self._planes, min(MAX_PARTS, self._planes.size))
        return [int(100 * min(1.0, part.mean()) + 1e-6) for part in parts]


class ProcessorTime:
    """Processor time of this process and the processes that it has started.

    Parameters
    ----------
    before : float
        Seconds of earlier runs of the job.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._offset = before - _used_seconds()

    @property
    def seconds(self) -> float:
        """Processor time of all runs so far."""
        return max(0.0, self._offset + _used_seconds())


class JobMeter:
    """Values that a running job adds to its state at every heartbeat."""

    def __init__(self, parts: Sequence[int], processor_seconds: float) -> None:
        self.coverage = Coverage(parts)
        self._time = ProcessorTime(processor_seconds)

    def facts(self) -> AnyDict:
        """The values, for ``job.json``."""
        return {
            "processor_seconds": round(self._time.seconds, 2),
            "parts": self.coverage.parts,
        }


def _used_seconds() -> float:
    """Processor time of this process, its live children and those that have ended."""
    process, total = psutil.Process(), 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(each.cpu_times()[:4])
    return total
