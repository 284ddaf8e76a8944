"""A cell of a study: rows reconstructed from few projections by one algorithm."""

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
from napari_geosr.core.steps import (
    ShouldStop,
    Step,
    TileDone,
    WarningIssued,
    recount,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.unfinished import usable_unfinished_steps
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    reconstruct_steps,
)
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.subset import ScanSubset, take_subset

Rows = tuple[int, int]
Voxels = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AlgorithmResult:
    """Result of an algorithm for a subset of the scan.

    Attributes
    ----------
    voxels : ndarray of shape (row, N, N), float32
        The evaluated rows.
    seconds : float
        Time to reconstruct these rows, and to restore them with a trained network.
    training_seconds : float
        Time to train the network.
    settings : mapping
        Settings chosen for this cell.
    """

    voxels: Voxels
    seconds: float
    training_seconds: float = 0.0
    settings: AnyMapping = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StudyContext:
    """Data and settings shared by all cells of a study.

    Attributes
    ----------
    scan : Projections
        The whole scan.
    reconstruction : ReconstructConfig
        Settings, including the common rotation axis and size.
    evaluated_rows : (int, int)
        Rows to evaluate: first row, and the one after the last.
    training_rows : (int, int) or None
        Rows for training networks and choosing settings; None if there are too few.
    folder : Path
        Folder for temporary files, with a subfolder for each subset of the scan.
    models : Path
        Folder for the trained models.
    mask : Volume or None
        The user's sample mask.
    """

    scan: Projections
    config: StudyConfig
    reconstruction: ReconstructConfig
    evaluated_rows: Rows
    training_rows: Rows | None
    folder: Path
    models: Path
    mask: Volume | None = None

    def full_scan_steps(
        self, rows: Rows, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows from all projections once; return path and duration."""
        path = self.folder / "full" / f"rows-{rows[0]}-{rows[1]}.ome.tif"
        steps = self.cached_steps(self.scan, rows, path, should_stop)
        return (yield from steps)

    def cached_steps(
        self,
        scan: Projections,
        rows: Rows,
        path: Path,
        should_stop: ShouldStop,
        **changes: Any,
    ) -> Generator[Step, None, tuple[Path, float]]:
        """Reconstruct rows of a scan into a file, or reuse an existing one.

        Returns
        -------
        path : Path
        seconds : float
            Duration of the original reconstruction.
        """
        if not path.exists():
            with atomic.explained(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            config = self.config_for(rows, **changes)
            steps = reconstruct_steps(
                scan,
                config,
                out=path,
                unfinished=(yield from usable_unfinished_steps(path)),
                should_stop=should_stop,
            )
            # Issue warnings only for the whole scan, not again for its subsets.
            told = (WarningIssued,) if scan is self.scan else ()
            done = yield from recount(steps, *told, saved=(TileDone,))
            if not done.complete:
                raise Cancelled("Stopped during the reconstruction of projections.")
        record = io.read(path).provenance[-1]
        return path, float(record["run"]["seconds"])

    def in_memory_steps(
        self, scan: Projections, rows: Rows, should_stop: ShouldStop, **changes: Any
    ) -> Generator[Step, None, Volume]:
        """Reconstruct rows of a scan in memory.

        The slices have the width that the algorithm needs.
        """
        steps = reconstruct_steps(
            scan, self.config_for(rows, **changes), should_stop=should_stop
        )
        done = yield from recount(steps)
        if not done.complete:
            raise Cancelled("Stopped during the reconstruction of projections.")
        return done.volume

    def cropped(self, slices: ArrayLike) -> Voxels:
        """Crop slices around their centre to the size used in the study."""
        edge = (slices.shape[-1] - self.size) // 2
        inner = slice(edge, edge + self.size)
        return np.asarray(slices[:, inner, inner])

    @property
    def size(self) -> int:
        """Edge length of the evaluated slices."""
        return self.reconstruction.size or self.scan.n_columns

    def config_for(self, rows: Rows, **changes: Any) -> ReconstructConfig:
        """Return the common reconstruction settings for `rows`, with `changes`."""
        values = self.reconstruction.model_dump(exclude_unset=True)
        if changes.get("algorithm", "fbp") != "fbp":
            values.pop("filter", None)
            # Iterative algorithms must account for everything in the field of view, so
            # widen the slices by an amount that keeps the central voxels on the same
            # grid.
            room = max(0, self.scan.n_columns - self.size)
            values["size"] = self.size + 2 * ((room + 1) // 2)
        return ReconstructConfig.create(**{**values, "rows": rows, **changes})


@dataclass(frozen=True, eq=False)
class Cell:
    """Combination of a subset of the scan and an algorithm."""

    context: StudyContext
    subset: ScanSubset
    name: str

    @property
    def folder(self) -> Path:
        """Folder shared by cells with the same projections and exposure."""
        return self.context.folder / self.subset.label

    @property
    def options(self) -> AnyDict:
        """The user's settings for this algorithm."""
        return dict(self.context.config.options.get(self.name, {}))

    def scan(self) -> Projections:
        """Return the subset of the whole scan."""
        return take_subset(self.context.scan, self.subset, self.context.config)[0]
