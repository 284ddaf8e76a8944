"""One cell of a study: the judged rows from so many projections, by one algorithm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, Step, Warned, recount
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io import atomic
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct.continued import left_unfinished
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.taken import Taken, take, to_learn_on

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
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bench:
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

    bench: Bench
    taken: Taken
    name: str

    @property
    def folder(self) -> Path:
        """For what cells of the same projections and exposure share."""
        return self.bench.folder / self.taken.label

    @property
    def options(self) -> dict[str, Any]:
        """Settings that the person gave for this algorithm."""
        return dict(self.bench.config.options.get(self.name, {}))

    def scan(self) -> Projections:
        """What is taken of the whole scan."""
        return take(self.bench.scan, self.taken, self.bench.config)[0]

    def lesson_steps(
        self, rows: Rows, should_stop: ShouldStop
    ) -> Generator[Step, None, tuple[Path, Path, str]]:
        """Reconstruct rows of what networks learn on.

        Returns
        -------
        source, target : Path
            What is given, and what shall be made of it.
        made_of : str
            What the target is, in a few words.
        """
        bench = self.bench
        given, wanted, made_of = to_learn_on(bench.scan, self.taken, bench.config)
        name = f"{rows[0]}-{rows[1]}.ome.tif"
        path = self.folder / f"given-{name}"
        source, _ = yield from bench.kept_steps(given, rows, path, should_stop)
        if wanted is bench.scan:
            target, _ = yield from bench.full_steps(rows, should_stop)
        else:
            path = self.folder / f"wanted-{name}"
            target, _ = yield from bench.kept_steps(wanted, rows, path, should_stop)
        return source, target, made_of

    def left_open(
        self, candidates: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Settings that the study chooses from: nobody gave them."""
        if not self.bench.config.tune:
            return []
        given = self.options.keys()
        return [settings for settings in candidates if not given & settings.keys()]

    def classical_steps(
        self,
        algorithm: str,
        candidates: Sequence[Mapping[str, Any]],
        should_stop: ShouldStop,
    ) -> Generator[Step, None, Outcome]:
        """Reconstruct the judged rows by an algorithm of `tomography.algorithms`.

        Parameters
        ----------
        candidates : sequence of mapping
            Settings, ascending, of which one is chosen; see
            `napari_geosr.operations.study.tuning`.
        """
        bench, scan = self.bench, self.scan()
        settings, tuned_on = self.options, {}
        left = self.left_open(candidates)
        if left:
            from napari_geosr.operations.study.tuning import tuned_steps

            chosen, made_of = yield from tuned_steps(self, algorithm, left, should_stop)
            settings, tuned_on = {**chosen, **settings}, {"tuned_on": made_of}
        path = self.folder / "few-judged.ome.tif"
        if algorithm != "fbp" or settings:
            # What was left by a study with other settings is not taken for this one's.
            text = json.dumps(settings, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            path = self.folder / f"{self.name}-{digest}.ome.tif"
        path, seconds = yield from bench.kept_steps(
            scan,
            bench.judged,
            path,
            should_stop,
            algorithm=algorithm,
            options=settings,
        )
        voxels = bench.cropped(io.read(path).data)
        settings |= tuned_on
        return Outcome(voxels, seconds, settings=settings)

    def learned_steps(
        self, method: str, settings: Mapping[str, Any], should_stop: ShouldStop
    ) -> Generator[Step, None, Outcome]:
        """Train, and restore; see `napari_geosr.operations.study.training`."""
        from napari_geosr.operations.study.training import learned_steps

        return learned_steps(self, method, settings, should_stop)
