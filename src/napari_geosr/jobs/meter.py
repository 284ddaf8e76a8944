"""Values that a running job adds to its state: finished parts and CPU time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.steps import PartSaved, Step, TargetReady, TileDone
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.cost import ProcessorTime
from napari_geosr.jobs.folder import JobStatus

#: Maximum number of parts of a volume for which progress is recorded.
MAX_PARTS = 60


class Coverage:
    """Finished percentages of the parts of a volume, in the order of its planes.

    Parameters
    ----------
    before : sequence of int
        Percentages that are shown until `begin` is called.
    """

    def __init__(self, before: Sequence[int] = ()) -> None:
        self._before = list(before)
        self._planes = np.zeros(0)
        self._shape: tuple[int, ...] = ()

    def record(self, step: Step) -> None:
        """Update the values from a step of the run."""
        if isinstance(step, TargetReady) and step.volume is not None:
            self.begin(step.volume.shape)
            for box in step.finished:
                self.add(box)
        elif isinstance(step, TileDone) and len(step.slices) == len(self._shape):
            self.add(step.slices)

    def begin(self, shape: Sequence[int]) -> None:
        """Begin a volume of this shape, with no finished parts."""
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


class JobMeter:
    """Values that a running job adds to its state at every heartbeat.

    Parameters
    ----------
    before : JobStatus
        State of the job after its earlier runs.
    n_saved : int
        Number of parts (`PartSaved`) that earlier runs have saved.
    """

    def __init__(self, before: JobStatus, n_saved: int = 0) -> None:
        self.coverage = Coverage(before.parts)
        self._time = ProcessorTime(before.processor_seconds, before.path)
        self._n_saved = n_saved

    def record(self, step: Step) -> None:
        """Update the values from a step of the run."""
        self._n_saved += isinstance(step, PartSaved)
        self.coverage.record(step)

    def facts(self) -> AnyDict:
        """Return the values, for ``job.json``."""
        return {
            "processor_seconds": round(self._time.seconds, 2),
            "parts": self.coverage.parts,
            "saved": self._n_saved,
        }
