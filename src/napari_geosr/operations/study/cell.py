"""One cell of a study: the judged rows from so many projections, by one algorithm."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step, Warned, recount
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io import atomic
from napari_geosr.io.unfinished import left_unfinished
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    reconstruct_steps,
)
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.subset import ScanSubset, take

Rows = tuple[int, int]
Voxels = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an algorithm made of few projections.

    Attributes
    ----------
    voxels : ndarray of shape (row, N, N), float32
        Of the judged rows.
    seconds : float
        To reconstruct these rows, and restore them with a trained network.
    training_seconds : float
        To train the network.
    settings : mapping
        What was chosen for this cell.
    """

    voxels: Voxels
    seconds: float
    training_seconds: float = 0.0
    settings: AnyMapping = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StudyContext:
    """What all cells of a study share.

    Attributes
    ----------
    scan : Projections
        The whole scan.
    reconstruction : ReconstructConfig
        With the rotation axis, the size and the beam that hold for all.
    judged : (int, int)
        Rows that are measured: first, and the row after the last.
    taught : (int, int) or None
        Rows that networks are trained on and settings are chosen on; None where there
        are too few.
    folder : Path
        For what is kept only until a number of projections is done with.
    models : Path
        Gets the trained models.
    mask : Volume or None
        Where the sample is, as a person marked it.
    """

    scan: Projections
    config: StudyConfig
    reconstruction: ReconstructConfig
    judged: Rows
    taught: Rows | None
    folder: Path
    models: Path
    mask: Volume | None = None

    def full_steps(
        self, rows: Rows, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows from all projections, once: path, seconds."""
        path = self.folder / "full" / f"rows-{rows[0]}-{rows[1]}.ome.tif"
        steps = self.kept_steps(self.scan, rows, path, should_stop)
        return (yield from steps)

    def kept_steps(
        self,
        scan: Projections,
        rows: Rows,
        path: Path,
        should_stop: ShouldStop,
        **changes: Any,
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows of a scan into a file, or take the one that is there.

        Returns
        -------
        path : Path
        seconds : float
            That it took when it was made.
        """
        if not path.exists():
            with atomic.explained(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            config = self.config_for(rows, **changes)
            steps = reconstruct_steps(
                scan,
                config,
                out=path,
                unfinished=left_unfinished(path),
                should_stop=should_stop,
            )
            # What is to be said of the scan is said once, of the whole one.
            told = (Warned,) if scan is self.scan else ()
            done = yield from recount(steps, *told)
            if not done.complete:
                raise Cancelled("Stopped while projections were reconstructed.")
        record = io.read(path).provenance[-1]
        return path, float(record["run"]["seconds"])

    def in_memory_steps(
        self, scan: Projections, rows: Rows, should_stop: ShouldStop, **changes: Any
    ) -> Generator[Step, None, Volume]:
        """Reconstruct rows of a scan, as wide as its algorithm needs them."""
        steps = reconstruct_steps(
            scan, self.config_for(rows, **changes), should_stop=should_stop
        )
        done = yield from recount(steps)
        if not done.complete:
            raise Cancelled("Stopped while projections were reconstructed.")
        return done.volume

    def cropped(self, slices: ArrayLike) -> Voxels:
        """The middle of slices, in the size of the study."""
        edge = (slices.shape[-1] - self.size) // 2
        inner = slice(edge, edge + self.size)
        return np.asarray(slices[:, inner, inner])

    @property
    def size(self) -> int:
        """Edge of the slices that are judged."""
        return self.reconstruction.size or self.scan.n_columns

    def config_for(self, rows: Rows, **changes: Any) -> ReconstructConfig:
        """Settings to reconstruct rows with: those of all cells, and `changes`."""
        values = self.reconstruction.model_dump(exclude_unset=True)
        if changes.get("algorithm", "fbp") != "fbp":
            values.pop("filter", None)
            # Iterations explain all that the detector saw: slices are as wide, and so
            # much wider than what is judged that their middle is the same voxels.
            room = max(0, self.scan.n_columns - self.size)
            values["size"] = self.size + 2 * ((room + 1) // 2)
        return ReconstructConfig.create(**{**values, "rows": rows, **changes})


@dataclass(frozen=True, eq=False)
class Cell:
    """What is taken of the scan, and one algorithm."""

    context: StudyContext
    subset: ScanSubset
    name: str

    @property
    def folder(self) -> Path:
        """For what cells of the same projections and exposure share."""
        return self.context.folder / self.subset.label

    @property
    def options(self) -> AnyDict:
        """Settings that the person gave for this algorithm."""
        return dict(self.context.config.options.get(self.name, {}))

    def scan(self) -> Projections:
        """What is taken of the whole scan."""
        return take(self.context.scan, self.subset, self.context.config)[0]
